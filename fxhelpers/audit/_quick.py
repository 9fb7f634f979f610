"""Checks that read no model and no evidence: one ledger against its registry and the records on this disk."""

import math
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fxhelpers.audit._findings import Finding
from fxhelpers.audit.repair import second_copies
from fxhelpers.decisions import DECISION_TAG, became, renamed, was_interrupted
from fxhelpers.files import UNREADABLE, sha256
from fxhelpers.ledger import AGAINST, ALIAS_FOUND, Decision, Identity, Ledger, back_to, labels, same
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.records import folder_id, origin_of, report_path
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST, PRUNED, ModelVersion, RegistryClient, in_production
from fxhelpers.registry.ledgers import ledger_of
from fxhelpers.registry.storage import files_of

_REPAIR = "fx verify --repair"
_WHO = "find out who can write there"


def quick_findings(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    """Yield what does not fit."""
    records, fates = registry.params.paths.records, _Fates(registry, ledger, versions)
    for fault in ledger.faults:
        yield _problem(ledger, fault.message, fault.remedy, fault.decision)
    yield from _unfinished(registry, ledger)
    yield from _champion(ledger, versions, fates)
    yield from _late(ledger)
    yield from _gaps(ledger, fates)
    yield from _stages(ledger, versions)
    yield from _files(registry, ledger, versions)
    yield from _registrations(registry, ledger, versions, fates)
    yield from _overrides(ledger)
    yield from _sealed_records(ledger, records)
    yield from _orphans(ledger, records, registry.uri)


class _Fates:
    """What became of versions that the ledger means and the registry does not have."""

    def __init__(self, registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> None:
        self._registry, self._ledger, self._versions = registry, ledger, versions
        self._renamed: dict[Identity, str | None] = {}
        self._origins: dict[str, str | None] = {}

    def is_there(self, named_versions: Identity) -> bool:
        return any(named_versions.may_be(version.identity) for version in self._versions)

    def renamed(self, named_versions: Identity) -> str | None:
        """Return the registered model that has it by now; of the versions of one model one is asked about."""
        if not self._renamed:
            self._renamed[named_versions] = renamed(self._registry, self._ledger, named_versions)
        return self._renamed.get(named_versions) or next(iter(self._renamed.values()))

    def came_from(self, decision: str) -> str | None:
        """Return the registered model that a decision of another ledger is about; None where there is no such decision."""
        if decision not in self._origins:
            self._origins[decision] = ledger_of(self._registry, decision) if decision else None
        return self._origins[decision]

    def of(self, named_versions: Identity) -> str:
        return became(self._ledger, named_versions, self._versions, self.renamed(named_versions))


def _unfinished(registry: RegistryClient, ledger: Ledger) -> Iterator[Finding]:
    for decision in ledger.decisions:
        about = f" of version {decision.version}" if decision.version else ""
        who = f"the {decision.kind}{about} by {decision.actor}, begun {decision.intent.time[:19]}"
        if decision.seal:
            if decision.seal.facts.get("late"):
                message = f"{who}, was interrupted ({decision.result}); its record was sealed only afterwards"
                yield Finding(model=ledger.name, level="note", message=message, remedy="nothing", decision=decision.id)
            continue
        state = "was decided, but not sealed" if decision.outcome else "has no outcome"
        if was_interrupted(registry, decision):
            yield _problem(ledger, f"{who}, was interrupted: it {state}", f"run it again, or {_REPAIR}", decision.id)
        else:
            message = f"{who}, is at work: it {state} yet"
            yield Finding(model=ledger.name, level="note", message=message, remedy="wait for it", decision=decision.id)


def _champion(ledger: Ledger, versions: list[ModelVersion], fates: _Fates) -> Iterator[Finding]:
    found = in_production(versions)
    champion, known = found.identity if found else None, ledger.serving
    if ledger.last_telling is None or same(champion, known):
        return
    called = labels(version for version in (champion, known) if version)
    now, decided = (called[version] if version else "no version" for version in (champion, known))
    stopped = _stopped(ledger, champion)
    if known is not None and not fates.is_there(known):
        message = f"by the ledger {known} ({known.short}) is in Production, and MLflow's alias points to {now}: {fates.of(known)}"
        yield _problem(ledger, message, _way_back(ledger, None, champion), None)
    elif begun := _begun(ledger, champion):
        message = f"the champion is {now}, by the ledger it is {decided}: {begun.id} has no outcome, and may have set the alias"
        yield _problem(ledger, message, f"{_REPAIR} settles it", begun.id)
    elif champion is None:
        why = "its alias was deleted outside fxhelpers"
        why += f", or {stopped.id} was stopped before it set that" if stopped else ""
        message = f"there is no champion, by the ledger {decided} is in Production: {why}"
        yield _problem(ledger, message, f"{_REPAIR} sets it again", None)
    elif stopped or champion in _decided(ledger):
        why = f"{stopped.id} was stopped before it set the alias, or " if stopped else ""
        message = (
            f"the champion is {now}, by the ledger it is {decided}: {why}a late writer set the alias after others had decided"
        )
        yield _problem(ledger, message, f"{_REPAIR} puts it back", None)
    else:
        message = f"the champion is {now}, by the ledger it is {decided}: it was changed without a decision"
        keep = f"ModelRegistry().transition_stage('{ledger.name}', {champion.number}, 'Production')"
        yield _problem(
            ledger, message, f"find out who did, in MLflow's pages perhaps; {_REPAIR} puts it back, {keep} keeps it", None
        )


def _begun(ledger: Ledger, alias: Identity | None) -> Decision | None:
    """Return the decision without an outcome that may have set the alias: earlier releases did that first."""
    for decision in (d for d in ledger.decisions if d.outcome is None and not d.intent.tells_serving):
        to = None if decision.to_nobody or decision.intent.facts.get("stage") in {"Archived", "Staging"} else decision.version
        if (alias.number if alias else None) == to or (alias and decision.intent.facts.get("bundle") == alias.bundle):
            return decision
    return None


def _stopped(ledger: Ledger, alias: Identity | None, before: Decision | None = None) -> Decision | None:
    """Return the last move if the alias is where it was before that: whoever decided it may have been stopped on the way."""
    seq = before.intent.seq if before else math.inf
    last = next((d for d in reversed(ledger.outcomes) if d.applied and d.outcome and d.outcome.seq < seq), None)
    return last if last and same(ledger.named_versions()[last.id].before, alias) else None


def _decided(ledger: Ledger) -> set[Identity]:
    """Return the versions that any decision made champion, or was about to."""
    late = {entry.serving for entry in ledger.late if entry.entry == "outcome"}
    return {version for version in ledger.champions | late if version}


def _way_back(ledger: Ledger, known: Identity | None, champion: Identity | None) -> str:
    """Return how to make right again that the champion is another one than was decided, by what can be typed."""
    if known is None and champion is None:
        return _serve_another(ledger)
    number, now = (known.number if known else None), (champion.number if champion else None)
    back = f"go back: {back_to(ledger.name, ledger.symbol, number, now=now)}"
    keep = f"keep it: ModelRegistry().transition_stage('{ledger.name}', {now}, 'Production')"
    return f"{back}, or {keep}" if champion else back


def _serve_another(ledger: Ledger) -> str:
    if ledger.name != f"{MODEL_PREFIX}{ledger.symbol}":
        return f"choose who serves: ModelRegistry().transition_stage('{ledger.name}', VERSION, 'Production')"
    return (
        f"choose who serves: fx run promote -p symbol {ledger.symbol} -p apply true judges the challenger, "
        f"{back_to(ledger.name, ledger.symbol, None, now=None)} says that nobody does"
    )


def _late(ledger: Ledger) -> Iterator[Finding]:
    """Tell of what is no part of the ledger, and of aliases that were put back."""
    for entry in ledger.late:
        message = f"the {entry.entry} of {entry.decision} came too late, or its writer was stopped: the ledger went on without it"
        yield Finding(
            model=ledger.name, level="note", message=message, remedy="nothing: it does not count", decision=entry.decision
        )
    for decision in (decision for decision in ledger.decisions if ALIAS_FOUND in decision.intent.facts):
        there, back = decision.alias_found, decision.intent.serving
        before = {d.outcome.serving for d in ledger.outcomes if d.outcome and d.outcome.seq < decision.intent.seq}
        late = there is not None and there in before | {entry.serving for entry in ledger.late}
        stopped = _stopped(ledger, there, decision)
        who = "a late writer had set it" if late else "it was changed without a decision, in MLflow's pages perhaps"
        who = f"{stopped.id} was stopped before it set it, or {who}" if stopped else who
        message = f"MLflow's alias pointed to {there or 'no version'}, and was put back to {back or 'no version'}: {who}"
        yield Finding(
            model=ledger.name, level="note", message=message, remedy="nothing, if you know who did", decision=decision.id
        )


def _gaps(ledger: Ledger, fates: _Fates) -> Iterator[Finding]:
    """Find champions that came without a decision; once somebody has decided about Production again, they are history."""
    outcomes, named_versions = ledger.outcomes, ledger.named_versions()
    settled = max((i for i, decision in enumerate(outcomes) if decision.settles), default=-1)
    expected: Identity | None = None
    for i, decision in enumerate(outcomes):
        about, before = named_versions[decision.id], expected
        expected = about.after
        if not same(about.before, before):
            called = labels(version for version in (about.before, before) if version)
            now, then = (called[version] if version else "no version" for version in (about.before, before))
            message = f"{now} was champion when this was decided, {then} before: it was changed without a decision"
            level: Any = "note" if settled >= i else "problem"
            way = _way_back(ledger, before if before and fates.is_there(before) else None, about.before)
            remedy = "nothing: it was decided anew since" if settled >= i else f"find out who did; {way}"
            yield Finding(model=ledger.name, level=level, message=message, remedy=remedy, decision=decision.id)


def _stages(ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    if sum(v.mirror == "Production" for v in versions) > 1:
        twins = ", ".join(str(v.version) for v in versions if v.mirror == "Production")
        yield _problem(ledger, f"MLflow has several versions in stage Production: {twins}", f"{_REPAIR} keeps the champion", None)
        return
    for version in (version for version in versions if version.mirror_lags):
        message = f"MLflow's stage of version {version.version} is {version.mirror}, by the alias it is {version.stage}"
        yield _problem(ledger, message, f"{_REPAIR} sets it", None)


def _files(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    """Look where the files of the champion are, or, without one, those of the newest version."""
    version = in_production(versions) or next(iter(versions), None)
    place = files_of(registry, version) if version and MODEL_DIGEST in version.tags else None
    if version is None or place is None:
        return
    who = f"version {version.version}"
    if place.in_trash:
        message = f"the run of {who} lies in MLflow's trash, and mlflow gc deletes it and its files for good"
        yield _problem(ledger, message, f"mlflow runs restore --run-id {version.run_id}", None)
    if place.on_a_clients_disk:
        message = f"the files of {who} are at {place.uri}, on the disk of the machine that registered it, not with the server"
        remedy = "let the server keep files (mlflow server --artifacts-destination), and register anew"
        if place.found:
            yield Finding(
                model=ledger.name, level="note", message=message, remedy=f"nothing if all machines share that folder, or {remedy}"
            )
        else:
            yield _problem(ledger, message, remedy, None)
    elif not place.found and not version.tags.get(PRUNED):
        remedy = "restore them from a backup, or register its bundle anew; until then roll back to another version"
        yield _problem(ledger, f"the files of {who} are gone from {place.uri}", remedy, None)


def registration_of(decisions: list[Decision], version: ModelVersion) -> Decision | None:
    """Return the first decision that registered a version, of those that registered one of its number: by its run, or bundle."""
    by_run = (d for d in decisions if d.outcome and version.run_id and d.outcome.facts.get("run_id") == version.run_id)
    by_bundle = (d for d in decisions if d.identity(version.version) == version.identity)
    return next(by_run, None) or next(by_bundle, None)


def _registrations(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion], fates: _Fates) -> Iterator[Finding]:
    registered = ledger.registrations
    found: set[str] = set()
    known = {decision.id for decision in ledger.decisions}
    at_work = {d.intent.facts.get("bundle") for d in ledger.decisions if not d.outcome and not was_interrupted(registry, d)}
    interrupted = {d.intent.facts.get("bundle") for d in ledger.outcomes if d.result == "interrupted"}
    champion = in_production(versions)
    copies = second_copies(ledger, versions, champion.identity if champion else None)
    for version in versions:
        who = f"version {version.version}"
        if version in copies:
            message = f"{who} is a second one of the same bundle: the registration that made it was held up"
            yield _problem(ledger, message, f"{_REPAIR} deletes it", None)
            continue
        decision = registration_of(registered.get(version.version, []), version)
        last = version.tags.get(DECISION_TAG, "").rpartition("; ")[2]
        if last and last not in known and not (decision is None and version.tags.get(BUNDLE_DIGEST) and fates.came_from(last)):
            message = f"{who} names the decision {last}, which the ledger lacks: the ledger was truncated"
            yield _problem(ledger, message, "restore the registry from a backup", None)
        if decision is None or decision.outcome is None:
            if BUNDLE_DIGEST not in version.tags:
                message = f"{who} was not registered by fxhelpers"
                yield Finding(
                    model=ledger.name, level="note", message=message, remedy="nothing: it is never loaded or promoted by policy"
                )
            elif (source := fates.came_from(last)) is not None and source != ledger.name:
                message = f"{who} was registered as one of {source}: that registered model was renamed to {ledger.name} in MLflow"
                yield _problem(ledger, message, _rename_back(ledger.name, source), None)
            elif version.tags[BUNDLE_DIGEST] in interrupted:
                message = f"{who} has no registration in the ledger: that was interrupted"
                remedy = "register the same bundle again; it stays the same version"
                yield Finding(model=ledger.name, level="note", message=message, remedy=remedy)
            elif version.tags[BUNDLE_DIGEST] not in at_work:
                message = f"{who} has no registration in the ledger: it was interrupted, or its entries are gone"
                yield _problem(ledger, message, "register the same bundle again; it stays the same version", None)
            continue
        found.add(decision.id)
        facts = decision.outcome.facts
        expected = {BUNDLE_DIGEST: decision.bundles.get(str(version.version)), MODEL_DIGEST: facts.get("model_sha256")}
        edited = [f"its tag {tag}" for tag, digest in expected.items() if version.tags.get(tag) != digest]
        run = facts.get("run_id")
        edited += ["its run or its source"] if run and (version.run_id, version.source) != (run, f"runs:/{run}/model") else []
        if edited:
            message = f"{who} is not as it was registered: {' and '.join(edited)} was edited"
            yield _problem(ledger, message, f"the version cannot be trusted: {_WHO}; do not serve it", decision.id)
    yield from _gone(ledger, versions, fates, found)


def _gone(ledger: Ledger, versions: list[ModelVersion], fates: _Fates, found: set[str]) -> Iterator[Finding]:
    """Find the versions that were registered and are not there any more, and what became of them."""
    there = {version.identity.bundle: version.version for version in versions}
    kept = {d.identity(number) for number, decisions in ledger.registrations.items() for d in decisions if d.id in found}
    gone: dict[Identity, Decision] = {}
    for number, decisions in ledger.registrations.items():
        for decision in decisions:
            version = decision.identity(number)
            # a repeated registration of what is there under an edited digest is about the same version
            repeated = any(d.id in found and _run(d) == _run(decision) for d in decisions)
            if version not in kept and not repeated:
                gone.setdefault(version, decision)
    called = labels([*gone, *(version.identity for version in versions)])
    for version, decision in gone.items():
        message = f"{called[version]} was registered, and is not there any more: {fates.of(version)}"
        name = fates.renamed(version)
        if version.bundle in there:
            remedy = f"nothing: the same bundle is version {there[version.bundle]} now"
            yield Finding(model=ledger.name, level="note", message=message, remedy=remedy, decision=decision.id)
        else:
            remedy = _rename_back(name, ledger.name) if name else "register its bundle again, as a new version"
            yield _problem(ledger, message, remedy, decision.id)


def _run(decision: Decision) -> str | None:
    return decision.outcome.facts.get("run_id") if decision.outcome else None


def _rename_back(name: str, to: str) -> str:
    return f"rename it back, after whatever has its name by now: mlflow.MlflowClient().rename_registered_model('{name}', '{to}')"


def _overrides(ledger: Ledger) -> Iterator[Finding]:
    for decision in (decision for decision in ledger.decisions if decision.overridden):
        message = f"version {decision.version} was promoted {AGAINST} ({decision.verdict}), by {decision.actor}: "
        message += str(decision.intent.facts.get("reason"))
        yield Finding(model=ledger.name, level="note", message=message, remedy="nothing, if that was meant", decision=decision.id)


def _sealed_records(ledger: Ledger, records: Path) -> Iterator[Finding]:
    here, elsewhere = folder_id(records), []
    for decision in ledger.decisions:
        facts = decision.seal.facts if decision.seal else {}
        name = facts.get("record")
        if not name or not facts.get("sha256"):
            continue
        copy = f"a copy is with MLflow's run {decision.run_id}, in record/"
        try:
            doubts = list(_doubts(records / name, facts, copy))
        except FileNotFoundError:
            if _was_here(decision, facts, here):
                yield _problem(ledger, f"the record {name} was deleted or moved", f"put it back: {copy}", decision.id)
            else:
                elsewhere.append(decision.actor.rpartition("@")[2])
        except OSError as error:
            message = f"the record {name} or its report cannot be read: {error.strerror or error}"
            yield _problem(ledger, message, f"let who verifies read it; {copy}", decision.id)
        else:
            for message, remedy in doubts:
                yield _problem(ledger, message, remedy, decision.id)
    if elsewhere:
        message = f"{len(elsewhere)} records are not in this folder, but in another one, on {', '.join(sorted(set(elsewhere)))}"
        yield Finding(
            model=ledger.name, level="note", message=message, remedy="verify there; copies are with MLflow's runs (--deep)"
        )


def _doubts(path: Path, facts: Mapping[str, Any], copy: str) -> Iterator[tuple[str, str]]:
    """Say what does not fit of a sealed record and its report, and what to do."""
    if sha256(path.read_bytes()) != facts["sha256"]:
        yield f"the record {facts['record']} was edited: its SHA-256 is not that of its seal", f"put the sealed one back: {copy}"
    page, sealed = report_path(path), facts.get("report_sha256")
    if sealed and page.exists() and sha256(page.read_bytes()) != sealed:
        message = f"the report {page.name} of this decision was edited, or made anew by another release of fxhelpers"
        yield message, f"read the record instead, or put the sealed report back: {copy}"


def _was_here(decision: Decision, facts: Mapping[str, Any], here: str | None) -> bool:
    """Tell whether a record was sealed in this folder; by the host, where the folder's id or that in the seal is lost."""
    there = facts.get("folder", "that of an earlier release")
    return bool(here == there if here and there else decision.actor.endswith(f"@{socket.gethostname()}"))


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
        except UNREADABLE as error:
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
            message = f"the record {name} is of a decision that the ledger lacks (run {run}): the ledger was truncated"
            remedy = "restore the registry from a backup, or find out which other registry the record belongs to"
            yield _problem(ledger, message, remedy, None)
    for where, count in elsewhere.items():
        message = f"{count} records are of decisions that were taken in another registry, {where}"
        yield Finding(model=ledger.name, level="note", message=message, remedy="verify there (MLFLOW_TRACKING_URI)")


def _problem(ledger: Ledger, message: str, remedy: str, decision: str | None) -> Finding:
    return Finding(model=ledger.name, level="problem", message=message, remedy=remedy, decision=decision)
