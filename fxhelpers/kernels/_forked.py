"""The forkserver of this process, and a kernel that it forks, from the fork on."""

import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.forkserver import ForkServer
from threading import Thread

from fxhelpers.files import socket_folder

SERVER = ForkServer()
"""A server of our own: that of multiprocessing would fork a program's own processes with all our imports in them."""

SERVER.set_forkserver_preload(["fxhelpers.kernels._preload", "fxhelpers.kernels._forked"])


def start_preloading() -> None:
    """Start the forkserver of this process, unless it runs; it imports in the background."""
    before, tempfile.tempdir = tempfile.tempdir, socket_folder()
    try:
        SERVER.ensure_running()
    finally:
        tempfile.tempdir = before


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkedKernel:
    """What a forked process needs to become a kernel like any other.

    Attributes
    ----------
    argv : list of str
        What an ordinary kernel is started with.
    env : dict
        The whole environment.
    cwd : str
        Working directory.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str

    def _bootstrap(self, sentinel: int) -> int:
        """Become a kernel; multiprocessing's forkserver calls this name, as it does that of its own processes."""
        preload = sys.modules.get("fxhelpers.kernels._preload")
        if preload is None or os.getpid() == preload.PRELOADED_BY:
            msg = "the forkserver did not preload what kernels need"
            raise RuntimeError(msg)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()  # Ctrl-C in the terminal is for the runner, which then ends its kernels
        Thread(target=_end_with, args=(sentinel,), daemon=True).start()
        os.environ.clear()
        os.environ.update(self.env)
        time.tzset()
        os.chdir(self.cwd)
        random.seed()
        sys.modules["numpy"].random.seed()  # or every kernel would draw the same numbers
        sys.argv = self.argv
        sys.path[:] = [place for place in sys.path if place]  # of python -c; the kernel adds its own
        from ipykernel.kernelapp import IPKernelApp

        # its own watch over its parent, which is the forkserver, comes on top of ours; without one it prints advice
        IPKernelApp.launch_instance([*self.argv[1:], f"--IPKernelApp.parent_handle={os.getppid()}"])
        return 0


def _end_with(sentinel: int) -> None:
    """End the kernel, and all that it started, when the process that asked for it is gone."""
    wait([sentinel])
    os.killpg(0, signal.SIGKILL)
