"""Which version a number stands for by now: MLflow gives numbers again, and lets versions be renamed, deleted and edited."""

from collections.abc import Iterable

from fxhelpers.errors import VersionReplacedError
from fxhelpers.ledger import Identity, Ledger
from fxhelpers.registry import BUNDLE_DIGEST, ModelVersion, RegistryClient


def check_registered(ledger: Ledger, version: ModelVersion, *, registering: bool = False) -> ModelVersion:
    """Return a version if it is one that was registered by its number, or if none was, or if this is being done.

    Raises
    ------
    VersionReplacedError
        Another one was, and no registration of this one is in the ledger; or
        its digest was edited.
    """
    known = _registered(ledger, version.version)
    edited = known.get(version.run_id, version.identity) != version.identity
    if not edited and (registering or not known or version.identity in known.values()):
        return version
    was = known[version.run_id] if edited else list(known.values())[-1]
    msg = (
        f"{version.name}: version {version.version} ({version.identity.short}) is not the one registered ({was.short}): "
        f"{became(ledger, was, [version], None)}. Nothing was changed: fx verify {ledger.symbol} "
        "says what to do"
    )
    raise VersionReplacedError(msg)


def find(registry: RegistryClient, ledger: Ledger, meant: Identity) -> ModelVersion:
    """Return the version that the ledger means.

    Raises
    ------
    VersionReplacedError
        It is not there, or its number stands for another one; the message
        says what happened.
    """
    versions = registry.versions(ledger.name)
    there = next((version for version in versions if version.identity == meant), None)
    if there is not None:
        return there
    why = became(ledger, meant, versions, renamed(registry, ledger, meant))
    msg = (
        f"{ledger.name}: {meant} ({meant.short}) is not there any more: {why}. Nothing was changed: fx verify "
        f"{ledger.symbol} says more, fx rollback {ledger.symbol} --version N --reason TEXT takes another"
    )
    raise VersionReplacedError(msg)


def became(ledger: Ledger, meant: Identity, versions: Iterable[ModelVersion], new_name: str | None) -> str:
    """Say what became of a version that the ledger means and the registry does not have."""
    there = next((version for version in versions if version.version == meant.number), None)
    if meant.bundle is None:
        return f"no entry tells which bundle {meant} was"
    if there is not None and there.run_id in _runs(ledger, meant):
        return f"its tag {BUNDLE_DIGEST} was {'edited' if BUNDLE_DIGEST in there.tags else 'deleted'}"
    anew = f", and number {meant.number} given to {there.identity.short}" if there is not None else ""
    if new_name:
        return f"the registered model was renamed to {new_name} in MLflow{anew}"
    return f"the registered model was deleted in MLflow and made anew{anew}" if anew else "it was deleted in MLflow"


def renamed(registry: RegistryClient, ledger: Ledger, meant: Identity) -> str | None:
    """Return the registered model that has a version of the ledger by now; None where none has."""
    return next((name for run in _runs(ledger, meant) if (name := registry.elsewhere(ledger.name, run))), None)


def _registered(ledger: Ledger, number: int) -> dict[str, Identity]:
    """Return the versions that were registered by a number, by run: the first of each, as a repeated one takes over edits."""
    firsts: dict[str, Identity] = {}
    for decision in ledger.registrations.get(number, []):
        run = decision.outcome.facts.get("run_id") if decision.outcome else None
        firsts.setdefault(str(run or decision.id), decision.identity(number))
    return firsts


def _runs(ledger: Ledger, meant: Identity) -> list[str]:
    """Return the runs that a version was registered with."""
    done = [d for d in ledger.registrations.get(meant.number, []) if d.identity(meant.number) == meant]
    return [str(d.outcome.facts["run_id"]) for d in done if d.outcome and d.outcome.facts.get("run_id")]
