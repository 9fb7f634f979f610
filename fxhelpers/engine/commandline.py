"""Papermill's command line, read before papermill reads it: the output that may be left out, and what was typed."""

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from papermill.iorw import NoIOHandler, papermill_io

from fxhelpers.engine.source import notebook_metadata

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
