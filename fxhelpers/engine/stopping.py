"""Ending runs from outside: by Ctrl-C, by SIGTERM, or with their whole batch."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from papermill.clientwrap import PapermillNotebookClient

if TYPE_CHECKING:
    from fxhelpers.engine.recording import RecordManager

_RUNNING: "dict[RecordManager, tuple[PapermillNotebookClient, str | None]]" = {}
"""Runs of this process that have a kernel, or are about to."""

_STOPPED: set[str] = set()
"""Batches that were stopped: what of them is about to begin has to know, too."""


def stop_batch(batch: str) -> None:
    """End the runs of a batch in this process by killing their kernels, so that their records get closed; let none begin."""
    _STOPPED.add(batch)
    for manager, (client, its) in list(_RUNNING.items()):
        if its == batch:
            _stop(manager, client)


def is_stopped(batch: str) -> bool:
    """Tell whether a batch was stopped in this process."""
    return batch in _STOPPED


def _stop(manager: "RecordManager", client: PapermillNotebookClient) -> None:
    manager.stopped = True
    pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
    if pid:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # it leads a group of its own, with all that it started


@contextmanager
def stoppable(
    manager: "RecordManager", client: PapermillNotebookClient, batch: str | None, *, by_signals: bool
) -> Iterator[None]:
    """Let :func:`stop_batch` end the run with a closed record, and, which only the main thread can, Ctrl-C and SIGTERM.

    The kernel is killed first: an exception that is raised in a signal
    handler can get lost in somebody's clean-up, a dead kernel cannot.
    """

    def stop(signum: int, _frame: FrameType | None) -> NoReturn:
        _stop(manager, client)
        raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(128 + signum)

    _RUNNING[manager] = (client, batch)
    if batch and is_stopped(batch):  # whoever stops it looks for runs only afterwards, so one of the two sees the other
        _stop(manager, client)
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)} if by_signals else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        del _RUNNING[manager]
