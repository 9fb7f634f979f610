"""The user and the time of an action, and whether the process behind it is alive."""

import atexit
import gc
import getpass
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector during imports, which create many objects and no garbage."""
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
    """Tell whether HOME or the system's list of users has a home folder."""
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
    """Tell whether a process has ended; None if it ran on another machine."""
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
