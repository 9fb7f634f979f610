"""Parameters: as papermill's command line has them, as the notebook declares them, checked before anything runs."""

import json
import os
import re
import stat
import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import click
from papermill.iorw import NoIOHandler, papermill_io
from papermill.translators import papermill_translators
from papermill.utils import find_first_tagged_cell_index

from fxhelpers.errors import ParamsError, RunRefusedError
from fxhelpers.params import (
    Params,
    check_symbol,
    find_params_file,
    known_secrets,
    load_params,
    looks_secret,
    nearest,
    yaml_value,
)
from fxhelpers.runs.source import Source, notebook_metadata, was_given_parameters

ENGINE = "fxhelpers"
"""Name of our engine, which is also papermill's default one."""

NO_OUTPUT = "fxhelpers:no-output.ipynb"
"""The output of a run that leaves its record and no other file."""

_PAIRS = ("--parameters -p", "--parameters_raw -r")
_LISTS = ("--parameters_file -f", "--parameters_yaml -y", "--parameters_base64 -b")
_TEXTS = (
    "--engine",
    "--autosave-cell-every",
    "--kernel -k",
    "--language -l",
    "--cwd",
    "--stdout-file",
    "--stderr-file",
    "--log-level",
    "--start-timeout --start_timeout",
    "--execution-timeout",
)
_FLAGS = (
    "--help -h",
    "--version",
    "--help-notebook",
    "--inject-input-path",
    "--inject-output-path",
    "--inject-paths",
    "--request-save-on-cell-execute/--no-request-save-on-cell-execute",
    "--prepare-only/--prepare-execute",
    "--progress-bar/--no-progress-bar",
    "--log-output/--no-log-output",
    "--report-mode/--no-report-mode",
)

PAPERMILL = click.Command(
    "papermill",
    params=[
        click.Argument(["paths"], nargs=-1),
        *(click.Option(names.split(), nargs=2, multiple=True) for names in _PAIRS),
        *(click.Option(names.split(), multiple=True) for names in _LISTS),
        *(click.Option(names.split()) for names in _TEXTS),
        *(click.Option(names.split(), is_flag=True) for names in _FLAGS),
    ],
    add_help_option=False,
)
"""What papermill's command takes; a test holds it against papermill's own."""


class _RecordAlone(NoIOHandler):  # type: ignore[misc]  # papermill has no types
    """Papermill's handler of outputs that go nowhere, which says where they go."""

    def pretty_path(self, path: str) -> str:  # noqa: ARG002 (papermill's signature)
        return "none but the record"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What papermill's command was typed with.

    Attributes
    ----------
    pairs : tuple of (str, str)
        Names and values after ``-p`` and ``-r``.
    yaml : tuple of str
        What stands after ``-y``.
    base64 : tuple of str
        What stands after ``-b``.
    files : tuple of str
        What stands in the files after ``-f``; those that are no file of this
        machine are left out.
    """

    pairs: tuple[tuple[str, str], ...]
    yaml: tuple[str, ...]
    base64: tuple[str, ...]
    files: tuple[str, ...]


def read_command_line() -> CommandLine | None:
    """Return what papermill's command was typed with, and supply the output that it may lack.

    None where another program runs, or where papermill is about to refuse the
    line. A single path to a notebook of ours is the notebook to run, also
    where standard input is a pipe: papermill would take it for the output and
    overwrite it.
    """
    if not _is_papermill():
        return None
    try:
        given = PAPERMILL.make_context("papermill", sys.argv[1:]).params
    except click.UsageError:
        return None
    paths = given["paths"]
    if len(paths) == 1 and not (given["help"] or given["version"] or given["help_notebook"]):
        output = _output(Path(paths[0]), given)
        if output:
            sys.argv.append(output)
    return CommandLine(
        pairs=(*given["parameters"], *given["parameters_raw"]),
        yaml=given["parameters_yaml"],
        base64=given["parameters_base64"],
        files=tuple(_texts(given["parameters_file"])),
    )


def _texts(files: tuple[str, ...]) -> Iterator[str]:
    for file in files:
        with suppress(OSError, UnicodeDecodeError):  # papermill says so itself
            yield Path(file).read_text(encoding="utf-8")


def _is_papermill() -> bool:
    """Tell whether the running program is papermill's command: its script, or ``python -m papermill``."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # Python has not found the module yet
        program = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
        return bool(re.fullmatch(r"(-\w*m)?papermill(\.__main__)?", program))
    return Path(program).name == "papermill"


def _output(path: Path, given: dict[str, Any]) -> str | None:
    """Return the output to supply for a single path; None to leave it to papermill."""
    metadata = notebook_metadata(path)
    piped = stat.S_ISFIFO(os.fstat(0).st_mode)
    if not metadata or (piped and "papermill" in metadata):  # an output of papermill's, to be written again
        return None
    wanted = given["inject_output_path"] or given["inject_paths"]
    if given["prepare_only"] or given["engine"] not in {None, ENGINE} or wanted:  # without a file, nothing would be left
        return "-" if piped else None
    if not sys.stdout.isatty():
        return "-"
    papermill_io.register(NO_OUTPUT, _RecordAlone())
    return NO_OUTPUT


TYPED = read_command_line()


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


_TRUTHS = {"yes": True, "on": True, "no": False, "off": False}
_FIGURES = re.compile(r"[-+]?[0-9][0-9_]*")

_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abprs]-[\w-]{10,}|\bhf_\w{20,}|\bdapi[0-9a-f]{32}|\bsk-[\w-]{20,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}"
    r"|://[^/\s:@\"]+:[^/\s@\"]+@|\b(?i:bearer) [\w.~+/-]{16,}|\b(?i:token|password|passwd|secret|api_?key)\s*[=:]\s*[^\s\"]{6,}"
)


def notebook_parameters(nb: Any, kernel_name: str = "python3") -> dict[str, Any]:  # noqa: ANN401
    """Return the parameters of a notebook: name to papermill's description of type, default and help."""
    index = find_first_tagged_cell_index(nb, "parameters")
    if index < 0:
        return {}
    translator = papermill_translators.find_translator(kernel_name, "python")
    return {p.name: p for p in translator.inspect(nb.cells[index])}


def check_run(nb: Any, source: Source, kernel_name: str, params_file: Path | None = None) -> tuple[Params, str]:  # noqa: ANN401
    """Refuse what cannot be run as it was meant, before anything is; return settings and the record's folder."""
    source.check(nb.metadata.papermill.get("output_path"))
    params = load_params(params_file or _params_for(source))
    known = notebook_parameters(nb, kernel_name)
    given_once(_typed_pairs(), params.folder)
    if not was_given_parameters(nb):
        nb.metadata.papermill["parameters"] = {}  # those that an earlier run left there are no cell, and so apply to nothing
    given = dict(nb.metadata.papermill["parameters"])
    _refuse_two_readings(known, given, params)
    check_parameters(known, given, params)
    if "folder" in nb.metadata.fxhelpers:  # of no symbol
        return params, str(nb.metadata.fxhelpers.folder)
    symbol = given.get("symbol", known["symbol"].default.strip("\"'") if "symbol" in known else params.default_symbol)
    return params, check_symbol(symbol)


def given_once(pairs: Iterable[tuple[str, Any]], folder: Path) -> dict[str, Any]:
    """Return parameters by name, and refuse one that was given twice: neither value is known to be the one that was meant."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in given:
            _refuse_secret(name, [given[name], value], known_secrets(folder))
            msg = f"parameter {name} is given twice: {given[name]!r:.60} and {value!r:.60}; give it once. Nothing was run."
            raise RunRefusedError(msg)
        given[name] = value
    return given


def check_parameters(known: Mapping[str, Any], given: Mapping[str, Any], params: Params) -> None:
    """Refuse a parameter that a notebook does not have, of another type, or that looks like a secret."""
    for name in given:
        if name not in known and not name.startswith("PAPERMILL_"):
            msg = f"unknown parameter {name!r}{nearest(name, known)}; this notebook takes {', '.join(known)}. Nothing was run."
            raise RunRefusedError(msg)
    for name in set(known) & set(given):
        keyed_by_symbols = {"p": None} if name == "family" else {}  # and a ticker may be called TOKEN
        value = {**given[name], **keyed_by_symbols} if isinstance(given[name], dict) else given[name]
        _refuse_secret(name, value, known_secrets(params.folder))
        _check_type(name, given[name], known[name].inferred_type_name)


def _check_type(name: str, value: object, expected: str) -> None:
    types = _TYPES.get(expected)
    if types is None or (isinstance(value, types) and (expected == "bool" or not isinstance(value, bool))):
        return
    found = f"{type(value).__name__} {value!r:.60}"
    msg = f"parameter {name} has to be {expected}, found {found}{_advice(name, expected)}. Nothing was run."
    raise RunRefusedError(msg)


def _typed_pairs() -> Iterator[tuple[str, Any]]:
    """Yield the parameters of papermill's command line; those in files are what these may replace."""
    if TYPED is None:
        return
    yield from _yaml_pairs((*(b64decode(text).decode() for text in TYPED.base64), *TYPED.yaml))
    yield from TYPED.pairs


def _yaml_pairs(texts: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for text in texts:
        values = yaml_value(text)
        yield from values.items() if isinstance(values, dict) else ()


def _refuse_two_readings(known: Mapping[str, Any], given: Mapping[str, Any], params: Params) -> None:
    """Refuse what YAML 1.1, which papermill reads, takes for another thing than stands there: ON for true, 010 for 8."""
    if TYPED is None:
        return
    written = dict(_yaml_pairs((*(b64decode(text).decode() for text in TYPED.base64), *TYPED.files, *TYPED.yaml)))
    for name in written.keys() & known.keys() & given.keys() - dict(TYPED.pairs).keys():
        meant = _typed(name, written[name], known[name].inferred_type_name)
        if json.dumps(meant, default=str) != json.dumps(given[name], default=str):
            _refuse_secret(name, written[name], known_secrets(params.folder))
            msg = (
                f"parameter {name} has two readings: {written[name]!r:.60} stands there, which papermill takes for "
                f"{given[name]!r:.60}, as YAML 1.1 does with ON, NO, 010 and 12:30; write what is meant, text in quotes. "
                "Nothing was run."
            )
            raise RunRefusedError(msg)


def _advice(name: str, expected: str) -> str:
    """Say how to give a value as what it was meant for, by the words that were typed."""
    typed = dict(TYPED.pairs).get(name) if TYPED else None
    if expected == "str":
        return f"; with papermill: -r {name} {quote(typed)}" if typed else "; put it in quotes"
    value = _typed(name, typed, expected)
    if not isinstance(value, str | None) and isinstance(value, _TYPES[expected]):
        how = f"-y {quote(f'{name}: {typed}')}" if expected in {"list", "dict"} else f"-p {name} {value}"
        return f"; with papermill: {how:.100}"
    return "; give True or False" if expected == "bool" else ""


def _refuse_secret(name: str, value: object, secrets: dict[str, str]) -> None:
    """Refuse what looks like a secret, without repeating it: parameters stay in the record for ever."""
    text = json.dumps(value, default=str)
    words = re.findall(r'"([^"]*)":', text)  # the keys of a mapping
    found = ["its name is that of one"] if looks_secret(name) else []
    found += [f"it holds the value of {key}" for key, secret in secrets.items() if secret in text]
    found += [f"it has a key {word!r}" for word in words if looks_secret(word)]
    found += ["it has the form of a token, a key or a URI with a password" for _ in _SECRETS.findall(text)]
    if found:
        msg = (
            f"parameter {name} looks like a secret ({found[0]}), and parameters stay in the record for ever; "
            "put it into the environment or into .env. Nothing was run."
        )
        raise RunRefusedError(msg)


def _params_for(source: Source) -> Path:
    """Return the params.yaml that applies to the notebook's own folder, or else to the current one."""
    folders = [source.file.parent] if source.file else []
    with chdir(source.folder):  # FX_PARAMS may start there
        for folder in [*folders, source.folder]:
            with suppress(ParamsError):
                return find_params_file(folder)
    return find_params_file()


def as_declared(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Read text from a command line as the types that a notebook declares; leave what cannot be for the check."""
    return {k: _typed(k, value, known[k].inferred_type_name) if k in known else value for k, value in given.items()}


def _typed(name: str, value: object, expected: str) -> object:
    if not isinstance(value, str) or expected not in _TYPES or expected == "str":
        return value
    try:
        read = float(value) if expected == "float" else yaml_value(value)
    except ValueError as error:
        if expected not in {"list", "dict"}:
            return value
        msg = f"parameter {name}: {error}. Nothing was run."
        raise RunRefusedError(msg) from error
    if expected == "bool" and isinstance(read, str):
        return _TRUTHS.get(read.lower(), read)
    return int(read) if expected == "int" and isinstance(read, str) and _FIGURES.fullmatch(read) else read
