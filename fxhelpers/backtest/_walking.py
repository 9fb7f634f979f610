"""One policy's walk through the retraining days: a challenger at a time, as a registry and its ledger would judge it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from fxhelpers.backtest._policies import HALF, NEVER
from fxhelpers.backtest._refits import Refit
from fxhelpers.comparison import EvaluationFrame
from fxhelpers.features import HORIZON_DAYS
from fxhelpers.frames import frame_of, refreshed
from fxhelpers.ledger import Attempt
from fxhelpers.params import PromotionParams
from fxhelpers.policy import Verdict, against_champion, decide, percent, policy_digest

DECISIONS = ("policy", "day", "version", "model", "champion", "kind", "verdict", "attempt", "level", "against", "reason")
PERIODS = ("policy", "version", "model", "trained_to", "since", "until")

_HALF = 0.5


@dataclass(slots=True, kw_only=True)
class Walk:
    """What one policy serves and decides, day by day."""

    policy: str
    served: np.ndarray  # forecast of every day, by position; NaN before the first retraining day, 0 without a champion
    decisions: list[tuple[object, ...]] = field(default_factory=list)  # rows with the columns DECISIONS
    champions: list[Refit | None] = field(default_factory=list)  # after each retraining day
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """What all policies have in common."""

    symbol: str
    target: pd.Series  # next-day returns, as fractions
    refits: list[list[Refit]]  # by retraining day, in the order in which they are offered
    doubts: Mapping[str, Sequence[pd.Timestamp]]  # what is doubtful about the prices, and on which days; [] means on any
    accept_doubts: bool

    @property
    def days(self) -> pd.DatetimeIndex:
        """All days that have features and a next day."""
        return pd.DatetimeIndex(self.target.index)

    @property
    def ends(self) -> list[int]:
        """Position after the last day that each retraining's champion serves."""
        return [*(offered[0].known for offered in self.refits[1:]), len(self.target)]


def walk_by_policy(setting: Setting, policy: str, rules: PromotionParams, note: Callable[[], None]) -> Walk:
    """Offer every refit in turn, and serve the champion from each retraining day to the next; ``note`` is called per refit."""
    walk = Walk(policy=policy, served=np.full(len(setting.target), np.nan))
    champion: Refit | None = None
    for offered, end in zip(setting.refits, setting.ends, strict=True):
        now = offered[0].known
        for challenger in offered:
            frame = _frame(setting, challenger, champion, rules)
            verdict = _decided(setting, walk, frame, rules, challenger)
            if verdict.outcome == "promote":
                champion = challenger
            note()
        walk.champions.append(champion)
        walk.served[now:end] = 0.0 if champion is None else champion.forecasts[now:end]
    return walk


def walk_by_rule(setting: Setting, policy: str, model: str = "") -> Walk:
    """Serve the newest refit of a model, by default the first one, or half of it, or its first fit for ever, without a test."""
    walk = Walk(policy=policy, served=np.full(len(setting.target), np.nan))
    place = [one.model for one in setting.refits[0]].index(model) if model else 0
    for offered, end in zip(setting.refits, setting.ends, strict=True):
        champion, now = (setting.refits[0] if policy == NEVER else offered)[place], offered[0].known
        walk.champions.append(champion)
        walk.served[now:end] = champion.forecasts[now:end] * (_HALF if policy == HALF else 1.0)
    return walk


def _frame(setting: Setting, challenger: Refit, champion: Refit | None, rules: PromotionParams) -> EvaluationFrame:
    """Return the evaluation frame of a comparison on a retraining day, as ``scoring`` makes it from versions."""
    now = challenger.known
    both = [one for one in (challenger, champion) if one is not None]
    known = {one.version: one.evidence(setting.target, now) for one in both}
    number = None if champion is None else champion.version
    refreshes = refreshed(known, [challenger.version], number, rules)
    frame = frame_of(
        setting.symbol,
        known,
        challengers=[challenger.version],
        champion=number if refreshes is None else None,
        refreshes=refreshes,
        embargo=rules.evaluation.embargo_days,
    )
    today = setting.days[now]
    doubts = {what: tuple(f"{day:%Y-%m-%d}" for day in days if day <= today) for what, days in setting.doubts.items()}
    known_doubts = {what: days for what, days in doubts.items() if days or not setting.doubts[what]}
    return replace(frame, doubts=known_doubts, sessions_since=HORIZON_DAYS)


def _decided(setting: Setting, walk: Walk, frame: EvaluationFrame, rules: PromotionParams, challenger: Refit) -> Verdict:
    """Judge a frame, and keep the decision and the attempt, if it is a new one, as the ledger does."""
    today = setting.days[challenger.known]
    comparison, verdict = decide(
        frame,
        rules,
        earlier=walk.attempts,
        today=today.date(),
        accept_doubts=setting.accept_doubts,
        informative=False,
    )
    if verdict.kind == "contest" and not verdict.attempt_frame:
        walk.attempts.append(
            Attempt(
                key=frame.recipe,
                policy=policy_digest(rules),
                number=verdict.attempt,
                day=comparison.last_day,
                time=f"{today:%Y-%m-%d}T23:59:59+00:00",
                frame=frame.digest,
            )
        )
    against = ", ".join(gate.id for gate in verdict.gates if gate.decides and gate.result != "pass")
    rival = "the champion's" if frame.champion is not None else "zero's"
    passed = f"passes; RMSE below {rival} by {percent(-against_champion(comparison))}"
    walk.decisions.append(
        (
            walk.policy,
            today,
            challenger.version,
            challenger.model,
            frame.champion if frame.refreshes is None else frame.refreshes,
            verdict.kind,
            verdict.outcome,
            verdict.attempt,
            verdict.level,
            against,
            "; ".join(verdict.because) or passed,
        )
    )
    return verdict


def decisions_frame(walks: Sequence[Walk]) -> pd.DataFrame:
    """Return one row per policy and challenger, in order of time."""
    table = pd.DataFrame([row for walk in walks for row in walk.decisions], columns=list(DECISIONS))
    return table.astype({"champion": "Int64", "attempt": int, "level": float})


def periods_frame(walks: Sequence[Walk], setting: Setting) -> pd.DataFrame:
    """Return one row per time that a refit served without a break, by policy; ``until`` is the first day after it."""
    rows: list[tuple[object, ...]] = []
    after = setting.days[-1] + pd.offsets.BDay(1)
    starts = [setting.days[offered[0].known] for offered in setting.refits]
    for walk in walks:
        changes = [n for n, one in enumerate(walk.champions) if n == 0 or one is not walk.champions[n - 1]]
        for n, following in zip(changes, [*changes[1:], None], strict=True):
            champion = walk.champions[n]
            if champion is None:
                continue
            until = after if following is None else starts[following]
            trained_to = setting.days[champion.known - 1]
            rows.append((walk.policy, champion.version, champion.model, trained_to, starts[n], until))
    return pd.DataFrame(rows, columns=list(PERIODS))
