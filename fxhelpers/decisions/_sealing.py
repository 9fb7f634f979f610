"""What seals a decision: the files that it rests on, its record, and the copies of both in the registry."""

import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fxhelpers.decisions._path import not_done, stop_heartbeat
from fxhelpers.errors import RegistryError
from fxhelpers.ledger import Decision, SealFacts
from fxhelpers.params import current_journal, current_record, load_params
from fxhelpers.records import decisions_in, record_facts, record_name, report_path
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import FORECASTS, attach, writing
from fxhelpers.reports import add_decision
from fxhelpers.system import sha256

logger = logging.getLogger(__name__)

EVIDENCE, RECORD_FOLDER = "evidence", "record"  # folders of a decision's run: what it rests on, and a copy of the record

FRAME, COMPARISON = "frame.csv", "comparison.json"  # daily forecasts; measures, tests, gates and the policy itself

RECORD_TAG, RECORD_DIGEST_TAG = "fx.record", "fx.record_sha256"
"""Tags of a version: the record of the last decision about it, and its SHA-256."""


def store_evidence(registry: RegistryClient, decision: Decision, files: Mapping[str, bytes]) -> dict[str, str]:
    """Store what a decision rests on with its run; return the SHA-256 of each file."""
    with tempfile.TemporaryDirectory(prefix="fx-evidence-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        attach(registry, decision.model_name, decision.run_id, Path(folder), EVIDENCE)
    return {name: sha256(content) for name, content in files.items()}


def seal_record(
    registry: RegistryClient, decisions: Iterable[tuple[str, str]], record: Path, *, status: str, error: str | None
) -> None:
    """Seal the decisions of a run, by registered model and run id, with its record; those without an outcome get one.

    ``status`` is completed, failed or interrupted, ``error`` what ended the run.
    """
    facts = record_facts(record.parent.parent, record_name(record))
    facts.status = status
    for name, run_id in decisions:
        seal = facts.model_copy(update={} if copy_record(registry, name, run_id, record) else {"not_copied": True})
        sealed = _seal(registry, name, run_id, seal, why=error or "The run ended without an outcome.")
        if sealed and name != FORECASTS:
            note_record(registry, sealed)
            add_decision(record.parent.parent, sealed)


def copy_record(registry: RegistryClient, name: str, run_id: str, record: Path) -> bool:
    """Store a copy of the record and of its report with a decision's run; a failure is logged as a warning."""
    try:
        for file in (record, report_path(record)):
            if file.is_file():
                attach(registry, name, run_id, file, RECORD_FOLDER)
    except (RegistryError, OSError) as error:
        logger.warning("%s is not copied to the registry: %s (fx verify --repair does it)", record.name, error)
        return False
    return True


def note_record(registry: RegistryClient, decision: Decision) -> bool:
    """Tag the version that a decision is about with its record; a failure is logged as a warning."""
    if decision.version is None or decision.seal is None:
        return True
    tags = {RECORD_TAG: str(decision.seal_facts.record), RECORD_DIGEST_TAG: str(decision.seal_facts.sha256)}
    try:
        if registry.version(decision.model_name, decision.version).identity.may_be(decision.identity(decision.version)):
            registry.annotate(decision.model_name, decision.version, tags=tags)
    except RegistryError as error:
        logger.warning("version %d is not tagged with its record: %s (fx verify --repair does it)", decision.version, error)
        return False
    return True


def seal_run(status: str, error: str | None) -> None:
    """Seal the decisions of the recorded run that this kernel belongs to."""
    record, journal = current_record(), current_journal()
    if record and journal:
        seal_record(RegistryClient(load_params()), decisions_in(journal), record, status=status, error=error)


def _seal(registry: RegistryClient, name: str, run_id: str, facts: SealFacts, *, why: str) -> Decision | None:
    """Write the seal, and the outcome if there is none; None if another process ended this decision already."""
    with writing(registry, name) as ledger:
        decision = next((d for d in ledger.open if d.run_id == run_id and d.seal is None), None)
        if decision is None:
            return None
        if decision.outcome is None:
            result = "interrupted" if facts.status == "interrupted" else "failed"
            decision = ledger.conclude(decision, not_done(ledger, result, why[:1000]))
        stop_heartbeat(decision)
        return ledger.seal_decided(decision, facts)
