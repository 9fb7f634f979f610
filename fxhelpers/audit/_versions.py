"""Checks of a registered model: its versions, alias and stages against its ledger, and the files of its versions."""

import math
from collections.abc import Iterator

from fxhelpers.audit._records import Finding, note, problem
from fxhelpers.audit.history import version_names
from fxhelpers.decisions import DECISION_TAG, became, renamed, was_interrupted
from fxhelpers.ledger import AGAINST, Decision, Identity, Ledger, back_to, labels, same
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST, PRUNED, ModelVersion, RegistryClient, in_production
from fxhelpers.registry.ledger_store import ledger_of
from fxhelpers.registry.storage import files_of, misdirected, stored_digest

_REPAIR = "fx verify --repair"
_ANOTHER = "do not serve it: promote or roll back to another version, and restore the files or register its bundle again"


def version_findings(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    checks = _Checks(registry, ledger, versions)
    for fault in ledger.faults:
        yield problem(ledger.name, fault.message, fault.remedy, fault.decision)
    for check in (checks.unfinished, checks.alias, checks.late_entries, checks.repaired_aliases, checks.undecided_champions):
        yield from check()
    for check in (checks.stages, checks.champion_files, checks.registrations, checks.overrides):
        yield from check()


def file_findings(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[Finding]:
    """Check the files of the versions; slow, as it reads all of them."""
    named_versions, registrations, name = ledger.named_versions(), ledger.registrations, ledger.name
    pruned = {named_versions[d.id].by_number.get(n): d for d in ledger.decisions for n in d.intent.facts.prune}
    for version in (version for version in versions if MODEL_DIGEST in version.tags):
        stored, who = stored_digest(registry, version), f"the files of version {version.version}"
        registered = _registration_of(registrations.get(version.version, []), version)
        digest = registered.outcome_facts.model_sha256 if registered and registered.outcome else version.tags[MODEL_DIGEST]
        if stored is None and version.identity in pruned and version.stage != "Production":
            yield note(name, f"{who} were deleted on purpose", decision=pruned[version.identity].id)
        elif stored is None:
            why = "" if version.identity in pruned else ": no decision deleted them"
            yield problem(name, f"{who} are gone{why}", _ANOTHER)
        elif stored != digest:
            yield problem(name, f"{who} are not those that were registered", _ANOTHER)
        elif other := misdirected(registry, version):
            yield problem(name, f"{who} are whole, but MLflow takes others, from {other}", _ANOTHER)


def _registration_of(decisions: list[Decision], version: ModelVersion) -> Decision | None:
    """Return the first decision that registered a version, of those about its number: by its run, or else by its bundle."""
    by_run = (d for d in decisions if version.run_id and _run(d) == version.run_id)
    by_bundle = (d for d in decisions if d.identity(version.version) == version.identity)
    return next(by_run, None) or next(by_bundle, None)


def second_copies(ledger: Ledger, versions: list[ModelVersion], serves: Identity | None) -> list[ModelVersion]:
    """Return the versions of a bundle that another version has too, and that no registration made: they came too late."""
    registered = {d.identity(number) for number, decisions in ledger.registrations.items() for d in decisions}
    first: dict[str, ModelVersion] = {}
    for version in sorted(versions, key=lambda v: (v.identity not in registered, v.version)):
        first.setdefault(version.tags.get(BUNDLE_DIGEST, ""), version)
    return [
        version
        for version in versions
        if (bundle := version.tags.get(BUNDLE_DIGEST))
        and first[bundle].version != version.version
        and version.identity not in {*registered, serves}
    ]


class _Checks:
    def __init__(self, registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> None:
        self.registry, self.ledger, self.versions = registry, ledger, versions
        self.name = ledger.name
        self.champion = in_production(versions)
        self.found = self.champion.identity if self.champion else None  # what MLflow's alias points to
        self.named_versions, self.outcomes = ledger.named_versions(), ledger.outcomes
        self._new_name: list[str | None] = []
        self._origins: dict[str, str | None] = {"": None}

    def unfinished(self) -> Iterator[Finding]:
        for decision in self.ledger.decisions:
            about = f" of version {decision.version}" if decision.version else ""
            who = f"the {decision.kind}{about} by {decision.actor}, begun {decision.intent.time[:19]},"
            if decision.seal:
                if decision.seal_facts.late:
                    message = f"{who} was interrupted ({decision.result}); its record was sealed later"
                    yield note(self.name, message, decision=decision.id)
                continue
            state = "was decided, but not sealed" if decision.outcome else "has no outcome"
            if was_interrupted(self.registry, decision):
                yield problem(self.name, f"{who} was interrupted: it {state}", f"run it again, or {_REPAIR}", decision.id)
            else:
                yield note(self.name, f"{who} is running: it {state} yet", "wait until it ends", decision.id)

    def alias(self) -> Iterator[Finding]:
        found, decided = self.found, self.ledger.serving
        if self.ledger.last_statement is None or same(found, decided):
            return
        alias, champion = version_names(found, decided)
        differs = f"the champion is {alias}, by the ledger it is {champion}"
        stopped = self._stopped(found)
        begun = self._may_have_set(found)
        if decided is not None and not any(decided.may_be(version.identity) for version in self.versions):
            message = f"by the ledger {decided} ({decided.short}) is in Production, and MLflow's alias points to {alias}"
            yield problem(self.name, f"{message}: {self._fate(decided)}", self._way_back(None, found))
        elif begun:
            message = f"{differs}: {begun.id} has no outcome, and may have set the alias"
            yield problem(self.name, message, f"{_REPAIR} completes it", begun.id)
        elif found is None:
            why = f", or {stopped.id} was stopped before it set it" if stopped else ""
            message = f"there is no champion, by the ledger {champion} is in Production: its alias was deleted outside fxhelpers"
            yield problem(self.name, f"{message}{why}", f"{_REPAIR} sets it again")
        elif stopped or found in self.ledger.champions | {e.serving for e in self.ledger.late if e.entry == "outcome"}:
            why = f"{stopped.id} was stopped before it set the alias, or " if stopped else ""
            message = f"{differs}: {why}a late writer set the alias after others had decided"
            yield problem(self.name, message, f"{_REPAIR} puts it back")
        else:
            keep = f"ModelRegistry().transition_stage('{self.name}', {found.number}, 'Production')"
            remedy = f"find out who changed it, perhaps in MLflow's web pages; {_REPAIR} puts it back, {keep} keeps it"
            yield problem(self.name, f"{differs}: it was changed without a decision", remedy)

    def _may_have_set(self, alias: Identity | None) -> Decision | None:
        """Return the decision without an outcome that may have set the alias: earlier releases did that first."""
        for decision in (d for d in self.ledger.decisions if d.outcome is None and not d.intent.states_champion):
            facts = decision.intent.facts
            to = None if decision.to_nobody or facts.stage in {"Archived", "Staging"} else decision.version
            if (alias.number if alias else None) == to or (alias and facts.bundle == alias.bundle):
                return decision
        return None

    def _stopped(self, alias: Identity | None, before: float = math.inf) -> Decision | None:
        """Return the last change of champion if the alias is where it was before it: its process may have been stopped."""
        last = next((d for d in reversed(self.outcomes) if d.applied and d.outcome and d.outcome.seq < before), None)
        return last if last and same(self.named_versions[last.id].before, alias) else None

    def _way_back(self, decided: Identity | None, found: Identity | None) -> str:
        """Return the commands that undo or keep a champion that was not decided."""
        model, symbol = self.name, self.ledger.symbol
        if decided is None and found is None:
            if model != f"{MODEL_PREFIX}{symbol}":
                return f"choose the version to serve: ModelRegistry().transition_stage('{model}', VERSION, 'Production')"
            promote = f"fx run promote -p symbol {symbol} -p apply true"
            return f"choose the version to serve: {promote}, or none: {back_to(model, symbol, None, now=None)}"
        now = found.number if found else None
        back = f"go back: {back_to(model, symbol, decided.number if decided else None, now=now)}"
        return f"{back}, or keep it: ModelRegistry().transition_stage('{model}', {now}, 'Production')" if found else back

    def _fate(self, version: Identity) -> str:
        """Say what became of a version that the registry lacks; one version of a model shows whether it was renamed."""
        if not self._new_name:
            self._new_name.append(renamed(self.registry, self.ledger, version))
        return became(self.ledger, version, self.versions, self._new_name[0])

    def late_entries(self) -> Iterator[Finding]:
        for entry in self.ledger.late:
            message = f"the {entry.entry} of {entry.decision} came too late, or its writer was stopped: it is not in the ledger"
            yield note(self.name, message, "nothing: it does not count", entry.decision)

    def repaired_aliases(self) -> Iterator[Finding]:
        for decision in (decision for decision in self.ledger.decisions if decision.alias_repaired):
            alias, back, seq = decision.intent.facts.alias_found, decision.intent.serving, decision.intent.seq
            decided = {d.outcome.serving for d in self.outcomes if d.outcome and d.outcome.seq < seq}
            late = alias is not None and alias in decided | {entry.serving for entry in self.ledger.late}
            why = "a late writer had set it" if late else "it was changed without a decision, perhaps in MLflow's web pages"
            stopped = self._stopped(alias, seq)
            why = f"{stopped.id} was stopped before it set it, or {why}" if stopped else why
            message = f"MLflow's alias pointed to {alias or 'no version'}, and was put back to {back or 'no version'}: {why}"
            yield note(self.name, message, "nothing, if you know who changed it", decision.id)

    def undecided_champions(self) -> Iterator[Finding]:
        """Find champions without a decision; a note once a later decision about Production was made."""
        settled = max((i for i, decision in enumerate(self.outcomes) if decision.decides_champion), default=-1)
        expected: Identity | None = None
        for i, decision in enumerate(self.outcomes):
            before, previous = self.named_versions[decision.id].before, expected
            expected = self.named_versions[decision.id].after
            if same(before, previous):
                continue
            now, then = version_names(before, previous)
            message = f"{now} was champion when this was decided, {then} before: it was changed without a decision"
            if settled >= i:
                yield note(self.name, message, "nothing: Production was decided again since", decision.id)
            else:
                there = previous and any(previous.may_be(version.identity) for version in self.versions)
                remedy = f"find out who changed it; {self._way_back(previous if there else None, before)}"
                yield problem(self.name, message, remedy, decision.id)

    def stages(self) -> Iterator[Finding]:
        in_stage = [str(v.version) for v in self.versions if v.mirror == "Production"]
        if len(in_stage) > 1:
            message = f"MLflow has several versions in stage Production: {', '.join(in_stage)}"
            yield problem(self.name, message, f"{_REPAIR} keeps the champion")
            return
        for v in (version for version in self.versions if version.mirror_lags):
            message = f"MLflow's stage of version {v.version} is {v.mirror}, by the alias it is {v.stage}"
            yield problem(self.name, message, f"{_REPAIR} sets it")

    def champion_files(self) -> Iterator[Finding]:
        """Check where the files of the champion are; without one, those of the newest version."""
        version = self.champion or next(iter(self.versions), None)
        if version is None or MODEL_DIGEST not in version.tags:
            return
        place, who = files_of(self.registry, version), f"version {version.version}"
        if place.in_trash:
            message = f"the run of {who} is in MLflow's trash; mlflow gc would delete it and its files for good"
            yield problem(self.name, message, f"mlflow runs restore --run-id {version.run_id}")
        if place.on_a_clients_disk:
            message = f"the files of {who} are at {place.uri}, on the disk of the machine that registered it, not on the server"
            remedy = "let the server keep files (mlflow server --artifacts-destination), and register again"
            if place.found:
                yield note(self.name, message, f"nothing if all machines share that folder, or {remedy}")
            else:
                yield problem(self.name, message, remedy)
        elif not place.found and not version.tags.get(PRUNED):
            remedy = "restore them from a backup, or register its bundle again; until then roll back to another version"
            yield problem(self.name, f"the files of {who} are gone from {place.uri}", remedy)

    def registrations(self) -> Iterator[Finding]:
        copies, registered = second_copies(self.ledger, self.versions, self.found), self.ledger.registrations
        ids = {decision.id for decision in self.ledger.decisions}
        present: set[str] = set()
        for version in self.versions:
            who = f"version {version.version}"
            if version in copies:
                message = f"{who} is a second one of the same bundle: the registration that made it was held up"
                yield problem(self.name, message, f"{_REPAIR} deletes it")
                continue
            decision = _registration_of(registered.get(version.version, []), version)
            last = version.tags.get(DECISION_TAG, "").rpartition("; ")[2]
            moved = decision is None and version.tags.get(BUNDLE_DIGEST) and self._came_from(last)
            if last and last not in ids and not moved:
                message = f"{who} names the decision {last}, which the ledger lacks: the ledger was truncated"
                yield problem(self.name, message, "restore the registry from a backup")
            if decision is None or decision.outcome is None:
                yield from self._unregistered(version, last)
                continue
            present.add(decision.id)
            facts = decision.outcome.facts
            digests = {BUNDLE_DIGEST: decision.bundles.get(str(version.version)), MODEL_DIGEST: facts.model_sha256}
            edited = [f"its tag {tag}" for tag, digest in digests.items() if version.tags.get(tag) != digest]
            run = _run(decision)
            edited += ["its run or its source"] if run and (version.run_id, version.source) != (run, f"runs:/{run}/model") else []
            if edited:
                message = f"{who} is not as it was registered: {' and '.join(edited)} was edited"
                yield problem(self.name, message, "do not serve it; find out who can write to the registry", decision.id)
        yield from self._missing_versions(present)

    def _unregistered(self, version: ModelVersion, last: str) -> Iterator[Finding]:
        """Explain a version that no decision of this ledger registered; ``last`` is the decision that its tag names."""
        who, bundle = f"version {version.version}", version.tags.get(BUNDLE_DIGEST)
        unregistered, again = f"{who} has no registration in the ledger", "register the same bundle again; it stays this version"
        if bundle is None:
            yield note(self.name, f"{who} was not registered by fxhelpers", "nothing: it is never loaded or promoted by policy")
        elif (source := self._came_from(last)) is not None and source != self.name:
            message = f"{who} was registered as one of {source}: that registered model was renamed to {self.name} in MLflow"
            yield problem(self.name, message, _rename_back(self.name, source))
        elif ends := [
            d.result for d in self.outcomes if d.result in {"interrupted", "failed"} and d.intent.facts.bundle == bundle
        ]:
            yield note(self.name, f"{unregistered}: it {'was interrupted' if 'interrupted' in ends else 'failed'}", again)
        elif not any(
            d.outcome is None and d.intent.facts.bundle == bundle and not was_interrupted(self.registry, d)
            for d in self.ledger.decisions
        ):
            yield problem(self.name, f"{unregistered}: it was interrupted, or its entries are gone", again)

    def _came_from(self, decision: str) -> str | None:
        """Return the registered model that a decision of another ledger is about; None if there is no such decision."""
        if decision not in self._origins:
            self._origins[decision] = ledger_of(self.registry, decision)
        return self._origins[decision]

    def _missing_versions(self, present: set[str]) -> Iterator[Finding]:
        """Find versions that were registered and are gone; ``present`` has the registrations whose version is there."""
        there = {version.identity.bundle: version.version for version in self.versions}
        registrations = self.ledger.registrations
        kept = {d.identity(number) for number, decisions in registrations.items() for d in decisions if d.id in present}
        gone: dict[Identity, Decision] = {}
        for number, decisions in registrations.items():
            for decision in decisions:
                version = decision.identity(number)
                # a repeated registration of what is there under an edited digest is about the same version
                repeated = any(d.id in present and _run(d) == _run(decision) for d in decisions)
                if version not in kept and not repeated:
                    gone.setdefault(version, decision)
        names = labels([*gone, *(version.identity for version in self.versions)])
        for version, decision in gone.items():
            message = f"{names[version]} was registered, and is not there any more: {self._fate(version)}"
            new_name = self._new_name[0]
            if version.bundle in there:
                remedy = f"nothing: the same bundle is version {there[version.bundle]} now"
                yield note(self.name, message, remedy, decision.id)
            else:
                remedy = _rename_back(new_name, self.name) if new_name else "register its bundle again, as a new version"
                yield problem(self.name, message, remedy, decision.id)

    def overrides(self) -> Iterator[Finding]:
        for decision in (decision for decision in self.ledger.decisions if decision.overridden):
            message = f"version {decision.version} was promoted {AGAINST} ({decision.verdict}), by {decision.actor}: "
            message += str(decision.intent.facts.reason)
            yield note(self.name, message, "nothing, if that was intended", decision.id)


def _run(decision: Decision) -> str | None:
    return decision.outcome_facts.run_id


def _rename_back(name: str, to: str) -> str:
    return f"rename it back, any new model of that name first: mlflow.MlflowClient().rename_registered_model('{name}', '{to}')"
