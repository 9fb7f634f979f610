"""The papermill engine that keeps the record.

Papermill loads this module through its entry point. For notebooks that carry
our mark in their metadata the engine writes the executed notebook to
``outputs/records/SYMBOL/``, whole at any moment, with a status that is true
however the run ends. Any other notebook goes to papermill's own engine.
"""

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import nbformat
import papermill.execute
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.log import logger
from papermill.translators import papermill_translators
from papermill.utils import find_first_tagged_cell_index
from traitlets.config import Config

from fxhelpers.errors import FxError, ParamsError, RunRefusedError
from fxhelpers.files import write_atomic
from fxhelpers.params import Params, check_symbol, find_params_file, load_params, nearest, yaml_value
from fxhelpers.records import read_summary, record_folder

MARK = "fxhelpers"
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


class NotRunError(click.ClickException, RunRefusedError):
    """A notebook was refused; papermill's command line prints it in one line."""


class RecordManager(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types
    """Papermill's execution state, which saves the record too, at once or not at all."""

    record: Path

    def save(self, **kwargs: Any) -> None:  # noqa: ANN401 (papermill's signature)
        """Write the record, and what papermill itself writes."""
        write_atomic(self.record, nbformat.writes(self.nb).encode())
        super().save(**kwargs)

    def cell_exception(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Mark the cell and the notebook as failed, and put down the error."""
        super().cell_exception(cell, cell_index=cell_index, **kwargs)
        error = kwargs.get("exception")
        status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
        message = (
            f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else f"{type(error).__name__}: {error}"
        )
        self.nb.metadata[MARK]["record"].update(status=status, error=message[:2000])

    def interrupt(self, error: BaseException) -> None:
        """Put down a run that ended without an answer from the kernel: the cell that was running failed."""
        started = [cell for cell in self.nb.cells if cell.metadata.papermill["start_time"]]
        cell = started[-1] if started else self.nb.cells[0]
        if cell.metadata.papermill["status"] != self.FAILED:
            self.cell_exception(cell, exception=error)
        if cell.cell_type == "code":
            line = f"{type(error).__name__}: {error}"
            output = nbformat.v4.new_output("error", ename=type(error).__name__, evalue=str(error), traceback=[line])
            cell.outputs.append(output)

    def notebook_complete(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Close the record with its true status."""
        record = self.nb.metadata[MARK]["record"]
        record["ended"] = _now().isoformat(timespec="milliseconds")
        if record["status"] == "running":
            record["status"] = "completed"
        super().notebook_complete(**kwargs)


class RecordEngine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """Runs our notebooks and keeps each as a record; passes others on."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,  # noqa: ANN401 (nbformat's nodes have no types)
        kernel_name: str,
        output_path: str | None = None,
        *,
        kept: list[RecordManager] | None = None,
        **kwargs: Any,  # noqa: ANN401 (papermill's signature)
    ) -> Any:  # noqa: ANN401
        """Check the parameters, run the notebook and keep the record, however it ends."""
        if MARK not in nb.metadata:
            return NBClientEngine.execute_notebook(nb, kernel_name, output_path=output_path, **kwargs)
        try:
            params, symbol = _check(nb, kernel_name)
        except FxError as error:
            raise NotRunError(str(error)) from error
        record = _begin(nb, params, symbol)
        options = {key: kwargs.pop(key) for key in ("progress_bar", "log_output", "autosave_cell_every") if key in kwargs}
        manager = RecordManager(nb, output_path=output_path, **options)
        manager.record = record
        if kept is not None:
            kept.append(manager)
        manager.notebook_start()
        try:
            with _terminable():
                cls.execute_managed_notebook(manager, kernel_name, params=params, log_output=manager.log_output, **kwargs)
        except BaseException as error:
            manager.interrupt(error)
            raise
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: RecordManager,
        kernel_name: str,
        *,
        params: Params,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **kwargs: Any,  # noqa: ANN401 (papermill's signature)
    ) -> None:
        """Run the cells in a kernel that knows its record and its params.yaml."""
        kwargs.pop("input_path", None)
        client = PapermillNotebookClient(
            nb_man,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log=logger,
            config=Config(KernelManager={"transport": "ipc"}),  # not over TCP, where any local user could listen
            shutdown_kernel="immediate",  # all is written by then; a graceful end costs another second
            **kwargs,
        )
        client.execute(env={**os.environ, **_kernel_environment(params, nb_man.record)})


def notebook_parameters(nb: Any, kernel_name: str = "python3") -> dict[str, Any]:  # noqa: ANN401
    """Return the parameters of a notebook: name to papermill's description of type, default and help."""
    index = find_first_tagged_cell_index(nb, "parameters")
    if index < 0:
        return {}
    translator = papermill_translators.find_translator(kernel_name, "python")
    return {p.name: p for p in translator.inspect(nb.cells[index])}


def _check(nb: Any, kernel_name: str) -> tuple[Params, str]:  # noqa: ANN401
    """Refuse parameters that the notebook does not have, or of another type; return settings and symbol."""
    known = notebook_parameters(nb, kernel_name)
    given = dict(nb.metadata.papermill.get("parameters", {}))
    for name, value in given.items():
        if name.startswith("PAPERMILL_"):
            continue
        if name not in known:
            msg = f"unknown parameter {name!r}{nearest(name, known)}; this notebook takes {', '.join(known)}. Nothing was run."
            raise RunRefusedError(msg)
        _check_type(name, value, known[name].inferred_type_name)
    source = Path(nb.metadata.papermill.get("input_path") or ".")
    params = load_params(_params_for(source))
    symbol = given.get("symbol", known["symbol"].default.strip("\"'") if "symbol" in known else params.default_symbol)
    return params, check_symbol(symbol)


def _check_type(name: str, value: object, expected: str) -> None:
    types = _TYPES.get(expected)
    if types is None or (isinstance(value, types) and (expected == "bool" or not isinstance(value, bool))):
        return
    how = {"str": f"-r {name} {value}", "bool": f"-p {name} True"}.get(expected, f"-y '{name}: …'")
    msg = (
        f"parameter {name} has to be {expected}, found {type(value).__name__} {value!r}; with papermill: {how}. Nothing was run."
    )
    raise RunRefusedError(msg)


def _params_for(source: Path) -> Path:
    """Return the params.yaml that applies to the current folder, or else to the notebook's."""
    try:
        return find_params_file()
    except FxError:
        return find_params_file(source.resolve().parent)


def _begin(nb: Any, params: Params, symbol: str) -> Path:  # noqa: ANN401
    """Name the record and write who and what into the notebook."""
    now, kind = _now(), nb.metadata[MARK]["notebook"]
    name = f"{now:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(2)}.ipynb"
    path = record_folder(params.paths.records, symbol) / name
    nb.metadata[MARK]["record"] = {
        "name": name,
        "symbol": symbol,
        "status": "running",
        "started": now.isoformat(timespec="milliseconds"),
    }
    return path


def _kernel_environment(params: Params, record: Path) -> dict[str, str]:
    return {
        "FX_PARAMS": str(params.file),
        "FX_RECORD": str(record),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one would leave a record without figures
    }


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that the record can be closed; only the main thread can."""

    def leave(signum: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How one notebook ended.

    Attributes
    ----------
    record : Path
        The executed notebook.
    status : str
        completed, failed or interrupted.
    summary : dict or None
        What its last cell says; None where it did not get that far.
    error : str or None
        The error that ended it.
    seconds : float
        From start to end.
    """

    record: Path
    status: str
    summary: dict[str, Any] | None
    error: str | None
    seconds: float


def run_notebook(path: Path, parameters: dict[str, Any], *, progress: bool = False) -> RunResult:
    """Run one of our notebooks in a kernel of its own and keep its record.

    Parameters
    ----------
    path : Path
        The notebook.
    parameters : dict
        Text is read as the type that the notebook declares.
    progress : bool
        Show papermill's progress bar.

    Returns
    -------
    RunResult
        Also of a run whose cell raised an error; ``error`` says which.

    Raises
    ------
    RunRefusedError
        Unknown parameters, or values of another type: nothing was run.
    """
    known = notebook_parameters(load_notebook_node(str(path)))
    typed = {
        name: _typed(value, known[name].inferred_type_name) if name in known else value for name, value in parameters.items()
    }
    kept: list[RecordManager] = []
    with contextlib.suppress(PapermillExecutionError):  # the record has it, and so has the result
        papermill.execute.execute_notebook(path, None, typed, progress_bar=progress, kept=kept)
    nb = kept[0].nb
    return RunResult(
        record=kept[0].record,
        status=nb.metadata[MARK]["record"]["status"],
        summary=read_summary(nb),
        error=nb.metadata[MARK]["record"].get("error"),
        seconds=float(nb.metadata.papermill["duration"]),
    )


def _typed(value: object, expected: str) -> object:
    """Read text from a command line as the type that the notebook declares; leave what cannot be for the check."""
    if not isinstance(value, str) or expected not in _TYPES or expected == "str":
        return value
    try:
        read = yaml_value(value)
    except ParamsError:
        return value
    return float(read) if expected == "float" and type(read) is int else read


papermill_engines.register("fxhelpers", RecordEngine)
papermill_engines.register(None, RecordEngine)  # the default for a plain `papermill`; only marked notebooks are ours
