"""The record tells the truth, however a run ends. Real kernels, real signals, papermill's own command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import NAME, PAPERMILL, ROOT, Project
from nbformat.v4 import new_code_cell, new_notebook

from fxhelpers import ModelRegistry
from fxhelpers.errors import RunRefusedError
from fxhelpers.runs import run_notebook
from fxhelpers.system import actor, sha256


@pytest.fixture
def notebook(project: Project) -> Path:
    """A notebook of ours that does what its parameter says."""
    parameters = new_code_cell(
        'symbol: str = "AAPL"  # ticker\ncount: int = 1  # a number\nshare: float = 0.5\napply: bool = False\n'
        'action: str = ""\nextra: dict = {}\napi_token: str = ""'
    )
    parameters.metadata["tags"] = ["parameters"]
    cells = [
        parameters,
        new_code_cell("import os, signal, time\nprint('before')"),
        new_code_cell(
            "actions = {'die': lambda: os.kill(os.getpid(), signal.SIGKILL), 'sleep': lambda: time.sleep(60)}\n"
            "actions['raise'] = lambda: 1 / 0\nactions['fill'] = lambda: print('x' * 100_000)\n"
            "actions['leak'] = lambda: (print(sorted(os.environ.items())), int(os.environ['DAGSHUB_TOKEN']))\n"
            "print(os.environ['FX_RECORD'], flush=True)\n"
            "actions.get(action, lambda: None)()"
        ),
        new_code_cell("from fxhelpers import summary\nsummary('probe', symbol=symbol, verdict='promote' if apply else 'keep')"),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "fxhelpers": {"notebook": "probe"},
    }
    path = project.folder / "probe.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def statuses(record: Path) -> list[str]:
    nb = nbformat.read(record, as_version=4)
    return [cell.metadata.papermill.status for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", [])]


def header(record: Path) -> dict[str, str]:
    return dict(nbformat.read(record, as_version=4).metadata["fxhelpers"]["record"])


@pytest.mark.usefixtures("thorough")
def test_a_plain_papermill_run_keeps_a_record_whatever_output_was_asked_for(notebook: Path, project: Project) -> None:
    named = subprocess.run([*PAPERMILL, "probe.ipynb", "out.ipynb", "-p", "count", "3"], check=True, capture_output=True)
    piped = subprocess.run([*PAPERMILL, "probe.ipynb"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    dash = subprocess.run([*PAPERMILL, "probe.ipynb", "-"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert len(project.records()) == 3
    for record in project.records():
        assert header(record)["status"] == "completed"
        assert statuses(record) == ["completed"] * 4
    assert nbformat.read("out.ipynb", as_version=4).metadata.papermill.parameters == {"count": 3}
    assert json.loads(piped.stdout)["cells"]
    assert json.loads(dash.stdout)["cells"]
    message = {
        line for done in (named, piped, dash) for line in done.stderr.decode().splitlines() if line.startswith("The record is")
    }
    assert message == {f"The record is {record}" for record in project.records()}


def test_the_record_is_the_path_that_the_kernel_was_told(notebook: Path, project: Project) -> None:
    result = run_notebook(notebook, {})
    assert result.record == project.records()[0]
    assert str(result.record) in result.record.read_text()
    assert result.summary is not None
    assert result.summary["record"] == result.record.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "symbl", "IBM"], "unknown parameter 'symbl' (did you mean 'symbol'?); this notebook takes symbol, count"),
        (["-p", "symbol", "007"], "parameter symbol must be str, found int 7; with papermill: -r symbol 007."),
        (["-p", "apply", "true"], "parameter apply must be bool, found str 'true'; with papermill: -p apply True"),
        (["-p", "count", "2.5"], "parameter count must be int, found float 2.5"),
        (["-p", "symbol", "../../etc"], "'../../etc' is not a ticker"),
    ],
)
def test_wrong_parameters_are_one_clear_line_and_nothing_runs(
    notebook: Path, project: Project, arguments: list[str], message: str
) -> None:
    done = subprocess.run([*PAPERMILL, "probe.ipynb", "out.ipynb", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert project.records() == []
    assert not Path("out.ipynb").exists()


def test_text_from_a_command_line_is_read_as_the_type_that_the_notebook_declares(notebook: Path) -> None:
    result = run_notebook(notebook, {"share": "1", "apply": "true", "symbol": "007"})
    assert result.summary is not None
    assert (result.summary["symbol"], result.summary["verdict"]) == ("007", "promote")


def test_a_failing_cell_leaves_a_failed_record_and_exits_non_zero(notebook: Path, project: Project) -> None:
    done = subprocess.run([*PAPERMILL, "probe.ipynb", "-", "-p", "action", "raise"], check=False, capture_output=True)
    assert done.returncode == 1
    (record,) = project.records()
    assert statuses(record) == ["completed", "completed", "failed", "pending"]
    assert header(record)["error"] == "ZeroDivisionError: division by zero"


@pytest.mark.usefixtures("thorough")
def test_a_killed_kernel_is_not_recorded_as_completed(notebook: Path, project: Project) -> None:
    done = subprocess.run([*PAPERMILL, "probe.ipynb", "-", "-p", "action", "die"], check=False, capture_output=True)
    assert done.returncode not in {0, None}
    (record,) = project.records()
    assert statuses(record) == ["completed", "completed", "failed", "pending"]
    assert header(record)["status"] == "failed"
    assert header(record)["error"].startswith("DeadKernelError")
    assert nbformat.read(record, as_version=4).metadata.papermill.exception is True


@pytest.mark.usefixtures("thorough")
def test_a_timeout_is_not_recorded_as_completed(notebook: Path, project: Project) -> None:
    arguments = ["--execution-timeout", "2", "-p", "action", "sleep"]
    done = subprocess.run([*PAPERMILL, "probe.ipynb", "-", *arguments], check=False, capture_output=True)
    assert done.returncode not in {0, None}
    (record,) = project.records()
    assert statuses(record) == ["completed", "completed", "failed", "pending"]
    assert header(record)["error"].startswith("CellTimeoutError")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_no_kernel(notebook: Path, project: Project, number: signal.Signals) -> None:
    command = [*PAPERMILL, "probe.ipynb", "-", "-p", "action", "sleep"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (project.records() and statuses(project.records()[0])[2] == "running"):
        time.sleep(0.05)
    time.sleep(0.3)
    started = psutil.Process(process.pid).children(recursive=True)
    (kernel,) = [child for child in started if os.getsid(child.pid) == child.pid]  # it leads a session of its own
    os.kill(process.pid, number)
    assert process.wait(timeout=20) != 0
    (record,) = project.records()
    assert header(record)["status"] == "interrupted"
    assert statuses(record) == ["completed", "completed", "failed", "pending"]
    assert not kernel.is_running()


@pytest.mark.usefixtures("thorough")
def test_a_reader_never_sees_half_a_record(notebook: Path, project: Project) -> None:
    process = subprocess.Popen([*PAPERMILL, "probe.ipynb", "-"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reads = 0
    while process.poll() is None:
        for record in project.records():
            json.loads(record.read_text())
            reads += 1
    assert process.returncode == 0
    assert reads > 10
    (record,) = project.records()
    assert sorted(record.parent.iterdir()) == [record.with_suffix(".html"), record]  # no temporary file is left


def test_other_notebooks_go_to_papermills_own_engine(project: Project) -> None:
    path = project.folder / "other.ipynb"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[new_code_cell("print('mine')")], metadata=metadata), path)
    done = subprocess.run(
        [*PAPERMILL, "other.ipynb", "out.ipynb", "-p", "unknown", "1"], check=True, capture_output=True, text=True
    )
    assert "unknown parameter" in done.stderr.lower()  # papermill's own warning
    assert "mine" in Path("out.ipynb").read_text()
    assert not (project.folder / "outputs" / "records").exists()


@pytest.mark.usefixtures("thorough")
def test_from_a_foreign_folder_the_notebooks_own_project_applies(
    notebook: Path, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([*PAPERMILL, str(notebook), "-"], check=True, capture_output=True, cwd=elsewhere)
    assert len(project.records()) == 1
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("thorough")
def test_without_any_params_yaml_nothing_runs(notebook: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    lonely = tmp_path_factory.mktemp("lonely") / "probe.ipynb"
    lonely.write_text(notebook.read_text())
    done = subprocess.run([*PAPERMILL, str(lonely), "-"], check=False, capture_output=True, text=True, cwd=lonely.parent)
    assert done.returncode == 1
    assert "no params.yaml in" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_api_refuses_as_the_command_line_does(notebook: Path) -> None:
    with pytest.raises(RunRefusedError, match="unknown parameter 'nope'"):
        run_notebook(notebook, {"nope": 1})


def test_importing_the_engine_first_works_too() -> None:
    code = (
        "import fxhelpers.runs, papermill; from papermill.engines import papermill_engines as e; print(e.get_engine().__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "RecordEngine"


def test_a_record_says_what_it_was_made_from(notebook: Path, project: Project) -> None:
    (project.folder / "requirements.lock").write_text("numpy==2.1\n")
    git = ["git", "-C", str(project.folder), "-c", "user.name=Ann", "-c", "user.email=ann@corp.example"]
    for command in (["init", "--quiet"], ["add", "probe.ipynb", "params.yaml"], ["commit", "--quiet", "-m", "All"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    told = header(run_notebook(notebook, {}).record)
    assert told["source_sha256"] == sha256(notebook.read_bytes())
    assert told["params_sha256"] == sha256((project.folder / "params.yaml").read_bytes())
    assert told["lock_sha256"] == sha256(b"numpy==2.1\n")
    assert told["git"] == {"commit": commit, "dirty": False}
    assert told["packages"]["scikit-learn"] == version("scikit-learn")
    assert told["actor"] == actor()
    assert told["started"] < told["ended"]
    assert told["status"] == "completed"
    project.write(training={"random_state": 7})
    assert header(run_notebook(notebook, {}).record)["git"] == {"commit": commit, "dirty": True}


def test_outside_a_repository_there_is_no_commit(notebook: Path, project: Project) -> None:
    assert header(run_notebook(notebook, {}).record)["git"] is None


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("action", "s3cr3t-value-of-the-token", "it holds the value of DAGSHUB_TOKEN"),
        ("action", "see http://ann:s3cr3t@registry.example/x", "a URI with a password"),
        ("action", "ghp_0123456789abcdefghijABCDEFGHIJ456789", "the form of a token"),
        ("action", "password=hunter2hunter2", "the form of a token"),
        ("extra", {"api_key": "0123456789"}, "it has a key 'api_key'"),
        ("api_token", "whatever it is", "its name is that of one"),
    ],
)
def test_a_secret_among_the_parameters_is_refused_and_not_repeated(
    notebook: Path, project: Project, monkeypatch: pytest.MonkeyPatch, *, name: str, value: object, why: str
) -> None:
    monkeypatch.setenv("DAGSHUB_TOKEN", "s3cr3t-value-of-the-token")
    with pytest.raises(RunRefusedError, match=f"parameter {name} looks like a secret .*{why}.*Nothing was run") as caught:
        run_notebook(notebook, {name: value})
    assert not re.search(r"s3cr3t|hunter2|ghp_|0123456789", str(caught.value))
    assert project.records() == []


@pytest.mark.parametrize(
    "value", ["the token ring of 2025", "8c1b6a0d9a1f0a8f3a6d2f5ad8d8a0c7b6e5f4a3", "secretary", "no password"]
)
def test_ordinary_words_are_no_secrets(notebook: Path, value: str) -> None:
    assert run_notebook(notebook, {"action": value}).status == "completed"


def test_a_secret_that_a_cell_prints_or_an_error_holds_is_taken_out_of_the_record(
    notebook: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSHUB_TOKEN", 's3cr3t"of-Ann')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hunter2hunter2@registry.example/")
    (project.folder / ".env").write_text("SOME_API_KEY=0123456789abc\n")
    monkeypatch.setenv("COPY", "0123456789abc")
    result = run_notebook(notebook, {"action": "leak"})
    told = result.record.read_text()
    assert result.status == "failed"
    assert not re.search("s3cr3t|hunter2|0123456789abc", told + str(result.error))
    assert told.count("[hidden]") >= 4
    assert "registry.example" in told


@pytest.mark.usefixtures("thorough")
def test_on_a_full_disk_the_run_ends_with_one_line_and_the_last_whole_record_stays(notebook: Path, project: Project) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the same way, and needs no root."""
    limit = "import resource, sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
    limit += "from fxhelpers.cli import main; sys.argv = ['fx', 'run', 'probe.ipynb', '-p', 'action', 'fill']; main()"
    done = subprocess.run([sys.executable, "-c", limit], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the record cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    (record,) = project.records()
    assert statuses(record)[:2] == ["completed", "completed"]
    assert set(record.parent.iterdir()) <= {record, record.with_suffix(".html")}


@pytest.mark.usefixtures("thorough")
def test_a_run_that_dies_after_its_intent_has_an_outcome_and_a_seal(project: Project, registered: Callable[..., int]) -> None:
    """The kernel is killed in the middle of a promotion: the engine ends what it left open."""
    registered("regularised")
    nb = json.loads((ROOT / "notebooks" / "promote.ipynb").read_text())
    dies = {"cell_type": "code", "id": "dies", "metadata": {}, "outputs": [], "execution_count": None}
    after = next(i for i, cell in enumerate(nb["cells"]) if "registry.propose(" in "".join(cell["source"]))
    nb["cells"].insert(after + 1, dies | {"source": ["import os, signal\n", "os.kill(os.getpid(), signal.SIGKILL)"]})
    path = project.folder / "promote.ipynb"
    path.write_text(json.dumps(nb))
    result = run_notebook(path, {"apply": True})
    assert result.status == "failed"
    registry = ModelRegistry()
    decision = registry.history("AAPL").ledger.decisions[-1]
    assert (decision.kind, decision.result) == ("promotion", "failed")
    assert "DeadKernelError" in decision.reason
    assert decision.seal is not None
    assert decision.seal_facts.sha256 == sha256(result.record.read_bytes())
    assert registry.verify("AAPL", deep=True).findings == ()
    assert registry.get_production_model(NAME) is None
    assert registry.client.version(NAME, 1).tags["fx.record"] == f"AAPL/{result.record.name}"
