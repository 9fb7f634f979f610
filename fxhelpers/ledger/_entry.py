"""Entries of a ledger, the versions that they name, and the links between them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self, get_args

from fxhelpers.errors import LedgerError

_DIGITS = 12
"""Of a digest, where people read it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One version of a registered model.

    Attributes
    ----------
    number : int
        That MLflow gave; once the registered model is deleted and made anew,
        MLflow gives it again.
    bundle : str or None
        SHA-256 of the bundle that it was made of; "" for a version of plain
        MLflow, which has none; None where it is not known.
    """

    number: int
    bundle: str | None = None

    @classmethod
    def of(cls, number: int, bundles: Mapping[str, Any]) -> Self:
        """Return the version of a number, as a decision's ``bundles`` have it."""
        bundle = bundles.get(str(number), ...)
        return cls(number, None if bundle is ... else str(bundle or ""))

    def may_be(self, other: "Identity | None") -> bool:
        """Tell whether nothing speaks against both being the same version: one digest, or one that is not known."""
        return (
            other is not None
            and self.number == other.number
            and (self.bundle == other.bundle or None in {self.bundle, other.bundle})
        )

    @property
    def short(self) -> str:
        """``bundle 3f2a…``, for people."""
        words = {None: "unknown bundle", "": "no bundle of fxhelpers"}
        return words.get(self.bundle, f"bundle {str(self.bundle)[:_DIGITS]}")

    def __str__(self) -> str:
        return f"version {self.number}"


def same(one: Identity | None, other: Identity | None) -> bool:
    """Tell whether nothing speaks against two being the same version, or both being none."""
    return one is other if one is None or other is None else one.may_be(other)


def labels(versions: Iterable[Identity]) -> dict[Identity, str]:
    """Return what to call each version: ``version 1``, with its bundle where another one has that number too."""
    known = sorted(set(versions), key=lambda v: (v.number, v.bundle or ""))
    often = Counter(v.number for v in known if v.bundle is not None)
    return {v: f"{v} ({v.short})" if often[v.number] > 1 else str(v) for v in known}


EntryKind = Literal["intent", "outcome", "seal"]
KINDS: tuple[EntryKind, ...] = get_args(EntryKind)
GENESIS = "0" * 64
"""What the first entry of a ledger holds in place of the digest of the one before."""

LONGEST_ENTRY = 4900
"""Characters: an old MLflow server keeps 5,000 of a tag, and newer ones cut what is longer without a word."""

SERVES = "serves"
"""Fact of an intent and of a seal: number and bundle of the version in Production, None where there is none."""

_HEADER = ("ledger", "seq", "entry", "decision", "time", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: its place in the chain, and what it says.

    Attributes
    ----------
    ledger : str
        Registered model.
    seq : int
        1, 2, 3, … within the ledger.
    entry : {"intent", "outcome", "seal"}
    decision : str
        Id of the decision that it belongs to.
    time : str
        ISO 8601, UTC, milliseconds; never before that of the entry before,
        unless a wrong clock had told that.
    previous : str
        SHA-256 of the entry before.
    facts : dict
        What it says; text, numbers, lists and mappings.
    digest : str
        SHA-256 of all of the above, as the entry itself states it.
    intact : bool
        Whether what was read is what its digest says, to the letter.
    """

    ledger: str
    seq: int
    entry: EntryKind
    decision: str
    time: str
    previous: str
    facts: dict[str, Any] = field(hash=False)
    digest: str
    intact: bool = field(default=True, compare=False)

    @classmethod
    def after(
        cls,
        head: "Entry | None",
        *,
        ledger: str,
        entry: EntryKind,
        decision: str,
        now: str,
        facts: dict[str, Any],
        sets_back: bool = False,
    ) -> Self:
        """Return the entry that follows the last one; :class:`LedgerError` where it is too long to be kept.

        Its time is never before that of the last one, unless that is set
        back.
        """
        time = max(now, head.time) if head and not sets_back else now
        header = {"ledger": ledger, "seq": head.seq + 1 if head else 1, "entry": entry, "decision": decision, "time": time}
        body = {**header, "previous": head.digest if head else GENESIS, "facts": facts}
        made = cls(**body, digest=_sha256(_canonical(body)))  # type: ignore[arg-type]
        size = len(made.to_json())
        if size > LONGEST_ENTRY:
            msg = (
                f"{ledger}: the {entry} of {decision} has {size} characters, and {LONGEST_ENTRY} can be kept; shorten its reason"
            )
            raise LedgerError(msg)
        return made

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an entry; :class:`LedgerError` where it is none. Whether it is intact is another question."""
        try:
            raw = json.loads(text, parse_constant=_no_number)
            stated = raw["digest"]
            intact = _sha256(text.replace(f'"digest":"{stated}",', "", 1)) == stated  # the text is canonical, or was edited
            made = cls(**{key: raw[key] for key in (*_HEADER, "facts", "digest")}, intact=intact)
            zone = datetime.fromisoformat(made.time).tzinfo
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            msg = f"not an entry of a ledger: {type(error).__name__}: {error}"
            raise LedgerError(msg) from error
        texts = (made.ledger, made.entry, made.decision, made.previous, made.digest)
        if not (zone and isinstance(made.seq, int) and isinstance(made.facts, dict) and all(isinstance(t, str) for t in texts)):
            msg = "not an entry of a ledger: its fields are of other types"
            raise LedgerError(msg)
        return made

    @property
    def tells_serving(self) -> bool:
        """Whether it says who is in Production after it; intents and seals of earlier releases do not."""
        return SERVES in self.facts or (self.entry == "outcome" and "to" in self.facts)

    @property
    def serving(self) -> Identity | None:
        """The version in Production after it, as far as it says so."""
        if SERVES in self.facts:
            told = self.facts[SERVES]
            return Identity(*told) if isinstance(told, list) else None
        number = self.facts.get("to")
        return Identity.of(number, self.facts.get("bundles") or {}) if isinstance(number, int) else None

    def to_json(self) -> str:
        """Return it as it is kept: canonical JSON."""
        return _canonical({key: getattr(self, key) for key in (*_HEADER, "facts", "digest")})


def _no_number(word: str) -> None:
    msg = f"{word} is not a value"
    raise ValueError(msg)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_NAME_DIGITS = 16
"""Of a digest, in the name under which an entry is kept."""


class Link(NamedTuple):
    """The one entry that follows: its digest, and the run that keeps it."""

    digest: str
    run_id: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read a link; None where it is none."""
        words = text.split()
        return cls(*words) if len(words) == len(cls._fields) else None

    def __str__(self) -> str:
        return f"{self.digest} {self.run_id}"


class StoredRun(NamedTuple):
    """What one run keeps of a ledger.

    Attributes
    ----------
    run_id : str
    texts : dict of str to str
        Entries, by the name of :func:`entry_name`; by their kind alone where
        an earlier release wrote them, which linked none.
    links : dict of str to Link
        By the name of :func:`link_name`.
    seen : str
        When the owner of its decision last showed itself, ISO 8601, UTC; "":
        never but by its entries.
    """

    run_id: str
    texts: Mapping[str, str]
    links: Mapping[str, Link] = MappingProxyType({})
    seen: str = ""

    def counts(self, name: str, targets: set[tuple[str, str]]) -> bool:
        """Tell whether the entry of a name is linked: by the one before, or by having a successor itself."""
        digits = name.partition(".")[2]
        return (digits, self.run_id) in targets or any(link.startswith(f"next.{digits}") for link in self.links)


def entry_name(entry: Entry) -> str:
    """Return the name under which a run keeps an entry: no late write overwrites another one."""
    return f"{entry.entry}.{entry.digest[:_NAME_DIGITS]}"


def link_name(digest: str) -> str:
    """Return the name of the link to the entry that follows one of this digest."""
    return f"next.{digest}"


def first_name(ledger: str) -> str:
    """Return the name of the link to the first entry of a ledger, whose own name may hold what no such name can."""
    return f"first.{hashlib.sha256(ledger.encode()).hexdigest()}"


def targets_of(runs: list[StoredRun], *others: Link | None) -> set[tuple[str, str]]:
    """Return what links name: the first digits of the digest, and the run."""
    links = [link for run in runs for link in run.links.values()] + [link for link in others if link]
    return {(link.digest[:_NAME_DIGITS], link.run_id) for link in links}
