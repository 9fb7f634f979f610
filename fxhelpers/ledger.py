"""The ledger of one registered model: its entries in a chain, the decisions that they make up, and who reigned when.

Pure: texts in, facts out. Where the entries are kept is the registry's business.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise, zip_longest
from typing import Any, Literal, Self

from fxhelpers.errors import LedgerError
from fxhelpers.results import Keyed, rows_html

EntryKind = Literal["intent", "outcome", "seal"]
KINDS: tuple[EntryKind, ...] = ("intent", "outcome", "seal")
GENESIS = "0" * 64
"""What the first entry of a ledger holds in place of the digest of the one before."""

LONGEST_ENTRY = 4900
"""Characters: an old MLflow server keeps 5,000 of a tag, and newer ones cut what is longer without a word."""

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
        ISO 8601, UTC, milliseconds; never before that of the entry before.
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
        cls, head: "Entry | None", *, ledger: str, entry: EntryKind, decision: str, now: str, facts: dict[str, Any]
    ) -> Self:
        """Return the entry that follows the last one; :class:`LedgerError` where it is too long to be kept."""
        time = max(now, head.time) if head else now
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

    def to_json(self) -> str:
        """Return it as it is kept: canonical JSON."""
        return _canonical({key: getattr(self, key) for key in (*_HEADER, "facts", "digest")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Keyed):
    """One decision about a registered model: what was meant, what came of it, and the seal on its record.

    Attributes
    ----------
    run_id : str
        MLflow run that keeps it; "" for one that was only shown.
    intent : Entry
        Written before anything was evaluated.
    outcome : Entry or None
        None: open, or interrupted.
    seal : Entry or None
        None: not sealed yet.
    """

    run_id: str
    intent: Entry = field(repr=False)
    outcome: Entry | None = field(default=None, repr=False)
    seal: Entry | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """Its name in the ledger: time, kind and four random bytes."""
        return self.intent.decision

    @property
    def model_name(self) -> str:
        """Registered model."""
        return self.intent.ledger

    @property
    def kind(self) -> str:
        """registration, promotion, rollback, stage change, archiving or repair."""
        return str(self.intent.facts.get("kind"))

    @property
    def version(self) -> int | None:
        """Version that it is about."""
        return self._number("version")

    @property
    def result(self) -> str | None:
        """What came of it, such as promoted, refused, stale or failed; None while it is open."""
        return self.outcome.facts.get("result") if self.outcome else None

    @property
    def verdict(self) -> str | None:
        """Of the policy: promote, keep or inconclusive; None where none was asked."""
        return self._text("verdict")

    @property
    def reason(self) -> str:
        """Why, in words: the rule's reason, and in quotes that of whoever acted."""
        own = str(self.outcome.facts.get("reason") or "") if self.outcome else ""
        given = self.intent.facts.get("reason")
        return f'{own} "{given}"'.strip() if given else own

    @property
    def rests_on(self) -> str | None:
        """``compared``, ``not compared`` or ``manual``; None where it moves no champion."""
        return self._text("rests_on")

    @property
    def from_version(self) -> int | None:
        """Champion before."""
        return self._number("from")

    @property
    def to_version(self) -> int | None:
        """Champion afterwards."""
        return self._number("to")

    @property
    def applied(self) -> bool:
        """Whether the champion was moved."""
        return bool(self.run_id) and self.moved_at is not None

    @property
    def moved_at(self) -> str | None:
        """When the champion was moved, ISO 8601, UTC; None where it was not."""
        return self._text("moved")

    @property
    def actor(self) -> str:
        """Who acted: user@host."""
        return str(self.intent.facts.get("actor", ""))

    @property
    def approved_by(self) -> str | None:
        """Who agreed."""
        return self.intent.facts.get("approved_by") or None

    @property
    def outcome_sha256(self) -> str | None:
        """Digest of the outcome: a record that shows it is a witness of the ledger."""
        return self.outcome.digest if self.outcome and self.run_id else None

    @property
    def time(self) -> str:
        """When it was decided, or begun where it is open: ISO 8601, UTC."""
        return (self.outcome or self.intent).time

    @property
    def record(self) -> str | None:
        """Its record below the folder of records, ``AAPL/….ipynb``; None where it was taken outside a recorded run."""
        return self._text("record")

    def _repr_html_(self) -> str:
        rests_on = {"compared": "a comparison on the same days"}.get(str(self.rests_on), self.rests_on)
        return rows_html(
            {
                "decision": self.id or "none: this only shows what would be done",
                "result": self.result,
                "verdict": self.verdict,
                "reason": self.reason,
                "rests on": rests_on,
                "champion before": self.from_version or "none",
                "champion now": self.to_version or "none",
                "by": self.actor,
                "approved by": self.approved_by,
                "time (UTC)": self.time,
            }
        )

    @property
    def bundles(self) -> dict[str, str | None]:
        """Digests of the bundles of the versions that it rests on, by version."""
        told = self._told("bundles")
        return dict(told) if isinstance(told, dict) else {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Those that there are, in order."""
        return tuple(entry for entry in (self.intent, self.outcome, self.seal) if entry)

    def _told(self, key: str) -> Any:  # noqa: ANN401 (facts differ in type)
        """Return a fact of the outcome, or else of the intent."""
        facts = self.outcome.facts if self.outcome else {}
        return facts.get(key, self.intent.facts.get(key))

    def _number(self, key: str) -> int | None:
        told = self._told(key)
        return told if isinstance(told, int) else None

    def _text(self, key: str) -> str | None:
        told = self._told(key)
        return told if isinstance(told, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign(Keyed):
    """A time during which one version, or none, was in Production.

    Attributes
    ----------
    version : int or None
        None: there was no champion.
    since : str
        ISO 8601, UTC.
    until : str or None
        None: to this day.
    decision : str or None
        Id of the decision that began it; None: there is none, and it began
        before ``since``.
    """

    version: int | None
    since: str
    until: str | None
    decision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something in a ledger that cannot have come about by appending to it.

    Attributes
    ----------
    what : str
        In words.
    do : str
        What to do.
    decision : str or None
        Id of the decision where it shows.
    """

    what: str
    do: str = "entries change only behind MLflow's back: find out who can write there; records and their copies tell what was"
    decision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All decisions about one registered model, in the order of their intents.

    Attributes
    ----------
    name : str
        Registered model.
    decisions : tuple of Decision
    faults : tuple of Fault
        What is wrong with the chain; empty where it is whole.
    """

    name: str
    decisions: tuple[Decision, ...] = ()
    faults: tuple[Fault, ...] = ()

    @classmethod
    def read(cls, name: str, runs: Iterable[tuple[str, Mapping[str, str]]]) -> Self:
        """Put a ledger together from the runs that keep it: their ids, and entry kind to text.

        Nothing is raised for what is broken; ``faults`` has it. A decision
        that is there twice, word for word, is one whose creation was sent
        twice.
        """
        faults: list[Fault] = []
        found: dict[str, Decision] = {}
        for run_id, texts in runs:
            entries = _entries(name, run_id, texts, faults)
            intent = entries.get("intent")
            if intent is None:
                faults.append(Fault(what=f"run {run_id}: a decision without a readable intent"))
                continue
            twin = found.get(intent.decision)
            if twin and any(entries.get(entry.entry, entry) != entry for entry in twin.entries):
                faults.append(Fault(what="two different decisions of one id", decision=intent.decision))
            if twin is None or len(twin.entries) < len(entries):
                found[intent.decision] = Decision(run_id=run_id, **{kind: entries.get(kind) for kind in KINDS})  # type: ignore[arg-type]
        decisions = tuple(sorted(found.values(), key=lambda d: d.intent.seq))
        faults += _chain_faults([entry for decision in decisions for entry in decision.entries])
        return cls(name=name, decisions=decisions, faults=tuple(faults))

    @property
    def head(self) -> Entry | None:
        """The last entry."""
        return max((entry for d in self.decisions for entry in d.entries), key=lambda entry: entry.seq, default=None)

    @property
    def outcomes(self) -> list[Decision]:
        """The decisions that have an outcome, in the order of these."""
        return sorted((d for d in self.decisions if d.outcome), key=lambda d: d.outcome.seq if d.outcome else 0)

    @property
    def champion(self) -> int | None:
        """The version in Production, as the last outcome has it."""
        outcomes = self.outcomes
        return outcomes[-1].to_version if outcomes else None

    @property
    def previous_champion(self) -> int | None:
        """The version that was in Production before the present one; None where there was none."""
        before = [reign.version for reign in self.reigns() if reign.version is not None]
        return next((version for version in reversed(before) if version != self.champion), None)

    @property
    def champions(self) -> set[int]:
        """All versions that ever were in Production."""
        return {reign.version for reign in self.reigns() if reign.version is not None}

    @property
    def lost_champion(self) -> int | None:
        """The version whose alias went without a decision; None where the last change was decided, or left a champion."""
        reigns = self.reigns()
        without = len(reigns) > 1 and reigns[-1].version is None and reigns[-1].decision is None
        return reigns[-2].version if without else self.champion

    @property
    def registrations(self) -> dict[int, Decision]:
        """The decision that registered each version: the first one, since a repeated one takes over what is there."""
        done = [d for d in reversed(self.outcomes) if d.kind == "registration" and d.result == "registered"]
        return {d.version: d for d in done if d.version is not None}

    @property
    def attempts(self) -> int:
        """How many promotions were begun, whatever came of them."""
        return sum(d.kind == "promotion" for d in self.decisions)

    def reigns(self) -> list[Reign]:
        """Return who was in Production from when to when, in order; nothing before the first champion.

        A champion that came without a decision, in MLflow's own pages say,
        reigns from the first outcome that found it.
        """
        changes: list[tuple[int | None, str, str | None]] = []
        now: int | None = None
        for decision in self.outcomes:
            if decision.from_version != now:
                changes.append((decision.from_version, decision.time, None))
            if decision.moved_at:
                changes.append((decision.to_version, decision.moved_at, decision.id))
            now = decision.to_version
        ends = [since for _, since, _ in changes[1:]]
        return [
            Reign(version=version, since=since, until=end, decision=decision)
            for (version, since, decision), end in zip_longest(changes, ends)
        ]

    def during(self, start: datetime, end: datetime) -> list[Reign]:
        """Return the reigns that overlap a time, from ``start`` to just before ``end``, both with a time zone."""
        spans = [
            (r, datetime.fromisoformat(r.since), datetime.fromisoformat(r.until) if r.until else None) for r in self.reigns()
        ]
        return [r for r, since, until in spans if since < end and (until is None or until > start)]


def _entries(name: str, run_id: str, texts: Mapping[str, str], faults: list[Fault]) -> dict[str, Entry]:
    """Read the entries that one run keeps, and say which of them cannot be right."""
    entries: dict[str, Entry] = {}
    for kind in KINDS:
        if kind not in texts:
            continue
        try:
            entry = Entry.read(texts[kind])
        except LedgerError as error:
            faults.append(Fault(what=f"run {run_id}: its {kind} is {error}"))
            continue
        if not entry.intact:
            faults.append(Fault(what=f"entry {entry.seq} ({kind}) was edited: its digest is another", decision=entry.decision))
            entry = replace(entry, facts={})  # what it says is not believed
        decision = entries["intent"].decision if "intent" in entries else entry.decision
        if (entry.ledger, entry.entry, entry.decision) != (name, kind, decision):
            what = f"entry {entry.seq} is the {entry.entry} of {entry.decision} in {entry.ledger}; it was moved here"
            faults.append(Fault(what=what, decision=decision))
        entries[kind] = entry
    return entries


def _chain_faults(entries: list[Entry]) -> list[Fault]:
    ordered = sorted(entries, key=lambda entry: entry.seq)
    faults = []
    if ordered and (ordered[0].seq, ordered[0].previous) != (1, GENESIS):
        faults.append(Fault(what=f"the ledger begins with entry {ordered[0].seq}: what came before is gone"))
    for before, after in pairwise(ordered):
        if after.seq == before.seq:
            what = f"the chain is forked: entry {after.seq} is there twice, also in {before.decision}"
        elif after.seq > before.seq + 1:
            what = f"the chain is broken: entries {before.seq + 1} to {after.seq - 1} are gone"
        elif after.previous != before.digest:
            what = f"the chain is broken: entry {after.seq} does not follow from entry {before.seq}"
        else:
            continue
        faults.append(Fault(what=what, decision=after.decision))
    return faults


def _no_number(word: str) -> None:
    msg = f"{word} is not a value"
    raise ValueError(msg)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
