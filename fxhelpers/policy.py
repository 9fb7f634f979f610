"""The promotion policy: gates on a comparison, and the verdict that follows from them.

A gate passes, fails, warns or is not evaluated; one that was not evaluated
never counts as passed. Where a gate fails the champion is kept; where none
fails but one that has to pass was not evaluated the verdict is inconclusive,
which keeps the champion too. A gate of severity ``warn`` never decides, and
what it says stands beside the verdict.
"""

import hashlib
import html
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import numpy as np
import pandas as pd

from fxhelpers.comparison import STANDARD, ZERO, Answer, Comparison, Question
from fxhelpers.measures import MEASURES, Measure
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.results import left_aligned, shown_as

Result = Literal["pass", "fail", "warn", "not evaluated"]
Outcome = Literal["promote", "keep", "inconclusive"]

NO_SKILL = "no evidence of skill"
"""Words without which nothing becomes the first champion that is not significantly better than forecasting zero."""

_LONGEST_REASON = 1000
_NOTHING = 1e-6  # of a forecast's size: no decision could tell two forecasts apart by this
_COLOURS = {"promote": "#00604d", "keep": "#37474f", "inconclusive": "#7a4f00"}
_MARKS = {"pass": "✓\u00a0pass", "fail": "✗\u00a0fail", "warn": "⚠\u00a0warn", "not evaluated": "? not evaluated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate said.

    Attributes
    ----------
    id : str
        Short name.
    rule : str
        In words.
    value : float
        What was measured: a number of days, a measure, a change as a
        fraction, or p; NaN where it could not be measured.
    shown : str
        The value as people read it.
    bound : str
        What it is held against.
    result : {"pass", "fail", "warn", "not evaluated"}
    said : str
        What was found, as a part of a sentence about the challenger.
    decides : bool
        False for a gate that only warns.
    """

    id: str
    rule: str
    value: float
    shown: str
    bound: str
    result: Result
    said: str
    decides: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what a ledger keeps of it: id, value (None where there is none), bound and result."""
        value = self.value if math.isfinite(self.value) else None
        return {"id": self.id, "value": value, "bound": self.bound, "result": self.result}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the policy says of a challenger.

    Attributes
    ----------
    outcome : {"promote", "keep", "inconclusive"}
        The last two leave the champion as it is.
    headline : str
        One sentence for people, or the beginning of one.
    because : tuple of str
        What stands against a promotion, as parts of that sentence.
    beside : tuple of str
        What does not decide, but should be known.
    note : str
        What could have been detected; "" where that does not matter.
    gates : tuple of GateResult
        Empty where nothing was compared.
    attempt : int
        The how-manieth distinct attempt for the symbol this is; 0 where that
        was not counted.
    """

    outcome: Outcome
    headline: str
    because: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    note: str = ""
    gates: tuple[GateResult, ...] = ()
    attempt: int = 0

    @property
    def reason(self) -> str:
        """All of it in a few sentences."""
        text = f"{self.headline}: {'; '.join(self.because)}." if self.because else f"{self.headline}."
        if self.beside:
            text += f" Beside that: {'; '.join(self.beside)}."
        text = f"{text} {self.note}".strip()
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"

    def _repr_html_(self) -> str:
        badge = (
            f"<p><span style='background:{_COLOURS[self.outcome]}; color:white; padding:2px 12px; border-radius:4px; "
            f"font-size:130%; font-weight:bold'>{self.outcome.upper()}</span></p>"
        )
        points = "".join(f"<li>{html.escape(said)}</li>" for said in self.because)
        beside = "".join(f"<li>{html.escape(said)}</li>" for said in self.beside)
        text = f"<p><b>{html.escape(self.headline)}{':' if points else '.'}</b></p>" + (f"<ul>{points}</ul>" if points else "")
        text += f"<p>Beside that:</p><ul>{beside}</ul>" if beside else ""
        text += f"<p>{html.escape(self.note)}</p>" if self.note else ""
        table = left_aligned(self.to_frame().to_html()) if self.gates else ""
        return f"{badge}<div style='font-size:110%; max-width:60em'>{text}</div>{table}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row a gate."""
        columns = ["gate", "rule", "value", "bound", "result"]
        rows = [[g.id, g.rule, g.shown, g.bound, _MARKS[g.result]] for g in self.gates]
        return pd.DataFrame(rows, columns=columns).set_index("gate").rename_axis(index=None, columns="gate")


def policy_digest(policy: PromotionParams) -> str:
    """Return the SHA-256 of all that a verdict depends on beside the days: another policy is another attempt.

    Parameters
    ----------
    policy : PromotionParams
        The ``promotion`` section of ``params.yaml``.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(policy.model_dump_json(exclude={"approval"}).encode()).hexdigest()


def questions(policy: PromotionParams, attempt: int) -> tuple[Question, ...]:
    """Return the tests that a policy needs, and the standard ones that it does not mention.

    Parameters
    ----------
    policy : PromotionParams
        The ``promotion`` section of ``params.yaml``.
    attempt : int
        The how-manieth distinct attempt for the symbol this is.

    Returns
    -------
    tuple of Question
        At the levels that are left to this attempt.
    """
    asked = {}
    for question in STANDARD:
        standard = replace(question, alpha=_spent(question.alpha, policy, attempt))
        asked[question.test, question.versus, question.margin] = standard
    for gate in policy.gates:
        if gate.test is None:
            continue
        key = (gate.test, gate.versus, gate.margin)
        same = [g for g in policy.gates if (g.test, g.versus, g.margin) == key]
        level = _spent(min(float(g.alpha or 1) for g in same), policy, attempt)
        most = max(g.resamples for g in same)
        asked[key] = Question(test=gate.test, versus=gate.versus, margin=gate.margin, alpha=level, resamples=most)
    return tuple(asked.values())


def judge(
    comparison: Comparison, policy: PromotionParams | None = None, *, attempt: int = 1, today: date | None = None
) -> Verdict:
    """Apply the policy to a comparison.

    Parameters
    ----------
    comparison : Comparison
        Of the challenger with the baselines and, where there is one, the
        champion; made with the :func:`questions` of the same policy.
    policy : PromotionParams, optional
        The ``promotion`` section of ``params.yaml``; by default the one of a
        file that says nothing.
    attempt : int
        The how-manieth distinct attempt for the symbol this is: every one
        spends a part of what a test may err.
    today : date, optional
        Needed where the policy has ``max_stale_days``.

    Returns
    -------
    Verdict
    """
    policy = policy or PromotionParams()
    gates = tuple(_built_in(comparison, policy, today))
    for gate in policy.gates:
        if gate.versus == "champion" and comparison.champion is None:
            continue
        gates += (_tested(comparison, policy, gate, attempt) if gate.test else _bounded(comparison, gate),)
    return _verdict(comparison, policy, gates, attempt)


def already_champion(verdict: Verdict, comparison: Comparison) -> Verdict:
    """Return the verdict on a version that is the champion: keep it, and say how it stands."""
    standing = _change(comparison, "rmse", ZERO)
    where = _compared(standing, MEASURES["rmse"], "forecasting zero") if math.isfinite(standing) else "its RMSE has no baseline"
    headline = f"Version {comparison.frame.challenger} is the champion already; {where}, on {len(comparison.frame.days)} days"
    return replace(verdict, outcome="keep", headline=headline, because=(), note="", attempt=0)


def _built_in(comparison: Comparison, policy: PromotionParams, today: date | None) -> Iterator[GateResult]:
    """Yield the gates that every policy has."""
    frame, days = comparison.frame, len(comparison.frame.days)
    yield _varied(comparison)
    rule, bound = "stored forecasts of real days come out again", "all of them"
    silent = [version for version, (again, stored) in frame.replayed.items() if again < stored / 2 or not again]
    if silent:
        who = " and ".join(f"version {version}" for version in silent)
        said = f"of {who} too few forecasts could be repeated, or none were stored: nobody can tell whether prices were restated"
        yield _bound(math.nan, passed=False, warns=True, id="replay", rule=rule, shown="-", bound=bound, said=said)
    elif frame.replayed:
        count = min(again for again, _ in frame.replayed.values())
        yield _bound(count, passed=True, id="replay", rule=rule, shown=f"{count} or more each", bound=bound, said="they do")
    unsure = [v for v, facts in frame.facts.items() if not facts.get("seen", {}).get("recorded", True)]
    if unsure:
        said = "; ".join(f"the last training day of version {v} is {frame.facts[v]['seen']['basis']}" for v in unsure)
        rule = "the last training day is recorded"
        yield _bound(math.nan, passed=False, warns=True, id="seen", rule=rule, shown="-", bound="of every version", said=said)
    least = policy.evaluation.min_days
    said = f"only {days} days are left that no compared version has seen, at least {least} are needed"
    rule = "days that no compared version has seen"
    yield _bound(days, passed=days >= least, id="days", rule=rule, shown=f"{days}", bound=f"at least {least}", said=said)
    if policy.evaluation.max_stale_days is not None:
        yield _stale(comparison, policy.evaluation.max_stale_days, today)
    if comparison.champion is None and policy.on_no_champion == "block":
        said = "there is no champion to compare with, and on_no_champion is block: the first one is set by hand or by override"
        rule = "a champion to compare with"
        yield _bound(math.nan, passed=False, id="champion", rule=rule, shown="none", bound="there is one", said=said)
    if comparison.champion is not None and policy.policy == "non_inferiority":
        yield _fresher(comparison)


def _varied(comparison: Comparison) -> GateResult:
    forecast, champion = comparison.forecast, comparison.champion
    distinct = int(forecast.nunique()) if np.ptp(forecast) > _NOTHING * np.abs(forecast).max() else 1
    theirs = comparison.frame.days[champion] if champion is not None else None
    same = theirs is not None and bool(np.allclose(forecast, theirs, rtol=_NOTHING, atol=_NOTHING**2))
    said = f"it forecasts what the champion, {champion}, forecasts, on every day"
    if distinct == 1:
        said = f"it forecasts the same, {forecast.iloc[0] + 0.0:.4%}, on every day"
    rule = "forecasts that vary, and differ from the champion's"
    shown = "the champion's" if same else f"{distinct} different"
    bound = "at least 2 different"
    return _bound(distinct, passed=distinct > 1 and not same, id="forecasts", rule=rule, shown=shown, bound=bound, said=said)


def _stale(comparison: Comparison, allowed: int, today: date | None) -> GateResult:
    rule, bound = "age of the last day compared", f"at most {allowed} days"
    if today is None:
        said = "today's date was not given"
        return GateResult(id="stale", rule=rule, value=math.nan, shown="-", bound=bound, result="not evaluated", said=said)
    age = (today - date.fromisoformat(comparison.last_day)).days
    said = f"the prices end {age} days ago, on {comparison.last_day}; at most {allowed} are allowed"
    return _bound(age, passed=age <= allowed, id="stale", rule=rule, shown=f"{age} days", bound=bound, said=said)


def _fresher(comparison: Comparison) -> GateResult:
    facts, frame = comparison.frame.facts, comparison.frame
    told = [facts.get(version or 0, {}).get("seen", {}).get("last_day") for version in (frame.challenger, frame.champion)]
    rule, bound = "under non_inferiority only a fresher model replaces the champion", "trained to a later day"
    if None in told:
        said = "it is not known until when the two were trained"
        return GateResult(id="fresher", rule=rule, value=math.nan, shown="-", bound=bound, result="not evaluated", said=said)
    ours, theirs = (date.fromisoformat(str(day)) for day in told)
    later = (ours - theirs).days
    said = f"it has seen days up to {ours}, the champion up to {theirs}: it is not fresher"
    return _bound(later, passed=later > 0, id="fresher", rule=rule, shown=f"{later:+d} days", bound=bound, said=said)


def _bound(value: float, *, passed: bool, warns: bool = False, **words: Any) -> GateResult:  # noqa: ANN401 (a gate's fields)
    result: Result = "warn" if warns and not passed else _result(passed=passed)
    return GateResult(value=float(value), result=result, decides=not warns, **words)


def _tested(comparison: Comparison, policy: PromotionParams, gate: GateParams, attempt: int) -> GateResult:
    level = _spent(float(gate.alpha or 0), policy, attempt)
    answer = comparison.answer(str(gate.test), gate.versus, margin=gate.margin)
    rival = _named(comparison, gate.versus)
    test = str(gate.test).replace("_", " ")
    rule = f"{test}: {_claim(gate, rival)}"
    if answer is not None and answer.family > 1:
        rule += f"; p is adjusted for {answer.family} challengers"
    bound = f"p below {level:.3g}" + (f", which is {gate.alpha:g} at attempt {attempt}" if level != gate.alpha else "")
    why = "the test was not made" if answer is None else answer.why
    if not why and answer is not None and 1 / (answer.resamples + 1) >= level and answer.resamples:
        why = f"{level:.2g} is finer than {answer.resamples:,} resamples can tell"
    if why or answer is None:
        said = f"{gate.id} was not evaluated: {why}"
        return _severe(gate, rule=rule, value=math.nan, shown="-", bound=bound, result="not evaluated", said=said)
    claim = "it does not forecast signs significantly better than chance"
    if gate.margin:
        claim = f"it may be worse than {rival} by more than {gate.margin:.3%}"
    elif gate.versus:
        claim = f"it is not significantly better than {rival}"
    said = f"{claim} (p = {_digits(answer.p)}; asked: {bound})"
    shown, result = f"p = {_digits(answer.p)}", _result(passed=answer.p < level)
    return _severe(gate, result=result, rule=rule, value=answer.p, shown=shown, bound=bound, said=said)


def _bounded(comparison: Comparison, gate: GateParams) -> GateResult:
    name = str(gate.metric)
    known = MEASURES[name]
    if gate.versus is None:
        value = _value(comparison, name, comparison.challenger)
        low, high = gate.min if gate.min is not None else -math.inf, gate.max if gate.max is not None else math.inf
        parts = [f"at least {low:g}" if low > -math.inf else "", f"at most {high:g}" if high < math.inf else ""]
        bound = " and ".join(part for part in parts if part)
        told = {"rule": known.label, "value": value, "shown": shown_as(value, known.form), "bound": bound}
        if not math.isfinite(value):
            said = f"{gate.id} was not evaluated: it has no {known.label}"
            return _severe(gate, result="not evaluated", said=said, **told)
        said = f"its {known.label} is {known.form.format(value)} (asked: {bound})"
        return _severe(gate, result=_result(passed=low <= value <= high), said=said, **told)
    rival = _named(comparison, gate.versus)
    change, where = _worst_change(comparison, gate)
    bound = (
        f"at least {100 * gate.min_improvement:g} % better"
        if gate.min_improvement is not None
        else f"at most {100 * gate.max_regression:g} % worse"
        if gate.max_regression
        else "not worse"
    )
    told = {"rule": f"{known.label} against {rival}{where}", "value": change, "bound": bound}
    if not math.isfinite(change):
        said = f"{gate.id} was not evaluated: there is no {known.label} to hold it against, or it is 0 or was not measured"
        return _severe(gate, result="not evaluated", shown="-", said=said, **told)
    regression = change if known.better == "lower" else -change
    passed = regression <= (-gate.min_improvement if gate.min_improvement is not None else float(gate.max_regression or 0))
    said = f"{_compared(change, known, rival)}{where} (asked: {bound})"
    shown = f"{100 * change:+.3g} %"
    return _severe(gate, result=_result(passed=passed), shown=shown, said=said, **told)


def _result(*, passed: bool) -> Result:
    return "pass" if passed else "fail"


def _severe(gate: GateParams, *, result: Result, **words: Any) -> GateResult:  # noqa: ANN401 (the fields of a gate's result)
    told: Result = "warn" if result == "fail" and gate.severity == "warn" else result
    return GateResult(id=gate.id, result=told, decides=gate.severity == "fail", **words)


def _worst_change(comparison: Comparison, gate: GateParams) -> tuple[float, str]:
    """Return the change of a measure against a rival, as a fraction; of slices, that of the worst, and which it is."""
    rival = comparison.rival(gate.versus)
    if gate.slice is None or rival is None:
        return _change(comparison, str(gate.metric), rival or ZERO), ""
    table = comparison.regimes
    if table.empty or not (table[rival] > 0).all():
        return math.nan, ", in each third of the days by volatility"
    changes = table[comparison.challenger] / table[rival] - 1
    return float(changes.max()), f" on the {changes.idxmax()} third of the days"


def _change(comparison: Comparison, metric: str, rival: str) -> float:
    """Return (ours - theirs) / |theirs|; NaN where theirs is zero: a change against nothing has no size."""
    ours, theirs = _value(comparison, metric, comparison.challenger), _value(comparison, metric, rival)
    return (ours - theirs) / abs(theirs) if theirs else math.nan


def _value(comparison: Comparison, metric: str, row: str) -> float:
    table = comparison.frame.footprint if MEASURES[metric].of_files else comparison.measures
    return float(table[metric].get(row, math.nan)) if metric in table else math.nan


def _verdict(comparison: Comparison, policy: PromotionParams, gates: tuple[GateResult, ...], attempt: int) -> Verdict:
    who, days = f"Version {comparison.frame.challenger}", len(comparison.frame.days)
    failed = [g.said for g in gates if g.result == "fail"]
    open_ = [g.said for g in gates if g.result == "not evaluated" and g.decides]
    beside = [g.said for g in gates if g.result == "warn" or (g.result == "not evaluated" and not g.decides)]
    outcome: Outcome = "keep" if failed else "inconclusive" if open_ else "promote"
    if outcome == "promote":
        unskilled = _without_skill(comparison, policy, attempt) if comparison.champion is None else ""
        if unskilled:
            beside = [f"there is {NO_SKILL}: {unskilled}", *(said for said in beside if said not in unskilled)]
        headline = f"{who} passes every gate that decides: {_standing(comparison)}, on the same {days} days"
        return Verdict(outcome=outcome, headline=headline, beside=tuple(beside), gates=gates, attempt=attempt)
    return Verdict(
        outcome=outcome,
        headline=f"{who} is refused" if failed else f"{who} is not promoted",
        because=(*failed, *open_),
        beside=tuple(beside),
        note=_detectable(comparison) if policy.policy == "superiority" else "",
        gates=gates,
        attempt=attempt,
    )


def _without_skill(comparison: Comparison, policy: PromotionParams, attempt: int) -> str:
    """Return why a challenger cannot be said to be better than forecasting zero; "" where it can."""
    gates = [gate for gate in policy.gates if gate.test and gate.versus == "zero_return" and not gate.margin]
    asked = gates or [GateParams(id="skill", test="stationary_bootstrap", versus="zero_return", alpha=0.05)]
    results = [_tested(comparison, policy, gate, attempt) for gate in asked]
    return "; ".join(result.said for result in results if result.result != "pass")


def _detectable(comparison: Comparison) -> str:
    """Say which gain these days would have shown: a refusal is no proof that there is none."""
    versus = "champion" if comparison.champion else "zero_return"
    answer: Answer | None = comparison.answer("stationary_bootstrap", versus)
    if answer is None or not answer.detectable < 1:  # of a hopeless challenger: more than all of the error
        return ""
    rival = "the champion" if comparison.champion else "forecasting zero"
    return f"A true gain of {100 * answer.detectable:.2f} % over {rival} would be detected on such days four times out of five."


def _standing(comparison: Comparison) -> str:
    versus = "champion" if comparison.champion else "zero_return"
    rival = comparison.rival(versus) or ZERO
    change, answer = _change(comparison, "rmse", rival), comparison.answer("stationary_bootstrap", versus)
    chance = f" (p = {_digits(answer.p)})" if answer and math.isfinite(answer.p) else ""
    return f"{_compared(change, MEASURES['rmse'], _named(comparison, versus))}{chance}"


def _named(comparison: Comparison, versus: str | None) -> str:
    words = {"zero_return": "forecasting zero", "mean_training_return": "forecasting the mean training return"}
    return f"the champion, {comparison.champion}" if versus == "champion" else words.get(str(versus), "chance")


def _claim(gate: GateParams, rival: str) -> str:
    if gate.test == "pesaran_timmermann":
        return "signs are forecast better than by chance"
    return f"not worse than {rival} by {gate.margin:.3%}" if gate.margin else f"squared errors below those of {rival}"


def _compared(change: float, known: Measure, rival: str) -> str:
    """Say in words where a challenger's measure lies."""
    label = known.label
    if change == 0:
        return f"its {label} is exactly that of {rival}"
    if abs(change) < 1 or known.signed:  # a multiple of a negative number would say the contrary
        return f"its {label} is {100 * abs(change):.3g} % {'above' if change > 0 else 'below'} that of {rival}"
    return f"its {label} is {1 + change:,.4g} times that of {rival}"


def _digits(p: float) -> str:
    return f"{p:.4f}" if p >= 0.001 else f"{p:.2g}"  # noqa: PLR2004 (below, four digits would say nothing)


def _spent(alpha: float, policy: PromotionParams, attempt: int) -> float:
    """Return what is left of a level for the k-th attempt: alpha / (k (k + 1)), which sums to alpha over all attempts."""
    return alpha / (attempt * (attempt + 1)) if policy.attempts == "spend" else alpha
