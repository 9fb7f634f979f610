"""Running one notebook from a program."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill.execute
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node

from fxhelpers.errors import ParamsError, RunRefusedError
from fxhelpers.params import find_params_file
from fxhelpers.records import read_summary
from fxhelpers.runs.parameters import as_declared, notebook_parameters
from fxhelpers.runs.recording import RecordManager
from fxhelpers.runs.source import MARK


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
    registry : str or None
        URI of the registry that the run was for, without credentials; None
        where MLflow is switched off.
    """

    record: Path
    status: str
    summary: dict[str, Any] | None
    error: str | None
    seconds: float
    registry: str | None


def run_notebook(
    path: Path,
    parameters: dict[str, Any],
    *,
    progress: bool = False,
    preloaded: bool = False,
    params_file: Path | None = None,
    cwd: Path | None = None,
    handles_signals: bool = True,
    told: Mapping[str, Any] | None = None,
) -> RunResult:
    """Run one of our notebooks in a kernel of its own and keep its record.

    Parameters
    ----------
    path : Path
        The notebook.
    parameters : dict
        Text is read as the type that the notebook declares.
    progress : bool
        Show papermill's progress bar.
    preloaded : bool
        Use a kernel that is forked from a process which has imported all
        libraries already (:mod:`fxhelpers.kernels.provisioner`).
    params_file : Path, optional
        By default the nearest ``params.yaml`` upwards of the current folder,
        or else of the notebook's.
    cwd : Path, optional
        Where the notebook runs; by default where this process does.
    handles_signals : bool
        Let Ctrl-C and SIGTERM end the run, in the main thread; a batch ends
        its runs itself.
    told : dict, optional
        What the record says of the run beside its provenance.

    Returns
    -------
    RunResult
        Also of a run whose cell raised an error; ``error`` says which.

    Raises
    ------
    RunRefusedError
        Not a notebook of ours, unknown parameters, or values of another type:
        nothing was run.
    """
    nb = load_notebook_node(str(path))
    if MARK not in nb.metadata:
        msg = (
            f"{path}: its metadata has no {MARK!r}, so it leaves no record: run it with papermill; or, if jupytext or "
            "another tool took that away from one of ours, run the original (git restore brings it back). Nothing was run."
        )
        raise RunRefusedError(msg)
    values = as_declared(notebook_parameters(nb), parameters)
    with suppress(ParamsError):
        params_file = params_file or find_params_file()
    kept: list[RecordManager] = []  # whatever ends the run, its state has it
    options: dict[str, Any] = {"kept": kept, "preloaded": preloaded, "params_file": params_file, "kernel_cwd": cwd, "told": told}
    options["handles_signals"] = handles_signals and _in_main_thread()
    try:
        papermill.execute.execute_notebook(path, None, values, progress_bar=progress, **options)
    except (PapermillExecutionError, DeadKernelError, CellTimeoutError, RuntimeError):  # the last: it died while it started
        if not kept:
            raise
    except KeyboardInterrupt:
        if options["handles_signals"]:
            raise
    finally:
        if not _in_main_thread():
            ensure_event_loop().close()  # nbclient makes one for every thread, and leaves it
    nb = kept[0].nb
    return RunResult(
        record=kept[0].record,
        status=nb.metadata[MARK]["record"]["status"],
        summary=read_summary(nb),
        error=nb.metadata[MARK]["record"].get("error"),
        seconds=float(nb.metadata.papermill["duration"]),
        registry=nb.metadata[MARK]["record"]["registry"],
    )


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
