"""Running one notebook from a program."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill.execute
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node

from fxhelpers.engine.checking import notebook_parameters, typed
from fxhelpers.engine.recording import MARK, RecordManager
from fxhelpers.errors import RunRefusedError
from fxhelpers.records import read_summary


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
        Not a notebook of ours, unknown parameters, or values of another type:
        nothing was run.
    """
    nb = load_notebook_node(str(path))
    if MARK not in nb.metadata:
        msg = f"{path}: its metadata has no {MARK!r}, so it is not a notebook that leaves a record; run it with papermill"
        raise RunRefusedError(msg)
    known = notebook_parameters(nb)
    values = {name: typed(v, known[name].inferred_type_name) if name in known else v for name, v in parameters.items()}
    kept: list[RecordManager] = []  # whatever ends the run, its state has it
    with contextlib.suppress(PapermillExecutionError, DeadKernelError, CellTimeoutError):
        papermill.execute.execute_notebook(path, None, values, progress_bar=progress, kept=kept)
    nb = kept[0].nb
    return RunResult(
        record=kept[0].record,
        status=nb.metadata[MARK]["record"]["status"],
        summary=read_summary(nb),
        error=nb.metadata[MARK]["record"].get("error"),
        seconds=float(nb.metadata.papermill["duration"]),
    )
