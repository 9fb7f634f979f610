"""The files of versions: found, measured, checked and deleted; and the registered models."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from fxhelpers.errors import RegistryError, VersionNotFoundError
from fxhelpers.ledger import Identity
from fxhelpers.params import MODEL_PREFIX, is_symbol, nearest
from fxhelpers.registry._calls import all_pages
from fxhelpers.registry._client import (
    ALIAS_TAG,
    ANY_MODEL,
    CHAMPION,
    IS_PROMPT,
    RegistryClient,
    quoted,
)
from fxhelpers.registry._versions import (
    BUNDLE_DIGEST,
    ModelVersion,
)
from fxhelpers.system import folder_digest

MODEL_DIGEST = "fx.model_sha256"
WATCH_TAG = "fx.watch"  # tag of a registered model: what the last watch found of it, and on which day. It is no evidence
PRUNED = "fx.pruned"  # tag of a version whose files were deleted: id of the decision that did so

PIPELINE, FILES = "model", "artifacts"  # folders of a version's run: its pipeline; its scaler alone and its metadata
_MOST_NAMED = 10
_PAGE, _READINGS = 1000, 20


def stored_digest(registry: RegistryClient, version: ModelVersion) -> str | None:
    """Return the SHA-256 of a version's stored pipeline; None if its files are gone."""
    try:
        return download_digest(registry, "read", version.name, version.run_id) if version.run_id else None
    except VersionNotFoundError:  # its run was deleted for good
        return None


def download_digest(registry: RegistryClient, doing: str, name: str, run_id: str) -> str | None:
    """Return the SHA-256 of the pipeline that a run has; None if it has none."""
    with tempfile.TemporaryDirectory(prefix="fx-digest-") as to, registry.files(doing, name, run_id) as files:
        return folder_digest(Path(files.download_artifacts(PIPELINE, to))) if files.list_artifacts(PIPELINE) else None


def misdirected(registry: RegistryClient, version: ModelVersion) -> str | None:
    """Return where MLflow takes a version's files from, if not from the run that it was registered with."""
    with registry.session("find the files of", version.name) as client:
        actual = str(client.get_model_version_download_uri(version.name, str(version.version)))
        expected = f"{client.get_run(version.run_id).info.artifact_uri}/{PIPELINE}"
    return None if actual in {expected, f"runs:/{version.run_id}/{PIPELINE}"} else actual


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a version's files are, and whether they are there."""

    uri: str  # the version's own source if its run was deleted for good
    in_trash: bool = False  # its run was deleted in MLflow, and can be restored
    on_a_clients_disk: bool = False  # in a folder, which a server does not serve
    found: bool = False


def files_of(registry: RegistryClient, version: ModelVersion) -> Place:
    """Find out where a version's files are."""
    doing = f"look for the files of version {version.version} of"
    if not version.run_id:
        return Place(uri=version.source)
    try:
        with registry.session(doing, version.name) as client:
            run = client.get_run(version.run_id)
        with registry.files(doing, version.name, version.run_id) as files:
            found = bool(files.list_artifacts(PIPELINE))
    except VersionNotFoundError:
        return Place(uri=version.source)
    uri = str(run.info.artifact_uri)
    local = registry.params.is_server and urlsplit(uri).scheme in {"", "file"}
    return Place(uri=uri, in_trash=run.info.lifecycle_stage == "deleted", on_a_clients_disk=local, found=found)


def stored_bytes(registry: RegistryClient, version: ModelVersion) -> int:
    """Return the size of a version's files in bytes; 0 if they are gone."""
    with registry.files(f"measure version {version.version} of", version.name, version.run_id) as files:
        return sum(size for folder in (PIPELINE, FILES) for size in _sizes(files, folder))


def _sizes(files: ArtifactRepository, folder: str) -> Iterator[int]:
    for entry in files.list_artifacts(folder):
        if entry.is_dir:
            yield from _sizes(files, entry.path)
        else:
            yield int(entry.file_size or 0)


def delete_files(registry: RegistryClient, version: ModelVersion) -> None:
    """Delete the files that a registration stored; the version, its run and other files stay."""
    with registry.files(f"delete the files of version {version.version} of", version.name, version.run_id) as files:
        for entry in files.list_artifacts():
            if entry.path in (PIPELINE, FILES):
                files.delete_artifacts(entry.path)


def registered_models(registry: RegistryClient, prefix: str = MODEL_PREFIX) -> dict[str, Identity | None]:
    """Return the version in Production, or None, of each registered model whose name has a prefix; with "" also of locks."""
    return champions_and_words(registry, prefix)[0]


def champions_and_words(
    registry: RegistryClient, prefix: str = MODEL_PREFIX
) -> tuple[dict[str, Identity | None], dict[str, str]]:
    """Return the version in Production of each registered model, and what the last watch found: ``healthy, 2026-11-27``."""
    with registry.session("list the registered models") as client:
        models = [model for model in _listed(client, prefix) if model.tags.get(IS_PROMPT) != "true"]
    champions = {str(model.name): model.aliases.get(CHAMPION) for model in models}
    tagged = {str(model.name): model.tags.get(f"{ALIAS_TAG}{CHAMPION}") for model in models}
    if any(tagged.values()) and not registry.connection.aliases:
        champions = tagged
    # the response has the newest version of each stage: mostly, also the champion
    latest = {(v.name, str(v.version)): v for model in models for v in model.latest_versions or ()}
    found = {key: Identity(int(version.version), version.tags.get(BUNDLE_DIGEST, "")) for key, version in latest.items()}
    serving = {
        name: (found.get((name, str(number))) or registry.champion_identity(name)) if number else None
        for name, number in champions.items()
    }
    return serving, {str(model.name): text for model in models if (text := model.tags.get(WATCH_TAG))}


def note_watch(registry: RegistryClient, name: str, text: str) -> None:
    """Tag a registered model with what a watch found."""
    with registry.session("tag", name) as client:
        client.set_registered_model_tag(name, WATCH_TAG, text)


def _listed(client: MlflowClient, prefix: str) -> list[RegisteredModel]:
    """Return all registered models whose names have a prefix, even if some are created, renamed or deleted meanwhile.

    Pages are offsets in the order of names: after a model of an earlier page is deleted, the next page skips one. So the list
    is complete if it is one page, or if it has no name twice and a second reading finds all of it.
    """
    condition = f"name LIKE {quoted(f'{prefix}%')} AND {ANY_MODEL}" if prefix else ANY_MODEL
    before: set[tuple[str, int | None]] = set()
    for _ in range(_READINGS):
        pages = list(all_pages(lambda token: client.search_registered_models(condition, _PAGE, ["name ASC"], token)))
        found = [model for page in pages for model in page]
        read = {(str(model.name), model.creation_timestamp) for model in found}
        if len(pages) == 1 or (before and before <= read):
            return [model for model in found if model.name.startswith(prefix)]
        before = read if len(read) == len(found) else set()
    msg = f"registered models come and go while they are listed, {_READINGS} times in a row; try again"
    raise RegistryError(msg)


def registered_symbols(registry: RegistryClient) -> list[str]:
    """Return the symbols that have a registered model under its default name."""
    names = (name.removeprefix(MODEL_PREFIX) for name in registered_models(registry))
    return sorted(name for name in names if is_symbol(name))


def unknown_model(registry: RegistryClient, name: str) -> VersionNotFoundError:
    """Return the error that a model has no version and no decision, with the symbols that may be meant."""
    symbol, symbols = name.removeprefix(MODEL_PREFIX), registered_symbols(registry)
    known = f"{', '.join(symbols[:_MOST_NAMED])}{', …' if len(symbols) > _MOST_NAMED else ''}" or "none yet"
    msg = (
        f"unknown symbol {symbol}{nearest(symbol, symbols, most=3)}: no version and no decision of {name} at {registry.uri} "
        f"(known: {known}); register one: fx run register -p symbol {symbol}"
    )
    return VersionNotFoundError(msg)
