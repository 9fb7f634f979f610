"""One decision at a time about a registered model, across processes and hosts, with nothing but the registry.

The lock of NAME is a registered model ``fx-lock.NAME``: creating it succeeds
for exactly one of several at once. To release or to steal it is to *rename*
it to ``fx-lock.NAME.TOKEN``, with the token of its owner, which succeeds for
one as well, and never moves a lock that somebody else took meanwhile: the
name with that token is taken then. A stolen lock stays under that name for
an hour, so that whoever comes late finds it.
"""

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn, Self

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from fxhelpers.errors import LockedError, LockLostError, RegistryError
from fxhelpers.processes import actor, has_ended, process_identity
from fxhelpers.registry.client import ANY_MODEL, RegistryClient, quoted

logger = logging.getLogger(__name__)

LOCK_PREFIX = "fx-lock."

HOLD_SECONDS = 30.0
"""After this the owner changes nothing any more."""

EXPIRY_SECONDS = 60.0
"""Who has seen a lock of the same owner for this long takes it. It is longer than the owner's time, by a wide margin."""

LONG_AGO_SECONDS = 600.0
"""A lock that expired so long ago is taken at once; clocks that disagree by more are hopeless."""

WAIT_SECONDS = 90.0
"""How long to wait for another owner."""

_ABANDONED: set[str] = set()
"""Tokens of locks that this process is done with and could not release."""

_KEPT_SECONDS = 3600.0
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
    hold, expiry, wait : float
        Seconds; see above.

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
        hold: float = HOLD_SECONDS,
        expiry: float = EXPIRY_SECONDS,
        wait: float = WAIT_SECONDS,
    ) -> None:
        self._registry, self._model = registry, name
        short = name if len(name) <= _LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()
        self.name = f"{LOCK_PREFIX}{short}"
        self._token = secrets.token_hex(8)
        self._hold, self._expiry, self._wait = hold, expiry, wait
        self._ends = (0.0, 0.0)
        self._owner = "nobody"
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
        if self._remaining() < self._hold - self._expiry:
            logger.warning("%s: its lock expired before it was released", self._model)
            return
        try:
            self._release()
        except RegistryError as failed:  # what was decided is decided, and the lock expires
            _ABANDONED.add(self._token)
            logger.warning("%s", failed)

    def _release(self) -> None:
        with self._registry.session("release the lock of", self._model) as client:
            for _ in range(10):
                _rename(client, self.name, self._tomb(self._token))
                if _delete(client, self._tomb(self._token)):  # also where the answer to the renaming was lost
                    return
                found = _read(client, self.name)
                if found is not None and found.tags.get("fx.token") != self._token:
                    return  # stolen
                time.sleep(0.1)  # the database was busy

    def check_time(self) -> None:
        """Raise :class:`LockLostError` where the owner has no time left to change anything."""
        if self._remaining() <= 0:
            self._lost()

    def confirm(self) -> None:
        """Raise :class:`LockLostError` unless this is the owner still, with time left to act."""
        with self._registry.session("confirm the lock of", self._model) as client:
            found = _read(client, self.name)
        self.check_time()
        if found is None or found.tags.get("fx.token") != self._token:
            self._lost()

    def _lost(self) -> NoReturn:
        msg = (
            f"{self._model}: its lock was held for more than {self._hold:.0f} s, and may be somebody else's by now; "
            "nothing more was changed: run it again"
        )
        raise LockLostError(msg)

    def _remaining(self) -> float:
        """Return the owner's seconds, by the clock that is never set and by the one that goes on while a machine sleeps."""
        monotonic, wall = self._ends
        return min(monotonic - time.monotonic(), wall - time.time())

    def _take(self) -> bool:
        self._ends = (time.monotonic() + self._hold, time.time() + self._hold)
        tags = {
            "fx.token": self._token,
            "fx.owner": actor(),
            "fx.process": json.dumps(process_identity()),
            "fx.expires": str(time.time() + self._expiry),
        }
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
                    self._steal(client, found.tags)
                return False
        return True

    def _is_over(self, lock: RegisteredModel) -> bool:
        """Tell whether a lock's owner is dead for certain, or was seen for too long, or expired long ago."""
        token = lock.tags.get("fx.token", "")
        if self._seen[0] != token:
            self._seen = (token, time.monotonic())
        try:
            long_ago = time.time() > float(lock.tags["fx.expires"]) + LONG_AGO_SECONDS
            dead = has_ended(json.loads(lock.tags["fx.process"]))
        except (KeyError, ValueError, TypeError):  # made by hand: it says nothing
            long_ago = dead = False
        return bool(dead) or long_ago or token in _ABANDONED or time.monotonic() - self._seen[1] > self._expiry

    def _steal(self, client: MlflowClient, tags: Mapping[str, str]) -> None:
        if _rename(client, self.name, self._tomb(tags.get("fx.token", "unknown"))):
            logger.warning("%s: took the lock of %s, who did not release it", self._model, self._owner)
        for old in client.search_registered_models(f"name LIKE {quoted(self.name + '.%')} AND {ANY_MODEL}"):
            buried = float(old.last_updated_timestamp or old.creation_timestamp) / 1000  # a rename counts as an update
            if old.name.startswith(f"{self.name}.") and time.time() - buried > _KEPT_SECONDS:
                _delete(client, old.name)

    def _tomb(self, token: str) -> str:
        return f"{self.name}.{token}"


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
