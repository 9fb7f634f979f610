"""Promotion: propose, decide by the policy, move the champion or refuse."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fxhelpers import policy
from fxhelpers.comparison import SEED, EvaluationFrame, compare
from fxhelpers.decisions._evidence import COMPARISON, EVIDENCE, FRAME, frame_in, keep_evidence
from fxhelpers.decisions._mirror import check_registered, serving
from fxhelpers.decisions._path import Move, act, begin, recording_failure, refuse_unrecorded, run_command, with_bundles
from fxhelpers.decisions._proposal import Proposal
from fxhelpers.errors import ParamsError, PromotionRefusedError, StaleComparisonError, VersionNotFoundError
from fxhelpers.ledger import AGAINST, Decision, Entry, Identity, Ledger, named
from fxhelpers.params import PromotionParams, nearest, try_gates
from fxhelpers.policy import Family, Verdict
from fxhelpers.processes import utc_now
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import fetch, read_ledger
from fxhelpers.registry.storage import registered_symbols
from fxhelpers.scoring import Selection, evaluation_frame

logger = logging.getLogger(__name__)


def approval_missing(registry: RegistryClient, decision: Decision, version: Identity) -> str:
    """Say what is missing before a version may go to Production; "" where nothing is."""
    rule = registry.params.promotion.approval.Production
    if rule.required:
        given = {"approved_by": decision.approved_by, "reason": decision.intent.facts.get("reason")}
        missing = [name for name, value in given.items() if not (value or "").strip()]
        if missing:
            return f"promotion.approval.Production asks for {' and '.join(missing)}."
    if decision.approved_by and rule.not_author:
        authors = {decision.actor: "promotes"}
        for registered in read_ledger(registry, decision.model_name).registrations.get(version.number, []):
            if registered.identity(version.number) == version:
                authors.setdefault(registered.actor, f"registered {version}")
        for author, did in authors.items():
            if _user(author) == _user(decision.approved_by):
                return (
                    f"{decision.approved_by[:80]} cannot approve: {author} {did}, and promotion.approval asks for somebody else."
                )
    return ""


def _user(who: str) -> str:
    """Return the name of a person, without host or mail domain."""
    return who.partition("@")[0].strip().casefold()


def counts_as(
    registry: RegistryClient, ledger: Ledger, frame: EvaluationFrame, policy_sha256: str, before: Decision | None
) -> str:
    """Return the digest of the frame that a comparison is counted by: an earlier one where that is the same comparison.

    The same are versions (by their bundles), roles, days and policy, and,
    within the tolerance of a replay, all returns and forecasts. The earlier
    ones are those that are stored with their decisions.
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
            logger.warning(
                "%s: the forecasts of %s are not stored any more, so nobody can tell whether this is the same attempt",
                ledger.name,
                decision.id,
            )
        elif frame.is_same(stored):
            return digest
    return frame.digest


def _may_be(decision: Decision, bundles: dict[int, str], frame: EvaluationFrame) -> bool:
    """Tell whether a decision may be about the same comparison, by what its entries say."""
    window = decision.outcome.facts.get("window") if decision.outcome else None
    known = {number: frame.bundles.get(number, "") for number in (frame.challenger, *frame.others, frame.champion) if number}
    judged = bundles.get(decision.version or 0)
    days = {
        "first_day": f"{frame.days.index[0]:%Y-%m-%d}",
        "last_day": f"{frame.days.index[-1]:%Y-%m-%d}",
        "days": len(frame.days),
    }
    return (
        judged == frame.bundles.get(frame.challenger) and set(known.values()) <= set(bundles.values()) and window in (None, days)
    )


def _stored(registry: RegistryClient, decision: Decision, bundles: dict[int, str]) -> EvaluationFrame | None:
    """Return the frame that a decision was made on; None where it is not there, or is not what its digest says."""
    files = {name: fetch(registry, decision, f"{EVIDENCE}/{name}") for name in (FRAME, COMPARISON)}
    whole = {name: content for name, content in files.items() if content is not None}
    try:
        frame, _ = frame_in(whole)
    except (KeyError, ValueError, TypeError):
        return None
    return replace(frame, bundles=bundles) if frame.digest == decision.frame_sha256 else None


def compare_versions(
    registry: RegistryClient, name: str, symbol: str, selection: Selection, gates: Iterable[Mapping[str, Any]] = ()
) -> Proposal:
    """Compare a version with the champion and let the policy judge, or the policy with some other gates; a look, and no more."""
    written = registry.params.promotion
    rules = try_gates(written, gates)
    judged = _judged(registry, name, symbol, selection, compared=True, rules=rules)
    tried = tuple(gate.id for gate in rules.gates if gate not in written.gates)
    if not tried:
        return judged
    verdict = judged.verdict
    words = (
        f"Not by the written policy: other gates than those of params.yaml were tried ({', '.join(tried)}); "
        f"{verdict.headline[0].lower()}{verdict.headline[1:]}"
    )
    return replace(judged, verdict=replace(verdict, headline=words), tried=tried)


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
    family: Family | None = None,
) -> Proposal:
    """Compare a version with the champion and let the policy judge; with ``apply``, after writing the intent to act on it."""
    if override and not reason.strip():
        msg = "override: to promote against the verdict needs a reason; nothing was changed"
        raise ParamsError(msg)
    if not apply:
        return replace(_judged(registry, name, symbol, chosen, compared=compared, family=family), override=override)
    if chosen.version is None and not chosen.challengers:
        chosen = replace(chosen, version=_challenger(registry, name, symbol, serving(registry, name)).version)
    told = {**chosen.told(), **({"override": True} if override else {})}
    words = {"symbol": symbol, "version": chosen.version, **told, "reason": reason, "approved_by": approved_by, "apply": True}
    refuse_unrecorded(run_command("promote", words))
    about_it = {"version": chosen.version, "symbol": symbol, **told}
    decision = begin(registry, name, "promotion", reason=reason, approved_by=approved_by, **about_it)
    with recording_failure(registry, decision):
        _check_champion(registry, name, chosen)
        judged = _judged(registry, name, symbol, chosen, compared=compared, family=family, decision=decision)
    return replace(judged, decision=decision, override=override)


def promote(registry: RegistryClient, proposal: Proposal) -> Decision:
    """Carry out a proposal's verdict: move the champion, or refuse and leave it; without an intent, show what would be done."""
    if proposal.tried:
        msg = (
            f"{proposal.name}: other gates than those of params.yaml were tried ({', '.join(proposal.tried)}), and the written "
            "policy decides: propose without gates, or write them into params.yaml; nothing was changed"
        )
        raise PromotionRefusedError(msg)
    facts, version = _facts(proposal), proposal.challenger.version
    before = proposal.champion.version if proposal.champion else None
    decision = proposal.decision
    against = proposal.override and proposal.verdict.outcome != "promote" and before != version
    if against:
        facts.update(rests_on="override", reason=f"{AGAINST} ({proposal.verdict.outcome}): {proposal.verdict.reason}")
    if decision is None:
        champion = serving(registry, proposal.name)
        now = champion.version if champion else None
        return shown(proposal.name, "promotion", {**facts, "from": now, "to": now})
    with recording_failure(registry, decision, facts):
        missing = approval_missing(registry, decision, proposal.challenger.identity)
        move = None
        if before == version:
            facts["result"] = "unchanged"
        elif proposal.verdict.outcome != "promote" and not against:
            facts["result"] = "refused"
        elif missing:
            facts.update(result="refused", reason=f"Refused: {missing} {proposal.verdict.reason}")
        else:
            facts["result"] = "promoted"
            move = Move(to=_identity(proposal, proposal.challenger), compared_with=_identity(proposal, proposal.champion))
        if proposal.comparison:
            facts["evidence"] = keep_evidence(registry, decision, proposal.comparison.frame, proposal.to_json())
        return act(registry, decision, facts=facts, move=move)


def _judged(
    registry: RegistryClient,
    name: str,
    symbol: str,
    chosen: Selection,
    *,
    compared: bool,
    family: Family | None = None,
    decision: Decision | None = None,
    rules: PromotionParams | None = None,
) -> Proposal:
    rules = rules or registry.params.promotion
    champion = registry.version(name, chosen.champion) if chosen.champion is not None else serving(registry, name)
    given = _given(chosen, champion)
    challenger = registry.version(name, given[0]) if given else _challenger(registry, name, symbol, champion)
    told: dict[str, Any] = {"name": name, "symbol": symbol, "champion": champion, "policy": rules}
    is_champion = champion is not None and champion.version == challenger.version
    if is_champion and chosen.champion is not None:
        msg = f"champion: {named(chosen.champion)} would be compared with itself; name another version, or leave champion out"
        raise ParamsError(msg)
    ledger = read_ledger(registry, name)
    for version in {challenger.version, *given}:
        check_registered(ledger, challenger if version == challenger.version else registry.version(name, version))
    if not compared:
        already = f"Version {challenger.version} is the champion already. " if is_champion else ""
        headline = f"{already}Not compared: model_registry.compare_metrics is false in params.yaml"
        verdict = Verdict(outcome="keep" if is_champion else "promote", headline=headline)
        return Proposal(challenger=challenger, comparison=None, verdict=verdict, **told)
    frame = evaluation_frame(
        registry,
        name,
        symbol,
        challengers=given or [challenger.version],
        champion=champion.version if champion and not is_champion else None,
        selection=chosen,
        judged=challenger.version if chosen.version is not None or not given else None,
    )
    counted = counts_as(registry, ledger, frame, policy.policy_digest(rules), decision)
    attempt = ledger.attempt(counted, policy.policy_digest(rules), before=decision)
    comparison = compare(frame, policy.required_tests(rules, attempt, family), cost=rules.evaluation.cost)
    verdict = policy.judge(comparison, rules, attempt=attempt, today=datetime.now(UTC).date(), family=family)
    verdict = policy.already_champion(verdict, comparison) if is_champion else verdict
    _check_family(name, symbol, verdict, family)
    judged = challenger if frame.challenger == challenger.version else registry.version(name, frame.challenger)
    return Proposal(challenger=judged, comparison=comparison, verdict=verdict, attempt_frame=counted, **told)


def _check_family(name: str, symbol: str, verdict: Verdict, family: Family | None) -> None:
    """Refuse to decide by the p of another comparison than this one: all were adjusted together."""
    if family is None or not family.p:
        return
    told, now = family.p.get(symbol), verdict.p_values()["p_attempt"]
    same = told is not None and (told == 1 or math.isclose(told, now or 0.0, rel_tol=1e-9))  # 1: not eligible, whatever p is
    if (verdict.family is not None or told is not None) and not same:
        msg = (
            f"{name}: p is {now} now, and was {told} when the family of {family.symbols} symbols was compared: versions, prices, "
            "policy or attempts changed since; nothing was changed: compare all of them again"
        )
        raise StaleComparisonError(msg)


def _given(chosen: Selection, champion: ModelVersion | None) -> list[int]:
    """Return the challengers that were named, the one to judge first; none where it is to be found."""
    given = list(dict.fromkeys([*([chosen.version] if chosen.version is not None else []), *chosen.challengers]))
    if len(given) > 1 and champion is not None and champion.version in given:
        msg = f"challengers: {named(champion.version)} is the champion, which all others are compared with; leave it out"
        raise ParamsError(msg)
    return given


def _check_champion(registry: RegistryClient, name: str, chosen: Selection) -> None:
    """Refuse to act on a comparison with a version that is not in Production."""
    champion = serving(registry, name)
    now = champion.version if champion else None
    if chosen.champion is not None and chosen.champion != now:
        msg = (
            f"{name}: the champion is {named(now)}, not {named(chosen.champion)}: a comparison with another version decides "
            "nothing. Leave champion out, or leave apply out in order to look; nothing was changed"
        )
        raise StaleComparisonError(msg)


def _challenger(registry: RegistryClient, name: str, symbol: str, champion: ModelVersion | None) -> ModelVersion:
    """Return the version registered last that waits; where none waits, the champion."""
    waiting = registry.challenger(name) or champion
    versions = [] if waiting else registry.versions(name)
    challenger = waiting or next((v for v in versions if v.stage != "Archived"), None)
    if challenger is None:
        hint = " (all are archived)" if versions else nearest(symbol, registered_symbols(registry), most=3)
        msg = f"{name} has no version to compare at {registry.uri}{hint}; register one: fx run register -p symbol {symbol}"
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
    }
    facts = with_bundles(facts, *(_identity(proposal, version) for version in versions))
    if comparison:
        facts["window"] = {"first_day": comparison.first_day, "last_day": comparison.last_day, "days": len(comparison.frame.days)}
        facts["frame_sha256"] = comparison.frame.digest
        if proposal.attempt_frame not in {"", comparison.frame.digest}:
            facts["attempt_frame"] = proposal.attempt_frame
        facts["challengers"] = [comparison.frame.challenger, *comparison.frame.others]
        facts["gates"] = [gate.to_json() for gate in proposal.verdict.gates]
        facts["attempt"], facts["seed"] = proposal.verdict.attempt, SEED
        facts["skill"] = proposal.verdict.skill
        if proposal.verdict.family:
            facts["family"] = {**proposal.verdict.family.told(), **proposal.verdict.p_values()}
        facts["policy_sha256"] = policy.policy_digest(proposal.policy)
    return facts


def _identity(proposal: Proposal, version: ModelVersion | None) -> Identity | None:
    """Return which version was compared: the one that was loaded, whatever its number stands for by now."""
    if version is None or proposal.comparison is None:
        return version.identity if version else None
    return Identity(version.version, proposal.comparison.frame.bundles.get(version.version, version.identity.bundle))


def shown(name: str, kind: str, facts: dict[str, Any]) -> Decision:
    """Return the decision that would be taken; it is in no ledger."""
    intent = Entry.after(None, ledger=name, entry="intent", decision="", now=utc_now(), facts={"kind": kind})
    told = {"result": "only shown", **facts}
    outcome = Entry.after(intent, ledger=name, entry="outcome", decision="", now=utc_now(), facts=told)
    return Decision(run_id="", intent=intent, outcome=outcome)
