"""The engine: it runs a notebook and keeps its record, with a true status however the run ends."""

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
from fxhelpers.kernels.provisioner import PreloadedKernelManager, can_preload
from fxhelpers.kernels.stopping import StoppableRun
from fxhelpers.notify import Event, event_of, send
from fxhelpers.params import HIDDEN, NO_TELEMETRY, Params, known_secrets
from fxhelpers.records import decisions_in, folder_to_write, mark_running, read_summary, record_name
from fxhelpers.reports import add_record, end_records
from fxhelpers.reports.report import make_report
from fxhelpers.runs.parameters import check_run, only_looks
from fxhelpers.runs.source import COMMAND_LINE, MARK, NO_OUTPUT, Source, provenance, source_of
from fxhelpers.system import provide_home, socket_folder, utc_now, write_atomic

_SEALING_SECONDS = 150  # waiting for a lock takes up to 90


class NotRunError(click.ClickException, RunRefusedError):
    """A notebook was refused; papermill's command line prints it in one line."""


class RecordManager(StoppableRun, NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types
    """Papermill's execution state, which also writes the record, atomically."""

    record: Path
    journal: Path
    params: Params
    finished = False
    _written_status = ""

    @property
    def facts(self) -> dict[str, Any]:
        """Metadata of the record."""
        return self.nb.metadata[MARK]["record"]  # type: ignore[no-any-return]

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401 (papermill's signature)
        """Start no cell after the run was stopped."""
        if self.stopped:
            raise KeyboardInterrupt
        super().cell_start(cell, cell_index=cell_index, **kwargs)

    def save(self, **kwargs: Any) -> None:  # noqa: ANN401 (papermill's signature)
        """Write the record, and papermill's own output."""
        self.facts["decisions"] = decisions_in(self.journal)
        self._hide_secrets()
        with _record_written(self.record):
            write_atomic(self.record, nbformat.writes(self.nb).encode())
        self._written_status = self.facts["status"]
        super().save(**kwargs)

    @cached_property
    def _secrets(self) -> list[str]:
        """Secrets that no record may hold, longest first; the kernel starts with the same environment."""
        return sorted({*known_secrets(self.params.folder).values(), *self.params.secrets}, key=len, reverse=True)

    def _hide_secrets(self) -> None:
        hidden = [json.dumps(secret)[1:-1] for secret in self._secrets]
        for cell in self.nb.cells:
            for number, output in enumerate(cell.get("outputs", [])):
                text = original = json.dumps(output)
                for secret in hidden:
                    text = text.replace(secret, HIDDEN)
                if text != original:
                    logger.warning("removed a secret of the environment or of .env from the record")
                    cell.outputs[number] = nbformat.from_dict(json.loads(text))
        for secret in self._secrets if self.facts.get("error") else ():
            self.facts["error"] = self.facts["error"].replace(secret, HIDDEN)

    def cell_exception(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Mark the cell and the record as failed or interrupted, with the error."""
        super().cell_exception(cell, cell_index=cell_index, **kwargs)
        error = kwargs.get("exception")
        status = "interrupted" if self.stopped or isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
        name, value = (error.ename, error.evalue) if isinstance(error, CellExecutionError) else (type(error).__name__, error)
        self.facts.update(status=status, error=f"{name}: {value}"[:2000])

    def interrupt(self, error: BaseException) -> None:
        """Mark the running cell as failed: the kernel died, or never answered."""
        if self.stopped and isinstance(error, Exception):
            error = KeyboardInterrupt("the run was stopped")
        started = [cell for cell in self.nb.cells if cell.metadata.papermill["start_time"]]
        cell = started[-1] if started else self.nb.cells[0]
        if cell.metadata.papermill["status"] != self.FAILED:
            self.cell_exception(cell, exception=error)
        if cell.cell_type == "code":
            name, line = type(error).__name__, f"{type(error).__name__}: {error}"
            cell.outputs.append(nbformat.v4.new_output("error", ename=name, evalue=str(error), traceback=[line]))

    def notebook_complete(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Close the record with its true status."""
        self.facts["ended"] = utc_now()
        if self.facts["status"] == "running":
            self.facts["status"] = "completed"
        super().notebook_complete(**kwargs)

    def finish(self, client: "_Client | None" = None) -> None:
        """Close the record once, write its report, seal its decisions, and add it to the gallery."""
        if self.finished:
            return
        self.finished = True
        try:
            with suppress(OSError):  # the terminal may be gone
                self.cleanup_pbar()
            self.notebook_complete()
        finally:
            self.closed.set()
            if self._written_status != "running":  # otherwise the next run closes and seals it
                self._complete(client)

    def _complete(self, client: "_Client | None") -> None:
        try:
            make_report(self.record)
        finally:
            try:
                self._seal(client)
            finally:
                add_record(self.record)

    def _seal(self, client: "_Client | None") -> None:
        """Seal the decisions of the run, if any, in the live kernel: importing MLflow here takes seconds."""
        decisions, outcome = decisions_in(self.journal), {"status": self.facts["status"], "error": self.facts.get("error")}
        if decisions and not (client and client.ran(f"from fxhelpers.decisions import seal_run; seal_run(**{outcome!r})")):
            os.environ.update(NO_TELEMETRY)
            from fxhelpers.decisions import seal_record
            from fxhelpers.registry import RegistryClient

            try:
                seal_record(RegistryClient(self.params), decisions, self.record, **outcome)
            except FxError as error:
                msg = f"{self.record.name} is kept, but not sealed: {error} (fx verify --repair seals it)"
                raise NotRunError(msg) from error

    def notify(self, error: Exception | None) -> None:
        """Send a message about an event that the run ended with; a batch sends one about all its runs.

        ``error`` is one of closing or sealing the record, which its header cannot have.
        """
        if self.batch or only_looks(self.nb, self.nb.metadata.papermill["parameters"]):
            return
        facts, record = self.facts, record_name(self.record)
        symbol = facts["symbol"] or self.nb.metadata[MARK]["notebook"]
        ended = event_of(symbol, status=facts["status"], summary=read_summary(self.nb), error=facts.get("error"), record=record)
        events = [ended] if ended else []
        if facts["status"] == "completed" and error:
            events.append(Event(kind="failed", symbol=symbol, sentence=f"{type(error).__name__}: {error}", record=record))
        for warning in send(events, self.params):
            logger.warning(warning)

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Mark the record as running until it is closed; one that cannot be closed is left to the next run."""
        with _record_written(self.record):
            marker = mark_running(self.record)
        try:
            yield
        finally:
            if self._written_status == "running":
                marker.release()
            else:
                marker.remove()


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Papermill's client, which finishes the record while the kernel is alive."""

    def set_widgets_metadata(self) -> None:
        super().set_widgets_metadata()
        self.nb_man.finish(self)

    def ran(self, code: str) -> bool:
        """Run code in the kernel, without a trace in the notebook; return whether that worked."""

        def show(message: Mapping[str, Any]) -> None:
            if message["header"]["msg_type"] == "stream":
                logger.warning(message["content"]["text"].rstrip())

        try:
            reply = run_sync(self.kc.execute_interactive)(code, silent=True, timeout=_SEALING_SECONDS, output_hook=show)
        except (TimeoutError, RuntimeError) as error:
            logger.warning("the kernel did not seal the record (%s); sealing it here", error)
            return False
        return bool(reply["content"]["status"] == "ok")


class RecordEngine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """Runs our notebooks and keeps each as a record; passes others on."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,  # noqa: ANN401 (nbformat's nodes have no types)
        kernel_name: str,
        output_path: str | None = None,
        *,
        managers: list[RecordManager] | None = None,
        params_file: Path | None = None,
        facts: Mapping[str, Any] | None = None,
        handles_signals: bool = True,
        **kwargs: Any,  # noqa: ANN401 (papermill's signature)
    ) -> Any:  # noqa: ANN401
        """Check the parameters, run the notebook and keep the record, however it ends; its state is appended to ``managers``."""
        if MARK not in nb.metadata:
            return NBClientEngine.execute_notebook(nb, kernel_name, output_path=output_path, **kwargs)
        provide_home()
        source = source_of(nb)
        try:
            params, folder = check_run(nb, source, kernel_name, params_file)
        except FxError as error:
            raise NotRunError(str(error)) from error
        if COMMAND_LINE is not None and kwargs.get("preloaded") is None:
            kwargs["preloaded"] = can_preload(kernel_name)
        kernel = "preloaded" if kwargs.get("preloaded") else "ordinary"
        record = _begin(nb, source, params, folder, {"kernel": kernel, **(facts or {})})
        options = {key: kwargs.pop(key) for key in ("progress_bar", "log_output", "autosave_cell_every") if key in kwargs}
        manager = RecordManager(nb, output_path=output_path, **options)
        manager.record, manager.params, manager.batch = record, params, (facts or {}).get("batch")
        if managers is not None:
            managers.append(manager)
        end_records(params.paths.records)
        failure: Exception | None = None
        try:
            with (
                manager.stoppable(by_signals=handles_signals),
                TemporaryDirectory(prefix="fx-", dir=socket_folder()) as private,  # only this user can open it
                manager.marked(),
            ):
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
        except Exception as error:
            failure = error
            raise
        finally:
            manager.notify(failure)
            if managers is None:
                _print_path(record)
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
        threading.Thread(target=import_module, args=("nbconvert.exporters.html",)).start()  # 0.5 s, while the kernel starts
        nb_man.client = _Client(
            nb_man,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log=logger,
            config=Config(KernelManager={"transport": "ipc", "ip": str(nb_man.journal.with_name("kernel"))}),
            shutdown_kernel="immediate",  # all is written by then; a graceful end costs another second
            **kwargs,
        )
        environment = {
            "FX_PARAMS": str(nb_man.params.file),
            "FX_RECORD": str(nb_man.record),
            "FX_RUNNER": str(os.getpid()),
            "FX_JOURNAL": str(nb_man.journal),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # with any other, a record has no figures
        }
        nb_man.client.execute(env={**os.environ, **NO_TELEMETRY, **environment})


@contextmanager
def _record_written(record: Path) -> Iterator[None]:
    """Refuse a run whose record cannot be written, for example on a full disk, in one line."""
    try:
        yield
    except OSError as error:
        msg = f"the record cannot be written: {record}: {error.strerror or error}; the file holds the last complete state"
        raise NotRunError(msg) from error


def _print_path(record: Path) -> None:
    """Print the record's path on standard error; in a program, log it."""
    if COMMAND_LINE is None:
        logger.info("The record is %s", record)
        return
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"The record is {record}", err=True)


def _begin(nb: Any, source: Source, params: Params, folder: str, facts: Mapping[str, Any]) -> Path:  # noqa: ANN401
    """Choose the record's path and write its metadata into the notebook."""
    now, mark = datetime.now(UTC), nb.metadata[MARK]
    name = f"{now:%Y%m%dT%H%M%SZ}-{mark['notebook']}-{secrets.token_hex(2)}.ipynb"
    path = folder_to_write(params.paths.records, folder, looks=mark.get("looks", False)) / name
    for key in ("input_path", "output_path"):
        place = nb.metadata.papermill.get(key)
        nb.metadata.papermill[key] = place if isinstance(place, str) and place != NO_OUTPUT else None  # not a whole notebook
    mark["record"] = {
        "name": name,
        "symbol": None if "folder" in mark else folder,
        "registry": params.mlflow.tracking_uri if params.mlflow.enabled else None,
        "status": "running",
        "started": now.isoformat(timespec="milliseconds"),
        **facts,
        **provenance(source, source.file.name if source.file else f"{mark['notebook']}.ipynb", params),
    }
    return path
