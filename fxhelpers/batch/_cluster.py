"""Runs on a Dask cluster, with an outcome for each, whatever happens to workers and scheduler."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from distributed import Client, Future, as_completed

from fxhelpers.batch._run import Run, RunOutcome, recorded_outcome, run_one
from fxhelpers.errors import ParamsError
from fxhelpers.kernels.stopping import is_stopped, stop_batch
from fxhelpers.params import load_params
from fxhelpers.system import UNREADABLE

_CONNECT_TIMEOUT = "10s"
_GRACE_SECONDS = 10.0  # for workers to end their runs before these are given up

_SILENCE_SECONDS = 60.0  # after a lost scheduler: how long no record may change before its run counts as lost


class Cluster:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._pending: dict[Future, Run] = {}

    def outcomes(self, runs: Iterable[Run]) -> Iterator[RunOutcome]:
        """Send runs to the cluster, and yield each outcome as it comes.

        If a run kills three workers, Dask gives up all runs of the third one: each of these is repeated, alone. If the scheduler
        is lost, its workers may still complete their runs: then the records show it.
        """
        again: list[Run] = []
        gone: list[Run] = []
        for run, outcome in self._results(list(runs)):
            if isinstance(outcome, RunOutcome):
                yield outcome
            else:
                (gone if outcome is None else again).append(run)
        for run, outcome in (pair for alone in again for pair in self._results([alone])):
            if outcome is None:
                gone.append(run)
            elif isinstance(outcome, RunOutcome):
                yield outcome
            else:
                error = f"{type(outcome).__name__}: {outcome}"[:500]
                yield run.failed(f"{error}; its record, if any, is in {run.symbol}/")
        yield from _from_records(gone)

    def _results(self, runs: list[Run]) -> Iterator[tuple[Run, RunOutcome | BaseException | None]]:
        """Yield each run's outcome, or the error with which Dask gave it up, or None if the scheduler was lost."""
        if self._client.status != "running":
            yield from ((run, None) for run in runs)
            return
        self._pending = {self._client.submit(run_one, run, pure=False): run for run in runs}
        for future, result in as_completed(list(self._pending), loop=self._client.loop, with_results=True, raise_errors=False):
            run = self._pending.pop(future)
            if future.status == "error":
                yield run, future.exception()
            else:
                yield run, result if isinstance(result, RunOutcome) else None

    def stop(self, batch: str) -> None:
        """Stop a batch here and on every worker, and give up what has not ended soon after."""
        stop_batch(batch)
        with suppress(OSError, TimeoutError, RuntimeError):  # all has ended meanwhile
            self._client.run(stop_batch, batch)
            end = time.monotonic() + _GRACE_SECONDS
            while self._pending and time.monotonic() < end:
                time.sleep(0.1)
            if self._pending:
                self._client.cancel(list(self._pending), force=True)


def _from_records(runs: list[Run]) -> Iterator[RunOutcome]:
    """Yield the outcomes of runs without a result from their records, as long as these change."""
    before: object = None
    changed = time.monotonic()
    while runs:
        outcomes = {run: _find_outcome(run) for run in runs}
        yield from (outcome for outcome in outcomes.values() if outcome and outcome.status != "running")
        left = {run: outcome for run, outcome in outcomes.items() if outcome is None or outcome.status == "running"}
        runs = list(left)
        if left != before:
            before, changed = left, time.monotonic()
        patience = _SILENCE_SECONDS if any(left.values()) else _GRACE_SECONDS
        if time.monotonic() - changed > patience or any(is_stopped(run.batch) for run in runs):
            yield from (_lost(run, outcome) for run, outcome in left.items())
            return
        time.sleep(0.2)


def _find_outcome(run: Run) -> RunOutcome | None:
    """Return the outcome of a run from its record, "running" included; None without a record."""
    for path in sorted((load_params(run.params_file).paths.records / run.symbol).glob("*.ipynb"), reverse=True):
        with suppress(*UNREADABLE):
            facts = json.loads(path.read_bytes())["metadata"]["fxhelpers"]["record"]
            if (facts.get("batch"), facts.get("inputs_sha256")) == (run.batch, run.inputs):
                return recorded_outcome(run.symbol, path)
    return None


def _lost(run: Run, running: RunOutcome | None) -> RunOutcome:
    if running is None:
        error = "the scheduler was lost, and no record was begun; --resume runs it"
        return RunOutcome(symbol=run.symbol, status="lost", error=error)
    error = f"the scheduler was lost during the run; its record {running.record} is not closed yet, and will show how it ends"
    return replace(running, status="lost", error=error)


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler, such as ``tcp://10.0.0.1:8786``; :class:`ParamsError` if it does not answer or has no worker."""
    try:
        client = Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = f"--cluster: no Dask scheduler answers at {address}: {error}"
        raise ParamsError(msg) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_TIMEOUT)
        except TimeoutError as error:
            msg = f"--cluster: the scheduler at {address} has no worker; start one: dask worker {address} --nthreads 1"
            raise ParamsError(msg) from error
        yield Cluster(client)
