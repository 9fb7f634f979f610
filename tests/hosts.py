"""Clients that decide about one model, each on a host of its own, and keep a journal of what they asked for and were told.

A host is a space of process numbers, as a container has it, so that nobody on
another one can tell whether a process of it has ended; whoever is not root
only gets another name for its machine. Its clock may be off, and a call that
writes may be held up, or be the last thing that its process does.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import faults

from fxhelpers import system as processes

NAME = "MLP_Stock_Predictor_AAPL"
EXPIRY, WAIT = 5.0, 10.0
"""Seconds of a lock, which are 60 and 90 otherwise."""

PAUSE = EXPIRY + 1.5
"""Seconds for which what is stopped or held up is so: its lock is somebody else's by then."""

SHARES = {"production": 45, "promote": 15, "rollback": 12, "register": 8, "read": 20}
WRITES = ("create_", "delete_", "log_", "rename_", "restore_", "set_", "transition_", "update_")
"""How the names of MLflow's calls begin that write."""

_PARENT_DEATH = 1  # for prctl
_NEW_SPACES = 0x20000000 | 0x20000  # for unshare: of process numbers, and of mounts
_PRIVATE = 0x40000 | 0x4000  # for mount: with all below it


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a client is to do: from a seed, by a clock that is off by so many seconds, until all are told that it is the end."""

    name: str
    seed: str
    folder: Path
    uri: str
    bundles: list[Path]
    clock: int
    held: float  # share of the calls that write, which are held up
    fatal: float  # and of those at which the process dies

    @property
    def journal(self) -> Path:
        return self.folder / "journals" / f"{self.name}.jsonl"

    @property
    def end(self) -> Path:
        return self.folder / "journals" / "end"


def start(orders: Orders) -> BaseProcess:
    """Start a host, whose only child is its client; it ends with it."""
    orders.journal.parent.mkdir(exist_ok=True)
    host = faults.CONTEXT.Process(target=_host, args=(orders,), name=orders.name)
    host.start()
    while host.exitcode is None and not orders.journal.exists():
        time.sleep(0.01)
    return host


def shorten(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let locks, and what is measured by them, end in seconds."""
    from fxhelpers.decisions import _path
    from fxhelpers.registry import lock

    for name, seconds in {"EXPIRY_SECONDS": EXPIRY, "WAIT_SECONDS": WAIT}.items():
        put(lock, name, seconds)
    put(_path, "_HEARTBEAT_SECONDS", EXPIRY / 2)


def _host(orders: Orders) -> None:
    """Let a client work in a space of its own, and outlive neither this process nor the tests."""
    libc, tests = ctypes.CDLL(None), multiprocessing.parent_process()
    assert tests
    isolated = sys.platform == "linux" and libc.unshare(_NEW_SPACES) == 0
    client = os.fork()
    if client:
        while not (ended := os.waitpid(client, os.WNOHANG))[0]:
            tests.join(0.1)
            if not tests.is_alive():
                os.kill(client, signal.SIGKILL)
        os._exit(os.waitstatus_to_exitcode(ended[1]) & 0xFF)
    if isolated:
        libc.prctl(_PARENT_DEATH, signal.SIGKILL)
        libc.mount(b"none", b"/", None, _PRIVATE, None)
        libc.mount(b"proc", b"/proc", b"proc", 0, None)
    else:
        processes._machine = lambda: f"the machine of {orders.name}"
    _work(orders)


def _work(orders: Orders) -> None:
    os.chdir(orders.folder)
    if orders.uri:
        os.environ["MLFLOW_TRACKING_URI"] = orders.uri
    shorten()
    if orders.clock:
        import time_machine

        time_machine.travel(datetime.now(UTC) + timedelta(seconds=orders.clock), tick=True).start()
    some = Random(orders.seed)  # noqa: S311 (the same every time)
    with orders.journal.open("a", buffering=1) as journal:

        def note(**told: Any) -> None:
            journal.write(json.dumps({"at": time.monotonic(), **told}) + "\n")

        _disturb(orders, note)
        number = 0
        while not orders.end.exists():
            number += 1
            done = _once(f"{orders.name}-{number}", some, orders.bundles, note)
            time.sleep(some.uniform(0, 0.3) if done else 1.0)


def _disturb(orders: Orders, note: Callable[..., None]) -> None:
    """Hold up calls that write, after whatever was looked at before them, or die at them: at the worst of moments."""
    from mlflow import MlflowClient

    some = Random(f"{orders.seed} disturbed")  # noqa: S311 (the same every time)
    shares = {"": 1.0, "held": orders.held, "dies before": orders.fatal / 2, "dies after": orders.fatal / 2}

    def disturbed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            (fate,) = some.choices(list(shares), list(shares.values()))
            if fate:
                note(fate=fate, call=name)
            if fate == "held":
                time.sleep(PAUSE)
            if fate == "dies before":
                os._exit(1)  # a first process cannot kill itself
            try:
                return call(*args, **kwargs)
            finally:
                if fate == "dies after":
                    os._exit(1)

        return made

    for name in (name for name in dir(MlflowClient) if name.startswith(WRITES)):
        setattr(MlflowClient, name, disturbed(name, getattr(MlflowClient, name)))


def _once(operation: str, some: Random, bundles: list[Path], note: Callable[..., None]) -> bool:
    """Carry out one operation; False where it raised an error."""
    from fxhelpers.errors import FxError

    kind = some.choices(list(SHARES), list(SHARES.values()))[0]
    version, bundle = some.choice((1, 2, 3)), some.choice(bundles)
    note(operation=operation, kind=kind, version=version, bundle=bundle.name)
    os.environ["LOGNAME"] = operation  # the ledger's actor: by this it is found there
    try:
        told = _do(kind, version, bundle, operation)
    except FxError as error:
        told = {"error": type(error).__name__, "message": str(error)}
    except Exception:  # noqa: BLE001 (what a user would see as a traceback is a finding)
        told = {"error": "traceback", "message": traceback.format_exc()}
    note(operation=operation, **told)
    return "error" not in told


def _do(kind: str, version: int, bundle: Path, reason: str) -> dict[str, Any]:
    """Carry out one operation, and return what it said was done."""
    from fxhelpers import ModelRegistry

    registry = ModelRegistry()
    if kind == "read":
        found = registry.get_production_model(NAME)
        return {"result": "read", "to": found.version if found else None}
    if kind == "production":
        return {"result": "moved", "to": registry.transition_stage(NAME, version, "Production").version}
    if kind == "register":
        made = registry.register_model(registry.load_model_info(model_path=bundle))
        return {"result": made.decision.result, "version": made.version, "decision": made.decision.id}
    if kind == "promote":
        decision = registry.promote(registry.propose("AAPL", version, apply=True, reason=reason))
    else:
        decision = registry.rollback("AAPL", apply=True, reason=reason)
    return {"result": decision.result, "to": decision.to_version, "decision": decision.id}
