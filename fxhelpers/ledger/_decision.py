"""One decision: its intent, its outcome and its seal, and what they say."""

from dataclasses import dataclass, field
from typing import Any

from fxhelpers.display import Keyed, rows_html
from fxhelpers.ledger._entry import Entry
from fxhelpers.ledger._facts import Facts, Identity, IntentFacts, OutcomeFacts, SealFacts
from fxhelpers.params import MODEL_PREFIX

AGAINST = "AGAINST THE VERDICT"  # label of a promotion by override, wherever it is shown

NO_SKILL, NOT_COMPARED = "no evidence of skill", "not compared"
"""Label of a promotion whose forecasts are not significantly better than no model, or that rests on no comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Keyed):
    """One decision about a registered model: its intent, what came of it, and the seal on its record."""

    run_id: str  # MLflow run that keeps it; "" for a preview
    intent: Entry[IntentFacts] = field(repr=False)  # written before anything was evaluated
    outcome: Entry[OutcomeFacts] | None = field(default=None, repr=False)  # None: open, or interrupted
    seal: Entry[SealFacts] | None = field(default=None, repr=False)  # None: not sealed yet
    seen: str = field(default="", repr=False, compare=False)  # last heartbeat of the process that takes it, ISO 8601, UTC

    @property
    def id(self) -> str:
        """Its name in the ledger: time, kind and four random bytes."""
        return self.intent.decision

    @property
    def model_name(self) -> str:
        return self.intent.ledger

    @property
    def outcome_facts(self) -> OutcomeFacts:
        """What its outcome says; empty without one."""
        return self.outcome.facts if self.outcome else OutcomeFacts()

    @property
    def seal_facts(self) -> SealFacts:
        """What its seal says; empty without one."""
        return self.seal.facts if self.seal else SealFacts()

    @property
    def symbol(self) -> str:
        """Ticker that the model forecasts: from the decision, or else from the model's name."""
        return self.intent.facts.symbol or self.model_name.removeprefix(MODEL_PREFIX)

    @property
    def kind(self) -> str:
        """registration, promotion, rollback, stage change, archiving, repair, forecast or alarm."""
        return self.intent.facts.kind

    @property
    def version(self) -> int | None:
        number: int | None = self._latest("version").version
        return number

    @property
    def result(self) -> str | None:
        """What came of it, such as promoted, refused, stale or failed; None while it is open."""
        return self.outcome_facts.result

    @property
    def verdict(self) -> str | None:
        """Verdict of the policy: promote, keep or inconclusive; None if the policy did not judge."""
        return self.outcome_facts.verdict

    @property
    def reason(self) -> str:
        """Why, in words: the policy's reason, then in quotes that of the actor."""
        own, given = self.outcome_facts.reason or "", self.intent.facts.reason
        return f'{own} "{given}"'.strip() if given else own

    @property
    def rests_on(self) -> str | None:
        """``compared``, ``not compared``, ``override``, ``manual`` or ``live record``; None if it moves no champion."""
        return self.outcome_facts.rests_on

    @property
    def overridden(self) -> bool:
        """Whether the champion was moved against the verdict."""
        return self.rests_on == "override" and self.result == "promoted"

    @property
    def skill(self) -> bool | None:
        """Whether the forecasts were significantly better than no model at all; None if that is not known.

        Outcomes of earlier releases have it in the default policy's gate of that name, or in the words for a first champion.
        """
        facts = self.outcome_facts
        if facts.skill is not None:
            return facts.skill
        missed = any(gate.id == "skill" and gate.result != "pass" for gate in facts.gates)
        return False if missed or (self.kind == "promotion" and NO_SKILL in (facts.reason or "")) else None

    @property
    def mark(self) -> str:
        """Labels of a promotion, wherever it is shown; "" if nothing speaks against it."""
        marks = {AGAINST: self.overridden, NO_SKILL: self.skill is False, NOT_COMPARED: self.rests_on == NOT_COMPARED}
        return ", ".join(mark for mark, applies in marks.items() if applies) if self.result == "promoted" else ""

    @property
    def came_to(self) -> str:
        """Its result with its label; ``open`` without an outcome."""
        return ", ".join(filter(None, (self.result or "open", self.mark)))

    @property
    def numbers(self) -> set[int]:
        """The versions that it names, besides the champion before and afterwards."""
        intent, outcome = self.intent.facts, self.outcome_facts
        lists = (self._latest("challengers").challengers, intent.archive, intent.prune, outcome.archived, outcome.pruned)
        return {number for numbers in lists for number in numbers} | ({self.version} if self.version is not None else set())

    @property
    def from_version(self) -> int | None:
        """Champion before."""
        return self.outcome_facts.from_

    @property
    def to_version(self) -> int | None:
        """Champion afterwards."""
        return self.outcome_facts.to

    @property
    def applied(self) -> bool:
        """Whether the champion was moved."""
        return bool(self.run_id) and self.moved_at is not None

    @property
    def moved_at(self) -> str | None:
        """When the champion was moved, ISO 8601, UTC; None if it was not."""
        return self.outcome_facts.moved

    @property
    def decides_champion(self) -> bool:
        """Whether it decided which version is champion, also if that one was it already."""
        wanted = None if self.to_nobody else self.version
        return self.moved_at is not None or (self.outcome is not None and self.rests_on == "manual" and wanted == self.to_version)

    @property
    def to_nobody(self) -> bool:
        """Whether it was taken so that no version serves."""
        return self._latest("nobody").nobody is True

    @property
    def actor(self) -> str:
        return self.intent.facts.actor

    @property
    def approved_by(self) -> str | None:
        return self.intent.facts.approved_by or None

    @property
    def unseen(self) -> bool:
        """Whether the policy alone decided: no approver is named."""
        return bool(self.id and self.verdict) and self.rests_on == "compared" and not self.approved_by

    @property
    def outcome_sha256(self) -> str | None:
        """Digest of the outcome. A record shows it too, which makes the record a second source."""
        return self.outcome.digest if self.outcome and self.run_id else None

    @property
    def time(self) -> str:
        """When it was decided, or else begun; ISO 8601, UTC."""
        return (self.outcome or self.intent).time

    @property
    def last_seen(self) -> str:
        """When the process that takes it was last seen at work, ISO 8601, UTC."""
        return max(self.time, self.seen)

    @property
    def alias_repaired(self) -> bool:
        """Whether MLflow's alias was wrong when it was begun, and was set to the champion then."""
        return "alias_found" in self.intent.facts.model_fields_set

    @property
    def record(self) -> str | None:
        """Its record below the folder of records, ``AAPL/….ipynb``; None if it was taken outside a recorded run."""
        return self.intent.facts.record

    @property
    def message(self) -> str:
        stays = f"{version_name(self.to_version)} stays champion" if self.to_version else "there is still no champion"
        if self.moved_at:
            mark = f", {self.mark}" if self.mark else ""
            mark = mark.replace(AGAINST, f"{AGAINST} ({self.verdict})").replace(NO_SKILL, f"with {NO_SKILL}")
            text = f"{version_name(self.to_version)} serves now, {version_name(self.from_version)} did before{mark}"
        elif not self.run_id:
            serves = f"{version_name(None if self.to_nobody else self.version)} would serve"
            text = f"preview, nothing was changed: {serves if self._would_move else stays}"
        elif self.outcome is None:
            text = f"the {self.kind} is open: it is running, or was interrupted"
        elif self.result in {"refused", "registered"}:
            text = f"version {self.version} was {self.result}: {stays}"
        else:
            text = f"{'nothing changed' if self.result == 'unchanged' else f'the {self.kind} ended as {self.result}'}: {stays}"
        return f"{text[0].upper()}{text[1:]}."

    @property
    def _would_move(self) -> bool:
        """Whether a preview would move the champion if it were applied."""
        if self.to_nobody:
            return self.to_version is not None
        wanted = self.kind == "rollback" or self.verdict == "promote" or self.rests_on == "override"
        return wanted and self.version not in {None, self.to_version}

    @property
    def undo(self) -> str:
        """The command that undoes it, or that there is nothing to undo."""
        if not self.applied:
            return "Nothing to undo: no champion was moved."
        return back_to(self.model_name, self.symbol, self.from_version, now=self.to_version)

    def _repr_html_(self) -> str:
        texts = {"compared": "a comparison on the same days", "override": f"an override: {AGAINST}, {self.verdict}"}
        return rows_html(
            {
                "decision": self.id or "none: this is a preview",
                "result": self.came_to,
                "verdict": self.verdict,
                "reason": self.reason,
                "rests on": texts.get(str(self.rests_on), self.rests_on),
                "champion before": self.from_version or "none",
                "champion now": self.to_version or "none",
                "by": self.actor,
                "approved by": self.approved_by or ("no one: decided by the policy alone" if self.unseen else None),
                "time (UTC)": self.time,
            },
            card=("reason", "by", "approved by"),
        )

    @property
    def bundles(self) -> dict[str, str | None]:
        """Digests of the bundles of the versions that it rests on, by version."""
        return {number: digest for number, digest in self.outcome_facts.bundles.items() if number.isdecimal()}

    def identity(self, number: int) -> Identity:
        """Return the version of a number, with its bundle if the decision names it."""
        return Identity.of(number, self.bundles)

    @property
    def entries(self) -> tuple[Entry[Facts], ...]:
        return tuple(entry for entry in (self.intent, self.outcome, self.seal) if entry)

    def _latest(self, key: str) -> Any:  # noqa: ANN401 (IntentFacts or OutcomeFacts: both have the key)
        """Return the facts that say something last: those of the outcome if they have the key, or else of the intent."""
        return self.outcome_facts if key in self.outcome_facts.model_fields_set else self.intent.facts


def back_to(model_name: str, symbol: str, version: int | None, *, now: int | None) -> str:
    """Return what to type to make a version champion again, or none: a command, or Python if no command takes the model."""
    if model_name == f"{MODEL_PREFIX}{symbol}":  # fx rollback takes a symbol
        return f"fx rollback {symbol} {f'--version {version}' if version else '--to none'} --reason TEXT"
    to, stage = (version, "Production") if version else (now, "Archived")
    return f'ModelRegistry().transition_stage("{model_name}", {to}, "{stage}")'


def version_name(version: int | None) -> str:
    """Return ``version 3``, or ``no version``."""
    return "no version" if version is None else f"version {version}"
