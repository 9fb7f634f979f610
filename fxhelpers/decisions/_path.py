"""Every decision's course: its intent, the one path to Production, its outcome; and the end of those that were interrupted."""

import json
import logging
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fxhelpers.decisions._heartbeat import start_heartbeat, stop_heartbeat, was_interrupted
from fxhelpers.decisions._mirror import align, identity_of, mirror, mirror_stages, writing
from fxhelpers.decisions._mirror import finish as finish_pruning
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
from fxhelpers.ledger import AGAINST, ALIAS_FOUND, Decision, Identity, labels, same
from fxhelpers.params import current_record
from fxhelpers.processes import actor, process_identity
from fxhelpers.records import in_unrecorded_notebook, note_decision, record_facts, record_name
from fxhelpers.registry import CHALLENGER, PRUNED, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import LedgerWriter
from fxhelpers.registry.storage import unknown_model

logger = logging.getLogger(__name__)

DECISION_TAG = "fx.decision"
"""Tag of a version: id and result of the last decision about it."""

_LONGEST_REASON = 1000
_OUTSIDE = {"record": None, "status": "taken outside a recorded run"}
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


def run_command(notebook: str, parameters: Mapping[str, Any]) -> str:
    """Return the command that runs a notebook with these parameters; those that are empty are its defaults."""
    given = {name: value for name, value in parameters.items() if value}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return shlex.join(["fx", "run", notebook, *(word for name, text in texts.items() for word in ("-p", name, text))])


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
        facts |= ledger.clock.check(name)
        champion, found = recover_interrupted(registry, name, ledger).alias
        if kind != "registration" and ledger.head is None and not registry.versions(name):
            raise unknown_model(registry, name)  # a ledger, once begun, is there for good
        serves, there = identity_of(champion), identity_of(found)
        if serves != there:
            facts[ALIAS_FOUND] = [there.number, there.bundle] if there else None
        told = {**who, "reason": reason, "approved_by": approved_by, **facts}
        decision = ledger.begin(kind, told, serves)
    note_decision(decision.model_name, decision.run_id)
    start_heartbeat(registry, decision)
    return decision


@contextmanager
def recording_failure(registry: RegistryClient, decision: Decision, facts: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Give a decision that ends in an error its outcome, beside the facts known so far: stale, refused, failed or interrupted."""
    try:
        yield
    except BaseException as error:
        try:
            with writing(registry, decision.model_name) as ledger:
                if ledger.still_open(decision):
                    _conclude(ledger, decision, not_done(ledger, *_result_of(error), facts))
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
    more_to_do: bool = False,
) -> Decision:
    """Do what was decided, under the model's lock: the one path to Production.

    The outcome makes a version champion. MLflow's alias and stages, its
    mirror, are set right after it; stages of other versions before. Where
    there is ``more_to_do``, :func:`seal_outside` is for the caller.
    """
    name = decision.model_name
    if not ledger.still_open(decision):
        msg = (
            f"{decision.id} has its outcome already: it was carried out before, or another decision took it for interrupted; "
            "nothing was changed: decide anew"
        )
        raise LockLostError(msg)
    champion, _ = align(registry, name, ledger)
    before = identity_of(champion)
    after = _next_champion(registry, name, before, move, stages)
    for version, stage in stages.items():
        if version != before:
            registry.set_stage(name, version.number, stage)
    waiting = registry.challenger(name)
    if challenger is not None:
        registry.set_alias(name, CHALLENGER, challenger)
    facts = {**with_bundles(facts, before, after), **_champions(before, after)}
    if more_to_do:
        done = ledger.conclude(decision, facts, moves=after != before)
    else:
        done = _conclude(ledger, decision, facts, moves=after != before)
    if before is not None and after is None:
        logger.warning("%s: its champion was taken out of Production; now there is none", name)
    if before is not None and before in stages:
        registry.set_stage(name, before.number, stages[before])
    if move or (champion and champion.mirror_lags):
        mirror(registry, name, ledger)
    if waiting and challenger is None and (waiting.identity == after or stages.get(waiting.identity) == "Archived"):
        registry.drop_alias(name, CHALLENGER)
    return done


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
    if after is None and before is not None:
        registry.check_may_remove_alias(name)
    if after is not None and after != before:
        there = _check_there(registry, name, [after])
        if there[after.number].tags.get(PRUNED):
            msg = f"the files of {after} of {name} were deleted on purpose; nothing was changed"
            raise VersionNotFoundError(msg)
    return after


def _check_there(registry: RegistryClient, name: str, named_versions: Collection[Identity]) -> dict[int, ModelVersion]:
    """Return the versions that a decision is about, by number; refuse where a number stands for another one by now."""
    if len(named_versions) == 1:
        there = {version.number: registry.version(name, version.number) for version in named_versions}
    else:
        there = {version.version: version for version in registry.versions(name)}
    for version in named_versions:
        now = there.get(version.number)
        if now is None or now.identity != version:
            found = f"by now that number stands for {now.identity.short}" if now else "it is not there any more"
            msg = (
                f"{name}: the decision was made about {version} ({version.short}), but {found}: it was deleted, renamed or "
                "edited in MLflow meanwhile; nothing was changed: decide anew"
            )
            raise VersionReplacedError(msg)
    return there


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was found and ended under the lock.

    Attributes
    ----------
    alias : tuple of (ModelVersion or None, ModelVersion or None)
        The version in Production, which the alias points to now, and the one
        that it was found to point to.
    decisions : list of Decision
        Interrupted ones, as they are now.
    """

    alias: tuple[ModelVersion | None, ModelVersion | None]
    decisions: list[Decision]


def recover_interrupted(registry: RegistryClient, name: str, ledger: LedgerWriter) -> Recovery:
    """Set the alias to what the ledger says, and end the decisions that were interrupted: none of them moved a champion.

    One that was interrupted before its outcome gets one, and each its seal.
    """
    before = [_completed(registry, name, ledger, decision) for decision in ledger.open if decision.run_id in ledger.moving]
    champion, found = align(registry, name, ledger)
    if identity_of(champion) != identity_of(found):
        logger.warning("%s: MLflow's alias pointed elsewhere; it points to what the ledger says again", name)
        mirror_stages(registry, name)
    settled = []
    completed = {decision.run_id: decision for decision in before}
    for decision in (completed.get(decision.run_id, decision) for decision in ledger.open):
        if decision.seal:  # killed after its last entry
            ledger.end(decision)
        elif was_interrupted(registry, decision):
            ended = decision
            if decision.outcome is None:
                serves = identity_of(champion)
                facts = {"result": "interrupted", "reason": "Interrupted; the champion was not moved."}
                ended = ledger.conclude(decision, {**with_bundles(facts, serves), **_champions(serves, serves)})
            finish_pruning(registry, ended)
            about = record_facts(registry.params.paths.records, decision.record)
            settled.append(ledger.seal(ended, {**about, "status": "interrupted", "late": True}))
            logger.warning("%s was interrupted, and is ended now: %s", decision.id, ended.result)
    if settled and champion:
        mirror_stages(registry, name)
    return Recovery(alias=(champion, found), decisions=settled)


def _completed(registry: RegistryClient, name: str, ledger: LedgerWriter, decision: Decision) -> Decision:
    """Give a decision of an earlier release that was killed after it set the alias, which decided then, its outcome."""
    told, alias = ledger.moving[decision.run_id], registry.champion_identity(name)
    named_versions = Identity.of(told["to"], told.get("facts", {}).get("bundles", {})) if told.get("to") else None
    now = ledger.champion
    others = (now.number if now else None) != told.get("from")
    if others or not same(named_versions, alias) or not was_interrupted(registry, decision):
        return decision
    rests_on = told.get("facts", {})
    against = f"{AGAINST} ({rests_on.get('verdict')}). " if rests_on.get("rests_on") == "override" else ""
    facts = {
        **with_bundles(rests_on, now, alias),
        **_champions(now, alias),
        "result": _DONE.get(decision.kind, "moved"),
        "reason": f"{against}Interrupted after the champion was moved, and completed later.",
        "interrupted": True,
        "moved": told.get("time"),
    }
    return ledger.conclude(decision, facts)


def recover_interrupted_now(registry: RegistryClient, name: str) -> Recovery:
    """Take the lock of a model in order to :func:`settle` it."""
    with writing(registry, name) as ledger:
        return recover_interrupted(registry, name, ledger)


def not_done(ledger: LedgerWriter, result: str, reason: str, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the outcome of a decision that did not come to its end: nobody was made champion."""
    now = ledger.champion
    return {**with_bundles(facts or {}, now), "result": result, "reason": reason, **_champions(now, now)}


def check_by_hand(registry: RegistryClient, symbol: str) -> None:
    """Raise :class:`PromotionRefusedError` where Production asks for an approval: a stage set by hand has none."""
    if registry.params.promotion.approval.Production.required:
        msg = (
            "promotion.approval.Production.required is true in params.yaml: Production is reached by a promotion with "
            f"approved_by and reason (fx run promote -p symbol {symbol} -p apply true -p approved_by NAME -p reason TEXT), not "
            "by hand; nothing was changed"
        )
        raise PromotionRefusedError(msg)


def note_on_version(registry: RegistryClient, decision: Decision) -> bool:
    """Tag the version that a decision is about with its id and result; where that cannot be done, it is a warning."""
    if decision.version is None:
        return True
    how = ", ".join(filter(None, (decision.kind, decision.mark)))
    note = f"{decision.result} ({how}), {decision.time[:16].replace('T', ' ')}; {decision.id}"
    try:
        registry.annotate(decision.model_name, decision.version, tags={DECISION_TAG: note})
    except RegistryError as error:
        logger.warning("version %d is not tagged with %s: %s (fx verify --repair does it)", decision.version, decision.id, error)
        return False
    return True


def _conclude(ledger: LedgerWriter, decision: Decision, facts: dict[str, Any], *, moves: bool = False) -> Decision:
    """Write the outcome; a decision outside a recorded run gets its seal at once, which says that there is no record."""
    if decision.record:
        return ledger.conclude(decision, facts, moves=moves)
    stop_heartbeat(decision)
    return ledger.conclude(decision, facts, moves=moves, seal=_OUTSIDE)


def seal_outside(registry: RegistryClient, decision: Decision) -> Decision:
    """Seal a decision once all that it decides is done, if it was taken outside a recorded run."""
    if decision.record:
        return decision
    with writing(registry, decision.model_name) as ledger:
        stop_heartbeat(decision)
        return ledger.seal_decided(decision, _OUTSIDE)


def _result_of(error: BaseException) -> tuple[str, str]:
    if isinstance(error, StaleComparisonError | PromotionRefusedError):
        result = "stale" if isinstance(error, StaleComparisonError) else "refused"
    else:
        result = "failed" if isinstance(error, Exception) else "interrupted"
    return result, f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
