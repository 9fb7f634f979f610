"""Promotion by the policy: shown first, it moves the champion only with an intent."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from fxhelpers import policy
from fxhelpers.comparison import SEED, Comparison
from fxhelpers.decisions._approval import approval_missing, preview
from fxhelpers.decisions._evidence import Proposal, counts_as, keep_evidence
from fxhelpers.decisions._mirror import check_registered, identity_of, serving
from fxhelpers.decisions._path import Move, act, begin, recording_failure, refuse_unrecorded, run_command
from fxhelpers.errors import (
    ParamsError,
    PromotionRefusedError,
    StaleComparisonError,
    VersionNotFoundError,
)
from fxhelpers.ledger import (
    AGAINST,
    Decision,
    GateFacts,
    Identity,
    IntentFacts,
    Ledger,
    OutcomeFacts,
    WindowFacts,
    version_name,
)
from fxhelpers.params import PromotionParams, nearest, try_gates
from fxhelpers.policy import Family, Pooled, Verdict
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.storage import registered_symbols
from fxhelpers.scoring import Selection, evaluation_frame

_NEED_REASONS = {
    "override": "promoting against the verdict",
    "accept_doubts": "accepting doubtful prices",
    "accept_restated": "comparing on restated prices",
}

_ACCEPTED = {"accept_doubts": "doubtful prices", "accept_restated": "restated prices"}


def compare_versions(
    registry: RegistryClient, name: str, symbol: str, selection: Selection, gates: Iterable[Mapping[str, Any]] = ()
) -> Proposal:
    """Compare a version with the champion and judge it, by the policy or with other gates; changes nothing."""
    written = registry.params.promotion
    rules = try_gates(written, gates)
    judged = _judged(registry, name, symbol, selection, compared=True, rules=rules)
    tried = tuple(gate.id for gate in rules.gates if gate not in written.gates)
    if not tried:
        return judged
    verdict = judged.verdict
    headline = (
        f"Not by the written policy: other gates than those of params.yaml were tried ({', '.join(tried)}); "
        f"{verdict.headline[0].lower()}{verdict.headline[1:]}"
    )
    return replace(judged, verdict=replace(verdict, headline=headline), tried=tried)


def propose(
    registry: RegistryClient,
    name: str,
    symbol: str,
    chosen: Selection,
    *,
    apply: bool = False,
    compared: bool = True,
    reason: str = "",
    approved_by: str = "",
    override: bool = False,
    accept_doubts: bool = False,
    family: Family | None = None,
    pooled: Pooled | None = None,
) -> Proposal:
    """Compare a version with the champion and let the policy judge; with ``apply``, after writing the intent to act on it."""
    accepted = {"override": override, "accept_doubts": accept_doubts, "accept_restated": chosen.accept_restated}
    for flag, what in _NEED_REASONS.items():
        if accepted[flag] and not reason.strip():
            msg = f"{flag}: {what} requires a reason; nothing was changed"
            raise ParamsError(msg)
    rules: dict[str, Any] = {"compared": compared, "family": family, "pooled": pooled, "accept_doubts": accept_doubts}
    what_else = " and ".join(words for flag, words in _ACCEPTED.items() if accepted[flag])
    proposed: dict[str, Any] = {"override": override, "accepted": f"{what_else}: {reason}" if what_else else ""}
    if not apply:
        return replace(_judged(registry, name, symbol, chosen, **rules), **proposed)
    if chosen.version is None and not chosen.challengers:
        chosen = replace(chosen, version=_challenger(registry, name, symbol, serving(registry, name)).version)
    parameters: dict[str, Any] = {"symbol": symbol, "version": chosen.version, **chosen.to_json()}
    parameters |= {**{flag: True for flag, given in accepted.items() if given}, "reason": reason, "approved_by": approved_by}
    refuse_unrecorded(run_command("promote", {**parameters, "apply": True}))
    decision = begin(registry, name, IntentFacts(kind="promotion", **parameters))
    with recording_failure(registry, decision):
        _check_champion(registry, name, chosen)
        judged = _judged(registry, name, symbol, chosen, decision=decision, **rules)
    return replace(judged, decision=decision, **proposed)


def promote(registry: RegistryClient, proposal: Proposal) -> Decision:
    """Carry out a proposal's verdict: move the champion, or refuse; without an intent, return a preview."""
    if proposal.tried:
        msg = (
            f"{proposal.name}: other gates than those of params.yaml were tried ({', '.join(proposal.tried)}), but the written "
            "policy decides: propose without gates, or write them into params.yaml; nothing was changed"
        )
        raise PromotionRefusedError(msg)
    facts, version = _facts(proposal), proposal.challenger.version
    before = proposal.champion.version if proposal.champion else None
    decision = proposal.decision
    against = proposal.override and proposal.verdict.outcome != "promote" and before != version
    if against:
        facts.rests_on, facts.reason = "override", f"{AGAINST} ({proposal.verdict.outcome}): {proposal.verdict.reason}"
    if decision is None:
        return preview(proposal.name, "promotion", facts, identity_of(serving(registry, proposal.name)))
    with recording_failure(registry, decision, facts):
        missing = approval_missing(registry, decision, proposal.challenger.identity)
        move = None
        if before == version:
            facts.result = "unchanged"
        elif proposal.verdict.outcome != "promote" and not against:
            facts.result = "refused"
        elif missing:
            facts.result, facts.reason = "refused", f"Refused: {missing} {proposal.verdict.reason}"
        else:
            facts.result = "promoted"
            move = Move(to=_compared(proposal, proposal.challenger), compared_with=_compared(proposal, proposal.champion))
        if proposal.comparison:
            facts.evidence = keep_evidence(registry, decision, proposal.comparison.frame, proposal.to_json())
        return act(registry, decision, facts=facts, move=move)


def _judged(
    registry: RegistryClient,
    name: str,
    symbol: str,
    chosen: Selection,
    *,
    compared: bool,
    family: Family | None = None,
    pooled: Pooled | None = None,
    decision: Decision | None = None,
    rules: PromotionParams | None = None,
    accept_doubts: bool = False,
    known: tuple[ModelVersion | None] | None = None,
) -> Proposal:
    """Compare and judge; the version in Production is ``known`` if it was just looked up."""
    rules = rules or registry.params.promotion
    if chosen.champion is not None and known is None:
        champion: ModelVersion | None = registry.version(name, chosen.champion)
    else:
        (champion,) = known or (serving(registry, name),)
    given = _given(chosen, champion)
    challenger = registry.version(name, given[0]) if given else _challenger(registry, name, symbol, champion)
    about: dict[str, Any] = {"name": name, "symbol": symbol, "champion": champion, "policy": rules}
    is_champion = champion is not None and champion.version == challenger.version
    if is_champion and chosen.champion is not None:
        itself = version_name(chosen.champion)
        msg = f"champion: {itself} would be compared with itself; name another version, or leave champion out"
        raise ParamsError(msg)
    ledger = read_ledger(registry, name)
    for version in {challenger.version, *given}:
        check_registered(ledger, challenger if version == challenger.version else registry.version(name, version))
    if not compared:
        already = f"Version {challenger.version} is the champion already. " if is_champion else ""
        headline = f"{already}Not compared: model_registry.compare_metrics is false in params.yaml"
        verdict = Verdict(outcome="keep" if is_champion else "promote", headline=headline)
        return Proposal(challenger=challenger, comparison=None, verdict=verdict, **about)
    alarm = None if is_champion or chosen.champion is not None else _alarm(ledger, rules)
    frame = evaluation_frame(
        registry,
        name,
        symbol,
        challengers=given or [challenger.version],
        champion=champion.version if champion and not is_champion and alarm is None else None,
        selection=chosen,
        judged=challenger.version if chosen.version is not None or not given else None,
        seed=decision.id if decision else (ledger.head.digest if ledger.head else ""),
    )
    frame = replace(frame, since=_since(ledger, frame.recipe))
    counted = "" if frame.recipe else counts_as(registry, ledger, frame, policy.policy_digest(rules), decision)
    comparison, verdict = policy.decide(
        frame,
        rules,
        earlier=ledger.attempts_before(decision),
        today=datetime.now(UTC).date(),
        family=family,
        pooled=pooled,
        accept_doubts=accept_doubts,
        key=counted,
    )
    verdict = policy.already_champion(verdict, comparison) if is_champion else verdict
    if champion and alarm:
        who = version_name(champion.version)
        text = f"{who} is in alarm since {alarm.time[:10]}, so it is not compared with: this is judged as a first champion"
        verdict = replace(verdict, also=(text, *verdict.also))
    _check_family(name, symbol, verdict, family)
    _check_pooled(name, comparison, verdict, pooled)
    judged = challenger if frame.challenger == challenger.version else registry.version(name, frame.challenger)
    counted = verdict.attempt_frame or counted
    about |= {"attempt_frame": counted, "pooled": pooled}
    return Proposal(challenger=judged, comparison=comparison, verdict=verdict, **about)


def _alarm(ledger: Ledger, rules: PromotionParams) -> Decision | None:
    """Return the alarm that the champion is in, if its successor may serve as a first champion does."""
    tenure = ledger.tenure
    return tenure.alarm if tenure and rules.on_no_champion == "baselines_only" else None


def _since(ledger: Ledger, recipe: str) -> str:
    """Return the first day after a recipe was first registered, YYYY-MM-DD; "" if that is not known."""
    first = ledger.recipes.get(recipe)
    return f"{date.fromisoformat(first[:10]) + timedelta(days=1)}" if first else ""


def _check_family(name: str, symbol: str, verdict: Verdict, family: Family | None) -> None:
    """Refuse to decide by the p of another comparison than this one: all were adjusted together."""
    if family is None or not family.p:
        return
    then, now = family.p.get(symbol), verdict.p_values()["p_attempt"]
    equal = then is not None and (then == 1 or math.isclose(then, now or 0.0, rel_tol=1e-9))  # 1: not eligible, whatever p is
    if (verdict.family is not None or then is not None) and not equal:
        msg = (
            f"{name}: p is {now} now, and was {then} when the family of {family.symbols} symbols was compared: versions, prices, "
            "policy or attempts changed since; nothing was changed: compare all of them again"
        )
        raise StaleComparisonError(msg)


def _check_pooled(name: str, comparison: Comparison, verdict: Verdict, pooled: Pooled | None) -> None:
    """Refuse to decide by a test over many symbols to which this one gave another comparison."""
    changed = pooled.stale(comparison, verdict.attempt) if pooled and pooled.members else ""
    if changed:
        msg = (
            f"{name}: {changed}: versions, prices, policy or attempts changed since the symbols were compared; nothing was "
            "changed: run fx run promote --pooled again"
        )
        raise StaleComparisonError(msg)


def _given(chosen: Selection, champion: ModelVersion | None) -> list[int]:
    """Return the challengers that were named, the one to judge first."""
    given = list(dict.fromkeys([*([chosen.version] if chosen.version is not None else []), *chosen.challengers]))
    if len(given) > 1 and champion is not None and champion.version in given:
        msg = f"challengers: {version_name(champion.version)} is the champion, which all others are compared with; leave it out"
        raise ParamsError(msg)
    return given


def _check_champion(registry: RegistryClient, name: str, chosen: Selection) -> ModelVersion | None:
    """Return the version in Production, if it is the one to compare with."""
    champion = serving(registry, name)
    now = champion.version if champion else None
    if chosen.champion is not None and chosen.champion != now:
        msg = (
            f"{name}: the champion is {version_name(now)}, not {version_name(chosen.champion)}, and only a comparison with the "
            "champion decides. Leave champion out, or leave apply out for a comparison only; nothing was changed"
        )
        raise StaleComparisonError(msg)
    return champion


def _challenger(registry: RegistryClient, name: str, symbol: str, champion: ModelVersion | None) -> ModelVersion:
    """Return the waiting challenger, or else the champion, or else the newest version that is not archived."""
    waiting = registry.challenger(name) or champion
    versions = [] if waiting else registry.versions(name)
    challenger = waiting or next((v for v in versions if v.stage != "Archived"), None)
    if challenger is None:
        hint = " (all are archived)" if versions else nearest(symbol, registered_symbols(registry), most=3)
        msg = f"{name} has no version to compare at {registry.uri}{hint}; register one: fx run register -p symbol {symbol}"
        raise VersionNotFoundError(msg)
    return challenger


def _facts(proposal: Proposal) -> OutcomeFacts:
    comparison, verdict = proposal.comparison, proposal.verdict
    facts = OutcomeFacts(
        version=proposal.challenger.version,
        verdict=verdict.outcome,
        reason=verdict.reason,
        rests_on="compared" if comparison else "not compared",
    ).with_bundles(_compared(proposal, proposal.challenger), _compared(proposal, proposal.champion))
    if comparison:
        days = len(comparison.frame.days)
        facts.window = WindowFacts(first_day=comparison.first_day, last_day=comparison.last_day, days=days)
        facts.frame_sha256 = comparison.frame.digest
        if proposal.attempt_frame not in {"", comparison.frame.digest}:
            facts.attempt_frame = proposal.attempt_frame
        facts.challengers = [comparison.frame.challenger, *comparison.frame.others]
        facts.gates = [GateFacts.model_validate(gate.to_json()) for gate in verdict.gates]
        facts.attempt, facts.seed, facts.skill = verdict.attempt, SEED, verdict.skill
        if verdict.family:
            facts.family = {**verdict.family.to_json(), **verdict.p_values()}
        if verdict.pooled and verdict.pooled.members:
            facts.pooled = verdict.pooled.ledger_facts()
        facts.policy_sha256 = policy.policy_digest(proposal.policy)
        known: dict[str, Any] = {
            "change": verdict.kind,
            "recipe": comparison.frame.recipe,
            "champion_recipe": comparison.frame.champion_recipe,
        }
        levels = {"level": verdict.level, "next_level": verdict.next_level, "detectable": verdict.detectable}
        known |= {key: value for key, value in levels.items() if math.isfinite(value)}
        facts = facts.model_copy(update={key: value for key, value in known.items() if value})
    return facts


def _compared(proposal: Proposal, version: ModelVersion | None) -> Identity | None:
    """Return the identity of the version that was loaded for the comparison; its number may belong to another one now."""
    if version is None or proposal.comparison is None:
        return identity_of(version)
    return Identity(version.version, proposal.comparison.frame.bundles.get(version.version, version.identity.bundle))
