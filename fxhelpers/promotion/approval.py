"""Approvals: whether the second person that the policy asks for is there, and is a second one."""

from fxhelpers.ledger import Decision, Identity
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import read_ledger


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
