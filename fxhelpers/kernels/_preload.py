"""What the forkserver does once for all its kernels; nothing else imports this module."""

import os
import signal
from importlib import import_module

from fxhelpers.kernels import NO_FIGURES
from fxhelpers.kernels.quick import frozen, import_all

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner; the forkserver ignores it only once it listens
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # with another, a preloaded pyplot drops figures
os.environ.pop("JPY_PARENT_PID", None)  # ipykernel reads it on import, and would watch a process that is not its parent
with frozen():
    import_all(figures=not os.environ.pop(NO_FIGURES, ""))
    import_module("pandas").set_option("display.max_columns", 20)  # outside of a kernel, pandas takes a notebook for a terminal
