"""A whole ledger: decisions in order, who was in Production when, and what is wrong with the chain."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise, zip_longest
from typing import Any, Self

from fxhelpers.display import Keyed
from fxhelpers.errors import LedgerError
from fxhelpers.ledger._attempts import Attempt
from fxhelpers.ledger._decision import Decision
from fxhelpers.ledger._entry import GENESIS, Entry, Link, StoredRun, entry_name, link_name, targets_of
from fxhelpers.ledger._facts import FACTS, KINDS, Facts, Identity, same
from fxhelpers.params import MODEL_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionPeriod(Keyed):
    """A time during which one version, or none, was in Production."""

    version: int | None  # None: there was no champion
    # SHA-256 of its bundle, which tells it from another version of that number; "" for one of plain MLflow; None if it is not
    # known
    bundle: str | None = None
    since: str  # ISO 8601, UTC
    until: str | None  # None: it has not ended
    decision: str | None  # id of the decision that began it; None: there is none, and it began before ``since``
    rests_on: str | None = None  # ``compared``, ``override``, …, from that decision
    mark: str = ""  # label that is shown with it, such as "no evidence of skill"

    @property
    def standing(self) -> str:
        """What it rests on, with its label."""
        parts = (self.rests_on, self.mark) if self.rests_on == "compared" else (self.mark or self.rests_on,)
        return ", ".join(filter(None, parts))

    def identity(self) -> Identity | None:
        """Return the version, by number and bundle; None if there was no champion."""
        return Identity(self.version, self.bundle) if self.version is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVersions:
    """The versions that a decision is about: champion before and afterwards, and by number all others that it names."""

    before: Identity | None
    after: Identity | None
    by_number: dict[int, Identity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something in a ledger that cannot have come about by appending to it, with the id of the decision that it concerns."""

    message: str
    remedy: str = (
        "entries change only behind MLflow's back: find out who can write there; records and their copies show the original"
    )
    decision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All decisions about one registered model, in the order of their intents."""

    name: str  # registered model
    decisions: tuple[Decision, ...] = ()
    faults: tuple[Fault, ...] = ()  # what is wrong with the chain; empty if it is intact
    # entries that do not count: their writer was stopped on the way, or wrote them after others had gone on
    late: tuple[Entry[Facts], ...] = ()

    @classmethod
    def read(cls, name: str, runs: Iterable[StoredRun], *linked: Link | None) -> Self:
        """Put a ledger together from the runs that keep it; ``linked`` names entries that count, such as the first.

        Nothing is raised for what is broken; ``faults`` lists it. Entries that are not linked came too late, and are in ``late``.
        Two equal decisions of an earlier release are one that was sent twice.
        """
        stored, faults, late = list(runs), list[Fault](), list[Entry[Facts]]()
        targets, found = targets_of(stored, *linked), dict[str, Decision]()
        by_earlier_release = any("." not in key for run in stored for key in run.texts)
        begins = _first_linked(stored, targets) if by_earlier_release else math.inf
        for run in stored:
            counted = {key: text for key, text in run.texts.items() if _counts(run, key, text, targets, begins)}
            late += _readable(text for key, text in run.texts.items() if key not in counted)
            if run.texts and not counted:
                continue
            entries = _entries(name, run.run_id, counted, faults)
            if "intent" not in entries:
                faults.append(Fault(message=f"run {run.run_id}: a decision without a readable intent"))
                continue
            decision = Decision(run_id=run.run_id, seen=run.seen, **entries)
            twin = found.get(decision.id)
            if twin and any(entries.get(entry.entry, entry) != entry for entry in twin.entries):
                faults.append(Fault(message="two different decisions of one id", decision=decision.id))
            if twin is None or len(twin.entries) < len(entries):
                found[decision.id] = decision
        decisions = tuple(sorted(found.values(), key=lambda d: d.intent.seq))
        faults += _chain_faults([entry for decision in decisions for entry in decision.entries])
        ledger = cls(name=name, decisions=decisions, faults=tuple(faults), late=_late(decisions, late))
        return replace(ledger, faults=(*faults, *_cut_off(ledger.head, stored)))

    @property
    def head(self) -> Entry[Facts] | None:
        return max((entry for d in self.decisions for entry in d.entries), key=lambda entry: entry.seq, default=None)

    @property
    def outcomes(self) -> list[Decision]:
        """The decisions that have an outcome, in the order of these."""
        return sorted((d for d in self.decisions if d.outcome), key=lambda d: d.outcome.seq if d.outcome else 0)

    @property
    def champion(self) -> int | None:
        """The number of the version in Production, by the last outcome."""
        return self.serving.number if self.serving else None

    @property
    def last_statement(self) -> Entry[Facts] | None:
        """The last entry that says which version is in Production; None if none does: nothing was decided."""
        entries = (entry for d in self.decisions for entry in d.entries if entry.states_champion)
        return max(entries, key=lambda entry: entry.seq, default=None)

    @property
    def serving(self) -> Identity | None:
        """The version in Production, by the last entry that says so."""
        last = self.last_statement
        stated = last.serving if last else None
        if last is None or stated is None or stated.bundle is not None:
            return stated
        return self.named_versions()[last.decision].after or stated

    @property
    def former(self) -> Identity | None:
        """The version that was in Production before the present one; None if there was none."""
        now = self.serving
        return next((v for v in (r.identity() for r in reversed(self.production_periods())) if v and not same(v, now)), None)

    @property
    def tenure(self) -> "Tenure | None":
        """Since when the champion's recipe has been in Production, through all its refreshes; None without a champion."""
        periods = self.production_periods()
        if not periods or periods[-1].version is None:
            return None
        refreshes = {d.id for d in self.outcomes if d.outcome_facts.change == "refresh"}
        begins = next((n for n in range(len(periods) - 1, 0, -1) if periods[n].decision not in refreshes), 0)
        served = tuple(version for period in periods[begins:] if (version := period.identity()))
        before = [version for period in periods[:begins] if (version := period.identity()) and version not in served]
        began = periods[begins]  # perhaps by an alarm, which is about the champion before
        alarms = [d for d in self.alarms if d.time >= began.since and d.id != began.decision]
        return Tenure(
            since=began.since,
            after=max((str(alarm.outcome_facts.alarm.get("last_session", "")) for alarm in alarms), default=""),
            versions=served,
            predecessor=before[-1] if before else None,
            alarm=alarms[-1] if alarms else None,
        )

    @property
    def alarms(self) -> list[Decision]:
        """The alarms that were recorded, in order."""
        return [d for d in self.outcomes if d.kind == "alarm" and d.result == "alarm"]

    @property
    def champions(self) -> set[Identity]:
        return {version for version in (period.identity() for period in self.production_periods()) if version}

    @property
    def registrations(self) -> dict[int, list[Decision]]:
        """The decisions that registered the versions of each number, in order: MLflow can assign a number again.

        The first one of a version counts, since a repeated one takes over the version as it is by then.
        """
        found: dict[int, list[Decision]] = {}
        for decision in self.outcomes:
            if decision.kind == "registration" and decision.result == "registered" and decision.version is not None:
                found.setdefault(decision.version, []).append(decision)
        return found

    def named_versions(self) -> dict[str, NamedVersions]:
        """Return which versions each decision is about, by its id.

        A bundle that a decision does not name, as in earlier releases, is the one registered under that number by then.
        """
        known: dict[int, str | None] = {}
        begun: dict[str, dict[int, Identity]] = {}
        found: dict[str, NamedVersions] = {}
        steps = [(entry.seq, entry is d.outcome, d) for d in self.decisions for entry in (d.intent, d.outcome) if entry]
        for _, decided, decision in sorted(steps, key=lambda step: step[0]):
            if not decided:
                begun[decision.id] = {n: Identity(n, known.get(n)) for n in decision.numbers}
            bundles = {int(number): decision.identity(int(number)) for number in decision.bundles}
            if decided:
                known |= {number: version.bundle for number, version in bundles.items()}
            before, after = (
                Identity(n, known.get(n)) if n is not None and decided else None
                for n in (decision.from_version, decision.to_version)
            )
            found[decision.id] = NamedVersions(before=before, after=after, by_number={**begun.get(decision.id, {}), **bundles})
        return found

    @property
    def attempts(self) -> list[Attempt]:
        """Every distinct attempt to promote, in the order of the intents.

        A recipe that contests the champion again within 63 days repeats its attempt. Outcomes that know no recipe, as those of
        earlier releases, count by evaluation frame and policy. An abandoned decision, whose results may have been seen, is an
        attempt of its own. A refresh is none, nor are a first champion, a decision that compared nothing, and one whose
        challenger was the champion already.
        """
        return self.attempts_before(None)

    def attempts_before(self, decision: Decision | None) -> list[Attempt]:
        """Return the distinct attempts of the decisions that were begun before one; of all without one."""
        found: dict[tuple[str, str, str], Attempt] = {}
        for begun in self._begun_before(decision):
            attempt = _attempt(begun, len(found) + 1)
            if attempt:
                found.setdefault((attempt.key, attempt.policy, attempt.frame), attempt)
        return list(found.values())

    def tried(self, policy_sha256: str, before: Decision | None = None) -> dict[str, Decision]:
        """Return the distinct comparisons, of challengers without a known recipe, made to promote by a policy.

        By the digest of the frame: the first decision.
        """
        found: dict[str, Decision] = {}
        for decision in self._begun_before(before):
            attempt = _attempt(decision, 1)
            if attempt and attempt.policy == policy_sha256 and attempt.key == attempt.frame:
                found.setdefault(attempt.frame, decision)
        return found

    @property
    def recipes(self) -> dict[str, str]:
        """By SHA-256 of each registered recipe: when it was first registered, ISO 8601, UTC."""
        found: dict[str, str] = {}
        for decision in self.outcomes:
            recipe = decision.outcome_facts.recipe
            if recipe and decision.kind == "registration" and decision.result == "registered":
                found.setdefault(recipe, decision.time)
        return found

    def _begun_before(self, decision: Decision | None) -> tuple[Decision, ...]:
        return tuple(d for d in self.decisions if decision is None or d.intent.seq < decision.intent.seq)

    @property
    def symbol(self) -> str:
        """Ticker that the model forecasts: from its decisions, or else from its name."""
        return next((s for d in self.decisions if (s := d.intent.facts.symbol)), self.name.removeprefix(MODEL_PREFIX))

    def production_periods(self) -> list[ProductionPeriod]:
        """Return who was in Production from when to when, in order; nothing before the first champion.

        The period of a champion that came without a decision, for example in MLflow's own pages, begins at the first outcome that
        found it.
        """
        changes: list[tuple[Identity | None, str, Decision | None]] = []
        now: Identity | None = None
        named_versions = self.named_versions()
        for decision in self.outcomes:
            about = named_versions[decision.id]
            if not same(about.before, now):
                changes.append((about.before, decision.time, None))
            if decision.moved_at:
                changes.append((about.after, decision.moved_at, decision))
            now = about.after
        ends = [since for _, since, _ in changes[1:]]
        return [
            ProductionPeriod(
                version=version.number if version else None,
                bundle=version.bundle if version else None,
                since=since,
                until=end,
                decision=by.id if by else None,
                rests_on=by.rests_on if by else None,
                mark=by.mark if by else "",
            )
            for (version, since, by), end in zip_longest(changes, ends)
        ]

    def during(self, start: datetime, end: datetime) -> list[ProductionPeriod]:
        """Return the production periods that overlap a time, from ``start`` to just before ``end``, both with a time zone."""
        return [
            period
            for period in self.production_periods()
            if datetime.fromisoformat(period.since) < end
            and (period.until is None or datetime.fromisoformat(period.until) > start)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """The time for which a recipe has been in Production without a break, from its promotion on, whatever its refreshes."""

    since: str  # ISO 8601, UTC
    after: str  # last session that the last alarm in it counted, YYYY-MM-DD: evidence begins anew after it; "" without one
    versions: tuple[Identity, ...]  # that served in it, the champion last
    predecessor: Identity | None  # the last other version before it
    alarm: Decision | None  # the last one in it


def _attempt(decision: Decision, place: int) -> Attempt | None:
    """Return the attempt that a decision was, at its place among all unless it says another; None if it was none."""
    facts = decision.outcome_facts
    if decision.kind != "promotion" or decision.result == "unchanged" or decision.rests_on == "not compared":
        return None
    if facts.change in {"refresh", "first"}:
        return None
    if not facts.frame_sha256:
        abandoned = decision.result not in {"failed", "stale"}
        return Attempt(key=decision.id, policy="", number=place, day="", time=decision.intent.time) if abandoned else None
    frame = facts.attempt_frame or facts.frame_sha256
    return Attempt(
        key=facts.recipe or frame,
        policy=facts.policy_sha256 or "",
        number=facts.attempt if facts.attempt and facts.attempt > 0 else place,
        day=facts.window.last_day if facts.window else "",
        first=facts.window.first_day if facts.window else "",
        time=decision.intent.time,
        frame=frame,
    )


def _first_linked(runs: list[StoredRun], targets: set[tuple[str, str]]) -> float:
    """Return the place of the first entry that had to be linked: from there on an entry without a link does not count."""
    linked = (text for run in runs for key, text in run.texts.items() if "." in key and run.counts(key, targets))
    return min((entry.seq for entry in _readable(linked)), default=math.inf)


def _counts(run: StoredRun, key: str, text: str, targets: set[tuple[str, str]], begins: float) -> bool:
    """Return whether an entry is part of the ledger; one of an earlier release is, unless the ledger went on without it."""
    if "." in key:
        return run.counts(key, targets)
    return all(entry.seq < begins for entry in _readable([text]))


def _readable(texts: Iterable[str]) -> Iterator[Entry[Facts]]:
    for text in texts:
        with suppress(LedgerError):
            yield Entry.read(text)


def _late(decisions: Iterable[Decision], found: Iterable[Entry[Facts]]) -> tuple[Entry[Facts], ...]:
    """Return the entries that are no part of a ledger, in order, without those that were only sent twice."""
    counted = {entry.digest for decision in decisions for entry in decision.entries}
    late = {entry.digest: entry for entry in found if entry.digest not in counted}
    return tuple(sorted(late.values(), key=lambda entry: (entry.seq, entry.time)))


def _cut_off(head: Entry[Facts] | None, runs: list[StoredRun]) -> Iterator[Fault]:
    """Find entries that are gone from the end: the last one that is there names a successor."""
    if head and any(link_name(head.digest) in run.links for run in runs):
        yield Fault(message=f"the ledger was cut off: what followed entry {head.seq} is gone", decision=head.decision)


def _entries(name: str, run_id: str, texts: Mapping[str, str], faults: list[Fault]) -> dict[str, Any]:
    """Read the entries that one run keeps, by kind, and add what is wrong with them to the faults."""
    entries: dict[str, Entry[Facts]] = {}
    by_kind = sorted(((key.partition(".")[0], key, text) for key, text in texts.items()), key=lambda item: KINDS.index(item[0]))
    for kind, key, text in by_kind:
        if kind in entries:
            faults.append(Fault(message=f"run {run_id}: it has two entries of kind {kind}", decision=entries[kind].decision))
            continue
        try:
            entry = Entry.read(text)
        except LedgerError as error:
            faults.append(Fault(message=f"run {run_id}: its {kind} is {error}"))
            continue
        if not (entry.intact and entry_name(entry).startswith(key)):
            faults.append(Fault(message=f"entry {entry.seq} ({kind}) was edited: its digest is another", decision=entry.decision))
            entry = replace(entry, facts=FACTS[kind]())  # what it says is not believed
        decision = entries["intent"].decision if "intent" in entries else entry.decision
        if (entry.ledger, entry.entry, entry.decision) != (name, kind, decision):
            message = f"entry {entry.seq} is the {entry.entry} of {entry.decision} in {entry.ledger}; it was moved here"
            faults.append(Fault(message=message, decision=decision))
            entry = replace(entry, facts=FACTS[kind].read(entry.facts.stored()))
        if entry.facts.unusable:
            message = f"entry {entry.seq} ({kind}): its {', '.join(entry.facts.unusable)} cannot be read: of another type"
            faults.append(Fault(message=message[:300], decision=decision))
        entries[kind] = entry
    return entries


def _chain_faults(entries: list[Entry[Facts]]) -> list[Fault]:
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
