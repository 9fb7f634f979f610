"""From a frame and a policy to a verdict: refresh or contest, which attempt, tests, and all gates together."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pandas as pd

from fxhelpers.comparison import STANDARD, ZERO, Change, Comparison, EvaluationFrame, TestSpec, compare
from fxhelpers.errors import NotComparableError
from fxhelpers.ledger import Attempt, next_number, repeated
from fxhelpers.measures import MEASURES
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.policy._concluding import circumstances, concluded, main_test, refreshed
from fxhelpers.policy._gates import (
    WHATEVER_THE_ERRORS,
    bounded,
    built_in,
    for_attempt,
    pooled_tested,
    relative_change,
    spent,
    tested,
)
from fxhelpers.policy._pooled import Contribution, Pooled, pooled_gates
from fxhelpers.policy._verdict import Family, Verdict, compared, joined

_YEAR = timedelta(days=365)
_NEWER_KEYS = {"refresh": "allow"}  # keys that earlier releases did not have, with what these did


def policy_digest(policy: PromotionParams) -> str:
    """Return the SHA-256 of all that a verdict depends on besides the days: another policy is another attempt.

    Keys that are not set are left out, so that a key which is new in this
    version of fxhelpers does not change the digest of an old policy.
    """
    unused = {key for key, default in _NEWER_KEYS.items() if getattr(policy, key) == default}
    return hashlib.sha256(policy.model_dump_json(exclude={"approval", *unused}, exclude_none=True).encode()).hexdigest()


def decide(
    frame: EvaluationFrame,
    rules: PromotionParams,
    *,
    earlier: Sequence[Attempt] = (),
    today: date | None = None,
    family: Family | None = None,
    pooled: Pooled | None = None,
    accept_doubts: bool = False,
    key: str = "",
    informative: bool = True,
) -> tuple[Comparison, Verdict]:
    """Find out whether a challenger is a refresh, a first champion or a contest, and which attempt; test it, and judge.

    Parameters
    ----------
    frame : EvaluationFrame
        All forecasts on the same days. The days of a refresh are the rolling-origin days of the champion's recipe.
    rules : PromotionParams
        The policy.
    earlier : sequence of Attempt
        The distinct attempts for the symbol so far, in order: ``Ledger.attempts``.
    today, family, pooled, accept_doubts
        As for :func:`judge`. With ``attempts: yearly`` the year ends today, or else with the last day compared.
    key : str
        What the attempt is counted by if the challenger's recipe is not known: SHA-256 of the evaluation frame that it repeats;
        by default that of this frame.
    informative : bool
        Also make tests that decide nothing: of whether there is skill, say. Without them the outcome is the same.

    Returns
    -------
    The comparison, with the tests that the policy requires, and the verdict.

    Raises
    ------
    NotComparableError
        Without days, if a value is not finite, or if the policy forbids refreshes and this is one.
    """
    kind = frame.kind
    if kind == "refresh" and rules.refresh == "contest":
        msg = (
            f"version {frame.challenger} of {frame.symbol} would be a refresh, and promotion.refresh is contest: compare it with "
            f"the champion, version {frame.refreshes}, on days that neither has seen"
        )
        raise NotComparableError(msg)
    year = f"{(today or frame.days.index[-1].date()) - _YEAR}" if rules.attempts == "yearly" and len(frame.days) else ""
    number, upcoming, same = 0, next_number(earlier, year), None
    if kind == "contest":
        known, days = frame.recipe or key or frame.digest, pd.DatetimeIndex(frame.days.index)
        same = repeated(earlier, key=known, policy=policy_digest(rules), days=days, by_recipe=bool(frame.recipe))
        number, upcoming = (same.number, upcoming) if same else (upcoming, upcoming + 1)
    specs = required_tests(rules, number, family, kind, informative=informative)
    comparison = compare(frame, specs, cost=rules.evaluation.cost)
    words: dict[str, Any] = {"today": today, "family": family, "pooled": pooled, "accept_doubts": accept_doubts}
    verdict = judge(comparison, rules, attempt=number, next_attempt=upcoming, **words)
    return comparison, replace(verdict, attempt_frame=same.frame if same else "")


def required_tests(
    policy: PromotionParams,
    attempt: int,
    family: Family | None = None,
    kind: Change = "contest",
    *,
    informative: bool = True,
) -> tuple[TestSpec, ...]:
    """Return the tests that a policy needs, and the standard ones that it does not mention, at the levels of this attempt.

    In a family, tests that decide need a finer level. A refresh is compared with zero and the mean training return, which
    decides nothing. Without ``informative``, only the tests that decide are returned.
    """
    standard = STANDARD if informative else ()
    if kind == "refresh":
        return tuple(spec for spec in standard if spec.versus in {"zero_return", "mean_training_return"})
    specs = {(spec.test, spec.versus, spec.margin): replace(spec, alpha=spent(spec.alpha, policy, attempt)) for spec in standard}
    for gate in policy.gates:
        if gate.test is None or not (informative or gate.severity == "fail"):
            continue
        key = (gate.test, gate.versus, gate.margin)
        same = [g for g in policy.gates if (g.test, g.versus, g.margin) == key]
        finest = family.level if family is not None and any(g.severity == "fail" for g in same) else 1.0
        level = spent(min(finest, *(float(g.alpha or 1) for g in same)), policy, attempt)
        most = max(g.resamples for g in same)
        specs[key] = TestSpec(test=gate.test, versus=gate.versus, margin=gate.margin, alpha=level, resamples=most)
    return tuple(specs.values())


def judge(
    comparison: Comparison,
    policy: PromotionParams | None = None,
    *,
    attempt: int = 1,
    next_attempt: int | None = None,
    today: date | None = None,
    family: Family | None = None,
    pooled: Pooled | None = None,
    accept_doubts: bool = False,
) -> Verdict:
    """Apply the policy to a comparison, which must be made with its :func:`required_tests`; :func:`decide` does both.

    ``policy`` is by default that of an empty ``params.yaml``. ``attempt``, the
    1-based number for the symbol, spends a part of the error rate; 0, as for
    every refresh, spends nothing. ``next_attempt`` is the number that the next
    one would have, by default one more. Without ``today`` the age of the compared days is not judged, and a gate on it is not
    evaluated. A ``family`` requires its rate of false promotions of every test
    that decides, in addition to the test's own level. ``pooled``, one test over
    many symbols, replaces this symbol's own against the champion.
    ``accept_doubts`` lets doubtful prices on the compared days pass.
    """
    policy, kind = policy or PromotionParams(), comparison.frame.kind
    attempt = 0 if kind == "refresh" else attempt
    pooled = pooled if kind == "contest" else None
    once = pooled_gates(policy) if pooled else []
    gates = tuple(built_in(comparison, policy, today, accept_doubts=accept_doubts))
    for gate in policy.gates:
        if (gate.versus == "champion" and comparison.champion is None) or (kind == "refresh" and (gate.test or gate.versus)):
            continue
        together = family if gate.severity == "fail" else None
        if pooled and gate in once:
            gates += (pooled_tested(policy, gate, pooled),)
        else:
            gates += (tested(comparison, policy, gate, attempt, together) if gate.test else bounded(comparison, gate),)
    verdict = refreshed(comparison, gates) if kind == "refresh" else concluded(comparison, policy, gates, attempt, pooled)
    verdict = replace(verdict, also=(*circumstances(comparison, policy, today), *verdict.also))
    following = attempt + 1 if next_attempt is None else next_attempt
    verdict = replace(verdict, **_levels(comparison, policy, attempt, following, pooled))
    deciding = _deciding(comparison, policy)
    if not deciding:
        also = ("no test decides here, so the family's rate of false promotions does not cover it",) if family else ()
        return replace(verdict, also=verdict.also + also)
    results = [comparison.test_result(str(g.test), g.versus, margin=g.margin) for g in deciding if g not in once]
    made = [found.p if found is not None and not found.why else math.nan for found in results]
    made += [pooled.p] if pooled else []
    p = max(made) if all(map(math.isfinite, made)) else math.nan
    alone = all(gate.result == "pass" or not gate.decides or gate.waits for gate in gates)
    adjusted = for_attempt(p, policy, max(attempt, pooled.attempt if pooled else 0)) if math.isfinite(p) else math.nan
    verdict = replace(verdict, p=p, p_attempt=adjusted, pooled=pooled)
    if family is None:
        return verdict
    # once the family is adjusted, a gate may fail by that alone: the family has the p that entered
    entered = family.p.get(comparison.frame.symbol, math.nan) if family.p else adjusted if alone else 1.0
    for_all = family.adjusted_of(comparison.frame.symbol)
    return replace(verdict, p_entered=entered, p_family=for_all, family=family)


def _deciding(comparison: Comparison, policy: PromotionParams) -> list[GateParams]:
    if comparison.frame.kind == "refresh":
        return []
    gates = [gate for gate in policy.gates if gate.test and gate.severity == "fail"]
    return [gate for gate in gates if gate.versus != "champion" or comparison.champion is not None]


def _levels(
    comparison: Comparison, policy: PromotionParams, attempt: int, next_attempt: int, pooled: Pooled | None
) -> dict[str, Any]:
    """Return the verdict's ``level``, ``next_level`` and ``detectable``: those of the finest test against the champion."""
    alphas = [gate.alpha for gate in policy.gates if gate.alpha and gate.versus == "champion" and gate.severity == "fail"]
    if not alphas:
        return {}
    following = {"next_level": spent(min(alphas), policy, next_attempt)}
    if comparison.frame.kind != "contest":
        return following
    if pooled and pooled.members:
        return {**following, "level": spent(min(alphas), policy, pooled.attempt), "detectable": pooled.detectable}
    _, test_result = main_test(comparison)
    detectable = test_result.shows if test_result and not test_result.why else math.nan
    return {**following, "level": spent(min(alphas), policy, attempt), "detectable": detectable}


def already_champion(verdict: Verdict, comparison: Comparison) -> Verdict:
    """Return the verdict on a version that is the champion: keep it, with its RMSE against zero."""
    standing = relative_change(comparison, "rmse", ZERO)
    where = compared(standing, MEASURES["rmse"], "forecasting zero") if math.isfinite(standing) else "its RMSE has no baseline"
    who = f"Version {comparison.frame.challenger} {joined([*verdict.weak, 'is the champion already'])}"
    headline = f"{who}; {where}, on {len(comparison.frame.days)} days"
    doubts = tuple(gate.message for gate in verdict.gates if gate.id == "doubts" and gate.result == "fail")
    also = (*doubts, *verdict.also)
    none: dict[str, Any] = dict.fromkeys(
        ("p", "p_attempt", "p_entered", "p_family", "level", "next_level", "detectable"), math.nan
    )
    none |= {"because": (), "note": "", "attempt": 0, "family": None, "pooled": None, "kind": ""}
    return replace(verdict, outcome="keep", headline=headline, also=also, **none)


def contribution(comparison: Comparison, verdict: Verdict) -> Contribution:
    """Return what a symbol's comparison gives to the test over all symbols, by the verdict that it came to."""
    failed = (gate.message for gate in verdict.gates if gate.result == "fail" and gate.id in WHATEVER_THE_ERRORS)
    return Contribution.of(comparison, kind=verdict.kind, attempt=verdict.attempt, unfit=next(failed, ""))
