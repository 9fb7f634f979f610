"""Sealing: once its record is finished, a decision gets the record's digest, and the record goes to the registry too."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fxhelpers.decisions._heartbeat import stop_heartbeat
from fxhelpers.decisions._path import not_done
from fxhelpers.errors import RegistryError
from fxhelpers.ledger import Decision
from fxhelpers.params import current_journal, current_record, load_params
from fxhelpers.records import decisions_in, record_facts, record_name, report_path
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import attach, writing
from fxhelpers.reports import add_decision

RECORD_TAG, RECORD_DIGEST_TAG = "fx.record", "fx.record_sha256"
"""Tags of a version: the record of the last decision about it, and its SHA-256."""

RECORD_FOLDER = "record"
"""Folder of a decision's run that holds a copy of the record."""

NOT_COPIED = "not_copied"
"""What a seal says where the copy could not be stored."""

logger = logging.getLogger(__name__)


def seal_record(
    registry: RegistryClient, decisions: Iterable[tuple[str, str]], record: Path, *, status: str, error: str | None
) -> None:
    """Seal the decisions that a run took with its record; one that the run left open ends with it.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    decisions : iterable of (str, str)
        Registered models and run ids, as the run noted them.
    record : Path
        The finished record.
    status : str
        How the run ended: completed, failed or interrupted.
    error : str or None
        What ended it.
    """
    facts = {**record_facts(record.parent.parent, record_name(record)), "status": status}
    for name, run_id in decisions:
        copied = {} if copy_record(registry, name, run_id, record) else {NOT_COPIED: True}
        sealed = _seal(registry, name, run_id, {**facts, **copied}, why=error or "The run ended without an outcome.")
        if sealed:
            note_record(registry, sealed)
            add_decision(record.parent.parent, sealed)


def copy_record(registry: RegistryClient, name: str, run_id: str, record: Path) -> bool:
    """Store a copy of the record and of its report with a decision's run; where that cannot be done, it is a warning."""
    try:
        for file in (record, report_path(record)):
            if file.is_file():
                attach(registry, name, run_id, file, RECORD_FOLDER)
    except (RegistryError, OSError) as error:
        logger.warning("%s is not copied to the registry: %s (fx verify --repair does it)", record.name, error)
        return False
    return True


def note_record(registry: RegistryClient, decision: Decision) -> bool:
    """Tag the version that a decision is about with its record; where that cannot be done, it is a warning."""
    if decision.version is None or decision.seal is None:
        return True
    facts = decision.seal.facts
    tags = {RECORD_TAG: str(facts["record"]), RECORD_DIGEST_TAG: str(facts.get("sha256"))}
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


def _seal(registry: RegistryClient, name: str, run_id: str, facts: dict[str, Any], *, why: str) -> Decision | None:
    """Write the seal, and the outcome where there is none; None where another process ended this decision already."""
    with writing(registry, name) as ledger:
        decision = next((d for d in ledger.open if d.run_id == run_id and d.seal is None), None)
        if decision is None:
            return None
        if decision.outcome is None:
            result = "interrupted" if facts["status"] == "interrupted" else "failed"
            decision = ledger.conclude(decision, not_done(ledger, result, why[:1000]))
        stop_heartbeat(decision)
        return ledger.seal_decided(decision, facts)
