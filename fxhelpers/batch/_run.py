"""The symbols of a batch, and one run: its inputs, its outcome, the progress display."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fxhelpers.errors import FxError, ParamsError, PriceDataError, TooFewDaysError
from fxhelpers.foresightx import bundle_files, bundled_symbols, companion_folders, evaluation_files, features_files
from fxhelpers.kernels.stopping import is_stopped
from fxhelpers.params import NO_TELEMETRY, Params, check_symbol, load_params, model_name
from fxhelpers.records import promotion_label, read_summary, record_name
from fxhelpers.runs import run_notebook
from fxhelpers.system import UNREADABLE, actor, sha256

if TYPE_CHECKING:
    from fxhelpers.registry import RegistryClient


_SHOWN = 5


def read_symbols(
    text: str, reads: list[str], params: Params, notes: list[str] | None = None, *, option: str = "--symbols"
) -> list[str]:
    """Return the symbols of an option, each once, in its order.

    The text is ``AAPL,MSFT``; or ``@file``, with symbols between commas, blanks or lines, and comments after #; or ``all``: the
    symbols with the first thing that the notebook reads, prices, a bundle, or versions in the registry. ``notes`` gets a line
    for each symbol that is listed more than once, or left out by ``all`` because it has too few prices.
    """
    notes = [] if notes is None else notes
    if text == "all":
        return _all_symbols(reads, params, notes)
    where = option
    if text.startswith("@"):
        where = text.removeprefix("@")
        try:
            lines = Path(where).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{option} {text}: {where} cannot be read: {error}"
            raise ParamsError(msg) from error
        text = "\n".join(line.partition("#")[0] for line in lines)
    counts = Counter(text.replace(",", " ").split())
    if not counts:
        msg = f"{where}: no symbol; expected AAPL,MSFT or @file or all"
        raise ParamsError(msg)
    notes += [f"{symbol} is listed {count} times in {where}, and run once" for symbol, count in counts.items() if count > 1]
    problems = list(filter(None, map(_symbol_problem, counts)))
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        msg = f"{where}: {'; '.join(problems[:_SHOWN])}{more}; nothing was run"
        raise ParamsError(msg)
    return list(counts)


def _symbol_problem(symbol: str) -> str:
    try:
        check_symbol(symbol)
    except ParamsError as error:
        return str(error)
    return ""


def _all_symbols(reads: list[str], params: Params, notes: list[str]) -> list[str]:
    first = reads[0] if reads else "versions"
    if first == "prices":
        from fxhelpers.prices import known_symbols

        symbols, where = known_symbols(params.prices), f"prices.source: {params.prices.source}"
        if symbols is None:
            msg = f"--symbols all: prices.source {params.prices.source} cannot list its symbols; name them, or give @file"
            raise ParamsError(msg)
        problems = {symbol: _price_problem(symbol, params) for symbol in symbols}
        notes += [f"--symbols all leaves out {symbol}: {problem}" for symbol, problem in problems.items() if problem]
        symbols = [symbol for symbol in symbols if not problems[symbol]]
    elif first == "bundle":
        symbols, where = bundled_symbols(params.paths), str(params.paths.models)
    else:
        from fxhelpers.registry import RegistryClient
        from fxhelpers.registry.storage import registered_symbols

        symbols, where = registered_symbols(RegistryClient(params)), params.mlflow.tracking_uri
    if not symbols:
        msg = "; ".join([f"--symbols all: there is none in {where}", *notes])
        raise ParamsError(msg)
    return symbols


def _price_problem(symbol: str, params: Params) -> str:
    """Return why no notebook can use a symbol's prices; "" if one can, and for broken prices, which its run reports."""
    from fxhelpers.prices import load_prices

    try:
        load_prices(symbol, params.prices)
    except (ParamsError, TooFewDaysError) as error:
        return str(error)
    except PriceDataError:
        pass
    return ""


class RunInputs:
    """What the runs of a notebook start from: the notebook, all settings, and the files and versions that it reads."""

    def __init__(self, params: Params, notebook: Path, kind: str, reads: list[str]) -> None:
        self._params, self._kind, self._reads = params, kind, reads
        self.params_sha256 = sha256(params.file.read_bytes())
        self._settings = {
            "notebook": sha256(notebook.read_bytes()),
            "params": self.params_sha256,
            "registry": params.mlflow.tracking_uri,
        }

    def digest(self, symbol: str, parameters: Mapping[str, Any]) -> str:
        """Return the SHA-256 of all that a run of a symbol starts from.

        For a preview, champion and number of attempts are part of it, but not for a run that itself changes them.
        """
        models = Path(parameters["model_path"]).parent if parameters.get("model_path") else self._params.paths.models
        state = {kind: self._state(kind, symbol, models) for kind in self._reads}
        if "versions" in state and not parameters.get("apply"):
            state["decided"] = self._decided(model_name(symbol))
        facts = {**self._settings, "symbol": symbol, "parameters": dict(parameters), **state}
        return sha256(json.dumps(facts, sort_keys=True, default=str).encode())

    def finished_run(self, symbol: str, digest: str) -> Path | None:
        """Return the completed record of the same inputs, or None.

        Its decisions must be sealed with its present bytes and, for a notebook that decides about versions, be the last ones.
        """
        for path in sorted((self._params.paths.records / symbol).glob(f"*-{self._kind}-*.ipynb"), reverse=True):
            try:
                content = path.read_bytes()
                if digest.encode() not in content:
                    continue
                nb = json.loads(content)
                record, summary = nb["metadata"]["fxhelpers"]["record"], read_summary(nb)
            except UNREADABLE:  # not a record
                continue
            if record.get("inputs_sha256") != digest or record.get("status") != "completed" or summary is None:
                continue
            if all(self._is_sealed(name, run_id, sha256(content)) for name, run_id in record.get("decisions", [])):
                return path
        return None

    @cached_property
    def _registry(self) -> "RegistryClient":
        from fxhelpers.registry import RegistryClient

        return RegistryClient(self._params)

    def _is_sealed(self, name: str, run_id: str, digest: str) -> bool:
        from fxhelpers.registry.ledger_store import read_ledger

        ledger = read_ledger(self._registry, name)
        if "versions" in self._reads and ledger.outcomes and ledger.outcomes[-1].run_id != run_id:
            return False
        return any(d.seal_facts.sha256 == digest for d in ledger.decisions if d.run_id == run_id)

    def _decided(self, name: str) -> object:
        from fxhelpers.registry.ledger_store import read_ledger

        champion = self._registry.champion_identity(name)
        serves = [champion.number, champion.bundle] if champion else None
        return [serves, read_ledger(self._registry, name).attempts]

    def _state(self, kind: str, symbol: str, models: Path) -> object:
        if kind == "prices":
            return [self._params.prices.model_dump(mode="json", exclude={"folder"}), self._prices_version(symbol)]
        if kind == "versions":
            from fxhelpers.registry import BUNDLE_DIGEST

            return [[v.version, v.tags.get(BUNDLE_DIGEST)] for v in self._registry.versions(model_name(symbol))]
        folders = {what: companion_folders(what, models, self._params.paths) for what in ("metadata", "results", "features")}
        if kind == "bundle":
            files = bundle_files([models.absolute(), *folders["metadata"]], symbol) + features_files(folders["features"], symbol)
        else:
            files = evaluation_files(folders["results"], symbol)
        return sorted([path.name, sha256(path.read_bytes())] for path in files)

    def _prices_version(self, symbol: str) -> str:
        """Return the digest of the prices' file, "" without one, or the version of the sample; for a download, the day."""
        from fxhelpers.prices import find_file

        prices = self._params.prices
        if prices.source == "csv":
            try:
                return sha256(find_file(symbol, prices).read_bytes())
            except (ParamsError, PriceDataError):  # the run says why
                return ""
        return version("bokeh_sampledata") if prices.source == "sample" else f"{datetime.now(UTC):%Y-%m-%d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How the run of one symbol ended.

    The status is completed, failed, interrupted, refused (nothing was run), stopped (before it began), kept (a record of the
    same inputs exists) or lost (the cluster's scheduler is gone, and no record shows the end).
    """

    symbol: str
    status: str
    record: str | None = None  # name below the folder of records
    sha256: str | None = None  # of the record
    summary: dict[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def came_to(self) -> str:
        """The result or verdict of a completed run, or else its status."""
        values = self.summary or {}
        return str((not self.error and (values.get("result") or values.get("verdict"))) or self.status)

    @property
    def message(self) -> str:
        summary = self.summary or {}
        facts = [f"version {summary['version']}"] if summary.get("version") else []
        facts += [str(summary[key]) for key in ("verdict", "result", "stage") if summary.get(key)]
        facts += filter(None, [promotion_label(summary)])
        return f"{self.status} in {self.seconds:.1f} s{': ' if facts or self.error else ''}{self.error or ', '.join(facts)}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
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
        return RunOutcome(symbol=self.symbol, status="stopped", error="the batch was stopped before it began")


def run_one(run: Run) -> RunOutcome:
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

    Yields a function that begins a phase of so many runs, and returns another one, which shows one more outcome.
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
