"""A proposal: a challenger, the comparison with the champion, and the verdict of the policy."""

import hashlib
import html
import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fxhelpers import policy
from fxhelpers.comparison import Comparison, column
from fxhelpers.display import Table, link
from fxhelpers.ledger import Decision
from fxhelpers.params import PromotionParams, current_record
from fxhelpers.policy import Verdict, digits, percent
from fxhelpers.registry import ModelVersion

COMPARISON_MIME = "application/vnd.fxhelpers.comparison+json"
"""Of the whole comparison in a record; JupyterLab would show plain JSON in place of the table."""

_ALWAYS = ("estimator", "features", "training days", "validation days")
_NEWEST = 20  # records of compare that are searched for the same evaluation frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A challenger, the version it was compared with, and the verdict."""

    name: str  # registered model
    symbol: str  # ticker
    challenger: ModelVersion  # version that wants to be champion
    # version that it was compared with: the one in Production when this was made, or the one that was named
    champion: ModelVersion | None
    comparison: Comparison | None  # None if ``model_registry.compare_metrics`` is false
    verdict: Verdict  # of the policy
    policy: PromotionParams  # the policy that was applied
    decision: Decision | None = None  # the intent to act on it; None if it is only compared
    override: bool = False  # promote against the verdict
    # the gates, by id, that are not those of the written policy; the verdict of these cannot be applied
    tried: tuple[str, ...] = ()
    # digest of the evaluation frame that this attempt is counted by: its own, or that of an earlier comparison which it repeats
    attempt_frame: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return the measures of all forecasts, or one line with the reason why there are none."""
        if self.comparison is None:
            return pd.DataFrame({"comparison": [self.verdict.reason]})
        return self.comparison.to_frame()

    @property
    def told(self) -> dict[str, Any]:
        """Part of a summary: skill, the version compared with, the change of RMSE as a fraction, and every p."""
        change = policy.against_champion(self.comparison) if self.comparison else math.nan
        against = self.champion.version if self.champion else None
        about = {"evidence_of_skill": self.verdict.skill, "against": against}
        return {**about, "rmse_change": change if math.isfinite(change) else None, **self.verdict.p_values()}

    @property
    def certainty(self) -> str:
        """Uncertainty of the comparison: days, and the gain over each rival with its interval and p."""
        if self.comparison is None:
            return "Unknown: nothing was compared."
        found, gains = self.comparison, []
        for test_result in (test_result for test_result in found.bootstraps if test_result.forecast == found.challenger):
            rival = str(found.rival(test_result.spec.versus))
            if not math.isfinite(test_result.gain):
                gains.append(f"over {rival} not tested ({test_result.why or 'it makes no errors'})")
                continue
            interval = f"95 % interval {percent(test_result.low)} to {percent(test_result.high)}; p = {digits(test_result.p)}"
            gains.append(f"over {rival} {percent(test_result.gain)} ({interval})")
        days = f"{len(found.frame.days)} days, {found.first_day} to {found.last_day}"
        return f"{days}. Gain in RMSE, positive is better: {', '.join(gains)}."

    @property
    def differences(self) -> Table:
        """Training of both versions: estimator, features and days, and each setting that differs."""
        facts = self.comparison.frame.facts if self.comparison else {}
        both = [v.version for v in (self.challenger, self.champion) if v and v.version in facts]
        told = {column(number): _trained(facts[number]) for number in both}
        rows = {name: {who: known.get(name, "-") for who, known in told.items()} for known in told.values() for name in known}
        kept = {name: row for name, row in rows.items() if name in _ALWAYS or len(set(row.values())) > 1}
        more = f" ({len(rows) - len(kept)} more settings are the same)" if len(told) > 1 else ""
        return Table(pd.DataFrame.from_dict(kept, orient="index", columns=list(told)).rename_axis(columns=f"setting{more}"))

    @property
    def full(self) -> "FullComparison":
        """Link to the record of ``compare`` on the same evaluation frame, or the command that makes it."""
        there, digest = None, self.comparison.frame.digest if self.comparison else ""
        record = current_record()
        if record and digest:
            near = sorted(record.parent.glob("*-compare-*.ipynb"), reverse=True)[:_NEWEST]
            there = next((path.with_suffix(".html").name for path in near if digest in path.read_text(encoding="utf-8")), None)
        champion = f" -p champion {self.champion.version}" if self.champion else ""
        command = f"fx run compare -p symbol {self.symbol} -p version {self.challenger.version}{champion}"
        return FullComparison(page=there, command=command if digest else "")

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        table, terms = self.to_frame(), self.comparison.terms() if self.comparison else {}
        shown = Table(table, terms=terms)._repr_html_()
        return {"text/plain": table.to_string(), "text/html": shown, COMPARISON_MIME: self.to_json()}

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FullComparison:
    """Where the full comparison is: a page beside this record, or a command."""

    page: str | None  # name of the page
    command: str  # "" if nothing was compared

    def _repr_html_(self) -> str:
        if self.page:
            return f"<p>{link(self.page, 'The full comparison on the same days')}: more measures, tests and figures.</p>"
        return f"<p>The full comparison: <code>{html.escape(self.command)}</code></p>" if self.command else ""


def _trained(facts: dict[str, Any]) -> dict[str, str]:
    """Return what is known of a version's training, by name, for people."""
    features, config = facts.get("feature_names", []), facts.get("config", {})
    digest = hashlib.sha256("\n".join(features).encode()).hexdigest()[:8]
    windows = {f"{name} days": f"{window['first_day']} to {window['last_day']}" for name, window in facts["windows"].items()}
    return {
        "estimator": f"{facts.get('model_type') or 'unknown'} {facts.get('architecture') or ''}".strip(),
        "features": f"{len(features)}, set {digest}" if features else "unknown",
        **{name: days for name, days in windows.items() if name in _ALWAYS},
        **{str(name).replace("_", " "): str(value) for name, value in config.items() if name != "hidden_layer_sizes"},
    }
