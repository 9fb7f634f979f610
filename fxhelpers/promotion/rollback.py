"""Rollback: back to a version that was in Production, in seconds and without gates, once it is sure that it still works."""

from typing import Any

from fxhelpers.errors import NoChampionError, ParamsError, PromotionRefusedError
from fxhelpers.ledger import Decision, named
from fxhelpers.promotion.approval import approval_missing
from fxhelpers.promotion.deciding import Move, act, begin, failing, refuse_unrecorded
from fxhelpers.promotion.proposals import shown
from fxhelpers.registry import BUNDLE_DIGEST, RegistryClient, load_version
from fxhelpers.registry.ledgers import read_ledger


def roll_back(
    registry: RegistryClient, name: str, symbol: str, version: int | None, *, apply: bool, reason: str, approved_by: str
) -> Decision:
    """Make the previous champion, or a given version, the champion again; without ``apply``, check it and say so."""
    ledger = read_ledger(registry, name)
    before = registry.champion_number(name)
    changed_outside = before != ledger.champion and ledger.mover(before) is None
    target = version or (ledger.champion if changed_outside else ledger.previous_champion)
    if target is None:
        msg = (
            f"{name}: no version was in Production before {named(ledger.champion)}, as the ledger at {registry.uri} has it; "
            f"name one: fx rollback {symbol} --version N --reason TEXT"
        )
        if not apply:
            return shown(name, "rollback", {"reason": msg, "from": before, "to": before})
        raise NoChampionError(msg)
    facts: dict[str, Any] = {"version": target, "rests_on": "manual"}
    if not apply:
        facts |= {"reason": _checked(registry, name, target), "from": before, "to": before}
        return shown(name, "rollback", facts)
    if not reason.strip():
        msg = f"reason: a rollback needs one: fx rollback {symbol} --reason TEXT; nothing was changed"
        raise ParamsError(msg)
    refuse_unrecorded(f"fx rollback {symbol} --version {target} --reason TEXT")
    decision = begin(registry, name, "rollback", version=target, symbol=symbol, reason=reason, approved_by=approved_by)
    with failing(registry, decision):
        missing = "" if target in ledger.champions else approval_missing(registry, decision, target)
        if missing:
            msg = f"version {target} was never in Production: {missing} Nothing was changed."
            raise PromotionRefusedError(msg)
        facts |= {"result": "unchanged" if before == target else "rolled back", "reason": _checked(registry, name, target)}
        facts["bundles"] = {str(target): registry.version(name, target).tags.get(BUNDLE_DIGEST)}
        return act(registry, decision, facts=facts, move=Move(to=target, compared_with=before))


def _checked(registry: RegistryClient, name: str, version: int) -> str:
    """Load a version, its bytes checked, let it forecast again what it forecast when it was registered, and say so."""
    same = load_version(registry, name, version).replay()
    return f"Version {version} loads, its bytes are those registered, and {same} of {same} forecasts came out the same."
