"""What versions take on the store, and deleting it."""

import logging
from collections.abc import Iterator

from mlflow.store.artifact.artifact_repo import ArtifactRepository

from fxhelpers.errors import VersionNotFoundError
from fxhelpers.params import MODEL_PREFIX, is_symbol, nearest
from fxhelpers.registry.calls import all_pages
from fxhelpers.registry.client import ALIAS_TAG, ANY_MODEL, CHAMPION, IS_PROMPT, RegistryClient
from fxhelpers.registry.creating import FILES
from fxhelpers.registry.models import PIPELINE
from fxhelpers.registry.version import ModelVersion

logger = logging.getLogger(__name__)


def stored_bytes(registry: RegistryClient, version: ModelVersion) -> int:
    """Return how many bytes a version's files take; 0 where they are gone."""
    with registry.files(f"measure version {version.version} of", version.name, version.run_id) as files:
        return sum(size for folder in (PIPELINE, FILES) for size in _sizes(files, folder))


def delete_files(registry: RegistryClient, version: ModelVersion) -> None:
    """Delete the files that a registration stored; the version, its run and whatever else lies there stay."""
    with registry.files(f"delete the files of version {version.version} of", version.name, version.run_id) as files:
        for entry in files.list_artifacts():
            if entry.path in (PIPELINE, FILES):
                files.delete_artifacts(entry.path)


def registered_models(registry: RegistryClient) -> dict[str, int | None]:
    """Return the version in Production of every registered model, None where there is none; locks are among the models."""
    with registry.session("list the registered models") as client:
        whole = all_pages(lambda token: client.search_registered_models(ANY_MODEL, max_results=1000, page_token=token))
        found = [model for model in whole if model.tags.get(IS_PROMPT) != "true"]
    champions = {str(model.name): model.aliases.get(CHAMPION) for model in found}
    tagged = {str(model.name): model.tags.get(f"{ALIAS_TAG}{CHAMPION}") for model in found}
    if any(tagged.values()) and not registry.connection.aliases:
        champions = tagged
    return {name: int(version) if version else None for name, version in champions.items()}


def registered_symbols(registry: RegistryClient) -> list[str]:
    """Return the symbols that have a registered model of their own; others were registered under names of somebody's own."""
    names = (name.removeprefix(MODEL_PREFIX) for name in registered_models(registry) if name.startswith(MODEL_PREFIX))
    return sorted(name for name in names if is_symbol(name))


def unknown_model(registry: RegistryClient, name: str) -> VersionNotFoundError:
    """Return the error that there is no version and no decision of a model; it names the symbols that may have been meant."""
    symbol = name.removeprefix(MODEL_PREFIX)
    meant = nearest(symbol, registered_symbols(registry), most=3)
    msg = f"{name}: no version and no decision of it at {registry.uri}{meant}; register one: fx run register -p symbol {symbol}"
    return VersionNotFoundError(msg)


def _sizes(files: ArtifactRepository, folder: str) -> Iterator[int]:
    for entry in files.list_artifacts(folder):
        if entry.is_dir:
            yield from _sizes(files, entry.path)
        else:
            yield int(entry.file_size or 0)
