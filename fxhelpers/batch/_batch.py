"""Run a batch: here or on a cluster, stoppable, resumable."""

import json
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import joblib
from papermill.iorw import load_notebook_node, local_file_io_cwd

from fxhelpers.batch._run import Run, RunInputs, RunOutcome, recorded_outcome, run_one
from fxhelpers.errors import FxError, ParamsError, RegistryUnavailableError, RunRefusedError
from fxhelpers.kernels import start_preloading
from fxhelpers.kernels.stopping import catch_signals, stop_batch
from fxhelpers.notify import event_of, send
from fxhelpers.params import Params
from fxhelpers.records import PORTFOLIO, record_name
from fxhelpers.runs import RunResult, run_notebook
from fxhelpers.runs.parameters import as_declared, check_parameters, notebook_parameters, only_looks
from fxhelpers.runs.source import MARK, refuse_injected
from fxhelpers.system import actor, utc_now

logger = logging.getLogger(__name__)

_Workers = Callable[[Iterable[Run]], Iterable[RunOutcome]]
Show = Callable[[RunOutcome], None]


class Batch:
    """One notebook for many symbols, in so many threads of this process or on the workers of a Dask cluster.

    With ``preloaded`` its kernels are forked from a process that has imported the libraries. With ``resume`` a symbol that has
    a sealed record of the same inputs is not run again. :class:`RunRefusedError` if the notebook is not one of ours or takes no
    symbol; :class:`RegistryUnavailableError` if a cluster would have to share a registry that is a file of this machine.
    """

    def __init__(
        self,
        notebook: Path,
        params: Params,
        *,
        jobs: int,
        preloaded: bool = True,
        resume: bool = False,
        cluster: str | None = None,
    ) -> None:
        nb = load_notebook_node(str(notebook))
        mark = nb.metadata.get(MARK, {})
        if "notebook" not in mark or "folder" in mark:
            msg = f"{notebook}: --symbols is for a notebook that leaves a record and takes a symbol; run it without"
            raise RunRefusedError(msg)
        refuse_injected(nb, str(notebook))
        if cluster and params.registry_uri.startswith("sqlite"):
            msg = (
                f"--cluster: the registry, {params.mlflow.tracking_uri}, is a file of this machine, which workers elsewhere do "
                "not share; set mlflow.tracking_uri or MLFLOW_TRACKING_URI to a server (fx server starts one)"
            )
            raise RegistryUnavailableError(msg)
        if preloaded and not cluster:
            start_preloading()  # while this process imports and reads
        self.notebook, self.params, self._nb = notebook.resolve(), params, nb
        self.kind, self.reads = str(mark.notebook), [str(kind) for kind in mark.get("reads", [])]
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{self.kind}-{secrets.token_hex(2)}"
        self.journal = params.paths.records / PORTFOLIO / f"{self.id}.jsonl"
        self.stopped = self._begun = self.looks = False
        self.outcomes: dict[str, RunOutcome] = {}  # the last of each symbol, of runs of this process
        self.preloaded = preloaded
        self.resume = resume
        self._jobs, self._cluster = jobs, cluster
        self._stop_workers: Callable[[str], object] = stop_batch
        self._inputs = RunInputs(params, self.notebook, self.kind, self.reads)

    def note(self, **facts: object) -> None:
        """Append a line to the batch's journal; once the batch has begun, a line that cannot be written is a warning."""
        try:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": utc_now(), **facts}, default=str) + "\n")
        except OSError as error:
            if not self._begun:
                msg = f"the batch's journal cannot be written: {self.journal}: {error.strerror or error}. Nothing was run."
                raise RunRefusedError(msg) from error
            logger.warning("%s lacks a line: %s; the records of its runs are complete", self.journal, error)
        self._begun = True

    def begin(self, symbols: list[str], parameters: Mapping[str, Any], **facts: object) -> dict[str, Any]:
        """Check the parameters, write who runs what into the journal, and return the parameters as the notebook declares them."""
        declared = notebook_parameters(self._nb)
        given = as_declared(declared, parameters)
        check_parameters(declared, given, self.params)
        self.looks = only_looks(self._nb, given)
        about: dict[str, object] = {"batch": self.id, "notebook": self.kind, "symbols": symbols, "actor": actor()}
        about["params_sha256"] = self._inputs.params_sha256
        where = {"registry": self.params.mlflow.tracking_uri if self.params.mlflow.enabled else None, "cluster": self._cluster}
        self.note(**about, **where, parameters=given, jobs=None if self._cluster else self._jobs, **facts)
        return given

    def run(self, parameters: Mapping[str, Mapping[str, Any]], show: Show, *, phase: str = "") -> list[RunOutcome]:
        """Run the notebook for each symbol; ``show`` each outcome as it comes, and return them in the order of the symbols.

        Ctrl-C and SIGTERM end the batch within seconds and raise nothing: running notebooks are interrupted, their records
        closed, and no other begins.
        """
        outcomes: dict[str, RunOutcome] = {}

        def take(outcome: RunOutcome) -> None:
            outcomes[outcome.symbol] = self.outcomes[outcome.symbol] = outcome
            self.note(phase=phase, **asdict(outcome))
            with suppress(OSError):  # the terminal may be gone
                show(outcome)

        def handle(_signum: int, _frame: FrameType | None) -> None:  # the loop ends with the last kernel
            threading.Thread(target=self.stop, daemon=True).start()

        runs = []
        for symbol, given in parameters.items():
            run = self._run_or_outcome(symbol, given)
            if isinstance(run, RunOutcome):
                take(run)
            else:
                runs.append(run)
        if runs and not self.stopped:
            # papermill keeps the current folder in its class: threads that change it would not restore it
            with local_file_io_cwd(), catch_signals(handle), _workers(self._cluster, self._jobs) as (work, self._stop_workers):
                for outcome in work(runs):
                    take(outcome)
        for run in runs:
            if run.symbol not in outcomes:
                take(run.not_begun())
        return [outcomes[symbol] for symbol in parameters]

    def stop(self) -> None:
        self.stopped = True
        self._stop_workers(self.id)

    def _run_or_outcome(self, symbol: str, parameters: Mapping[str, Any]) -> Run | RunOutcome:
        """Return the run of a symbol, or its outcome if there is nothing to run."""
        parameters = {"symbol": symbol, **parameters}
        try:
            inputs = self._inputs.digest(symbol, parameters)
            kept = self._inputs.finished_run(symbol, inputs) if self.resume else None
        except RegistryUnavailableError:
            raise
        except (FxError, OSError) as error:
            return RunOutcome(symbol=symbol, status="refused", error=f"{type(error).__name__}: {error}")
        if kept:
            return replace(recorded_outcome(symbol, kept), status="kept", seconds=0.0)
        return Run(
            symbol=symbol,
            notebook=self.notebook,
            parameters=parameters,
            batch=self.id,
            inputs=inputs,
            preloaded=self.preloaded,
            params_file=self.params.file,
            params_sha256=self._inputs.params_sha256,
            registry=self.params.mlflow.tracking_uri,
            folder=Path.cwd(),
        )


@contextmanager
def _workers(cluster: str | None, jobs: int) -> Iterator[tuple[_Workers, Callable[[str], object]]]:
    """Yield a function that runs notebooks and one that stops a batch."""
    if cluster is None:
        threads = joblib.Parallel(jobs, "threading", return_as="generator_unordered", batch_size=1, pre_dispatch="all")
        yield lambda runs: threads(joblib.delayed(run_one)(run) for run in runs), stop_batch
        return
    try:
        from fxhelpers.batch._cluster import connected
    except ImportError as error:
        msg = "--cluster needs Dask: pip install 'fxhelpers[cluster]'"
        raise ParamsError(msg) from error
    with connected(cluster) as workers:
        yield workers.outcomes, workers.stop


def keep_portfolio(batch: Batch) -> RunResult:
    """Run the notebook that sums up a batch; its record is the batch's."""
    batch.note(ended=True)
    notebook, facts = batch.notebook.with_name("portfolio.ipynb"), {"batch": batch.id}
    return run_notebook(notebook, facts, preloaded=batch.preloaded, params_file=batch.params.file, facts=facts)


def send_message(batch: Batch, portfolio: RunResult | None) -> list[str]:
    """Send the one message about a batch, if it changes anything and has events, and return warnings as :func:`send` does."""
    if batch.looks:
        return []
    outcomes = sorted(batch.outcomes.values(), key=lambda outcome: outcome.symbol)
    events = [event_of(o.symbol, status=o.status, summary=o.summary, error=o.error, record=o.record) for o in outcomes]
    others = Counter(outcome.came_to for outcome, event in zip(outcomes, events, strict=True) if not event)
    if portfolio is not None:
        events.append(event_of("portfolio", status=portfolio.status, summary=None, error=portfolio.error))
    return send(
        filter(None, events),
        batch.params,
        about=f"{batch.kind} of {len(outcomes)} symbols",
        others=others,
        record=record_name(portfolio.record) if portfolio else None,
    )
