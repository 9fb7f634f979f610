"""Ending runs from outside: by whatever ends a process and can be caught, or with their whole batch."""

import atexit
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxhelpers.runs.recording import RecordManager

_NAMES = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGABRT", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGVTALRM"),
    *("SIGPROF", "SIGXCPU", "SIGXFSZ", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGSYS"),
)
_ENDING = [signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__]
"""What ends a process unless it is caught, and comes from outside."""

_EXIT_SECONDS = 10.0

_RUNNING: "dict[RecordManager, str | None]" = {}
"""Runs of this process whose record is not closed yet, and their batches."""

_STOPPED: set[str] = set()
"""Batches that were stopped: what of them is about to begin has to know, too."""


def stop_batch(batch: str) -> None:
    """End the runs of a batch in this process by killing their kernels, so that their records get closed; let none begin."""
    _STOPPED.add(batch)
    for manager, its in list(_RUNNING.items()):
        if its == batch:
            _stop(manager)


def is_stopped(batch: str) -> bool:
    """Tell whether a batch was stopped in this process."""
    return batch in _STOPPED


def _stop(manager: "RecordManager") -> None:
    manager.stopped = True
    pid = getattr(getattr(getattr(manager.client, "km", None), "provisioner", None), "pid", None)
    if pid:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # it leads a group of its own, with all that it started


@atexit.register
def _stop_all() -> None:
    """End what still runs, in threads that nobody waited for, when the interpreter exits."""
    for manager in list(_RUNNING):
        _stop(manager)
        manager.closed.wait(_EXIT_SECONDS)


@contextmanager
def caught(handle: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Let a function handle all that would end this process; elsewhere than in the main thread nothing can be caught.

    What this process ignores, as with nohup or in the background, it goes on
    ignoring, and what a program handles itself is left to it.
    """
    main = threading.current_thread() is threading.main_thread()
    ours = {number for number in _ENDING if main and _is_to_catch(number)}
    before = {number: signal.signal(number, handle) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_to_catch(number: signal.Signals) -> bool:
    now = signal.getsignal(number)
    if number == signal.SIGABRT and faulthandler.is_enabled():  # which Python itself does not know to be handled
        return False
    return now is signal.SIG_DFL or (callable(now) and number in {signal.SIGINT, signal.SIGTERM})


@contextmanager
def stoppable(manager: "RecordManager", batch: str | None, *, by_signals: bool) -> Iterator[None]:
    """Let :func:`stop_batch` end the run with a closed record, and, which only the main thread can, signals.

    The kernel is killed first: an exception that is raised in a signal
    handler can get lost in somebody's clean-up, a dead kernel cannot. What
    comes after the first signal, such as the second of a closing terminal,
    waits until the record is closed; then Ctrl-C ends what follows.
    """

    def stop(signum: int, _frame: FrameType | None) -> None:
        first, manager.signaled = not manager.signaled, True
        if first:
            _stop(manager)
        if first or (signum == signal.SIGINT and manager.closed.is_set()):
            raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(128 + signum)

    _RUNNING[manager] = batch
    if batch and is_stopped(batch):  # whoever stops it looks for runs only afterwards, so one of the two sees the other
        _stop(manager)
    with caught(stop) if by_signals else nullcontext():
        try:
            yield
        finally:
            del _RUNNING[manager]
