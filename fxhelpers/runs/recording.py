"""The engine and the state that it keeps: a notebook runs, and its record tells the truth however that ends."""

import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import nbformat
from nbclient.exceptions import CellExecutionError
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager
from papermill.log import logger
from traitlets.config import Config

from fxhelpers.errors import FxError, RunRefusedError
from fxhelpers.files import socket_folder, write_atomic
from fxhelpers.kernels.provisioner import PreloadedKernelManager
from fxhelpers.params import HIDDEN, NO_TELEMETRY, Params, known_secrets
from fxhelpers.processes import provide_home
from fxhelpers.records import decisions_in, folder_to_write, mark_running
from fxhelpers.reports import add_record, end_records
from fxhelpers.runs.parameters import NO_OUTPUT, TYPED, check_run
from fxhelpers.runs.source import MARK, Source, provenance, source_of
from fxhelpers.runs.stopping import stoppable

_SEALING_SECONDS = 150  # waiting for a lock takes up to 90


class NotRunError(click.ClickException, RunRefusedError):
    """A notebook was refused; papermill's command line prints it in one line."""


class RecordManager(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types
    """Papermill's execution state, which saves the record too, at once or not at all."""

    record: Path
    journal: Path
    params: Params
    client: "_Client | None" = None
    stopped = False
    signaled = False
    finished = False
    _passing = False  # over a cell of text, which changes nothing
    _written_as = ""

    @cached_property
    def closed(self) -> threading.Event:
        """Set once the record is closed, or cannot be."""
        return threading.Event()

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401 (papermill's signature)
        """Note that a cell starts; none does after the run was stopped."""
        if self.stopped:
            raise KeyboardInterrupt
        self._passing = cell.cell_type != "code"
        super().cell_start(cell, cell_index=cell_index, **kwargs)

    def save(self, **kwargs: Any) -> None:  # noqa: ANN401 (papermill's signature)
        """Write the record, and what papermill itself writes."""
        if self._passing:
            return
        self.nb.metadata[MARK]["record"]["decisions"] = decisions_in(self.journal)
        self._hide_secrets()
        with _written(self.record):
            write_atomic(self.record, nbformat.writes(self.nb).encode())
        self._written_as = self.nb.metadata[MARK]["record"]["status"]
        super().save(**kwargs)

    @cached_property
    def _secrets(self) -> list[str]:
        """All that no record may hold, the longest first; the kernel starts with the same environment."""
        return sorted({*known_secrets(self.params.folder).values(), *self.params.secrets}, key=len, reverse=True)

    def _hide_secrets(self) -> None:
        """Take out of the outputs what no record may hold, whoever printed it."""
        hidden = [json.dumps(secret)[1:-1] for secret in self._secrets]
        for cell in self.nb.cells:
            for number, output in enumerate(cell.get("outputs", [])):
                text = json.dumps(output)
                told = [secret for secret in hidden if secret in text]
                for secret in told:
                    text = text.replace(secret, HIDDEN)
                if told:
                    logger.warning("a secret that the environment or .env holds was taken out of the record")
                    cell.outputs[number] = nbformat.from_dict(json.loads(text))
        record = self.nb.metadata[MARK]["record"]
        for secret in self._secrets if record.get("error") else ():
            record["error"] = record["error"].replace(secret, HIDDEN)

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
        if self.stopped and isinstance(error, Exception):
            error = KeyboardInterrupt("the run was stopped")
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
        self._passing = False
        record = self.nb.metadata[MARK]["record"]
        record["ended"] = _now().isoformat(timespec="milliseconds")
        if record["status"] == "running":
            record["status"] = "completed"
        super().notebook_complete(**kwargs)

    def finish(self, client: "_Client | None" = None) -> None:
        """Close the record, once, write its report, seal what the run decided, and put it into the gallery."""
        if self.finished:
            return
        self.finished = True
        try:
            with suppress(OSError):  # the terminal may be gone
                self.cleanup_pbar()
            self.notebook_complete()
        finally:
            self.closed.set()
            if self._written_as != "running":  # or else the next run closes it, and then it is sealed
                self._complete(client)

    def _complete(self, client: "_Client | None") -> None:
        from fxhelpers.reports.report import make_report

        try:
            make_report(self.record)
        finally:
            try:
                self._seal(client)
            finally:
                add_record(self.record)

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Mark the record as running until it is closed; one that cannot be is left to the next run."""
        with _written(self.record):
            marker = mark_running(self.record)
        try:
            yield
        finally:
            if self._written_as == "running":
                marker.release()
            else:
                marker.remove()

    def _seal(self, client: "_Client | None") -> None:
        """Seal the decisions that the run took; most runs take none.

        A kernel that is still alive has all that sealing needs at hand. Here
        it costs the seconds that importing MLflow takes.
        """
        taken, told = decisions_in(self.journal), self.nb.metadata[MARK]["record"]
        words = {"status": told["status"], "error": told.get("error")}
        if taken and not (client and client.ran(f"from fxhelpers.decisions import seal_run; seal_run(**{words!r})")):
            os.environ.update(NO_TELEMETRY)
            from fxhelpers.decisions import seal_record
            from fxhelpers.registry import RegistryClient

            try:
                seal_record(RegistryClient(self.params), taken, self.record, **words)
            except FxError as error:
                msg = f"{self.record.name} is kept, but not sealed: {error} (fx verify --repair seals it)"
                raise NotRunError(msg) from error


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Papermill's client, which finishes the record while the kernel is alive."""

    def set_widgets_metadata(self) -> None:
        """Do the last step of a run that nothing interrupted."""
        super().set_widgets_metadata()
        self.nb_man.finish(self)

    def ran(self, code: str) -> bool:
        """Let the kernel run some code that leaves no trace in the notebook, and tell whether it did."""
        lines: list[str] = []

        def hear(message: Mapping[str, Any]) -> None:
            lines.extend(message["content"]["text"].splitlines() if message["header"]["msg_type"] == "stream" else ())

        try:
            answer = run_sync(self.kc.execute_interactive)(code, silent=True, timeout=_SEALING_SECONDS, output_hook=hear)
        except (TimeoutError, RuntimeError) as error:
            logger.warning("the kernel did not seal the record (%s); sealing it here", error)
            return False
        for line in lines:
            logger.warning(line)
        return bool(answer["content"]["status"] == "ok")


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
        params_file: Path | None = None,
        told: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 (papermill's signature)
    ) -> Any:  # noqa: ANN401
        """Check the parameters, run the notebook and keep the record, however it ends.

        ``kept`` gets the state of the run, ``told`` goes into the record
        beside its provenance.
        """
        if MARK not in nb.metadata:
            return NBClientEngine.execute_notebook(nb, kernel_name, output_path=output_path, **kwargs)
        provide_home()
        source = source_of(nb)
        try:
            params, folder = check_run(nb, source, kernel_name, params_file)
        except FxError as error:
            raise NotRunError(str(error)) from error
        kernel = "preloaded" if kwargs.get("preloaded") else "ordinary"
        record = _begin(nb, source, params, folder, {"kernel": kernel, **(told or {})})
        options = {key: kwargs.pop(key) for key in ("progress_bar", "log_output", "autosave_cell_every") if key in kwargs}
        manager = RecordManager(nb, output_path=output_path, **options)
        manager.record, manager.params = record, params
        if kept is not None:
            kept.append(manager)
        end_records(params.paths.records)
        signals = stoppable(manager, (told or {}).get("batch"), by_signals=kwargs.pop("handles_signals", True))
        try:
            with signals, TemporaryDirectory(prefix="fx-", dir=socket_folder()) as private, manager.marked():  # ours alone
                manager.journal = Path(private) / "decisions"
                try:
                    manager.notebook_start()
                    cls.execute_managed_notebook(manager, kernel_name, log_output=manager.log_output, **kwargs)
                except BaseException as error:
                    if not manager.finished:
                        manager.interrupt(error)
                    raise
                finally:
                    manager.finish()
        finally:
            if kept is None:
                _say_where(record)
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: RecordManager,
        kernel_name: str,
        *,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        preloaded: bool = False,
        kernel_cwd: Path | None = None,
        **kwargs: Any,  # noqa: ANN401 (papermill's signature)
    ) -> None:
        """Run the cells in a kernel that knows its record and its params.yaml."""
        kwargs.pop("input_path", None)
        if kernel_cwd:
            kwargs["resources"] = {"metadata": {"path": str(kernel_cwd)}}
        if preloaded:
            kwargs["kernel_manager_class"] = PreloadedKernelManager
        client = _Client(
            nb_man,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log=logger,
            config=Config(KernelManager={"transport": "ipc", "ip": str(nb_man.journal.with_name("kernel"))}),
            shutdown_kernel="immediate",  # all is written by then; a graceful end costs another second
            **kwargs,
        )
        threading.Thread(target=import_module, args=("fxhelpers.reports.report",)).start()  # while the kernel starts
        nb_man.client = client
        client.execute(env={**os.environ, **_kernel_environment(nb_man)})


@contextmanager
def _written(record: Path) -> Iterator[None]:
    """Say in one line that the record cannot be written, on a full disk say: a run without a record is no run."""
    try:
        yield
    except OSError as error:
        msg = f"the record cannot be written: {record}: {error.strerror or error}; what is there was written before"
        raise NotRunError(msg) from error


def _say_where(record: Path) -> None:
    """Say on standard error where the record is; to a program that runs notebooks, in papermill's log."""
    line = f"The record is {record}"
    if TYPED is None:
        logger.info(line)
        return
    with suppress(OSError):  # the terminal may be gone
        click.echo(line, err=True)


def _begin(nb: Any, source: Source, params: Params, folder: str, told: Mapping[str, Any]) -> Path:  # noqa: ANN401
    """Name the record and write who and what into the notebook."""
    now, kind = _now(), nb.metadata[MARK]["notebook"]
    name = f"{now:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(2)}.ipynb"
    path = folder_to_write(params.paths.records, folder, looks=nb.metadata[MARK].get("looks", False)) / name
    for key in ("input_path", "output_path"):
        place = nb.metadata.papermill.get(key)
        nb.metadata.papermill[key] = place if isinstance(place, str) and place != NO_OUTPUT else None  # not a whole notebook
    nb.metadata[MARK]["record"] = {
        "name": name,
        "symbol": None if "folder" in nb.metadata[MARK] else folder,
        "registry": params.mlflow.tracking_uri if params.mlflow.enabled else None,
        "status": "running",
        "started": now.isoformat(timespec="milliseconds"),
        **told,
        **provenance(source, source.file.name if source.file else f"{kind}.ipynb", params),
    }
    return path


def _kernel_environment(manager: RecordManager) -> dict[str, str]:
    return {
        **NO_TELEMETRY,
        "FX_PARAMS": str(manager.params.file),
        "FX_RECORD": str(manager.record),
        "FX_JOURNAL": str(manager.journal),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one would leave a record without figures
    }


def _now() -> datetime:
    return datetime.now(UTC)
