"""jupyter-scheduler runs our notebooks by our engine: parameters are checked, and each job keeps its record.

``docs/schedule.md`` describes the setup of the server.
"""

import ast
from pathlib import Path

import nbformat
from jupyter_scheduler.executors import DefaultExecutionManager

from fxhelpers.errors import FxError
from fxhelpers.params import find_params_file
from fxhelpers.runs import run_notebook
from fxhelpers.runs.source import MARK


class JobFailedError(FxError, RuntimeError):
    """A job's notebook did not complete; its record shows how far it got."""


class RecordExecutionManager(DefaultExecutionManager):  # type: ignore[misc]  # jupyter-scheduler is an extra
    """Runs jobs of our notebooks with a record; passes others on to jupyter-scheduler's own manager."""

    def execute(self) -> None:
        """Run the job by the settings of the server's folder, as it is a copy; jupyter-scheduler shows a failed one's error."""
        path = Path(self.staging_paths["input"])
        if MARK not in nbformat.read(path, as_version=4).metadata:
            super().execute()
            return
        file = find_params_file(Path(self.root_dir))
        parameters = {name: _unquoted(text) for name, text in (self.model.parameters or {}).items()}
        try:
            result = run_notebook(path, parameters, params_file=file, cwd=file.parent)
        except (KeyboardInterrupt, SystemExit) as error:  # by a signal; jupyter-scheduler would show the job as in progress
            msg = f"the job was ended from outside ({error or type(error).__name__}); its record shows how far it got"
            raise JobFailedError(msg) from error
        self.create_output_files(self.model, nbformat.read(result.record, as_version=4))
        if result.error:
            msg = f"{result.error} (the record is {result.record})"
            raise JobFailedError(msg)


def _unquoted(text: str) -> str:
    """Return text without the quotes that jupyter-scheduler's own manager needs."""
    if text[:1] not in {"'", '"'}:
        return text
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return value if isinstance(value, str) else text
