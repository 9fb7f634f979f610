"""Where a notebook came from: its file, and the provenance that its record states."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import nbformat
from papermill.iorw import LocalHandler, papermill_io

from fxhelpers.errors import RunRefusedError
from fxhelpers.files import UNREADABLE, sha256
from fxhelpers.params import Params
from fxhelpers.processes import actor, process_identity

MARK = "fxhelpers"
"""Key in a notebook's metadata that makes it one of ours."""

_INJECTED = "injected-parameters"
_READ = threading.local()
"""What papermill read last in each thread: its engines get the notebook without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A notebook as it was given.

    Attributes
    ----------
    given : str or NotebookNode
        What papermill was to read: a path, a URL, ``-`` or a notebook.
    text : str
        What stood there.
    folder : Path
        Where relative paths start; ``papermill --cwd`` changes it later.
    file : Path or None
        The file; None where it came from elsewhere.
    """

    given: Any
    text: str
    folder: Path
    file: Path | None

    @property
    def digest(self) -> str:
        """The SHA-256 of the text."""
        return sha256(self.text.encode())

    def check(self, output: Any) -> None:  # noqa: ANN401 (papermill's: a path, or None)
        """Refuse a notebook that holds what an earlier run injected, and an output that would take the place of a notebook."""
        refuse_injected(nbformat.reads(self.text, as_version=4), str(self.file or "the notebook"))
        file = _local_file(output, self.folder)
        if file and ((self.file and file.samefile(self.file)) or _is_unrun(notebook_metadata(file))):
            msg = (
                f"the output {file} is a notebook to run, and would be overwritten by an executed one; name another output: "
                "the record is kept in any case. Nothing was run."
            )
            raise RunRefusedError(msg)


def source_of(nb: Any) -> Source:  # noqa: ANN401 (nbformat's nodes have no types)
    """Return what papermill read a notebook from, in this thread."""
    given, read = nb.metadata.papermill.get("input_path"), getattr(_READ, "source", None)
    if read is not None and read.given == given:
        return read  # type: ignore[no-any-return]
    return Source(
        given=given, text=f"{nbformat.writes(nb)}\n", folder=Path.cwd(), file=None
    )  # an engine that is called by itself


def refuse_injected(nb: Mapping[str, Any], name: str) -> None:
    """Refuse a notebook that still holds the parameters of an earlier run: they would pass for its defaults."""
    for cell in nb["cells"]:
        if _INJECTED in cell["metadata"].get("tags", []):
            lines = [line.partition("=")[0].strip() for line in cell["source"].splitlines() if line[:1].isidentifier()]
            msg = (
                f"{name} holds parameters of an earlier run ({', '.join(lines):.50}), which are no defaults. Run the original "
                f"(git restore brings it back), or a copy without the cell tagged {_INJECTED}. Nothing was run."
            )
            raise RunRefusedError(msg)


def was_given_parameters(nb: Any) -> bool:  # noqa: ANN401
    """Tell whether papermill has injected parameters."""
    return any(_INJECTED in cell.metadata.get("tags", []) for cell in nb.cells)


def notebook_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a notebook of ours; none where the file is anything else."""
    if not os.path.isfile(path):  # noqa: PTH113 (which takes any text for a path)
        return {}
    try:
        metadata = dict(json.loads(path.read_bytes())["metadata"])
    except UNREADABLE:
        return {}
    return metadata if MARK in metadata else {}


def _is_unrun(metadata: Mapping[str, Any]) -> bool:
    return MARK in metadata and "papermill" not in metadata


def _local_file(path: Any, folder: Path) -> Path | None:  # noqa: ANN401 (papermill's)
    if not isinstance(path, str) or not isinstance(papermill_io.get_handler(path), LocalHandler):
        return None
    file = os.path.abspath(folder / path)  # noqa: PTH100 (a link to the notebooks of another project stays in this one)
    return Path(file) if os.path.isfile(file) else None  # noqa: PTH113


def _remembering(read: Callable[..., str]) -> Callable[..., str]:
    """Let papermill's reading keep the text of a notebook of ours."""

    @wraps(read)
    def remember(path: Any, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401 (papermill's signature)
        text = read(path, *args, **kwargs)
        if f'"{MARK}"' in text:
            folder, end = Path.cwd(), "" if isinstance(path, str) else "\n"  # as nbformat ends a file
            _READ.source = Source(given=path, text=text + end, folder=folder, file=_local_file(path, folder))
        return text

    return remember


papermill_io.read = _remembering(papermill_io.read)


_PACKAGES = ("fxhelpers", "mlflow", "scikit-learn", "skops", "numpy", "pandas", "papermill")
_LOCK = "requirements.lock"


def provenance(source: Source, name: str, params: Params) -> dict[str, Any]:
    """Return what goes into a record's metadata; None stands for what there is not."""
    return {
        "actor": actor(),
        "process": process_identity(),
        "source": name,
        "source_sha256": source.digest,
        "params_sha256": _digest(params.file),
        "lock_sha256": _digest(params.folder / _LOCK),
        "git": _git(params.folder),
        "python": python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _digest(path: Path) -> str | None:
    return sha256(path.read_bytes()) if path.is_file() else None


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the commit that is checked out, and whether tracked files differ from it; None outside a repository."""
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)  # noqa: S603 (no shell, no input)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
