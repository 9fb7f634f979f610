"""Pruning: files are deleted once that is decided, and a decision that was interrupted before that leaves them usable."""

from collections.abc import Iterable

from fxhelpers.errors import VersionNotFoundError
from fxhelpers.ledger import Decision
from fxhelpers.registry import PRUNED, ModelVersion, RegistryClient
from fxhelpers.registry.storage import delete_files


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
