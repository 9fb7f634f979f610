"""The promotion policy: gates on a comparison, and the verdict that follows from them.

A gate passes, fails or is not evaluated; one that was not evaluated never
counts as passed. Where a gate fails the champion is kept; where none fails
but one was not evaluated the verdict is inconclusive, which keeps the champion
too.
"""

import html
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from fxhelpers.comparison import ZERO, Comparison
from fxhelpers.results import shown_as

MINIMUM_DAYS = 60

Result = Literal["pass", "fail", "not evaluated"]
Outcome = Literal["promote", "keep", "inconclusive"]


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
        What was measured: a number of days, or a change as a fraction; NaN
        where it could not be measured.
    bound : str
        What it is held against.
    result : {"pass", "fail", "not evaluated"}
    unit : {"days", "change"}
        Of the value.
    """

    id: str
    rule: str
    value: float
    bound: str
    result: Result
    unit: Literal["days", "change"] = "change"

    @property
    def shown(self) -> str:
        """The value as people read it."""
        return shown_as(self.value, "{:.0f} days") if self.unit == "days" else shown_as(100 * self.value, "{:+.3g} %")

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
    reason : str
        One sentence for people.
    gates : tuple of GateResult
        Empty where nothing was compared.
    """

    outcome: Outcome
    reason: str
    gates: tuple[GateResult, ...] = ()

    def _repr_html_(self) -> str:
        return f"<p><b>{self.outcome.upper()}</b>. {html.escape(self.reason)}</p>" + (
            self.to_frame().to_html() if self.gates else ""
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row a gate."""
        columns = ["gate", "rule", "value", "bound", "result"]
        rows = [[g.id, g.rule, g.shown, g.bound, g.result] for g in self.gates]
        return pd.DataFrame(rows, columns=columns).set_index("gate").rename_axis(index=None, columns="gate")


def judge(comparison: Comparison) -> Verdict:
    """Apply the policy to a comparison.

    Parameters
    ----------
    comparison : Comparison
        Of the challenger with the baselines and, where there is one, the
        champion.

    Returns
    -------
    Verdict
        Promote only where every gate passed: enough days, no worse than
        forecasting zero, and better than the champion on the same days.
    """
    days = len(comparison.frame.days)
    gates = [
        GateResult(
            id="days",
            rule="days that no compared version has seen",
            value=days,
            bound=f"at least {MINIMUM_DAYS} days",
            result="pass" if days >= MINIMUM_DAYS else "fail",
            unit="days",
        ),
        _rmse_gate(comparison, "naive", ZERO, rule="RMSE against forecasting zero", strict=False),
    ]
    if comparison.champion:
        rule = f"RMSE against the champion, {comparison.champion}"
        gates.append(_rmse_gate(comparison, "better", comparison.champion, rule=rule, strict=True))
    return _verdict(tuple(gates), comparison)


def already_champion(verdict: Verdict, comparison: Comparison) -> Verdict:
    """Return the verdict on a version that is the champion: keep it, and say how it stands."""
    naive = next(gate for gate in verdict.gates if gate.id == "naive")
    standing = "its RMSE cannot be held against a baseline" if math.isnan(naive.value) else _standing(naive, comparison)
    reason = f"Version {comparison.frame.challenger} is the champion already; {standing}, on {len(comparison.frame.days)} days."
    return replace(verdict, outcome="keep", reason=reason)


def _rmse_gate(comparison: Comparison, gate: str, versus: str, *, rule: str, strict: bool) -> GateResult:
    """Hold the relative change of RMSE against zero; against an RMSE of zero there is no relative change."""
    ours, theirs = comparison.measures["rmse"][comparison.challenger], comparison.measures["rmse"][versus]
    change = ours / theirs - 1 if theirs > 0 else math.nan
    bound = "below 0 %" if strict else "at most 0 %"
    if math.isnan(change):
        return GateResult(id=gate, rule=rule, value=change, bound=bound, result="not evaluated")
    passed = change < 0 if strict else change <= 0
    return GateResult(id=gate, rule=rule, value=change, bound=bound, result="pass" if passed else "fail")


def _verdict(gates: tuple[GateResult, ...], comparison: Comparison) -> Verdict:
    challenger = f"Version {comparison.frame.challenger}"
    failed = [g for g in gates if g.result == "fail"]
    open_ = [g for g in gates if g.result == "not evaluated"]
    if failed:
        why = "; ".join(_failure(g, comparison) for g in failed)
        return Verdict(outcome="keep", reason=f"{challenger} is refused: {why}.", gates=gates)
    if open_:
        why = ", ".join(g.id for g in open_)
        return Verdict(outcome="inconclusive", reason=f"{challenger} is not promoted: not evaluated: {why}.", gates=gates)
    days = len(comparison.frame.days)
    reason = f"{challenger} passes every gate: {_standing(gates[-1], comparison)}, on the same {days} days."
    return Verdict(outcome="promote", reason=reason, gates=gates)


def _failure(gate: GateResult, comparison: Comparison) -> str:
    if gate.id == "days":
        return f"only {gate.shown} that no compared version has seen, needed are {gate.bound}"
    return _standing(gate, comparison)


def _standing(gate: GateResult, comparison: Comparison) -> str:
    """Say in words where a challenger's RMSE lies."""
    rival = "forecasting zero" if gate.id == "naive" else f"the champion, {comparison.champion}"
    if gate.value == 0:
        return f"its RMSE is exactly that of {rival}"
    if abs(gate.value) < 1:
        return f"its RMSE is {100 * abs(gate.value):.3g} % {'above' if gate.value > 0 else 'below'} that of {rival}"
    return f"its RMSE is {1 + gate.value:,.4g} times that of {rival}"
