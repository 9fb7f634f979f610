"""Stop runs by killing their kernels: on a signal, at the interpreter's exit, or all runs of a batch."""

import atexit
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from types import FrameType
from typing import Any

_NAMES = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGABRT", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGVTALRM"),
    *("SIGPROF", "SIGXCPU", "SIGXFSZ", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGSYS"),
)
_ENDING = [signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__]
"""Signals from outside that end a process unless it catches them."""

_EXIT_SECONDS = 10.0


class StoppableRun:
    """A run whose kernel can be killed; it closes its record afterwards."""

    batch: str | None = None
    client: Any = None
    stopped = False
    _signaled = False

    @cached_property
    def closed(self) -> threading.Event:
        """Set once the record is closed, or cannot be."""
        return threading.Event()

    def stop(self) -> None:
        """Kill the kernel and all that it started."""
        self.stopped = True
        pid = getattr(getattr(getattr(self.client, "km", None), "provisioner", None), "pid", None)
        if pid:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # it leads a group of its own

    @contextmanager
    def stoppable(self, *, by_signals: bool) -> Iterator[None]:
        """Let :func:`stop_batch`, the interpreter's exit and, in the main thread, signals stop the run.

        The kernel is killed first: an exception from a signal handler can get lost in a library's clean-up, a dead kernel cannot.
        Later signals, such as the second one of a closing terminal, are ignored until the record is closed; then Ctrl-C ends
        what follows.
        """

        def handle(signum: int, _frame: FrameType | None) -> None:
            first, self._signaled = not self._signaled, True
            if first:
                self.stop()
            if first or (signum == signal.SIGINT and self.closed.is_set()):
                raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(128 + signum)

        _RUNNING.add(self)
        if self.batch in _STOPPED:  # stop_batch looks for runs after it adds the batch, so one of the two sees the other
            self.stop()
        with catch_signals(handle) if by_signals else nullcontext():
            try:
                yield
            finally:
                _RUNNING.discard(self)


_RUNNING: set[StoppableRun] = set()  # runs of this process whose record is not closed yet

_STOPPED: set[str | None] = set()  # batches that were stopped in this process, for the runs that are about to begin


def stop_batch(batch: str) -> None:
    """Stop the runs of a batch in this process, with closed records, and let none begin."""
    _STOPPED.add(batch)
    for run in list(_RUNNING):
        if run.batch == batch:
            run.stop()


def is_stopped(batch: str) -> bool:
    """Return whether a batch was stopped in this process."""
    return batch in _STOPPED


@atexit.register
def _stop_all() -> None:
    """Stop the runs of daemon threads."""
    for run in list(_RUNNING):
        run.stop()
        run.closed.wait(_EXIT_SECONDS)


@contextmanager
def catch_signals(handle: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Handle the signals that would end this process, in the main thread; those that it ignores or handles itself stay so."""
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number in _ENDING if main and _may_catch(number)]
    before = {number: signal.signal(number, handle) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _may_catch(number: signal.Signals) -> bool:
    handler = signal.getsignal(number)
    if number == signal.SIGABRT and faulthandler.is_enabled():  # getsignal does not report its handler
        return False
    return handler is signal.SIG_DFL or (callable(handler) and number in {signal.SIGINT, signal.SIGTERM})
