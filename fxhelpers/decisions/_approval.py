"""What a decision shows before it is taken, and whether the approval that it needs is there."""

from fxhelpers.ledger import Decision, Entry, Identity, IntentFacts, OutcomeFacts
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.system import utc_now


def preview(name: str, kind: str, facts: OutcomeFacts, champion: Identity | None) -> Decision:
    """Return the decision that would be taken; it is in no ledger."""
    number = champion.number if champion else None
    facts = facts.model_copy(update={"result": "only shown", "from_": number, "to": number})
    intent = Entry.after(None, ledger=name, decision="", now=utc_now(), facts=IntentFacts(kind=kind))
    return Decision(run_id="", intent=intent, outcome=Entry.after(intent, ledger=name, decision="", now=utc_now(), facts=facts))


def approval_missing(registry: RegistryClient, decision: Decision, version: Identity) -> str:
    """Return what is missing before a version may go to Production; "" if nothing is."""
    rule = registry.params.promotion.approval.Production
    if rule.required:
        given = {"approved_by": decision.approved_by, "reason": decision.intent.facts.reason}
        missing = [name for name, value in given.items() if not (value or "").strip()]
        if missing:
            return f"promotion.approval.Production requires {' and '.join(missing)}."
    if decision.approved_by and rule.not_author:
        authors = {decision.actor: "promotes"}
        for registered in read_ledger(registry, decision.model_name).registrations.get(version.number, []):
            if registered.identity(version.number) == version:
                authors.setdefault(registered.actor, f"registered {version}")
        for author, did in authors.items():
            if _user(author) == _user(decision.approved_by):
                return (
                    f"{decision.approved_by[:80]} cannot approve: {author} {did}, and promotion.approval requires another person."
                )
    return ""


def _user(who: str) -> str:
    """Return the name of a person, without host or mail domain."""
    return who.partition("@")[0].strip().casefold()
