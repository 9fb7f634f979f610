"""A whole ledger: decisions in order, who reigned when, and what is wrong with the chain."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise, zip_longest
from typing import Self

from fxhelpers.errors import LedgerError
from fxhelpers.ledger.decision import Decision
from fxhelpers.ledger.entry import GENESIS, KINDS, Entry
from fxhelpers.ledger.identity import Identity, same
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.results import Keyed


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign(Keyed):
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
class Meant:
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
        """The number of the version in Production, as the last outcome has it."""
        return self.serving.number if self.serving else None

    @property
    def serving(self) -> Identity | None:
        """The version in Production, as the last outcome has it."""
        last = next(reversed(self.outcomes), None)
        if last is None or last.to_version is None:
            return None
        told = last.identity(last.to_version)
        return told if told.bundle is not None else self.meant()[last.id].after

    @property
    def previous_champion(self) -> int | None:
        """The number of the version that was in Production before the present one; None where there was none."""
        former = self.former
        return former.number if former else None

    @property
    def former(self) -> Identity | None:
        """The version that was in Production before the present one; None where there was none."""
        now = self.serving
        return next((v for v in (r.identity() for r in reversed(self.reigns())) if v and not same(v, now)), None)

    @property
    def champions(self) -> set[Identity]:
        """All versions that ever were in Production."""
        return {version for version in (reign.identity() for reign in self.reigns()) if version}

    @property
    def lost(self) -> Identity | None:
        """The version whose alias went without a decision; None where the last change was decided, or left a champion."""
        reigns, outcomes = self.reigns(), self.outcomes
        if len(reigns) < 2 or reigns[-1].version is not None or reigns[-1].decision is not None:  # noqa: PLR2004 (a champion, and its end)
            return self.serving
        decided = any(d.settles for d in outcomes if d.time >= reigns[-1].since)
        return None if decided else reigns[-2].identity()

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

    def meant(self) -> dict[str, Meant]:
        """Return which versions each decision is about, by its id.

        What it does not say itself, as decisions of earlier releases, is what
        had been registered under that number by then.
        """
        known: dict[int, str | None] = {}
        begun: dict[str, dict[int, Identity]] = {}
        found: dict[str, Meant] = {}
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
            found[decision.id] = Meant(before=before, after=after, by_number={**begun.get(decision.id, {}), **named})
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

    def mover(self, champion: Identity | None) -> Decision | None:
        """Return the open decision that may have made a version champion, or nobody, before it was interrupted."""
        if all(d.outcome for d in self.decisions):
            return None
        meant = self.meant()

        def moves(decision: Decision) -> bool:
            if champion is None:
                return decision.to_nobody or decision.kind == "stage change"
            there = meant[decision.id].by_number.get(champion.number)
            named = champion.number in (decision.version, *decision.challengers) and same(there, champion)
            return named or (bool(champion.bundle) and decision.intent.facts.get("bundle") == champion.bundle)

        return next((d for d in self.decisions if d.outcome is None and moves(d)), None)

    @property
    def symbol(self) -> str:
        """Ticker that the model forecasts: as its decisions say, or else as its name does."""
        told = (decision.intent.facts.get("symbol") for decision in self.decisions)
        return next((str(symbol) for symbol in told if symbol), self.name.removeprefix(MODEL_PREFIX))

    def reigns(self) -> list[Reign]:
        """Return who was in Production from when to when, in order; nothing before the first champion.

        A champion that came without a decision, in MLflow's own pages say,
        reigns from the first outcome that found it.
        """
        changes: list[tuple[Identity | None, str, Decision | None]] = []
        now: Identity | None = None
        meant = self.meant()
        for decision in self.outcomes:
            before, after = meant[decision.id].before, meant[decision.id].after
            if not same(before, now):
                changes.append((before, decision.time, None))
            if decision.moved_at:
                changes.append((after, decision.moved_at, decision))
            now = after
        ends = [since for _, since, _ in changes[1:]]
        return [
            Reign(
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

    def during(self, start: datetime, end: datetime) -> list[Reign]:
        """Return the reigns that overlap a time, from ``start`` to just before ``end``, both with a time zone."""
        spans = [
            (r, datetime.fromisoformat(r.since), datetime.fromisoformat(r.until) if r.until else None) for r in self.reigns()
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
