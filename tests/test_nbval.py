"""Every notebook but `register`, which decides, through nbval, on real prices; what some show is known to the letter."""

import json
import os
import subprocess
import sys
from typing import Any

import nbformat
import pytest
from conftest import ROOT, Project
from nbformat.v4 import new_output

from fxhelpers import ModelRegistry
from fxhelpers.records import summary

ORDER = ("train", "evaluate", "compare", "promote", "rollback", "retain", "history", "portfolio", "index", "backtest")

NONE_YET = "No batch yet: fx run NOTEBOOK --symbols AAPL,MSFT runs one, and then this notebook."
SUMMARIES: dict[str, dict[str, Any]] = {
    "retain": {
        "symbol": "AAPL",
        "applied": False,
        "archive": [],
        "prune": [],
        "bytes_pruned": 0,
        "decision": None,
        "outcome_sha256": None,
    },
    "history": {"symbol": "AAPL", "at": "now", "in_production": [], "decisions": 1, "attempts": 0, "doubts": []},
    "portfolio": {"batch": "", "of": None, "answer": NONE_YET, "runs": 0, "failed": 0, "seconds": 0.0, "records_intact": True},
}
"""What a project says of itself after its first registration."""


@pytest.mark.usefixtures("thorough")
def test_every_notebook_and_what_it_shows(project: Project) -> None:
    (project.folder / "notebooks").unlink()
    (project.folder / "notebooks").mkdir()
    ModelRegistry().register_model(project.bundle())
    project.write(training={"refit": True, "rolling": {"first_day": 500, "every_days": 250}})  # a backtest needs origins
    for name in ORDER:
        nb = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        if name in SUMMARIES:
            shown = summary(name, **SUMMARIES[name])._repr_mimebundle_()
            expect(nb.cells[-1], new_output("execute_result", shown, execution_count=1))
        nbformat.write(nb, project.folder / "notebooks" / f"{name}.ipynb")
    spec = project.folder / "kernels" / "preloaded" / "kernel.json"  # forked from a process that has its imports already
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    provisioner = {"kernel_provisioner": {"provisioner_name": "fxhelpers-preloaded"}}
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python", "language": "python", "metadata": provisioner}))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-kernel-name", "preloaded"]
    env = {**os.environ, "JUPYTER_PATH": str(project.folder)}
    paths = [f"notebooks/{name}.ipynb" for name in ORDER]
    done = subprocess.run([*command, *paths], check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout.splitlines()[-1]


def expect(cell: Any, output: Any) -> None:
    cell.outputs, cell.execution_count = [output], 1
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "nbval-check-output"]
