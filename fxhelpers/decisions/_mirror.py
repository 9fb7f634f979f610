"""What MLflow shows of the ledger: aliases, stages, files; checked and brought in line."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from fxhelpers.errors import LockLostError, RegistryError, VersionNotFoundError, VersionReplacedError
from fxhelpers.ledger import Decision, Identity, Ledger, named
from fxhelpers.registry import BUNDLE_DIGEST, CHAMPION, PRUNED, ModelVersion, RegistryClient
from fxhelpers.registry.ledgers import LedgerWriter, read_serving
from fxhelpers.registry.ledgers import writing as writing_ledger
from fxhelpers.registry.storage import delete_files

logger = logging.getLogger(__name__)


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


def find(registry: RegistryClient, ledger: Ledger, named_versions: Identity) -> ModelVersion:
    """Return the version that the ledger means.

    Raises
    ------
    VersionReplacedError
        It is not there, or its number stands for another one; the message
        says what happened.
    """
    versions = registry.versions(ledger.name)
    there = next((version for version in versions if version.identity == named_versions), None)
    if there is not None:
        return there
    why = became(ledger, named_versions, versions, renamed(registry, ledger, named_versions))
    msg = (
        f"{ledger.name}: {named_versions} ({named_versions.short}) is not there any more: {why}. Nothing was changed: fx verify "
        f"{ledger.symbol} says more, fx rollback {ledger.symbol} --version N --reason TEXT takes another"
    )
    raise VersionReplacedError(msg)


def became(ledger: Ledger, named_versions: Identity, versions: Iterable[ModelVersion], new_name: str | None) -> str:
    """Say what became of a version that the ledger means and the registry does not have."""
    there = next((version for version in versions if version.version == named_versions.number), None)
    if named_versions.bundle is None:
        return f"no entry tells which bundle {named_versions} was"
    if there is not None and there.run_id in _runs(ledger, named_versions):
        return f"its tag {BUNDLE_DIGEST} was {'edited' if BUNDLE_DIGEST in there.tags else 'deleted'}"
    anew = f", and number {named_versions.number} given to {there.identity.short}" if there is not None else ""
    if new_name:
        return f"the registered model was renamed to {new_name} in MLflow{anew}"
    return f"the registered model was deleted in MLflow and made anew{anew}" if anew else "it was deleted in MLflow"


def renamed(registry: RegistryClient, ledger: Ledger, named_versions: Identity) -> str | None:
    """Return the registered model that has a version of the ledger by now; None where none has."""
    return next((name for run in _runs(ledger, named_versions) if (name := registry.elsewhere(ledger.name, run))), None)


def _registered(ledger: Ledger, number: int) -> dict[str, Identity]:
    """Return the versions that were registered by a number, by run: the first of each, as a repeated one takes over edits."""
    firsts: dict[str, Identity] = {}
    for decision in ledger.registrations.get(number, []):
        run = decision.outcome.facts.get("run_id") if decision.outcome else None
        firsts.setdefault(str(run or decision.id), decision.identity(number))
    return firsts


def _runs(ledger: Ledger, named_versions: Identity) -> list[str]:
    """Return the runs that a version was registered with."""
    done = [d for d in ledger.registrations.get(named_versions.number, []) if d.identity(named_versions.number) == named_versions]
    return [str(d.outcome.facts["run_id"]) for d in done if d.outcome and d.outcome.facts.get("run_id")]


def mark(registry: RegistryClient, decision: Decision, versions: Iterable[ModelVersion]) -> None:
    """Keep versions from being promoted, before it is decided that their files go."""
    for version in versions:
        registry.annotate(version.name, version.version, tags={PRUNED: decision.id})


def finish(registry: RegistryClient, decision: Decision) -> None:
    """Delete the files that a decision deletes, or, where it did not get that far, let its versions be used again."""
    for number in decision.intent.facts.get("prune", []):
        try:
            version = registry.version(decision.model_name, number)
        except VersionNotFoundError:
            continue
        if version.tags.get(PRUNED) != decision.id:
            continue
        if decision.outcome and number in decision.outcome.facts.get("pruned", []):
            delete_files(registry, version)
        else:
            registry.annotate(version.name, number, tags={PRUNED: ""})


_ROUNDS = 3


@contextmanager
def writing(registry: RegistryClient, name: str) -> Iterator[LedgerWriter]:
    """Take the lock of a registered model, and give its ledger to append to; who comes too late leaves the alias to others."""
    with writing_ledger(registry, name) as ledger:
        try:
            yield ledger
        except LockLostError:
            align(registry, name, LedgerWriter(registry, name))
            mirror_stages(registry, name)
            raise


def serving(registry: RegistryClient, name: str) -> ModelVersion | None:
    """Return the version in Production, as the ledger has it; None where there is none. A wrong alias is told of, and left."""
    champion, found = _champion_and_alias(registry, name, read_serving(registry, name))
    if identity_of(champion) != identity_of(found):
        logger.warning(
            "%s: by the ledger %s is in Production, and MLflow's alias points to %s; the next decision, or fx verify --repair, "
            "puts it back",
            name,
            _named(champion),
            _named(found),
        )
    return champion


def align(registry: RegistryClient, name: str, ledger: LedgerWriter) -> tuple[ModelVersion | None, ModelVersion | None]:
    """Set MLflow's alias to what the ledger says; return the version in Production, and what the alias was found to point to."""
    champion, found = _champion_and_alias(registry, name, ledger.serving)
    if identity_of(champion) != identity_of(found):
        _point(registry, name, champion.version if champion else None)
        if ledger.overtaken():  # this came late
            align(registry, name, LedgerWriter(registry, name))
    return champion, found


def mirror(registry: RegistryClient, name: str, ledger: LedgerWriter) -> None:
    """Set MLflow's alias and stages to what was just decided, and look whether it still is the last word: this may come late."""
    for _ in range(_ROUNDS):
        try:
            align(registry, name, ledger)
            mirror_stages(registry, name)
            if not ledger.overtaken():
                return
            ledger = LedgerWriter(registry, name)
        except RegistryError as error:
            serves = ledger.champion
            msg = (
                f"{name}: {named(serves.number if serves else None)} is in Production by the ledger, as was decided, but "
                f"MLflow's alias and stages may not say so yet: fx verify --repair sets them ({error})"
            )
            raise RegistryError(msg[:600]) from error


def mirror_stages(registry: RegistryClient, name: str) -> None:
    """Let MLflow's stages say what the alias says: the champion is in Production, and nobody else."""
    versions = registry.versions(name)
    lagging = [version for version in versions if version.mirror_lags]
    for version in sorted(lagging, key=lambda v: v.stage != "Production"):
        registry.set_stage(name, version.version, "Production" if version.stage == "Production" else retired(registry))


def retired(registry: RegistryClient) -> str:
    """Return the stage of a version that was champion."""
    return "Archived" if registry.params.model_registry.auto_archive else "Staging"


def _champion_and_alias(
    registry: RegistryClient, name: str, told: tuple[Identity | None] | None
) -> tuple[ModelVersion | None, ModelVersion | None]:
    """Return the version that the ledger means, and the one that the alias points to.

    Where nothing was ever decided, or the version that is meant was deleted
    or edited in MLflow, the alias is all there is.
    """
    found = registry.champion(name)
    if told is None:
        return found, found
    (named_versions,) = told
    if named_versions is None or (found and named_versions.may_be(found.identity)):
        return (found if named_versions else None), found
    try:
        there = registry.version(name, named_versions.number)
    except VersionNotFoundError:
        return found, found
    return (replace(there, stage="Production"), found) if named_versions.may_be(there.identity) else (found, found)


def _point(registry: RegistryClient, name: str, version: int | None) -> None:
    """Move the alias, and read it back: what stands between here and the registry may say yes to anything."""
    if version is None:
        registry.drop_alias(name, CHAMPION)
    else:
        registry.set_alias(name, CHAMPION, version)
    now = registry.champion_number(name)
    if now != version:
        msg = f"{name}: {registry.uri} said yes to {named(version)} as champion, but has {named(now)}; look at what lies between"
        raise RegistryError(msg)


def identity_of(version: ModelVersion | None) -> Identity | None:
    """Return which version it is; None for none."""
    return version.identity if version else None


def _named(version: ModelVersion | None) -> str:
    return named(version.version if version else None)
