"""What belongs to decisions that were taken, and could not be made then: copies of records, tags of versions."""

from collections.abc import Iterator

from fxhelpers.files import sha256
from fxhelpers.ledger import Decision, Ledger
from fxhelpers.promotion.deciding import DECISION_TAG, note_on_version
from fxhelpers.promotion.sealing import NOT_COPIED, RECORD_FOLDER, RECORD_TAG, copy_record, note_record
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import fetch

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
