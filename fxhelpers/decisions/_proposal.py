"""A proposal: a challenger, the comparison with the champion, and what the policy says of it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fxhelpers import policy
from fxhelpers.comparison import Comparison
from fxhelpers.ledger import Decision
from fxhelpers.params import PromotionParams
from fxhelpers.policy import Verdict, digits, percent
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
    attempt_frame : str
        Digest of the evaluation frame that this attempt is counted by: its
        own, or that of an earlier comparison which it repeats.
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
    attempt_frame: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return the measures of all forecasts, or one line that says why there are none."""
        if self.comparison is None:
            return pd.DataFrame({"comparison": [self.verdict.reason]})
        return self.comparison.to_frame()

    @property
    def told(self) -> dict[str, Any]:
        """What a summary says of it: skill, against which version, the change of RMSE as a fraction, and every p."""
        change = policy.against_champion(self.comparison) if self.comparison else math.nan
        against = self.champion.version if self.champion else None
        about = {"evidence_of_skill": self.verdict.skill, "against": against}
        return {**about, "rmse_change": change if math.isfinite(change) else None, **self.verdict.p_values()}

    @property
    def certainty(self) -> str:
        """How sure the comparison is: days, gains with their intervals, p, and the gain that these days could have shown."""
        if self.comparison is None:
            return "Not at all: nothing was compared."
        found = self.comparison
        told = [f"{len(found.frame.days)} days, {found.first_day} to {found.last_day}"]
        for test_result in (test_result for test_result in found.bootstraps if test_result.forecast == found.challenger):
            rival = str(found.rival(test_result.spec.versus))
            if not math.isfinite(test_result.gain):
                told.append(f"over {rival} no gain could be tested: {test_result.why or 'it makes no errors'}")
                continue
            interval = f"95 % interval: {percent(test_result.low)} to {percent(test_result.high)}; p = {digits(test_result.p)}"
            told.append(
                f"the gain over {rival} is {percent(test_result.gain)} of its RMSE ({interval}), and {test_result.detects('it')}"
            )
        return f"{'; '.join(told)}."

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        table = self.to_frame()
        return {"text/plain": table.to_string(), "text/html": Table(table)._repr_html_(), COMPARISON_MIME: self.to_json()}

    def to_json(self) -> dict[str, Any]:
        """Return measures, tests, gates, verdict and policy, as JSON can hold them."""
        verdict = {"outcome": self.verdict.outcome, "reason": self.verdict.reason, "attempt": self.verdict.attempt}
        verdict |= {"skill": self.verdict.skill, **self.verdict.p_values(), **({"tried": list(self.tried)} if self.tried else {})}
        gates = [
            {**gate.to_json(), "rule": gate.rule, "said": gate.message, "decides": gate.decides} for gate in self.verdict.gates
        ]
        told = self.comparison.to_json() if self.comparison else {}
        family = {"family": asdict(self.verdict.family)} if self.verdict.family else {}
        return {**told, **family, "verdict": verdict, "gates": gates, "policy": self.policy.model_dump(mode="json")}
