"""Runs on a Dask cluster, with an answer for each, whatever becomes of workers and scheduler."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from distributed import Client, Future, as_completed
from distributed.client import ClosedClientError

from fxhelpers.batch._one import Run, RunOutcome, cut_off, lost, recorded, run_one
from fxhelpers.errors import ParamsError
from fxhelpers.runs.stopping import is_stopped, stop_batch

_PATIENCE = "10s"
_GRACE_SECONDS = 10.0
"""For the workers to end what they do, before it is given up."""

_SILENCE_SECONDS = 60.0
"""After a lost scheduler: for records that are being written on, before somebody else has to look at them."""


class Cluster:
    """What runs a batch's notebooks on the workers of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pending: dict[Future, Run] = {}

    def outcomes(self, runs: Iterable[Run]) -> Iterator[RunOutcome]:
        """Send runs to the cluster, and yield how each ended as it comes.

        Dask gives up all that a worker was to do when that kills its third
        worker, also what had no part in it. So each of these gets another
        chance, when nothing else runs. Where the scheduler is lost its
        workers may still end what they do: then the records tell.
        """
        again: list[Run] = []
        gone: list[Run] = []
        for run, outcome in self._answers(list(runs)):
            if isinstance(outcome, RunOutcome):
                yield outcome
            else:
                (gone if outcome is None else again).append(run)
        for alone in again:
            for run, outcome in self._answers([alone]):
                if outcome is None:
                    gone.append(run)
                else:
                    yield outcome if isinstance(outcome, RunOutcome) else lost(run, f"{type(outcome).__name__}: {outcome}"[:500])
        yield from _from_records(gone)

    def _answers(self, runs: list[Run]) -> Iterator[tuple[Run, RunOutcome | BaseException | None]]:
        """Yield the outcome of each run, or the error by which Dask gave it up, or None where the scheduler was lost."""
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
        with suppress(OSError, TimeoutError, RuntimeError, ClosedClientError):  # all has ended meanwhile
            self._client.run(stop_batch, batch)
            end = time.monotonic() + _GRACE_SECONDS
            while self._pending and time.monotonic() < end:
                time.sleep(0.1)
            self._client.cancel(list(self._pending), force=True)


def _from_records(runs: list[Run]) -> Iterator[RunOutcome]:
    """Yield how runs ended whose answers are lost, by their records, as long as these are begun and written on."""
    seen: object = None
    changed = time.monotonic()
    while runs:
        found = {run: recorded(run) for run in runs}
        yield from (outcome for outcome in found.values() if outcome and outcome.status != "running")
        runs = [run for run, outcome in found.items() if outcome is None or outcome.status == "running"]
        state = {run.symbol: found[run] for run in runs}
        if state != seen:
            seen, changed = state, time.monotonic()
        patience = _SILENCE_SECONDS if any(state.values()) else _GRACE_SECONDS
        if time.monotonic() - changed > patience or any(is_stopped(run.batch) for run in runs):
            yield from (cut_off(run, found[run]) for run in runs)
            return
        time.sleep(0.2)


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler, such as ``tcp://10.0.0.1:8786``; :class:`ParamsError` where none answers or it has no worker."""
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = f"--cluster: no Dask scheduler answers at {address}: {error}"
        raise ParamsError(msg) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            msg = f"--cluster: the scheduler at {address} has no worker; start one: dask worker {address} --nthreads 1"
            raise ParamsError(msg) from error
        yield Cluster(client)
