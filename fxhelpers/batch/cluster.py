"""joblib's backend for a Dask cluster, with an answer for every run, whatever becomes of the workers."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from distributed import Client
from distributed.client import ClosedClientError
from joblib._dask import DaskDistributedBackend

from fxhelpers.batch.one import lost
from fxhelpers.engine import stop_batch
from fxhelpers.errors import ParamsError

_PATIENCE = "10s"
_GRACE_SECONDS = 10.0
"""For the workers to end what they do, before it is given up."""


@dataclass(frozen=True, slots=True, eq=False)
class _Callback:
    """What joblib is told an answer by, and what it is the answer to."""

    func: Any
    run: Any
    tell: Callable[[Any], None] | None

    def __call__(self, result: Any) -> None:  # noqa: ANN401 (joblib's)
        if self.tell is not None:
            self.tell(result)


class Cluster(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
    """joblib's backend; by itself that runs everything here where there is one worker, and waits for ever for a lost run."""

    def __init__(self, client: Client) -> None:
        super().__init__(client=client)
        self._again: list[Any] = []
        self._alone: Any = None

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return the number of the cluster's threads, at least two."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:  # noqa: ANN401 (joblib's)
        """Send a run to the cluster."""
        ((_, (run,), _),) = func.items

        return super().submit(func, _Callback(func, run, callback))

    async def _collect(self) -> None:
        """Pass on what comes, as joblib's own does, and an outcome for what will never come.

        Dask gives up all that a worker was to do when that kills its third
        worker, also what had no part in it. So each of these gets another
        chance, when nothing else runs.
        """
        while self._continue:
            async for future, result in self.waiting_futures:
                answer, callback = self._results.pop(future), self._callbacks.pop(future)
                if future.status == "error" and callback is not self._alone:
                    self._again.append(callback)
                    continue
                self._alone = None
                told = result if future.status == "finished" else [lost(callback.run, _named(result))]
                answer.set_result(told)
                callback(told)
            if self._again and self._alone is None and not self._results:
                self._alone = self._again.pop(0)
                super().submit(self._alone.func, self._alone)
            await asyncio.sleep(0.01)

    def stop(self, batch: str) -> None:
        """Stop a batch here and on every worker, and give up what has not ended soon after."""
        stop_batch(batch)
        with suppress(OSError, TimeoutError, RuntimeError, ClosedClientError):  # all has ended meanwhile
            self.client.run(stop_batch, batch)
            end = time.monotonic() + _GRACE_SECONDS
            while self._results and time.monotonic() < end:
                time.sleep(0.1)
            self.client.cancel(list(self._results), force=True)


def _named(result: Any) -> str:  # noqa: ANN401 (type, error and traceback, or an error, or nothing)
    error = result[1] if isinstance(result, tuple) else result
    return f"{type(error).__name__}: {error}"[:500]


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
