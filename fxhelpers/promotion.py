"""The one path to Production: propose, judge, and move the champion only where nothing has changed meanwhile."""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pandas as pd

from fxhelpers import policy
from fxhelpers.comparison import Comparison, compare
from fxhelpers.errors import NoRecordError, ParamsError, StaleComparisonError, VersionNotFoundError
from fxhelpers.params import current_record
from fxhelpers.policy import Verdict
from fxhelpers.prices import load_prices
from fxhelpers.records import in_unrecorded_notebook
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.client import CHALLENGER, CHAMPION
from fxhelpers.results import Keyed, rows_html
from fxhelpers.scoring import evaluation_frame

logger = logging.getLogger(__name__)

DECISION_TAG = "fx.decision"
_LONGEST_REASON = 1000

Kind = Literal["compared", "not compared", "manual"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A challenger, what it was compared with, and what the policy says.

    Attributes
    ----------
    name : str
        Registered model.
    symbol : str
        Ticker.
    challenger : ModelVersion
        Version that wants to be champion.
    champion : ModelVersion or None
        Version in Production when this was made.
    comparison : Comparison or None
        None where ``model_registry.compare_metrics`` is false.
    verdict : Verdict
        Of the policy.
    """

    name: str
    symbol: str
    challenger: ModelVersion
    champion: ModelVersion | None
    comparison: Comparison | None
    verdict: Verdict

    def to_frame(self) -> pd.DataFrame:
        """Return the measures of all forecasts, or one line that says why there are none."""
        if self.comparison is None:
            return pd.DataFrame({"comparison": [self.verdict.reason]})
        return self.comparison.to_frame()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Keyed):
    """What was decided about a version, and what was done.

    Attributes
    ----------
    model_name : str
        Registered model.
    version : int
        That the decision is about.
    verdict : str
        promote, keep or inconclusive.
    reason : str
        Why, in words.
    kind : {"compared", "not compared", "manual"}
        What the decision rests on.
    from_version, to_version : int or None
        Champion before and after.
    applied : bool
        Whether the champion was moved.
    time : str
        ISO 8601, UTC.
    """

    model_name: str
    version: int
    verdict: str
    reason: str
    kind: Kind
    from_version: int | None
    to_version: int | None
    applied: bool
    time: str

    def _repr_html_(self) -> str:
        return rows_html(
            {
                "verdict": self.verdict,
                "reason": self.reason,
                "rests on": "a comparison on the same days" if self.kind == "compared" else self.kind,
                "champion before": _named(self.from_version),
                "champion now": _named(self.to_version),
                "applied": self.applied,
                "time (UTC)": self.time,
            }
        )


def propose(registry: RegistryClient, name: str, symbol: str, version: int | None = None, *, compared: bool = True) -> Proposal:
    """Compare a version with the champion and let the policy judge; nothing is changed.

    The version is by default the challenger: the one registered last, as long
    as it waits in Staging or without a stage. Where none waits, the champion
    itself is held against the baselines.
    """
    champion = registry.champion(name)
    waiting = registry.version(name, version) if version else registry.challenger(name) or champion
    challenger = waiting or next((v for v in registry.versions(name) if v.stage != "Archived"), None)
    if challenger is None:
        msg = f"{name} has no version to compare at {registry.uri}; register one: fx run register -p symbol {symbol}"
        raise VersionNotFoundError(msg)
    is_champion = champion is not None and champion.version == challenger.version
    if compared:
        rival = champion.version if champion and not is_champion else None
        prices = load_prices(symbol, registry.params.prices)
        frame = evaluation_frame(registry, name, symbol, prices, challenger=challenger.version, champion=rival)
        comparison = compare(frame)
        verdict = policy.judge(comparison)
        verdict = policy.already_champion(verdict, comparison) if is_champion else verdict
    else:
        comparison = None
        already = f"Version {challenger.version} is the champion already. " if is_champion else ""
        reason = f"{already}Not compared: model_registry.compare_metrics is false in params.yaml."
        verdict = Verdict(outcome="keep" if is_champion else "promote", reason=reason)
    return Proposal(name=name, symbol=symbol, challenger=challenger, champion=champion, comparison=comparison, verdict=verdict)


def promote(registry: RegistryClient, proposal: Proposal, *, apply: bool, reason: str = "") -> Decision:
    """Carry out a proposal's verdict: move the champion, or refuse and leave it."""
    name, version = proposal.name, proposal.challenger.version
    if len(reason) > _LONGEST_REASON:
        msg = f"reason: {len(reason)} characters, at most {_LONGEST_REASON} are kept; nothing was changed"
        raise ParamsError(msg)
    if apply and in_unrecorded_notebook():
        msg = (
            "nothing was changed: this notebook is not being kept as a record. Type in a terminal: "
            f"fx run promote -p symbol {proposal.symbol} -p version {version} -p apply true"
        )
        raise NoRecordError(msg)
    before = proposal.champion.version if proposal.champion else None
    act = apply and proposal.verdict.outcome == "promote"
    if act:
        move_champion(registry, name, version, expected=before)
    elif apply:
        mirror_champion(registry, name)
    decision = Decision(
        model_name=name,
        version=version,
        verdict=proposal.verdict.outcome,
        reason=f"{proposal.verdict.reason} {reason}".strip(),
        kind="compared" if proposal.comparison else "not compared",
        from_version=before,
        to_version=version if act else before,
        applied=act,
        time=_now(),
    )
    if apply and before != version:  # why the champion is champion stands on it already
        _note(registry, decision)
    return decision


def transition(registry: RegistryClient, name: str, version: int, stage: str) -> ModelVersion:
    """Set the stage of a version by hand; Production goes the one path, and is recorded as manual.

    Taking the champion out of Production leaves none.
    """
    champion = registry.champion(name)
    before = champion.version if champion else None
    registry.version(name, version)
    after = version if stage == "Production" else (None if before == version else before)
    if stage == "Production":
        move_champion(registry, name, version, expected=before)
    else:
        if before == version:
            logger.warning("%s: version %d was the champion; now there is none", name, version)
            registry.drop_alias(name, CHAMPION)
        registry.set_stage(name, version, stage)
        if stage == "Archived":
            _stand_down(registry, name, version)
    if before != after:
        decision = Decision(
            model_name=name,
            version=version,
            verdict="promote" if after else "keep",
            reason=f"transition_stage to {stage}, by hand.",
            kind="manual",
            from_version=before,
            to_version=after,
            applied=True,
            time=_now(),
        )
        _note(registry, decision)
    return registry.version(name, version)


def move_champion(registry: RegistryClient, name: str, version: int, *, expected: int | None) -> None:
    """Make a version the champion: the alias first, which is the truth, then the stages that mirror it.

    ``expected`` is the champion that the decision was made against;
    :class:`StaleComparisonError` where somebody else is by now.
    """
    champion = registry.champion(name)
    now = champion.version if champion else None
    if now not in {expected, version}:
        msg = (
            f"{name}: the decision was made against {_named(expected)}, but the champion is {_named(now)} by now; "
            "nothing was changed: compare again"
        )
        raise StaleComparisonError(msg)
    registry.set_alias(name, CHAMPION, version)
    mirror_champion(registry, name)
    _stand_down(registry, name, version)


def mirror_champion(registry: RegistryClient, name: str) -> None:
    """Let MLflow's stages say what the alias says: the champion is in Production, and nobody else."""
    versions = registry.versions(name)
    champion = next((version for version in versions if version.stage == "Production"), None)
    if champion is None:
        return
    if champion.mirror != "Production":
        registry.set_stage(name, champion.version, "Production")
    retired = "Archived" if registry.params.model_registry.auto_archive else "Staging"
    for version in versions:
        if version.mirror == "Production" and version.version != champion.version:
            registry.set_stage(name, version.version, retired)


def _stand_down(registry: RegistryClient, name: str, version: int) -> None:
    """Let a version that is champion now, or archived, wait no longer."""
    challenger = registry.challenger(name)
    if challenger and challenger.version == version:
        registry.drop_alias(name, CHALLENGER)


def decision_of(version: ModelVersion) -> str:
    """Return the last decision about a version in a few words; "" where there was none."""
    note = json.loads(version.tags.get(DECISION_TAG, "{}"))
    return f"{note['verdict']} ({note['kind']}), {note['time'][:16].replace('T', ' ')}" if note else ""


def _note(registry: RegistryClient, decision: Decision) -> None:
    """Write the decision on the version that it is about."""
    record = current_record()
    note = {**decision, "record": record.name if record else None}
    registry.annotate(decision.model_name, decision.version, tags={DECISION_TAG: json.dumps(note)})


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
