"""Verification: whether registry, ledger, records and evidence agree; and the repairs that are safe."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fxhelpers.audit._records import Finding, evidence_findings, problem, record_findings
from fxhelpers.audit._versions import file_findings, second_copies, version_findings
from fxhelpers.decisions import (
    DECISION_TAG,
    RECORD_FOLDER,
    RECORD_TAG,
    Move,
    act,
    begin,
    copy_record,
    note_on_version,
    note_record,
    recording_failure,
    recover_interrupted,
    refuse_unrecorded,
    retired,
    serving,
)
from fxhelpers.display import Keyed
from fxhelpers.errors import FxError, RegistryError, RegistryUnavailableError
from fxhelpers.ledger import Decision, IntentFacts, Ledger, OutcomeFacts, same
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.records import EVENINGS, origin_of, record_folders
from fxhelpers.registry import ModelVersion, RegistryClient, in_production
from fxhelpers.registry.ledger_store import FORECASTS, fetch, read_ledger, read_ledgers, reopen
from fxhelpers.registry.lock import sweep
from fxhelpers.registry.storage import registered_models, unknown_model
from fxhelpers.reports import end_records, note_models, standing
from fxhelpers.system import UNREADABLE, sha256, utc_now

if TYPE_CHECKING:
    from fxhelpers.forecasts import Log

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0  # between two checks: a running decision is past any two writes that belong together

_NOT_TAGGED = ("stale", "refused", "failed", "interrupted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Keyed):
    """What was checked, and what does not fit."""

    models: tuple[str, ...]
    decisions: int  # number of decisions checked
    forecast_batches: int  # number of batches of forecasts checked
    deep: bool  # whether stored forecasts, copies of records and model files were checked too
    findings: tuple[Finding, ...]  # problems first
    uri: str

    @property
    def problems(self) -> list[Finding]:
        """Findings that need action."""
        return [finding for finding in self.findings if finding.level == "problem"]

    @property
    def message(self) -> str:
        """Result in one line, such as ``OK: 1 model, 4 decisions checked (deep)``."""
        problems = len(self.problems)
        notes = len(self.findings) - problems
        counts = [_count(problems, "problem")] if problems else ["OK"]
        counts += [_count(notes, "note")] if notes else []
        checked = f"{_count(len(self.models), 'model')}, {_count(self.decisions, 'decision')}"
        if self.forecast_batches:
            checked += f" and {_count(self.forecast_batches, 'forecast batch', 'es')}"
        return f"{', '.join(counts)}: {checked} checked{' (deep)' if self.deep else ''}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding."""
        return pd.DataFrame(map(dict, self.findings), columns=["model", "level", "message", "remedy", "decision"])

    def to_json(self) -> str:
        """Return counts and findings as JSON."""
        about = {"registry": self.uri, "models": self.models, "decisions": self.decisions, "deep": self.deep}
        about |= {"forecast_batches": self.forecast_batches}
        return json.dumps({**about, "findings": [dict(finding) for finding in self.findings]}, indent=2)


def _count(number: int, word: str, many: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else many}"


def verify(registry: RegistryClient, name: str | None = None, *, deep: bool = False) -> Verification:
    """Check one registered model, or all that fxhelpers knows, and note the result in the gallery.

    ``deep`` also reads every stored forecast, copy of a record and file of a version. :class:`VersionNotFoundError` if nothing
    is known of the model.
    """
    records = registry.params.paths.records
    end_records(records)
    models, decisions, batches = _models(registry, name), 0, 0
    log = cache(partial(_read_log, registry))
    findings: list[Finding] = []
    standings: list[dict[str, Any]] = []
    for model in models:
        found: list[Finding] = []
        ledger = None
        try:
            ledger, versions, quick = _check_twice(registry, model)
            found += quick
            if deep:
                found.extend(evidence_findings(registry, ledger))
                found.extend(chain(file_findings(registry, ledger, versions), _alarm_findings(registry, ledger, log)))
        except RegistryUnavailableError:
            raise
        except RegistryError as error:  # about this model; the others are checked
            found.append(problem(model, f"not all of it was checked: {error}", "fix that, and verify again"))
        findings += found
        if ledger is None:
            continue
        if name and not (ledger.decisions or versions or found):
            raise unknown_model(registry, name)
        if model == FORECASTS:
            batches = len(ledger.decisions)
            continue
        decisions += len(ledger.decisions)
        champion = in_production(versions)
        problems = [f"{finding.message}. What to do: {finding.remedy}" for finding in found if finding.level == "problem"]
        verified = {"time": utc_now(), "deep": deep, "problems": problems}
        standings.append({**standing(ledger, champion.identity if champion else None), "verified": verified})
    note_models(records, standings, all_there_are=name is None)
    findings.sort(key=lambda finding: finding.level == "note")
    models = [model for model in models if model != FORECASTS]
    return Verification(
        models=tuple(models),
        decisions=decisions,
        forecast_batches=batches,
        deep=deep,
        findings=tuple(findings),
        uri=registry.uri,
    )


def _alarm_findings(registry: RegistryClient, ledger: Ledger, log: "Callable[[], Log]") -> Iterator[Finding]:
    from fxhelpers.audit._alarms import alarm_findings  # with what computes an alarm again, which takes seconds to import

    yield from alarm_findings(registry, ledger, log)


def _read_log(registry: RegistryClient) -> "Log":
    from fxhelpers.forecasts import read_log

    return read_log(registry)


def _models(registry: RegistryClient, name: str | None) -> list[str]:
    """Return the given model, or all that are registered, have a ledger, or are named in a record's decisions."""
    if name:
        return [name]
    known = {*registered_models(registry), *read_ledgers(registry)}
    symbols = {model.removeprefix(MODEL_PREFIX) for model in known}
    folders = record_folders(registry.params.paths.records)
    others = (folder for folder in folders if folder.name not in symbols and not folder.name.startswith("_"))
    evenings = read_ledger(registry, FORECASTS).decisions or _decided_in(registry.params.paths.records / EVENINGS)
    return sorted(known.union(*map(_decided_in, others))) + ([FORECASTS] if evenings else [])


def _decided_in(folder: Path) -> set[str]:
    """Return the registered models of the decisions in a folder's records; a mistyped symbol's folder has none."""
    models: set[str] = set()
    for record in folder.glob("*.ipynb"):
        with suppress(*UNREADABLE):
            models |= {name for name, _ in origin_of(record)[0]}
    return models


def _check_twice(registry: RegistryClient, name: str) -> tuple[Ledger, list[ModelVersion], list[Finding]]:
    """Check a model; keep a problem only if it is there a second time: a running decision may be between two writes."""
    ledger, versions, found = _check(registry, name)
    if any(finding.level == "problem" for finding in found):
        time.sleep(_PAUSE_SECONDS)
        ledger, versions, again = _check(registry, name)
        found = [finding for finding in again if finding in found]
    return ledger, versions, found


def _check(registry: RegistryClient, name: str) -> tuple[Ledger, list[ModelVersion], list[Finding]]:
    ledger, versions = read_ledger(registry, name), registry.versions(name)
    return ledger, versions, [*version_findings(registry, ledger, versions), *record_findings(registry, ledger)]


def repair(registry: RegistryClient, name: str | None = None) -> None:
    """Repair what is safe to repair in one registered model, or in all; log it, and record it as a decision.

    MLflow's alias and stages are set to what the ledger says. Interrupted decisions are ended. A second version of a bundle, made
    by a registration that was held up, is deleted. Copies of records and tags that could not be stored are stored. Nothing that
    was edited, deleted or made anew is touched. If all models are repaired, an error about one does not stop the others.
    """
    for model in _models(registry, name):
        try:
            for done in _repair(registry, model):
                logger.warning("%s: %s", model, done)
        except RegistryUnavailableError:
            raise
        except FxError as error:
            if name:
                raise
            logger.warning("%s: not repaired: %s", model, error)


def _repair(registry: RegistryClient, name: str) -> Iterator[str]:
    refuse_unrecorded(f"fx verify {name.removeprefix(MODEL_PREFIX)} --repair")
    ledger, ended = read_ledger(registry, name), []
    for decision in (d for d in ledger.decisions if d.seal is None):
        reopen(registry, decision)
    if any(d.outcome is None and not d.intent.states_champion for d in ledger.decisions):
        ended = recover_interrupted(registry, name)  # in earlier releases the alias moved first, and decided
        ledger = read_ledger(registry, name)
    versions, champion = registry.versions(name), serving(registry, name)
    serves = champion.identity if champion else None
    wrong = [v for v in versions if (v.mirror == "Production") != (v.identity == serves)]
    copies = second_copies(ledger, versions, serves)
    done = [] if same(serves, registry.champion_identity(name)) else [f"set the alias champion to {serves or 'no version'} again"]
    done += [f"set MLflow's stage of {v.identity} to what the alias says" for v in wrong]
    done += [f"deleted {v.identity}, a second one of the same bundle" for v in copies]
    if done:
        decision = begin(
            registry, name, IntentFacts(kind="repair", version=serves.number if serves else None, reason="fx verify --repair")
        )
        with recording_failure(registry, decision):
            for version in copies:
                registry.delete_version(name, version.version)
            stages = {v.identity: retired(registry) for v in wrong if v.identity != serves}
            facts = OutcomeFacts(result="repaired", reason="; ".join(done)[:1000])
            act(registry, decision, facts=facts, move=Move(to=serves, compared_with=serves), stages=stages)
    elif ledger.decisions:
        ended += recover_interrupted(registry, name)
    sweep(registry, name)
    yield from (f"ended {d.id}: {d.result}" for d in ended)
    yield from done
    yield from _store_missing(registry, read_ledger(registry, name), registry.versions(name))


def _store_missing(registry: RegistryClient, ledger: Ledger, versions: list[ModelVersion]) -> Iterator[str]:
    for decision in ledger.decisions:
        if _copy_again(registry, decision):
            yield f"stored a copy of the record {decision.record}"
    for version in versions:
        about = [d for d in reversed(ledger.outcomes) if d.version == version.version]
        about = [d for d in about if d.identity(version.version).may_be(version.identity)]
        tagged = next((d for d in about if d.result not in _NOT_TAGGED), None)
        if tagged and not version.tags.get(DECISION_TAG, "").endswith(tagged.id) and note_on_version(registry, tagged):
            yield f"tagged version {version.version} with {tagged.id}"
        sealed = next((d for d in about if d.seal_facts.sha256 and not d.seal_facts.late), None)
        if sealed and version.tags.get(RECORD_TAG) != sealed.record and note_record(registry, sealed):
            yield f"tagged version {version.version} with its record {sealed.record}"


def _copy_again(registry: RegistryClient, decision: Decision) -> bool:
    """Copy a record that could not be copied when it was sealed, if it is still the sealed one."""
    if not decision.seal or not decision.record or not decision.seal_facts.not_copied:
        return False
    record = registry.params.paths.records / decision.record
    if fetch(registry, decision, f"{RECORD_FOLDER}/{record.name}") is not None or not record.is_file():
        return False
    sealed = sha256(record.read_bytes()) == decision.seal_facts.sha256
    return sealed and copy_record(registry, decision.model_name, decision.run_id, record)
