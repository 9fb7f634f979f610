"""Files: written whole or not at all, read up to a limit; and which of several is the latest."""

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fxhelpers.errors import RunRefusedError

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems say that have no hard links, such as exFAT."""

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a file raises that is not there, torn, or of another kind than expected."""

_SHORT = 60


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it, so that any reader sees the old one or the whole new one."""
    _write(path, content, lambda temporary: temporary.replace(path))


def can_write(path: Path) -> bool:
    """Tell whether this user may write a file and others beside it, or make it and the folders above it."""
    there = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))  # noqa: PTH110 (no error, but no)
    return os.access(there, os.W_OK) and (there.is_dir() or os.access(there.parent, os.W_OK))


def read_limited(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes; :class:`OSError` for a longer one, and for what is no file: nothing is waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most // 2**20} MB", str(path))
    return content


def create_exclusive(path: Path, content: bytes) -> bool:
    """Write a new file, whole from its first moment; False, and nothing is touched, where there is one of that name already."""
    try:
        _write(path, content, lambda temporary: _link(temporary, path))
    except FileExistsError:
        return False
    return True


def _write(path: Path, content: bytes, publish: Callable[[Path], object]) -> None:
    """Write a file of another name in the same folder, and publish it once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a whole file its name, unless that is taken; on file systems without links it is first taken, then filled."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()
        temporary.replace(path)


def socket_folder() -> str:
    """Return a folder for temporary files in which sockets can have a name: the system takes about a hundred characters."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 (what is made there is private)
        if len(os.fsencode(folder)) <= _SHORT and os.access(folder, os.W_OK | os.X_OK):
            return folder
    msg = f"TMPDIR is too long for sockets ({tempfile.gettempdir():.80}…): let it name a folder of at most {_SHORT} characters"
    raise RunRefusedError(msg)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return one SHA-256 over the names and the bytes of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path.read_bytes())}  {path.relative_to(folder).as_posix()}\n" for path in files]
    return sha256("".join(lines).encode())


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
