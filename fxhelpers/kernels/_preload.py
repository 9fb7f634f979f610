"""What the forkserver imports once for all its kernels; nobody else imports this."""

import gc
import os
import signal
from contextlib import suppress
from importlib import import_module

_MODULES = (
    "arch.bootstrap",
    "fxhelpers.evaluation",
    "fxhelpers.audit.history",
    "fxhelpers.model_registry",
    "fxhelpers.plots",
    "fxhelpers.decisions",
    "fxhelpers.registry",
    "fxhelpers.training",
    "fxhelpers.audit.verify",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "statsmodels.stats.diagnostic",
    "statsmodels.tsa.stattools",
)
_LATER = (
    "alembic.command",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracing.processor.otel",
    "pyarrow.pandas_compat",
    "sqlalchemy.dialects.sqlite",
)
"""What libraries import once they are used, of themselves; another release may have it elsewhere."""

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner; the forkserver itself ignores it only once it listens
gc.disable()  # imports leave nothing to collect
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # a pyplot that was imported with another drops figures
os.environ.pop("JPY_PARENT_PID", None)  # ipykernel reads it when it is imported, and would watch a process that is not its parent
for _name in _MODULES:
    import_module(_name)
for _name in _LATER:
    with suppress(ImportError):
        import_module(_name)
import_module("sqlalchemy.orm").configure_mappers()
import_module("pandas").set_option("display.max_columns", 20)  # imported outside of a kernel, it takes a notebook for a terminal
gc.freeze()  # what was imported stays; a kernel that does not walk it does not copy its pages either
gc.enable()
