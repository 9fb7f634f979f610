"""Checks that read no model and no evidence: one ledger against its registry and the records on this disk."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fxhelpers.files import sha256
from fxhelpers.ledger import AGAINST, Ledger, named
from fxhelpers.promotion.deciding import DECISION_TAG, was_interrupted
from fxhelpers.records import folder_id, origin_of, report_path
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST, ModelVersion, in_production
from fxhelpers.verification.report import Finding

_REPAIR = "fx verify --repair"
_WHO = "find out who can write there"


def quick_findings(ledger: Ledger, versions: list[ModelVersion], records: Path, uri: str) -> Iterator[Finding]:
    """Yield what does not fit."""
    for fault in ledger.faults:
        yield _problem(ledger, fault.what, fault.do, fault.decision)
    yield from _unfinished(ledger)
    yield from _champion(ledger, versions)
    yield from _gaps(ledger)
    yield from _stages(ledger, versions)
    yield from _registrations(ledger, versions)
    yield from _overrides(ledger)
    yield from _sealed_records(ledger, records)
    yield from _orphans(ledger, records, uri)


def _unfinished(ledger: Ledger) -> Iterator[Finding]:
    for decision in ledger.decisions:
        about = f" of version {decision.version}" if decision.version else ""
        who = f"the {decision.kind}{about} by {decision.actor}, begun {decision.intent.time[:19]}"
        if decision.seal:
            if decision.seal.facts.get("late"):
                what = f"{who}, was interrupted ({decision.result}); its record was sealed only afterwards"
                yield Finding(model=ledger.name, level="note", what=what, do="nothing", decision=decision.id)
            continue
        state = "was decided, but not sealed" if decision.outcome else "has no outcome"
        if was_interrupted(decision):
            yield _problem(ledger, f"{who}, was interrupted: it {state}", f"run it again, or {_REPAIR}", decision.id)
        else:
            what = f"{who}, is at work: it {state} yet"
            yield Finding(model=ledger.name, level="note", what=what, do="wait for it", decision=decision.id)


def _champion(ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    found = in_production(versions)
    champion, known = found.version if found else None, ledger.champion
    if champion == known:
        return
    mover = ledger.mover(champion)
    if mover:
        what = f"the champion is {named(champion)}, the last outcome says {named(known)}: {mover.id} was interrupted in between"
        yield _problem(ledger, what, f"run it again, or {_REPAIR}", mover.id)
    elif champion is None:
        what = f"there is no champion, the last outcome says {named(known)}: its alias was deleted without a decision"
        yield _problem(ledger, what, f"{_REPAIR} sets it again", None)
    else:
        what = f"the champion is {named(champion)}, the last outcome says {named(known)}: it was changed without a decision"
        do = f"find out who did, in MLflow's pages perhaps; then {_way_back(ledger, known)}"
        yield _problem(ledger, what, do, None)


def _way_back(ledger: Ledger, known: int | None) -> str:
    keep = "keep it: ModelRegistry().transition_stage(name, version, 'Production')"
    return f"go back: fx rollback {ledger.symbol} --version {known} --reason TEXT, or {keep}" if known else keep


def _gaps(ledger: Ledger) -> Iterator[Finding]:
    """Find champions that came without a decision; once somebody has decided about Production again, they are history."""
    outcomes = ledger.outcomes
    anew = [d.moved_at is not None or (d.rests_on == "manual" and d.version == d.to_version) for d in outcomes]
    settled = max((i for i, decided in enumerate(anew) if decided), default=-1)
    for i, decision in enumerate(outcomes):
        before = outcomes[i - 1] if i else None
        expected = before.to_version if before is not None else None
        if decision.from_version != expected:
            what = f"{named(decision.from_version)} was champion when this was decided, {named(expected)} before: "
            what += "it was changed without a decision"
            level: Any = "note" if settled >= i else "problem"
            do = "nothing: it was decided anew since" if settled >= i else f"find out who did; {_way_back(ledger, expected)}"
            yield Finding(model=ledger.name, level=level, what=what, do=do, decision=decision.id)


def _stages(ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    if sum(v.mirror == "Production" for v in versions) > 1:
        twins = ", ".join(str(v.version) for v in versions if v.mirror == "Production")
        yield _problem(ledger, f"MLflow has several versions in stage Production: {twins}", f"{_REPAIR} keeps the champion", None)
        return
    for version in (version for version in versions if version.mirror_lags):
        what = f"MLflow's stage of version {version.version} is {version.mirror}, by the alias it is {version.stage}"
        yield _problem(ledger, what, f"{_REPAIR} sets it", None)


def _registrations(ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    registered = ledger.registrations
    known = {decision.id for decision in ledger.decisions}
    at_work = {d.intent.facts.get("bundle") for d in ledger.decisions if not d.outcome and not was_interrupted(d)}
    for version in versions:
        who = f"version {version.version}"
        decision = registered.pop(version.version, None)
        last = version.tags.get(DECISION_TAG, "").rpartition("; ")[2]
        if last and last not in known:
            what = f"{who} names the decision {last}, which the ledger lacks: the ledger was truncated"
            yield _problem(ledger, what, "restore the registry from a backup", None)
        if decision is None or decision.outcome is None:
            if BUNDLE_DIGEST not in version.tags:
                what = f"{who} was not registered by fxhelpers"
                yield Finding(model=ledger.name, level="note", what=what, do="nothing: it is never loaded or promoted by policy")
            elif version.tags[BUNDLE_DIGEST] not in at_work:
                what = f"{who} has no registration in the ledger: it was interrupted, or its entries are gone"
                yield _problem(ledger, what, "register the same bundle again; it stays the same version", None)
            continue
        facts = decision.outcome.facts
        expected = {BUNDLE_DIGEST: decision.bundles.get(str(version.version)), MODEL_DIGEST: facts.get("model_sha256")}
        edited = [f"its tag {tag}" for tag, digest in expected.items() if version.tags.get(tag) != digest]
        run = facts.get("run_id")
        edited += ["its run or its source"] if run and (version.run_id, version.source) != (run, f"runs:/{run}/model") else []
        if edited:
            what = f"{who} is not as it was registered: {' and '.join(edited)} was edited"
            yield _problem(ledger, what, f"the version cannot be trusted: {_WHO}; do not serve it", decision.id)
    for number, decision in registered.items():
        what = f"version {number} was registered, and is not there any more: it was deleted in MLflow"
        yield _problem(ledger, what, "register its bundle again, as a new version", decision.id)


def _overrides(ledger: Ledger) -> Iterator[Finding]:
    for decision in (decision for decision in ledger.decisions if decision.overridden):
        what = f"version {decision.version} was promoted {AGAINST} ({decision.verdict}), by {decision.actor}: "
        what += str(decision.intent.facts.get("reason"))
        yield Finding(model=ledger.name, level="note", what=what, do="nothing, if that was meant", decision=decision.id)


def _sealed_records(ledger: Ledger, records: Path) -> Iterator[Finding]:
    here, elsewhere = folder_id(records), []
    for decision in ledger.decisions:
        facts = decision.seal.facts if decision.seal else {}
        name, digest = facts.get("record"), facts.get("sha256")
        if not name or not digest:
            continue
        path = records / name
        copy = f"a copy is with MLflow's run {decision.run_id}, in record/"
        if path.is_file():
            if sha256(path.read_bytes()) != digest:
                what = f"the record {name} was edited: its SHA-256 is not that of its seal"
                yield _problem(ledger, what, f"put the sealed one back: {copy}", decision.id)
            page, sealed = report_path(path), facts.get("report_sha256")
            if sealed and page.is_file() and sha256(page.read_bytes()) != sealed:
                what = f"the report {page.name} of this decision was edited, or made anew by another release of fxhelpers"
                yield _problem(ledger, what, f"read the record instead, or put the sealed report back: {copy}", decision.id)
        elif here == facts.get("folder") or (here is None and decision.actor.endswith(f"@{socket.gethostname()}")):
            yield _problem(ledger, f"the record {name} was deleted or moved", f"put it back: {copy}", decision.id)
        else:
            elsewhere.append(decision.actor.rpartition("@")[2])
    if elsewhere:
        what = f"{len(elsewhere)} records are not in this folder, but in another one, on {', '.join(sorted(set(elsewhere)))}"
        yield Finding(model=ledger.name, level="note", what=what, do="verify there; copies are with MLflow's runs (--deep)")


def _orphans(ledger: Ledger, records: Path, uri: str) -> Iterator[Finding]:
    known = {decision.record for decision in ledger.decisions}
    runs = {decision.run_id for decision in ledger.decisions}
    folders = {Path(name).parent.name for name in known if name} | {ledger.symbol}
    elsewhere: dict[str, int] = {}
    for path in (path for folder in sorted(folders) for path in sorted((records / folder).glob("*.ipynb"))):
        name = f"{path.parent.name}/{path.name}"
        if name in known:
            continue
        try:
            decisions, registry = origin_of(path)
        except (ValueError, AttributeError) as error:
            yield _problem(
                ledger, f"the record {name} cannot be read: {error}", "it is in no ledger: nothing tells what it was", None
            )
            continue
        lost = [run for model, run in decisions if model == ledger.name and run not in runs]
        where = str(registry or uri)
        files = where.startswith("sqlite") and uri.startswith("sqlite")  # a file that moved is the same registry
        if lost and where != uri and not files:
            elsewhere[where] = elsewhere.get(where, 0) + 1
            continue
        for run in lost:
            what = f"the record {name} is of a decision that the ledger lacks (run {run}): the ledger was truncated"
            do = "restore the registry from a backup, or find out which other registry the record belongs to"
            yield _problem(ledger, what, do, None)
    for where, count in elsewhere.items():
        what = f"{count} records are of decisions that were taken in another registry, {where}"
        yield Finding(model=ledger.name, level="note", what=what, do="verify there (MLFLOW_TRACKING_URI)")


def _problem(ledger: Ledger, what: str, do: str, decision: str | None) -> Finding:
    return Finding(model=ledger.name, level="problem", what=what, do=do, decision=decision)
