"""One run of a batch, its outcome, and the progress display."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fxhelpers.errors import FxError, ParamsError
from fxhelpers.files import sha256
from fxhelpers.kernels.stopping import is_stopped
from fxhelpers.params import NO_TELEMETRY, load_params
from fxhelpers.processes import actor
from fxhelpers.records import promotion_label, read_summary, record_name
from fxhelpers.runs import run_notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How the run of one symbol ended.

    The status is completed, failed, interrupted, refused (nothing was run),
    stopped (before it began), kept (a record of the same inputs exists) or
    lost (the cluster's scheduler is gone, and no record shows the end).
    """

    symbol: str
    status: str
    record: str | None = None  # name below the folder of records
    sha256: str | None = None  # of the record
    summary: dict[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def message(self) -> str:
        """The outcome in one line."""
        summary = self.summary or {}
        facts = [f"version {summary['version']}"] if summary.get("version") else []
        facts += [str(summary[key]) for key in ("verdict", "result", "stage") if summary.get(key)]
        facts += filter(None, [promotion_label(summary)])
        return f"{self.status} in {self.seconds:.1f} s{': ' if facts or self.error else ''}{self.error or ', '.join(facts)}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """All that a worker needs to run one notebook for one symbol."""

    symbol: str
    notebook: Path
    parameters: dict[str, Any]
    batch: str
    inputs: str
    preloaded: bool
    params_file: Path
    params_sha256: str
    registry: str
    folder: Path

    def failed(self, error: str, status: str = "failed") -> RunOutcome:
        """Return the outcome of a run without a record, or whose record nobody could read."""
        return RunOutcome(symbol=self.symbol, status="interrupted" if is_stopped(self.batch) else status, error=error)

    def not_begun(self) -> RunOutcome:
        """Return the outcome of a run whose batch was stopped first."""
        return RunOutcome(symbol=self.symbol, status="stopped", error="the batch was stopped before it began")


def run_one(run: Run) -> RunOutcome:
    """Run one notebook for one symbol."""
    if is_stopped(run.batch):
        return run.not_begun()
    os.environ.update(NO_TELEMETRY)
    try:
        _check_worker(run)
        record = run_notebook(
            run.notebook,
            run.parameters,
            preloaded=run.preloaded,
            params_file=run.params_file,
            cwd=run.folder,
            handles_signals=False,
            facts={"batch": run.batch, "inputs_sha256": run.inputs},
        ).record
    # One symbol's error is its outcome and must stop no other. Files, papermill, nbclient, ZeroMQ, Jupyter and MLflow raise
    # here, and these have no common base below Exception.
    except Exception as error:  # noqa: BLE001
        return run.failed(f"{type(error).__name__}: {error}"[:2000], "refused" if isinstance(error, FxError) else "failed")
    return recorded_outcome(run.symbol, record)


def recorded_outcome(symbol: str, record: Path) -> RunOutcome:
    """Return the outcome of a run from its record."""
    content = record.read_bytes()
    nb = json.loads(content)
    facts = nb["metadata"]["fxhelpers"]["record"]
    return RunOutcome(
        symbol=symbol,
        status=facts["status"],
        record=record_name(record),
        sha256=sha256(content),
        summary=read_summary(nb),
        error=facts.get("error"),
        seconds=float(nb["metadata"]["papermill"].get("duration") or 0.0),
    )


def _check_worker(run: Run) -> None:
    """Refuse to run on a machine with another project, params.yaml or registry than where the batch was started."""
    for path in (run.notebook, run.params_file, run.folder):
        if not path.exists():
            msg = f"{path} does not exist on {actor()}: workers of a cluster need the project's folder at the same path"
            raise ParamsError(msg)
    uri = load_params(run.params_file).mlflow.tracking_uri
    if sha256(run.params_file.read_bytes()) != run.params_sha256 or uri != run.registry:
        msg = (
            f"{run.params_file} or MLFLOW_TRACKING_URI on {actor()} differs from where the batch was started: "
            f"the registry there is {uri}, not {run.registry}; give all workers the same files and environment"
        )
        raise ParamsError(msg)


@contextmanager
def display(console: Console, *, quiet: bool = False) -> Iterator[Callable[[str, int], Callable[[RunOutcome], None]]]:
    """Show done, failed, rate and time left of each phase of a batch; with ``quiet`` only failures.

    Yields a function that begins a phase of so many runs, and returns another
    one, which shows one more outcome.
    """
    live = console.is_terminal and not quiet
    bar = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    def begin(name: str, total: int) -> Callable[[RunOutcome], None]:
        task = progress.add_task(name, total=total, counts="")
        start = time.monotonic()
        done = failed = ran = 0

        def show(outcome: RunOutcome) -> None:
            nonlocal done, failed, ran
            done, failed, ran = done + 1, failed + bool(outcome.error), ran + (outcome.status != "kept")
            seconds = time.monotonic() - start
            left = f", {(total - done) * seconds / ran:.0f} s left" if ran and done < total else ""
            counts = f"{failed} failed, {60 * ran / max(seconds, 1e-3):.0f} per minute{left}"
            progress.update(task, completed=done, counts=counts)
            if outcome.error or not (live or quiet):
                line = f"{name} {done}/{total} ({counts}): {outcome.symbol} {outcome.message}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        return show

    with Progress(*bar, TextColumn("{task.fields[counts]}"), console=console, disable=not live) as progress:
        yield begin
