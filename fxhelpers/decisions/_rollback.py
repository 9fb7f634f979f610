"""Rollback: the previous champion, a given version or none serves again, without a comparison."""

from typing import Any, Literal

from fxhelpers.decisions._approval import approval_missing, preview
from fxhelpers.decisions._mirror import check_registered, find, identity_of, serving
from fxhelpers.decisions._path import Move, act, begin, recording_failure, refuse_unrecorded
from fxhelpers.errors import (
    NoChampionError,
    ParamsError,
    PromotionRefusedError,
    VersionReplacedError,
)
from fxhelpers.ledger import (
    Decision,
    Identity,
    IntentFacts,
    Ledger,
    OutcomeFacts,
    back_to,
    same,
)
from fxhelpers.params import model_name
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import load_version
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
    """Make the previous champion, or a given version, or none, the champion; without ``apply``, check it and return a preview."""
    name = model_name(symbol)
    ledger, champion, alias = read_ledger(registry, name), serving(registry, name), registry.champion_identity(name)
    before = identity_of(champion)
    if before is None and not ledger.decisions and not registry.versions(name):
        raise unknown_model(registry, name)
    try:
        target = None if version == "none" else _target(registry, ledger, before, alias, version)
    except NoChampionError as error:
        if apply:
            raise
        return preview(name, "rollback", OutcomeFacts(reason=str(error)), before)
    about: dict[str, Any] = (
        {"version": target.number} if target else {"version": before.number if before else None, "nobody": True}
    )
    facts = OutcomeFacts(**about, rests_on="manual")
    if not apply:
        facts.reason = _checked(registry, name, target)
        return preview(name, "rollback", facts, before)
    if not reason.strip():
        to = " --to none" if target is None else f" --version {version}" if version else ""
        msg = f"reason: a rollback requires one: fx rollback {symbol}{to} --reason TEXT; nothing was changed"
        raise ParamsError(msg)
    refuse_unrecorded(back_to(name, symbol, target.number if target else None, now=None))
    intent = IntentFacts(kind="rollback", symbol=symbol, reason=reason, approved_by=approved_by, **about)
    decision = begin(registry, name, intent)
    with recording_failure(registry, decision):
        missing = "" if target is None or target in ledger.champions else approval_missing(registry, decision, target)
        if missing:
            msg = f"{target} was never in Production: {missing} Nothing was changed."
            raise PromotionRefusedError(msg)
        facts.result = "unchanged" if before == target == alias else "rolled back"
        facts.reason = _checked(registry, name, target)
        return act(registry, decision, facts=facts.with_bundles(target), move=Move(to=target, compared_with=before))


def _target(
    registry: RegistryClient, ledger: Ledger, before: Identity | None, alias: Identity | None, version: int | None
) -> Identity:
    """Return the given version, or the previous champion; if MLflow's alias is wrong, the ledger's champion."""
    symbol = ledger.symbol
    if version is not None:
        target = check_registered(ledger, registry.version(ledger.name, version)).identity
        others = [champion for champion in ledger.champions if champion.number == version and champion != target]
        if others and target not in ledger.champions:
            msg = (
                f"{ledger.name}: {target} ({target.short}) was never in Production; another one of this number was "
                f"({others[0].short}). Nothing was changed. To compare and promote this one: fx run promote -p symbol "
                f"{symbol} -p version {version} -p apply true"
            )
            raise VersionReplacedError(msg)
        return target
    former = ledger.former if same(alias, ledger.serving) else ledger.serving
    if former is not None:
        return find(registry, ledger, former).identity
    if before is None:
        msg = (
            f"{ledger.name}: no version was ever in Production, by the ledger at {registry.uri}; compare and promote one: "
            f"fx run promote -p symbol {symbol} -p apply true"
        )
    else:
        msg = (
            f"{ledger.name}: no version was in Production before {before}, by the ledger at {registry.uri}; name one: "
            f"fx rollback {symbol} --version N --reason TEXT, or let none serve: fx rollback {symbol} --to none --reason TEXT"
        )
    raise NoChampionError(msg)


def _checked(registry: RegistryClient, name: str, version: Identity | None) -> str:
    """Load a version, with its bytes checked, replay its stored forecasts, and return the result as a reason."""
    if version is None:
        return "No version will serve."
    again = load_version(registry, name, version.number).replay()
    return f"Version {version.number} loads, its bytes are those registered, and {again} of {again} forecasts came out the same."
