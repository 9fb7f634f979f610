"""A batch on a cluster: a real Dask scheduler, workers that are processes of their own, a shared registry."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Project
from distributed import Client

from fxhelpers import ModelRegistry, load_params, load_prices, read_portfolio
from fxhelpers.batch import Batch
from fxhelpers.errors import ParamsError
from fxhelpers.params import model_name

pytestmark = pytest.mark.usefixtures("thorough")


class Cluster:
    """A scheduler and its workers, each a process of its own session."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes = [self._start("dask_scheduler", "--port", "0", "--scheduler-file", str(self.file), "--no-dashboard")]
        self._wait(self.file.exists)
        self.address = str(json.loads(self.file.read_text())["address"])

    def worker(self) -> psutil.Process:
        """Start a worker, which is ready once the scheduler lets it work."""
        worker = self._start(
            "dask_worker", self.address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder)
        )
        self.processes.append(worker)
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.processes) - 1, timeout=40)
        return psutil.Process(worker.pid)

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments]
        with log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _wait(self, true: Any) -> None:
        end = time.monotonic() + 40
        while not true():
            assert time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill all of it."""
        everything = [p for process in self.processes for p in (*_children(process.pid), process.pid)]
        for pid in everything:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.processes:
            process.wait(20)


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def command(process: psutil.Process) -> str:
    """The command of a process; empty where it has ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def cluster(project: Project, team_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team_server)
    started = Cluster(tmp_path)
    yield started
    started.stop()


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(project: Project, cluster: Cluster) -> None:
    symbols = [f"CLUSTER{n}" for n in range(4)]
    for symbol in symbols:
        write_bundle_of(project, symbol)
    first, _second = cluster.worker(), cluster.worker()
    batch = Batch(ROOT / "notebooks" / "register.ipynb", load_params(), jobs=1, cluster=cluster.address)
    batch.begin(symbols, {})
    killed: list[psutil.Process] = []

    def kill() -> None:
        """As soon as the first worker's kernel is at work."""
        while not any("forkserver" in command(process) and _children(process.pid) for process in first.children(recursive=True)):
            time.sleep(0.02)
        killed.extend([*first.children(recursive=True), first])
        first.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcomes = batch.run({symbol: {} for symbol in symbols}, lambda _: None)
    killer.join(10)
    assert not killer.is_alive()
    assert [(outcome.symbol, outcome.status, outcome.error) for outcome in outcomes] == [(s, "completed", None) for s in symbols]
    _, alive = psutil.wait_procs(killed, timeout=15)
    assert not alive  # no kernel outlives its worker
    registry = ModelRegistry()
    for symbol in symbols:
        assert [version.version for version in registry.get_model_versions(model_name(symbol))] == [1]
        assert not registry.verify(symbol).problems
    assert read_portfolio(batch.id).about["cluster"] == cluster.address


def probe(project: Project, cell: str) -> Path:
    """A notebook that does something to its worker where the symbol is BAD."""
    return project.probe(cell, "from fxhelpers import summary\nsummary('probe', symbol=symbol)")


def test_a_run_that_kills_every_worker_is_given_up_and_the_others_are_run(project: Project, cluster: Cluster) -> None:
    cluster.worker()
    path = probe(project, "import os\nif symbol == 'BAD':\n    os.kill(os.getppid(), 9)")
    batch = Batch(path, load_params(), jobs=1, cluster=cluster.address, preloaded=False)
    outcomes = batch.run({symbol: {} for symbol in ("GOOD", "BAD", "FINE")}, lambda _: None)
    assert [outcome.status for outcome in outcomes] == ["completed", "failed", "completed"]
    assert "KilledWorker" in str(outcomes[1].error)


def test_a_batch_on_a_cluster_is_stopped_too(project: Project, cluster: Cluster) -> None:
    worker = cluster.worker()
    path = probe(project, "import time\nopen(f'began-{symbol}', 'w').close()\ntime.sleep(100)")
    batch = Batch(path, load_params(), jobs=1, cluster=cluster.address)

    def stop() -> None:
        while not list(project.folder.glob("began-*")):
            time.sleep(0.05)
        batch.stop()

    threading.Thread(target=stop, daemon=True).start()
    start = time.monotonic()
    outcomes = batch.run({symbol: {} for symbol in ("ONE", "TWO", "THREE")}, lambda _: None)
    assert time.monotonic() - start < 60
    assert sorted(outcome.status for outcome in outcomes) == ["interrupted", "stopped", "stopped"]
    assert not [p for p in worker.children(recursive=True) if "ipykernel" in command(p)]


def test_when_the_scheduler_is_lost_the_records_tell(project: Project, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a worker ends there; of what never began, nobody says that it failed."""
    monkeypatch.setattr("fxhelpers.batch._cluster._GRACE_SECONDS", 3.0)
    cluster.worker()
    path = probe(project, "import time\nopen(f'began-{symbol}', 'w').close()\ntime.sleep(4)")
    batch = Batch(path, load_params(), jobs=1, cluster=cluster.address)

    def kill() -> None:
        while not list(project.folder.glob("began-*")):
            time.sleep(0.05)
        cluster.processes[0].kill()

    threading.Thread(target=kill, daemon=True).start()
    outcomes = batch.run({symbol: {} for symbol in ("ONE", "TWO", "THREE", "FOUR")}, lambda _: None)
    began = {path.name.removeprefix("began-") for path in project.folder.glob("began-*")}
    told = {outcome.symbol: (outcome.status, outcome.error) for outcome in outcomes}
    never = ("lost", "the scheduler was lost, and no record was begun; --resume runs it")
    assert told == {symbol: ("completed", None) if symbol in began else never for symbol in told}
    assert {symbol for symbol in told if project.records(symbol)} == began
    (first,) = (outcome for outcome in outcomes if outcome.symbol in began)
    assert (first.summary or {})["symbol"] == first.symbol
    assert first.seconds > 4


def test_a_cluster_without_workers_is_one_line(project: Project, cluster: Cluster) -> None:
    batch = Batch(ROOT / "notebooks" / "register.ipynb", load_params(), jobs=1, cluster=cluster.address)
    with pytest.raises(ParamsError, match="has no worker; start one"):
        batch.run({"AAPL": {}}, lambda _: None)


def test_a_worker_of_another_project_says_so(project: Project, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.worker()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # for this process only
    batch = Batch(ROOT / "notebooks" / "register.ipynb", load_params(), jobs=1, cluster=cluster.address)
    (outcome,) = batch.run({"AAPL": {}}, lambda _: None)
    assert outcome.status == "refused"
    assert "differs from where the batch was started" in str(outcome.error)


def test_a_cluster_that_is_not_there_is_one_line(project: Project) -> None:
    project.settings["mlflow"]["tracking_uri"] = "http://127.0.0.1:9"
    project.write()
    batch = Batch(ROOT / "notebooks" / "register.ipynb", load_params(), jobs=1, cluster="tcp://127.0.0.1:9")
    with pytest.raises(ParamsError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        batch.run({"AAPL": {}}, lambda _: None)


def write_bundle_of(project: Project, symbol: str) -> None:
    """A bundle under another ticker: what is registered where is what matters here."""
    prices = project.folder / "prices"
    prices.mkdir(exist_ok=True)
    if not (prices / "MADE.csv").exists():
        load_prices("AAPL", load_params().prices).reset_index().to_csv(prices / "MADE.csv", index=False)
    project.write(prices={"source": "csv"})
    (prices / f"{symbol}.csv").write_bytes((prices / "MADE.csv").read_bytes())
    project.bundle(symbol, max_iter=2)
