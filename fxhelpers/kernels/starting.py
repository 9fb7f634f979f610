"""Starting the forkserver: the sooner, the more of its imports are done before the first kernel is asked for."""

import tempfile
from multiprocessing.forkserver import ForkServer

from fxhelpers.files import socket_folder

SERVER = ForkServer()
"""A server of our own: that of multiprocessing would fork a program's own processes with all our imports in them."""

SERVER.set_forkserver_preload(["fxhelpers.kernels.preload", "fxhelpers.kernels.forked"])


def start_preloading() -> None:
    """Start the forkserver of this process, unless it runs; it imports in the background."""
    before, tempfile.tempdir = tempfile.tempdir, socket_folder()
    try:
        SERVER.ensure_running()
    finally:
        tempfile.tempdir = before
