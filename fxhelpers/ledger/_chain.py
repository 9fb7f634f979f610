"""A whole ledger: decisions in order, who reigned when, and what is wrong with the chain."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise, zip_longest
from typing import Self

from fxhelpers.display import Keyed
from fxhelpers.errors import LedgerError
from fxhelpers.ledger._decision import Decision
from fxhelpers.ledger._entry import GENESIS, KINDS, Entry, Identity, Link, StoredRun, entry_name, link_name, same, targets_of
from fxhelpers.params import MODEL_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionPeriod(Keyed):
    """A time during which one version, or none, was in Production.

    Attributes
    ----------
    version : int or None
        None: there was no champion.
    bundle : str or None
        SHA-256 of its bundle, which tells it from another version of that
        number; "" for one of plain MLflow; None where it is not known.
    since : str
        ISO 8601, UTC.
    until : str or None
        None: to this day.
    decision : str or None
        Id of the decision that began it; None: there is none, and it began
        before ``since``.
    rests_on : str or None
        ``compared``, ``override``, …, as that decision has it.
    mark : str
        What to say with it, as that there is no evidence of skill.
    """

    version: int | None
    bundle: str | None = None
    since: str
    until: str | None
    decision: str | None
    rests_on: str | None = None
    mark: str = ""

    @property
    def standing(self) -> str:
        """What it rests on, with its mark."""
        words = (self.rests_on, self.mark) if self.rests_on == "compared" else (self.mark or self.rests_on,)
        return ", ".join(filter(None, words))

    def identity(self) -> Identity | None:
        """Return the version, by number and bundle; None where there was no champion."""
        return Identity(self.version, self.bundle) if self.version is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVersions:
    """The versions that a decision is about, each by number and bundle.

    Attributes
    ----------
    before, after : Identity or None
        Champion before and afterwards; None: there was none, or there is no
        outcome.
    by_number : dict of int to Identity
        The others that it names, by number.
    """

    before: Identity | None
    after: Identity | None
    by_number: dict[int, Identity]


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

    message: str
    remedy: str = "entries change only behind MLflow's back: find out who can write there; records and their copies tell what was"
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
    late : tuple of Entry
        What is no part of it: it was written by somebody who was stopped on
        the way, or after others had gone on.
    """

    name: str
    decisions: tuple[Decision, ...] = ()
    faults: tuple[Fault, ...] = ()
    late: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, name: str, runs: Iterable[StoredRun], *linked: Link | None) -> Self:
        """Put a ledger together from the runs that keep it; ``linked`` names entries that count, such as the first.

        Nothing is raised for what is broken; ``faults`` has it. What is not
        linked came too late, and is in ``late``. A decision of an earlier
        release that is there twice, word for word, was sent twice.
        """
        kept, faults, late = list(runs), list[Fault](), list[Entry]()
        targets, found = targets_of(kept, *linked), dict[str, Decision]()
        begins = _first_linked(kept, targets)
        for run in kept:
            counted = {key: text for key, text in run.texts.items() if _counts(run, key, text, targets, begins)}
            late += _read_late(text for key, text in run.texts.items() if key not in counted)
            if run.texts and not counted:
                continue
            entries = _entries(name, run.run_id, counted, faults)
            intent = entries.get("intent")
            if intent is None:
                faults.append(Fault(message=f"run {run.run_id}: a decision without a readable intent"))
                continue
            twin = found.get(intent.decision)
            if twin and any(entries.get(entry.entry, entry) != entry for entry in twin.entries):
                faults.append(Fault(message="two different decisions of one id", decision=intent.decision))
            if twin is None or len(twin.entries) < len(entries):
                found[intent.decision] = Decision(run_id=run.run_id, seen=run.seen, **{kind: entries.get(kind) for kind in KINDS})  # type: ignore[arg-type]
        decisions = tuple(sorted(found.values(), key=lambda d: d.intent.seq))
        faults += _chain_faults([entry for decision in decisions for entry in decision.entries])
        ledger = cls(name=name, decisions=decisions, faults=tuple(faults), late=_late(decisions, late))
        return replace(ledger, faults=(*faults, *_cut_off(ledger.head, kept)))

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
        """The number of the version in Production, as the last outcome has it."""
        return self.serving.number if self.serving else None

    @property
    def last_telling(self) -> Entry | None:
        """The last entry that says who is in Production; None where none does: nothing was decided."""
        entries = (entry for d in self.decisions for entry in d.entries if entry.tells_serving)
        return max(entries, key=lambda entry: entry.seq, default=None)

    @property
    def serving(self) -> Identity | None:
        """The version in Production, as the last entry that says so has it."""
        last = self.last_telling
        told = last.serving if last else None
        if last is None or told is None or told.bundle is not None:
            return told
        return self.named_versions()[last.decision].after or told

    @property
    def previous_champion(self) -> int | None:
        """The number of the version that was in Production before the present one; None where there was none."""
        former = self.former
        return former.number if former else None

    @property
    def former(self) -> Identity | None:
        """The version that was in Production before the present one; None where there was none."""
        now = self.serving
        return next((v for v in (r.identity() for r in reversed(self.production_periods())) if v and not same(v, now)), None)

    @property
    def champions(self) -> set[Identity]:
        """All versions that ever were in Production."""
        return {version for version in (period.identity() for period in self.production_periods()) if version}

    @property
    def registrations(self) -> dict[int, list[Decision]]:
        """The decisions that registered the versions of each number, in order.

        Of one version the first counts, since a repeated one takes over what
        is there; another version of that number was registered after MLflow
        gave it again.
        """
        found: dict[int, list[Decision]] = {}
        for decision in self.outcomes:
            if decision.kind == "registration" and decision.result == "registered" and decision.version is not None:
                found.setdefault(decision.version, []).append(decision)
        return found

    def named_versions(self) -> dict[str, NamedVersions]:
        """Return which versions each decision is about, by its id.

        What it does not say itself, as decisions of earlier releases, is what
        had been registered under that number by then.
        """
        known: dict[int, str | None] = {}
        begun: dict[str, dict[int, Identity]] = {}
        found: dict[str, NamedVersions] = {}
        steps = [(entry, d) for d in self.decisions for entry in (d.intent, d.outcome) if entry]
        for entry, decision in sorted(steps, key=lambda step: step[0].seq):
            if entry.entry == "intent":
                begun[decision.id] = {n: Identity(n, known.get(n)) for n in decision.numbers}
            named = {int(number): decision.identity(int(number)) for number in decision.bundles}
            if entry is decision.outcome:
                known |= {number: version.bundle for number, version in named.items()}
            before, after = (
                Identity(n, known.get(n)) if n is not None and entry is decision.outcome else None
                for n in (decision.from_version, decision.to_version)
            )
            found[decision.id] = NamedVersions(before=before, after=after, by_number={**begun.get(decision.id, {}), **named})
        return found

    @property
    def attempts(self) -> list[str]:
        """Every distinct comparison made in order to promote, in the order of the intents: digests of frame and policy.

        One that was abandoned, so that nobody knows what was seen, is an
        attempt of its own and stands here by its id. Where nothing could be
        compared, or the challenger was the champion already, nothing was
        tried.
        """
        return list(dict.fromkeys(key for key in map(_attempt, self.decisions) if key))

    def tried(self, policy_sha256: str, before: Decision | None = None) -> dict[str, Decision]:
        """Return the distinct comparisons made in order to promote by a policy: the digest that each counts by, to its first.

        ``before`` is as in :meth:`attempt`.
        """
        begun = (d for d in reversed(self.decisions) if before is None or d.intent.seq < before.intent.seq)
        keys = ((_attempt(decision), decision) for decision in begun)
        return {key.split()[0]: d for key, d in keys if key and key.split()[1:] == [policy_sha256]}

    def attempt(self, frame_sha256: str, policy_sha256: str, before: Decision | None = None) -> int:
        """Return the how-manieth distinct attempt a comparison is; the same one by the same policy is no new one.

        ``before`` is the decision that it is made for; what was begun later
        does not count.
        """
        key, seq = f"{frame_sha256} {policy_sha256}", before.intent.seq if before is not None else None
        begun = Ledger(name=self.name, decisions=tuple(d for d in self.decisions if seq is None or d.intent.seq < seq))
        same = next((d.outcome.facts.get("attempt") for d in begun.decisions if d.outcome and _attempt(d) == key), None)
        return same if isinstance(same, int) and same > 0 else len(begun.attempts) + 1

    @property
    def symbol(self) -> str:
        """Ticker that the model forecasts: as its decisions say, or else as its name does."""
        told = (decision.intent.facts.get("symbol") for decision in self.decisions)
        return next((str(symbol) for symbol in told if symbol), self.name.removeprefix(MODEL_PREFIX))

    def production_periods(self) -> list[ProductionPeriod]:
        """Return who was in Production from when to when, in order; nothing before the first champion.

        A champion that came without a decision, in MLflow's own pages say,
        reigns from the first outcome that found it.
        """
        changes: list[tuple[Identity | None, str, Decision | None]] = []
        now: Identity | None = None
        named_versions = self.named_versions()
        for decision in self.outcomes:
            before, after = named_versions[decision.id].before, named_versions[decision.id].after
            if not same(before, now):
                changes.append((before, decision.time, None))
            if decision.moved_at:
                changes.append((after, decision.moved_at, decision))
            now = after
        ends = [since for _, since, _ in changes[1:]]
        return [
            ProductionPeriod(
                version=version.number if version else None,
                bundle=version.bundle if version else None,
                since=since,
                until=end,
                decision=by.id if by is not None else None,
                rests_on=by.rests_on if by is not None else None,
                mark=by.mark if by is not None else "",
            )
            for (version, since, by), end in zip_longest(changes, ends)
        ]

    def during(self, start: datetime, end: datetime) -> list[ProductionPeriod]:
        """Return the reigns that overlap a time, from ``start`` to just before ``end``, both with a time zone."""
        spans = [
            (r, datetime.fromisoformat(r.since), datetime.fromisoformat(r.until) if r.until else None)
            for r in self.production_periods()
        ]
        return [r for r, since, until in spans if since < end and (until is None or until > start)]


def _attempt(decision: Decision) -> str | None:
    """Return what tells one attempt from another; None where a decision was none."""
    if decision.kind != "promotion" or decision.result == "unchanged" or decision.rests_on == "not compared":
        return None
    if decision.frame_sha256:
        same = decision.outcome.facts.get("attempt_frame") if decision.outcome else None
        return f"{same or decision.frame_sha256} {decision.outcome.facts.get('policy_sha256') if decision.outcome else ''}"
    return None if decision.result in {"failed", "stale"} else decision.id


def _first_linked(runs: list[StoredRun], targets: set[tuple[str, str]]) -> float:
    """Return the place of the first entry that had to be linked: from there on none counts that is not."""
    linked = (text for run in runs for key, text in run.texts.items() if "." in key and run.counts(key, targets))
    return min((entry.seq for entry in _read_late(linked)), default=math.inf)


def _counts(run: StoredRun, key: str, text: str, targets: set[tuple[str, str]], begins: float) -> bool:
    """Tell whether an entry is part of the ledger; one of an earlier release is unless the ledger went on without it."""
    if "." in key:
        return run.counts(key, targets)
    return all(entry.seq < begins for entry in _read_late([text]))


def _read_late(texts: Iterable[str]) -> Iterator[Entry]:
    for text in texts:
        with suppress(LedgerError):
            yield Entry.read(text)


def _late(decisions: Iterable[Decision], found: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return what is no part of a ledger, in order; what only was sent twice is nothing."""
    counted = {entry.digest for decision in decisions for entry in decision.entries}
    late = {entry.digest: entry for entry in found if entry.digest not in counted}
    return tuple(sorted(late.values(), key=lambda entry: (entry.seq, entry.time)))


def _cut_off(head: Entry | None, runs: list[StoredRun]) -> Iterator[Fault]:
    """Find entries that are gone from the end: the last one that is there names a successor."""
    if head and any(link_name(head.digest) in run.links for run in runs):
        yield Fault(message=f"the ledger was cut off: what followed entry {head.seq} is gone", decision=head.decision)


def _entries(name: str, run_id: str, texts: Mapping[str, str], faults: list[Fault]) -> dict[str, Entry]:
    """Read the entries that one run keeps, and say which of them cannot be right."""
    entries: dict[str, Entry] = {}
    by_kind = sorted(texts.items(), key=lambda item: KINDS.index(item[0].partition(".")[0]))
    for name_of, text in by_kind:
        kind = name_of.partition(".")[0]
        if kind in entries:
            faults.append(Fault(message=f"run {run_id}: it has two entries of kind {kind}", decision=entries[kind].decision))
            continue
        try:
            entry = Entry.read(text)
        except LedgerError as error:
            faults.append(Fault(message=f"run {run_id}: its {kind} is {error}"))
            continue
        if not (entry.intact and entry_name(entry).startswith(name_of)):
            faults.append(Fault(message=f"entry {entry.seq} ({kind}) was edited: its digest is another", decision=entry.decision))
            entry = replace(entry, facts={})  # what it says is not believed
        decision = entries["intent"].decision if "intent" in entries else entry.decision
        if (entry.ledger, entry.entry, entry.decision) != (name, kind, decision):
            message = f"entry {entry.seq} is the {entry.entry} of {entry.decision} in {entry.ledger}; it was moved here"
            faults.append(Fault(message=message, decision=decision))
        entries[kind] = entry
    return entries


def _chain_faults(entries: list[Entry]) -> list[Fault]:
    ordered = sorted(entries, key=lambda entry: entry.seq)
    faults = []
    if ordered and (ordered[0].seq, ordered[0].previous) != (1, GENESIS):
        faults.append(Fault(message=f"the ledger begins with entry {ordered[0].seq}: what came before is gone"))
    for before, after in pairwise(ordered):
        if after.seq == before.seq:
            message = f"the chain is forked: entry {after.seq} is there twice, also in {before.decision}"
        elif after.seq > before.seq + 1:
            message = f"the chain is broken: entries {before.seq + 1} to {after.seq - 1} are gone"
        elif after.previous != before.digest:
            message = f"the chain is broken: entry {after.seq} does not follow from entry {before.seq}"
        else:
            continue
        faults.append(Fault(message=message, decision=after.decision))
    return faults
