"""Provenance: what a record was made from, by whom and with what."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from fxhelpers.engine.source import Source
from fxhelpers.files import sha256
from fxhelpers.params import Params
from fxhelpers.processes import actor, process_identity

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
