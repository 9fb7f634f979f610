"""Who serves: what the ledger's last entry says. MLflow's alias and stages are its mirror, and are set to it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fxhelpers.errors import LockLostError, RegistryError, VersionNotFoundError
from fxhelpers.ledger import Identity, named
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.client import CHAMPION
from fxhelpers.registry.ledgers import LedgerWriter, read_serving
from fxhelpers.registry.ledgers import writing as writing_ledger

logger = logging.getLogger(__name__)

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
    (meant,) = told
    if meant is None or (found and meant.may_be(found.identity)):
        return (found if meant else None), found
    try:
        there = registry.version(name, meant.number)
    except VersionNotFoundError:
        return found, found
    return (replace(there, stage="Production"), found) if meant.may_be(there.identity) else (found, found)


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
