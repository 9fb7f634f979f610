"""Concerns that the verdict states first: missing skill, old days and drifted features."""

import math
from collections.abc import Iterator
from datetime import date

from scipy.stats import binom

from fxhelpers.comparison import MEAN, Comparison
from fxhelpers.metrics import rmse
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.policy._gates import relative_change, tested
from fxhelpers.policy._wording import digits, percent

_LONG_AGO = 31  # calendar days
_BY_CHANCE, _SURELY = 0.05, 0.99
_CONSTANT = "the constant mean training return"


def weaknesses(comparison: Comparison, policy: PromotionParams, attempt: int) -> tuple[list[str], bool]:
    """Return what makes a challenger's forecasts worth little, and whether they show skill.

    They show skill if they are significantly better than forecasting zero and
    than the mean training return, at the levels that the policy leaves to
    this attempt, and better than their own average.

    Parameters
    ----------
    comparison : Comparison
        Of the challenger with the baselines.
    policy : PromotionParams
        Its tests against a baseline; without any, the bootstrap at 5 %.
    attempt : int
        Attempt number for the symbol, 1-based.

    Returns
    -------
    found : list of str
        Parts of a sentence about the version.
    skill : bool
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
    """Return p, or why there is none, where a challenger is not significantly better than a baseline; "" where it is."""
    gates = [gate for gate in policy.gates if gate.test and gate.versus == versus and not gate.margin]
    asked = gates or [GateParams(id="skill", test="stationary_bootstrap", versus=versus, alpha=0.05)]
    for gate in asked:
        if tested(comparison, policy, gate, attempt, None).result != "pass":
            test_result = comparison.test_result(str(gate.test), versus)
            known = test_result is not None and math.isfinite(test_result.p)
            return (
                f"p = {digits(test_result.p)}"
                if test_result and known
                else test_result.why
                if test_result and test_result.why
                else "not tested"
            )
    return ""


def circumstances(comparison: Comparison, policy: PromotionParams, today: date | None) -> Iterator[str]:
    """Yield concerns about the compared days: they are old, or features drifted more than by chance.

    Parameters
    ----------
    comparison : Comparison
        With the drift of the challenger's features.
    policy : PromotionParams
        Where it bounds the age of the days, its gate says what lies beyond.
    today : date or None
        None: their age is not known.

    Yields
    ------
    str
        A part of a sentence.
    """
    age = (today - date.fromisoformat(comparison.last_day)).days if today else 0
    allowed = policy.evaluation.max_stale_days
    if age > _LONG_AGO and (allowed is None or age <= allowed):  # beyond that the gate says it
        yield f"the compared days end long ago, on {comparison.last_day}"
    drift = comparison.frame.drift
    moved, chance = int((drift["psi"] > drift["threshold"]).sum()), _BY_CHANCE * len(drift)
    if moved > binom.ppf(_SURELY, len(drift), _BY_CHANCE):
        yield f"{moved} of {len(drift)} features drifted since training ({chance:.0f} expected by chance)"
