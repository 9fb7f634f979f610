"""Our notebooks in the tools of others: whoever keeps a record may decide, everybody may look, and no parameter is lost."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
import requests
from conftest import NAME, ROOT, Project, jupyterlab, run_all
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell
from test_engine import header

from fxhelpers import ModelRegistry
from fxhelpers.errors import RunRefusedError
from fxhelpers.records import read_summary
from fxhelpers.runs import run_notebook
from fxhelpers.system import sha256

TOOLS = ("jupyter-scheduler==2.12.0", "croniter==1.4.1", "pytz==2024.2", "jupytext==1.19.6", "mdit-py-plugins==0.7.0")
OURS = "fxhelpers.runs.scheduled.RecordExecutionManager"
THEIRS = "jupyter_scheduler.executors.DefaultExecutionManager"


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tools of others in a folder of their own: JupyterLab would load their extensions in every test."""
    folder = tmp_path_factory.mktemp("tools")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*pip, *TOOLS], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"they cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder


def notebook(name: str, **injected: object) -> Any:
    """Return a notebook of ours, with what another tool injects behind its parameters."""
    nb = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    if injected:
        index = next(i for i, cell in enumerate(nb.cells) if "parameters" in cell.metadata.get("tags", []))
        nb.cells.insert(index + 1, new_code_cell("# Parameters\n" + "\n".join(f"{k} = {v!r}" for k, v in injected.items())))
    return nb


def refused(nb: Any, project: Project) -> str:
    with pytest.raises(CellExecutionError) as caught:
        run_all(nb, project.folder)
    return f"{caught.value.ename}: {caught.value.evalue}"


def test_a_decision_without_a_record_is_refused_with_the_command_to_type(project: Project) -> None:
    bundle = project.bundle()
    assert refused(notebook("register", stage="Staging"), project).endswith(
        "no record of this notebook is being kept. Type in a terminal: fx run register -p symbol AAPL -p stage Staging"
    )
    path = bundle.model_path.relative_to(project.folder)
    assert f"-p model_path {path}" in refused(notebook("register", model_path=str(path)), project)
    assert ModelRegistry().get_model_versions(NAME) == []
    ModelRegistry().register_model(bundle)
    for call, command in {
        f"transition_stage('{NAME}', 1, 'Production')": "Type in a terminal: python -c 'from fxhelpers import ModelRegistry",
        "verify('AAPL', repair=True)": "Type in a terminal: fx verify AAPL --repair",
    }.items():
        nb = nbformat.v4.new_notebook(cells=[new_code_cell(f"from fxhelpers import ModelRegistry\nModelRegistry().{call}")])
        assert command in refused(nb, project)
    assert len(ModelRegistry().history("AAPL").ledger.decisions) == 1


def test_a_parameter_that_a_notebook_does_not_have_is_refused(project: Project) -> None:
    for name, given, message in (
        ("history", {"symbl": "MSFT"}, "unknown parameter 'symbl' (did you mean 'symbol'?); this notebook takes symbol, at."),
        ("train", {"symbol": "IBM", "modl": "x", "overrides": {}}, "unknown parameter 'modl' (did you mean 'model'?)"),
        ("portfolio", {"bach": "x"}, "unknown parameter 'bach' (did you mean 'batch'?)"),
    ):
        assert message in refused(notebook(name, **given), project)


def test_looking_works_with_other_parameters_and_with_cells_of_ones_own(project: Project) -> None:
    project.bundle()
    ModelRegistry().register_model(project.bundle("IBM"))
    seen = read_summary(run_all(notebook("history", symbol="IBM"), project.folder))
    assert seen is not None
    assert (seen["symbol"], seen["record"]) == ("IBM", None)
    nb = notebook("history", symbol="IBM")
    nb.cells += [
        new_code_cell("note: str = 'mine'\nn: int = 2"),
        new_code_cell("mine = 3\nregistry.history(symbol)"),
        nb.cells[2],
    ]
    run_all(nb, project.folder)


@pytest.mark.usefixtures("thorough")
def test_a_kernel_that_a_recorded_notebook_starts_is_not_recorded_itself(project: Project) -> None:
    """It inherits all that the environment says."""
    project.bundle()
    nbformat.write(notebook("register"), project.folder / "inner.ipynb")
    command = [sys.executable, "-m", "jupyter", "execute", "inner.ipynb"]
    outer = project.probe(f"import subprocess\nprint(subprocess.run({command!r}, capture_output=True, text=True).stderr)")
    record = run_notebook(outer, {}, preloaded=True).record
    assert "NoRecordError" in record.read_text()
    assert "fx run register -p symbol AAPL" in record.read_text()
    assert ModelRegistry().get_model_versions(NAME) == []


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize(
    "command",
    [
        ["jupyter", "nbconvert", "--execute", "--to", "notebook", "--output", "out.ipynb"],
        ["jupyter", "execute", "--output", "out.ipynb"],
        ["papermill", "--engine", "nbclient", "--no-progress-bar"],
    ],
)
def test_the_commands_of_others_look_and_do_not_decide(project: Project, command: list[str]) -> None:
    project.bundle()
    folder = project.folder / "notebooks"
    for name, status in (("index", 0), ("register", 1)):
        path = folder.parent / f"{name}.ipynb"
        path.write_text((folder / f"{name}.ipynb").read_text())
        more = ["out.ipynb"] if command[0] == "papermill" else []
        done = subprocess.run([sys.executable, "-m", *command, path.name, *more], check=False, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert "Type in a terminal: fx run register -p symbol AAPL" in done.stderr
    assert ModelRegistry().get_model_versions(NAME) == []


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("form", ["py:percent", "py:light", "md", "md:myst"])
def test_a_notebook_that_went_through_jupytext_and_back_keeps_its_mark(project: Project, tools: Path, form: str) -> None:
    project.bundle()
    text = f"register.{form.partition(':')[0]}"
    env = {**os.environ, "PYTHONPATH": str(tools)}
    for arguments in (["--to", form, "-o", text, "notebooks/register.ipynb"], ["--to", "ipynb", "-o", "back.ipynb", text]):
        subprocess.run([sys.executable, "-m", "jupytext", *arguments], check=True, env=env, capture_output=True)
    assert run_notebook(Path("back.ipynb"), {"stage": "Staging"}, preloaded=True).status == "completed"
    assert ModelRegistry().verify(deep=True).findings == ()


def test_every_notebook_tells_jupytext_to_keep_its_mark() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        kept = json.loads(path.read_text())["metadata"]["jupytext"]["notebook_metadata_filter"]
        assert "fxhelpers" in kept.split(","), path


def test_a_notebook_that_lost_its_mark_is_refused_with_what_to_do(project: Project) -> None:
    nb = notebook("register")
    del nb.metadata["fxhelpers"]
    nbformat.write(nb, "lost.ipynb")
    with pytest.raises(RunRefusedError, match=r"if jupytext or another tool removed that .*git restore"):
        run_notebook(Path("lost.ipynb"), {})


def job(uri: str, path: str, **parameters: str) -> dict[str, Any]:
    """Let jupyter-scheduler run a notebook, and return what it says of the job at its end."""
    session = requests.Session()
    session.get(f"{uri}/lab", timeout=60)
    headers = {"X-XSRFToken": session.cookies.get("_xsrf") or ""}
    model = {
        "name": "a job",
        "input_uri": path,
        "runtime_environment_name": "python",
        "output_formats": ["ipynb", "html"],
        "parameters": parameters,
    }
    made = session.post(f"{uri}/scheduler/jobs", json=model, headers=headers, timeout=60)
    assert made.status_code == 200, made.text
    for _ in range(1200):
        told = dict(session.get(f"{uri}/scheduler/jobs/{made.json()['job_id']}", timeout=60).json())
        if told["status"] in {"COMPLETED", "FAILED"}:  # one that has not begun is called STOPPED
            break
        time.sleep(0.1)
    return told


@pytest.mark.usefixtures("thorough")
def test_in_jupyter_scheduler_a_notebook_works_as_under_papermill(
    project: Project, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the steps of docs/schedule.md: our execution manager, which `make lab` names, in the project's folder."""
    assert f"--Scheduler.execution_manager_class={OURS}" in (ROOT / "docs" / "schedule.md").read_text()
    monkeypatch.setenv("PYTHONPATH", str(tools))
    bundle = project.bundle("IBM")
    (project.folder / "home").mkdir()
    enabled = "--ServerApp.jpserver_extensions={'jupyter_scheduler': True}"
    with jupyterlab(project.folder / "home", project.folder, enabled) as uri:
        mistyped = job(uri, "notebooks/register.ipynb", symbl="IBM")
        assert mistyped["status"] == "FAILED"
        assert mistyped["status_message"].startswith("unknown parameter 'symbl' (did you mean 'symbol'?); this notebook takes")
        assert list((project.folder / "outputs").glob("records/*/*.ipynb")) == []
        wrong = job(uri, "notebooks/promote.ipynb", symbol="IBM", apply="maybe")
        assert "parameter apply must be bool, found str 'maybe'" in wrong["status_message"]
        told = job(uri, "notebooks/register.ipynb", symbol='"IBM"', stage="Staging", tags="{note: by a job}")
        assert (told["status"], told["status_message"]) == ("COMPLETED", None)
        failed = job(uri, "notebooks/compare.ipynb", symbol="MSFT")
        assert failed["status"] == "FAILED"
        assert "has no version to compare" in failed["status_message"]
        assert str(project.records("MSFT")[0]) in failed["status_message"]
        files = list((project.folder / "home").rglob("scheduler_staging_area/*/register*"))
    (record,) = project.records("IBM")
    assert header(record)["status"] == "completed"
    (decision,) = ModelRegistry().history("IBM").ledger.decisions
    assert decision.seal is not None
    assert (decision.result, decision.seal_facts.sha256) == ("registered", sha256(record.read_bytes()))
    assert decision.bundles == {"1": bundle.digest}
    assert ModelRegistry().verify(deep=True).findings == ()
    assert {file.suffix for file in files} == {".ipynb", ".html"}
    assert any(read_summary(json.loads(file.read_text())) for file in files if file.suffix == ".ipynb")


@pytest.mark.usefixtures("thorough")
def test_in_jupyter_scheduler_by_itself_one_can_look_and_not_decide(
    project: Project, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tools))
    monkeypatch.setenv("FX_PARAMS", str(project.folder / "params.yaml"))
    project.bundle()
    (project.folder / "home").mkdir()
    options = ["--ServerApp.jpserver_extensions={'jupyter_scheduler': True}", f"--Scheduler.execution_manager_class={THEIRS}"]
    with jupyterlab(project.folder / "home", project.folder, *options) as uri:
        assert job(uri, "notebooks/index.ipynb", latest="3")["status"] == "COMPLETED"
        mistyped = job(uri, "notebooks/register.ipynb", symbl='"MSFT"')
        assert mistyped["status"] == "FAILED"
        assert "unknown parameter 'symbl' (did you mean 'symbol'?)" in mistyped["status_message"]
        told = job(uri, "notebooks/register.ipynb")
        assert told["status"] == "FAILED"
        assert "Type in a terminal: fx run register -p symbol AAPL" in told["status_message"]
    assert ModelRegistry().get_model_versions(NAME) == []


@pytest.mark.usefixtures("thorough")
def test_jupyter_scheduler_takes_the_jobs_of_the_page_and_runs_one(
    project: Project, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tools))
    project.bundle()
    jobs = sorted((ROOT / "docs" / "schedule" / "jupyter-scheduler").glob("*.json"))
    (project.folder / "home").mkdir()
    enabled = "--ServerApp.jpserver_extensions={'jupyter_scheduler': True}"
    with jupyterlab(project.folder / "home", project.folder, enabled) as uri:
        session = requests.Session()
        session.get(f"{uri}/lab", timeout=60)
        session.headers["X-XSRFToken"] = session.cookies.get("_xsrf") or ""
        definitions: dict[str, Any] = {}
        for file in jobs:
            made = session.post(f"{uri}/scheduler/job_definitions", data=file.read_bytes(), timeout=60)
            assert made.status_code == 200, (file, made.text)
            definitions[file.stem] = made.json()["job_definition_id"]
        kept = session.get(f"{uri}/scheduler/job_definitions", timeout=60).json()["job_definitions"]
        assert {one["input_filename"] for one in kept} == {f"{file.stem}.ipynb" for file in jobs}
        assert all(one["active"] and one["timezone"] == "America/New_York" for one in kept)
        started = session.post(f"{uri}/scheduler/job_definitions/{definitions['register']}/jobs", json={}, timeout=60)
        assert started.status_code == 200, started.text
        for _ in range(1200):
            told = session.get(f"{uri}/scheduler/jobs/{started.json()['job_id']}", timeout=60).json()
            if told["status"] in {"COMPLETED", "FAILED"}:
                break
            time.sleep(0.1)
    assert (told["status"], told["status_message"]) == ("COMPLETED", None)
    (decision,) = ModelRegistry().history("AAPL").ledger.decisions
    assert decision.seal is not None
