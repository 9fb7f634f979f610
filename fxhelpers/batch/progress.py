"""What a batch shows while it runs: a live display on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fxhelpers.batch.one import Outcome


class Display:
    """Done, failed, rate and time left, of each phase of a batch; with ``quiet`` only what failed."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        told = TextColumn("{task.fields[told]}")
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            told,
        )
        self._live = console.is_terminal and not quiet
        self._progress = Progress(*columns, console=console, disable=not self._live)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, what: str, total: int) -> Callable[[Outcome], None]:
        """Begin a phase of so many runs; what is returned shows one outcome more."""
        task = self._progress.add_task(what, total=total, told="")
        start = time.monotonic()
        done = failed = ran = 0

        def show(outcome: Outcome) -> None:
            nonlocal done, failed, ran
            done, failed, ran = done + 1, failed + bool(outcome.error), ran + (outcome.status != "kept")
            seconds = time.monotonic() - start
            left = f", {(total - done) * seconds / ran:.0f} s left" if ran and done < total else ""
            told = f"{failed} failed, {60 * ran / max(seconds, 1e-3):.0f} a minute{left}"
            self._progress.update(task, completed=done, told=told)
            if outcome.error or not (self._live or self._quiet):
                line = f"{what} {done}/{total} ({told}): {outcome.symbol} {outcome.told}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

        return show
