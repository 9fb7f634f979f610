"""Whatever ends a process ends its record; what nothing can catch is put right by whoever looks next."""

import fcntl
import json
import logging
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import NAME, PAPERMILL, ROOT, Project
from test_cli import fx
from test_engine import header, statuses
from test_reports import lines

from fxhelpers import ModelRegistry
from fxhelpers.records import LEFT, mark_running
from fxhelpers.reports import end_records
from fxhelpers.runs import run_notebook
from fxhelpers.system import process_identity, sha256

PARAMETERS = 'symbol: str = "AAPL"  # ticker\nseconds: float = 0.0'


@pytest.fixture
def probe(project: Project) -> Path:
    return project.probe("import time\nprint('begun', flush=True)\ntime.sleep(seconds)", "1", parameters=PARAMETERS)


@contextmanager
def sleeping(project: Project, *prefix: str, code: str = "", **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a run, and give its process once its cell sleeps; without code it is papermill's."""
    known = set(project.records())
    command = [sys.executable, "-c", code] if code else [*PAPERMILL, "probe.ipynb", "-", "-p", "seconds", "60"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True, **options}
    with subprocess.Popen([*prefix, *command], **quiet) as process:  # type: ignore[call-overload]
        try:
            for _ in range(600):
                new = set(project.records()) - known
                if new and statuses(new.pop())[1] == "running":
                    break
                time.sleep(0.05)
            time.sleep(0.2)
            yield process
        finally:
            process.kill()


def markers(project: Project) -> list[Path]:
    return sorted((project.folder / "outputs" / "records" / ".running").glob("*.json"))


def left_running(project: Project, folder: Path | None = None) -> Path:
    """Leave a record as SIGKILL does."""
    with sleeping(project) as process:
        assert len(markers(project)) == 1
        process.kill()
    record = project.records()[-1]
    assert header(record)["status"] == "running"
    return record


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGABRT])
def test_whatever_can_be_caught_ends_the_record(probe: Path, project: Project, number: signal.Signals) -> None:
    with sleeping(project) as process:
        process.send_signal(number)
        assert process.wait(timeout=20) not in {0, -number}
    (record,) = project.records()
    assert (header(record)["status"], statuses(record)) == ("interrupted", ["completed", "failed", "pending"])
    assert record.with_suffix(".html").exists()
    assert markers(project) == []


@pytest.mark.usefixtures("thorough")
def test_a_closing_terminal_ends_the_record(probe: Path, project: Project) -> None:
    """It sends SIGHUP more than once, and nothing can be written to it any more."""
    ours, theirs = pty.openpty()
    with sleeping(project, "setsid", "--ctty", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=False) as process:
        os.close(theirs)
        os.close(ours)
        for _ in range(3):
            time.sleep(0.01)
            process.send_signal(signal.SIGHUP)
        process.wait(timeout=50)
    (record,) = project.records()
    assert (header(record)["status"], statuses(record)) == ("interrupted", ["completed", "failed", "pending"])
    assert [card["status"] for card in lines(project, "records")] == ["interrupted"]


@pytest.mark.usefixtures("thorough")
def test_what_a_process_was_started_to_ignore_it_ignores(probe: Path, project: Project) -> None:
    with sleeping(project, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert process.poll() is None


@pytest.mark.usefixtures("thorough")
def test_a_thread_that_nobody_waited_for_ends_its_record_at_the_interpreters_exit(probe: Path, project: Project) -> None:
    code = (
        "import threading, sys, time; from pathlib import Path; from fxhelpers.runs import run_notebook\n"
        "run = lambda: run_notebook(Path('probe.ipynb'), {'seconds': 60})\n"
        "threading.Thread(target=run, daemon=True).start()\n"
        "while not list(Path('outputs').glob('records/AAPL/*')): time.sleep(0.05)\n"
        "time.sleep(2)"
    )
    with sleeping(project, code=code) as process:
        assert process.wait(timeout=30) == 0
    (record,) = project.records()
    assert header(record)["status"] in {"interrupted", "failed"}


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("way", ["run", "verify", "records"])
def test_after_sigkill_whoever_looks_next_closes_the_record(probe: Path, project: Project, way: str) -> None:
    record = left_running(project)
    if way == "run":
        run_notebook(probe, {"symbol": "IBM"}, preloaded=True)
    elif way == "verify":
        ModelRegistry().register_model(project.bundle())
        ModelRegistry().verify()
    else:
        fx("records", "--no-open")
    told = header(record)
    assert (told["status"], told["error"], statuses(record)) == ("interrupted", LEFT, ["completed", "failed", "pending"])
    assert told["started"] < told["ended"]
    assert "INTERRUPTED" in record.with_suffix(".html").read_text()
    assert {(card["symbol"], card["status"]) for card in lines(project, "records")} >= {("AAPL", "interrupted")}
    assert markers(project) == []
    before = record.read_bytes()
    assert end_records(record.parent.parent) == []
    assert record.read_bytes() == before


@pytest.mark.usefixtures("thorough")
def test_a_record_at_work_is_left_to_its_process(probe: Path, project: Project) -> None:
    with sleeping(project):
        (record,) = project.records()
        assert end_records(record.parent.parent) == []
        fx("records", "--no-open")
        assert header(record)["status"] == "running"
        assert [card["status"] for card in lines(project, "records")] == ["running"]
        assert not record.with_suffix(".html").exists()


def running(project: Project, name: str = "20261123T100000Z-probe-1.ipynb", **process: object) -> tuple[Path, Path]:
    """Write a record that says that it is running, and a marker of such a process, which nobody holds."""
    record = project.folder / "outputs" / "records" / "AAPL" / name
    record.parent.mkdir(parents=True, exist_ok=True)
    told = {"name": name, "symbol": "AAPL", "status": "running", "started": "2026-11-23T10:00:00.000+00:00"}
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# A title", "id": "one"}]
    nb = {"cells": cells, "metadata": {"fxhelpers": {"notebook": "probe", "record": told}}, "nbformat": 4, "nbformat_minor": 5}
    record.write_text(json.dumps(nb))
    marker = mark_running(record)
    if process:
        marker.path.write_text(json.dumps({"record": name, "process": process}))
    marker.release()
    return record, marker.path


def test_after_a_power_failure_or_in_another_container_the_lock_tells(project: Project) -> None:
    """The numbers of processes of another start of the machine mean nothing here."""
    other = {**process_identity(), "machine": "another boot"}
    record, marker = running(project, **other)
    with marker.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert end_records(record.parent.parent) == []
    assert end_records(record.parent.parent) == [record]
    assert header(record)["status"] == "interrupted"


def test_a_lock_that_something_inherited_does_not_hide_that_the_process_is_gone(project: Project) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        identity = process_identity(gone.pid)
    record, marker = running(project, **identity)
    with marker.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert end_records(record.parent.parent) == [record]


def test_what_is_torn_or_cannot_be_written_ends_nothing(probe: Path, project: Project, caplog: pytest.LogCaptureFixture) -> None:
    torn, _ = running(project, "20261123T100000Z-probe-1.ipynb")
    torn.write_text("{")
    gone, _ = running(project, "20261123T100000Z-probe-2.ipynb")
    gone.unlink()
    odd, _ = running(project, "20261123T100000Z-probe-3.ipynb")
    odd.unlink()
    odd.mkdir()  # cannot be read or replaced
    whole, _ = running(project, "20261123T100000Z-probe-4.ipynb")
    (markers(project)[0].parent / "AAPL+x.json.json").write_text("")
    (markers(project)[0].parent / "nothing.json").write_text("[]")
    with caplog.at_level(logging.WARNING):
        assert run_notebook(probe, {}, preloaded=True).status == "completed"
    assert header(whole)["status"] == "interrupted"
    assert "1.ipynb was left by its process, and cannot be closed" in caplog.text
    assert [marker.stem for marker in markers(project)] == [f"AAPL+{odd.name}"]  # for the next time


def test_a_record_of_an_earlier_release_that_says_running_is_shown_as_interrupted(project: Project) -> None:
    """It may be sealed as it is, so it is not changed."""
    record, marker = running(project)
    shutil.rmtree(marker.parent)
    before = record.read_bytes()
    fx("records", "--no-open")
    assert [card["status"] for card in lines(project, "records")] == ["interrupted"]
    assert record.with_suffix(".html").exists()
    assert record.read_bytes() == before


@pytest.mark.usefixtures("thorough")
def test_a_kill_in_the_middle_of_a_decision_leaves_a_closed_and_sealed_record(project: Project) -> None:
    ModelRegistry().register_model(project.bundle())
    nb = json.loads((ROOT / "notebooks" / "promote.ipynb").read_text())
    sleeps = {"cell_type": "code", "id": "sleeps", "metadata": {}, "outputs": [], "execution_count": None}
    after = next(i for i, cell in enumerate(nb["cells"]) if "registry.propose(" in "".join(cell["source"]))
    nb["cells"].insert(after + 1, sleeps | {"source": ["import time\n", "print('begun', flush=True); time.sleep(60)"]})
    (project.folder / "probe.ipynb").write_text(json.dumps(nb))
    command = [*PAPERMILL, "probe.ipynb", "-", "-p", "apply", "True"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not any("begun" in record.read_text() and '"decisions": [\n' in record.read_text() for record in project.records()):
            time.sleep(0.1)
        process.kill()
    registry = ModelRegistry()
    found = registry.verify("AAPL", deep=True, repair=True)
    assert not found.problems
    (record,) = project.records()
    assert header(record)["status"] == "interrupted"
    decision = registry.history("AAPL").ledger.decisions[-1]
    assert decision.intent.facts.process["pid"] == process.pid  # not the one that forked the kernel, which lives a little longer
    assert decision.seal is not None
    assert (decision.result, decision.seal_facts.sha256) == ("interrupted", sha256(record.read_bytes()))
    assert registry.get_production_model(NAME) is None
