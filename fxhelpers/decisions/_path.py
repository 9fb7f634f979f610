"""The one path to Production: a decision's intent, what it does under the lock, its outcome, and the end of interrupted ones."""

import json
import logging
import shlex
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from fxhelpers.decisions._mirror import align, identity_of, mirror, mirror_stages, writing_mirrored
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
from fxhelpers.ledger import AGAINST, Decision, Identity, IntentFacts, OutcomeFacts, SealFacts, labels, same
from fxhelpers.params import current_record, current_runner
from fxhelpers.records import in_unrecorded_notebook, note_decision, record_facts, record_name
from fxhelpers.registry import CHALLENGER, LOOK_UP, PRUNED, ModelVersion, RegistryClient, lock
from fxhelpers.registry.ledger_store import LedgerWriter, write_heartbeat
from fxhelpers.registry.storage import unknown_model
from fxhelpers.system import actor, has_ended, process_identity

logger = logging.getLogger(__name__)

DECISION_TAG = "fx.decision"  # tag of a version: id and result of the last decision about it

_LONGEST_REASON = 1000
_UNRECORDED = SealFacts(record=None, status="taken outside a recorded run")
_DONE = {"promotion": "promoted", "rollback": "rolled back", "registration": "registered"}
_HEARTBEAT_SECONDS = 30.0
_OPEN: dict[str, threading.Event] = {}  # decisions of this process that are not sealed yet, by run


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of champion, from the one that it was compared with; ``by_hand`` from any. None is no version."""

    to: Identity | None
    compared_with: Identity | None = None
    by_hand: bool = False


def refuse_unrecorded(command: str) -> None:
    """Raise :class:`NoRecordError`, with the command to type, in a notebook of which no record is kept."""
    if in_unrecorded_notebook():
        msg = f"nothing was changed: no record of this notebook is being kept. Type in a terminal: {command}"
        raise NoRecordError(msg)


def run_command(notebook: str, parameters: Mapping[str, Any]) -> str:
    """Return the command that runs a notebook with these parameters, without the empty ones."""
    given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items() if value}
    return shlex.join(["fx", "run", notebook, *(part for name, text in given.items() for part in ("-p", name, text))])


def begin(registry: RegistryClient, name: str, facts: IntentFacts) -> Decision:
    """Write the intent of a decision, after interrupted decisions have been ended."""
    reasons = {"reason": facts.reason or "", "approved_by": facts.approved_by or ""}
    for key, text in reasons.items():
        if len(text) > _LONGEST_REASON or not text.replace("\n", "").isprintable():
            msg = f"{key}: at most {_LONGEST_REASON} printable characters are kept, found {len(text)}; nothing was changed"
            raise ParamsError(msg)
    record = current_record()
    who = {
        "actor": actor(),
        # the kernel of a recorded run ends before its record does: what runs it keeps that, if it is not dead already
        "process": process_identity(current_runner() if record else None),
        "record": record_name(record) if record else None,
    }
    with writing_mirrored(registry, name) as ledger:
        facts = facts.model_copy(update={**who, **reasons, **ledger.clock.check(name)})
        champion, pointed_to, _ = _recover_interrupted(registry, name, ledger)
        if facts.kind not in {"registration", "forecast"} and ledger.head is None and not registry.versions(name):
            raise unknown_model(registry, name)  # a ledger, once begun, is there for good
        serves, alias = identity_of(champion), identity_of(pointed_to)
        if serves != alias:
            facts.alias_found = alias
        decision = ledger.begin(facts, serves)
    note_decision(decision.model_name, decision.run_id)
    _start_heartbeat(registry, decision)
    return decision


@contextmanager
def recording_failure(registry: RegistryClient, decision: Decision, facts: OutcomeFacts | None = None) -> Iterator[None]:
    """Write the outcome of a decision that ends in an error, with the facts known so far: stale, refused, failed, interrupted."""
    try:
        yield
    except BaseException as error:
        try:
            with writing_mirrored(registry, decision.model_name) as ledger:
                if ledger.still_open(decision):
                    _conclude(ledger, decision, not_done(ledger, *_result_of(error), facts))
        except FxError as second:
            logger.warning("%s: its outcome could not be written: %s", decision.id, second)
        raise


def act(
    registry: RegistryClient,
    decision: Decision,
    *,
    facts: OutcomeFacts,
    move: Move | None = None,
    stages: Mapping[Identity, str] = MappingProxyType({}),
) -> Decision:
    """Take the model's lock, do what was decided, and tag the version with it."""
    with writing_mirrored(registry, decision.model_name) as ledger:
        if stages:
            _check_unchanged(registry, decision.model_name, stages)
        done = act_under(ledger, registry, decision, facts=facts, move=move, stages=stages)
    note_on_version(registry, done)
    return done


def act_under(
    ledger: LedgerWriter,
    registry: RegistryClient,
    decision: Decision,
    *,
    facts: OutcomeFacts,
    move: Move | None = None,
    stages: Mapping[Identity, str] = MappingProxyType({}),
    challenger: int | None = None,
    more_to_do: bool = False,
) -> Decision:
    """Do what was decided, under the model's lock: the one path to Production.

    The outcome makes a version champion. MLflow's alias and stages, its mirror, are set right after it; stages of other versions
    before. If there is ``more_to_do``, the caller calls :func:`seal_unrecorded` afterwards.
    """
    name = decision.model_name
    _check_open(ledger, decision)
    champion, _ = align(registry, name, ledger)
    before = identity_of(champion)
    after = _next_champion(registry, name, before, move, stages)
    for version, stage in stages.items():
        if version != before:
            registry.set_stage(name, version.number, stage)
    waiting = registry.challenger(name) if challenger is None else None
    if challenger is not None:
        registry.set_alias(name, CHALLENGER, challenger)
    facts = facts.with_champions(before, after)
    if more_to_do:
        done = ledger.conclude(decision, facts, moves=after != before)
    else:
        done = _conclude(ledger, decision, facts, moves=after != before)
    if before is not None and after is None:
        logger.warning("%s: its champion was taken out of Production; now no version serves", name)
    if before is not None and before in stages:
        registry.set_stage(name, before.number, stages[before])
    if move or (champion and champion.mirror_lags):
        mirror(registry, name, ledger)
    if waiting and (waiting.identity == after or stages.get(waiting.identity) == "Archived"):
        registry.drop_alias(name, CHALLENGER)
    return done


def _check_open(ledger: LedgerWriter, decision: Decision) -> None:
    if not ledger.still_open(decision):
        msg = (
            f"{decision.id} has its outcome already: it was carried out before, or another decision ended it as interrupted; "
            "nothing was changed: decide again"
        )
        raise LockLostError(msg)


def _next_champion(
    registry: RegistryClient, name: str, before: Identity | None, move: Move | None, stages: Mapping[Identity, str]
) -> Identity | None:
    """Return the champion after a decision; refuse if the champion or the version changed since the decision was made."""
    after = move.to if move else before
    if move and not move.by_hand and before not in {move.compared_with, after}:
        texts = labels(version for version in (move.compared_with, before) if version)
        against, now = (texts[version] if version else "no version" for version in (move.compared_with, before))
        msg = (
            f"{name}: the decision was made against {against}, but the champion is {now} now; nothing was changed: compare again"
        )
        raise StaleComparisonError(msg)
    if after is not None and after in stages:
        msg = f"{name}: {after} became the champion, and was to leave Production; nothing was changed: decide again"
        raise StaleComparisonError(msg)
    if after is None and before is not None:
        registry.check_may_remove_alias(name)
    if after is not None and after != before:
        current = _check_unchanged(registry, name, [after], champion=before.number if before else None)
        if current[after.number].tags.get(PRUNED):
            msg = f"the files of {after} of {name} were deleted on purpose; nothing was changed"
            raise VersionNotFoundError(msg)
    return after


def _check_unchanged(
    registry: RegistryClient, name: str, versions: Collection[Identity], *, champion: int | None = LOOK_UP
) -> dict[int, ModelVersion]:
    """Return the versions that a decision is about, by number; refuse if a number belongs to another version now."""
    if len(versions) == 1:
        current = {version.number: registry.version(name, version.number, champion=champion) for version in versions}
    else:
        current = {version.version: version for version in registry.versions(name)}
    for version in versions:
        now = current.get(version.number)
        if now is None or now.identity != version:
            found = f"that number belongs to {now.identity.short} now" if now else "it no longer exists"
            msg = (
                f"{name}: the decision was made about {version} ({version.short}), but {found}: it was deleted, renamed or "
                "edited in MLflow; nothing was changed: decide again"
            )
            raise VersionReplacedError(msg)
    return current


def _recover_interrupted(
    registry: RegistryClient, name: str, ledger: LedgerWriter
) -> tuple[ModelVersion | None, ModelVersion | None, list[Decision]]:
    """Set the alias to the ledger's champion, and write what interrupted decisions lack: none of them moved a champion.

    Returns the champion, the version that the alias pointed to before, and the decisions that were ended.
    """
    before = [_completed(registry, name, ledger, decision) for decision in ledger.open if decision.run_id in ledger.moving]
    champion, alias = align(registry, name, ledger)
    if identity_of(champion) != identity_of(alias):
        logger.warning("%s: MLflow's alias was wrong; it points to the ledger's champion again", name)
        mirror_stages(registry, name)
    ended = []
    completed = {decision.run_id: decision for decision in before}
    for decision in (completed.get(decision.run_id, decision) for decision in ledger.open):
        if decision.seal:  # killed after its last entry
            ledger.end(decision)
        elif was_interrupted(registry, decision):
            done = decision
            if decision.outcome is None:
                facts = OutcomeFacts(result="interrupted", reason="Interrupted; the champion was not moved.")
                done = ledger.conclude(decision, facts.with_champions(identity_of(champion), identity_of(champion)))
            finish_pruning(registry, done)
            seal = record_facts(registry.params.paths.records, decision.record)
            ended.append(ledger.seal(done, seal.model_copy(update={"status": "interrupted", "late": True})))
            logger.warning("%s was interrupted, and has been ended: %s", decision.id, done.result)
    if ended and champion:
        mirror_stages(registry, name)
    return champion, alias, ended


def _completed(registry: RegistryClient, name: str, ledger: LedgerWriter, decision: Decision) -> Decision:
    """Write the outcome of a decision of an earlier release that was killed after it set the alias, which decided then."""
    moving, alias, now = ledger.moving[decision.run_id], registry.champion_identity(name), ledger.champion
    facts = moving.outcome()
    to = Identity.of(moving.to, facts.bundles) if moving.to else None
    others = (now.number if now else None) != moving.from_
    if others or not same(to, alias) or not was_interrupted(registry, decision):
        return decision
    against = f"{AGAINST} ({facts.verdict}). " if facts.rests_on == "override" else ""
    done = facts.with_champions(now, alias)
    done.result = _DONE.get(decision.kind, "moved")
    done.reason = f"{against}Interrupted after the champion was moved, and completed later."
    done.interrupted, done.moved = True, moving.time
    return ledger.conclude(decision, done)


def recover_interrupted(registry: RegistryClient, name: str) -> list[Decision]:
    """Set the alias of a model to the ledger's champion, end its interrupted decisions, and return these."""
    with writing_mirrored(registry, name) as ledger:
        return _recover_interrupted(registry, name, ledger)[2]


def was_interrupted(registry: RegistryClient, decision: Decision) -> bool:
    """Return whether an unfinished decision has stopped: its process has ended, or has shown no heartbeat for long.

    On another machine, long is twice the expiry of a lock; on this one, if the process is known to live, 20 times. The
    registry's clock counts, if it has one.
    """
    ended = has_ended(decision.intent.facts.process)
    if ended:
        return True
    unseen = (_now(registry) - datetime.fromisoformat(decision.last_seen)).total_seconds()
    return unseen > (2 if ended is None else 20) * lock.EXPIRY_SECONDS


def _now(registry: RegistryClient) -> datetime:
    return registry.server_time() or datetime.now(UTC)


def _start_heartbeat(registry: RegistryClient, decision: Decision) -> None:
    """Show that a decision is at work, until it is sealed or this process ends."""
    over = _OPEN[decision.run_id] = threading.Event()

    def show() -> None:
        while not over.wait(_HEARTBEAT_SECONDS):
            try:
                write_heartbeat(registry, decision, _now(registry).isoformat(timespec="milliseconds"))
            except FxError as error:  # the next one may get through
                logger.debug("%s: %s", decision.id, error)

    threading.Thread(target=show, daemon=True, name=f"fx-heartbeat-{decision.id}").start()


def stop_heartbeat(decision: Decision) -> None:
    over = _OPEN.pop(decision.run_id, None)
    if over:
        over.set()


def not_done(ledger: LedgerWriter, result: str, reason: str, facts: OutcomeFacts | None = None) -> OutcomeFacts:
    """Return the outcome of a decision that was not carried out: the champion stays."""
    now = ledger.champion
    return (facts or OutcomeFacts()).with_champions(now, now).model_copy(update={"result": result, "reason": reason})


def note_on_version(registry: RegistryClient, decision: Decision) -> bool:
    """Tag the version that a decision is about with its id and result; a failure is logged as a warning."""
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


def _conclude(ledger: LedgerWriter, decision: Decision, facts: OutcomeFacts, *, moves: bool = False) -> Decision:
    """Write the outcome; seal a decision outside a recorded run at once, since there is no record to wait for."""
    if decision.record:
        return ledger.conclude(decision, facts, moves=moves)
    stop_heartbeat(decision)
    return ledger.conclude(decision, facts, moves=moves, seal=_UNRECORDED)


def seal_unrecorded(registry: RegistryClient, decision: Decision) -> Decision:
    """Seal a decision that was taken outside a recorded run, once all that it decides is done."""
    if decision.record:
        return decision
    with writing_mirrored(registry, decision.model_name) as ledger:
        stop_heartbeat(decision)
        return ledger.seal_decided(decision, _UNRECORDED)


def _result_of(error: BaseException) -> tuple[str, str]:
    if isinstance(error, StaleComparisonError | PromotionRefusedError):
        result = "stale" if isinstance(error, StaleComparisonError) else "refused"
    else:
        result = "failed" if isinstance(error, Exception) else "interrupted"
    return result, f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
