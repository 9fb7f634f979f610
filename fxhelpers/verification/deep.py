"""Checks that read everything: stored forecasts, copies of records, the files of every version."""

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fxhelpers.comparison import EvaluationFrame, compare
from fxhelpers.errors import RegistryError, RegistryUnavailableError
from fxhelpers.files import sha256
from fxhelpers.ledger import Decision, Ledger
from fxhelpers.promotion import EVIDENCE, RECORD_FOLDER
from fxhelpers.records import read_summary
from fxhelpers.registry import MODEL_DIGEST, ModelVersion, RegistryClient, stored_digest
from fxhelpers.registry.ledgers import fetch
from fxhelpers.verification.report import Finding

_SAME = 1e-12  # relative: what another processor's arithmetic may change in a measure


def deep_findings(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    """Yield what does not fit in the files behind a ledger; slow, because it reads all of them."""
    for decision in ledger.decisions:
        for what, do in (*_evidence(registry, decision), *_record(registry, decision)):
            yield Finding(model=ledger.name, level="problem", what=what, do=do, decision=decision.id)
    pruned = {number: d for d in ledger.decisions for number in d.intent.facts.get("prune", [])}
    digests = _registered_digests(ledger)
    for version in versions:
        if MODEL_DIGEST not in version.tags:
            continue
        stored = stored_digest(registry, version)
        if stored is None and version.version in pruned:
            decision = pruned[version.version]
            what = f"the files of version {version.version} were deleted on purpose"
            yield Finding(model=ledger.name, level="note", what=what, do="nothing", decision=decision.id)
        elif stored is None:
            what = f"the files of version {version.version} are gone: nobody decided to delete them"
            yield Finding(model=ledger.name, level="problem", what=what, do=_ANOTHER)
        elif stored != digests.get(version.version, version.tags[MODEL_DIGEST]):
            what = f"the files of version {version.version} are not those that were registered"
            yield Finding(model=ledger.name, level="problem", what=what, do=_ANOTHER)


_ANOTHER = "do not serve it: promote or roll back to another version, and restore the files or register its bundle anew"
_EVIDENCE = "the verdict cannot be proved any more from what is stored; its record shows what was seen then"


def _registered_digests(ledger: Ledger) -> dict[int | None, Any]:
    found = [d for d in ledger.decisions if d.kind == "registration" and d.result == "registered" and d.outcome]
    return {d.version: d.outcome.facts.get("model_sha256") for d in found if d.outcome}


def _evidence(registry: RegistryClient, decision: Decision) -> Iterator[tuple[str, str]]:
    """Check the stored forecasts against their digests, and compute the measures from them again."""
    facts = decision.outcome.facts if decision.outcome else {}
    files = {}
    for name, digest in facts.get("evidence", {}).items():
        content = _fetched(registry, decision, f"{EVIDENCE}/{name}")
        if content is None:
            yield f"the stored {name} is gone", _EVIDENCE
        elif sha256(content) != digest:
            yield f"the stored {name} was edited: its SHA-256 is not that of the outcome", _EVIDENCE
        else:
            files[name] = content
    if {"frame.csv", "measures.json"} <= set(files):
        champion = decision.from_version if decision.from_version != decision.version else None
        text = files["frame.csv"].decode()
        frame = EvaluationFrame.from_csv(text, symbol="", challenger=decision.version or 0, champion=champion)
        if frame.digest != facts.get("frame_sha256"):
            yield "the stored forecasts are not the frame that was judged: its digest is another", _EVIDENCE
        if not _same(compare(frame).measures_json(), json.loads(files["measures.json"])):
            yield "the measures computed from the stored forecasts are not those that were judged", _EVIDENCE


def _record(registry: RegistryClient, decision: Decision) -> Iterator[tuple[str, str]]:
    """Check the copy of the record, and what the record itself says of the outcome."""
    facts = decision.seal.facts if decision.seal else {}
    if not facts.get("sha256") or facts.get("late"):
        return
    content = _fetched(registry, decision, f"{RECORD_FOLDER}/{Path(facts['record']).name}")
    if content is None:
        yield "the copy of its record in the registry is gone", "the record on the disk is the only one left: keep it well"
    elif sha256(content) != facts["sha256"]:
        yield (
            "the copy of its record in the registry was edited: its SHA-256 is not that of the seal",
            "trust the one on the disk",
        )
    else:
        told = read_summary(json.loads(content)) or {}
        if told.get("decision") == decision.id and told.get("outcome_sha256") != decision.outcome_sha256:
            yield "its record shows another outcome than the ledger: the ledger was rewritten", "trust the record"


def _fetched(registry: RegistryClient, decision: Decision, file: str) -> bytes | None:
    with tempfile.TemporaryDirectory(prefix="fx-verify-") as folder:
        try:
            return fetch(registry, decision, file, Path(folder))
        except RegistryUnavailableError:
            raise
        except RegistryError:
            return None


def _same(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> bool:
    if ours.keys() != theirs.keys():
        return False
    pairs = [(value, theirs[row].get(name)) for row, values in ours.items() for name, value in values.items()]
    return all(a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=_SAME)) for a, b in pairs)
