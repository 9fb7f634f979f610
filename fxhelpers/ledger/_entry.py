"""Entries of a ledger, and how runs keep and link them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Self, TypeVar

from fxhelpers.errors import LedgerError
from fxhelpers.ledger._facts import FACTS, EntryKind, Facts, Identity, IntentFacts, OutcomeFacts, SealFacts

GENESIS = "0" * 64  # what the first entry of a ledger holds in place of the digest of the one before

LONGEST_ENTRY = 4900  # characters: an old MLflow server keeps 5,000 of a tag, and newer ones truncate a longer one silently

_REMEMBERED = 4096  # entries that were read: a ledger is read several times in one command

_HEADER = ("ledger", "seq", "entry", "decision", "time", "previous")

F = TypeVar("F", bound=Facts)
F_co = TypeVar("F_co", bound=Facts, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[F_co]):
    """One entry: its place in the chain, and what it says."""

    ledger: str  # registered model
    seq: int  # 1, 2, 3, … within the ledger
    entry: EntryKind  # {"intent", "outcome", "seal"}
    decision: str  # id of the decision that it belongs to
    # ISO 8601, UTC, milliseconds; never before that of the previous entry, unless that one was written by a wrong clock
    time: str
    previous: str  # SHA-256 of the entry before
    facts: F_co = field(hash=False)  # what it says, by its kind
    digest: str  # SHA-256 of all of the above, as the entry itself states it
    intact: bool = field(default=True, compare=False)  # whether the text that was read has that digest

    @classmethod
    def after(
        cls, head: "Entry[Facts] | None", *, ledger: str, decision: str, now: str, facts: F, sets_back: bool = False
    ) -> "Entry[F]":
        """Return the entry that follows the last one, never before it unless ``sets_back``; :class:`LedgerError` if too long."""
        time = max(now, head.time) if head and not sets_back else now
        header: dict[str, Any] = {"ledger": ledger, "seq": head.seq + 1 if head else 1, "entry": facts.entry}
        header |= {"decision": decision, "time": time, "previous": head.digest if head else GENESIS}
        made = Entry(**header, facts=facts, digest=_sha256(_canonical({**header, "facts": facts.stored()})))
        size = len(made.to_json())
        if size > LONGEST_ENTRY:
            msg = (
                f"{ledger}: the {made.entry} of {decision} has {size} characters, and at most {LONGEST_ENTRY} can be stored; "
                "shorten its reason"
            )
            raise LedgerError(msg)
        return made

    @classmethod
    def read(cls, text: str) -> "Entry[Facts]":
        """Read an entry, intact or not; :class:`LedgerError` if it is none."""
        return _read(text)

    @property
    def states_champion(self) -> bool:
        """Whether it says which version is in Production; intents and seals of earlier releases do not."""
        return ("to" if isinstance(self.facts, OutcomeFacts) else "serves") in self.facts.model_fields_set

    @property
    def serving(self) -> Identity | None:
        """The version in Production after it, if it says so."""
        if isinstance(self.facts, OutcomeFacts):
            return Identity.of(self.facts.to, self.facts.bundles) if self.facts.to is not None else None
        return self.facts.serves if isinstance(self.facts, IntentFacts | SealFacts) else None

    def to_json(self) -> str:
        """Return it as it is stored: canonical JSON."""
        header = {key: getattr(self, key) for key in (*_HEADER, "digest")}
        return _canonical({**header, "facts": self.facts.stored()})


@lru_cache(maxsize=_REMEMBERED)
def _read(text: str) -> Entry[Facts]:
    try:
        raw = json.loads(text, parse_constant=_no_number)
        stated = raw["digest"]
        intact = _sha256(text.replace(f'"digest":"{stated}",', "", 1)) == stated  # the text is canonical, or was edited
        facts = FACTS[raw["entry"]].read(raw["facts"]) if isinstance(raw["facts"], dict) else None
        zone = datetime.fromisoformat(raw["time"]).tzinfo
        texts = (raw[key] for key in ("ledger", "decision", "previous", "digest"))
        if facts and zone and isinstance(raw["seq"], int) and all(isinstance(t, str) for t in texts):
            return Entry(**{key: raw[key] for key in _HEADER}, facts=facts, digest=stated, intact=intact)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        msg = f"not an entry of a ledger: {type(error).__name__}: {error}"
        raise LedgerError(msg) from error
    msg = "not an entry of a ledger: its fields are of other types"
    raise LedgerError(msg)


def _no_number(text: str) -> None:
    msg = f"{text} is not a value"
    raise ValueError(msg)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_NAME_DIGITS = 16  # of a digest, in the name under which an entry is kept


class Link(NamedTuple):
    """The one entry that follows: its digest, and the run that keeps it."""

    digest: str
    run_id: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        parts = text.split()
        return cls(*parts) if len(parts) == len(cls._fields) else None

    def __str__(self) -> str:
        return f"{self.digest} {self.run_id}"


class StoredRun(NamedTuple):
    run_id: str
    texts: Mapping[str, str]  # entries by entry_name; by their kind alone if an earlier release wrote them, which linked none
    links: Mapping[str, Link] = MappingProxyType({})  # by link_name
    seen: str = ""  # last heartbeat, ISO 8601, UTC; "": none

    def counts(self, name: str, targets: set[tuple[str, str]]) -> bool:
        """Return whether the entry of a name is linked: by the one before, or by having a successor itself."""
        digits = name.partition(".")[2]
        return (digits, self.run_id) in targets or any(link.startswith(f"next.{digits}") for link in self.links)


def entry_name(entry: Entry[Facts]) -> str:
    """Return the name under which a run keeps an entry: no late write overwrites another one."""
    return f"{entry.entry}.{entry.digest[:_NAME_DIGITS]}"


def link_name(digest: str) -> str:
    """Return the name of the link to the entry that follows one of this digest."""
    return f"next.{digest}"


def first_name(ledger: str) -> str:
    """Return the name of the link to the first entry of a ledger; hashed, since a model's name may hold any character."""
    return f"first.{_sha256(ledger)}"


def targets_of(runs: list[StoredRun], *others: Link | None) -> set[tuple[str, str]]:
    """Return what links name: the first digits of the digest, and the run."""
    links = [link for run in runs for link in run.links.values()] + [link for link in others if link]
    return {(link.digest[:_NAME_DIGITS], link.run_id) for link in links}
