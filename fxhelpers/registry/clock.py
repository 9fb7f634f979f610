"""The time of a ledger's entries: the registry's own, or this machine's where that tells none."""

import logging
import secrets
import time
from datetime import UTC, datetime, timedelta

from fxhelpers.errors import ClockError
from fxhelpers.ledger import Entry
from fxhelpers.registry.client import RegistryClient

logger = logging.getLogger(__name__)

WARNED_SECONDS = 30.0
"""Clocks that differ by more are told of in the decision."""

REFUSED_SECONDS = 600.0
"""By clocks that differ by more nothing is decided."""

_ROUNDING_SECONDS = 2.0
"""A server tells whole seconds: what differs by less is the same, and this machine's clock has milliseconds."""


class Clock:
    """The time by which a ledger is written; it is read once, and goes on by a clock that nobody sets.

    Attributes
    ----------
    off : float
        Seconds by which this machine is ahead of the registry, or, where that
        has no clock, behind the ledger's last entry (then below 0).
    sets_back : bool
        Whether the last entry is later than the registry's clock allows: an
        earlier release wrote it on a machine whose clock was wrong.
    """

    def __init__(self, registry: RegistryClient, head: Entry | None) -> None:
        self._uri = registry.uri
        here, there = datetime.now(UTC), registry.server_time()
        self._told = there is not None
        self.off = (here - there).total_seconds() if there else 0.0
        self._start = there if there and abs(self.off) > _ROUNDING_SECONDS else here
        self._since = time.monotonic()
        ahead = (datetime.fromisoformat(head.time) - self._start).total_seconds() if head else 0.0
        self.sets_back = self._told and ahead > WARNED_SECONDS
        if not self._told:
            self.off = min(0.0, -ahead)

    def _now(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic() - self._since)

    def now(self) -> str:
        """Return the time: ISO 8601, UTC, milliseconds."""
        return self._now().isoformat(timespec="milliseconds")

    def milliseconds(self) -> int:
        """Return the time in milliseconds since 1970, UTC."""
        return int(self._now().timestamp() * 1000)

    def new_id(self, kind: str) -> str:
        """Return the id of a new decision: time, kind and four random bytes."""
        return f"{self._now():%Y%m%dT%H%M%SZ}-{kind.replace(' ', '-')}-{secrets.token_hex(4)}"

    def check(self, name: str) -> dict[str, float]:
        """Return what a decision says of clocks that differ; :class:`ClockError` where they differ by too much."""
        if abs(self.off) <= WARNED_SECONDS:
            return {}
        here = f"the clock of this machine says {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        other = f"that of {self._uri} {self._now():%Y-%m-%d %H:%M:%S}" if self._told else "the last decision was later"
        how = f"{here}, {other}: {abs(self.off):.0f} s {'ahead' if self.off > 0 else 'behind'}"
        if abs(self.off) > REFUSED_SECONDS:
            msg = f"{name}: {how}; nothing was changed: set this machine's clock right, then decide"
            raise ClockError(msg)
        logger.warning("%s: %s; the decision says so", name, how)
        return {"clock_off_seconds": round(self.off, 1)}
