"""From a comparison to a verdict: all gates together, and what else the reader must know."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

from scipy.stats import binom

from fxhelpers.comparison import MEAN, STANDARD, ZERO, Comparison, TestResult, TestSpec
from fxhelpers.ledger import NO_SKILL
from fxhelpers.measures import MEASURES
from fxhelpers.metrics import rmse
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.policy._gates import bounded, built_in, for_attempt, relative_change, spent, tested
from fxhelpers.policy._verdict import Family, GateResult, Verdict, compared, digits, joined, percent, rival_name

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


def policy_digest(policy: PromotionParams) -> str:
    """Return the SHA-256 of all that a verdict depends on besides the days: another policy is another attempt.

    Keys that are not set are left out, so that a key which is new in this
    version of fxhelpers does not change the digest of an old policy.
    """
    return hashlib.sha256(policy.model_dump_json(exclude={"approval"}, exclude_none=True).encode()).hexdigest()


def required_tests(policy: PromotionParams, attempt: int, family: Family | None = None) -> tuple[TestSpec, ...]:
    """Return the tests that a policy needs, and the standard ones that it does not mention, at the levels of this attempt.

    In a family, tests that decide need a finer level.
    """
    specs = {(spec.test, spec.versus, spec.margin): replace(spec, alpha=spent(spec.alpha, policy, attempt)) for spec in STANDARD}
    for gate in policy.gates:
        if gate.test is None:
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
    today: date | None = None,
    family: Family | None = None,
    accept_doubts: bool = False,
) -> Verdict:
    """Apply the policy to a comparison, which must be made with its :func:`required_tests`.

    ``policy`` is by default that of an empty ``params.yaml``. ``attempt``, the
    1-based number for the symbol, spends a part of the error rate. Without
    ``today`` the age of the compared days is not judged, and a gate on it is not
    evaluated. A ``family`` requires its rate of false promotions of every test
    that decides, in addition to the test's own level. ``accept_doubts`` lets
    doubtful prices on the compared days pass.
    """
    policy = policy or PromotionParams()
    gates = tuple(built_in(comparison, policy, today, accept_doubts=accept_doubts))
    for gate in policy.gates:
        if gate.versus == "champion" and comparison.champion is None:
            continue
        together = family if gate.severity == "fail" else None
        gates += (tested(comparison, policy, gate, attempt, together) if gate.test else bounded(comparison, gate),)
    verdict = _verdict(comparison, policy, gates, attempt)
    verdict = replace(verdict, also=(*circumstances(comparison, policy, today), *verdict.also))
    deciding = _deciding(comparison, policy)
    if not deciding:
        also = ("no test decides here, so the family's rate of false promotions does not cover it",) if family else ()
        return replace(verdict, also=verdict.also + also)
    results = [comparison.test_result(str(gate.test), gate.versus, margin=gate.margin) for gate in deciding]
    made = [found.p for found in results if found is not None and not found.why and math.isfinite(found.p)]
    p = max(made) if len(made) == len(deciding) else math.nan
    alone = all(gate.result == "pass" or not gate.decides or gate.waits for gate in gates)
    adjusted = for_attempt(p, policy, attempt) if math.isfinite(p) else math.nan
    verdict = replace(verdict, p=p, p_attempt=adjusted)
    if family is None:
        return verdict
    # once the family is adjusted, a gate may fail by that alone: the family has the p that entered
    entered = family.p.get(comparison.frame.symbol, math.nan) if family.p else adjusted if alone else 1.0
    for_all = family.adjusted_of(comparison.frame.symbol)
    return replace(verdict, p_entered=entered, p_family=for_all, family=family)


def _deciding(comparison: Comparison, policy: PromotionParams) -> list[GateParams]:
    gates = [gate for gate in policy.gates if gate.test and gate.severity == "fail"]
    return [gate for gate in gates if gate.versus != "champion" or comparison.champion is not None]


def already_champion(verdict: Verdict, comparison: Comparison) -> Verdict:
    """Return the verdict on a version that is the champion: keep it, with its RMSE against zero."""
    standing = relative_change(comparison, "rmse", ZERO)
    where = compared(standing, MEASURES["rmse"], "forecasting zero") if math.isfinite(standing) else "its RMSE has no baseline"
    who = f"Version {comparison.frame.challenger} {joined([*verdict.weak, 'is the champion already'])}"
    headline = f"{who}; {where}, on {len(comparison.frame.days)} days"
    doubts = tuple(gate.message for gate in verdict.gates if gate.id == "doubts" and gate.result == "fail")
    also = (*doubts, *verdict.also)
    as_it_is = replace(verdict, outcome="keep", headline=headline, because=(), also=also, note="", attempt=0, family=None)
    return replace(as_it_is, p=math.nan, p_attempt=math.nan, p_entered=math.nan, p_family=math.nan)


def against_champion(comparison: Comparison) -> float:
    """Return the change of RMSE against the champion, or else against zero, as a fraction; lower is better."""
    return relative_change(comparison, "rmse", comparison.rival("champion") or ZERO)


def _verdict(comparison: Comparison, policy: PromotionParams, gates: tuple[GateResult, ...], attempt: int) -> Verdict:
    who = f"Version {comparison.frame.challenger}"
    weak, skill = weaknesses(comparison, policy, attempt)
    failed = [g.message for g in gates if g.result == "fail"]
    open_ = [g.message for g in gates if g.result == "not evaluated" and g.decides]
    fields: dict[str, Any] = {
        "also": tuple(g.message for g in gates if g.result == "warn" or (g.result == "not evaluated" and not g.decides)),
        "gates": gates,
        "attempt": attempt,
        "weak": tuple(weak),
        "skill": skill,
    }
    if failed or open_:
        return Verdict(
            outcome="keep" if failed else "inconclusive",
            headline=f"{who} {joined([*weak, 'is refused' if failed else 'is not promoted'])}",
            because=(*failed, *open_),
            note=_detectable(comparison) if policy.policy == "superiority" else "",
            **fields,
        )
    passes = f"{who} passes every gate that decides"
    standing = f"{_standing(comparison)}, on the same {len(comparison.target)} days"
    if not weak:
        return Verdict(outcome="promote", headline=f"{passes}: {standing}", **fields)
    headline = f"{passes}, {'though' if skill else f'with {NO_SKILL}:'} it {joined(weak)}"
    return Verdict(outcome="promote", headline=headline, note=f"{standing[0].upper()}{standing[1:]}.", **fields)


def _detectable(comparison: Comparison) -> str:
    """Return the gain that these days would have shown: a refusal is no proof that there is none."""
    _, test_result = _main_test(comparison)
    if test_result is None or test_result.why:
        return ""
    message = test_result.detects("the champion" if comparison.champion else "forecasting zero")
    return f"{message[0].upper()}{message[1:]}."


def _standing(comparison: Comparison) -> str:
    versus, test_result = _main_test(comparison)
    chance = f" (p = {digits(test_result.p)})" if test_result and math.isfinite(test_result.p) else ""
    return f"{compared(against_champion(comparison), MEASURES['rmse'], rival_name(comparison, versus))}{chance}"


def _main_test(comparison: Comparison) -> tuple[str, TestResult | None]:
    """Return the first rival, the champion or else zero, and the bootstrap's result against it."""
    versus = "champion" if comparison.champion else "zero_return"
    return versus, comparison.test_result("stationary_bootstrap", versus)
