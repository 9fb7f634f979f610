"""Papermill's own command, as users type it: on a terminal, in a pipe, from any folder. And papermill's own notebooks."""

import copy
import http.server
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import Project
from papermill.engines import papermill_engines

from fxhelpers.batch import Batch
from fxhelpers.engine import run_notebook
from fxhelpers.errors import RunRefusedError
from fxhelpers.files import sha256
from fxhelpers.params import load_params

PARAMETERS = 'symbol: str = "AAPL"  # ticker\ncount: int = 1\napply: bool = False\nextra: dict = {}\ndays: list = []'


@pytest.fixture
def probe(project: Project) -> Path:
    return project.probe("print(symbol, count, apply)", parameters=PARAMETERS)


def files(folder: Path) -> set[str]:
    """All files but the registry's own."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith("outputs/registry/")}


def ran(record: Path) -> dict[str, str]:
    return dict(nbformat.read(record, as_version=4).metadata["fxhelpers"]["record"])


def executed_in_place(path: Path, **parameters: object) -> Path:
    """What a run leaves whose output is its own notebook, by an engine that does not mind."""
    papermill.execute_notebook(path, path, parameters, engine_name="nbclient", progress_bar=False)
    return path


def test_every_engine_can_be_copied_as_papermills_own_tests_do() -> None:
    copied = copy.deepcopy(papermill_engines)
    assert copied.get_engine("fxhelpers") is copied.get_engine() is papermill_engines.get_engine()
    assert all(isinstance(engine, type) for engine in copied._engines.values())


def test_what_an_earlier_run_injected_is_no_default_however_the_notebook_is_run(probe: Path, project: Project) -> None:
    executed_in_place(probe, symbol="IBM", apply=True)
    refusal = r"probe\.ipynb holds parameters of an earlier run \(symbol, apply\), which are no defaults"
    with pytest.raises(RunRefusedError, match=refusal):
        papermill.execute_notebook(probe, "out.ipynb", progress_bar=False)
    with pytest.raises(RunRefusedError, match=refusal):
        run_notebook(probe, {"count": 2})
    with pytest.raises(RunRefusedError, match=refusal):
        Batch(probe, load_params(), jobs=1, preloaded=False)
    with pytest.raises(RunRefusedError, match="the notebook holds parameters of an earlier run"):
        papermill.execute_notebook(nbformat.read(probe, as_version=4), None, progress_bar=False)
    assert files(project.folder) == {"params.yaml", "probe.ipynb"}


def test_a_record_is_no_notebook_to_run(probe: Path, project: Project) -> None:
    record = run_notebook(probe, {"apply": True}, preloaded=True).record
    with pytest.raises(RunRefusedError, match=r"holds parameters of an earlier run \(apply\)"):
        papermill.execute_notebook(record, None, progress_bar=False)
    assert project.records() == [record]


def test_metadata_that_an_earlier_run_left_say_nothing_of_this_one(probe: Path, project: Project) -> None:
    executed_in_place(probe, symbol="IBM")
    nb = nbformat.read(probe, as_version=4)
    nb.cells = [cell for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    nbformat.write(nb, probe)
    result = run_notebook(probe, {}, preloaded=True)
    assert result.record.parent.name == "AAPL"
    assert nbformat.read(result.record, as_version=4).metadata.papermill.parameters == {}


@pytest.mark.parametrize("output", ["probe.ipynb", "link.ipynb", "notebooks/compare.ipynb"])
def test_no_notebook_is_overwritten_by_an_executed_one(probe: Path, output: str) -> None:
    Path("link.ipynb").symlink_to("probe.ipynb")
    before = Path(output).read_bytes()
    with pytest.raises(RunRefusedError, match="is a notebook to run, and would be overwritten by an executed one"):
        papermill.execute_notebook("probe.ipynb", output, {"apply": True}, progress_bar=False)
    assert Path(output).read_bytes() == before


def test_wherever_a_notebook_comes_from_and_runs_its_digest_and_settings_are_its_own(
    probe: Path, project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "params.yaml").write_text("default_symbol: MSFT\n")
    folder = project.folder / "mine"
    folder.mkdir()
    probe = probe.rename(folder / "probe.ipynb")
    execute: Callable[..., object] = partial(papermill.execute_notebook, progress_bar=False, preloaded=True)
    execute("mine/probe.ipynb", None, cwd=elsewhere)
    execute(nbformat.read(probe, as_version=4), None)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        execute(f"http://127.0.0.1:{server.server_port}/probe.ipynb", None, cwd=elsewhere)
        server.shutdown()
    monkeypatch.chdir(elsewhere)
    execute(probe, None)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FX_PARAMS", "../params.yaml")
    execute("probe.ipynb", None, cwd=elsewhere)
    assert [ran(record)["source_sha256"] for record in project.records()] == [sha256(probe.read_bytes())] * 5
    assert not (elsewhere / "outputs").exists()
    monkeypatch.setenv("FX_PARAMS", str(elsewhere / "params.yaml"))
    execute("probe.ipynb", None)
    assert len(list((elsewhere / "outputs" / "records" / "AAPL").glob("*.ipynb"))) == 1
