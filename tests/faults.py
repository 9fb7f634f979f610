"""What a process does that is raced or killed: run in children that are forked from one with everything imported."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "fxhelpers.decisions",
        "fxhelpers.forecasts",
        "fxhelpers.model_registry",
        "mlflow.sklearn",
        "mlflow.store.model_registry.sqlalchemy_store",
        "mlflow.store.tracking.sqlalchemy_store",
        "arch.bootstrap",
        "statsmodels.tsa.stattools",
    ]
)


def start(folder: Path, operation: str, argument: Any = None, *, commits: int = 0, barrier: Barrier | None = None) -> BaseProcess:
    """Start an operation in a child; ``commits``: it is killed right after so many of them."""
    child = CONTEXT.Process(target=_child, args=(str(folder), operation, argument, commits, barrier))
    child.start()
    return child


def warm_up() -> None:
    """Have everything imported: the first child takes seconds, the others do not."""
    child = CONTEXT.Process(target=time.sleep, args=(0,))
    child.start()
    child.join()


def do(operation: str, argument: Any) -> str:
    """Carry out one operation in the current project, and say what came of it."""
    from fxhelpers import ModelRegistry

    registry = ModelRegistry()
    operations: dict[str, Callable[[], Any]] = {
        "count": lambda: count(registry, argument),
        "register": lambda: registry.register_model(registry.load_model_info(model_path=argument)).version,
        "promote": lambda: registry.promote(registry.propose("AAPL", argument, apply=True)).result,
        "to production": lambda: registry.transition_stage("MLP_Stock_Predictor_AAPL", argument, "Production").stage,
        "rollback": lambda: registry.rollback("AAPL", apply=True, reason="it has to be").result,
        "retain": lambda: registry.retain("AAPL", apply=True, prune=True).due("archive"),
        "forecast": lambda: registry.forecast(as_of=argument, apply=True).summary["result"],
        "alarm": lambda: alarm(registry),
    }
    return str(operations[operation]())


def alarm(registry: Any) -> str:
    """Record an alarm about the champion of AAPL, after which the version before it serves again."""
    from fxhelpers.decisions import raise_alarm
    from fxhelpers.registry.ledger_store import read_ledger

    tenure = read_ledger(registry.client, "MLP_Stock_Predictor_AAPL").tenure
    done = raise_alarm(
        registry.client,
        "AAPL",
        tenure.versions[-1],
        last=tenure.alarm,
        on_alarm="rollback",
        predecessor=tenure.predecessor,
        reason="Its errors are larger.",
        facts={"last_session": "2013-01-31"},
        evidence={"watch.csv": b"session\n"},
    )
    return str(done.result)


def count(registry: Any, times: int) -> str:
    """Add to a number in a file, as often as that, under the lock of a model."""
    from fxhelpers.registry.lock import ModelLock

    for _ in range(times):
        with ModelLock(registry.client, "M"):
            number = int(Path("number").read_text())
            time.sleep(0.005)
            Path("number").write_text(str(number + 1))
    return str(times)


def _child(folder: str, operation: str, argument: Any, commits: int, barrier: Barrier | None) -> None:
    from fxhelpers import ModelRegistry
    from fxhelpers.errors import FxError

    os.chdir(folder)
    if commits:
        die_after(commits)
    try:
        if barrier is not None and operation == "promote":  # all propose first, so that all compared with the same champion
            registry = ModelRegistry()
            proposal = registry.propose("AAPL", argument, apply=True)
            barrier.wait()
            result = str(registry.promote(proposal).result)
        else:
            if barrier is not None:
                barrier.wait()
            result = do(operation, argument)
    except FxError as error:
        result = f"{type(error).__name__}: {error}"
    Path(f"{folder}/result-{os.getpid()}").write_text(result)


def die_after(commits: int, *, writing: bool = False) -> None:
    """Be killed right after so many commits, or so many that wrote something."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    seen = 0

    @event.listens_for(Session, "after_flush")
    def mark(session: Session, _context: object) -> None:
        session.info["wrote"] = True

    @event.listens_for(Session, "after_commit")
    def count(session: Session) -> None:
        nonlocal seen
        seen += session.info.pop("wrote", False) or not writing
        if seen == commits:
            os.kill(os.getpid(), signal.SIGKILL)
