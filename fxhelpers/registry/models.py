"""Bundles, stored and made versions; and versions, loaded after a check of their bytes."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
from mlflow.exceptions import MlflowException

from fxhelpers.bundles import Bundle, check_recipe
from fxhelpers.errors import ModelTamperedError, NotComparableError, ParamsError, RegistryError, VersionNotFoundError
from fxhelpers.registry._calls import UnexpectedResponseError, is_transient
from fxhelpers.registry._client import (
    RegistryClient,
    ignoring,
    log_values,
    new_run,
    quoted,
)
from fxhelpers.registry._versions import (
    BUNDLE_DIGEST,
    RECIPE_DIGEST,
    ModelVersion,
    as_version,
)
from fxhelpers.registry.pipelines import LoadedModel, load_pipeline, save_pipeline
from fxhelpers.registry.storage import FILES, MODEL_DIGEST, PIPELINE, PRUNED, download_digest
from fxhelpers.system import folder_digest

_OWN_TAGS = ("model_family", "task", "target", "symbol", "version_timestamp")
_TRIES = 3


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
        saved, others = Path(folder) / PIPELINE, Path(folder) / FILES
        save_pipeline(bundle, saved, registry.params.bundles)
        digest = folder_digest(saved)
        if settings.save_artifacts:
            others.mkdir()
            (others / f"mlp_scaler_{bundle.name}.skops").write_bytes(bundle.scaler_content)
            shutil.copy(bundle.metadata_path, others)
        run_id = new_run(client, experiment, f"register_{bundle.symbol}_{bundle.timestamp}", tags)
        try:
            if settings.track_experiments:
                layers = ("architecture",) if bundle.architecture else ()  # an MLP's
                keys = ("symbol", "model_type", *layers, "features_count", "timestamp")
                config = {f"config_{key}": value for key, value in bundle.config.items()}
                log_values(client, run_id, {key: getattr(bundle, key) for key in keys} | config, bundle.metrics)
            client.log_artifacts(run_id, folder)
            _check_arrived(registry, name, run_id, digest)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        return run_id, digest


def _check_arrived(registry: RegistryClient, name: str, run_id: str, digest: str) -> None:
    if registry.params.is_server and download_digest(registry, "register", name, run_id) != digest:
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
    source, tags, text = f"runs:/{stored.run_id}/{PIPELINE}", stored.tags, stored.description
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
                local = Path(files.download_artifacts(PIPELINE, str(to)))
            stored = folder_digest(local)
            if stored == recorded:
                return load_pipeline(local, found, registry.params.bundles)
    msg = (
        f"{who}: the stored files have SHA-256 {stored[:12]}…, registered were {recorded[:12]}…; they changed since and were "
        "not loaded. Promote or roll back to another version, and find out who can write there."
    )
    raise ModelTamperedError(msg)
