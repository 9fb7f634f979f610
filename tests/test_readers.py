"""Users who may only read: registry and records give them all that they look at, and nothing is written there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import NAME, PAPERMILL, Project

from fxhelpers import ModelRegistry
from fxhelpers.system import folder_digest

FX = str(Path(sys.executable).with_name("fx"))
ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""Permissions bind everybody but the administrator; without these two capabilities they bind that one too."""

pytestmark = pytest.mark.skipif(bool(ORDINARY) and shutil.which("setpriv") is None, reason="permissions do not bind root")


@pytest.fixture
def reader(project: Project, tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Make a version champion; run commands as somebody who may only read all of the project."""
    for alpha, stage in ((100.0, "Production"), (10.0, "Staging")):
        ModelRegistry().register_model(project.bundle(alpha=alpha), stage=stage)
    (tmp_path / "outputs" / "records").mkdir()
    home = tmp_path.with_name(f"{tmp_path.name}-home")
    home.mkdir()

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
        return subprocess.run([*ORDINARY, *command], check=False, capture_output=True, text=True, cwd=tmp_path, env=env)

    seal_off(tmp_path, "a-w")
    before = folder_digest(tmp_path)
    yield run
    assert folder_digest(tmp_path) == before
    seal_off(tmp_path, "u+w")


def seal_off(folder: Path, mode: str) -> None:
    subprocess.run(["chmod", "-R", mode, str(folder)], check=True)  # noqa: S607 (of the system)


@pytest.mark.usefixtures("thorough")
def test_who_may_only_read_reads(reader: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    script = f"""
import logging
from fxhelpers import ModelRegistry
registry = ModelRegistry()
print(registry.history("AAPL").production_periods().to_string(), registry.verify(deep=True).message, registry.overview().serving)
print(registry.load_champion("AAPL").who)
try:
    registry.transition_stage("{NAME}", 2, "Production")
except Exception as error:
    print(type(error).__name__, error)
"""
    told = reader(sys.executable, "-c", script)
    assert "Permission denied" not in told.stderr
    assert "version 1" in told.stdout
    assert "OK: 1 model, 2 decisions checked (deep)" in told.stdout
    assert "version 1 of MLP_Stock_Predictor_AAPL" in told.stdout
    assert "readonly database" in told.stdout.splitlines()[-1]


@pytest.mark.usefixtures("thorough")
def test_the_commands_and_notebooks_that_look_work_for_who_may_only_read(
    reader: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    home = tmp_path.with_name(f"{tmp_path.name}-home")
    for words in (["history", "AAPL"], ["versions", "AAPL"], ["status"], ["records", "--no-open"]):
        told = reader(FX, *words)
        assert told.returncode == 0, (words, told.stderr)
    told = reader(FX, "run", "compare", "--quiet")
    assert told.returncode == 0, told.stderr
    (record,) = (home / "state" / "fxhelpers" / "records").glob("AAPL/*-compare-*.ipynb")
    assert f"saved as  {record}" in told.stdout
    assert "outputs/records cannot be written by" in told.stderr
    assert json.loads(record.read_text())["metadata"]["fxhelpers"]["record"]["status"] == "completed"
    told = reader("env", f"FX_PARAMS={tmp_path}/params.yaml", *PAPERMILL, "notebooks/history.ipynb", str(home / "out.ipynb"))
    assert told.returncode == 0, told.stderr
    told = reader(FX, "run", "promote", "--quiet")
    assert told.returncode == 1
    assert "the record cannot be written" in told.stderr
    assert told.stderr.count("\n") == 1
    as_jupyterlab = """
import nbclient, nbformat
print(nbclient.NotebookClient(nbformat.read("notebooks/history.ipynb", 4)).execute().cells[-1].outputs[0].data["text/plain"])
"""
    told = reader(sys.executable, "-c", as_jupyterlab)
    assert "in production  [1]" in told.stdout, told.stderr
