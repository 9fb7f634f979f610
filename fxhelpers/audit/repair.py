"""Safe repairs: stages, a missing alias, interrupted decisions, what was left for later."""

from collections.abc import Iterator

from fxhelpers.decisions import (
    DECISION_TAG,
    NOT_COPIED,
    RECORD_FOLDER,
    RECORD_TAG,
    Move,
    act,
    begin,
    copy_record,
    note_on_version,
    note_record,
    recording_failure,
    recover_interrupted_now,
    refuse_unrecorded,
    retired,
    serving,
)
from fxhelpers.files import sha256
from fxhelpers.ledger import Decision, Identity, Ledger, same
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.registry import BUNDLE_DIGEST, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import fetch, read_ledger, reopen
from fxhelpers.registry.lock import sweep

_NOT_NOTED = ("stale", "refused", "failed", "interrupted")


def make_later(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[str]:
    """Make what is missing, as far as that can be done now, and yield what was made."""
    for decision in ledger.decisions:
        if _lacks_copy(registry, decision) and _copied(registry, decision):
            yield f"stored a copy of the record {decision.record}"
    for version in versions:
        about = [d for d in ledger.outcomes if d.version == version.version]
        about = [d for d in about if d.identity(version.version).may_be(version.identity)]
        noted = next((d for d in reversed(about) if d.result not in _NOT_NOTED), None)
        if noted and not version.tags.get(DECISION_TAG, "").endswith(noted.id) and note_on_version(registry, noted):
            yield f"tagged version {version.version} with {noted.id}"
        sealed = next(
            (d for d in reversed(about) if d.seal and d.seal.facts.get("sha256") and not d.seal.facts.get("late")), None
        )
        if sealed and version.tags.get(RECORD_TAG) != sealed.record and note_record(registry, sealed):
            yield f"tagged version {version.version} with its record {sealed.record}"


def _lacks_copy(registry: RegistryClient, decision: Decision) -> bool:
    if not decision.seal or not decision.record or not decision.seal.facts.get(NOT_COPIED):
        return False
    return fetch(registry, decision, f"{RECORD_FOLDER}/{decision.record.rpartition('/')[2]}") is None


def _copied(registry: RegistryClient, decision: Decision) -> bool:
    """Copy the record, if it is the sealed one."""
    record = registry.params.paths.records / str(decision.record)
    whole = decision.seal and record.is_file() and sha256(record.read_bytes()) == decision.seal.facts.get("sha256")
    return bool(whole and copy_record(registry, decision.model_name, decision.run_id, record))


def repair(registry: RegistryClient, name: str) -> list[str]:
    """Mend what is safe to mend, record it as a decision, and say what was mended.

    MLflow's alias and stages are set to what the ledger says, interrupted
    decisions are ended, a second version of a bundle goes that a registration
    made which was held up, and copies of records and tags are stored that
    could not be. Nothing that was edited, deleted or made anew is touched.
    """
    refuse_unrecorded(f"fx verify {name.removeprefix(MODEL_PREFIX)} --repair")
    ledger, ended = read_ledger(registry, name), []
    for decision in (d for d in ledger.decisions if d.seal is None):
        reopen(registry, decision)
    if any(d.outcome is None and not d.intent.tells_serving for d in ledger.decisions):
        ended = recover_interrupted_now(registry, name).decisions  # in earlier releases the alias moved first, and decided
        ledger = read_ledger(registry, name)
    versions, champion = registry.versions(name), serving(registry, name)
    serves = champion.identity if champion else None
    found = registry.champion_identity(name)
    off = [v for v in versions if v.mirror != "Production" and v.identity == serves]
    off += [v for v in versions if v.mirror == "Production" and v.identity != serves]
    copies = second_copies(ledger, versions, serves)
    message = [] if same(serves, found) else [f"set the alias champion to {serves or 'no version'} again"]
    message += [f"set MLflow's stage of {v.identity} to what the alias says" for v in off]
    message += [f"deleted {v.identity}, a second one of the same bundle" for v in copies]
    if message:
        decision = begin(registry, name, "repair", version=serves.number if serves else None, reason="fx verify --repair")
        with recording_failure(registry, decision):
            for version in copies:
                registry.delete_version(name, version.version)
            stages = {v.identity: retired(registry) for v in off if v.identity != serves}
            facts = {"result": "repaired", "reason": "; ".join(message)[:1000]}
            act(registry, decision, facts=facts, move=Move(to=serves, compared_with=serves), stages=stages)
    elif ledger.decisions:
        ended += recover_interrupted_now(registry, name).decisions
    sweep(registry, name)
    told = [f"ended {d.id}: {d.result}" for d in ended]
    return [*told, *message, *make_later(registry, read_ledger(registry, name), registry.versions(name))]


def second_copies(ledger: Ledger, versions: list[ModelVersion], serves: Identity | None) -> list[ModelVersion]:
    """Return the versions whose bundle another version is too, and that no registration knows: they came too late."""
    known = {decision.identity(number) for number, decisions in ledger.registrations.items() for decision in decisions}
    oldest: dict[str, ModelVersion] = {}
    for version in sorted(versions, key=lambda v: (v.identity not in known, v.version)):
        oldest.setdefault(version.tags.get(BUNDLE_DIGEST, ""), version)
    kept = {version.version for version in oldest.values()}
    return [
        version
        for version in versions
        if version.tags.get(BUNDLE_DIGEST) and version.version not in kept and version.identity not in known | {serves}
    ]
