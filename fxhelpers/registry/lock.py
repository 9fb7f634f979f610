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
from fxhelpers.ledger import Entry
from fxhelpers.processes import actor, has_ended, process_identity
from fxhelpers.registry._client import ANY_MODEL, RegistryClient, quoted

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


LOCK_PREFIX = "fx-lock."

EXPIRY_SECONDS = 60.0
"""Who has seen a lock of the same owner for this long takes it."""

WAIT_SECONDS = 90.0
"""How long to wait for another owner."""

_ABANDONED: set[str] = set()
"""Tokens of locks that this process is done with and could not release."""

_PATIENCE = 20  # tries with a database that is busy; one that cannot be written is not waited for
_LONGEST_NAME = 200


class ModelLock:
    """The lock of one registered model, held for the time of a ``with``.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    name : str
        Registered model.
    expiry, wait : float
        Seconds; by default those above.

    Raises
    ------
    LockedError
        On entering: another owner neither released it nor expired in time.
    """

    def __init__(
        self,
        registry: RegistryClient,
        name: str,
        *,
        expiry: float | None = None,
        wait: float | None = None,
    ) -> None:
        self._registry, self._model = registry, name
        short = name if len(name) <= _LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()
        self.name = f"{LOCK_PREFIX}{short}"
        self._token = secrets.token_hex(8)
        self._expiry = EXPIRY_SECONDS if expiry is None else expiry
        self._wait = WAIT_SECONDS if wait is None else wait
        self._owner = "nobody"
        self._stolen = ""  # the token of the owner before
        self._seen = ("", 0.0)  # another owner's token, and since when by our own clock
        self._refused = 0

    def __enter__(self) -> Self:
        start = told = time.monotonic()
        pause = 0.01
        while not self._take():
            now = time.monotonic()
            if now - start > self._wait:
                msg = (
                    f"another decision about {self._model} is under way, by {self._owner}; waited {now - start:.0f} s, and "
                    f"nothing was changed. Try again; a lock whose owner crashed expires after {self._expiry:.0f} s"
                )
                raise LockedError(msg)
            if now - told > 5:  # noqa: PLR2004 (seconds of silence)
                logger.warning("%s: waiting for %s, who decides about it at the moment", self._model, self._owner)
                told = now
            time.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
            pause = min(pause * 1.5, 0.25)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            released = self._release()
        except RegistryError as failed:  # what was decided is decided, and the lock expires
            _ABANDONED.add(self._token)
            logger.warning("%s", failed)
            return
        if not released:
            _ABANDONED.add(self._token)
            logger.warning("%s: its lock could not be released, and expires after %.0f s", self._model, self._expiry)

    def _release(self) -> bool:
        """Remove the lock, as far as it still is this owner's, and the stolen one that it took the place of.

        It is renamed first: a request that is made again, since its answer
        was lost, then finds the new name taken, and moves nobody else's lock.
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
                _delete(client, self._released_name(self._token))
                if self._stolen:
                    _delete(client, self._released_name(self._stolen))
                return True
        return False

    def _take(self) -> bool:
        tags = {"fx.token": self._token, "fx.owner": actor(), "fx.process": json.dumps(process_identity())}
        with self._registry.session("lock", self._model) as client:
            try:
                client.create_registered_model(self.name, tags=tags, description=f"{self._model} is being decided about.")
            except MlflowException as error:
                # what exists already may be gone when MLflow looks at it in order to say so
                if error.error_code not in {"RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"}:
                    raise
                found = _read(client, self.name)
                self._refused = self._refused + 1 if found is None and error.error_code == "TEMPORARILY_UNAVAILABLE" else 0
                if self._refused > _PATIENCE:
                    raise
                if found is None:
                    return False
                if found.tags.get("fx.token") == self._token:  # ours: the answer to its creation was lost
                    return True
                self._owner = found.tags.get("fx.owner", "somebody")
                if self._is_over(found):
                    self._take_over(client, found.tags)
                return False
        return True

    def _is_over(self, lock: RegisteredModel) -> bool:
        """Tell whether a lock's owner is dead for certain, or was seen for too long, also by the server's clock."""
        token = lock.tags.get("fx.token", "")
        if self._seen[0] != token:
            self._seen = (token, time.monotonic())
            now = self._registry.server_time()
            age = now.timestamp() - float(lock.creation_timestamp) / 1000 if now and self._registry.params.is_server else 0.0
            if age > self._expiry:  # one clock told both times
                return True
        try:
            dead = has_ended(json.loads(lock.tags["fx.process"]))
        except (KeyError, ValueError, TypeError):  # made by hand: it says nothing
            dead = False
        return bool(dead) or token in _ABANDONED or time.monotonic() - self._seen[1] > self._expiry

    def _take_over(self, client: MlflowClient, tags: Mapping[str, str]) -> None:
        token = tags.get("fx.token", "unknown")
        if _rename(client, self.name, self._released_name(token)):
            self._stolen = token
            logger.warning("%s: took the lock of %s, who did not release it", self._model, self._owner)
        self._delete_taken_over(client, but=self._released_name(token))

    def _delete_taken_over(self, client: MlflowClient, but: str = "") -> None:
        """Remove what is left of locks that were stolen."""
        for old in client.search_registered_models(f"name LIKE {quoted(self.name + '.%')} AND {ANY_MODEL}"):
            # the lock of a model whose name goes on with a dot looks alike: only a stolen one is named by its own token
            if old.name == self._released_name(old.tags.get("fx.token", "unknown")) and old.name != but:
                _delete(client, old.name)

    def _released_name(self, token: str) -> str:
        return f"{self.name}.{token}"


def sweep(registry: RegistryClient, name: str) -> None:
    """Remove what is left of locks of a registered model that were stolen by somebody who was killed."""
    lock = ModelLock(registry, name)
    with registry.session("look for old locks of", name) as client:
        lock._delete_taken_over(client)  # noqa: SLF001 (of this module)


def _read(client: MlflowClient, name: str) -> RegisteredModel | None:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"}:
            return None
        raise


def _rename(client: MlflowClient, name: str, new: str) -> bool:
    """Rename a registered model; False where somebody else was faster. Databases tell that in many ways."""
    try:
        client.rename_registered_model(name, new)
    except MlflowException as error:
        logger.debug("%s: not renamed: %s", name, error)
        return False
    return True


def _delete(client: MlflowClient, name: str) -> bool:
    """Delete a registered model; False where there is none, or the database is busy."""
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"}:
            raise
        return False
    return True
