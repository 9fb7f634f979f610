"""What the forkserver imports once for all its kernels; nothing else imports this module."""

import gc
import os
import signal
from contextlib import suppress
from importlib import import_module

from fxhelpers.kernels import NO_FIGURES

_MODULES = (
    *("fxhelpers.audit.history", "fxhelpers.audit.verify", "fxhelpers.decisions", "fxhelpers.model_registry"),
    *("fxhelpers.registry.models", "ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell"),
)
_LATER = ("alembic.command", "mlflow.store.model_registry.sqlalchemy_store")  # by libraries, on first use
_FIGURES = ("arch.bootstrap", "fxhelpers.evaluation", "fxhelpers.plots", "fxhelpers.training", "statsmodels.tsa.stattools")


def _import_skops() -> None:
    """Import skops without its scan of all of scikit-learn for estimators: here it trusts those that our models are made of."""
    import sklearn.utils

    from fxhelpers.params import MODEL_PARTS

    scan, names = sklearn.utils.all_estimators, [name.rpartition(".") for name in MODEL_PARTS]
    sklearn.utils.all_estimators = lambda: [(name, type(name, (), {"__module__": module})) for module, _, name in names]
    try:
        import_module("skops.io")
    finally:
        sklearn.utils.all_estimators = scan


signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner; the forkserver ignores it only once it listens
gc.disable()  # imports leave nothing to collect: a third of their time
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # with another, a preloaded pyplot drops figures
os.environ.pop("JPY_PARENT_PID", None)  # ipykernel reads it on import, and would watch a process that is not its parent
_import_skops()
for _name in (*_MODULES, *(() if os.environ.pop(NO_FIGURES, "") else _FIGURES)):
    import_module(_name)
for _name in _LATER:  # another release of a library may have them elsewhere
    with suppress(ImportError):
        import_module(_name)
import_module("pandas").set_option("display.max_columns", 20)  # outside of a kernel, pandas takes a notebook for a terminal
gc.freeze()  # a full collection of a kernel would walk all of this, and copy its pages: 0.8 s
gc.enable()
