"""The papermill engine that keeps the record.

Papermill imports this package through its entry point, before it reads its
command line. For notebooks that carry our mark in their metadata the engine
writes the executed notebook to ``outputs/records/SYMBOL/``, whole at any
moment, with a status that is true however the run ends. Any other notebook
goes to papermill's own engine.
"""

from papermill.engines import papermill_engines

from fxhelpers.runs.recording import RecordEngine

papermill_engines.register(None, RecordEngine)  # the default for a plain `papermill`; only marked notebooks are ours
