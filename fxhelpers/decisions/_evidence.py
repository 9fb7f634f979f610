"""What proves a decision, stored with its run: the forecasts that it was made on, and the record that its seal names."""

import json
import logging
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fxhelpers.comparison import EvaluationFrame
from fxhelpers.decisions._path import not_done, stop_heartbeat
from fxhelpers.errors import RegistryError
from fxhelpers.ledger import Decision, Ledger, SealFacts, WindowFacts
from fxhelpers.params import current_journal, current_record, load_params
from fxhelpers.records import decisions_in, record_facts, record_name, report_path
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import attach, fetch, writing
from fxhelpers.reports import add_decision
from fxhelpers.system import sha256

EVIDENCE, RECORD_FOLDER = "evidence", "record"  # folders of a decision's run: what it rests on, and a copy of the record

FRAME, COMPARISON = "frame.csv", "comparison.json"  # daily forecasts; measures, tests, gates and the policy itself

RECORD_TAG, RECORD_DIGEST_TAG = "fx.record", "fx.record_sha256"
"""Tags of a version: the record of the last decision about it, and its SHA-256."""

logger = logging.getLogger(__name__)


def keep_evidence(registry: RegistryClient, decision: Decision, frame: EvaluationFrame, judged: dict[str, Any]) -> dict[str, str]:
    """Store the daily forecasts and the comparison with the decision's run; return the SHA-256 of each file."""
    files = {FRAME: frame.to_csv().encode(), COMPARISON: json.dumps(judged, indent=1, allow_nan=False).encode()}
    with tempfile.TemporaryDirectory(prefix="fx-evidence-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        attach(registry, decision.model_name, decision.run_id, Path(folder), EVIDENCE)
    return {name: sha256(content) for name, content in files.items()}


def frame_in(files: dict[str, bytes]) -> tuple[EvaluationFrame, dict[str, Any]]:
    """Return the frame and the comparison, from the files that :func:`keep_evidence` wrote."""
    comparison = json.loads(files[COMPARISON])
    challenger, champion = int(comparison["challenger"]), comparison["champion"]
    others = tuple(version for version in comparison["challengers"] if version != challenger)
    frame = EvaluationFrame.from_csv(
        files[FRAME].decode(), symbol=comparison["symbol"], challenger=challenger, champion=champion, others=others
    )
    return frame, comparison


def counts_as(
    registry: RegistryClient, ledger: Ledger, frame: EvaluationFrame, policy_sha256: str, before: Decision | None
) -> str:
    """Return the digest of the frame that a comparison is counted by: that of an earlier equal comparison, or its own.

    Equal comparisons have the same versions (by their bundles), roles, days and policy, and, within the tolerance of a replay,
    the same returns and forecasts. Earlier ones are read from the evidence of their decisions.
    """
    tried = ledger.tried(policy_sha256, before)
    if frame.digest in tried:
        return frame.digest
    named_versions = ledger.named_versions()
    for digest, decision in reversed(tried.items()):
        bundles = {number: str(version.bundle or "") for number, version in named_versions[decision.id].by_number.items()}
        if not _may_be(decision, bundles, frame):
            continue
        stored = _stored(registry, decision, bundles)
        if stored is None:
            text = "%s: the forecasts of %s are gone; this comparison counts as a new attempt, even if it is the same one"
            logger.warning(text, ledger.name, decision.id)
        elif frame.is_same(stored):
            return digest
    return frame.digest


def _may_be(decision: Decision, bundles: dict[int, str], frame: EvaluationFrame) -> bool:
    """Tell whether a decision may be about the same comparison, by its entries alone."""
    known = {frame.bundles.get(number, "") for number in (frame.challenger, *frame.others, frame.champion) if number}
    first, last = (f"{day:%Y-%m-%d}" for day in (frame.days.index[0], frame.days.index[-1]))
    return (
        bundles.get(decision.version or 0) == frame.bundles.get(frame.challenger)
        and known <= set(bundles.values())
        and decision.outcome_facts.window in (None, WindowFacts(first_day=first, last_day=last, days=len(frame.days)))
    )


def _stored(registry: RegistryClient, decision: Decision, bundles: dict[int, str]) -> EvaluationFrame | None:
    """Return the frame that a decision was made on; None if it is gone, or does not have the decision's digest."""
    files = {name: fetch(registry, decision, f"{EVIDENCE}/{name}") for name in (FRAME, COMPARISON)}
    try:
        frame, _ = frame_in({name: content for name, content in files.items() if content is not None})
    except (KeyError, ValueError, TypeError):
        return None
    return replace(frame, bundles=bundles) if frame.digest == decision.outcome_facts.frame_sha256 else None


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
        if sealed:
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
