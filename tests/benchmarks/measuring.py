"""Rivals in processes of their own, asked in turn, so that a slow minute of the machine strikes all of them."""

import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
MIB = 2**20
_build = [ROOT]  # whose fxhelpers is measured
# with the last, every process would compile modules anew
_FOREIGN = ("FX_PARAMS", "FX_RECORD", "MLFLOW_TRACKING_URI", "DAGSHUB_TOKEN", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, as text."""

    what: str
    ours: str
    rival: str
    ratio: str
    goal: str
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a command: seconds on the clock and on processors, and the most memory that its processes held together, in MiB.

    ``peak`` is 0 where nobody looked.
    """

    wall: float
    cpu: float
    peak: float


class Worker:
    """A process that prepares ``function(**arguments)`` of a module once, and then measures one call at a time.

    The function returns another one, which gets each call ready without being
    measured, and returns it.
    """

    def __init__(self, function: Callable[..., object], log: Path, **arguments: object) -> None:
        self._log = log
        task = json.dumps([function.__module__, function.__name__, arguments], default=str)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", task],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=log.parent,
                env=environment(),
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def ready(self) -> None:
        self._answer()

    def once(self) -> float:
        """Return the seconds of one call."""
        assert self._process.stdin
        self._process.stdin.write("once\n")
        self._process.stdin.flush()
        return self._answer()

    def peak(self) -> float:
        """Return the most memory, in MiB, that the process and those that it starts hold during one more call."""
        with polled(self._process.pid) as most:
            self.once()
        return most[0]

    def _answer(self) -> float:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._log.read_text()[-3000:])
        return float(line)


def measure_workers(
    rivals: Mapping[str, tuple[Callable[..., object], dict[str, object]]],
    folder: Path,
    *,
    repeats: int,
    warm_up: int = 1,
    builds: Mapping[str, Path] | None = None,
) -> dict[str, tuple[list[float], float]]:
    """Return each rival's seconds of all calls, and its peak memory in MiB; ``builds`` names those of other builds."""
    with ExitStack() as stack:
        workers = {}
        for place, (name, (function, arguments)) in enumerate(rivals.items()):
            with using((builds or {}).get(name, ROOT)):
                workers[name] = stack.enter_context(Worker(function, folder / f"{place}.log", **arguments))
        for worker in workers.values():
            worker.ready()
        for worker in workers.values():
            for _ in range(warm_up):
                worker.once()
        seconds = interleaved({name: worker.once for name, worker in workers.items()}, repeats)
        return {name: (seconds[name], worker.peak()) for name, worker in workers.items()}


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[Any]]:
    """Make each call in turn, and all of them so many times; every second round backwards."""
    found: dict[str, list[Any]] = {name: [] for name in calls}
    for turn in range(repeats):
        progress(f"  {turn + 1} of {repeats}")
        for name in list(calls) if turn % 2 == 0 else reversed(list(calls)):
            found[name].append(calls[name]())
    return found


def run_command(command: Sequence[str | Path], folder: Path, *, stdin: str = "", polls: bool = False) -> Cost:
    """Run a command to its end, and measure it with all processes that it starts; looking at its memory takes time itself."""
    log = folder / "command.log"
    with log.open("w") as output, (folder / "command.in").open("w+") as given:
        given.write(stdin)
        given.seek(0)
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env=environment(), stdin=given, stdout=output, stderr=output
        )
        with polled(process.pid) if polls else nullcontext([0.0]) as most:
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        msg = f"{' '.join(map(str, command))} ended with {process.returncode}: {log.read_text()[-3000:]}"
        raise RuntimeError(msg)
    return Cost(wall=wall, cpu=used.ru_utime + used.ru_stime, peak=most[0])


@contextmanager
def polled(pid: int) -> Iterator[list[float]]:
    """Look at a process and its descendants again and again; memory that several share counts once.

    The system's own ``ru_maxrss`` will not do: a process inherits that of the one which started it.
    """
    most, over = [0.0], threading.Event()

    def look() -> None:
        total = 0
        with suppress(psutil.Error):  # one of them ended in between
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                total += _held(process)
        most[0] = max(most[0], total / MIB)

    def keep_looking() -> None:
        start = time.monotonic()
        look()
        while not over.wait(0.005 if time.monotonic() - start < 1 else 0.1):
            look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _held(process: psutil.Process) -> int:
    memory = process.memory_full_info() if sys.platform == "linux" else process.memory_info()
    return int(getattr(memory, "pss", 0) or memory.rss)


@contextmanager
def using(build: Path) -> Iterator[dict[str, str]]:
    """Measure the fxhelpers of a checkout, and yield the environment that does."""
    before, _build[:] = list(_build), [build]
    try:
        yield environment()
    finally:
        _build[:] = before


def environment() -> dict[str, str]:
    """Return the environment of everything measured: no settings from outside, and no usage reports."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    path = os.pathsep.join(map(str, (*_build, TESTS)))
    return {**kept, "PYTHONPATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MPLBACKEND": "agg"}


def compared(
    what: str, ours: tuple[list[float], float], rival: tuple[list[float], float], *, goal: str, faster: bool = False
) -> Row:
    """Return a row of the ratio of two medians: how many times faster ours is, or how much of the rival's time it takes."""
    mine, theirs = statistics.median(ours[0]), statistics.median(rival[0])
    ratio = f"{theirs / mine:.1f} x faster" if faster else f"{mine / theirs:.2f}"
    memory = f"{ours[1]:.0f} / {rival[1]:.0f}"
    return Row(what=what, ours=spread(ours[0]), rival=spread(rival[0]), ratio=ratio, goal=goal, memory=memory)


def spread(seconds: list[float]) -> str:
    """Return the median with the lowest and the highest."""
    return f"{shown(statistics.median(seconds))} ({shown(min(seconds))} to {shown(max(seconds))})"


def shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def exponent(small: tuple[int, list[float]], large: tuple[int, list[float]]) -> float:
    """Return the slope between two sizes on logarithmic scales: 0 does not grow, 1 grows as the size does."""
    times = math.log(statistics.median(large[1]) / statistics.median(small[1]))
    return times / math.log(large[0] / small[0])


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
