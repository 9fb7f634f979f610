"""Kernels that start fast: forked from a process that has imported the libraries, each a process of its own.

A batch of notebooks spends most of its time on the same imports. A forkserver
of the standard library does them once, and a Jupyter kernel provisioner forks
each kernel from it. A kernel ends with the process that requested it, however
that ends.
"""

import atexit
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.forkserver import ForkServer
from threading import Thread

from fxhelpers.system import socket_folder

SERVER = ForkServer()
"""A server of our own: with multiprocessing's global one, a program's own processes would carry all our imports."""

SERVER.set_forkserver_preload(["fxhelpers.kernels._preload"])


NO_FIGURES = "FX_NO_FIGURES"
"""Environment variable of the server, if it shall not import what only figures and tests need."""


_WITHOUT_FIGURES = ("forecast", "index", "register", "retain", "rollback")


def has_figures(notebook: str) -> bool:
    """Return whether a notebook of this name draws figures, or is not one of fxhelpers."""
    return notebook not in _WITHOUT_FIGURES


def start_preloading(*, figures: bool = True) -> None:
    """Start the forkserver of this process, unless it runs; it imports in the background, with what ``figures`` need."""
    before, tempfile.tempdir = tempfile.tempdir, socket_folder()
    if not figures:
        os.environ[NO_FIGURES] = "true"
    try:
        SERVER.ensure_running()
    finally:
        tempfile.tempdir = before
        os.environ.pop(NO_FIGURES, None)
    atexit.unregister(_end_server)
    atexit.register(_end_server)


def _end_server() -> None:
    """End the server with this process: while it imports, for seconds, it does not see that nobody needs it any more."""
    pid = SERVER._forkserver_pid  # type: ignore[attr-defined]  # noqa: SLF001
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkedKernel:
    """What a forked process needs to become a kernel."""

    argv: list[str]  # of an ordinary kernel, from the launcher on
    env: dict[str, str]  # the whole environment
    cwd: str

    def _bootstrap(self, sentinel: int) -> int:
        """Become a kernel; the forkserver calls this method, as it does that of multiprocessing's own processes."""
        if "fxhelpers.kernels._preload" not in sys.modules:  # the forkserver ignores an ImportError
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

        # the kernel then also watches its parent, the forkserver; without a handle it prints advice
        IPKernelApp.launch_instance([*self.argv[1:], f"--IPKernelApp.parent_handle={os.getppid()}"])
        return 0


def _end_with(sentinel: int) -> None:
    """End the kernel, and all that it started, with the process that requested it."""
    wait([sentinel])
    os.killpg(0, signal.SIGKILL)
