"""A proposal: a challenger, the comparison with the champion, and what the policy says of it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fxhelpers import policy
from fxhelpers.comparison import Comparison
from fxhelpers.ledger import Decision
from fxhelpers.params import PromotionParams
from fxhelpers.policy import Verdict
from fxhelpers.policy.words import digits
from fxhelpers.registry import ModelVersion
from fxhelpers.tables import Table

COMPARISON_MIME = "application/vnd.fxhelpers.comparison+json"
"""Of the whole comparison in a record; JupyterLab would show plain JSON in place of the table."""


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
        Version that it was compared with: the one in Production when this
        was made, unless another one was asked for.
    comparison : Comparison or None
        None where ``model_registry.compare_metrics`` is false.
    verdict : Verdict
        Of the policy.
    policy : PromotionParams
        The policy that was applied.
    decision : Decision or None
        The intent to act on it; None for a look.
    override : bool
        Promote against the verdict.
    tried : tuple of str
        The gates, by id, that are not those of the written policy; then the
        verdict is nobody's to act on.
    """

    name: str
    symbol: str
    challenger: ModelVersion
    champion: ModelVersion | None
    comparison: Comparison | None
    verdict: Verdict
    policy: PromotionParams
    decision: Decision | None = None
    override: bool = False
    tried: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return the measures of all forecasts, or one line that says why there are none."""
        if self.comparison is None:
            return pd.DataFrame({"comparison": [self.verdict.reason]})
        return self.comparison.to_frame()

    @property
    def told(self) -> dict[str, Any]:
        """What a summary says of it: against which version, by how much the RMSE differs as a fraction, and every p."""
        change = policy.against_champion(self.comparison) if self.comparison else math.nan
        against = self.champion.version if self.champion else None
        return {"against": against, "rmse_change": change if math.isfinite(change) else None, **self.verdict.p_values()}

    @property
    def certainty(self) -> str:
        """How sure the comparison is: days, gains with their intervals, p, and the gain that these days could have shown."""
        if self.comparison is None:
            return "Not at all: nothing was compared."
        found = self.comparison
        told = [f"{len(found.frame.days)} days, {found.first_day[:10]} to {found.last_day[:10]}"]
        gains = found.gains()
        for _, row in gains[gains["forecast"] == found.challenger].iterrows():
            if not math.isfinite(row["gain"]):
                told.append(f"against {row['versus']} nothing could be tested: {row['why']}")
                continue
            interval = f"95 % interval: {_sided(row['low'])} to {_sided(row['high'])}; p = {digits(row['p'])}"
            found_gain = f"a true gain of {100 * row['detectable']:.3g} % would be found four times out of five"
            told.append(f"against {row['versus']} the RMSE is {_sided(row['gain'])} ({interval}), and {found_gain}")
        return f"{'; '.join(told)}."

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        table = self.to_frame()
        return {"text/plain": table.to_string(), "text/html": Table(table)._repr_html_(), COMPARISON_MIME: self.to_json()}

    def to_json(self) -> dict[str, Any]:
        """Return measures, tests, gates, verdict and policy, as JSON can hold them."""
        verdict = {"outcome": self.verdict.outcome, "reason": self.verdict.reason, "attempt": self.verdict.attempt}
        verdict |= {**self.verdict.p_values(), **({"tried": list(self.tried)} if self.tried else {})}
        gates = [{**gate.to_json(), "rule": gate.rule, "said": gate.said} for gate in self.verdict.gates]
        told = self.comparison.to_json() if self.comparison else {}
        family = {"family": asdict(self.verdict.family)} if self.verdict.family else {}
        return {**told, **family, "verdict": verdict, "gates": gates, "policy": self.policy.model_dump(mode="json")}


def _sided(gain: float) -> str:
    """Return a gain, a fraction, as where an RMSE lies."""
    return f"{100 * abs(gain):.3g} % {'lower' if gain >= 0 else 'higher'}"
