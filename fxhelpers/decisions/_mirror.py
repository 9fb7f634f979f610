"""MLflow's view of the ledger: versions, aliases, stages and files; checked, and brought in line with the ledger."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from fxhelpers.errors import LockLostError, RegistryError, VersionNotFoundError, VersionReplacedError
from fxhelpers.ledger import Decision, Identity, Ledger, version_name
from fxhelpers.registry import BUNDLE_DIGEST, CHAMPION, PRUNED, ModelVersion, RegistryClient
from fxhelpers.registry.ledger_store import LedgerWriter, read_serving, writing
from fxhelpers.registry.storage import delete_files

logger = logging.getLogger(__name__)

_ROUNDS = 3


def check_registered(ledger: Ledger, version: ModelVersion, *, registering: bool = False) -> ModelVersion:
    """Return a version; :class:`VersionReplacedError` if only others were registered by its number, or its digest was edited."""
    known = _registered(ledger, version.version)
    edited = known.get(version.run_id, version.identity) != version.identity
    if not edited and (registering or not known or version.identity in known.values()):
        return version
    was = known[version.run_id] if edited else list(known.values())[-1]
    msg = (
        f"{version.name}: version {version.version} ({version.identity.short}) is not the one registered ({was.short}): "
        f"{became(ledger, was, [version], None)}. Nothing was changed. What to do: fx verify {ledger.symbol}"
    )
    raise VersionReplacedError(msg)


def find(registry: RegistryClient, ledger: Ledger, wanted: Identity) -> ModelVersion:
    """Return the registry's version of an identity; :class:`VersionReplacedError` if it is gone or was replaced."""
    versions = registry.versions(ledger.name)
    found = next((version for version in versions if version.identity == wanted), None)
    if found is not None:
        return found
    why = became(ledger, wanted, versions, renamed(registry, ledger, wanted))
    msg = (
        f"{ledger.name}: {wanted} ({wanted.short}) no longer exists: {why}. Nothing was changed. Details: fx verify "
        f"{ledger.symbol}; another version: fx rollback {ledger.symbol} --version N --reason TEXT"
    )
    raise VersionReplacedError(msg)


def became(ledger: Ledger, lost: Identity, versions: Iterable[ModelVersion], new_name: str | None) -> str:
    """Return what became of a version that the ledger names and the registry does not have, in words."""
    found = next((version for version in versions if version.version == lost.number), None)
    if lost.bundle is None:
        return f"no entry tells which bundle {lost} was"
    if found is not None and found.run_id in _runs(ledger, lost):
        return f"its tag {BUNDLE_DIGEST} was {'edited' if BUNDLE_DIGEST in found.tags else 'deleted'}"
    reassigned = f", and number {lost.number} given to {found.identity.short}" if found is not None else ""
    if new_name:
        return f"the registered model was renamed to {new_name} in MLflow{reassigned}"
    return f"the registered model was deleted in MLflow and made anew{reassigned}" if reassigned else "it was deleted in MLflow"


def renamed(registry: RegistryClient, ledger: Ledger, version: Identity) -> str | None:
    """Return the other registered model that has a version of the ledger now; None if none has."""
    return next((name for run in _runs(ledger, version) if (name := registry.elsewhere(ledger.name, run))), None)


def _registered(ledger: Ledger, number: int) -> dict[str, Identity]:
    """Return the versions that were registered by a number, by run: the first of each, as a repeated one takes over edits."""
    firsts: dict[str, Identity] = {}
    for decision in ledger.registrations.get(number, []):
        firsts.setdefault(decision.outcome_facts.run_id or decision.id, decision.identity(number))
    return firsts


def _runs(ledger: Ledger, version: Identity) -> list[str]:
    done = [d for d in ledger.registrations.get(version.number, []) if d.identity(version.number) == version]
    return [run for d in done if (run := d.outcome_facts.run_id)]


def mark(registry: RegistryClient, decision: Decision, versions: Iterable[ModelVersion]) -> None:
    """Keep versions from being promoted, before their files are deleted."""
    for version in versions:
        registry.annotate(version.name, version.version, tags={PRUNED: decision.id})


def finish(registry: RegistryClient, decision: Decision) -> None:
    """Delete the files that a decision deletes; release its versions if it was not carried out."""
    for number in decision.intent.facts.prune:
        try:
            version = registry.version(decision.model_name, number)
        except VersionNotFoundError:
            continue
        if version.tags.get(PRUNED) != decision.id:
            continue
        if number in decision.outcome_facts.pruned:
            delete_files(registry, version)
        else:
            registry.annotate(version.name, number, tags={PRUNED: ""})


@contextmanager
def writing_mirrored(registry: RegistryClient, name: str) -> Iterator[LedgerWriter]:
    """Take the lock of a registered model, and yield its ledger to append to; after a lost lock, set the alias right again."""
    with writing(registry, name) as ledger:
        try:
            yield ledger
        except LockLostError:
            align(registry, name, LedgerWriter(registry, name))
            mirror_stages(registry, name)
            raise


def serving(registry: RegistryClient, name: str) -> ModelVersion | None:
    """Return the version in Production, by the ledger; None if there is none. A wrong alias is logged, not changed."""
    champion, alias = _champion_and_alias(registry, name, read_serving(registry, name))
    if identity_of(champion) != identity_of(alias):
        names = (version_name(version.version if version else None) for version in (champion, alias))
        text = "%s: by the ledger %s is in Production, but MLflow's alias points to %s; fx verify --repair sets it"
        logger.warning(text, name, *names)
    return champion


def align(registry: RegistryClient, name: str, ledger: LedgerWriter) -> tuple[ModelVersion | None, ModelVersion | None]:
    """Set MLflow's alias to the ledger's champion; return the champion, and the version that the alias pointed to."""
    champion, alias = _champion_and_alias(registry, name, ledger.serving)
    if identity_of(champion) != identity_of(alias):
        _point(registry, name, champion.version if champion else None)
        if ledger.overtaken():  # this came late
            align(registry, name, LedgerWriter(registry, name))
    return champion, alias


def mirror(registry: RegistryClient, name: str, ledger: LedgerWriter) -> None:
    """Set MLflow's alias and stages to what was just decided under the lock, and again if others decided meanwhile."""
    for turn in range(_ROUNDS):
        try:
            if turn:
                align(registry, name, ledger)
            else:
                _point(registry, name, ledger.champion.number if ledger.champion else None)
            mirror_stages(registry, name)
            if not ledger.overtaken():
                return
            ledger = LedgerWriter(registry, name)
        except RegistryError as error:
            serves = ledger.champion
            msg = (
                f"{name}: {version_name(serves.number if serves else None)} is in Production by the ledger, as was decided, but "
                f"MLflow's alias and stages may lag behind: fx verify --repair sets them ({error})"
            )
            raise RegistryError(msg[:600]) from error


def mirror_stages(registry: RegistryClient, name: str) -> None:
    """Set MLflow's stages to what the alias says: only the champion is in Production."""
    lagging = [version for version in registry.versions(name) if version.mirror_lags]
    for version in sorted(lagging, key=lambda v: v.stage != "Production"):
        registry.set_stage(name, version.version, "Production" if version.stage == "Production" else retired(registry))


def retired(registry: RegistryClient) -> str:
    return "Archived" if registry.params.model_registry.auto_archive else "Staging"


def _champion_and_alias(
    registry: RegistryClient, name: str, stated: tuple[Identity | None] | None
) -> tuple[ModelVersion | None, ModelVersion | None]:
    """Return the ledger's champion, and the version that the alias points to.

    The alias counts if nothing was ever decided, or if the champion was deleted or edited in MLflow.
    """
    alias = registry.champion(name)
    if stated is None:
        return alias, alias
    (champion,) = stated
    if champion is None or (alias and champion.may_be(alias.identity)):
        return (alias if champion else None), alias
    try:
        version = registry.version(name, champion.number, champion=alias.version if alias else None)
    except VersionNotFoundError:
        return alias, alias
    return (replace(version, stage="Production"), alias) if champion.may_be(version.identity) else (alias, alias)


def _point(registry: RegistryClient, name: str, version: int | None) -> None:
    """Move the alias, and read it back: a proxy in between may report success without doing it."""
    if version is None:
        registry.drop_alias(name, CHAMPION)
    else:
        registry.set_alias(name, CHAMPION, version)
    now = registry.champion_number(name)
    if now != version:
        msg = (
            f"{name}: {registry.uri} accepted {version_name(version)} as champion, but has {version_name(now)}; check the "
            "proxies in between, then run fx verify --repair"
        )
        raise RegistryError(msg)


def identity_of(version: ModelVersion | None) -> Identity | None:
    return version.identity if version else None
