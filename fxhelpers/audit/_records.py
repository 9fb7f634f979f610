"""Checks of records and evidence: on this disk, and in the registry's files."""

import json
import math
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fxhelpers.decisions import COMPARISON, EVIDENCE, FRAME, RECORD_FOLDER
from fxhelpers.display import Keyed
from fxhelpers.ledger import Decision, Ledger, SealFacts
from fxhelpers.records import EVENINGS, folder_id, origin_of, read_summary, report_path
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import FORECASTS, fetch
from fxhelpers.system import UNREADABLE, sha256

_TOLERANCE = 1e-9  # of a measure: processors differ in their arithmetic
_EVIDENCE = "the stored evidence no longer proves the verdict; the record shows what it rested on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Keyed):
    """Something that does not fit, and what to do about it; a note is explained by the ledger or by a running decision."""

    model: str
    level: Literal["problem", "note"]
    message: str
    remedy: str
    decision: str | None = None  # id of the decision that it is about


def problem(model: str, message: str, remedy: str, decision: str | None = None) -> Finding:
    return Finding(model=model, level="problem", message=message, remedy=remedy, decision=decision)


def note(model: str, message: str, remedy: str = "nothing", decision: str | None = None) -> Finding:
    return Finding(model=model, level="note", message=message, remedy=remedy, decision=decision)


def record_findings(registry: RegistryClient, ledger: Ledger) -> Iterator[Finding]:
    records = registry.params.paths.records
    yield from _sealed_records(ledger, records)
    yield from _unknown_records(ledger, records, registry.uri)


def evidence_findings(registry: RegistryClient, ledger: Ledger) -> Iterator[Finding]:
    """Check the stored forecasts and the copies of records; slow, as it reads all of them."""
    outcomes = {(d.record, d.id): d.outcome_sha256 for d in ledger.decisions}
    for decision in ledger.decisions:
        for message, remedy in (*_evidence(registry, decision), *_record_copy(registry, decision, outcomes)):
            yield problem(ledger.name, message, remedy, decision.id)


def _sealed_records(ledger: Ledger, records: Path) -> Iterator[Finding]:
    here, elsewhere = folder_id(records), []
    for decision in ledger.decisions:
        facts = decision.seal_facts
        name = facts.record
        if not name or not facts.sha256:
            continue
        copy = f"a copy is with MLflow's run {decision.run_id}, in record/"
        try:
            changed = list(_changed(records / name, facts, copy))
        except FileNotFoundError:
            if _was_here(decision, facts, here):
                yield problem(ledger.name, f"the record {name} was deleted or moved", f"restore it: {copy}", decision.id)
            else:
                elsewhere.append(decision.actor.rpartition("@")[2])
        except OSError as error:
            message = f"the record {name} or its report cannot be read: {error.strerror or error}"
            yield problem(ledger.name, message, f"verify as a user who may read it; {copy}", decision.id)
        else:
            for message, remedy in changed:
                yield problem(ledger.name, message, remedy, decision.id)
    if elsewhere:
        message = f"{len(elsewhere)} records are not in this folder, but in another one, on {', '.join(sorted(set(elsewhere)))}"
        yield note(ledger.name, message, "verify there; copies are with MLflow's runs (--deep)")


def _unknown_records(ledger: Ledger, records: Path, ours: str) -> Iterator[Finding]:
    sealed = {decision.record for decision in ledger.decisions}
    runs = {decision.run_id for decision in ledger.decisions}
    folders = {Path(name).parent.name for name in sealed if name} | {EVENINGS if ledger.name == FORECASTS else ledger.symbol}
    elsewhere = Counter[str]()
    for path in (path for folder in sorted(folders) for path in sorted((records / folder).glob("*.ipynb"))):
        name = f"{path.parent.name}/{path.name}"
        if name in sealed:
            continue
        try:
            decisions, uri = origin_of(path)
        except UNREADABLE as error:
            message, remedy = f"the record {name} cannot be read: {error}", "it is in no ledger, so nothing says what it was"
            yield problem(ledger.name, message, remedy)
            continue
        lost = [run for model, run in decisions if model == ledger.name and run not in runs]
        uri = str(uri or ours)
        files = uri.startswith("sqlite") and ours.startswith("sqlite")  # a file that moved is the same registry
        if lost and uri != ours and not files:
            elsewhere[uri] += 1
            continue
        for run in lost:
            message = f"the record {name} is of a decision that the ledger lacks (run {run}): the ledger was truncated"
            remedy = "restore the registry from a backup, or find out which other registry the record belongs to"
            yield problem(ledger.name, message, remedy)
    for uri, count in elsewhere.items():
        message = f"{count} records are of decisions that were taken in another registry, {uri}"
        yield note(ledger.name, message, "verify there (MLFLOW_TRACKING_URI)")


def _changed(path: Path, facts: SealFacts, copy: str) -> Iterator[tuple[str, str]]:
    if sha256(path.read_bytes()) != facts.sha256:
        yield f"the record {facts.record} was edited: its SHA-256 is not that of its seal", f"restore the sealed one: {copy}"
    page, sealed = report_path(path), facts.report_sha256
    if sealed and page.exists() and sha256(page.read_bytes()) != sealed:
        message = f"the report {page.name} of this decision was edited, or made again by another release of fxhelpers"
        yield message, f"read the record instead, or restore the sealed report: {copy}"


def _was_here(decision: Decision, facts: SealFacts, here: str | None) -> bool:
    """Return whether a record was sealed in this folder; by the host if the folder's id, here or in the seal, is lost."""
    return bool(here == facts.folder if here and facts.folder else decision.actor.endswith(f"@{socket.gethostname()}"))


def _evidence(registry: RegistryClient, decision: Decision) -> Iterator[tuple[str, str]]:
    """Check the stored forecasts against their digests, and compute the measures from them again."""
    facts = decision.outcome_facts
    files = {}
    for name, digest in facts.evidence.items():
        content = fetch(registry, decision, f"{EVIDENCE}/{name}")
        if content is None:
            yield f"the stored {name} is gone", _EVIDENCE
        elif sha256(content) != digest:
            yield f"the stored {name} was edited: its SHA-256 is not that of the outcome", _EVIDENCE
        else:
            files[name] = content
    if {FRAME, COMPARISON} <= set(files):
        from fxhelpers.comparison import measure, measures_json
        from fxhelpers.decisions import frame_in

        frame, comparison = frame_in(files)
        if frame.digest != facts.frame_sha256:
            yield "the stored forecasts are not the frame that was judged: its digest is another", _EVIDENCE
        if not _same(measures_json(measure(frame, cost=comparison["cost"])), comparison["measures"]):
            yield "the measures computed from the stored forecasts are not those that were judged", _EVIDENCE


def _record_copy(
    registry: RegistryClient, decision: Decision, outcomes: dict[tuple[str | None, str], str | None]
) -> Iterator[tuple[str, str]]:
    """Check the copy of the record, and what the record itself says of the outcome."""
    facts = decision.seal_facts
    if not facts.sha256 or facts.late:
        return
    content = fetch(registry, decision, f"{RECORD_FOLDER}/{Path(str(facts.record)).name}")
    if content is None and facts.not_copied:
        yield "no copy of its record could be stored in the registry when it was sealed", "fx verify --repair stores it"
    elif content is None:
        yield "the copy of its record in the registry is gone", "the record on the disk is the only one left: keep it well"
    elif sha256(content) != facts.sha256:
        message = "the copy of its record in the registry was edited: its SHA-256 is not that of the seal"
        yield message, "trust the record on the disk"
    else:
        summary = read_summary(json.loads(content)) or {}
        if summary.get("decision") and outcomes.get((decision.record, summary["decision"])) != summary.get("outcome_sha256"):
            yield "its record shows another decision or outcome than the ledger: the ledger was rewritten", "trust the record"


def _same(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> bool:
    """Return whether every measure that was judged comes out again; one that is younger than the decision says nothing of it."""
    if ours.keys() != theirs.keys():
        return False
    pairs = [(ours[row].get(name), value) for row, values in theirs.items() for name, value in values.items()]
    return all(
        a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE))
        for a, b in pairs
    )
