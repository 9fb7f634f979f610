"""The papermill engine that keeps the record.

Papermill imports this package through its entry point, before it reads its
command line. For notebooks that carry our mark in their metadata the engine
writes the executed notebook to ``outputs/records/SYMBOL/``, whole at any
moment, with a status that is true however the run ends. Any other notebook
goes to papermill's own engine.
"""

from papermill.engines import papermill_engines

from fxhelpers.runs.parameters import as_declared, check_parameters, given_once, notebook_parameters
from fxhelpers.runs.recording import RecordEngine
from fxhelpers.runs.running import RunResult, run_notebook
from fxhelpers.runs.source import MARK, refuse_injected
from fxhelpers.runs.stopping import caught, is_stopped, stop_batch

__all__ = [
    "MARK",
    "RecordEngine",
    "RunResult",
    "as_declared",
    "caught",
    "check_parameters",
    "given_once",
    "is_stopped",
    "notebook_parameters",
    "refuse_injected",
    "run_notebook",
    "stop_batch",
]

papermill_engines.register(None, RecordEngine)  # the default for a plain `papermill`; only marked notebooks are ours
