"""Starting the forkserver: the sooner, the more of its imports are done before the first kernel is asked for."""

import threading
from multiprocessing import forkserver

_STARTING = threading.Lock()


def start_preloading() -> None:
    """Start the forkserver of this process, unless it runs; it imports in the background."""
    with _STARTING:
        forkserver.set_forkserver_preload(["fxhelpers.kernels.preload", "fxhelpers.kernels.forked"])
        forkserver.ensure_running()
