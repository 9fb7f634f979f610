"""Running a batch: locally or on a cluster, stoppable, resumable; symbols decided together."""

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import joblib
from papermill.iorw import load_notebook_node, local_file_io_cwd

from fxhelpers.batch._one import Run, RunOutcome, not_begun, run_one
from fxhelpers.batch._symbols import RunInputs
from fxhelpers.errors import FxError, ParamsError, RegistryUnavailableError, RunRefusedError
from fxhelpers.files import sha256
from fxhelpers.kernels import start_preloading
from fxhelpers.params import Params
from fxhelpers.processes import actor, utc_now
from fxhelpers.records import PORTFOLIO, record_name
from fxhelpers.runs.parameters import as_declared, check_parameters, notebook_parameters
from fxhelpers.runs.running import RunResult, run_notebook
from fxhelpers.runs.source import MARK, refuse_injected
from fxhelpers.runs.stopping import caught, stop_batch

logger = logging.getLogger(__name__)


class Batch:
    """One notebook over many symbols, on this machine, so many at once, or on the workers of a Dask cluster.

    With ``preloaded`` its kernels are forked from a process that has imported
    everything; with ``resume`` only those run that have no sealed record of
    the same inputs.

    :class:`RunRefusedError` where the notebook is not one of ours, or takes no
    symbol; :class:`RegistryUnavailableError` where a cluster is to share a
    registry that is a file of this machine.
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
                "not share; let mlflow.tracking_uri or MLFLOW_TRACKING_URI name a server (fx server starts one)"
            )
            raise RegistryUnavailableError(msg)
        if preloaded and not cluster:
            start_preloading()  # while this process imports and reads
        self.notebook, self.params, self._nb = notebook.resolve(), params, nb
        self.kind, self.reads = str(mark.notebook), [str(word) for word in mark.get("reads", [])]
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{self.kind}-{secrets.token_hex(2)}"
        self.journal = params.paths.records / PORTFOLIO / f"{self.id}.jsonl"
        self.stopped = self._begun = False
        self._everywhere: Callable[[str], object] = stop_batch
        self.preloaded = preloaded
        self._jobs, self._resume, self._cluster = jobs, resume, cluster
        self._inputs = RunInputs(params, self.notebook, self.kind, self.reads)

    def note(self, **facts: object) -> None:
        """Append a line to the batch's journal, beside its record-to-be; once it has begun, one that is lost is a warning."""
        try:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": utc_now(), **facts}, default=str) + "\n")
        except OSError as error:
            if not self._begun:
                msg = f"the batch's journal cannot be written: {self.journal}: {error.strerror or error}. Nothing was run."
                raise RunRefusedError(msg) from error
            logger.warning("%s lacks a line: %s; the records of its runs have all of it", self.journal, error)
        self._begun = True

    def begin(self, symbols: list[str], parameters: Mapping[str, Any], **facts: object) -> dict[str, Any]:
        """Write down what is about to be run, and by whom; return the parameters as the notebook declares them.

        Nothing is written where they are not fit to be run with.
        """
        known = notebook_parameters(self._nb)
        given = as_declared(known, parameters)
        check_parameters(known, given, self.params)
        about = {"batch": self.id, "notebook": self.kind, "symbols": symbols, "actor": actor()}
        where = {"registry": self.params.mlflow.tracking_uri if self.params.mlflow.enabled else None, "cluster": self._cluster}
        self.note(**about, **where, parameters=given, jobs=None if self._cluster else self._jobs, **facts)
        return given

    def run(
        self, parameters: Mapping[str, Mapping[str, Any]], show: Callable[[RunOutcome], None], *, phase: str = ""
    ) -> list[RunOutcome]:
        """Run the notebook for each symbol, and return how each ended, in the order of the symbols.

        Ctrl-C and SIGTERM end it within seconds: what runs is interrupted, its
        record closed, and nothing new begins. ``show`` gets each outcome as
        it comes.
        """
        outcomes: dict[str, RunOutcome] = {}

        def take(outcome: RunOutcome) -> None:
            outcomes[outcome.symbol] = outcome
            self.note(phase=phase, **asdict(outcome))
            with suppress(OSError):  # the terminal may be gone
                show(outcome)

        runs = []
        for symbol, given in parameters.items():
            run = self._run_or_outcome(symbol, given)
            if isinstance(run, RunOutcome):
                take(run)
            else:
                runs.append(run)
        if runs and not self.stopped:
            # papermill notes the current folder in its class: from many threads it would leave it noted for ever
            with local_file_io_cwd(), self._stoppable(), _workers(self._cluster, self._jobs) as (workers, everywhere):
                self._everywhere = everywhere
                for outcome in workers(runs):
                    take(outcome)
        for run in runs:
            if run.symbol not in outcomes:
                take(not_begun(run))
        return [outcomes[symbol] for symbol in parameters]

    def stop(self) -> None:
        """End what runs, and begin nothing more."""
        self.stopped = True
        self._everywhere(self.id)

    def _run_or_outcome(self, symbol: str, parameters: Mapping[str, Any]) -> Run | RunOutcome:
        """Return what is to be run for a symbol, or its outcome where nothing is."""
        parameters = {"symbol": symbol, **parameters}
        try:
            inputs = self._inputs.digest(symbol, parameters)
            kept = self._inputs.finished_run(symbol, inputs) if self._resume else None
        except RegistryUnavailableError:
            raise
        except (FxError, OSError) as error:
            return RunOutcome(symbol=symbol, status="refused", error=f"{type(error).__name__}: {error}")
        if kept:
            path, summary = kept
            digest = sha256(path.read_bytes())
            return RunOutcome(symbol=symbol, status="kept", record=record_name(path), sha256=digest, summary=summary)
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
    def _stoppable(self) -> Iterator[None]:
        """Let signals stop the batch; in other threads than the main one, only :meth:`stop`.

        Nothing is raised: the runs end by themselves once their kernels are
        dead, and the loop that waits for them ends with the last of them.
        """

        def handle(_signum: int, _frame: FrameType | None) -> None:
            threading.Thread(target=self.stop, daemon=True).start()

        with caught(handle):
            yield


def keep_portfolio(batch: Batch) -> RunResult:
    """Run the notebook that sums a batch up, and return how that ended: its record is the batch's."""
    batch.note(ended=True)
    notebook = batch.notebook.with_name("portfolio.ipynb")
    told = {"batch": batch.id}
    return run_notebook(notebook, told, preloaded=batch.preloaded, params_file=batch.params.file, told=told)


_Workers = Callable[[Iterable[Run]], Iterable[RunOutcome]]


@contextmanager
def _workers(cluster: str | None, jobs: int) -> Iterator[tuple[_Workers, Callable[[str], object]]]:
    """Give what yields the outcomes of runs, and what stops a batch everywhere."""
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


COMPARING, DECIDING = "comparing", "deciding"


def run_family(
    batch: Batch,
    symbols: list[str],
    parameters: Mapping[str, Any],
    fdr: float,
    begin: Callable[[str], Callable[[RunOutcome], None]],
) -> list[RunOutcome]:
    """Compare all symbols, adjust every p for all of them, then decide about each.

    A decision is made only if champion, versions, days and attempts are still
    those of the comparison. Symbols whose comparison failed are not decided
    about. ``begin`` gets the name of a phase that begins, and returns what
    gets each of its outcomes as it comes.
    """
    from fxhelpers.policy import Family

    wrong = _wrong(batch, parameters)
    if wrong:
        msg = f"--fdr{wrong}"
        raise ParamsError(msg)
    family: dict[str, Any] = {"fdr": fdr, "symbols": len(symbols)}
    Family.read(family)
    look = {**parameters, "apply": False, "family": family}
    compared = batch.run(dict.fromkeys(symbols, look), begin(COMPARING), phase=COMPARING)
    done = {o.symbol: o.summary for o in compared if o.summary is not None and not o.error}
    failed = [outcome for outcome in compared if outcome.symbol not in done]
    if batch.stopped or not done:
        return failed
    # a failed comparison counts as one without any gain; where no test decides, because there is no champion, none can err
    entered = {symbol: done[symbol].get("p_entered") if symbol in done else 1.0 for symbol in symbols}
    family["p"] = {symbol: p for symbol, p in entered.items() if p is not None}
    batch.note(family=family)
    chosen = {
        symbol: {**parameters, "version": told["version"], "champion": _pinned(told), "family": family}
        for symbol, told in done.items()
    }
    return failed + batch.run(chosen, begin(DECIDING), phase=DECIDING)


def _wrong(batch: Batch, parameters: Mapping[str, Any]) -> str:
    """Return why symbols cannot be decided about together, before any is compared; "" where they can."""
    rules = batch.params.promotion
    taken = sorted({"version", "champion", "challengers", "family", "override"} & set(parameters))
    tests = [gate for gate in rules.gates if gate.test and gate.severity == "fail" and gate.versus == "champion"]
    agreed = parameters.get("approved_by") and parameters.get("reason")
    wrong = {
        f" is for promote, which decides; {batch.kind} does not": batch.kind != "promote",
        f" compares every symbol's challenger with its champion; -p {', '.join(taken)} cannot be given beside it": taken,
        ": model_registry.compare_metrics is false in params.yaml, so nothing would be compared": (
            not batch.params.model_registry.compare_metrics
        ),
        ": no gate in params.yaml tests a challenger against the champion and decides, so there is no p to adjust": not tests,
        ": promotion.approval in params.yaml asks for approved_by and reason: give both with -p, for all symbols": (
            rules.approval.Production.required and parameters.get("apply") and not agreed
        ),
    }
    return next((message for message, applies in wrong.items() if applies), "")


def _pinned(told: Mapping[str, Any]) -> int:
    """Return the champion that a decision has to find; 0 where there is none, or where the version itself is it."""
    against = told["against"]
    return int(against) if against is not None and against != told["version"] else 0
