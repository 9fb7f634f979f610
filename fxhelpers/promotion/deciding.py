"""Every decision's course: its intent, the one path to Production, its outcome; and the end of those that were interrupted."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping
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
    VersionReplacedError,
)
from fxhelpers.ledger import AGAINST, Decision, Identity, labels, named
from fxhelpers.params import current_record
from fxhelpers.processes import actor, has_ended, process_identity
from fxhelpers.records import in_unrecorded_notebook, note_decision, record_facts, record_name
from fxhelpers.registry import PRUNED, ModelVersion, RegistryClient
from fxhelpers.registry.client import CHALLENGER, CHAMPION
from fxhelpers.registry.ledgers import LedgerWriter, OpenDecision, read_ledger, writing
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
    to : Identity or None
        The new one; None: there shall be none.
    compared_with : Identity or None
        The champion that the decision was made against.
    by_hand : bool
        Made against none: whoever is champion, it is moved.
    """

    to: Identity | None
    compared_with: Identity | None = None
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
                    _conclude(ledger, decision, ending(registry, still, *_result_of(error), facts))
        except FxError as second:
            logger.warning("%s: its outcome could not be written: %s", decision.id, second)
        raise


def act(
    registry: RegistryClient,
    decision: Decision,
    *,
    facts: dict[str, Any],
    move: Move | None = None,
    stages: Mapping[Identity, str] = MappingProxyType({}),
) -> Decision:
    """Take the model's lock, do what was decided, and note it on the version."""
    with writing(registry, decision.model_name) as ledger:
        if stages:
            _check_there(registry, decision.model_name, stages)
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
    stages: Mapping[Identity, str] = MappingProxyType({}),
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
    before = champion.identity if champion else None
    after = _next_champion(registry, name, before, move, stages)
    facts = {**with_bundles(facts, before, after), **_champions(before, after)}
    if after != before:
        facts["moved"] = ledger.announce(decision, facts["from"], facts["to"], facts)
        ledger.lock.confirm()
        _point(registry, name, facts["to"])
    for version, stage in stages.items():
        registry.set_stage(name, version.number, stage)
    if move or (champion and champion.mirror_lags):
        mirror_champion(registry, name)
    waiting = registry.challenger(name)
    if waiting and (waiting.identity == after or stages.get(waiting.identity) == "Archived"):
        registry.drop_alias(name, CHALLENGER)
    if challenger is not None:
        registry.set_alias(name, CHALLENGER, challenger)
    return _conclude(ledger, decision, facts)


def with_bundles(facts: Mapping[str, Any], *versions: Identity | None) -> dict[str, Any]:
    """Return facts that also tell which bundles the versions are: a number alone tells no version from another."""
    bundles = {str(v.number): v.bundle or None for v in versions if v}
    return {**facts, "bundles": {**facts.get("bundles", {}), **bundles}} if bundles else dict(facts)


def _champions(before: Identity | None, after: Identity | None) -> dict[str, int | None]:
    return {"from": before.number if before else None, "to": after.number if after else None}


def _next_champion(
    registry: RegistryClient, name: str, before: Identity | None, move: Move | None, stages: Mapping[Identity, str]
) -> Identity | None:
    """Return who is champion after a decision; refuse where champion or version are not any more as it was made on."""
    after = move.to if move else before
    if move and not move.by_hand and before not in {move.compared_with, after}:
        known = labels(version for version in (move.compared_with, before) if version)
        against, now = (known[version] if version else "no version" for version in (move.compared_with, before))
        msg = (
            f"{name}: the decision was made against {against}, but the champion is {now} by now; "
            "nothing was changed: compare again"
        )
        raise StaleComparisonError(msg)
    if after is not None and after in stages:
        msg = f"{name}: {after} is the champion by now, and was to leave Production; nothing was changed: decide anew"
        raise StaleComparisonError(msg)
    if after is not None and after != before:
        there = _check_there(registry, name, [after])
        if PRUNED in there[after.number].tags:
            msg = f"the files of {after} of {name} were deleted on purpose; nothing was changed"
            raise VersionNotFoundError(msg)
    return after


def _check_there(registry: RegistryClient, name: str, meant: Collection[Identity]) -> dict[int, ModelVersion]:
    """Return the versions that a decision is about, by number; refuse where a number stands for another one by now."""
    if len(meant) == 1:
        there = {version.number: registry.version(name, version.number) for version in meant}
    else:
        there = {version.version: version for version in registry.versions(name)}
    for version in meant:
        now = there.get(version.number)
        if now is None or now.identity != version:
            found = f"by now that number stands for {now.identity.short}" if now else "it is not there any more"
            msg = (
                f"{name}: the decision was made about {version} ({version.short}), but {found}: it was deleted, renamed or "
                "edited in MLflow meanwhile; nothing was changed: decide anew"
            )
            raise VersionReplacedError(msg)
    return there


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


def ending(
    registry: RegistryClient, still: OpenDecision, result: str, reason: str, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the outcome of a decision that did not come to its end; the alias tells whether the champion was moved."""
    now, moving = registry.champion_identity(still.decision.model_name), still.moving
    if moving is not None and _has_moved(registry, still, now):
        done = _DONE.get(still.decision.kind, "moved")
        told = {"from": moving["from"], "to": moving["to"], "moved": moving["time"], "interrupted": True}
        reason = "Interrupted after the champion was moved, and completed later."
        rests_on = moving.get("facts", {})
        if rests_on.get("rests_on") == "override":
            reason = f"{AGAINST} ({rests_on.get('verdict')}). {reason}"
        return {**with_bundles({**(facts or {}), **rests_on}, now), "result": done, "reason": reason, **told}
    return {**with_bundles(facts or {}, now), "result": result, "reason": reason, **_champions(now, now)}


def _has_moved(registry: RegistryClient, still: OpenDecision, now: Identity | None) -> bool:
    """Tell whether the champion is the one that an interrupted decision was about to make."""
    moving = still.moving or {}
    if now is None or moving["to"] is None:
        return now is None and moving["to"] is None
    meant = Identity.of(moving["to"], moving.get("facts", {}).get("bundles", {}))
    if meant.bundle is None:  # announced by an earlier release
        known = read_ledger(registry, still.decision.model_name).meant()[still.decision.id]
        meant = known.by_number.get(meant.number, meant)
    return meant.may_be(now)


def mirror_champion(registry: RegistryClient, name: str) -> None:
    """Let MLflow's stages say what the alias says: the champion is in Production, and nobody else."""
    versions = registry.versions(name)
    lagging = [version for version in versions if version.mirror_lags]
    for version in sorted(lagging, key=lambda v: v.stage != "Production"):
        registry.set_stage(name, version.version, "Production" if version.stage == "Production" else retired(registry))


def retired(registry: RegistryClient) -> str:
    """Return the stage of a version that was champion."""
    return "Archived" if registry.params.model_registry.auto_archive else "Staging"


def check_by_hand(registry: RegistryClient, symbol: str) -> None:
    """Raise :class:`PromotionRefusedError` where Production asks for an approval: a stage set by hand has none."""
    if registry.params.promotion.approval.Production.required:
        msg = (
            "promotion.approval.Production.required is true in params.yaml: Production is reached by a promotion with "
            f"approved_by and reason (fx run promote -p symbol {symbol} -p apply true -p approved_by NAME -p reason TEXT), not "
            "by hand; nothing was changed"
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
