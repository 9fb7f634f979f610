"""Running a batch: joblib gives the symbols to threads of this process, or to the workers of a Dask cluster.

A run waits for its kernel, which is a process of its own, so threads are
enough: what they do themselves takes a tenth of a second a notebook.
"""

import json
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import joblib
from papermill.iorw import load_notebook_node, local_file_io_cwd

from fxhelpers.batch.inputs import Inputs
from fxhelpers.engine import MARK, RunResult, as_declared, check_parameters, notebook_parameters, run_notebook, stop_runs
from fxhelpers.errors import FxError, ParamsError, RegistryUnavailableError, RunRefusedError
from fxhelpers.files import sha256
from fxhelpers.kernels.starting import start_preloading
from fxhelpers.params import NO_TELEMETRY, Params, load_params
from fxhelpers.processes import actor, utc_now
from fxhelpers.records import PORTFOLIO, record_name
from fxhelpers.results import Keyed

_STOPPED: set[str] = set()
"""Batches of which this process starts nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Keyed):
    """How the run of one symbol ended.

    Attributes
    ----------
    symbol : str
        Ticker.
    status : str
        completed, failed, interrupted, refused (nothing was run), stopped
        (before it began) or kept (a record of the same inputs was there).
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
        return f"{self.status} in {self.seconds:.1f} s{': ' if facts or self.error else ''}{self.error or ', '.join(facts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
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


class Batch:
    """One notebook over many symbols.

    Parameters
    ----------
    notebook : Path
        One of ours, which takes a parameter ``symbol``.
    params : Params
        All of ``params.yaml``.
    jobs : int
        How many run at once on this machine.
    preloaded : bool
        Fork the kernels from a process that has imported everything.
    resume : bool
        Run only what has no sealed record of the same inputs.
    cluster : str, optional
        Address of a Dask scheduler; then its workers run the notebooks.

    Raises
    ------
    RunRefusedError
        Not a notebook of ours, or one without a symbol.
    RegistryUnavailableError
        A cluster, and a registry that is a file of this machine.
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
        if cluster and params.registry_uri.startswith("sqlite"):
            msg = (
                f"--cluster: the registry, {params.mlflow.tracking_uri}, is a file of this machine, which workers elsewhere do "
                "not share; let mlflow.tracking_uri or MLFLOW_TRACKING_URI name a server (make server starts one)"
            )
            raise RegistryUnavailableError(msg)
        if preloaded and not cluster:
            start_preloading()  # while this process imports and reads
        self.notebook, self.params, self._nb = notebook.resolve(), params, nb
        self.kind, self.reads = str(mark.notebook), [str(word) for word in mark.get("reads", [])]
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{self.kind}-{secrets.token_hex(2)}"
        self.journal = params.paths.records / PORTFOLIO / f"{self.id}.jsonl"
        self.stopped = False
        self._everywhere: Callable[[str], object] = stop_batch
        self.preloaded = preloaded
        self._jobs, self._resume, self._cluster = jobs, resume, cluster
        self._inputs = Inputs(params, self.notebook, self.kind, self.reads)

    def note(self, **facts: object) -> None:
        """Append a line to the batch's journal, beside its record-to-be."""
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": utc_now(), **facts}, default=str) + "\n")

    def begin(self, symbols: list[str], parameters: Mapping[str, Any], **facts: object) -> dict[str, Any]:
        """Write down what is about to be run, and by whom; return the parameters as the notebook declares them.

        Parameters
        ----------
        symbols : list of str
            Tickers.
        parameters : dict
            Of all of them; text is read as the type that the notebook declares.
        **facts
            What else is to be known.

        Returns
        -------
        dict

        Raises
        ------
        RunRefusedError
            An unknown parameter, of another type, or one that looks like a
            secret: nothing was written or run.
        """
        known = notebook_parameters(self._nb)
        given = as_declared(known, parameters)
        check_parameters(known, given, self.params)
        about = {
            "batch": self.id,
            "notebook": self.kind,
            "symbols": symbols,
            "actor": actor(),
            "registry": self.params.mlflow.tracking_uri,
        }
        jobs = None if self._cluster else self._jobs
        self.note(**about, parameters=given, jobs=jobs, cluster=self._cluster, **facts)
        return given

    def run(
        self, parameters: Mapping[str, Mapping[str, Any]], show: Callable[[Outcome], None], *, phase: str = ""
    ) -> list[Outcome]:
        """Run the notebook for each symbol, and return how each ended, in the order of the symbols.

        Ctrl-C and SIGTERM end it within seconds: what runs is interrupted, its
        record closed, and nothing new begins.

        Parameters
        ----------
        parameters : dict
            Symbol to the notebook's parameters.
        show : callable
            Gets each outcome as it comes.
        phase : str
            Written down with each outcome.

        Returns
        -------
        list of Outcome
        """
        outcomes: dict[str, Outcome] = {}

        def take(outcome: Outcome) -> None:
            outcomes[outcome.symbol] = outcome
            self.note(phase=phase, **asdict(outcome))
            show(outcome)

        runs = []
        for symbol, given in parameters.items():
            try:
                run = self._run_of(symbol, dict(given))
                kept = self._inputs.finished_run(symbol, run.inputs) if self._resume else None
            except RegistryUnavailableError:
                raise
            except (FxError, OSError) as error:
                take(Outcome(symbol=symbol, status="refused", error=f"{type(error).__name__}: {error}"))
                continue
            if kept:
                path, summary = kept
                digest = sha256(path.read_bytes())
                take(Outcome(symbol=symbol, status="kept", record=record_name(path), sha256=digest, summary=summary))
            else:
                runs.append(run)
        if runs and not self.stopped:
            # papermill notes the current folder in its class: from many threads it would leave it noted for ever
            with local_file_io_cwd(), self._stoppable(), _workers(self._cluster, self._jobs) as (workers, everywhere):
                self._everywhere = everywhere
                for outcome in workers(joblib.delayed(_run_one)(run) for run in runs):
                    take(outcome)
        for run in runs:
            if run.symbol not in outcomes:
                take(Outcome(symbol=run.symbol, status="stopped", error="the batch was stopped before it began"))
        return [outcomes[symbol] for symbol in parameters]

    def stop(self) -> None:
        """End what runs, and begin nothing more."""
        self.stopped = True
        _STOPPED.add(self.id)
        self._everywhere(self.id)

    def _run_of(self, symbol: str, parameters: dict[str, Any]) -> _Run:
        parameters = {"symbol": symbol, **parameters}
        return _Run(
            symbol=symbol,
            notebook=self.notebook,
            parameters=parameters,
            batch=self.id,
            inputs=self._inputs.digest(symbol, parameters),
            preloaded=self.preloaded,
            params_file=self.params.file,
            params_sha256=sha256(self.params.file.read_bytes()),
            registry=self.params.mlflow.tracking_uri,
            folder=Path.cwd(),
        )

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let signals stop the batch; in other threads than the main one, only :meth:`stop`.

        Nothing is raised: the runs end by themselves once their kernels are
        dead, and the loop that waits for them ends with the last of them.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(_signum: int, _frame: FrameType | None) -> None:
            threading.Thread(target=self.stop, daemon=True).start()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def keep_portfolio(batch: Batch) -> RunResult:
    """Run the notebook that sums a batch up, and return how that ended: its record is the batch's.

    Parameters
    ----------
    batch : Batch
        That has run.

    Returns
    -------
    RunResult
    """
    batch.note(ended=True)
    notebook = batch.notebook.with_name("portfolio.ipynb")
    told = {"batch": batch.id}
    return run_notebook(notebook, told, preloaded=batch.preloaded, params_file=batch.params.file, told=told)


def stop_batch(batch: str) -> None:
    """End the runs of a batch in this process, and let none begin."""
    _STOPPED.add(batch)
    stop_runs(batch)


def _run_one(run: _Run) -> Outcome:
    """Run one notebook for one symbol, wherever this is; whatever happens to it is its outcome."""
    if run.batch in _STOPPED:
        return Outcome(symbol=run.symbol, status="stopped", error="the batch was stopped before it began")
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
        status = "interrupted" if run.batch in _STOPPED else "refused" if isinstance(error, FxError) else "failed"
        return Outcome(symbol=run.symbol, status=status, error=f"{type(error).__name__}: {error}"[:2000])
    return Outcome(
        symbol=run.symbol,
        status=result.status,
        record=record_name(result.record),
        sha256=sha256(result.record.read_bytes()),
        summary=result.summary,
        error=result.error,
        seconds=result.seconds,
    )


def _check_worker(run: _Run) -> None:
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


_Workers = Callable[[Iterable[Any]], Iterable[Outcome]]


@contextmanager
def _workers(cluster: str | None, jobs: int) -> Iterator[tuple[_Workers, Callable[[str], object]]]:
    """Give what runs delayed calls, and what stops a batch everywhere."""
    options: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "all"}
    if cluster is None:
        with joblib.parallel_config("threading", n_jobs=jobs):
            yield joblib.Parallel(**options), stop_batch
        return
    try:
        from fxhelpers.batch.cluster import connected
    except ImportError as error:
        msg = "--cluster needs Dask: pip install 'fxhelpers[cluster]'"
        raise ParamsError(msg) from error
    with connected(cluster, _lost) as backend, joblib.parallel_config(backend):
        yield joblib.Parallel(**options), lambda batch: backend.stop(stop_batch, batch)


def _lost(run: _Run, error: str) -> Outcome:
    """Return the outcome of a run whose workers died, again and again, or were given up."""
    status = "interrupted" if run.batch in _STOPPED else "failed"
    return Outcome(symbol=run.symbol, status=status, error=f"{error}; what its record tells is in {run.symbol}/")
