"""Records that are being written: who writes them, and the end of those whose process is gone.

While a run writes its record, a marker lies in the hidden folder ``.running``
of the records, locked for as long as its process lives. So what was left by a
kill or a power failure is found without reading 10,000 records.
"""

import fcntl
import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import Any

from filelock import FileLock

from fxhelpers.files import UNREADABLE, write_atomic
from fxhelpers.processes import has_ended, process_identity

logger = logging.getLogger(__name__)

LEFT = "The process that wrote this record ended without closing it: it was killed, or its machine stopped."
"""What such a record says."""

_FOLDER, _LOCK_SECONDS = ".running", 60


@dataclass(slots=True)
class Marker:
    """What says that a record is being written, and by which process.

    Attributes
    ----------
    path : Path
        The marker itself.
    file : BufferedRandom
        Open and locked.
    """

    path: Path
    file: BufferedRandom

    def remove(self) -> None:
        """Say that the record is closed."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave the record to whoever looks next; it could not be closed."""
        self.file.close()


def mark_running(record: Path) -> Marker:
    """Mark a record that this process is about to write."""
    path = _marker_of(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{secrets.token_hex(8)}")
    file = hidden.open("x+b")
    try:
        with suppress(OSError):  # a file system without locks: then only this machine can tell
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"record": f"{record.parent.name}/{record.name}", "process": process_identity()}).encode())
        file.flush()
        hidden.rename(path)  # locked before anybody sees it
    except BaseException:
        file.close()
        hidden.unlink(missing_ok=True)
        raise
    return Marker(path, file)


def is_running(record: Path, told: Mapping[str, Any]) -> bool:
    """Tell whether a record that says so is being written: it has a marker, whose process lives."""
    return told["status"] == "running" and _marker_of(record).exists() and not _is_left(_marker_of(record))


@contextmanager
def left_records(folder: Path) -> Iterator[list[Path]]:
    """Close the records whose process is gone, and give them; their markers go once all is done with them.

    What cannot be read or written is a warning, and is tried again next time.
    """
    left = [marker for marker in sorted((folder / _FOLDER).glob("*.json")) if _is_left(marker)]
    if not left:
        yield []
        return
    with _one_at_a_time(folder) as locked:
        records = {marker: folder / marker.stem.replace("+", "/", 1) for marker in left}
        closed = {marker: record for marker, record in records.items() if _closed(record, locked=locked)}
        yield [record for record in closed.values() if record.exists()]
        for marker in closed:
            with suppress(OSError):  # in a folder where one deletes only what is one's own
                marker.unlink()


def close_left(record: Path) -> None:
    """Close one record if its process is gone, before its digest is taken."""
    if _is_left(_marker_of(record)):
        with _one_at_a_time(record.parent.parent) as locked:
            _closed(record, locked=locked)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[bool]:
    """Take the lock of the folder of markers; False where it cannot be taken."""
    lock = FileLock(folder / _FOLDER / ".lock", timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except OSError as error:
        logger.warning("records in %s that were left by their process cannot be closed: %s", folder, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _marker_of(record: Path) -> Path:
    return record.parent.parent / _FOLDER / f"{record.parent.name}+{record.stem}.ipynb.json"


def _is_left(marker: Path) -> bool:
    """Tell whether the process of a marker is gone; False where that cannot be known, or is not for us to change."""
    try:
        with marker.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # locked, perhaps by what its process started; or a file system without locks
                return bool(has_ended(json.load(file)["process"]))
            return True
    except UNREADABLE:  # closed meanwhile, or that of another user
        return False


def _closed(record: Path, *, locked: bool) -> bool:
    """Write down that a run was interrupted, in the record that it left as running; False where that has to wait."""
    try:
        if locked and record.exists():
            _close(record)
    except UNREADABLE as error:
        logger.warning("%s was left by its process, and cannot be closed: %s", record, error)
        return not isinstance(error, OSError)  # what is torn stays so
    return locked


def _close(record: Path) -> None:
    nb = json.loads(record.read_bytes())
    told = nb["metadata"]["fxhelpers"]["record"]
    if told["status"] != "running":
        return
    seen = datetime.fromtimestamp(record.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    told.update(status="interrupted", ended=seen, error=LEFT)
    nb["metadata"].setdefault("papermill", {})["exception"] = True
    for about in (cell["metadata"].get("papermill", {}) for cell in nb["cells"]):
        if about.get("status") == "running":
            about.update(status="failed", exception=True)
    write_atomic(record, json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True).encode())
