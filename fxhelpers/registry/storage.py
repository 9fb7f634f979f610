"""What versions take on the store, and deleting it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from fxhelpers.errors import RegistryError, VersionNotFoundError
from fxhelpers.ledger import Identity
from fxhelpers.params import MODEL_PREFIX, is_symbol, nearest
from fxhelpers.registry._calls import all_pages
from fxhelpers.registry._client import ALIAS_TAG, ANY_MODEL, CHAMPION, IS_PROMPT, RegistryClient, quoted
from fxhelpers.registry._creating import FILES
from fxhelpers.registry._models import PIPELINE
from fxhelpers.registry._version import BUNDLE_DIGEST, ModelVersion

logger = logging.getLogger(__name__)

_MOST_NAMED = 10
_PAGE, _READINGS = 1000, 20


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a version's files are.

    Attributes
    ----------
    uri : str
        Of its run's files; what the version says where the run is gone for
        good.
    in_trash : bool
        Its run was deleted in MLflow, and can be restored.
    on_a_clients_disk : bool
        A server hands out a folder that it does not serve.
    found : bool
        There are files.
    """

    uri: str
    in_trash: bool
    on_a_clients_disk: bool
    found: bool


def files_of(registry: RegistryClient, version: ModelVersion) -> Place:
    """Look where a version's files are."""
    doing, nowhere = f"look for the files of version {version.version} of", {"in_trash": False, "on_a_clients_disk": False}
    if not version.run_id:
        return Place(uri=version.source, found=False, **nowhere)
    try:
        with registry.session(doing, version.name) as client:
            run = client.get_run(version.run_id)
        with registry.files(doing, version.name, version.run_id) as files:
            found = bool(files.list_artifacts(PIPELINE))
    except VersionNotFoundError:
        return Place(uri=version.source, found=False, **nowhere)
    uri = str(run.info.artifact_uri)
    local = registry.params.is_server and urlsplit(uri).scheme in {"", "file"}
    return Place(uri=uri, in_trash=run.info.lifecycle_stage == "deleted", on_a_clients_disk=local, found=found)


def registered_models(registry: RegistryClient, prefix: str = MODEL_PREFIX) -> dict[str, Identity | None]:
    """Return the version in Production of every registered model whose name begins so, None where there is none.

    By default those of symbols; with ``prefix=""`` all, locks among them.
    """
    with registry.session("list the registered models") as client:
        found = [model for model in _listed(client, prefix) if model.tags.get(IS_PROMPT) != "true"]
    champions = {str(model.name): model.aliases.get(CHAMPION) for model in found}
    tagged = {str(model.name): model.tags.get(f"{ALIAS_TAG}{CHAMPION}") for model in found}
    if any(tagged.values()) and not registry.connection.aliases:
        champions = tagged
    # MLflow tells the newest version of each stage with it, and the champion's stage is Production
    told = {(v.name, str(v.version)): v for model in found for v in model.latest_versions or ()}
    identities: dict[str, Identity | None] = {}
    for name, number in champions.items():
        there = told.get((name, str(number))) if number else None
        if there is not None:
            identities[name] = Identity(int(there.version), there.tags.get(BUNDLE_DIGEST, ""))
        else:
            identities[name] = registry.champion_identity(name) if number else None
    return identities


def _listed(client: MlflowClient, prefix: str) -> list[RegisteredModel]:
    """Return the registered models whose names begin so, all of them, whatever is created, renamed or deleted meanwhile.

    Pages are offsets in the order of names: after a model of an earlier page
    is deleted, the next page leaves one out. So the list is whole if it is one
    page, or if no name is in it twice and another reading still finds all.
    """
    asked = f"name LIKE {quoted(f'{prefix}%')} AND {ANY_MODEL}" if prefix else ANY_MODEL
    before: set[tuple[str, int | None]] = set()
    for _ in range(_READINGS):
        pages: list[Any] = []

        def ask(token: str | None, pages: list[Any] = pages) -> Any:  # noqa: ANN401 (a page, MLflow's)
            pages.append(client.search_registered_models(asked, max_results=_PAGE, order_by=["name ASC"], page_token=token))
            return pages[-1]

        found = all_pages(ask)
        read = {(str(model.name), model.creation_timestamp) for model in found}
        if len(pages) == 1 or (before and before <= read):
            return [model for model in found if model.name.startswith(prefix)]
        before = read if len(read) == len(found) else set()
    msg = f"registered models come and go while they are listed, {_READINGS} times in a row; try again"
    raise RegistryError(msg)


def registered_symbols(registry: RegistryClient) -> list[str]:
    """Return the symbols that have a registered model of their own; others were registered under names of somebody's own."""
    names = (name.removeprefix(MODEL_PREFIX) for name in registered_models(registry))
    return sorted(name for name in names if is_symbol(name))


def unknown_model(registry: RegistryClient, name: str) -> VersionNotFoundError:
    """Return the error that there is no version and no decision of a model; it names the symbols that may have been meant."""
    symbol, symbols = name.removeprefix(MODEL_PREFIX), registered_symbols(registry)
    known = f"{', '.join(symbols[:_MOST_NAMED])}{', …' if len(symbols) > _MOST_NAMED else ''}" or "none yet"
    msg = (
        f"unknown symbol {symbol}{nearest(symbol, symbols, most=3)}: no version and no decision of {name} at {registry.uri} "
        f"(known: {known}); register one: fx run register -p symbol {symbol}"
    )
    return VersionNotFoundError(msg)


def _sizes(files: ArtifactRepository, folder: str) -> Iterator[int]:
    for entry in files.list_artifacts(folder):
        if entry.is_dir:
            yield from _sizes(files, entry.path)
        else:
            yield int(entry.file_size or 0)
