"""One decision: its intent, its outcome and its seal, and what they say."""

from dataclasses import dataclass, field
from typing import Any

from fxhelpers.display import Keyed, rows_html
from fxhelpers.ledger._entry import Entry, Identity
from fxhelpers.params import MODEL_PREFIX

AGAINST = "AGAINST THE VERDICT"
"""How a promotion by override is marked, wherever it is shown."""

ALIAS_FOUND = "alias_found"
"""Fact of an intent: number and bundle of the version that MLflow's alias was found to point to, None for none."""

NO_SKILL, NOT_COMPARED = "no evidence of skill", "not compared"
"""How a promotion is marked whose forecasts are not significantly better than no model, or that rests on no comparison."""


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
    seen : str
        When its owner last showed that it is at work, ISO 8601, UTC.
    """

    run_id: str
    intent: Entry = field(repr=False)
    outcome: Entry | None = field(default=None, repr=False)
    seal: Entry | None = field(default=None, repr=False)
    seen: str = field(default="", repr=False, compare=False)

    @property
    def id(self) -> str:
        """Its name in the ledger: time, kind and four random bytes."""
        return self.intent.decision

    @property
    def model_name(self) -> str:
        """Registered model."""
        return self.intent.ledger

    @property
    def symbol(self) -> str:
        """Ticker that the model forecasts: as the decision says, or else as the model's name does."""
        return str(self.intent.facts.get("symbol") or self.model_name.removeprefix(MODEL_PREFIX))

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
        """``compared``, ``not compared``, ``override`` or ``manual``; None where it moves no champion."""
        return self._text("rests_on")

    @property
    def overridden(self) -> bool:
        """Whether the champion was moved against the verdict."""
        return self.rests_on == "override" and self.result == "promoted"

    @property
    def skill(self) -> bool | None:
        """Whether the forecasts were significantly better than no model at all; None where that is not known.

        Outcomes of earlier releases have it in the default policy's gate of
        that name, or in the words for a first champion.
        """
        told, gates = self._told("skill"), self._told("gates")
        if isinstance(told, bool):
            return told
        missed = [g for g in gates if g.get("id") == "skill" and g.get("result") != "pass"] if isinstance(gates, list) else []
        return False if missed or (self.kind == "promotion" and NO_SKILL in str(self._told("reason"))) else None

    @property
    def mark(self) -> str:
        """What to say with a promotion, wherever it is shown; "" where it has nothing against it."""
        marks = {AGAINST: self.overridden, NO_SKILL: self.skill is False, NOT_COMPARED: self.rests_on == NOT_COMPARED}
        return ", ".join(mark for mark, there in marks.items() if there) if self.result == "promoted" else ""

    @property
    def came_to(self) -> str:
        """Its result with its mark; ``open`` without an outcome."""
        return ", ".join(filter(None, (self.result or "open", self.mark)))

    @property
    def frame_sha256(self) -> str | None:
        """Digest of the evaluation frame that was judged; None where none was."""
        return self._text("frame_sha256")

    @property
    def challengers(self) -> list[int]:
        """All versions that were tested at once in order to promote one of them."""
        told = self._told("challengers")
        return [number for number in told if isinstance(number, int)] if isinstance(told, list) else []

    @property
    def numbers(self) -> set[int]:
        """The versions that it names, beside the champion before and afterwards."""
        lists = (self._told(key) for key in ("challengers", "archive", "archived", "prune", "pruned"))
        listed = {number for told in lists if isinstance(told, list) for number in told if isinstance(number, int)}
        return listed | ({self.version} if self.version is not None else set())

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
    def settles(self) -> bool:
        """Whether it decided who is champion, also where that one was it already."""
        named_versions = None if self.to_nobody else self.version
        return self.moved_at is not None or (
            self.outcome is not None and self.rests_on == "manual" and named_versions == self.to_version
        )

    @property
    def to_nobody(self) -> bool:
        """Whether it was made so that no version serves."""
        return self._told("nobody") is True

    @property
    def actor(self) -> str:
        """Who acted: user@host."""
        return str(self.intent.facts.get("actor", ""))

    @property
    def approved_by(self) -> str | None:
        """Who agreed."""
        return self.intent.facts.get("approved_by") or None

    @property
    def unseen(self) -> bool:
        """Whether the policy alone decided, and nobody is named who looked at it."""
        return bool(self.id and self.verdict) and self.rests_on == "compared" and not self.approved_by

    @property
    def outcome_sha256(self) -> str | None:
        """Digest of the outcome: a record that shows it is a witness of the ledger."""
        return self.outcome.digest if self.outcome and self.run_id else None

    @property
    def time(self) -> str:
        """When it was decided, or begun where it is open: ISO 8601, UTC."""
        return (self.outcome or self.intent).time

    @property
    def last_seen(self) -> str:
        """When its owner was last seen at work: ISO 8601, UTC."""
        return max(self.time, self.seen)

    @property
    def alias_found(self) -> Identity | None:
        """The version that MLflow's alias was found to point to when this was begun, if it was put right then."""
        told = self.intent.facts.get(ALIAS_FOUND)
        return Identity(*told) if isinstance(told, list) else None

    @property
    def record(self) -> str | None:
        """Its record below the folder of records, ``AAPL/….ipynb``; None where it was taken outside a recorded run."""
        return self._text("record")

    @property
    def message(self) -> str:
        """What was decided, in a sentence."""
        stays = f"{named(self.to_version)} stays champion" if self.to_version else "there still is no champion"
        if self.moved_at:
            mark = f", {self.mark}" if self.mark else ""
            mark = mark.replace(AGAINST, f"{AGAINST} ({self.verdict})").replace(NO_SKILL, f"with {NO_SKILL}")
            told = f"{named(self.to_version)} serves now, {named(self.from_version)} did before{mark}"
        elif not self.run_id:
            would = f"{'no version' if self.to_nobody else f'version {self.version}'} would serve"
            told = f"nothing; this only shows that {would if self._would_move else stays}"
        elif self.outcome is None:
            told = f"the {self.kind} is open: it is at work, or was interrupted"
        elif self.result in {"refused", "registered"}:
            told = f"version {self.version} was {self.result}: {stays}"
        else:
            told = f"{'nothing' if self.result == 'unchanged' else f'the {self.kind} ended as {self.result}'}: {stays}"
        return f"{told[0].upper()}{told[1:]}."

    @property
    def _would_move(self) -> bool:
        """Whether a decision that is only shown would move the champion."""
        if self.to_nobody:
            return self.to_version is not None
        wanted = self.kind == "rollback" or self.verdict == "promote" or self.rests_on == "override"
        return wanted and self.version not in {None, self.to_version}

    @property
    def undo(self) -> str:
        """What would undo it: a command, or that there is nothing to undo."""
        if not self.applied:
            return "Nothing is to be undone: no champion was moved."
        return back_to(self.model_name, self.symbol, self.from_version, now=self.to_version)

    def _repr_html_(self) -> str:
        words = {"compared": "a comparison on the same days", "override": f"an override: {AGAINST}, {self.verdict}"}
        rests_on = words.get(str(self.rests_on), self.rests_on)
        return rows_html(
            {
                "decision": self.id or "none: this only shows what would be done",
                "result": self.came_to,
                "verdict": self.verdict,
                "reason": self.reason,
                "rests on": rests_on,
                "champion before": self.from_version or "none",
                "champion now": self.to_version or "none",
                "by": self.actor,
                "approved by": self.approved_by or ("nobody: the policy alone decided" if self.unseen else None),
                "time (UTC)": self.time,
            },
            card=("reason", "by", "approved by"),
        )

    @property
    def bundles(self) -> dict[str, str | None]:
        """Digests of the bundles of the versions that it rests on, by version."""
        told = self._told("bundles")
        return {number: digest for number, digest in told.items() if number.isdecimal()} if isinstance(told, dict) else {}

    def identity(self, number: int) -> Identity:
        """Return the version of a number that it names, as far as it says itself which one that is."""
        return Identity.of(number, self.bundles)

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


def back_to(model_name: str, symbol: str, version: int | None, *, now: int | None) -> str:
    """Return what to type to make a version champion again, or none: a command, or Python where no command takes the model."""
    if model_name == f"{MODEL_PREFIX}{symbol}":  # fx rollback takes a symbol
        return f"fx rollback {symbol} {f'--version {version}' if version else '--to none'} --reason TEXT"
    to, stage = (version, "Production") if version else (now, "Archived")
    return f'ModelRegistry().transition_stage("{model_name}", {to}, "{stage}")'


def named(version: int | None) -> str:
    """Return ``version 3``, or ``no version``."""
    return "no version" if version is None else f"version {version}"
