"""The engine and the state that it keeps: a notebook runs, and its record tells the truth however that ends."""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn

import click
import nbformat
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager
from papermill.log import logger
from traitlets.config import Config

from fxhelpers.engine.checking import check_run
from fxhelpers.errors import FxError, RunRefusedError
from fxhelpers.files import write_atomic
from fxhelpers.params import NO_TELEMETRY, Params

MARK = "fxhelpers"
"""Key in a notebook's metadata that makes it one of ours."""


class NotRunError(click.ClickException, RunRefusedError):
    """A notebook was refused; papermill's command line prints it in one line."""


class RecordManager(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types
    """Papermill's execution state, which saves the record too, at once or not at all."""

    record: Path
    stopped = False

    def save(self, **kwargs: Any) -> None:  # noqa: ANN401 (papermill's signature)
        """Write the record, and what papermill itself writes."""
        write_atomic(self.record, nbformat.writes(self.nb).encode())
        super().save(**kwargs)

    def cell_exception(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Mark the cell and the notebook as failed, and put down the error."""
        super().cell_exception(cell, cell_index=cell_index, **kwargs)
        error = kwargs.get("exception")
        status = "interrupted" if self.stopped or isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
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
            params, symbol = check_run(nb, kernel_name)
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
        with TemporaryDirectory(prefix="fx-") as sockets:  # ours alone: no other user listens, no other run collides
            client = PapermillNotebookClient(
                nb_man,
                timeout=execution_timeout,
                startup_timeout=start_timeout,
                kernel_name=kernel_name,
                log=logger,
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
                shutdown_kernel="immediate",  # all is written by then; a graceful end costs another second
                **kwargs,
            )
            with _stoppable(nb_man, client):
                client.execute(env={**os.environ, **_kernel_environment(params, nb_man.record)})


def _begin(nb: Any, params: Params, symbol: str) -> Path:  # noqa: ANN401
    """Name the record and write who and what into the notebook."""
    now, kind = _now(), nb.metadata[MARK]["notebook"]
    name = f"{now:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(2)}.ipynb"
    path = params.paths.records / symbol / name
    nb.metadata[MARK]["record"] = {
        "name": name,
        "symbol": symbol,
        "status": "running",
        "started": now.isoformat(timespec="milliseconds"),
    }
    return path


def _kernel_environment(params: Params, record: Path) -> dict[str, str]:
    return {
        **NO_TELEMETRY,
        "FX_PARAMS": str(params.file),
        "FX_RECORD": str(record),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one would leave a record without figures
    }


@contextmanager
def _stoppable(manager: RecordManager, client: PapermillNotebookClient) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run with a closed record; only the main thread can.

    The kernel is killed first: an exception that is raised in a signal
    handler can get lost in somebody's clean-up, a dead kernel cannot.
    """

    def stop(signum: int, _frame: FrameType | None) -> NoReturn:
        manager.stopped = True
        pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> datetime:
    return datetime.now(UTC)
