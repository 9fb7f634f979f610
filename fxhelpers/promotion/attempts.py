"""Attempts: which earlier one a comparison repeats, decided by what was compared and a tolerance, not by the last bit."""

import logging
from dataclasses import replace

from fxhelpers.comparison import EvaluationFrame
from fxhelpers.ledger import Decision, Ledger
from fxhelpers.promotion.evidence import COMPARISON, EVIDENCE, FRAME, frame_in
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import fetch

logger = logging.getLogger(__name__)


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
    meant = ledger.meant()
    for digest, decision in reversed(tried.items()):
        bundles = {number: str(version.bundle or "") for number, version in meant[decision.id].by_number.items()}
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
