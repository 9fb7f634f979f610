"""Verification: whether registry, ledger, records and evidence still tell one story."""

from fxhelpers.errors import VersionNotFoundError
from fxhelpers.ledger import Ledger
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import read_ledger, read_ledgers
from fxhelpers.registry.storage import registered_models
from fxhelpers.verification.deep import deep_findings
from fxhelpers.verification.quick import OURS, quick_findings
from fxhelpers.verification.repair import repair
from fxhelpers.verification.report import Finding, Verification

__all__ = ["Finding", "Verification", "repair", "verify"]


def verify(registry: RegistryClient, name: str | None = None, *, deep: bool = False) -> Verification:
    """Check one registered model, or all that fxhelpers knows.

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
    ledgers = {name: read_ledger(registry, name)} if name else _all_ledgers(registry)
    findings: list[Finding] = []
    records = registry.params.paths.records
    for ledger in ledgers.values():
        versions = registry.versions(ledger.name)
        findings += quick_findings(ledger, versions, records)
        findings += deep_findings(registry, ledger, versions) if deep else ()
        if name and not (versions or ledger.decisions or findings):
            msg = f"{name}: no version, no decision and no record of it at {registry.uri} or in {records}"
            raise VersionNotFoundError(msg)
    findings.sort(key=lambda finding: finding.level == "note")
    decisions = sum(len(ledger.decisions) for ledger in ledgers.values())
    return Verification(models=tuple(ledgers), decisions=decisions, deep=deep, findings=tuple(findings))


def _all_ledgers(registry: RegistryClient) -> dict[str, Ledger]:
    """Return all ledgers, and empty ones for models and for records that have lost theirs."""
    ledgers = read_ledgers(registry)
    records = registry.params.paths.records
    known = [name for name in registered_models(registry) if name.startswith(OURS)]
    known += [f"{OURS}{folder.name}" for folder in records.glob("*") if folder.is_dir()]
    return ledgers | {name: Ledger(name=name) for name in sorted(set(known) - set(ledgers))}
