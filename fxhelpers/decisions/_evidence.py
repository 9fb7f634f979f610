"""Evidence: the proposal that a decision rests on, and the forecasts that are stored with it."""

import hashlib
import html
import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from fxhelpers import policy
from fxhelpers.comparison import Comparison, EvaluationFrame, column
from fxhelpers.decisions._sealing import COMPARISON, EVIDENCE, FRAME, store_evidence
from fxhelpers.display import Table, link
from fxhelpers.ledger import Decision, Ledger, WindowFacts
from fxhelpers.params import PromotionParams, current_record
from fxhelpers.policy import Pooled, Verdict, digits, percent
from fxhelpers.prices import ADJUSTED
from fxhelpers.recipes import Recipe
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.ledger_store import fetch

logger = logging.getLogger(__name__)


def keep_evidence(registry: RegistryClient, decision: Decision, frame: EvaluationFrame, judged: dict[str, Any]) -> dict[str, str]:
    """Store the daily forecasts and the comparison with the decision's run; return the SHA-256 of each file."""
    files = {FRAME: frame.to_csv().encode(), COMPARISON: json.dumps(judged, indent=1, allow_nan=False).encode()}
    return store_evidence(registry, decision, files)


def frame_in(files: dict[str, bytes]) -> tuple[EvaluationFrame, dict[str, Any]]:
    """Return the frame and the comparison, from the files that :func:`keep_evidence` wrote."""
    comparison = json.loads(files[COMPARISON])
    challenger, champion = int(comparison["challenger"]), comparison["champion"]
    others = tuple(version for version in comparison["challengers"] if version != challenger)
    frame = EvaluationFrame.from_csv(
        files[FRAME].decode(), symbol=comparison["symbol"], challenger=challenger, champion=champion, others=others
    )
    prices = comparison.get("prices", {"doubts": {}, "sample": False, "sessions_since": None})  # earlier releases kept nothing
    doubts = {doubt: tuple(days) for doubt, days in prices["doubts"].items()}
    return replace(frame, **{**prices, "doubts": doubts}).with_origin(comparison), comparison


def counts_as(
    registry: RegistryClient, ledger: Ledger, frame: EvaluationFrame, policy_sha256: str, before: Decision | None
) -> str:
    """Return the digest of the frame that a comparison is counted by: that of an earlier equal comparison, or its own.

    Equal comparisons have the same versions (by their bundles), roles, days and policy, and, within the tolerance of a replay,
    the same returns and forecasts. Earlier ones are read from the evidence of their decisions.
    """
    tried = ledger.tried(policy_sha256, before)
    if frame.digest in tried:
        return frame.digest
    named_versions = ledger.named_versions()
    for digest, decision in reversed(tried.items()):
        bundles = {number: str(version.bundle or "") for number, version in named_versions[decision.id].by_number.items()}
        if not _may_be(decision, bundles, frame):
            continue
        stored = _stored(registry, decision, bundles)
        if stored is None:
            text = "%s: the forecasts of %s are gone; this comparison counts as a new attempt, even if it is the same one"
            logger.warning(text, ledger.name, decision.id)
        elif frame.is_same(stored):
            return digest
    return frame.digest


def _may_be(decision: Decision, bundles: dict[int, str], frame: EvaluationFrame) -> bool:
    """Return whether a decision may be about the same comparison, by its entries alone."""
    known = {frame.bundles.get(number, "") for number in (frame.challenger, *frame.others, frame.champion) if number}
    first, last = (f"{day:%Y-%m-%d}" for day in (frame.days.index[0], frame.days.index[-1]))
    return (
        bundles.get(decision.version or 0) == frame.bundles.get(frame.challenger)
        and known <= set(bundles.values())
        and decision.outcome_facts.window in (None, WindowFacts(first_day=first, last_day=last, days=len(frame.days)))
    )


def _stored(registry: RegistryClient, decision: Decision, bundles: dict[int, str]) -> EvaluationFrame | None:
    """Return the frame that a decision was made on; None if it is gone, or does not have the decision's digest."""
    files = {name: fetch(registry, decision, f"{EVIDENCE}/{name}") for name in (FRAME, COMPARISON)}
    try:
        frame, _ = frame_in({name: content for name, content in files.items() if content is not None})
    except (KeyError, ValueError, TypeError):
        return None
    return replace(frame, bundles=bundles) if frame.digest == decision.outcome_facts.frame_sha256 else None


CONTRIBUTION = "contribution"  # key of what a symbol gives to a test over many
COMPARISON_MIME = "application/vnd.fxhelpers.comparison+json"
"""Of the whole comparison in a record; JupyterLab would show plain JSON in place of the table."""

_ALWAYS = ("estimator", "features", "recipe", "training days", "validation days")
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
    accepted: str = ""  # doubtful or restated prices that were accepted, and why; for people
    # the gates, by id, that are not those of the written policy; the verdict of these cannot be applied
    tried: tuple[str, ...] = ()
    pooled: Pooled | None = None  # the test over many symbols that this comparison is made for, or decided by
    # digest of the evaluation frame that this attempt is counted by: its own, or that of an earlier comparison which it repeats
    attempt_frame: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return the measures of all forecasts, or one line with the reason why there are none."""
        if self.comparison is None:
            return pd.DataFrame({"comparison": [self.verdict.reason]})
        return self.comparison.to_frame()

    @property
    def summary(self) -> dict[str, Any]:
        """Part of a summary: skill, the version compared with, the change of RMSE as a fraction, and every p."""
        change = policy.against_champion(self.comparison) if self.comparison else math.nan
        against = self.champion.version if self.champion else None
        about = {"change": self.verdict.kind or None, "evidence_of_skill": self.verdict.skill, "against": against}
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
        if (test := self.verdict.pooled) and math.isfinite(test.p):
            interval = f"95 % interval {percent(test.low)} to {percent(test.high)}; p = {digits(test.p)}"
            days = f"One test over {test.over}: mean gain over the champions {percent(test.gain)} ({interval}). Here: {days}"
        return f"{days}. Gain in RMSE, positive is better: {', '.join(gains)}."

    @property
    def differences(self) -> Table:
        """Training of both versions: estimator, features and days, and each setting that differs."""
        facts = self.comparison.frame.facts if self.comparison else {}
        both = [v.version for v in (self.challenger, self.champion) if v and v.version in facts]
        trainings = {column(number): _trained(facts[number]) for number in both}
        rows = {
            name: {who: known.get(name, "-") for who, known in trainings.items()}
            for known in trainings.values()
            for name in known
        }
        kept = {name: row for name, row in rows.items() if name in _ALWAYS or len(set(row.values())) > 1}
        more = f" ({len(rows) - len(kept)} more settings are the same)" if len(trainings) > 1 else ""
        return Table(pd.DataFrame.from_dict(kept, orient="index", columns=list(trainings)).rename_axis(columns=f"setting{more}"))

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
        comparison = self.comparison.to_json() if self.comparison else {}
        family = {"family": asdict(self.verdict.family)} if self.verdict.family else {}
        together = {**family, **self._pooling()}
        return {**comparison, **together, "verdict": verdict, "gates": gates, "policy": self.policy.model_dump(mode="json")}

    def _pooling(self) -> dict[str, Any]:
        """Return what this gives to a test over many symbols, or that test once it is made; empty without one."""
        if self.pooled is None or self.comparison is None:
            return {}
        if self.pooled.members:
            return {"pooled": self.pooled.to_json()}
        return {CONTRIBUTION: policy.contribution(self.comparison, self.verdict).to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FullComparison:
    """Where the full comparison is: a page next to this record, or a command."""

    page: str | None  # name of the page
    command: str  # "" if nothing was compared

    def _repr_html_(self) -> str:
        if self.page:
            return f"<p>{link(self.page, 'The full comparison on the same days')}: more measures, tests and figures.</p>"
        return f"<p>The full comparison: <code>{html.escape(self.command)}</code></p>" if self.command else ""


def _priced(prices: dict[str, Any]) -> dict[str, str]:
    known = {key: prices[key] for key in ("source", "format", "calendar") if prices.get(key)}
    adjusted = f"adjusted for {ADJUSTED[prices['adjusted']]}" if prices.get("adjusted") in ADJUSTED else ""
    return {"prices": ", ".join(filter(None, [*known.values(), adjusted]))} if known or adjusted else {}


def _trained(facts: dict[str, Any]) -> dict[str, str]:
    """Return what is known of a version's training, by name, for people."""
    features, config = facts.get("feature_names", []), facts.get("config", {})
    recipe = Recipe.read({"feature_names": features, **facts})
    digest = hashlib.sha256("\n".join(features).encode()).hexdigest()[:8]
    windows = {f"{name} days": f"{window['first_day']} to {window['last_day']}" for name, window in facts["windows"].items()}
    return {
        "estimator": f"{facts.get('model_type') or 'unknown'} {facts.get('architecture') or ''}".strip(),
        "features": f"{len(features)}, set {digest}" if features else "unknown",
        "recipe": f"{recipe.short}{'' if recipe.whole else ', known in part'}" if features else "unknown",
        **{name: days for name, days in windows.items() if name in _ALWAYS},
        **_priced(facts.get("prices", {})),
        **{str(name).replace("_", " "): str(value) for name, value in config.items() if name != "hidden_layer_sizes"},
    }
