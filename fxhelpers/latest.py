"""Which of several files is the latest: the one that rests on the latest days, then the one that was written last."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

UTC_SLACK = timedelta(minutes=1)
"""How far a time of ours, which is UTC, may be ahead of its file: bundles of one second get seconds of their own."""

LOCAL_SLACK = timedelta(hours=14)
"""The same of a time whose zone nobody wrote down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """One of several files, and how old it is.

    Attributes
    ----------
    path : Path
        The file.
    day : str
        Last day that it rests on, YYYY-MM-DD; "" where nobody knows.
    stated : datetime or None
        When it was written, as it says itself.
    written : datetime
        The same, or, where that lies after the file's own time, the latter.
    ahead : bool
        Whether even that lies in the future.
    """

    path: Path
    day: str
    stated: datetime | None
    written: datetime
    ahead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Files, and why the first of them is the latest.

    Attributes
    ----------
    paths : list of Path
        The latest first.
    why : str
        In words.
    warnings : list of str
        Times that cannot be right, and what may not be expected.
    """

    paths: list[Path]
    why: str
    warnings: list[str]


def dated(path: Path, *times: str, day: str = "", slack: timedelta = LOCAL_SLACK) -> Dated:
    """Hold the latest of the times that a file states against the file's own, and against the clock."""
    stated = max(filter(None, map(read_time, times)), default=None)
    changed = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)  # what is stated has no fractions of a second either
    written = stated if stated and stated <= changed + slack else changed
    return Dated(path=path, day=day, stated=stated, written=written, ahead=written > datetime.now(UTC) + slack)


def latest_first(files: Iterable[Dated]) -> Choice:
    """Order files by day, where all of them say theirs, and by the time at which they were written."""
    found = list(files)
    by_day = all(file.day for file in found)
    age = {
        file.path: (file.day if by_day else "", not file.ahead, file.written, file.stated is None or file.stated <= file.written)
        for file in found
    }
    ordered = sorted(found, key=lambda file: (age[file.path], file.path.name), reverse=True)
    first, *others = ordered
    warnings = [told for file in ordered if (told := _wrong_time(file))]
    same = [file.path.name for file in others if age[file.path] == age[first.path]]
    if same:
        warnings.append(f"{first.path.name} and {', '.join(same)} are of the same time; the first is taken, by its name")
    last = max(found, key=lambda file: file.written)
    if by_day and last.day < first.day:
        warnings.append(f"{last.path.name} was written after {first.path.name}, but rests on days up to {last.day} only")
    return Choice(paths=[file.path for file in ordered], why=_why(first, others, by_day=by_day), warnings=warnings)


def read_time(text: str) -> datetime | None:
    """Read a time, ISO 8601 or 20251220_034123, which counts as UTC where it names no zone; None where it is none."""
    try:
        time = datetime.fromisoformat(text.replace("_", "T"))
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _wrong_time(file: Dated) -> str:
    if file.ahead:
        when = f"{file.written:%Y-%m-%d %H:%M}"
        return f"{file.path.name}: its time, {when} UTC, lies in the future, so others of the same days come first"
    if file.stated and file.stated > file.written:
        stated, when = (f"{time:%Y-%m-%d %H:%M}" for time in (file.stated, file.written))
        future = "which lies in the future" if file.stated > datetime.now(UTC) else "after it was written"
        return f"{file.path.name}: it states the time {stated}, {future}; its file is of {when} UTC, and that counts"
    return ""


def _why(first: Dated, others: list[Dated], *, by_day: bool) -> str:
    if not others:
        return "the only one"
    of = f"the latest of {len(others) + 1}"
    if not by_day:
        unknown = [file.path.name for file in (first, *others) if not file.day]
        return f"{of} by the time of writing, as {unknown[0]} does not say on which days it rests"
    same = sum(file.day == first.day for file in others)
    return f"{of}: it rests on days up to {first.day}" + (f", as {same} more, and was written last" if same else "")
