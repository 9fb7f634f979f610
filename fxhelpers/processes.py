"""Who acts and when, and whether a process that acted is still alive."""

import getpass
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

_SAME_START = 2.0  # seconds: a process's start is derived from the boot time, which moves when the clock is set


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


def process_identity(pid: int | None = None) -> dict[str, Any]:
    """Return what tells a process from all others: machine since its last start, number and start; this one by default."""
    process = psutil.Process(pid)
    return {"machine": _machine(), "pid": process.pid, "started": round(process.create_time(), 2)}


def has_ended(identity: Mapping[str, Any]) -> bool:
    """Tell whether a process is over for certain; False also where it ran on another machine, of which nothing is known."""
    machine = _machine()
    if not machine or identity.get("machine") != machine:
        return False
    try:
        process = psutil.Process(int(identity["pid"]))
        same = abs(process.create_time() - float(identity["started"])) < _SAME_START
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _machine() -> str:
    """Name this start of this machine and the space of its process numbers; "" where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"  # two containers of one name number their processes apart
    except OSError:
        return ""
