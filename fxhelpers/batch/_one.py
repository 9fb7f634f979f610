"""One run of a batch, its outcome, and the progress display."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fxhelpers.errors import FxError, ParamsError
from fxhelpers.files import UNREADABLE, sha256
from fxhelpers.params import NO_TELEMETRY, load_params
from fxhelpers.processes import actor
from fxhelpers.records import promotion_label, read_summary, record_name
from fxhelpers.results import Keyed
from fxhelpers.runs.running import run_notebook
from fxhelpers.runs.stopping import is_stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome(Keyed):
    """How the run of one symbol ended.

    Attributes
    ----------
    symbol : str
        Ticker.
    status : str
        completed, failed, interrupted, refused (nothing was run), stopped
        (before it began), kept (a record of the same inputs was there) or
        lost (the cluster's scheduler went away, and no record tells its end).
    record : str or None
        Name of the record below the folder of records.
    sha256 : str or None
        Of the record.
    summary : dict or None
        What the notebook's last cell says.
    error : str or None
        What ended it.
    seconds : float
        From start to end.
    """

    symbol: str
    status: str
    record: str | None = None
    sha256: str | None = None
    summary: dict[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """All of it in one line."""
        summary = self.summary or {}
        facts = [f"version {summary['version']}"] if summary.get("version") else []
        facts += [str(summary[key]) for key in ("verdict", "result", "stage") if summary.get(key)]
        facts += filter(None, [promotion_label(summary)])
        return f"{self.status} in {self.seconds:.1f} s{': ' if facts or self.error else ''}{self.error or ', '.join(facts)}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """All that a worker needs in order to run one notebook for one symbol."""

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


def not_begun(run: Run) -> RunOutcome:
    """Return the outcome of a run whose batch was stopped first."""
    return RunOutcome(symbol=run.symbol, status="stopped", error="the batch was stopped before it began")


def lost(run: Run, error: str) -> RunOutcome:
    """Return the outcome of a run whose workers died, again and again, or were given up."""
    status = "interrupted" if is_stopped(run.batch) else "failed"
    return RunOutcome(symbol=run.symbol, status=status, error=f"{error}; what its record tells is in {run.symbol}/")


def recorded(run: Run) -> RunOutcome | None:
    """Return the outcome of a run as its record tells it, "running" included; None where there is no record of it."""
    for path in sorted((load_params(run.params_file).paths.records / run.symbol).glob("*.ipynb"), reverse=True):
        with suppress(*UNREADABLE):
            content = path.read_bytes()
            nb = json.loads(content)
            told = nb["metadata"]["fxhelpers"]["record"]
            if (told.get("batch"), told.get("inputs_sha256")) != (run.batch, run.inputs):
                continue
            return RunOutcome(
                symbol=run.symbol,
                status=told["status"],
                record=record_name(path),
                sha256=sha256(content),
                summary=read_summary(nb),
                error=told.get("error"),
                seconds=float(nb["metadata"]["papermill"].get("duration") or 0.0),
            )
    return None


def cut_off(run: Run, found: RunOutcome | None) -> RunOutcome:
    """Return the outcome of a run whose scheduler was lost and whose record tells no end."""
    if found is None:
        return RunOutcome(
            symbol=run.symbol, status="lost", error="the scheduler was lost, and no record was begun; --resume runs it"
        )
    error = f"the scheduler was lost while it ran, and its record {found.record} is not closed yet; it tells how it ends"
    return replace(found, status="lost", error=error)


def run_one(run: Run) -> RunOutcome:
    """Run one notebook for one symbol."""
    if is_stopped(run.batch):
        return not_begun(run)
    os.environ.update(NO_TELEMETRY)
    try:
        _check_worker(run)
        result = run_notebook(
            run.notebook,
            run.parameters,
            preloaded=run.preloaded,
            params_file=run.params_file,
            cwd=run.folder,
            handles_signals=False,
            told={"batch": run.batch, "inputs_sha256": run.inputs},
        )
    except Exception as error:  # noqa: BLE001 (whatever happens to one symbol is its outcome, and stops no other)
        status = "interrupted" if is_stopped(run.batch) else "refused" if isinstance(error, FxError) else "failed"
        return RunOutcome(symbol=run.symbol, status=status, error=f"{type(error).__name__}: {error}"[:2000])
    return RunOutcome(
        symbol=run.symbol,
        status=result.status,
        record=record_name(result.record),
        sha256=sha256(result.record.read_bytes()),
        summary=result.summary,
        error=result.error,
        seconds=result.seconds,
    )


def _check_worker(run: Run) -> None:
    """Refuse to run where another project lies than the one that asks."""
    for path in (run.notebook, run.params_file, run.folder):
        if not path.exists():
            msg = f"{path} does not exist on {actor()}: workers of a cluster need the project's folder at the same place"
            raise ParamsError(msg)
    params = load_params(run.params_file)
    if sha256(run.params_file.read_bytes()) != run.params_sha256 or params.mlflow.tracking_uri != run.registry:
        msg = (
            f"{run.params_file} or MLFLOW_TRACKING_URI on {actor()} is another one than where the batch was started: "
            f"the registry there is {params.mlflow.tracking_uri}, not {run.registry}"
        )
        raise ParamsError(msg)


class Display:
    """Done, failed, rate and time left, of each phase of a batch; with ``quiet`` only what failed."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        told = TextColumn("{task.fields[told]}")
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            told,
        )
        self._live = console.is_terminal and not quiet
        self._progress = Progress(*columns, console=console, disable=not self._live)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, what: str, total: int) -> Callable[[RunOutcome], None]:
        """Begin a phase of so many runs; what is returned shows one outcome more."""
        task = self._progress.add_task(what, total=total, told="")
        start = time.monotonic()
        done = failed = ran = 0

        def show(outcome: RunOutcome) -> None:
            nonlocal done, failed, ran
            done, failed, ran = done + 1, failed + bool(outcome.error), ran + (outcome.status != "kept")
            seconds = time.monotonic() - start
            left = f", {(total - done) * seconds / ran:.0f} s left" if ran and done < total else ""
            told = f"{failed} failed, {60 * ran / max(seconds, 1e-3):.0f} a minute{left}"
            self._progress.update(task, completed=done, told=told)
            if outcome.error or not (self._live or self._quiet):
                line = f"{what} {done}/{total} ({told}): {outcome.symbol} {outcome.told}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

        return show
