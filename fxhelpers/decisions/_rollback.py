"""Rollback: back to a version that was in Production, or to none, in seconds and without gates, once it is sure to work."""

from typing import Any, Literal

from fxhelpers.decisions._mirror import check_registered, find, serving
from fxhelpers.decisions._path import Move, act, begin, recording_failure, refuse_unrecorded, with_bundles
from fxhelpers.decisions._promotion import approval_missing, shown
from fxhelpers.errors import NoChampionError, ParamsError, PromotionRefusedError, VersionReplacedError
from fxhelpers.ledger import Decision, Identity, Ledger, back_to, same
from fxhelpers.params import model_name
from fxhelpers.registry import RegistryClient, load_version
from fxhelpers.registry.ledgers import read_ledger
from fxhelpers.registry.storage import unknown_model


def roll_back(
    registry: RegistryClient,
    symbol: str,
    version: int | Literal["none"] | None,
    *,
    apply: bool,
    reason: str,
    approved_by: str,
) -> Decision:
    """Make the previous champion, or a given version, or nobody, the champion; without ``apply``, check it and say so."""
    name = model_name(symbol)
    ledger, champion, found = read_ledger(registry, name), serving(registry, name), registry.champion_identity(name)
    before = champion.identity if champion else None
    if before is None and not ledger.decisions and not registry.versions(name):
        raise unknown_model(registry, name)
    try:
        target = None if version == "none" else _target(registry, ledger, before, found, version)
    except NoChampionError as error:
        if apply:
            raise
        now = before.number if before else None
        return shown(name, "rollback", {"reason": str(error), "from": now, "to": now})
    about: dict[str, Any] = (
        {"version": target.number} if target else {"version": before.number if before else None, "nobody": True}
    )
    facts = {**about, "rests_on": "manual"}
    if not apply:
        now = before.number if before else None
        return shown(name, "rollback", {**facts, "reason": _checked(registry, name, target), "from": now, "to": now})
    if not reason.strip():
        again = (
            f"fx rollback {symbol}{' --to none' if target is None else f' --version {version}' if version else ''} --reason TEXT"
        )
        msg = f"reason: a rollback needs one: {again}; nothing was changed"
        raise ParamsError(msg)
    refuse_unrecorded(back_to(name, symbol, target.number if target else None, now=None))
    decision = begin(registry, name, "rollback", symbol=symbol, reason=reason, approved_by=approved_by, **about)
    with recording_failure(registry, decision):
        missing = "" if target is None or target in ledger.champions else approval_missing(registry, decision, target)
        if missing:
            msg = f"{target} was never in Production: {missing} Nothing was changed."
            raise PromotionRefusedError(msg)
        facts |= {
            "result": "unchanged" if before == target == found else "rolled back",
            "reason": _checked(registry, name, target),
        }
        return act(registry, decision, facts=with_bundles(facts, target), move=Move(to=target, compared_with=before))


def _target(
    registry: RegistryClient, ledger: Ledger, before: Identity | None, found: Identity | None, version: int | None
) -> Identity:
    """Return the version to go back to: the given one, or the champion before the one that MLflow's alias points to."""
    if version is not None:
        there = check_registered(ledger, registry.version(ledger.name, version)).identity
        others = [known for known in ledger.champions if known.number == version and known != there]
        if others and there not in ledger.champions:
            msg = (
                f"{ledger.name}: {there} ({there.short}) was never in Production; that was another one of this number "
                f"({others[0].short}). Nothing was changed; to compare and promote this one: fx run promote -p symbol "
                f"{ledger.symbol} -p version {version} -p apply true"
            )
            raise VersionReplacedError(msg)
        return there
    target = ledger.former if same(found, ledger.serving) else ledger.serving
    if target is not None:
        return find(registry, ledger, target).identity
    symbol = ledger.symbol
    if before is None:
        msg = (
            f"{ledger.name}: no version was ever in Production, as the ledger at {registry.uri} has it; judge one: "
            f"fx run promote -p symbol {symbol} -p apply true"
        )
    else:
        msg = (
            f"{ledger.name}: no version was in Production before {before}, as the ledger at {registry.uri} has it; name one: "
            f"fx rollback {symbol} --version N --reason TEXT, or let none serve: fx rollback {symbol} --to none --reason TEXT"
        )
    raise NoChampionError(msg)


def _checked(registry: RegistryClient, name: str, version: Identity | None) -> str:
    """Load a version, its bytes checked, let it forecast again what it forecast when it was registered, and say so."""
    if version is None:
        return "No version shall serve."
    again = load_version(registry, name, version.number).replay()
    return f"Version {version.number} loads, its bytes are those registered, and {again} of {again} forecasts came out the same."
