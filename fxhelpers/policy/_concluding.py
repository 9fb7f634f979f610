"""Conclusions from the gates' results, in words: the verdict's first sentence, what is weak, and what else matters."""

import math
from collections.abc import Iterator
from datetime import date
from typing import Any

from scipy.stats import binom

from fxhelpers.comparison import MEAN, ZERO, Comparison, EvaluationFrame, TestResult
from fxhelpers.ledger import NO_SKILL
from fxhelpers.measures import MEASURES
from fxhelpers.metrics import rmse
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.policy._gates import relative_change, tested
from fxhelpers.policy._pooled import Pooled
from fxhelpers.policy._verdict import GateResult, Outcome, Verdict, compared, digits, joined, percent, rival_name, short

_LONG_AGO = 31  # calendar days
_BY_CHANCE, _SURELY = 0.05, 0.99
_CONSTANT = "the constant mean training return"


def weaknesses(comparison: Comparison, policy: PromotionParams, attempt: int) -> tuple[list[str], bool]:
    """Return what makes a challenger's forecasts worth little, as parts of a sentence, and whether they show skill.

    They show skill if they are significantly better than forecasting zero and
    than the mean training return, at the levels that the policy leaves to this
    attempt (by its own tests, else by the bootstrap at 5 %), and better than
    their own average.
    """
    zero, mean = (_not_better(comparison, policy, attempt, versus) for versus in ("zero_return", "mean_training_return"))
    own = rmse(comparison.target, comparison.forecast * 0 + comparison.forecast.mean())
    varies_in_vain = own <= float(comparison.measures["rmse"][comparison.challenger])
    found = list(_one_sign(comparison))
    change = relative_change(comparison, "rmse", MEAN)
    if change >= 0:
        found.append(f"is no better than {_CONSTANT} (gain {percent(-change)})")
    elif mean:
        found.append(f"is not significantly better than {_CONSTANT} ({mean})")
    elif varies_in_vain:
        found.append("is no better than the constant average of its forecasts")
    if zero and not found:
        found.append(f"is not significantly better than forecasting zero ({zero})")
    return found, not (zero or mean or varies_in_vain)


def _one_sign(comparison: Comparison) -> Iterator[str]:
    forecast, days = comparison.forecast, len(comparison.target)
    for move, other, signed in (("rise", "fall", forecast), ("fall", "rise", -forecast)):
        if days > 1 and (signed > 0).all():
            yield f"forecasts a {move} on every one of {days} days"
        elif days > 1 and (signed >= 0).all() and signed.any():
            yield f"never forecasts a {other} in {days} days"


def _not_better(comparison: Comparison, policy: PromotionParams, attempt: int, versus: str) -> str:
    """Return p, or why there is none, if a challenger is not significantly better than a baseline; "" if it is."""
    gates = [gate for gate in policy.gates if gate.test and gate.versus == versus and not gate.margin]
    for gate in gates or [GateParams(id="skill", test="stationary_bootstrap", versus=versus, alpha=0.05)]:
        if tested(comparison, policy, gate, attempt, None).result != "pass":
            found = comparison.test_result(str(gate.test), versus)
            if found is not None and math.isfinite(found.p):
                return f"p = {digits(found.p)}"
            return found.why if found and found.why else "not tested"
    return ""


def circumstances(comparison: Comparison, policy: PromotionParams, today: date | None) -> Iterator[str]:
    """Yield concerns about the compared days, as parts of a sentence: they are old, or features drifted more than by chance."""
    age = (today - date.fromisoformat(comparison.last_day)).days if today else 0
    allowed = policy.evaluation.max_stale_days
    if age > _LONG_AGO and allowed is None:  # else the gate says it
        yield f"the compared days end long ago, on {comparison.last_day}"
    drift = comparison.frame.drift
    moved, chance = int((drift["psi"] > drift["threshold"]).sum()), _BY_CHANCE * len(drift)
    if moved > binom.ppf(_SURELY, len(drift), _BY_CHANCE):
        yield f"{moved} of {len(drift)} features drifted since training ({chance:.0f} expected by chance)"


def against_champion(comparison: Comparison) -> float:
    """Return the change of RMSE against the champion, or else against zero, as a fraction; lower is better."""
    return relative_change(comparison, "rmse", comparison.rival("champion") or ZERO)


def concluded(
    comparison: Comparison, policy: PromotionParams, gates: tuple[GateResult, ...], attempt: int, pooled: Pooled | None = None
) -> Verdict:
    who, contest = f"Version {comparison.frame.challenger}", _contest(comparison.frame)
    weak, skill = weaknesses(comparison, policy, attempt)
    fields = {**_fields(comparison, gates), "attempt": attempt, "weak": tuple(weak), "skill": skill}
    against, since = _against(gates), _since(comparison)
    if against:
        what = "is refused" if any(gate.result == "fail" for gate in gates) else "is not promoted"
        note = _detectable(comparison, pooled) if policy.policy == "superiority" else ""
        headline = f"{who} {joined([*contest, *weak, what])}"
        return Verdict(
            outcome=_outcome(gates), headline=headline, because=against, note=" ".join(filter(None, [note, since])), **fields
        )
    passes = f"{who} {joined([*contest, 'passes every gate that decides'])}"
    standing = f"{_standing(comparison, pooled)}, on the same {len(comparison.target)} days"
    if not weak:
        return Verdict(outcome="promote", headline=f"{passes}: {standing}", note=since, **fields)
    headline = f"{passes}, {'though' if skill else f'with {NO_SKILL}:'} it {joined(weak)}"
    note = " ".join(filter(None, [f"{standing[0].upper()}{standing[1:]}.", since]))
    return Verdict(outcome="promote", headline=headline, note=note, **fields)


def refreshed(comparison: Comparison, gates: tuple[GateResult, ...]) -> Verdict:
    """Return the verdict on a refit of the champion's recipe: no test decides, and its errors against zero are shown."""
    frame = comparison.frame
    recipe = f"same recipe {short(frame.recipe)}" if frame.recipe else "same recipe"
    who = f"Version {frame.challenger} is a refresh of the champion, version {frame.refreshes} ({recipe}), and"
    found = comparison.test_result("stationary_bootstrap", "zero_return")
    chance = f" (p = {digits(found.p)})" if found and math.isfinite(found.p) else ""
    standing = relative_change(comparison, "rmse", ZERO)
    errors = compared(standing, MEASURES["rmse"], "forecasting zero") if math.isfinite(standing) else "its RMSE has no baseline"
    note = f"No test decides. On all {len(comparison.target)} rolling-origin days of its recipe, {errors}{chance}."
    fields = {**_fields(comparison, gates), "note": note, "outcome": _outcome(gates), "because": _against(gates)}
    if fields["because"]:
        what = "is refused" if fields["outcome"] == "keep" else "is not promoted"
        return Verdict(headline=f"{who} {what}", **fields)
    ours, theirs = (frame.facts[version]["seen"]["last_day"] for version in (frame.challenger, frame.refreshes or 0))
    seen = f"it has seen days up to {ours}, the champion up to {theirs}"
    return Verdict(headline=f"{who} passes every gate that decides: {seen}", **fields)


def _fields(comparison: Comparison, gates: tuple[GateResult, ...]) -> dict[str, Any]:
    also = (g.message for g in gates if g.result == "warn" or (g.result == "not evaluated" and not g.decides))
    return {"kind": comparison.frame.kind, "gates": gates, "also": tuple(also)}


def _against(gates: tuple[GateResult, ...]) -> tuple[str, ...]:
    """Return the messages of gates that failed, then of those that decide and are open."""
    failed = [g.message for g in gates if g.result == "fail"]
    return (*failed, *(g.message for g in gates if g.result == "not evaluated" and g.decides))


def _outcome(gates: tuple[GateResult, ...]) -> Outcome:
    if any(gate.result == "fail" for gate in gates):
        return "keep"
    return "inconclusive" if _against(gates) else "promote"


def _contest(frame: EvaluationFrame) -> list[str]:
    """Return that this is a contest, as a part of a sentence, and of what; nothing for a first champion."""
    if frame.kind != "contest":
        return []
    if not frame.recipe or not frame.champion_recipe:
        whose = "the champion's" if frame.recipe else "its"
        return [f"is a contest ({whose} recipe is not known)"]
    if frame.recipe == frame.champion_recipe:
        return ["is a contest (a refit of the champion's recipe, and refresh is contest)"]
    return ["is a contest (another recipe than the champion's)"]


def _since(comparison: Comparison) -> str:
    """Return which days its recipe may have been thought up on, and its gain since then, in a sentence; "" if that is unknown."""
    frame = comparison.frame
    if not frame.since:
        return ""
    days, gain = comparison.gain_since
    before = len(frame.days) - days
    since = f"since then, {days} days: gain {percent(gain)}" if math.isfinite(gain) else "since then: no days"
    return (
        f"{before} of {len(frame.days)} days lie before {frame.since}, the first day after its recipe was registered: they "
        f"may have been used to think it up, which nobody can check; {since}."
    )


def _detectable(comparison: Comparison, pooled: Pooled | None) -> str:
    """Return the gain that these days would have shown: a refusal is no proof that there is none."""
    if pooled:
        return f"80 % power to detect a mean gain of {100 * pooled.detectable:.3g} %." if math.isfinite(pooled.p) else ""
    _, test_result = main_test(comparison)
    if test_result is None or test_result.why:
        return ""
    message = test_result.detects("the champion" if comparison.champion else "forecasting zero")
    return f"{message[0].upper()}{message[1:]}."


def _standing(comparison: Comparison, pooled: Pooled | None) -> str:
    versus, test_result = main_test(comparison)
    if pooled:
        mean = f"the mean gain of its recipe over {pooled.over} is {percent(pooled.gain)} (p = {digits(pooled.p)}); here"
        return f"{mean} {compared(against_champion(comparison), MEASURES['rmse'], rival_name(comparison, versus))}"
    chance = f" (p = {digits(test_result.p)})" if test_result and math.isfinite(test_result.p) else ""
    return f"{compared(against_champion(comparison), MEASURES['rmse'], rival_name(comparison, versus))}{chance}"


def main_test(comparison: Comparison) -> tuple[str, TestResult | None]:
    """Return the first rival, the champion or else zero, and the bootstrap's result against it."""
    versus = "champion" if comparison.champion else "zero_return"
    return versus, comparison.test_result("stationary_bootstrap", versus)
