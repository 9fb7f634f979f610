"""Versions and their files: stored, loaded after a check, found, measured and deleted; and the registered models."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from fxhelpers.bundles import Bundle, check_recipe
from fxhelpers.errors import ModelTamperedError, NotComparableError, ParamsError, RegistryError, VersionNotFoundError
from fxhelpers.ledger import Identity
from fxhelpers.params import MODEL_PREFIX, is_symbol, nearest
from fxhelpers.registry._calls import UnexpectedResponseError, all_pages, is_transient
from fxhelpers.registry._client import (
    ALIAS_TAG,
    ANY_MODEL,
    CHAMPION,
    IS_PROMPT,
    RegistryClient,
    ignoring,
    log_values,
    new_run,
    quoted,
)
from fxhelpers.registry._versions import (
    BUNDLE_DIGEST,
    RECIPE_DIGEST,
    LoadedModel,
    ModelVersion,
    as_version,
    load_pipeline,
    save_pipeline,
)
from fxhelpers.system import folder_digest

MODEL_DIGEST = "fx.model_sha256"
PRUNED = "fx.pruned"  # tag of a version whose files were deleted: id of the decision that did so

_PIPELINE, _FILES = "model", "artifacts"  # folders of a version's run: its pipeline; its scaler alone and its metadata
_OWN_TAGS = ("model_family", "task", "target", "symbol", "version_timestamp")
_TRIES = 3
_MOST_NAMED = 10
_PAGE, _READINGS = 1000, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A bundle whose files are in a run, of which :func:`create_version` makes a version."""

    run_id: str
    digest: str
    tags: dict[str, str]
    description: str


def check_tags(tags: dict[str, str]) -> None:
    """Raise :class:`ParamsError` for tags that only fxhelpers sets, or that no database can keep."""
    if any("\x00" in text for tag in tags.items() for text in tag):
        msg = "tags: a zero byte cannot be stored; remove it"
        raise ParamsError(msg)
    taken = [key for key in tags if key in _OWN_TAGS or key.startswith("fx.")]
    if taken:
        own = ", ".join(_OWN_TAGS)
        msg = f"tags: {', '.join(taken)}: set by fxhelpers itself, like {own} and all that begin with fx.; use other names"
        raise ParamsError(msg)


def store_bundle(
    registry: RegistryClient, bundle: Bundle, name: str, *, description: str | None, tags: dict[str, str]
) -> StoredBundle | ModelVersion:
    """Store a bundle's files in a run with these tags, or return the version that the same bundle is already.

    Before, its recipe must give the forecasts that it holds: :class:`RollingForecastsError` if not.
    """
    existing = registry.find_version(name, BUNDLE_DIGEST, bundle.digest)
    if existing:
        registry.annotate(name, existing.version, tags=tags, description=description)
        return registry.version(name, existing.version)
    check_recipe(bundle)
    own = dict(zip(_OWN_TAGS, (bundle.model_type, "regression", "stock_returns", bundle.symbol, bundle.timestamp), strict=True))
    run_id, digest = _store(registry, bundle, name, {**tags, **own})
    digests = {BUNDLE_DIGEST: bundle.digest, MODEL_DIGEST: digest, RECIPE_DIGEST: bundle.recipe.digest}
    return StoredBundle(
        run_id=run_id, digest=bundle.digest, tags={**tags, **own, **digests}, description=description or _describe(bundle)
    )


def _store(registry: RegistryClient, bundle: Bundle, name: str, tags: dict[str, str]) -> tuple[str, str]:
    """Store a bundle's pipeline, metrics and files in a new run; return the run's id and the pipeline's SHA-256."""
    settings, experiment = registry.params.model_registry, registry.experiment_id
    with tempfile.TemporaryDirectory(prefix="fx-register-") as folder, registry.session("register", name) as client:
        saved = Path(folder) / _PIPELINE
        save_pipeline(bundle, saved, registry.params.bundles)
        digest = folder_digest(saved)
        run_id = new_run(client, experiment, f"register_{bundle.symbol}_{bundle.timestamp}", tags)
        try:
            if settings.track_experiments:
                layers = ("architecture",) if bundle.architecture else ()  # an MLP's
                keys = ("symbol", "model_type", *layers, "features_count", "timestamp")
                config = {f"config_{key}": value for key, value in bundle.config.items()}
                log_values(client, run_id, {key: getattr(bundle, key) for key in keys} | config, bundle.metrics)
            client.log_artifacts(run_id, str(saved), _PIPELINE)
            _check_arrived(registry, name, run_id, digest)
            if settings.save_artifacts:
                scaler = Path(folder) / f"mlp_scaler_{bundle.name}.skops"
                scaler.write_bytes(bundle.scaler_content)
                for path in (scaler, bundle.metadata_path):
                    client.log_artifact(run_id, str(path), _FILES)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        return run_id, digest


def _check_arrived(registry: RegistryClient, name: str, run_id: str, digest: str) -> None:
    if registry.params.is_server and _download_digest(registry, "register", name, run_id) != digest:
        msg = f"{registry.uri} stored other files than were sent; no version was made: check proxies on the way to it"
        raise RegistryError(msg)


def _describe(bundle: Bundle) -> str:
    error = bundle.metrics.get("val_rmse")
    measured = f"validation RMSE {error:.6f}" if error is not None else "no validation RMSE recorded"
    layers = f"hidden layers {bundle.architecture}, " if bundle.architecture else ""
    return (
        f"{bundle.model_type} forecasting the next day's return of {bundle.symbol}: {layers}{bundle.features_count} features, "
        f"{measured}, trained {bundle.timestamp}."
    )


def create_version(registry: RegistryClient, stored: StoredBundle, name: str) -> tuple[ModelVersion, bool]:
    """Create the version of a stored bundle and return it with True; with False if another process was faster."""
    with registry.session("register", name) as client:
        existing = registry.find_version(name, BUNDLE_DIGEST, stored.digest)
        if existing:
            return existing, False
        try:
            created = _create_once(client, name, stored, registry.uri)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            with ignoring("RESOURCE_ALREADY_EXISTS"):
                client.create_registered_model(name)
            created = _create_once(client, name, stored, registry.uri)
    return as_version(created, champion=None), created.run_id == stored.run_id


def _create_once(client: MlflowClient, name: str, stored: StoredBundle, uri: str) -> MlflowModelVersion:
    """Create a version, and delete it if its bundle has an older one: the network may deliver the call late or twice."""
    source, tags, text = f"runs:/{stored.run_id}/{_PIPELINE}", stored.tags, stored.description
    lost: Exception = VersionNotFoundError(f"cannot register {name}: {uri} reported success, but has no such version")
    for _ in range(_TRIES):
        try:
            client.create_model_version(name, source, stored.run_id, tags=tags, description=text, await_creation_for=0)
        except (MlflowException, requests.RequestException, UnexpectedResponseError) as error:
            lost = error
        same = client.search_model_versions(f"name={quoted(name)} and tags.`{BUNDLE_DIGEST}` = {quoted(stored.digest)}")
        found = sorted(same, key=lambda v: int(v.version))
        for copy in (v for v in found[1:] if v.run_id == stored.run_id):
            client.delete_model_version(name, str(copy.version))
        if found:
            return found[0]
        if not is_transient(lost):
            break
    raise lost


def load_version(registry: RegistryClient, name: str, version: int) -> LoadedModel:
    """Load a version's pipeline after checking its bytes against the digest of its registration.

    :class:`ModelTamperedError` if the stored files are not those that were registered; :class:`NotComparableError` if no digest
    is known, as it was not registered by fxhelpers; :class:`VersionNotFoundError` if it does not exist, or a decision deleted
    its files.
    """
    return load_found(registry, registry.version(name, version))


def load_found(registry: RegistryClient, found: ModelVersion) -> LoadedModel:
    """Load a version that was just found, as :func:`load_version` does, in fewer calls."""
    who, recorded = f"version {found.version} of {found.name}", found.tags.get(MODEL_DIGEST)
    if recorded is None:
        msg = f"{who} was not registered by fxhelpers: it has no digest to check its bytes, so they are not loaded"
        raise NotComparableError(msg)
    if found.tags.get(PRUNED):
        msg = f"the files of {who} were deleted on purpose, by decision {found.tags[PRUNED]}"
        raise VersionNotFoundError(msg)
    with tempfile.TemporaryDirectory(prefix="fx-load-") as folder:
        for attempt in range(2 if registry.params.is_server else 1):  # the network may damage files once
            to = Path(folder) / str(attempt)
            to.mkdir()
            with registry.files("load", who, found.run_id) as files:
                local = Path(files.download_artifacts(_PIPELINE, str(to)))
            stored = folder_digest(local)
            if stored == recorded:
                return load_pipeline(local, found, registry.params.bundles)
    msg = (
        f"{who}: the stored files have SHA-256 {stored[:12]}…, registered were {recorded[:12]}…; they changed since and were "
        "not loaded. Promote or roll back to another version, and find out who can write there."
    )
    raise ModelTamperedError(msg)


def stored_digest(registry: RegistryClient, version: ModelVersion) -> str | None:
    """Return the SHA-256 of a version's stored pipeline; None if its files are gone."""
    try:
        return _download_digest(registry, "read", version.name, version.run_id) if version.run_id else None
    except VersionNotFoundError:  # its run was deleted for good
        return None


def _download_digest(registry: RegistryClient, doing: str, name: str, run_id: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="fx-digest-") as to, registry.files(doing, name, run_id) as files:
        return folder_digest(Path(files.download_artifacts(_PIPELINE, to))) if files.list_artifacts(_PIPELINE) else None


def misdirected(registry: RegistryClient, version: ModelVersion) -> str | None:
    """Return where MLflow takes a version's files from, if not from the run that it was registered with."""
    with registry.session("find the files of", version.name) as client:
        actual = str(client.get_model_version_download_uri(version.name, str(version.version)))
        expected = f"{client.get_run(version.run_id).info.artifact_uri}/{_PIPELINE}"
    return None if actual in {expected, f"runs:/{version.run_id}/{_PIPELINE}"} else actual


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
            found = bool(files.list_artifacts(_PIPELINE))
    except VersionNotFoundError:
        return Place(uri=version.source)
    uri = str(run.info.artifact_uri)
    local = registry.params.is_server and urlsplit(uri).scheme in {"", "file"}
    return Place(uri=uri, in_trash=run.info.lifecycle_stage == "deleted", on_a_clients_disk=local, found=found)


def stored_bytes(registry: RegistryClient, version: ModelVersion) -> int:
    """Return the size of a version's files in bytes; 0 if they are gone."""
    with registry.files(f"measure version {version.version} of", version.name, version.run_id) as files:
        return sum(size for folder in (_PIPELINE, _FILES) for size in _sizes(files, folder))


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
            if entry.path in (_PIPELINE, _FILES):
                files.delete_artifacts(entry.path)


def registered_models(registry: RegistryClient, prefix: str = MODEL_PREFIX) -> dict[str, Identity | None]:
    """Return the version in Production, or None, of each registered model whose name has a prefix; with "" also of locks."""
    with registry.session("list the registered models") as client:
        models = [model for model in _listed(client, prefix) if model.tags.get(IS_PROMPT) != "true"]
    champions = {str(model.name): model.aliases.get(CHAMPION) for model in models}
    tagged = {str(model.name): model.tags.get(f"{ALIAS_TAG}{CHAMPION}") for model in models}
    if any(tagged.values()) and not registry.connection.aliases:
        champions = tagged
    # the response has the newest version of each stage: mostly, also the champion
    latest = {(v.name, str(v.version)): v for model in models for v in model.latest_versions or ()}
    found = {key: Identity(int(version.version), version.tags.get(BUNDLE_DIGEST, "")) for key, version in latest.items()}
    return {
        name: (found.get((name, str(number))) or registry.champion_identity(name)) if number else None
        for name, number in champions.items()
    }


WATCH_TAG = "fx.watch"
"""Tag of a registered model: what the last watch found of it, and on which day. It is no evidence."""


def watch_words(registry: RegistryClient) -> dict[str, str]:
    """Return what the last watch found of each registered model, such as ``healthy, 2026-11-27``; without those never watched."""
    with registry.session("list the registered models") as client:
        return {str(model.name): text for model in _listed(client, MODEL_PREFIX) if (text := model.tags.get(WATCH_TAG))}


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
