"""An alarm about what serves: recorded, and by the settings the champion is taken out of Production."""

from collections.abc import Mapping
from typing import Any, Literal

from fxhelpers.decisions._evidence import store_evidence
from fxhelpers.decisions._mirror import find, serving
from fxhelpers.decisions._path import Move, act, begin, recording_failure, refuse_unrecorded, run_command
from fxhelpers.errors import FxError, RegistryUnavailableError, StaleComparisonError
from fxhelpers.ledger import Decision, Identity, IntentFacts, Ledger, OutcomeFacts
from fxhelpers.params import model_name
from fxhelpers.registry import RegistryClient, load_version
from fxhelpers.registry.ledger_store import read_ledger

OnAlarm = Literal["warn", "vacate", "rollback"]


def raise_alarm(
    registry: RegistryClient,
    symbol: str,
    champion: Identity,
    *,
    on_alarm: OnAlarm,
    predecessor: Identity | None,
    reason: str,
    facts: Mapping[str, Any],
    evidence: Mapping[str, bytes],
) -> Decision:
    """Record an alarm about the champion, and do what the settings say.

    ``vacate``: no version serves. ``rollback``: the ``predecessor`` serves; if
    there is none, or it does not load, no version does. The tenure's alarms
    begin anew afterwards. :class:`StaleComparisonError` if another version
    serves by now, or somebody recorded this alarm.
    """
    name = model_name(symbol)
    refuse_unrecorded(run_command("watch", {"symbols": [symbol], "apply": True}))
    begun = read_ledger(registry, name)
    decision = begin(registry, name, IntentFacts(kind="alarm", symbol=symbol, version=champion.number))
    with recording_failure(registry, decision):
        found = serving(registry, name)
        if found is None or found.identity != champion or _alarmed(read_ledger(registry, name)) != _alarmed(begun):
            msg = f"{name}: {champion} is not the champion any more, or was in alarm already; nothing was changed: watch again"
            raise StaleComparisonError(msg)
        move, done = _move(registry, begun, champion, on_alarm, predecessor)
        digests = store_evidence(registry, decision, evidence)
        outcome = OutcomeFacts(
            result="alarm",
            version=champion.number,
            reason=f"{reason} {done}",
            alarm={**facts, "on_alarm": on_alarm},
            evidence=digests,
        )
        if move:
            outcome.rests_on = "live record"
        return act(registry, decision, facts=outcome.with_bundles(champion, predecessor), move=move)


def _alarmed(ledger: Ledger) -> str:
    return ledger.tenure.alarm.id if ledger.tenure and ledger.tenure.alarm else ""


def _move(
    registry: RegistryClient, ledger: Ledger, champion: Identity, on_alarm: OnAlarm, predecessor: Identity | None
) -> tuple[Move | None, str]:
    """Return what an alarm changes, and what that is in words."""
    if on_alarm == "warn":
        return None, "It goes on serving (watch.on_alarm: warn)."
    vacate = Move(to=None, compared_with=champion)
    if on_alarm == "vacate":
        return vacate, "No version serves now (watch.on_alarm: vacate)."
    if predecessor is None:
        return vacate, "No version serves now: there is no predecessor that is in no alarm itself (watch.on_alarm: rollback)."
    try:
        version = find(registry, ledger, predecessor)
        load_version(registry, ledger.name, version.version).replay()
    except RegistryUnavailableError:
        raise
    except FxError as error:
        return vacate, f"No version serves now: {str(error)[:200]} (watch.on_alarm: rollback)."
    return Move(to=predecessor, compared_with=champion), f"{predecessor} serves again (watch.on_alarm: rollback)."
