"""An alarm about what serves: recorded, and by the settings the champion is taken out of Production."""

from collections.abc import Mapping
from typing import Any, Literal

from fxhelpers.decisions._mirror import find, serving, writing_mirrored
from fxhelpers.decisions._path import (
    Move,
    act_under,
    begin,
    note_on_version,
    recording_failure,
    refuse_unrecorded,
    run_command,
)
from fxhelpers.decisions._sealing import store_evidence
from fxhelpers.errors import FxError, RegistryUnavailableError, StaleComparisonError
from fxhelpers.ledger import Decision, Identity, IntentFacts, Ledger, OutcomeFacts
from fxhelpers.params import model_name
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import load_version

OnAlarm = Literal["warn", "vacate", "rollback"]


def raise_alarm(
    registry: RegistryClient,
    symbol: str,
    champion: Identity,
    *,
    last: Decision | None,
    on_alarm: OnAlarm,
    predecessor: Identity | None,
    reason: str,
    facts: Mapping[str, Any],
    evidence: Mapping[str, bytes],
) -> Decision:
    """Record an alarm about the champion, and do what the settings say.

    ``vacate``: no version serves. ``rollback``: the ``predecessor`` serves; if
    there is none, or it does not load, no version does. The evidence began
    after the ``last`` alarm, and begins anew afterwards.
    :class:`StaleComparisonError` if another version serves by now, or another
    alarm was recorded since the last one.
    """
    name = model_name(symbol)
    refuse_unrecorded(run_command("watch", {"symbols": [symbol], "apply": True}))
    begun = read_ledger(registry, name)
    decision = begin(registry, name, IntentFacts(kind="alarm", symbol=symbol, version=champion.number))
    with recording_failure(registry, decision):
        _check_current(registry, name, champion, last)
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
        with writing_mirrored(registry, name) as ledger:
            _check_current(registry, name, champion, last)
            decided = act_under(ledger, registry, decision, facts=outcome.with_bundles(champion, predecessor), move=move)
    note_on_version(registry, decided)
    return decided


def _check_current(registry: RegistryClient, name: str, champion: Identity, last: Decision | None) -> None:
    """Raise :class:`StaleComparisonError` unless the champion serves, and its last alarm is the one that is known."""
    found, tenure = serving(registry, name), read_ledger(registry, name).tenure
    known = tenure.alarm.id if tenure and tenure.alarm else ""
    if found is None or found.identity != champion or known != (last.id if last else ""):
        msg = f"{name}: {champion} is not the champion any more, or was in alarm already; nothing was changed: watch again"
        raise StaleComparisonError(msg)


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
