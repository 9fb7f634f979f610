"""What the forkserver imports once for all its kernels; nothing else imports this module."""

import gc
import os
import signal
from contextlib import suppress
from importlib import import_module

_MODULES = (
    *("arch.bootstrap", "statsmodels.stats.diagnostic", "statsmodels.tsa.stattools"),
    *("fxhelpers.audit.history", "fxhelpers.audit.verify", "fxhelpers.decisions", "fxhelpers.evaluation", "fxhelpers.plots"),
    *("fxhelpers.model_registry", "fxhelpers.registry", "fxhelpers.training"),
    *("ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell"),
)
_LATER = ("alembic.command", "mlflow.store.model_registry.sqlalchemy_store")
"""Imported by libraries on first use: 0.4 and 0.8 s of each kernel. Another release may have them elsewhere."""

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner; the forkserver ignores it only once it listens
gc.disable()  # imports leave nothing to collect: a third of their time
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # with another, a preloaded pyplot drops figures
os.environ.pop("JPY_PARENT_PID", None)  # ipykernel reads it on import, and would watch a process that is not its parent
for _name in _MODULES:
    import_module(_name)
for _name in _LATER:
    with suppress(ImportError):
        import_module(_name)
import_module("pandas").set_option("display.max_columns", 20)  # outside of a kernel, pandas takes a notebook for a terminal
gc.freeze()  # a full collection of a kernel would walk all of this, and copy its pages: 0.8 s
gc.enable()
