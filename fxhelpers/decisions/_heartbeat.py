"""Signs of life: the owner of an open decision shows that it is at work, and who never sees one ends the decision."""

import logging
import threading
from datetime import UTC, datetime

from fxhelpers.errors import FxError
from fxhelpers.ledger import Decision
from fxhelpers.processes import has_ended
from fxhelpers.registry import RegistryClient, lock
from fxhelpers.registry.ledgers import write_heartbeat

logger = logging.getLogger(__name__)

_SHOWN_SECONDS = 30.0
_OPEN: dict[str, threading.Event] = {}
"""Decisions of this process that are not sealed yet, by run."""


def start_heartbeat(registry: RegistryClient, decision: Decision) -> None:
    """Show every half minute that a decision is at work, until it is sealed or this process ends."""
    over = _OPEN[decision.run_id] = threading.Event()

    def show() -> None:
        while not over.wait(_SHOWN_SECONDS):
            try:
                write_heartbeat(registry, decision, _now(registry).isoformat(timespec="milliseconds"))
            except FxError as error:  # the next sign may get through
                logger.debug("%s: %s", decision.id, error)

    threading.Thread(target=show, daemon=True, name=f"fx-life-{decision.id}").start()


def stop_heartbeat(decision: Decision) -> None:
    """Stop showing that a decision is at work."""
    over = _OPEN.pop(decision.run_id, None)
    if over:
        over.set()


def was_interrupted(registry: RegistryClient, decision: Decision) -> bool:
    """Tell whether an unfinished decision is not at work any more: its process has ended, or it was not seen for long.

    On another machine that is two times that of a lock. On this one, where
    the process is known to live, it gave the decision up after twenty. The
    registry's clock told both times, where it has one.
    """
    ended = has_ended(decision.intent.facts.get("process", {}))
    if ended:
        return True
    unseen = (_now(registry) - datetime.fromisoformat(decision.last_seen)).total_seconds()
    return unseen > (2 if ended is None else 20) * lock.EXPIRY_SECONDS


def _now(registry: RegistryClient) -> datetime:
    return registry.server_time() or datetime.now(UTC)
