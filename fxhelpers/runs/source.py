"""What papermill was given: its command line, and a notebook with the provenance that its record states."""

import json
import os
import re
import stat
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import click
import nbformat
from papermill.iorw import LocalHandler, NoIOHandler, papermill_io

from fxhelpers.errors import RunRefusedError
from fxhelpers.kernels import has_figures, start_preloading
from fxhelpers.kernels.provisioner import can_preload
from fxhelpers.params import Params
from fxhelpers.system import UNREADABLE, actor, process_identity, sha256

MARK = "fxhelpers"  # key in a notebook's metadata that makes it one of ours

NO_OUTPUT = "fxhelpers:no-output.ipynb"  # the output path of a run that writes its record and no other file

_PAIRS = ("--parameters -p", "--parameters_raw -r")
_LISTS = ("--parameters_file -f", "--parameters_yaml -y", "--parameters_base64 -b")
_TEXTS = (
    *("--engine", "--autosave-cell-every", "--kernel -k", "--language -l", "--cwd", "--stdout-file", "--stderr-file"),
    *("--log-level", "--start-timeout --start_timeout", "--execution-timeout"),
)
_FLAGS = (
    *("--help -h", "--version", "--help-notebook", "--inject-input-path", "--inject-output-path", "--inject-paths"),
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
"""Papermill's options: its own command cannot be imported while papermill loads its engines. A test compares the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CommandLine:
    """Parameters on papermill's command line; of files, their text."""

    pairs: tuple[tuple[str, str], ...]
    yaml: tuple[str, ...]
    base64: tuple[str, ...]
    files: tuple[str, ...]

    def yaml_texts(self, *, files: bool) -> tuple[str, ...]:
        """Return the YAML texts in the order in which papermill applies them."""
        return (*(b64decode(text).decode() for text in self.base64), *(self.files if files else ()), *self.yaml)


def read_command_line() -> _CommandLine | None:
    """Return the parameters on papermill's command line, and append the output path if it lacks one.

    None in other programs and for a command line that papermill will refuse. A single path to a notebook of ours is the input,
    even if standard input is a pipe: papermill would take it for the output and overwrite it.
    """
    if not _is_papermill():
        return None
    try:
        options = PAPERMILL.make_context("papermill", sys.argv[1:]).params
    except click.UsageError:
        return None
    runs = options["paths"] and not any(options[name] for name in ("help", "version", "help_notebook"))
    if runs:
        _preload(Path(options["paths"][0]), options)
    if runs and len(options["paths"]) == 1:
        sys.argv += _missing_output(Path(options["paths"][0]), options)
    return _CommandLine(
        pairs=(*options["parameters"], *options["parameters_raw"]),
        yaml=options["parameters_yaml"],
        base64=options["parameters_base64"],
        files=tuple(_texts(options["parameters_file"])),
    )


def _texts(files: tuple[str, ...]) -> Iterator[str]:
    for file in files:
        with suppress(OSError, UnicodeDecodeError):  # papermill reports it
            yield Path(file).read_text(encoding="utf-8")


def _is_papermill() -> bool:
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # Python has not resolved the module yet
        program = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
        return bool(re.fullmatch(r"(-\w*m)?papermill(\.__main__)?", program))
    return Path(program).name == "papermill"


def _preload(path: Path, options: Mapping[str, Any]) -> None:
    """Start the kernel's imports while papermill goes on with its own."""
    metadata = notebook_metadata(path)
    kernel = options["kernel"] or metadata.get("kernelspec", {}).get("name", "")
    if metadata and options["engine"] in {None, "fxhelpers"} and not options["prepare_only"] and can_preload(str(kernel)):
        start_preloading(figures=has_figures(str(metadata[MARK].get("notebook"))))


def _missing_output(path: Path, options: Mapping[str, Any]) -> list[str]:
    """Return the output path to append after a single path; empty if papermill can handle the line."""
    metadata = notebook_metadata(path)
    piped = stat.S_ISFIFO(os.fstat(0).st_mode)
    if not metadata or (piped and "papermill" in metadata):  # the second is an output that a pipe overwrites
        return []
    needs_file = options["prepare_only"] or options["inject_output_path"] or options["inject_paths"]
    if needs_file or options["engine"] not in {None, "fxhelpers"}:
        return ["-"] if piped else []
    if not sys.stdout.isatty():
        return ["-"]
    papermill_io.register(NO_OUTPUT, NoIOHandler())
    return [NO_OUTPUT]


_READ = threading.local()  # the notebook that papermill read last in each thread: engines do not get its text

_INJECTED = "injected-parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A notebook before it runs."""

    given: Any  # papermill's input: a path, a URL, - or a notebook
    text: str
    folder: Path  # where relative paths start, before papermill --cwd
    file: Path | None  # None for other inputs

    @property
    def digest(self) -> str:
        """The SHA-256 of the text."""
        return sha256(self.text.encode())

    def check(self, output: Any) -> None:  # noqa: ANN401 (papermill's: a path, or None)
        """Refuse a notebook with injected parameters, and an output path that is a notebook to run."""
        refuse_injected(nbformat.reads(self.text, as_version=4), str(self.file or "the notebook"))
        file = _local_file(output, self.folder)
        metadata = notebook_metadata(file) if file else {}
        if file and ((self.file and file.samefile(self.file)) or (metadata and "papermill" not in metadata)):
            msg = (
                f"the output {file} is a notebook to run, and would be overwritten by an executed one; choose another output: "
                "the record is kept in any case. Nothing was run."
            )
            raise RunRefusedError(msg)


def source_of(nb: Any) -> Source:  # noqa: ANN401 (nbformat's nodes have no types)
    """Return the source of a notebook that papermill read in this thread, or that an engine got directly."""
    given, read = nb.metadata.papermill.get("input_path"), getattr(_READ, "source", None)
    if read is not None and read.given == given:
        return read  # type: ignore[no-any-return]
    return Source(given=given, text=f"{nbformat.writes(nb)}\n", folder=Path.cwd(), file=None)


def refuse_injected(nb: Mapping[str, Any], name: str) -> None:
    """Refuse a notebook that still holds the parameters of an earlier run: they would pass for its defaults."""
    for cell in nb["cells"]:
        if is_injected(cell):
            names = [line.partition("=")[0].strip() for line in cell["source"].splitlines() if line[:1].isidentifier()]
            msg = (
                f"{name} holds parameters of an earlier run ({', '.join(names):.50}), which are no defaults. Run the original "
                f"(git restore brings it back), or a copy without the cell tagged {_INJECTED}. Nothing was run."
            )
            raise RunRefusedError(msg)


def is_injected(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell holds parameters that papermill injected."""
    return _INJECTED in cell["metadata"].get("tags", [])


def notebook_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a notebook of ours; empty for any other file."""
    if not os.path.isfile(path):  # noqa: PTH113 (which takes any text for a path)
        return {}
    try:
        metadata = dict(json.loads(path.read_bytes())["metadata"])
    except UNREADABLE:
        return {}
    return metadata if MARK in metadata else {}


def _local_file(path: Any, folder: Path) -> Path | None:  # noqa: ANN401 (papermill's)
    if not isinstance(path, str) or not isinstance(papermill_io.get_handler(path), LocalHandler):
        return None
    file = os.path.abspath(folder / path)  # noqa: PTH100 (a link to another project's notebooks stays in this project)
    return Path(file) if os.path.isfile(file) else None  # noqa: PTH113


_papermill_read = papermill_io.read


def _read(path: Any, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401 (papermill's signature)
    """Read as papermill does, and keep the text of a notebook of ours."""
    text: str = _papermill_read(path, *args, **kwargs)
    if f'"{MARK}"' in text:
        folder, end = Path.cwd(), "" if isinstance(path, str) else "\n"  # as nbformat ends a file
        _READ.source = Source(given=path, text=text + end, folder=folder, file=_local_file(path, folder))
    return text


papermill_io.read = _read
COMMAND_LINE = read_command_line()

_PACKAGES = ("fxhelpers", "mlflow", "scikit-learn", "skops", "numpy", "pandas", "papermill")


def provenance(source: Source, name: str, params: Params) -> dict[str, Any]:
    """Return the provenance for a record's metadata; None for what does not exist."""
    lock = params.folder / "requirements.lock"
    return {
        "actor": actor(),
        "process": process_identity(),
        "source": name,
        "source_sha256": source.digest,
        "params_sha256": sha256(params.file.read_bytes()),
        "lock_sha256": sha256(lock.read_bytes()) if lock.is_file() else None,
        "git": _git(params.folder),
        "python": python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the checked-out commit, and whether tracked files differ from it; None outside a repository."""
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)  # noqa: S603 (no shell, no input)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
