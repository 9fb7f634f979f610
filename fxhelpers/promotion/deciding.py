"""Every decision's course: its intent, the one path to Production, its outcome; and the end of those that were interrupted."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from fxhelpers.errors import (
    FxError,
    LockLostError,
    NoRecordError,
    ParamsError,
    PromotionRefusedError,
    RegistryError,
    StaleComparisonError,
    VersionNotFoundError,
)
from fxhelpers.ledger import AGAINST, Decision, named
from fxhelpers.params import current_record
from fxhelpers.processes import actor, has_ended, process_identity
from fxhelpers.records import in_unrecorded_notebook, note_decision, record_facts, record_name
from fxhelpers.registry import PRUNED, RegistryClient, in_production
from fxhelpers.registry.client import CHALLENGER, CHAMPION
from fxhelpers.registry.ledgers import LedgerWriter, OpenDecision, writing
from fxhelpers.registry.storage import unknown_model

logger = logging.getLogger(__name__)

DECISION_TAG = "fx.decision"
"""Tag of a version: id and result of the last decision about it."""

AT_WORK = timedelta(hours=1)
"""A decision of another machine that is open for longer was interrupted."""

_LONGEST_REASON = 1000
_DONE = {"promotion": "promoted", "rollback": "rolled back", "registration": "registered"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of champion.

    Attributes
    ----------
    to : int or None
        The new one; None: there shall be none.
    compared_with : int or None
        The champion that the decision was made against.
    by_hand : bool
        Made against none: whoever is champion, it is moved.
    """

    to: int | None
    compared_with: int | None = None
    by_hand: bool = False


def refuse_unrecorded(command: str) -> None:
    """Raise :class:`NoRecordError`, with the command to type, in a notebook that nobody keeps."""
    if in_unrecorded_notebook():
        msg = f"nothing was changed: this notebook is not being kept as a record. Type in a terminal: {command}"
        raise NoRecordError(msg)


def begin(registry: RegistryClient, name: str, kind: str, *, reason: str = "", approved_by: str = "", **facts: Any) -> Decision:  # noqa: ANN401
    """Write the intent of a decision, after what others left open has been ended."""
    for word, text in (("reason", reason), ("approved_by", approved_by)):
        if len(text) > _LONGEST_REASON or not text.replace("\n", "").isprintable():
            msg = f"{word}: at most {_LONGEST_REASON} printable characters are kept, found {len(text)}; nothing was changed"
            raise ParamsError(msg)
    record, parent = current_record(), os.getppid()
    who = {
        "actor": actor(),
        # the kernel of a recorded run ends before its record does: its parent keeps that, if it is not dead already
        "process": process_identity(parent if record and parent > 1 else None),
        "record": record_name(record) if record else None,
    }
    with writing(registry, name) as ledger:
        settle(registry, name, ledger)
        if kind != "registration" and ledger.head is None and not registry.versions(name):
            raise unknown_model(registry, name)  # a ledger, once begun, is there for good
        decision = ledger.begin(kind, {**who, "reason": reason, "approved_by": approved_by, **facts})
    note_decision(decision.model_name, decision.run_id)
    return decision


@contextmanager
def failing(registry: RegistryClient, decision: Decision, facts: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Give a decision that ends in an error its outcome, beside the facts known so far: stale, refused, failed or interrupted."""
    try:
        yield
    except BaseException as error:
        try:
            with writing(registry, decision.model_name) as ledger:
                still = ledger.still_open(decision)
                if still:
                    _conclude(ledger, decision, {**(facts or {}), **ending(registry, still, *_result_of(error))})
        except FxError as second:
            logger.warning("%s: its outcome could not be written: %s", decision.id, second)
        raise


def act(
    registry: RegistryClient,
    decision: Decision,
    *,
    facts: dict[str, Any],
    move: Move | None = None,
    stages: Mapping[int, str] = MappingProxyType({}),
) -> Decision:
    """Take the model's lock, do what was decided, and note it on the version."""
    with writing(registry, decision.model_name) as ledger:
        done = act_under(ledger, registry, decision, facts=facts, move=move, stages=stages)
    note_on_version(registry, done)
    return done


def act_under(
    ledger: LedgerWriter,
    registry: RegistryClient,
    decision: Decision,
    *,
    facts: dict[str, Any],
    move: Move | None = None,
    stages: Mapping[int, str] = MappingProxyType({}),
    challenger: int | None = None,
) -> Decision:
    """Do what was decided, under the model's lock, and write the outcome: the one path to Production.

    The alias first, which is the truth, then the stages that mirror it.
    """
    name = decision.model_name
    if ledger.still_open(decision) is None:
        msg = (
            f"{decision.id} has its outcome already: it was carried out before, or another decision took it for interrupted; "
            "nothing was changed: decide anew"
        )
        raise LockLostError(msg)
    champion = registry.champion(name)
    before = champion.version if champion else None
    after = _next_champion(registry, name, before, move, stages)
    moved = {}
    if after != before:
        moved = {"moved": ledger.announce(decision, before, after, facts)}
        ledger.lock.confirm()
        _point(registry, name, after)
    for version, stage in stages.items():
        registry.set_stage(name, version, stage)
    if move or (champion and champion.mirror_lags):
        mirror_champion(registry, name)
    waiting = registry.challenger(name)
    if waiting and (waiting.version == after or stages.get(waiting.version) == "Archived"):
        registry.drop_alias(name, CHALLENGER)
    if challenger is not None:
        registry.set_alias(name, CHALLENGER, challenger)
    return _conclude(ledger, decision, {**facts, "from": before, "to": after, **moved})


def _next_champion(
    registry: RegistryClient, name: str, before: int | None, move: Move | None, stages: Mapping[int, str]
) -> int | None:
    """Return who is champion after a decision; refuse where champion or version are not any more as it was made on."""
    after = move.to if move else before
    if move and not move.by_hand and before not in {move.compared_with, after}:
        msg = (
            f"{name}: the decision was made against {named(move.compared_with)}, but the champion is {named(before)} by now; "
            "nothing was changed: compare again"
        )
        raise StaleComparisonError(msg)
    if after is not None and after in stages:
        msg = f"{name}: version {after} is the champion by now, and was to leave Production; nothing was changed: decide anew"
        raise StaleComparisonError(msg)
    if after is not None and after != before and PRUNED in registry.version(name, after).tags:
        msg = f"the files of version {after} of {name} were deleted on purpose; nothing was changed"
        raise VersionNotFoundError(msg)
    return after


def was_interrupted(decision: Decision) -> bool:
    """Tell whether an unfinished decision is not at work any more: its process has ended, or, elsewhere, it is too long ago."""
    ended = has_ended(decision.intent.facts.get("process", {}))
    return datetime.now(UTC) - datetime.fromisoformat(decision.time) > AT_WORK if ended is None else ended


def settle(registry: RegistryClient, name: str, ledger: LedgerWriter) -> list[Decision]:
    """End the decisions that were interrupted, and return them: whoever holds the lock knows that no move is under way.

    One that was interrupted gets its outcome and its seal. One that had begun
    to move the champion gets the outcome that the alias shows.
    """
    settled = []
    for still in ledger.open:
        decision = still.decision
        if decision.seal:  # killed after its last entry
            ledger.end(decision)
            continue
        over = was_interrupted(decision)
        if decision.outcome is None:
            if not over and still.moving is None:
                continue  # at work somewhere
            if ledger.is_twin(decision):
                ledger.end(decision, failed=True)
                continue
            decision = ledger.conclude(
                decision, ending(registry, still, "interrupted", "Interrupted; the champion was not moved.")
            )
        if over:
            facts = record_facts(registry.params.paths.records, decision.record)
            decision = ledger.seal(decision, {**facts, "status": "interrupted", "late": True})
        if decision != still.decision:
            logger.warning("%s was interrupted, and is ended now: %s", decision.id, decision.result)
            settled.append(decision)
    if any(decision.applied for decision in settled):
        mirror_champion(registry, name)
    return settled


def settle_now(registry: RegistryClient, name: str) -> list[Decision]:
    """Take the lock of a model in order to :func:`settle` it."""
    with writing(registry, name) as ledger:
        return settle(registry, name, ledger)


def ending(registry: RegistryClient, still: OpenDecision, result: str, reason: str) -> dict[str, Any]:
    """Return the outcome of a decision that did not come to its end; the alias tells whether the champion was moved."""
    now, moving = registry.champion_number(still.decision.model_name), still.moving
    if moving is not None and moving["to"] == now:
        done = _DONE.get(still.decision.kind, "moved")
        told = {"from": moving["from"], "to": now, "moved": moving["time"], "interrupted": True}
        reason = "Interrupted after the champion was moved, and completed later."
        rests_on = moving.get("facts", {})
        if rests_on.get("rests_on") == "override":
            reason = f"{AGAINST} ({rests_on.get('verdict')}). {reason}"
        return {**rests_on, "result": done, "reason": reason, **told}
    return {"result": result, "reason": reason, "from": now, "to": now}


def mirror_champion(registry: RegistryClient, name: str) -> None:
    """Let MLflow's stages say what the alias says: the champion is in Production, and nobody else."""
    versions = registry.versions(name)
    champion = in_production(versions)
    if champion is None:
        return
    retired = "Archived" if registry.params.model_registry.auto_archive else "Staging"
    for version in sorted((v for v in versions if v.mirror_lags), key=lambda v: v.version != champion.version):
        registry.set_stage(name, version.version, "Production" if version.version == champion.version else retired)


def check_by_hand(registry: RegistryClient) -> None:
    """Raise :class:`PromotionRefusedError` where Production asks for an approval: a stage set by hand has none."""
    if registry.params.promotion.approval.Production.required:
        msg = (
            "promotion.approval.Production.required is true in params.yaml: Production is reached by a promotion with "
            "approved_by and reason "
            "(fx run promote -p apply true -p approved_by NAME -p reason TEXT), not by hand; nothing was changed"
        )
        raise PromotionRefusedError(msg)


def note_on_version(registry: RegistryClient, decision: Decision) -> None:
    """Tag the version that a decision is about with its id and result."""
    if decision.version is not None:
        how = ", ".join(filter(None, (decision.kind, decision.mark)))
        note = f"{decision.result} ({how}), {decision.time[:16].replace('T', ' ')}; {decision.id}"
        registry.annotate(decision.model_name, decision.version, tags={DECISION_TAG: note})


def _conclude(ledger: LedgerWriter, decision: Decision, facts: dict[str, Any]) -> Decision:
    """Write the outcome; a decision outside a recorded run gets its seal at once, which says that there is no record."""
    if decision.record:
        return ledger.conclude(decision, facts)
    return ledger.conclude(decision, facts, seal={"record": None, "status": "taken outside a recorded run"})


def _point(registry: RegistryClient, name: str, version: int | None) -> None:
    """Move the alias, and read it back: what stands between here and the registry may say yes to anything."""
    if version is None:
        logger.warning("%s: its champion was taken out of Production; now there is none", name)
        registry.drop_alias(name, CHAMPION)
    else:
        registry.set_alias(name, CHAMPION, version)
    now = registry.champion_number(name)
    if now != version:
        msg = f"{name}: {registry.uri} said yes to {named(version)} as champion, but has {named(now)}; look at what lies between"
        raise RegistryError(msg)


def _result_of(error: BaseException) -> tuple[str, str]:
    if isinstance(error, StaleComparisonError | PromotionRefusedError):
        result = "stale" if isinstance(error, StaleComparisonError) else "refused"
    else:
        result = "failed" if isinstance(error, Exception) else "interrupted"
    return result, f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
