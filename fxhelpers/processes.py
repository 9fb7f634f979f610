"""Who acts and when, and whether a process that acted is still alive."""

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
    """Pause the garbage collector where much is made and nothing left, as by imports: it would walk all of it each time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def utc_now() -> str:
    """Return the time: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def actor() -> str:
    """Return who this process acts for: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def provide_home() -> None:
    """Give this program, and what it starts, a home folder for now, where nothing names one: libraries do not load without."""
    if not has_home():
        os.environ["HOME"] = home = tempfile.mkdtemp(prefix="fxhelpers-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)


def has_home() -> bool:
    """Tell whether HOME, or else the system's list of users, names a home folder."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def process_identity(pid: int | None = None) -> dict[str, Any]:
    """Return what tells a process from all others: machine since its last start, number and start; this one by default."""
    number = pid or os.getpid()
    return {"machine": _machine(), "pid": number, "started": _state_and_start(number)[1]}


def has_ended(identity: Mapping[str, Any]) -> bool | None:
    """Tell whether a process is over; None where it ran on another machine, of which nothing is known."""
    machine = _machine()
    if not machine or identity.get("machine") != machine:
        return None
    number = int(identity["pid"])
    try:
        state, start = _state_and_start(number)
    except FileNotFoundError:
        return not _exists(number)  # it may only be hidden from us
    return state == "Z" or start != identity["started"]


def _state_and_start(pid: int) -> tuple[str, int]:
    """Return the state of a process, and the ticks from the boot to its start, which no setting of the clock changes."""
    if not _machine():
        return "", 0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _machine() -> str:
    """Name this start of this machine and the space of its process numbers; "" where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"  # two containers of one name number their processes apart
    except OSError:
        return ""
