"""Checks that read everything: stored forecasts, copies of records, the files of every version."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fxhelpers.audit._findings import Finding
from fxhelpers.audit._quick import registration_of
from fxhelpers.comparison import measure, measures_json
from fxhelpers.decisions import COMPARISON, EVIDENCE, FRAME, NOT_COPIED, RECORD_FOLDER, frame_in
from fxhelpers.files import sha256
from fxhelpers.ledger import Decision, Ledger
from fxhelpers.records import read_summary
from fxhelpers.registry import MODEL_DIGEST, ModelVersion, RegistryClient, misdirected, stored_digest
from fxhelpers.registry.ledgers import fetch

_SAME = 1e-9  # what another processor's arithmetic may change in a measure


def deep_findings(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    """Yield what does not fit in the files behind a ledger; slow, because it reads all of them."""
    outcomes = {(d.record, d.id): d.outcome_sha256 for d in ledger.decisions}
    for decision in ledger.decisions:
        for message, remedy in (*_evidence(registry, decision), *_record(registry, decision, outcomes)):
            yield Finding(model=ledger.name, level="problem", message=message, remedy=remedy, decision=decision.id)
    named_versions, registrations = ledger.named_versions(), ledger.registrations
    pruned = {named_versions[d.id].by_number.get(n): d for d in ledger.decisions for n in d.intent.facts.get("prune", [])}
    for version in (version for version in versions if MODEL_DIGEST in version.tags):
        stored, who = stored_digest(registry, version), f"the files of version {version.version}"
        registered = registration_of(registrations.get(version.version, []), version)
        digest = registered.outcome.facts.get("model_sha256") if registered and registered.outcome else version.tags[MODEL_DIGEST]
        taken = misdirected(registry, version) if stored else None
        if stored is None and version.identity in pruned and version.stage != "Production":
            decision = pruned[version.identity]
            message = f"{who} were deleted on purpose"
            yield Finding(model=ledger.name, level="note", message=message, remedy="nothing", decision=decision.id)
        elif stored is None:
            message = f"{who} are gone" + ("" if version.identity in pruned else ": nobody decided to delete them")
            yield Finding(model=ledger.name, level="problem", message=message, remedy=_ANOTHER)
        elif stored != digest:
            yield Finding(
                model=ledger.name, level="problem", message=f"{who} are not those that were registered", remedy=_ANOTHER
            )
        elif taken:
            message = f"{who} are whole, but MLflow takes others, from {taken}"
            yield Finding(model=ledger.name, level="problem", message=message, remedy=_ANOTHER)


_ANOTHER = "do not serve it: promote or roll back to another version, and restore the files or register its bundle anew"
_EVIDENCE = "the verdict cannot be proved any more from what is stored; its record shows what was seen then"


def _evidence(registry: RegistryClient, decision: Decision) -> Iterator[tuple[str, str]]:
    """Check the stored forecasts against their digests, and compute the measures from them again."""
    facts = decision.outcome.facts if decision.outcome else {}
    files = {}
    for name, digest in facts.get("evidence", {}).items():
        content = fetch(registry, decision, f"{EVIDENCE}/{name}")
        if content is None:
            yield f"the stored {name} is gone", _EVIDENCE
        elif sha256(content) != digest:
            yield f"the stored {name} was edited: its SHA-256 is not that of the outcome", _EVIDENCE
        else:
            files[name] = content
    if {FRAME, COMPARISON} <= set(files):
        frame, told = frame_in(files)
        if frame.digest != facts.get("frame_sha256"):
            yield "the stored forecasts are not the frame that was judged: its digest is another", _EVIDENCE
        if not _same(measures_json(measure(frame, cost=told["cost"])), told["measures"]):
            yield "the measures computed from the stored forecasts are not those that were judged", _EVIDENCE


def _record(
    registry: RegistryClient, decision: Decision, outcomes: dict[tuple[str | None, str], str | None]
) -> Iterator[tuple[str, str]]:
    """Check the copy of the record, and what the record itself says of the outcome."""
    facts = decision.seal.facts if decision.seal else {}
    if not facts.get("sha256") or facts.get("late"):
        return
    content = fetch(registry, decision, f"{RECORD_FOLDER}/{Path(facts['record']).name}")
    if content is None and facts.get(NOT_COPIED):
        yield "no copy of its record could be stored in the registry when it was sealed", "fx verify --repair stores it"
    elif content is None:
        yield "the copy of its record in the registry is gone", "the record on the disk is the only one left: keep it well"
    elif sha256(content) != facts["sha256"]:
        message = "the copy of its record in the registry was edited: its SHA-256 is not that of the seal"
        yield message, "trust the record on the disk"
    else:
        told = read_summary(json.loads(content)) or {}
        if told.get("decision") and outcomes.get((decision.record, told["decision"])) != told.get("outcome_sha256"):
            yield "its record shows another decision or outcome than the ledger: the ledger was rewritten", "trust the record"


def _same(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> bool:
    """Tell whether every measure that was judged comes out again; one that is younger than the decision says nothing of it."""
    if ours.keys() != theirs.keys():
        return False
    pairs = [(ours[row].get(name), value) for row, values in theirs.items() for name, value in values.items()]
    return all(a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME)) for a, b in pairs)
