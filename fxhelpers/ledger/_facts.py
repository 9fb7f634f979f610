"""What entries say: a typed model for each kind of entry, and the versions that they name.

A model holds what was stored and nothing else: keys that it does not know
are kept, absent keys stay absent, and a value of another type is kept but
not used. ``model_fields`` lists the keys of each kind with their meaning.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer, PrivateAttr, ValidationError

EntryKind = Literal["intent", "outcome", "seal"]
KINDS: tuple[EntryKind, ...] = get_args(EntryKind)

_DIGITS = 12  # of a digest, where people read it


@dataclass(frozen=True, slots=True)
class Identity:
    """One version of a registered model."""

    number: int  # MLflow's version number. MLflow assigns it again after the registered model was deleted and created anew
    # SHA-256 of the version's bundle; "" for a version of plain MLflow, which has none; None if it is not known
    bundle: str | None = None

    @classmethod
    def of(cls, number: int, bundles: Mapping[str, str | None]) -> Self:
        """Return the version of a number, with its digest from a decision's ``bundles``."""
        return cls(number, (bundles[str(number)] or "") if str(number) in bundles else None)

    def may_be(self, other: "Identity | None") -> bool:
        """Return whether both can be the same version: equal numbers, and digests that are equal or not known."""
        return (
            other is not None
            and self.number == other.number
            and (self.bundle == other.bundle or None in {self.bundle, other.bundle})
        )

    @property
    def short(self) -> str:
        """``bundle 3f2a…``, for people."""
        texts = {None: "unknown bundle", "": "no bundle of fxhelpers"}
        return texts.get(self.bundle, f"bundle {str(self.bundle)[:_DIGITS]}")

    def __str__(self) -> str:
        return f"version {self.number}"


def same(one: Identity | None, other: Identity | None) -> bool:
    """Return whether two can be the same version, or are both None."""
    return one is other if one is None or other is None else one.may_be(other)


def labels(versions: Iterable[Identity]) -> dict[Identity, str]:
    """Return a label for each version: ``version 1``, with its bundle if another version has the same number."""
    known = sorted(set(versions), key=lambda v: (v.number, v.bundle or ""))
    often = Counter(v.number for v in known if v.bundle is not None)
    return {v: f"{v} ({v.short})" if often[v.number] > 1 else str(v) for v in known}


def _read_identity(stored: object) -> object:
    match stored:
        case [int(number), (str() | None) as bundle]:
            return Identity(number, bundle)
    return stored  # pydantic refuses it


_StoredIdentity = Annotated[
    InstanceOf[Identity], BeforeValidator(_read_identity), PlainSerializer(lambda version: [version.number, version.bundle])
]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class GateFacts(_Stored):
    """The result of one gate, as an outcome keeps it."""

    id: str = Field(description="id of the gate in params.yaml, or of one that every policy has")
    value: float | int | None = Field(None, description="what was measured, in the gate's own units; null: no value")
    bound: str = Field("", description="what the policy requires, in words")
    result: str = Field(description="pass, fail, warn or not evaluated")


class WindowFacts(_Stored):
    """The days on which versions were compared."""

    first_day: str = Field(description="first day, YYYY-MM-DD")
    last_day: str = Field(description="last day, YYYY-MM-DD")
    days: int = Field(description="number of trading days")


class Facts(_Stored):
    """Base of what an entry says."""

    entry: ClassVar[EntryKind]
    _unusable: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Return what an entry says; a value of another type is kept in ``unusable``, and its field has its default."""
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            unusable = {str(detail["loc"][0]) for detail in error.errors()}
        facts = cls.model_validate({key: value for key, value in stored.items() if key not in unusable})
        facts._unusable = {key: stored[key] for key in unusable}  # noqa: SLF001 (of this class)
        return facts

    @property
    def unusable(self) -> list[str]:
        """Keys whose values are of another type."""
        return sorted(self._unusable)

    def stored(self) -> dict[str, Any]:
        """Return the facts by the keys under which they are kept, exactly as they were read."""
        own = self.model_dump(by_alias=True, exclude_unset=True, include=set(type(self).model_fields))
        return {**own, **(self.model_extra or {}), **self._unusable}


class IntentFacts(Facts):
    """What a decision sets out to do; written before anything is evaluated."""

    entry = "intent"

    kind: str = Field(
        "unknown", description="registration, promotion, rollback, stage change, archiving, repair, forecast or alarm"
    )
    actor: str = Field("", description="who acts, as user@host")
    process: dict[str, Any] = Field({}, description="the process that acts: machine since its start, pid, start of the process")
    record: str | None = Field(None, description="its record below the folder of records; null: taken outside a recorded run")
    reason: str | None = Field(None, description="reason given by the actor; at most 1,000 characters")
    approved_by: str | None = Field(None, description="who approved it, as given by the actor; at most 1,000 characters")
    serves: _StoredIdentity | None = Field(None, description="[version, SHA-256 of its bundle] in Production; null: none")
    alias_found: _StoredIdentity | None = Field(None, description="version that MLflow's alias pointed to, if it was wrong")
    clock_off_seconds: float | int | None = Field(None, description="this machine's clock minus the registry's, seconds")
    symbol: str | None = Field(None, description="ticker that the model forecasts")
    version: int | None = Field(None, description="version that the decision is about")
    bundle: str | None = Field(None, description="registration: SHA-256 of the bundle")
    stage: str | None = Field(None, description="stage change: None, Staging, Production or Archived")
    nobody: bool | None = Field(None, description="rollback: true if no version is to serve")
    override: bool | None = Field(None, description="promotion: true to promote against the verdict")
    accept_doubts: bool | None = Field(None, description="promotion: true to accept doubtful prices on the days compared")
    accept_restated: bool | None = Field(
        None, description="promotion: true to compare on prices that were restated since a training"
    )
    challengers: list[int] = Field([], description="promotion: versions to test at once")
    champion: int | None = Field(None, description="promotion: version to compare with, if it was given")
    start: str | None = Field(None, description="promotion: first day to compare on, if it was given")
    end: str | None = Field(None, description="promotion: last day to compare on, if it was given")
    training_end: str | None = Field(None, description="promotion: last training day of a foreign version, if it was given")
    archive: list[int] = Field([], description="archiving: versions to archive")
    prune: list[int] = Field([], description="archiving: versions whose files are to be deleted")
    sessions: list[str] = Field([], description="forecast: the sessions, YYYY-MM-DD, oldest first")


class OutcomeFacts(Facts):
    """What came of a decision, and all that it rests on."""

    entry = "outcome"

    result: str | None = Field(None, description="promoted, refused, unchanged, rolled back, registered, stale, failed, …")
    reason: str | None = Field(None, description="why, in a few sentences")
    version: int | None = Field(None, description="version that the decision is about")
    from_: int | None = Field(None, alias="from", description="champion before; null: none")
    to: int | None = Field(None, description="champion afterwards; null: none")
    moved: str | None = Field(None, description="when the champion was moved, ISO 8601, UTC; absent if it was not")
    bundles: dict[str, str | None] = Field({}, description="SHA-256 of the bundle of each version named, by its number")
    rests_on: str | None = Field(
        None, description="compared, not compared, override, manual or live record; absent if no champion moves"
    )
    nobody: bool | None = Field(None, description="rollback: true if no version serves")
    created: bool | None = Field(None, description="registration: false if the bundle was a version already")
    stage: str | None = Field(None, description="registration, stage change: stage of the version afterwards")
    model_sha256: str | None = Field(None, description="registration: SHA-256 of the stored model's files")
    recipe: str | None = Field(None, description="registration, promotion: SHA-256 of the version's recipe; absent: not known")
    run_id: str | None = Field(None, description="registration: MLflow run that holds the version's files")
    verdict: str | None = Field(None, description="promotion: promote, keep or inconclusive")
    skill: bool | None = Field(None, description="promotion: significantly better than no model at all; null: not tested")
    window: WindowFacts | None = Field(None, description="promotion: days compared")
    frame_sha256: str | None = Field(None, description="promotion: SHA-256 of the evaluation frame")
    attempt_frame: str | None = Field(None, description="promotion: SHA-256 of the earlier frame that this one repeats")
    challengers: list[int] = Field([], description="promotion: versions tested at once, the one judged first")
    gates: list[GateFacts] = Field([], description="promotion: result of each gate")
    change: str | None = Field(None, description="promotion: refresh, contest or first; absent in earlier releases")
    champion_recipe: str | None = Field(None, description="promotion: SHA-256 of the champion's recipe; absent: not known")
    attempt: int | None = Field(None, description="promotion: attempt number, 1-based; 0: it was none")
    level: float | int | None = Field(None, description="promotion: level of this attempt's tests; absent: no test decides")
    next_level: float | int | None = Field(None, description="promotion: level that the next attempt would have")
    detectable: float | int | None = Field(None, description="promotion: gain detected at this level with 80 % power, a fraction")
    seed: int | None = Field(None, description="promotion: seed of the bootstrap")
    family: dict[str, Any] = Field({}, description="promotion of many symbols: false discovery rate, symbols, tested, every p")
    pooled: dict[str, Any] = Field(
        {}, description="promotion by one test over many symbols: p, gain, symbols pooled and compared, attempt, days, digest"
    )
    policy_sha256: str | None = Field(None, description="promotion: SHA-256 of the policy")
    rows: int | None = Field(None, description="forecast: number of forecasts recorded, of all symbols and sessions")
    alarm: dict[str, Any] = Field(
        {},
        description="alarm: both detectors and their thresholds, live days, last session, head of the forecasts, what was done",
    )
    evidence: dict[str, str] = Field(
        {}, description="promotion, forecast, alarm: SHA-256 of each file in the run's folder evidence, by name"
    )
    archived: list[int] = Field([], description="archiving: versions archived")
    pruned: list[int] = Field([], description="archiving: versions whose files are deleted")
    bytes: int | None = Field(None, description="archiving: bytes that the deleted files had")
    interrupted: bool | None = Field(None, description="true if a later process completed it (earlier releases)")

    def with_bundles(self, *versions: Identity | None) -> Self:
        """Return these facts with the bundles of more versions: a number alone does not identify a version."""
        bundles = {str(v.number): v.bundle or None for v in versions if v}
        return self.model_copy(update={"bundles": self.bundles | bundles}) if bundles else self

    def with_champions(self, before: Identity | None, after: Identity | None) -> Self:
        champions = {"from_": before.number if before else None, "to": after.number if after else None}
        return self.with_bundles(before, after).model_copy(update=champions)


class SealFacts(Facts):
    """The finished record of a decision."""

    entry = "seal"

    record: str | None = Field(None, description="record below the folder of records; null: taken outside a recorded run")
    status: str | None = Field(None, description="how the run ended: completed, failed, interrupted, or that there was none")
    sha256: str | None = Field(None, description="SHA-256 of the record; null: it is not there")
    bytes: int | None = Field(None, description="size of the record, bytes")
    report_sha256: str | None = Field(None, description="SHA-256 of the report next to the record")
    folder: str | None = Field("of an earlier release", description="id of the folder of records, which differs between machines")
    late: bool | None = Field(None, description="true if a later process sealed it, after an interruption")
    not_copied: bool | None = Field(None, description="true if no copy of the record could be stored in the registry")
    serves: _StoredIdentity | None = Field(None, description="[version, SHA-256 of its bundle] in Production; null: none")


FACTS: dict[str, type[Facts]] = {"intent": IntentFacts, "outcome": OutcomeFacts, "seal": SealFacts}


class Moving(_Stored):
    """A move of the champion that a process of an earlier release was about to make, and what its outcome would have held."""

    from_: int | None = Field(None, alias="from")
    to: int | None = None
    time: str | None = None
    facts: dict[str, Any] = {}

    def outcome(self) -> OutcomeFacts:
        return OutcomeFacts.read(self.facts)
