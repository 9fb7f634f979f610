"""What keeps decisions in order: the lock of a model, and the clock of the registry."""

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from fxhelpers.errors import ClockError, LockedError, RegistryError
from fxhelpers.ledger import Entry, Facts
from fxhelpers.registry._client import ANY_MODEL, RegistryClient, ignoring, quoted
from fxhelpers.system import actor, has_ended, process_identity

logger = logging.getLogger(__name__)

EXPIRY_SECONDS = 60.0  # a lock whose owner did not change for this long is taken over
WAIT_SECONDS = 90.0  # for another owner

WARNED_SECONDS = 30.0  # a decision records a larger difference of clocks
REFUSED_SECONDS = 600.0  # with a larger difference nothing is decided
_ROUNDING_SECONDS = 2.0  # a server reports whole seconds: a smaller difference is none

_REMINDER_SECONDS = 5
_ABANDONED: set[str] = set()  # tokens of locks that this process no longer needs and could not release
_GONE_OR_BUSY = ("RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE")
_BUSY_TRIES = 20  # then a database is not busy, but cannot be written
_LONGEST_NAME = 200


class Clock:
    """The time of a ledger's entries: read once, then continued by the monotonic clock.

    ``off`` has the seconds by which this machine is ahead of the registry; if that has no clock, behind the ledger's last entry
    (then below 0).
    """

    def __init__(self, registry: RegistryClient, head: Entry[Facts] | None) -> None:
        self._uri = registry.uri
        local, remote = datetime.now(UTC), registry.server_time()
        self._has_remote = remote is not None
        self.off = (local - remote).total_seconds() if remote else 0.0
        self._start = remote if remote and abs(self.off) > _ROUNDING_SECONDS else local
        self._since = time.monotonic()
        ahead = (datetime.fromisoformat(head.time) - self._start).total_seconds() if head else 0.0
        # an earlier release may have written the last entry on a machine whose clock was wrong
        self.sets_back = self._has_remote and ahead > WARNED_SECONDS
        if not self._has_remote:
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
        """Return the difference of clocks that a decision records; :class:`ClockError` if it is too large."""
        if abs(self.off) <= WARNED_SECONDS:
            return {}
        local = f"the clock of this machine says {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        other = f"that of {self._uri} {self._now():%Y-%m-%d %H:%M:%S}" if self._has_remote else "the last decision was later"
        difference = f"{local}, {other}: {abs(self.off):.0f} s {'ahead' if self.off > 0 else 'behind'}"
        if abs(self.off) > REFUSED_SECONDS:
            msg = f"{name}: {difference}; nothing was changed: set this machine's clock right, then decide"
            raise ClockError(msg)
        logger.warning("%s: %s; the decision records it", name, difference)
        return {"clock_off_seconds": round(self.off, 1)}


class ModelLock:
    """The lock of one registered model, for a ``with``: creating its lock marker succeeds for one of several processes.

    :class:`LockedError` if another owner neither releases it nor expires in time; ``expiry`` and ``wait`` are in seconds.
    """

    def __init__(self, registry: RegistryClient, name: str, *, expiry: float | None = None, wait: float | None = None) -> None:
        self._registry, self._model = registry, name
        short = name if len(name) <= _LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()
        self.name = f"fx-lock.{short}"
        self._token = secrets.token_hex(8)
        self._expiry = EXPIRY_SECONDS if expiry is None else expiry
        self._wait = WAIT_SECONDS if wait is None else wait
        self._owner = "an unknown owner"
        self._replaced = ""  # the token of the owner whose lock was taken over
        self._seen = ("", 0.0)  # another owner's token, and since when by our own clock
        self._busy = 0

    def __enter__(self) -> Self:
        start = reminded = time.monotonic()
        pause = 0.01
        while not self._take():
            now = time.monotonic()
            if now - start > self._wait:
                msg = (
                    f"another decision about {self._model} is at work, by {self._owner}; waited {now - start:.0f} s, and "
                    f"nothing was changed. Try again; a lock whose owner crashed expires after {self._expiry:.0f} s"
                )
                raise LockedError(msg)
            if now - reminded > _REMINDER_SECONDS:
                logger.warning("%s: waiting for the decision of %s", self._model, self._owner)
                reminded = now
            time.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
            pause = min(pause * 1.5, 0.25)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if self._release():
                return
            logger.warning("%s: its lock could not be released, and expires after %.0f s", self._model, self._expiry)
        except RegistryError as failed:  # the decision stands, and the lock expires
            logger.warning("%s", failed)
        _ABANDONED.add(self._token)

    def _release(self) -> bool:
        """Remove the lock if it still is this owner's, and the marker of the one that it took over.

        It is renamed first: a request repeated after a lost reply then finds the new name taken, and moves no other owner's lock.
        """
        with self._registry.session("release the lock of", self._model) as client:
            for _ in range(10):
                try:
                    found = client.get_registered_model(self.name)
                    if found.tags.get("fx.token") == self._token:
                        client.rename_registered_model(self.name, self._released_name(self._token))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        logger.debug("%s: not released: %s", self.name, error)
                        time.sleep(0.1)  # the database was busy
                        continue
                for token in filter(None, (self._token, self._replaced)):
                    with ignoring(*_GONE_OR_BUSY):
                        client.delete_registered_model(self._released_name(token))
                return True
        return False

    def _take(self) -> bool:
        tags = {"fx.token": self._token, "fx.owner": actor(), "fx.process": json.dumps(process_identity())}
        with self._registry.session("lock", self._model) as client:
            try:
                client.create_registered_model(self.name, tags=tags, description=f"A decision about {self._model} is at work.")
            except MlflowException as error:
                # an existing lock may be released while MLflow reads it for its message
                if error.error_code not in {"RESOURCE_ALREADY_EXISTS", *_GONE_OR_BUSY}:
                    raise
                found = None
                with ignoring(*_GONE_OR_BUSY):
                    found = client.get_registered_model(self.name)
                self._busy = self._busy + 1 if found is None and error.error_code == "TEMPORARILY_UNAVAILABLE" else 0
                if self._busy > _BUSY_TRIES:
                    raise
                if found is None:
                    return False
                if found.tags.get("fx.token") == self._token:  # ours: the reply to its creation was lost
                    return True
                self._owner = found.tags.get("fx.owner", "an unknown owner")
                if self._is_over(found):
                    self._take_over(client, found.tags)
                return False
        return True

    def _is_over(self, lock: RegisteredModel) -> bool:
        """Return whether a lock's owner is certainly dead, or has had it for too long by our clock or the server's."""
        token = lock.tags.get("fx.token", "")
        if self._seen[0] != token:
            self._seen = (token, time.monotonic())
            now = self._registry.server_time()
            age = now.timestamp() - float(lock.creation_timestamp) / 1000 if now and self._registry.params.is_server else 0.0
            if age > self._expiry:  # both times are the server's
                return True
        try:
            dead = has_ended(json.loads(lock.tags["fx.process"]))
        except (KeyError, ValueError, TypeError):  # made by hand, without a process
            dead = False
        return bool(dead) or token in _ABANDONED or time.monotonic() - self._seen[1] > self._expiry

    def _take_over(self, client: MlflowClient, tags: Mapping[str, str]) -> None:
        token = tags.get("fx.token", "unknown")
        try:
            client.rename_registered_model(self.name, self._released_name(token))
        except MlflowException as error:  # another process was faster; databases report that in many ways
            logger.debug("%s: not taken over: %s", self.name, error)
        else:
            self._replaced = token
            logger.warning("%s: took over the lock of %s, who did not release it", self._model, self._owner)
        self.delete_released(client, but=self._released_name(token))

    def delete_released(self, client: MlflowClient, but: str = "") -> None:
        """Delete the markers of locks that were taken over by processes which then were killed."""
        for old in client.search_registered_models(f"name LIKE {quoted(self.name + '.%')} AND {ANY_MODEL}"):
            # the lock of a model whose name goes on with a dot looks alike, but does not end with its own token
            if old.name == self._released_name(old.tags.get("fx.token", "unknown")) and old.name != but:
                with ignoring(*_GONE_OR_BUSY):
                    client.delete_registered_model(old.name)

    def _released_name(self, token: str) -> str:
        return f"{self.name}.{token}"


def sweep(registry: RegistryClient, name: str) -> None:
    """Delete the markers of locks of a registered model that were taken over by processes which then were killed."""
    with registry.session("look for old locks of", name) as client:
        ModelLock(registry, name).delete_released(client)
