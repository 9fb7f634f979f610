"""Many symbols at once: what is run, what is kept, how it ends, and who is promoted together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from conftest import ROOT, Project
from nbformat.v4 import new_notebook
from synthetic import write_prices

from fxhelpers import ModelRegistry, load_params, plots, read_portfolio
from fxhelpers.batch import Batch, read_symbols, run_family
from fxhelpers.batch._run import RunInputs, RunOutcome
from fxhelpers.errors import FxError, ParamsError, RegistryUnavailableError, RunRefusedError
from fxhelpers.kernels.stopping import stop_batch
from fxhelpers.records import read_summary
from fxhelpers.runs import run_notebook
from fxhelpers.system import sha256

FX = str(Path(sys.executable).with_name("fx"))
SYMBOLS = ("AAPL", "IBM", "MSFT")


@pytest.fixture
def notebook(project: Project) -> Path:
    """A notebook of ours that says which symbol it got, and fails for BAD."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        (project.folder / path.name).symlink_to(path)  # its portfolio lies beside it
    return project.probe(
        "import os, time\nfrom fxhelpers import summary\nopen(f'began-{symbol}', 'w').close()\ntime.sleep(seconds)",
        "assert symbol != 'BAD', 'this symbol is bad'",
        "summary('probe', symbol=symbol, verdict='promote' if symbol < 'M' else 'keep', pid=os.getpid())",
        parameters='symbol: str = "AAPL"  # ticker\nseconds: float = 0.0  # to wait',
        reads=("prices",),
    )


def run(name: str | Path, symbols: tuple[str, ...] = SYMBOLS, **options: Any) -> list[RunOutcome]:
    path = name if isinstance(name, Path) else ROOT / "notebooks" / f"{name}.ipynb"
    parameters = options.pop("parameters", {})
    batch = Batch(path, load_params(), jobs=3, **options)
    batch.begin(list(symbols), parameters)
    return batch.run(dict.fromkeys(symbols, parameters), lambda _: None)


def test_a_batch_runs_each_symbol_in_a_kernel_of_its_own_and_one_failure_stops_no_other(notebook: Path, project: Project) -> None:
    (project.folder / "list").write_text("AAPL, BAD # a bad one\n\nMSFT AAPL\n")
    done = subprocess.run([FX, "run", "probe.ipynb", "--symbols", "@list"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "2 of 3 runs of probe completed" in done.stdout
    assert "BAD  failed in" in done.stdout
    assert "AssertionError: this symbol is bad" in done.stdout
    lines = done.stderr.splitlines()
    assert [line.partition(" (")[0] for line in lines[:3]] == [f"probe {n}/3" for n in (1, 2, 3)]
    assert "1 failed" in lines[2]
    assert lines[-2] == "Note: AAPL is listed 2 times in list, and run once"
    assert lines[-1] == "Error: 1 of 3 runs failed; see their records"
    found = read_portfolio()
    assert list(found.runs.index) == ["AAPL", "BAD", "MSFT"]
    assert list(found.runs["status"]) == ["completed", "failed", "completed"]
    (record,) = (project.folder / "outputs" / "records" / "_portfolio").glob("*.ipynb")
    text = record.read_text()
    for symbol in found.runs.index:
        (of_run,) = project.records(symbol)
        assert sha256(of_run.read_bytes()) in text  # the batch's record names every run's record
    summary = read_summary(json.loads(text))
    assert summary is not None
    assert (summary["runs"], summary["failed"], summary["promote"], summary["keep"]) == (3, 1, 1, 1)
    assert "image/png" in text
    assert "AAPL is listed 2 times" in text
    project.records("AAPL")[0].write_text("{}")
    assert dict(read_portfolio().runs["intact"]) == {"AAPL": False, "BAD": True, "MSFT": True}


@pytest.mark.usefixtures("thorough")
def test_kernels_of_a_batch_are_processes_of_their_own_and_the_records_tell_of_it(notebook: Path, project: Project) -> None:
    outcomes = run(notebook)
    assert [outcome.symbol for outcome in outcomes] == list(SYMBOLS)  # in the order that was asked for
    assert len({outcome.summary["pid"] for outcome in outcomes if outcome.summary}) == 3
    headers = [json.loads(project.records(symbol)[0].read_text())["metadata"]["fxhelpers"]["record"] for symbol in SYMBOLS]
    assert {told["kernel"] for told in headers} == {"preloaded"}
    assert len({told["batch"] for told in headers}) == 1
    assert not [process for process in psutil.process_iter() if process.pid in {o.summary["pid"] for o in outcomes if o.summary}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no symbol; expected AAPL,MSFT or @file or all"),
        (" , ", "no symbol"),
        ("AAPL,../x", "'../x' is not a ticker"),
        ("@nowhere", "nowhere cannot be read"),
        ("@empty", "empty: no symbol"),
    ],
)
def test_symbols_that_are_none_are_refused_before_anything_runs(project: Project, text: str, message: str) -> None:
    Path("empty").write_text("# none\n")
    with pytest.raises(ParamsError, match=message):
        read_symbols(text, ["prices"], load_params())


def test_all_are_those_that_have_what_the_notebook_reads(project: Project, registered: Callable[..., int]) -> None:
    params = load_params()
    notes: list[str] = []
    assert read_symbols("all", ["prices"], params, notes) == ["AAPL", "GOOG", "IBM", "MSFT"]
    (note,) = notes
    assert note.startswith("--symbols all leaves out FB: FB (sample): 196 days of prices")
    with pytest.raises(ParamsError, match="--symbols all: there is none in"):
        read_symbols("all", ["bundle", "prices"], params)
    project.bundle("IBM", max_iter=2)
    assert read_symbols("all", ["bundle", "prices"], params) == ["IBM"]
    registered("regularised")
    assert read_symbols("all", ["versions", "prices"], params) == ["AAPL"]
    prices = project.folder / "prices"
    write_prices(prices, 2)
    (prices / "my notes.csv").write_text("a")
    (prices / "BROKEN.csv").write_text("a")
    (prices / "YOUNG.csv").write_text("".join((prices / "S001.csv").read_text().splitlines(keepends=True)[:300]))
    project.write(prices={"source": "csv"})
    notes.clear()
    assert read_symbols("all", ["prices"], load_params(), notes) == [
        "BROKEN",
        "S001",
        "S002",
    ]  # what is broken fails, and says so
    assert ["YOUNG: " in notes[0], "'my notes' is not a ticker" in notes[1], len(notes)] == [True, True, 2]
    project.write(prices={"source": "csv", "start": "2013-01-01"})
    (prices / "BROKEN.csv").unlink()
    with pytest.raises(ParamsError, match=r"all leaves out S001: .* at least 500 are required"):
        read_symbols("all", ["prices"], load_params())
    project.write(prices={"source": "yfinance"})
    with pytest.raises(ParamsError, match="yfinance cannot list its symbols"):
        read_symbols("all", ["prices"], load_params())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["portfolio", "--symbols", "AAPL"], "takes a symbol"),
        (["register", "--symbols", "AAPL", "-p", "symbol", "IBM"], "--symbols names the symbols already"),
        (["register", "--resume"], "--resume: only together with --symbols"),
        (["register", "--symbols", "AAPL", "--require-promotion"], "--require-promotion is for a single symbol"),
        (["register", "--symbols", "AAPL", "--fdr", "0.1"], "--fdr is for promote"),
        (["promote", "--symbols", "AAPL", "--fdr", "1.5"], "fdr above 0 and at most 0.5"),
        (["promote", "--symbols", "AAPL", "--fdr", "0.1", "-p", "version", "1"], "remove -p version"),
        (["promote", "--symbols", "AAPL", "--fdr", "0.1", "-p", "override", "true"], "remove -p override"),
        (["register", "--symbols", "AAPL", "-p", "nonsense", "1"], "unknown parameter 'nonsense'"),
        (["register", "--symbols", "AAPL", "-p", "description", "password=hunter2hunter2"], "looks like a secret"),
        (["register", "--symbols", "AAPL", "--cluster", "tcp://127.0.0.1:1"], "is a file of this machine"),
    ],
)
def test_what_makes_no_sense_for_a_batch_is_one_line(project: Project, arguments: list[str], message: str) -> None:
    from click.testing import CliRunner

    from fxhelpers.cli import cli

    found = CliRunner().invoke(cli, ["run", *arguments])
    assert found.exit_code in {1, 2}
    assert message in " ".join(found.output.split())
    assert not list((project.folder / "outputs").glob("records/[A-Z]*"))
    assert "hunter2" not in "".join(path.read_text() for path in (project.folder / "outputs").rglob("*.jsonl"))


def test_a_family_needs_a_comparison(project: Project) -> None:
    batch = Batch(
        ROOT / "notebooks" / "promote.ipynb", project.registry(model_registry={"compare_metrics": False}).params, jobs=1
    )
    with pytest.raises(ParamsError, match="compare_metrics is false in params"):
        run_family(batch, ["AAPL"], {"apply": True}, 0.1, lambda _: lambda _: None)


@pytest.mark.usefixtures("thorough")
def test_one_symbol_whose_files_cannot_be_read_stops_no_other(project: Project) -> None:
    project.bundle("IBM", max_iter=2)
    (project.folder / "outputs" / "models" / "mlp_model_AAPL.skops").mkdir()
    assert [outcome.status for outcome in run("register", ("AAPL", "IBM"))] == ["refused", "completed"]


def test_a_kernel_that_dies_while_it_starts_stops_no_other(
    notebook: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def kill(pid: int) -> None:
        if not killed:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    from fxhelpers.kernels import provisioner

    started = provisioner._Process.__init__

    def dying(self: Any, kernel: Any) -> None:
        started(self, kernel)
        kill(self.pid)

    monkeypatch.setattr(provisioner._Process, "__init__", dying)
    assert sorted(outcome.status for outcome in run(notebook)) == ["completed", "completed", "failed"]


@pytest.mark.usefixtures("thorough")
def test_promotions_are_run_again_once_something_else_was_decided(project: Project) -> None:
    registry = prepared(project, ("IBM",))
    look = {"symbols": ("IBM",), "resume": True}
    assert [run("promote", **look)[0].status for _ in range(2)] == ["completed", "kept"]
    promoted = [run("promote", parameters={"apply": True}, **look)[0].status for _ in range(2)]
    assert promoted == ["completed", "kept"]
    assert run("promote", **look)[0].status == "completed"  # there is one attempt more
    registry.transition_stage(registry.model_name("IBM"), 2, "Production")
    assert run("promote", parameters={"apply": True}, **look)[0].status == "completed"


@pytest.mark.usefixtures("thorough")
def test_resume_runs_only_what_has_no_sealed_record_of_the_same_inputs(project: Project) -> None:
    for symbol in SYMBOLS:
        project.bundle(symbol, max_iter=2)

    def resumed(**options: Any) -> dict[str, str]:
        return {outcome.symbol: outcome.status for outcome in run("register", resume=True, **options)}

    assert set(resumed().values()) == {"completed"}
    assert set(resumed().values()) == {"kept"}
    assert set(resumed(parameters={"description": "another"}).values()) == {"completed"}  # another parameter
    (first, *_) = project.records("AAPL")
    first.write_text(first.read_text().replace("the latest bundle", "the lastest bundle"))  # sealed with other bytes
    project.bundle("IBM", max_iter=3)  # another bundle
    assert resumed() == {"AAPL": "completed", "IBM": "completed", "MSFT": "kept"}
    project.write(model_registry={"retention_days": 7})  # another params.yaml
    assert set(resumed().values()) == {"completed"}


def test_a_bundle_that_is_named_is_an_input_wherever_it_lies(project: Project, foresightx: Callable[..., Path]) -> None:
    path = foresightx("IBM")
    inputs = RunInputs(load_params(), ROOT / "notebooks" / "register.ipynb", "register", ["bundle", "evaluation"])
    features = path.parent.parent / "data" / "features" / "features_IBM.csv"
    features.parent.mkdir(parents=True)
    features.write_text("Date\n")
    digests = {inputs.digest("IBM", {}), inputs.digest("IBM", {"model_path": str(path)})}
    results = path.parent.parent / "results" / "evaluation_metrics_IBM.json"
    stats = path.parent.parent / "metadata" / "mlp_model_stats_IBM.json"
    for file in (path, path.with_name("mlp_scaler_IBM.pkl"), stats, results, features):
        file.write_bytes(file.read_bytes() + b" ")
        digests.add(inputs.digest("IBM", {"model_path": str(path)}))
    assert len(digests) == 7


def test_the_latest_batch_is_not_the_one_of_a_clock_that_was_ahead(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    folder = project.folder / "outputs" / "records" / "_portfolio"
    folder.mkdir(parents=True)
    for batch in ("20990101T000000Z-register-aaaa", "20260101T000000Z-register-bbbb", "20260102T000000Z-register-cccc"):
        first = {"batch": batch, "notebook": "register", "symbols": ["AAPL"], "time": "2026-01-01T00:00:00"}
        (folder / f"{batch}.jsonl").write_text(json.dumps(first))
    os.utime(folder / "20990101T000000Z-register-aaaa.jsonl", (1767225600, 1767225600))  # 2026-01-01
    assert read_portfolio().batch == "20260102T000000Z-register-cccc"
    assert "20990101T000000Z-register-aaaa.jsonl: it states the time 2099-01-01 00:00, which is in the future" in caplog.text


def test_a_failed_run_is_run_again_by_resume(notebook: Path, project: Project) -> None:
    symbols = ("AAPL", "BAD")
    assert [o.status for o in run(notebook, symbols)] == ["completed", "failed"]
    assert [o.status for o in run(notebook, symbols, resume=True)] == ["kept", "failed"]
    assert len(project.records("AAPL")) == 1
    assert len(project.records("BAD")) == 2


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_a_batch_within_seconds_and_leaves_no_kernel(
    notebook: Path, project: Project, number: signal.Signals
) -> None:
    symbols = [f"S{n}" for n in range(6)]
    command = [FX, "run", "probe.ipynb", "--symbols", ",".join(symbols), "-p", "seconds", "60", "--jobs", "2"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 40
    while len(list(project.folder.glob("began-*"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    started = psutil.Process(running.pid).children(recursive=True)
    os.killpg(running.pid, number)  # as a terminal does, to all that it holds
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "Error: stopped; runs that had started are recorded. To continue: fx run probe.ipynb" in errors
    assert "-p seconds 60 --jobs 2 --resume" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    found = read_portfolio().runs["status"].value_counts()
    assert dict(found) == {"stopped": 4, "interrupted": 2}
    for path in (project.folder / "outputs" / "records").glob("S*/*.ipynb"):
        told = json.loads(path.read_text())["metadata"]["fxhelpers"]["record"]
        assert (told["status"], bool(told["ended"])) == ("interrupted", True)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("seconds", [0.7, 3.0])
def test_ctrl_c_at_any_moment_of_the_start_is_no_traceback(notebook: Path, project: Project, seconds: float) -> None:
    command = [FX, "run", "probe.ipynb", "--symbols", "A,B,C,D", "-p", "seconds", "600"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)  # far less than the notebook takes; other tests have the processor too
    assert running.returncode in {1, 130}
    assert "Traceback" not in errors


def test_a_batch_that_is_stopped_between_two_runs_begins_nothing_more(notebook: Path, project: Project) -> None:
    batch = Batch(notebook, load_params(), jobs=1)
    batch.begin(list(SYMBOLS), {})
    outcomes = batch.run({symbol: {} for symbol in SYMBOLS}, lambda _: stop_batch(batch.id))
    assert [outcome.status for outcome in outcomes] == ["completed", "stopped", "stopped"]


def test_a_run_that_is_about_to_begin_when_its_batch_is_stopped_does_not(notebook: Path, project: Project) -> None:
    """Between the last look and its kernel lie seconds, in which a Ctrl-C was lost."""
    stop_batch("stopped-before")
    start = time.monotonic()
    words = {"handles_signals": False, "facts": {"batch": "stopped-before"}}
    result = run_notebook(notebook, {"symbol": "A", "seconds": 60}, preloaded=True, **words)
    assert result.status == "interrupted"
    assert time.monotonic() - start < 30


def prepared(project: Project, symbols: tuple[str, ...] = SYMBOLS) -> ModelRegistry:
    """Each symbol with a champion, and a challenger that is another model."""
    registry = project.registry(promotion={"gates": [{**QUICK, "id": "superior", "test": "stationary_bootstrap"}]})
    for symbol in symbols:
        registry.register_model(project.bundle(symbol, max_iter=2), stage="Production")
        time.sleep(1)  # bundles are named by the second
        registry.register_model(project.bundle(symbol, max_iter=5))
    return registry


QUICK = {"versus": "champion", "alpha": 0.05, "resamples": 1_000}


@pytest.mark.usefixtures("thorough")
def test_promotions_together_are_decided_by_the_adjusted_p_of_all(project: Project) -> None:
    registry = prepared(project)
    batch = Batch(ROOT / "notebooks" / "promote.ipynb", registry.params, jobs=3)
    batch.begin(list(SYMBOLS), {"apply": True}, fdr=0.5)
    phases: list[str] = []

    def begin(phase: str) -> Callable[[RunOutcome], None]:
        phases.append(phase)
        if phase == "deciding":  # between comparison and decision somebody makes another version champion
            registry.transition_stage(registry.model_name("IBM"), 2, "Production")
        return lambda _: None

    outcomes = {outcome.symbol: outcome for outcome in run_family(batch, list(SYMBOLS), {"apply": True}, 0.5, begin)}
    assert phases == ["comparing", "deciding"]
    assert "StaleComparisonError" in str(outcomes["IBM"].error)
    found = read_portfolio(batch.id)
    assert found.family is not None
    p = found.family.p
    assert set(p) == set(SYMBOLS)
    for symbol in ("AAPL", "MSFT"):
        summary = outcomes[symbol].summary
        assert summary is not None
        smaller = sorted(p.values())
        adjusted = min(*(value * len(p) / (rank + 1) for rank, value in enumerate(smaller) if value >= p[symbol]), 1.0)
        assert summary["p_attempt"] == min(1, 2 * summary["p"])
        assert summary["p_entered"] == p[symbol] in {summary["p_attempt"], 1}
        assert summary["p_family"] == pytest.approx(adjusted)
        assert (summary["result"] == "promoted") == (p[symbol] < 1 and adjusted <= 0.5)
        assert '"tested": 3' in registry.history(symbol).to_json()
        comparing, deciding = (json.loads(path.read_text()) for path in project.records(symbol))
        assert "adjusted for the family once all of its 3 symbols are compared" in json.dumps(comparing)
        assert "adjusted for 3 symbols (Benjamini and Hochberg)" in json.dumps(deciding)
    assert not registry.verify(deep=True).problems
    family = {"fdr": 0.5, "symbols": 3, "p": {**p, "AAPL": 0.0123}}
    with pytest.raises(FxError, match=r"p is .* now, and was .* when the family of 3 symbols was compared"):
        registry.propose("AAPL", 2, family=family)


def test_what_is_no_notebook_for_a_batch_is_refused(project: Project) -> None:
    nbformat.write(new_notebook(cells=[]), "plain.ipynb")
    with pytest.raises(RunRefusedError, match="leaves a record and takes a symbol"):
        Batch(Path("plain.ipynb"), load_params(), jobs=1)
    with pytest.raises(RegistryUnavailableError, match="is a file of this machine"):
        Batch(ROOT / "notebooks" / "register.ipynb", load_params(), jobs=1, cluster="tcp://127.0.0.1:9")


def test_a_batch_shows_gains_with_one_sign_and_marks_promotions_without_skill(project: Project) -> None:
    """Also a batch of an earlier release, whose summaries do not say whether there was skill."""
    journal = project.folder / "outputs" / "records" / "_portfolio" / "20261123T030000Z-promote-1a2b.jsonl"
    journal.parent.mkdir(parents=True)
    done = {"verdict": "promote", "result": "promoted", "rests_on": "compared", "champion_before": None, "champion_after": 1}
    summaries = {
        "AAPL": {**done, "rmse_change": -0.01, "evidence_of_skill": True},
        "IBM": {**done, "rmse_change": -0.001, "evidence_of_skill": False},
        "MSFT": {**done, "rmse_change": 0.00298, "verdict": "keep", "result": "refused", "evidence_of_skill": False},
        "OLD": {**done, "rmse_change": -0.02},
    }
    about = {"batch": journal.stem, "notebook": "promote", "symbols": list(summaries), "actor": "a@b", "parameters": {}}
    lines: list[dict[str, object]] = [{"time": "2026-11-23T03:00:00+00:00", **about, "cluster": None}]
    for symbol, summary in summaries.items():
        end = {"symbol": symbol, "status": "completed", "summary": summary, "error": None, "seconds": 1.0}
        lines.append({"time": "2026-11-23T03:01:00+00:00", **end})
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = read_portfolio()
    table = found.table()
    assert list(table["gain"]) == ["+1.000%", "+0.100%", "-0.298%", "+2.000%"]
    assert list(table["label"]) == ["", "no evidence of skill", "", ""]
    assert dict(found.counts) == {"promoted": 2, "promoted, no evidence of skill": 1, "keep": 1}
    told = found.summary()
    assert (told["promoted"], told["keep"], told["no_evidence_of_skill"]) == (3, 1, 1)
    assert "<td>-</td>" not in found._repr_html_().partition("</table>")[0]
    assert list(found.runs["rmse_change"]) == [-0.01, -0.001, 0.00298, -0.02]  # as it always was on disk
    drawn = plots.portfolio(found)[-1]
    labels = [line.get_label() for line in drawn.get_lines()]
    assert labels[1:] == ["promote", "promote, no evidence of skill", "not promoted"]
    assert sorted(float(x) for line in drawn.get_lines()[1:] for x in line.get_xdata()) == [-0.00298, 0.001, 0.01, 0.02]  # type: ignore[arg-type, union-attr]
    mine = RunOutcome(symbol="IBM", status="completed", summary=summaries["IBM"], seconds=1.0)
    assert mine.message.endswith("promote, promoted, no evidence of skill")
