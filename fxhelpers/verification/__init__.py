"""Verification: whether registry, ledger, records and evidence still tell one story."""

import time
from typing import Any

from fxhelpers.errors import VersionNotFoundError
from fxhelpers.ledger import Ledger
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.processes import utc_now
from fxhelpers.registry import ModelVersion, RegistryClient, in_production
from fxhelpers.registry.ledgers import read_ledger, read_ledgers
from fxhelpers.registry.storage import registered_models
from fxhelpers.reports import note_models, standing
from fxhelpers.verification.deep import deep_findings
from fxhelpers.verification.quick import quick_findings
from fxhelpers.verification.repair import repair
from fxhelpers.verification.report import Finding, Verification

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
    models, decisions = known_models(registry, name), 0
    findings: list[Finding] = []
    standings: list[dict[str, Any]] = []
    for model in models:
        ledger, versions, found = _look(registry, model)
        if any(finding.level == "problem" for finding in found):
            time.sleep(_SECOND_LOOK)
            ledger, versions, again = _look(registry, model)
            found = [finding for finding in again if finding in found]
        found += deep_findings(registry, ledger, versions) if deep else ()
        if name and not (ledger.decisions or versions or found):
            msg = f"{name}: no version, no decision and no record of it at {registry.uri} or in {registry.params.paths.records}"
            raise VersionNotFoundError(msg)
        findings += found
        decisions += len(ledger.decisions)
        champion = in_production(versions)
        problems = [f"{finding.what}. What to do: {finding.do}" for finding in found if finding.level == "problem"]
        looked = {"time": utc_now(), "deep": deep, "problems": problems}
        standings.append({**standing(ledger, champion.version if champion else None), "verified": looked})
    note_models(registry.params.paths.records, standings)
    findings.sort(key=lambda finding: finding.level == "note")
    return Verification(models=tuple(models), decisions=decisions, deep=deep, findings=tuple(findings), uri=registry.uri)


def known_models(registry: RegistryClient, name: str | None = None) -> list[str]:
    """Return the registered models that have a ledger, or that have lost it; only the given one where there is one.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    name : str, optional
        Registered model.
    """
    if name:
        return [name]
    known = {model for model in registered_models(registry) if model.startswith(MODEL_PREFIX)}
    known |= {
        f"{MODEL_PREFIX}{folder.name}"
        for folder in registry.params.paths.records.glob("*")
        if folder.is_dir() and not folder.name.startswith("_")
    }
    return sorted(known | set(read_ledgers(registry)))


def _look(registry: RegistryClient, name: str) -> tuple[Ledger, list[ModelVersion], list[Finding]]:
    ledger, versions = read_ledger(registry, name), registry.versions(name)
    return ledger, versions, list(quick_findings(ledger, versions, registry.params.paths.records, registry.uri))
