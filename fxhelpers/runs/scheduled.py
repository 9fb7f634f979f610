"""jupyter-scheduler: its jobs run our notebooks by our engine, so each is checked, and keeps its record, as under papermill.

docs/schedule.md says how a server is told to use it.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_scheduler.executors import DefaultExecutionManager

from fxhelpers.errors import FxError
from fxhelpers.params import find_params_file
from fxhelpers.runs.running import run_notebook
from fxhelpers.runs.source import MARK


class JobFailedError(FxError, RuntimeError):
    """A job's notebook did not come to its end; its record says how far it came."""


class RecordExecutionManager(DefaultExecutionManager):  # type: ignore[misc]  # jupyter-scheduler is an extra
    """Runs jobs of our notebooks and keeps each as a record; others run as jupyter-scheduler's own manager runs them."""

    def execute(self) -> None:
        """Run the job; what its process raises is what the list of jobs shows.

        The settings are those of the server's folder, since jupyter-scheduler
        copies the notebook elsewhere and does not tell where it was.
        """
        path = Path(self.staging_paths["input"])
        if MARK not in nbformat.read(path, as_version=4).metadata:
            super().execute()
            return
        file = find_params_file(Path(self.root_dir))
        try:
            result = run_notebook(path, _values(self.model.parameters or {}), params_file=file, cwd=file.parent)
        except (KeyboardInterrupt, SystemExit) as error:  # by a signal; jupyter-scheduler would call such a job in progress
            msg = f"the job was ended from outside ({error or type(error).__name__}); its record says how far it came"
            raise JobFailedError(msg) from error
        self.create_output_files(self.model, nbformat.read(result.record, as_version=4))
        if result.error:
            msg = f"{result.error} (the record is {result.record})"
            raise JobFailedError(msg)


def _values(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a job, all text; what stands in quotes, as jupyter-scheduler's own manager needs it, without."""
    return {name: _unquoted(text) for name, text in parameters.items()}


def _unquoted(text: str) -> str:
    if text[:1] not in {"'", '"'}:
        return text
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if isinstance(value, str) else text
