"""Machines of all kinds: no home folder, no name, a long TMPDIR, a minimal PATH, a strict umask, no terminal."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from fxhelpers import ModelRegistry

BIN = Path(sys.executable).parent
NAMELESS = ["setpriv", "--reuid", "12345", "--clear-groups"]


def homeless() -> list[str]:
    """What starts a command as a user whom nothing names, where this may be done; else only without HOME."""
    whole = os.geteuid() == 0 and shutil.which("setpriv")
    return [*(NAMELESS if whole else []), "env", "-i", "PATH=/usr/bin:/bin"]


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python that every user may read; skip where there is none."""
    script = f"import sys, fxhelpers; sys.exit(sys.base_prefix != {sys.base_prefix!r})"  # another one may take its place
    told = subprocess.run([*homeless(), sys.executable, "-c", script], check=False, capture_output=True, cwd=tmp_path)
    if told.returncode:
        pytest.skip("this Python is only for its owner")
    return sys.executable


def test_without_a_home_plain_python_is_told_what_to_set(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import pwd
from fxhelpers import ModelRegistry
pwd.getpwuid = {}.__getitem__  # a user whom the system does not know
try:
    ModelRegistry().get_model_versions("M")
except ConnectionError as error:
    print(error)
"""
    monkeypatch.delenv("HOME")
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout == "MLflow needs a home folder, and this user has none: set HOME, for example to a new folder in /tmp\n"


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("kind", ["umask", "terminal", "path", "tmpdir"])
def test_a_run_and_a_batch_work_on(kind: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ModelRegistry().register_model(project.bundle(), stage="Production")
    options: dict[str, object] = (
        {"umask": 0o077} if kind == "umask" else {"start_new_session": True} if kind == "terminal" else {}
    )
    if kind == "path":
        monkeypatch.setenv("PATH", "/nowhere")
    if kind == "tmpdir":
        long = tmp_path / ("long" * 40)
        long.mkdir()
        monkeypatch.setenv("TMPDIR", str(long))
    for words in (["history", "--quiet"], ["history", "--quiet", "--symbols", "AAPL"]):
        told = subprocess.run(
            [BIN / "fx", "run", *words], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
        )  # type: ignore[call-overload]
        assert told.returncode == 0, told.stderr
    assert len(project.records()) == 2


@pytest.mark.usefixtures("thorough")
def test_commands_work_for_a_user_whom_nothing_names(project: Project, tmp_path: Path, python: str) -> None:
    ModelRegistry().register_model(project.bundle(), stage="Production")
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rwX", str(tmp_path)], check=True)  # noqa: S607 (of the system)
    for words in (["history", "AAPL"], ["verify"], ["run", "history", "--quiet"]):
        told = subprocess.run(
            [*homeless(), python, "-m", "fxhelpers", *words], check=False, capture_output=True, text=True, cwd=tmp_path
        )
        assert told.returncode == 0, told.stderr
        assert "Traceback" not in told.stderr
