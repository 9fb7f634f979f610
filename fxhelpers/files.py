"""Whole files only: written at once or not at all, and known by their SHA-256."""

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
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
