"""The papermill engine that keeps records, and :func:`run_notebook`, which runs one notebook from a program.

Papermill imports this package through its entry point, before it reads its
command line. For notebooks with our key in their metadata the engine writes
the executed notebook to ``outputs/records/SYMBOL/``, complete at any moment,
with a true status however the run ends. Other notebooks go to papermill's own
engine.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill.execute
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node

from fxhelpers.errors import ParamsError, RunRefusedError
from fxhelpers.kernels.provisioner import can_preload
from fxhelpers.params import find_params_file
from fxhelpers.records import read_summary
from fxhelpers.runs.parameters import as_declared, notebook_parameters
from fxhelpers.runs.recording import RecordEngine, RecordManager
from fxhelpers.runs.source import MARK

papermill_engines.register(None, RecordEngine)  # the default for a plain `papermill`; only marked notebooks are ours


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How one notebook ended."""

    record: Path  # the executed notebook
    status: str  # completed, failed or interrupted
    summary: dict[str, Any] | None  # from its last cell; None if the run did not reach it
    error: str | None  # the error that ended the run
    seconds: float  # from start to end
    registry: str | None  # URI of the registry, without credentials; None if MLflow is disabled


def run_notebook(
    path: Path,
    parameters: dict[str, Any],
    *,
    progress: bool = False,
    params_file: Path | None = None,
    cwd: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    preloaded: bool | None = False,
    handles_signals: bool = True,
) -> RunResult:
    """Run one of our notebooks in a kernel of its own and keep its record; an error of a cell is in the result.

    Text in ``parameters`` is parsed as the type that the notebook declares. ``params_file`` is by default the nearest
    ``params.yaml`` from the current folder upwards, or else from the notebook's; ``cwd``, of the notebook, that of this process.
    ``facts`` are added to the record's metadata. ``preloaded`` forks the kernel from a process that has imported the libraries
    (:mod:`fxhelpers.kernels`); None: if it is an IPython kernel of this Python. With ``handles_signals``, Ctrl-C and SIGTERM end
    the run, in the main thread.
    :class:`RunRefusedError` if the notebook is not ours, or parameters are unknown or of another type: nothing was run.
    """
    nb = load_notebook_node(str(path))
    if MARK not in nb.metadata:
        msg = (
            f"{path}: its metadata has no {MARK!r}, so it leaves no record: run it with papermill; or, if jupytext or "
            "another tool removed that from one of ours, run the original (git restore brings it back). Nothing was run."
        )
        raise RunRefusedError(msg)
    with suppress(ParamsError):
        params_file = params_file or find_params_file()
    if preloaded is None:
        preloaded = can_preload(str(nb.metadata.get("kernelspec", {}).get("name", "")))
    options = {"progress_bar": progress, "params_file": params_file, "kernel_cwd": cwd, "facts": facts, "preloaded": preloaded}
    values = as_declared(notebook_parameters(nb), parameters)
    manager = _execute(path, values, handles_signals=handles_signals, **options)
    record = manager.facts
    return RunResult(
        record=manager.record,
        status=record["status"],
        summary=read_summary(manager.nb),
        error=record.get("error"),
        seconds=float(manager.nb.metadata.papermill["duration"]),
        registry=record["registry"],
    )


def _execute(path: Path, values: dict[str, Any], *, handles_signals: bool, **options: Any) -> RecordManager:  # noqa: ANN401
    """Run a notebook by papermill and return its state, also if the run failed."""
    managers: list[RecordManager] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    options |= {"managers": managers, "handles_signals": handles_signals and in_main_thread}
    try:
        papermill.execute.execute_notebook(path, None, values, **options)
    except (PapermillExecutionError, DeadKernelError, CellTimeoutError, RuntimeError):  # the last: it died while it started
        if not managers:
            raise
    except KeyboardInterrupt:
        if options["handles_signals"]:
            raise
    finally:
        if not in_main_thread:
            ensure_event_loop().close()  # nbclient makes one for every thread, and leaves it open
    return managers[0]
