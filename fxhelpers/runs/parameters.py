"""A notebook's parameters, checked before anything runs."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import chdir, suppress
from pathlib import Path
from shlex import quote
from typing import Any

from papermill.translators import papermill_translators
from papermill.utils import find_first_tagged_cell_index

from fxhelpers.errors import ParamsError, RunRefusedError
from fxhelpers.params import Params, check_symbol, find_params_file, known_secrets, load_params, looks_secret, nearest, yaml_value
from fxhelpers.runs.source import COMMAND_LINE, Source, is_injected

_TYPES = {"str": str, "int": int, "float": float | int, "bool": bool, "list": list, "dict": dict}
_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abprs]-[\w-]{10,}|\bhf_\w{20,}|\bdapi[0-9a-f]{32}|\bsk-[\w-]{20,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}"
    r"|://[^/\s:@\"]+:[^/\s@\"]+@|\b(?i:bearer) [\w.~+/-]{16,}|\b(?i:token|password|passwd|secret|api_?key)\s*[=:]\s*[^\s\"]{6,}"
)


def notebook_parameters(nb: Any, kernel_name: str = "python3") -> dict[str, Any]:  # noqa: ANN401 (nbformat's nodes have no types)
    """Return the parameters of a notebook: name to papermill's description of type, default and help."""
    index = find_first_tagged_cell_index(nb, "parameters")
    if index < 0:
        return {}
    translator = papermill_translators.find_translator(kernel_name, "python")
    return {p.name: p for p in translator.inspect(nb.cells[index])}


def check_run(nb: Any, source: Source, kernel_name: str, params_file: Path | None = None) -> tuple[Params, str]:  # noqa: ANN401
    """Refuse a notebook, an output or parameters before anything runs; return the settings and the record's folder."""
    source.check(nb.metadata.papermill.get("output_path"))
    params = load_params(params_file or _params_for(source))
    declared = notebook_parameters(nb, kernel_name)
    if COMMAND_LINE:
        yaml_pairs = _yaml_pairs(COMMAND_LINE.yaml_texts(files=False))  # those in files are defaults for these
        unique_parameters([*yaml_pairs, *COMMAND_LINE.pairs], params.folder)
    if not any(map(is_injected, nb.cells)):
        nb.metadata.papermill["parameters"] = {}  # without their cell, those of an earlier run have no effect
    given = dict(nb.metadata.papermill["parameters"])
    _refuse_ambiguous(declared, given, params)
    check_parameters(declared, given, params)
    if "folder" in nb.metadata.fxhelpers:  # no symbol
        return params, str(nb.metadata.fxhelpers.folder)
    default = declared["symbol"].default.strip("\"'") if "symbol" in declared else params.default_symbol
    return params, check_symbol(given.get("symbol", default))


def unique_parameters(pairs: Iterable[tuple[str, Any]], folder: Path) -> dict[str, Any]:
    """Return parameters by name; :class:`RunRefusedError` for one that is given twice."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in given:
            _refuse_secret(name, [given[name], value], folder)
            msg = f"parameter {name} is given twice: {given[name]!r:.60} and {value!r:.60}; give it once. Nothing was run."
            raise RunRefusedError(msg)
        given[name] = value
    return given


def only_looks(nb: Any, given: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Return whether a notebook changes nothing with these parameters: it never does, or ``apply`` is not true."""
    applies = notebook_parameters(nb).get("apply")
    return bool(nb.metadata.fxhelpers.get("looks") or (applies and not given.get("apply", applies.default == "True")))


def check_parameters(declared: Mapping[str, Any], given: Mapping[str, Any], params: Params) -> None:
    """Refuse a parameter that the notebook does not have, has another type, or looks like a secret."""
    for name in given:
        if name not in declared and not name.startswith("PAPERMILL_"):
            names = ", ".join(declared)
            msg = f"unknown parameter {name!r}{nearest(name, declared)}; this notebook takes {names}. Nothing was run."
            raise RunRefusedError(msg)
    for name in set(declared) & set(given):
        keyed_by_symbols = dict.fromkeys({"family": ["p"], "pooled": ["members"]}.get(name, []))  # a ticker may be called TOKEN
        value = {**given[name], **keyed_by_symbols} if isinstance(given[name], dict) else given[name]
        _refuse_secret(name, value, params.folder, params.secrets)
        _check_type(name, given[name], declared[name].inferred_type_name)


def _check_type(name: str, value: object, expected: str) -> None:
    types = _TYPES.get(expected)
    if types is None or (isinstance(value, types) and (expected == "bool" or not isinstance(value, bool))):
        return
    found = f"{type(value).__name__} {value!r:.60}"
    msg = f"parameter {name} must be {expected}, found {found}{_advice(name, expected)}. Nothing was run."
    raise RunRefusedError(msg)


def _advice(name: str, expected: str) -> str:
    text = dict(COMMAND_LINE.pairs).get(name) if COMMAND_LINE else None
    if expected == "str":
        return f"; with papermill: -r {name} {quote(text)}" if text else "; put it in quotes"
    value = _parsed(name, text, expected)
    if not isinstance(value, str | None) and isinstance(value, _TYPES[expected]):
        option = f"-y {quote(f'{name}: {text}')}" if expected in {"list", "dict"} else f"-p {name} {value}"
        return f"; with papermill: {option:.100}"
    return "; give True or False" if expected == "bool" else ""


def _yaml_pairs(texts: Iterable[str]) -> list[tuple[str, Any]]:
    values = map(yaml_value, texts)
    return [pair for value in values if isinstance(value, dict) for pair in value.items()]


def _refuse_ambiguous(declared: Mapping[str, Any], given: Mapping[str, Any], params: Params) -> None:
    """Refuse values that papermill's YAML 1.1 reads as something else: ON as True, 010 as 8."""
    if COMMAND_LINE is None:
        return
    written = dict(_yaml_pairs(COMMAND_LINE.yaml_texts(files=True)))
    for name in written.keys() & declared.keys() & given.keys() - dict(COMMAND_LINE.pairs).keys():
        expected = _parsed(name, written[name], declared[name].inferred_type_name)
        if json.dumps(expected, default=str) != json.dumps(given[name], default=str):
            _refuse_secret(name, written[name], params.folder, params.secrets)
            msg = (
                f"parameter {name} is ambiguous: {written[name]!r:.60} is {given[name]!r:.60} to papermill, which reads YAML 1.1 "
                "(so ON, NO, 010 and 12:30 change); write the value you mean, and text in quotes. Nothing was run."
            )
            raise RunRefusedError(msg)


def _refuse_secret(name: str, value: object, folder: Path, secrets: Iterable[str] = ()) -> None:
    """Refuse a value that looks like a secret, without repeating it: records keep parameters forever."""
    text = json.dumps(value, default=str)
    keys = re.findall(r'"([^"]*)":', text)
    reasons = ["its name is that of one"] if looks_secret(name) else []
    reasons += [f"it holds the value of {key}" for key, secret in known_secrets(folder).items() if secret in text]
    reasons += ["it holds a secret of an address in params.yaml"] if any(secret in text for secret in secrets) else []
    reasons += [f"it has a key {key!r}" for key in keys if looks_secret(key)]
    reasons += ["it has the form of a token, a key or a URI with a password"] if _SECRETS.search(text) else []
    if reasons:
        msg = (
            f"parameter {name} looks like a secret ({reasons[0]}), and records keep parameters forever; "
            "put it into the environment or into .env. Nothing was run."
        )
        raise RunRefusedError(msg)


def _params_for(source: Source) -> Path:
    """Return the params.yaml of the notebook's folder, or else of the current one."""
    folders = [source.file.parent] if source.file else []
    with chdir(source.folder):  # FX_PARAMS may be relative to it
        for folder in [*folders, source.folder]:
            with suppress(ParamsError):
                return find_params_file(folder)
    return find_params_file()


def as_declared(declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Parse text as the declared types; what cannot be parsed stays text, for :func:`check_parameters`."""
    return {k: _parsed(k, value, declared[k].inferred_type_name) if k in declared else value for k, value in given.items()}


def _parsed(name: str, value: object, expected: str) -> object:
    if not isinstance(value, str) or expected not in _TYPES or expected == "str":
        return value
    try:
        parsed = float(value) if expected == "float" else yaml_value(value)
    except ValueError as error:
        if expected not in {"list", "dict"}:
            return value
        msg = f"parameter {name}: {error}. Nothing was run."
        raise RunRefusedError(msg) from error
    if expected == "bool" and isinstance(parsed, str):
        return _BOOLEANS.get(parsed.lower(), parsed)
    return int(parsed) if expected == "int" and isinstance(parsed, str) and _INTEGER.fullmatch(parsed) else parsed
