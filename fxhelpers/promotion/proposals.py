"""Promotions: propose, judge, and let the champion be moved only where the policy says so."""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers import policy
from fxhelpers.comparison import Comparison, compare
from fxhelpers.errors import VersionNotFoundError
from fxhelpers.files import sha256
from fxhelpers.ledger import Decision, Entry
from fxhelpers.policy import Verdict
from fxhelpers.prices import load_prices
from fxhelpers.processes import utc_now
from fxhelpers.promotion.approval import approval_missing
from fxhelpers.promotion.deciding import Move, act, begin, failing, refuse_unrecorded
from fxhelpers.registry import BUNDLE_DIGEST, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import attach
from fxhelpers.scoring import evaluation_frame

EVIDENCE = "evidence"
"""Folder of a decision's run that holds what it rests on."""


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
        Version in Production when this was made.
    comparison : Comparison or None
        None where ``model_registry.compare_metrics`` is false.
    verdict : Verdict
        Of the policy.
    decision : Decision or None
        The intent to act on it; None for a look.
    """

    name: str
    symbol: str
    challenger: ModelVersion
    champion: ModelVersion | None
    comparison: Comparison | None
    verdict: Verdict
    decision: Decision | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return the measures of all forecasts, or one line that says why there are none."""
        if self.comparison is None:
            return pd.DataFrame({"comparison": [self.verdict.reason]})
        return self.comparison.to_frame()


def propose(
    registry: RegistryClient,
    name: str,
    symbol: str,
    version: int | None = None,
    *,
    apply: bool = False,
    compared: bool = True,
    reason: str = "",
    approved_by: str = "",
) -> Proposal:
    """Compare a version with the champion and let the policy judge; with ``apply``, after writing the intent to act on it."""
    if not apply:
        return _judged(registry, name, symbol, version, compared=compared)
    chosen = _challenger(registry, name, symbol, version, registry.champion(name)).version
    refuse_unrecorded(f"fx run promote -p symbol {symbol} -p version {chosen} -p apply true")
    decision = begin(registry, name, "promotion", version=chosen, symbol=symbol, reason=reason, approved_by=approved_by)
    with failing(registry, decision):
        return replace(_judged(registry, name, symbol, chosen, compared=compared), decision=decision)


def promote(registry: RegistryClient, proposal: Proposal) -> Decision:
    """Carry out a proposal's verdict: move the champion, or refuse and leave it; without an intent, show what would be done."""
    facts, version = _facts(proposal), proposal.challenger.version
    before = proposal.champion.version if proposal.champion else None
    decision = proposal.decision
    if decision is None:
        return shown(proposal.name, "promotion", {**facts, "from": before, "to": before})
    with failing(registry, decision):
        missing = approval_missing(registry, decision, version)
        move = None
        if before == version:
            facts["result"] = "unchanged"
        elif proposal.verdict.outcome != "promote":
            facts["result"] = "refused"
        elif missing:
            facts.update(result="refused", reason=f"Refused: {missing} {proposal.verdict.reason}")
        else:
            facts["result"] = "promoted"
            move = Move(to=version, compared_with=before)
        if proposal.comparison:
            facts["evidence"] = _keep_evidence(registry, decision, proposal.comparison)
        return act(registry, decision, facts=facts, move=move)


def _judged(registry: RegistryClient, name: str, symbol: str, version: int | None, *, compared: bool) -> Proposal:
    champion = registry.champion(name)
    challenger = _challenger(registry, name, symbol, version, champion)
    is_champion = champion is not None and champion.version == challenger.version
    if compared:
        rival = champion.version if champion and not is_champion else None
        prices = load_prices(symbol, registry.params.prices)
        frame = evaluation_frame(registry, name, symbol, prices, challenger=challenger.version, champion=rival)
        comparison = compare(frame)
        verdict = policy.judge(comparison)
        verdict = policy.already_champion(verdict, comparison) if is_champion else verdict
    else:
        comparison = None
        already = f"Version {challenger.version} is the champion already. " if is_champion else ""
        reason = f"{already}Not compared: model_registry.compare_metrics is false in params.yaml."
        verdict = Verdict(outcome="keep" if is_champion else "promote", reason=reason)
    return Proposal(name=name, symbol=symbol, challenger=challenger, champion=champion, comparison=comparison, verdict=verdict)


def _challenger(
    registry: RegistryClient, name: str, symbol: str, version: int | None, champion: ModelVersion | None
) -> ModelVersion:
    """Return the version asked for, or the one registered last that waits; where none waits, the champion."""
    waiting = registry.version(name, version) if version else registry.challenger(name) or champion
    challenger = waiting or next((v for v in registry.versions(name) if v.stage != "Archived"), None)
    if challenger is None:
        msg = f"{name} has no version to compare at {registry.uri}; register one: fx run register -p symbol {symbol}"
        raise VersionNotFoundError(msg)
    return challenger


def _facts(proposal: Proposal) -> dict[str, Any]:
    """Return what the outcome says: the verdict and all that it rests on."""
    comparison = proposal.comparison
    versions = [v for v in (proposal.challenger, proposal.champion) if v]
    facts: dict[str, Any] = {
        "version": proposal.challenger.version,
        "verdict": proposal.verdict.outcome,
        "reason": proposal.verdict.reason,
        "rests_on": "compared" if comparison else "not compared",
        "bundles": {str(v.version): v.tags.get(BUNDLE_DIGEST) for v in versions},
    }
    if comparison:
        facts["window"] = {"first_day": comparison.first_day, "last_day": comparison.last_day, "days": len(comparison.frame.days)}
        facts["frame_sha256"] = comparison.frame.digest
        facts["gates"] = [gate.to_json() for gate in proposal.verdict.gates]
    return facts


def _keep_evidence(registry: RegistryClient, decision: Decision, comparison: Comparison) -> dict[str, str]:
    """Store the daily forecasts and the measures with the decision's run; return the SHA-256 of each file."""
    files = {
        "frame.csv": comparison.frame.to_csv().encode(),
        "measures.json": json.dumps(comparison.measures_json(), indent=1, allow_nan=False).encode(),
    }
    with tempfile.TemporaryDirectory(prefix="fx-evidence-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        attach(registry, decision.model_name, decision.run_id, Path(folder), EVIDENCE)
    return {name: sha256(content) for name, content in files.items()}


def shown(name: str, kind: str, facts: dict[str, Any]) -> Decision:
    """Return the decision that would be taken; it is in no ledger."""
    intent = Entry.after(None, ledger=name, entry="intent", decision="", now=utc_now(), facts={"kind": kind})
    told = {"result": "only shown", **facts}
    outcome = Entry.after(intent, ledger=name, entry="outcome", decision="", now=utc_now(), facts=told)
    return Decision(run_id="", intent=intent, outcome=outcome)
