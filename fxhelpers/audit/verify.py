"""Verification: whether registry, ledger, records and evidence still tell one story."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fxhelpers.audit._deep import deep_findings
from fxhelpers.audit._findings import Finding, Verification
from fxhelpers.audit._quick import quick_findings
from fxhelpers.audit.repair import repair
from fxhelpers.errors import RegistryError, RegistryUnavailableError
from fxhelpers.files import UNREADABLE
from fxhelpers.ledger import Ledger
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.processes import utc_now
from fxhelpers.records import origin_of, record_folders
from fxhelpers.registry import ModelVersion, RegistryClient, in_production
from fxhelpers.registry.ledgers import read_ledger, read_ledgers
from fxhelpers.registry.storage import registered_models, unknown_model
from fxhelpers.reports import end_records, note_models, standing

__all__ = ["Finding", "Verification", "known_models", "repair", "verify"]

_SECOND_LOOK = 1.0  # seconds: what a decision that is at work leaves between two writes is over by then


def verify(registry: RegistryClient, name: str | None = None, *, deep: bool = False) -> Verification:
    """Check one registered model, or all that fxhelpers knows, and note in the gallery what was found.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    name : str, optional
        Registered model.
    deep : bool
        Also read every stored forecast, every copy of a record and every
        version's files.

    Returns
    -------
    Verification

    Raises
    ------
    VersionNotFoundError
        Nothing at all is known of the model.
    """
    end_records(registry.params.paths.records)
    models, decisions = known_models(registry, name), 0
    findings: list[Finding] = []
    standings: list[dict[str, Any]] = []
    for model in models:
        try:
            ledger, versions, found = _look_twice(registry, model)
        except RegistryUnavailableError:
            raise
        except RegistryError as error:  # of this model, which says nothing of others
            findings.append(_unread(model, error))
            continue
        found += _as_far_as_read(model, deep_findings(registry, ledger, versions)) if deep else ()
        if name and not (ledger.decisions or versions or found):
            raise unknown_model(registry, name)
        findings += found
        decisions += len(ledger.decisions)
        champion = in_production(versions)
        problems = [f"{finding.message}. What to do: {finding.remedy}" for finding in found if finding.level == "problem"]
        looked = {"time": utc_now(), "deep": deep, "problems": problems}
        standings.append({**standing(ledger, champion.identity if champion else None), "verified": looked})
    note_models(registry.params.paths.records, standings, all_there_are=name is None)
    findings.sort(key=lambda finding: finding.level == "note")
    return Verification(models=tuple(models), decisions=decisions, deep=deep, findings=tuple(findings), uri=registry.uri)


def known_models(registry: RegistryClient, name: str | None = None) -> list[str]:
    """Return the registered models, and those that have a ledger or have lost it; only the given one where there is one.

    Who has lost it is told by records of its decisions; any other record, of
    a symbol that was mistyped say, makes no model.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    name : str, optional
        Registered model.
    """
    if name:
        return [name]
    known = {*registered_models(registry), *read_ledgers(registry)}
    symbols = {model.removeprefix(MODEL_PREFIX) for model in known}
    folders = record_folders(registry.params.paths.records)
    others = (folder for folder in folders if folder.name not in symbols and not folder.name.startswith("_"))
    return sorted(known.union(*map(_decided_in, others)))


def _decided_in(folder: Path) -> set[str]:
    """Return the registered models that a folder's records say they decided about."""
    models: set[str] = set()
    for record in folder.glob("*.ipynb"):
        with suppress(*UNREADABLE):
            models |= {name for name, _ in origin_of(record)[0]}
    return models


def _look_twice(registry: RegistryClient, name: str) -> tuple[Ledger, list[ModelVersion], list[Finding]]:
    """Look, and where there is a problem once more: what a decision at work leaves between two writes is over by then."""
    ledger, versions, found = _look(registry, name)
    if any(finding.level == "problem" for finding in found):
        time.sleep(_SECOND_LOOK)
        ledger, versions, again = _look(registry, name)
        found = [finding for finding in again if finding in found]
    return ledger, versions, found


def _as_far_as_read(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings, and one more where the registry cannot give what they need."""
    try:
        yield from findings
    except RegistryUnavailableError:
        raise
    except RegistryError as error:
        yield _unread(name, error)


def _unread(name: str, error: RegistryError) -> Finding:
    return Finding(
        model=name, level="problem", message=f"not all of it was checked: {error}", remedy="put that right, and verify again"
    )


def _look(registry: RegistryClient, name: str) -> tuple[Ledger, list[ModelVersion], list[Finding]]:
    ledger, versions = read_ledger(registry, name), registry.versions(name)
    return ledger, versions, list(quick_findings(registry, ledger, versions))
