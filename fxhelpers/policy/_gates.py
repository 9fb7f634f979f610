"""The gates: those that every policy has, bounds on measures, and tests."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from statistics import median
from typing import Any

import numpy as np
from pandas.tseries.offsets import BDay

from fxhelpers.comparison import MOVED, QUARTER, ZERO, Comparison, TestResult, TestSpec
from fxhelpers.display import shown_as
from fxhelpers.measures import MEASURES
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.policy._pooled import Pooled
from fxhelpers.policy._verdict import Family, GateResult, Result, claimed, compared, digits, percent, rival_name
from fxhelpers.watching import allowed_sizes

WHATEVER_THE_ERRORS = frozenset({"forecasts", "replay", "doubts", "days", "stale", "seen"})
"""Gates that do not depend on the forecasts' errors: a symbol that fails one may be left out of a test over many."""

_NOT_MADE = TestResult(spec=TestSpec(test="stationary_bootstrap"), forecast="", why="the test was not made")
_BROKEN = 0.05  # RMSE above that of forecasting zero, as a fraction of it, at which a recipe is broken
_LEAST_RECENT = 30  # fewest days to judge that on
_NOTHING = 1e-6  # of a forecast's size: no decision could tell two forecasts apart by this


def built_in(
    comparison: Comparison, policy: PromotionParams, today: date | None, *, accept_doubts: bool = False
) -> Iterator[GateResult]:
    frame = comparison.frame
    yield _varied(comparison)
    yield from _reproduced(comparison)
    if frame.doubts:
        yield _doubtful(comparison, accepted=accept_doubts)
    unsure = [v for v, facts in frame.facts.items() if not facts.get("seen", {}).get("recorded", True)]
    if unsure:
        message = "; ".join(f"the last training day of version {v} is {frame.facts[v]['seen']['basis']}" for v in unsure)
        rule, bound = "the last training day is recorded", "of every version"
        yield _bound(math.nan, passed=False, warns=True, id="seen", rule=rule, shown="-", bound=bound, message=message)
    if frame.kind != "refresh":
        yield _enough(comparison, policy.evaluation.min_days)
    if policy.evaluation.max_stale_days is not None:
        yield _stale(comparison, policy.evaluation.max_stale_days, today)
    if frame.kind == "first" and policy.on_no_champion == "block":
        message = "there is no champion to compare with, and on_no_champion is block: set the first one by hand or by override"
        rule = "a champion to compare with"
        yield _bound(math.nan, passed=False, id="champion", rule=rule, shown="none", bound="one", message=message)
    if frame.kind == "refresh":
        yield from (_fresher(comparison), _whole(comparison), _plausible(comparison))
    elif comparison.champion is not None and policy.policy == "non_inferiority":
        yield _fresher(comparison)


def _enough(comparison: Comparison, least: int) -> GateResult:
    days = len(comparison.frame.days)
    message = f"only {days} days are unseen by every compared version (required: at least {least})"
    rule = "days unseen by every version"
    return _bound(days, passed=days >= least, id="days", rule=rule, shown=f"{days}", bound=f"at least {least}", message=message)


def _whole(comparison: Comparison) -> GateResult:
    """Judge whether the recipe of a refresh is broken: far worse than forecasting zero in most of the last quarters.

    One broken fit makes one bad quarter; the refits after it have to replace it.
    """
    ratios, days = comparison.recent, len(comparison.frame.days)
    rule = f"RMSE of its recipe over that of zero return, median of the last {len(ratios)} quarters ({QUARTER} days)"
    bound = f"at most {100 * _BROKEN:g} % worse"
    excess = median(ratios) - 1
    if days < _LEAST_RECENT or not math.isfinite(excess):
        why = f"{days} rolling-origin days, at least {_LEAST_RECENT} are required" if days < _LEAST_RECENT else "no price moved"
        return _not_evaluated("broken", rule, bound, why)
    message = f"its recipe is broken: {compared(excess, MEASURES['rmse'], 'forecasting zero')} in the median of the last "
    message += f"{len(ratios)} quarters (required: {bound})"
    shown = percent(-excess)
    return _bound(excess, passed=excess <= _BROKEN, id="broken", rule=rule, shown=shown, bound=bound, message=message)


def _plausible(comparison: Comparison) -> GateResult:
    """Judge the size of a refresh's forecasts by those of its recipe's earlier fits; only warns."""
    size, sizes = comparison.frame.size, comparison.frame.sizes
    rule = "size of forecasts, as a share of the returns'"
    if not sizes or not math.isfinite(size):
        why = "the sizes of its recipe's forecasts are not known"
        return replace(_not_evaluated("size", rule, "half to twice those of earlier fits", why), decides=False)
    low, high = allowed_sizes(sizes)
    bound = f"{low:.3g} to {high:.3g}"
    message = f"its forecasts have {size:.3g} times the size of the returns; earlier fits of its recipe allow {bound}"
    passed = low <= size <= high
    return _bound(size, passed=passed, warns=True, id="size", rule=rule, shown=f"{size:.3g}", bound=bound, message=message)


def _reproduced(comparison: Comparison) -> Iterator[GateResult]:
    frame, rule, bound = comparison.frame, "stored forecasts are reproduced", "all of them"
    silent = [version for version, (again, stored) in frame.replayed.items() if again < stored / 2 or not again]
    if frame.restated:
        message = f"accepted: {'; '.join(frame.restated.values())}; all versions are compared on the prices as they are now"
        yield _bound(math.nan, passed=False, warns=True, id="replay", rule=rule, shown="restated", bound=bound, message=message)
    elif silent:
        who = " and ".join(f"version {version}" for version in silent)
        message = f"too few stored forecasts of {who} could be reproduced to see whether prices were restated"
        yield _bound(math.nan, passed=False, warns=True, id="replay", rule=rule, shown="-", bound=bound, message=message)
    elif frame.replayed:
        count, moved = min(again for again, _ in frame.replayed.values()), max(frame.moved.values(), default=0.0)
        shown = f"{count} or more each" + (f", within {moved:.1g} standard deviations" if moved > MOVED else "")
        yield _bound(count, passed=True, id="replay", rule=rule, shown=shown, bound=bound, message="they are")


def _doubtful(comparison: Comparison, *, accepted: bool) -> GateResult:
    """Judge doubts about prices: those of the days compared decide, unless somebody accepted them."""
    frame, first, last = comparison.frame, comparison.first_day, comparison.last_day
    after = frame.days.index[-1] + BDay(1)  # the last return ends a day later
    inside = {doubt: [day for day in days if first <= day <= f"{after:%Y-%m-%d}"] for doubt, days in frame.doubts.items()}
    here = {doubt: days for doubt, days in inside.items() if days or not frame.doubts[doubt]}
    count = sum(len(days) or 1 for days in here.values())
    first_one, *more = here or frame.doubts
    listed = first_one + (f"; and {len(more)} more" if more else "")
    rule, bound = "no doubtful prices on the days compared", "none, or accept_doubts with a reason"
    days = f"{count} doubtful day{'s' * (count > 1)}"
    where = f"{days} between {first} and {last}" if here else f"doubtful prices before {first}"
    message = f"{where}: {listed}"
    if here and not accepted:
        message += "; correct them, or promote with accept_doubts and a reason"
    fields = {
        "rule": rule,
        "shown": days if here else "earlier ones only",
        "bound": bound,
        "message": f"accepted: {message}" if here and accepted else message,
    }
    return _bound(count, passed=False, warns=accepted or not here, id="doubts", **fields)


def _varied(comparison: Comparison) -> GateResult:
    forecast, champion = comparison.forecast, comparison.champion
    distinct = int(forecast.nunique()) if np.ptp(forecast) > _NOTHING * np.abs(forecast).max() else 1
    theirs = comparison.frame.days[champion] if champion is not None else None
    same = theirs is not None and bool(np.allclose(forecast, theirs, rtol=_NOTHING, atol=_NOTHING**2))
    message = f"its forecasts equal those of the champion, {champion}, on every day"
    if distinct == 1:
        message = f"it forecasts the same value, {forecast.iloc[0] + 0.0:.4%}, on every day"
    rule = "forecasts vary" + ("" if champion is None else " and are not the champion's")
    shown, bound = "the champion's" if same else f"{distinct} different", "at least 2 different"
    passed = distinct > 1 and not same
    return _bound(distinct, passed=passed, id="forecasts", rule=rule, shown=shown, bound=bound, message=message)


def _stale(comparison: Comparison, allowed: int, today: date | None) -> GateResult:
    """Judge the age of the last day compared, in sessions if the exchange is known; the sample is old by nature."""
    frame, unit = comparison.frame, "sessions" if comparison.frame.sessions_since is not None else "days"
    rule, bound = "age of the last day compared", f"at most {allowed} {unit}"
    if today is None and frame.sessions_since is None:
        return _not_evaluated("stale", rule, bound, "today's date was not given")
    days = (today - date.fromisoformat(comparison.last_day)).days if today else 0
    age = days if frame.sessions_since is None else frame.sessions_since
    message = (
        f"the prices are old: the last day compared is {comparison.last_day}, {age:,} {unit} ago (required: {bound}); bring "
        "newer ones, or change promotion.evaluation.max_stale_days"
    )
    if frame.sample:
        message = f"the prices are a sample to try things out, and old: they end on {comparison.last_day}, {age:,} {unit} ago"
    shown = f"{age:,} {unit}"
    return _bound(
        age, passed=age <= allowed, warns=frame.sample, id="stale", rule=rule, shown=shown, bound=bound, message=message
    )


def _fresher(comparison: Comparison) -> GateResult:
    facts, frame = comparison.frame.facts, comparison.frame
    champion = frame.champion if frame.refreshes is None else frame.refreshes
    last_days = [facts.get(version or 0, {}).get("seen", {}).get("last_day") for version in (frame.challenger, champion)]
    why = "" if frame.kind == "refresh" else " (policy non_inferiority)"
    rule, bound = f"trained on later days than the champion{why}", "a later day"
    if None in last_days:
        return _not_evaluated("fresher", rule, bound, "the last training days are not known")
    ours, theirs = (date.fromisoformat(str(day)) for day in last_days)
    later = (ours - theirs).days
    message = f"it is not fresher: it has seen days up to {ours}, the champion up to {theirs}"
    return _bound(later, passed=later > 0, id="fresher", rule=rule, shown=f"{later:+d} days", bound=bound, message=message)


def _not_evaluated(gate: str, rule: str, bound: str, why: str) -> GateResult:
    message = f"{gate} was not evaluated: {why}"
    return GateResult(id=gate, rule=rule, value=math.nan, shown="-", bound=bound, result="not evaluated", message=message)


def _bound(value: float, *, passed: bool, warns: bool = False, **words: Any) -> GateResult:  # noqa: ANN401 (a gate's fields)
    result: Result = "warn" if warns and not passed else _result(passed=passed)
    return GateResult(value=float(value), result=result, decides=not warns, **words)


def tested(comparison: Comparison, policy: PromotionParams, gate: GateParams, attempt: int, family: Family | None) -> GateResult:
    """Compare p of a test with the level left to this attempt and, in a family, with its rate of false promotions."""
    level = spent(float(gate.alpha or 0), policy, attempt)
    test_result = comparison.test_result(str(gate.test), gate.versus, margin=gate.margin) or _NOT_MADE
    rival = rival_name(comparison, gate.versus)
    rule = f"{claimed(gate, comparison.rival(gate.versus) or 'chance')} ({str(gate.test).replace('_', ' ')})"
    if test_result.challengers > 1:
        rule += f"; p is adjusted for {test_result.challengers} challengers"
    required, bound = f"p < {level:.3g}", f"p < {level:.3g}"
    if level != gate.alpha:
        bound += f" ({gate.alpha:g}/(k(k+1)), attempt {attempt})"
    if family is not None:
        rate = f", and at most {family.fdr:g} after adjustment for attempts and {len(family.p) or family.symbols} symbols"
        required, bound = required + rate, bound + rate
    adjusted = for_attempt(test_result.p, policy, attempt)
    why = _open(test_result, level)
    waits = not why and family is not None and not family.p and test_result.p < level
    if waits:
        why = f"the other symbols are compared first (p = {digits(test_result.p)}, {digits(adjusted)} at attempt {attempt})"
    if why:
        return replace(_not_evaluated(gate.id, rule, bound, why), decides=gate.severity == "fail", waits=waits)
    claim = "it does not forecast signs significantly better than chance"
    if gate.margin:
        claim = f"it may be worse than {rival} by more than {gate.margin:.3%}"
    elif gate.versus:
        claim = f"it is not significantly better than {rival}"
    shown, value, passed = f"p = {digits(test_result.p)}", test_result.p, test_result.p < level
    if family is not None and family.p:
        value = family.adjusted_of(comparison.frame.symbol)
        passed = passed and value <= family.fdr
        shown = f"{shown}, {digits(adjusted)} adjusted for attempts, {digits(value)} for symbols"
    message = f"{claim} ({shown}; required: {required})"
    return _severe(gate, result=_result(passed=passed), rule=rule, value=value, shown=shown, bound=bound, message=message)


def pooled_tested(policy: PromotionParams, gate: GateParams, pooled: Pooled) -> GateResult:
    """Compare p of the one test over all symbols with the level left to its attempt."""
    level = spent(float(gate.alpha or 0), policy, pooled.attempt)
    rule = f"lower squared errors than the champion's recipe, mean over {pooled.over if pooled.members else 'symbols'}"
    rule, bound = f"{rule} (stationary bootstrap)", f"p < {level:.3g}"
    if level != gate.alpha:
        bound += f" ({gate.alpha:g}/(k(k+1)), attempt {pooled.attempt})"
    if not math.isfinite(pooled.p):
        why = f"the test over {pooled.over} was not made: {pooled.why}" if pooled.members else "all symbols are compared first"
        return replace(_not_evaluated(gate.id, rule, bound, why), waits=not pooled.members)
    shown, passed = f"p = {digits(pooled.p)}", pooled.p < level
    message = (
        f"its recipe is not significantly better than the champion's over {pooled.over} ({shown}; required: p < {level:.3g})"
    )
    return _severe(gate, result=_result(passed=passed), rule=rule, value=pooled.p, shown=shown, bound=bound, message=message)


def _open(test_result: TestResult, level: float) -> str:
    """Return why a test has no result at this level; "" if it has one."""
    if test_result.why:
        return test_result.why
    if not math.isfinite(test_result.p):
        return "the test gave no p"
    resamples = 0 if test_result.tail or test_result.p < level else test_result.resamples
    if resamples and replace(test_result.spec, alpha=level).unresolved(test_result.p, resamples):
        return f"{resamples:,} resamples are too few to tell whether p is below {level:.2g}"
    return ""


def bounded(comparison: Comparison, gate: GateParams) -> GateResult:
    return _held(comparison, gate) if gate.versus is None else _changed(comparison, gate)


def _held(comparison: Comparison, gate: GateParams) -> GateResult:
    name = str(gate.metric)
    known, value = MEASURES[name], _value(comparison, name, comparison.challenger)
    low, high = gate.min if gate.min is not None else -math.inf, gate.max if gate.max is not None else math.inf
    parts = [f"at least {low:g}" if low > -math.inf else "", f"at most {high:g}" if high < math.inf else ""]
    bound = " and ".join(filter(None, parts))
    fields = {"rule": known.label, "value": value, "shown": shown_as(value, known.form), "bound": bound}
    if not math.isfinite(value):
        message = f"{gate.id} was not evaluated: it has no {known.label}"
        return _severe(gate, result="not evaluated", message=message, **fields)
    message = f"its {known.label} is {known.form.format(value)} (required: {bound})"
    return _severe(gate, result=_result(passed=low <= value <= high), message=message, **fields)


def _changed(comparison: Comparison, gate: GateParams) -> GateResult:
    known, rival = MEASURES[str(gate.metric)], rival_name(comparison, gate.versus)
    change, where = _worst_change(comparison, gate)
    bound = (
        f"at least {100 * gate.min_improvement:g} % better"
        if gate.min_improvement is not None
        else f"at most {100 * gate.max_regression:g} % worse"
        if gate.max_regression
        else "not worse"
    )
    rule = f"gain in {known.label} over {comparison.rival(gate.versus) or rival}{where}"
    fields = {"rule": rule, "value": change, "bound": bound}
    if not math.isfinite(change):
        message = f"{gate.id} was not evaluated: {rival} has no {known.label}, or it is 0 or was not measured"
        return _severe(gate, result="not evaluated", shown="-", message=message, **fields)
    regression = change if known.better == "lower" else -change
    passed = regression <= (-gate.min_improvement if gate.min_improvement is not None else float(gate.max_regression or 0))
    message = f"{compared(change, known, rival)}{where} (required: {bound})"
    shown = percent(-regression)
    return _severe(gate, result=_result(passed=passed), shown=shown, message=message, **fields)


def _result(*, passed: bool) -> Result:
    return "pass" if passed else "fail"


def _severe(gate: GateParams, *, result: Result, **words: Any) -> GateResult:  # noqa: ANN401 (the fields of a gate's result)
    outcome: Result = "warn" if result == "fail" and gate.severity == "warn" else result
    return GateResult(id=gate.id, result=outcome, decides=gate.severity == "fail", **words)


def _worst_change(comparison: Comparison, gate: GateParams) -> tuple[float, str]:
    """Return the change of a measure against a rival, as a fraction; with slices, that of the worst, and its name."""
    rival = comparison.rival(gate.versus)
    if gate.slice is None or rival is None:
        return relative_change(comparison, str(gate.metric), rival or ZERO), ""
    table = comparison.regimes
    if table.empty or not (table[rival] > 0).all():
        return math.nan, ", in each third of the days by volatility"
    changes = table[comparison.challenger] / table[rival] - 1
    return float(changes.max()), f", {changes.idxmax()} third of the days by volatility"


def relative_change(comparison: Comparison, metric: str, rival: str) -> float:
    """Return (ours - theirs) / |theirs|; NaN if theirs is zero."""
    ours, theirs = _value(comparison, metric, comparison.challenger), _value(comparison, metric, rival)
    return (ours - theirs) / abs(theirs) if theirs else math.nan


def _value(comparison: Comparison, metric: str, row: str) -> float:
    table = comparison.frame.footprint if MEASURES[metric].of_files else comparison.measures
    return float(table[metric].get(row, math.nan)) if metric in table else math.nan


def for_attempt(p: float, policy: PromotionParams, attempt: int) -> float:
    """Return p adjusted for the attempt number k: p k (k + 1), the counterpart of :func:`spent`."""
    return min(1.0, p * attempt * (attempt + 1)) if attempt and policy.attempts != "ignore" else p


def spent(alpha: float, policy: PromotionParams, attempt: int) -> float:
    """Return the level of attempt number k: alpha / (k (k + 1)), which sums to alpha over all attempts; alpha if it is none."""
    return alpha / (attempt * (attempt + 1)) if attempt and policy.attempts != "ignore" else alpha
