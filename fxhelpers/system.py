"""The machine: whole files, which file is the latest, processes, users and times."""

import atexit
import errno
import gc
import getpass
import hashlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fxhelpers.errors import RunRefusedError

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links, such as exFAT."""

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Errors of reading and parsing a file that is missing, torn or of another kind than expected."""

_SOCKET_FOLDER_BYTES = 60


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file and its parent folders; any reader sees the whole old file or the whole new one."""
    _write(path, content, lambda temporary: temporary.replace(path))


def can_write(path: Path) -> bool:
    """Return whether this user may write a file and others in its folder, or make it and its parent folders."""
    existing = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))  # noqa: PTH110 (never raises)
    return os.access(existing, os.W_OK) and (existing.is_dir() or os.access(existing.parent, os.W_OK))


def read_limited(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes; :class:`OSError`, without waiting, if it is longer or not a regular file."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most // 2**20} MB", str(path))
    return content


def create_exclusive(path: Path, content: bytes) -> bool:
    """Write a new file, whole from its first moment; False, and nothing is changed, if the name is taken."""
    try:
        _write(path, content, lambda temporary: _link(temporary, path))
    except FileExistsError:
        return False
    return True


def _write(path: Path, content: bytes, publish: Callable[[Path], object]) -> None:
    """Write a temporary file in the same folder, and publish it once it is whole."""
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
    """Give a whole file its name, unless that is taken; file systems without links reserve the name, then fill it."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()
        temporary.replace(path)


def socket_folder() -> str:
    """Return a folder for temporary files whose path is short enough for sockets, which allow about a hundred characters."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 (what is made there is private)
        if len(os.fsencode(folder)) <= _SOCKET_FOLDER_BYTES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    msg = f"TMPDIR ({tempfile.gettempdir():.80}…) is too long for sockets: use at most {_SOCKET_FOLDER_BYTES} characters"
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
"""By how much a time that fxhelpers states, in UTC, may be later than its file: bundles of one second get distinct seconds."""

LOCAL_SLACK = timedelta(hours=14)  # the same, for a time without a zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """A file and its age: the last day of its data, the time it states, and the time that counts."""

    path: Path
    day: str  # YYYY-MM-DD; "" if unknown
    stated: datetime | None
    written: datetime  # the stated time; the file's own if that is earlier
    ahead: bool  # whether ``written`` is in the future


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Files, newest first, with the reason for that order and warnings about implausible times."""

    paths: list[Path]
    why: str
    warnings: list[str]


def dated(path: Path, *times: str, day: str = "", slack: timedelta = LOCAL_SLACK) -> Dated:
    """Compare the latest of the times that a file states with the file's own time and with the clock."""
    stated = max(filter(None, map(read_time, times)), default=None)
    changed = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)  # whole seconds, as in stated times
    written = stated if stated and stated <= changed + slack else changed
    return Dated(path=path, day=day, stated=stated, written=written, ahead=written > datetime.now(UTC) + slack)


def latest_first(files: Iterable[Dated]) -> Choice:
    """Order files by the last day of their data, if all state it, and by the time of writing."""
    found = list(files)
    by_day = all(file.day for file in found)
    age = {
        file.path: (file.day if by_day else "", not file.ahead, file.written, file.stated is None or file.stated <= file.written)
        for file in found
    }
    ordered = sorted(found, key=lambda file: (age[file.path], file.path.name), reverse=True)
    first, *others = ordered
    warnings = [warning for file in ordered if (warning := _wrong_time(file))]
    same = [file.path.name for file in others if age[file.path] == age[first.path]]
    if same:
        warnings.append(f"{first.path.name} and {', '.join(same)} have the same time; the first is taken, by its name")
    last = max(found, key=lambda file: file.written)
    if by_day and last.day < first.day:
        warnings.append(f"{last.path.name} was written after {first.path.name}, but its data end earlier, on {last.day}")
    return Choice(paths=[file.path for file in ordered], why=_why(first, others, by_day=by_day), warnings=warnings)


def read_time(text: str) -> datetime | None:
    """Read a time, ISO 8601 or 20251220_034123, as UTC if it has no zone; None if it is not a time."""
    try:
        time = datetime.fromisoformat(text.replace("_", "T"))
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _wrong_time(file: Dated) -> str:
    if file.ahead:
        when = f"{file.written:%Y-%m-%d %H:%M}"
        return f"{file.path.name}: its time, {when} UTC, is in the future, so others of the same days come first"
    if file.stated and file.stated > file.written:
        stated, when = (f"{time:%Y-%m-%d %H:%M}" for time in (file.stated, file.written))
        future = "which is in the future" if file.stated > datetime.now(UTC) else "after it was written"
        return f"{file.path.name}: it states the time {stated}, {future}; the file's own time, {when} UTC, counts"
    return ""


def _why(first: Dated, others: list[Dated], *, by_day: bool) -> str:
    if not others:
        return "the only one"
    of = f"the latest of {len(others) + 1}"
    if not by_day:
        unknown = [file.path.name for file in (first, *others) if not file.day]
        return f"{of} by the time of writing, as {unknown[0]} does not state the days of its data"
    same = sum(file.day == first.day for file in others)
    return f"{of}: its data end on {first.day}" + (f", as in {same} more, and it was written last" if same else "")


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector during imports and readings, which create many objects and no garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def utc_now() -> str:
    """Return the current time: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def actor() -> str:
    """Return the user of this process: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def provide_home() -> None:
    """Set HOME to a temporary folder if the user has no home: libraries do not load without one."""
    if not has_home():
        os.environ["HOME"] = home = tempfile.mkdtemp(prefix="fxhelpers-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)


def has_home() -> bool:
    """Return whether HOME or the system's list of users has a home folder."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def process_identity(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process: boot of its machine, number and start time; by default of this process."""
    number = pid or os.getpid()
    return {"machine": _machine(), "pid": number, "started": _state_and_start(number)[1]}


def has_ended(identity: Mapping[str, Any]) -> bool | None:
    """Return whether a process has ended; None if it ran on another machine."""
    machine = _machine()
    if not machine or identity.get("machine") != machine:
        return None
    number = int(identity["pid"])
    try:
        state, start = _state_and_start(number)
    except FileNotFoundError:
        return not _exists(number)  # it may be hidden from this user
    return state == "Z" or start != identity["started"]


def _state_and_start(pid: int) -> tuple[str, int]:
    """Return the state of a process and its start in ticks since boot, which setting the clock does not change."""
    if not _machine():
        return "", 0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _machine() -> str:
    """Return the ids of this boot and of the namespace of process numbers; "" if the system has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"  # containers number their processes separately
    except OSError:
        return ""
