"""Creating versions: a bundle is stored as one deployable pipeline, and a version made of it."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.utils import requirements_utils

from fxhelpers.bundles import TRUSTED_TYPES, Bundle
from fxhelpers.errors import ParamsError, RegistryError, VersionNotFoundError
from fxhelpers.files import folder_digest
from fxhelpers.foresightx import read_table
from fxhelpers.registry._causes import UnexpectedResponseError, is_passing
from fxhelpers.registry._client import RegistryClient, log_values, new_run, quoted, suppress_existing
from fxhelpers.registry._models import MODEL_DIGEST, PIPELINE
from fxhelpers.registry._version import BUNDLE_DIGEST, ModelVersion, as_version, write_probe

logger = logging.getLogger(__name__)

FILES = "artifacts"
"""Folder of a version's run that holds the scaler alone, and the metadata."""

_OWN_TAGS = ("model_family", "task", "target", "symbol", "version_timestamp")
_TRIES = 3
_PACKAGES = "_MODULES_TO_PACKAGES"


def check_tags(tags: dict[str, str]) -> None:
    """Raise :class:`ParamsError` for tags that are ours to set, or that no database keeps."""
    if any("\x00" in text for tag in tags.items() for text in tag):
        msg = "tags: a zero byte cannot be kept"
        raise ParamsError(msg)
    taken = [key for key in tags if key in _OWN_TAGS or key.startswith("fx.")]
    if taken:
        own = ", ".join(_OWN_TAGS)
        msg = f"tags: {', '.join(taken)}: set by fxhelpers itself ({own}, and all with fx. in front); use other names"
        raise ParamsError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A bundle whose files are in a run, and of which a version can be made.

    Attributes
    ----------
    run_id : str
        The run.
    digest : str
        Of the bundle.
    words : dict
        Tags and description of the version to be.
    """

    run_id: str
    digest: str
    words: dict[str, Any]


def store_bundle(
    registry: RegistryClient, bundle: Bundle, name: str, *, description: str | None, tags: dict[str, str]
) -> "StoredBundle | ModelVersion":
    """Store what a version of a registered model is made of, or return the version that the same bundle is already.

    One pipeline with signature, input example and explicit requirements, in
    the skops format. The tags go on the version and on its run, beside our
    own.
    """
    existing = registry.find_version(name, BUNDLE_DIGEST, bundle.digest)
    if existing:
        registry.annotate(name, existing.version, tags=tags, description=description)
        return registry.version(name, existing.version)
    own = dict(zip(_OWN_TAGS, ("MLP", "regression", "stock_returns", bundle.symbol, bundle.timestamp), strict=True))
    run_id, digest = _store(registry, bundle, name, {**tags, **own})
    digests = {BUNDLE_DIGEST: bundle.digest, MODEL_DIGEST: digest}
    words = {"tags": {**tags, **own, **digests}, "description": description or _describe(bundle)}
    return StoredBundle(run_id=run_id, digest=bundle.digest, words=words)


def create_version(registry: RegistryClient, stored: StoredBundle, name: str) -> tuple[ModelVersion, bool]:
    """Make a version of what is stored; False beside that of somebody who was faster."""
    with registry.session("register", name) as client:
        existing = registry.find_version(name, BUNDLE_DIGEST, stored.digest)
        if existing:
            return existing, False
        try:
            created = _create_once(client, name, stored, registry.uri)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            with suppress_existing():
                client.create_registered_model(name)
            created = _create_once(client, name, stored, registry.uri)
    return as_version(created, champion=None), created.run_id == stored.run_id


def _create_once(client: MlflowClient, name: str, stored: StoredBundle, uri: str) -> MlflowModelVersion:
    """Create a version, and make sure that there is one of its bundle, however often or late a network sent that.

    Whoever finds a version of a lower number beside its own was too late, and
    deletes its own.
    """
    run_id = stored.run_id
    lost: Exception = VersionNotFoundError(f"cannot register {name}: {uri} says that it did, and has no such version")
    for _ in range(_TRIES):
        try:
            client.create_model_version(name, f"runs:/{run_id}/{PIPELINE}", run_id, await_creation_for=0, **stored.words)
        except (MlflowException, requests.RequestException, UnexpectedResponseError) as error:
            lost = error
        same = client.search_model_versions(f"name={quoted(name)} and tags.`{BUNDLE_DIGEST}` = {quoted(stored.digest)}")
        found = sorted(same, key=lambda v: int(v.version))
        for copy in (v for v in found[1:] if v.run_id == run_id):
            client.delete_model_version(name, str(copy.version))
        if found:
            return found[0]
        if not is_passing(lost):
            break
    raise lost


def _store(registry: RegistryClient, bundle: Bundle, name: str, tags: dict[str, str]) -> tuple[str, str]:
    """Store a bundle's pipeline, metrics and files in a run of its own; return the run's id and the pipeline's SHA-256."""
    kept, experiment = registry.params.model_registry, registry.experiment_id
    with tempfile.TemporaryDirectory(prefix="fx-register-") as folder, registry.session("register", name) as client:
        saved = Path(folder) / PIPELINE
        _save(bundle, saved, registry.params.bundles.trusted_types)
        digest = folder_digest(saved)
        run_id = new_run(client, experiment, f"register_{bundle.symbol}_{bundle.timestamp}", tags)
        try:
            if kept.track_experiments:
                log_values(client, run_id, _run_params(bundle), bundle.metrics)
            client.log_artifacts(run_id, str(saved), PIPELINE)
            _check_arrived(registry, name, run_id, digest)
            if kept.save_artifacts:
                scaler = Path(folder) / f"mlp_scaler_{bundle.name}.skops"
                scaler.write_bytes(bundle.scaler_content)
                for path in (scaler, bundle.metadata_path):
                    client.log_artifact(run_id, str(path), FILES)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        return run_id, digest


def _check_arrived(registry: RegistryClient, name: str, run_id: str, digest: str) -> None:
    """Read back what was sent over a network, before a version is made of it."""
    if not registry.params.is_server:
        return
    with tempfile.TemporaryDirectory(prefix="fx-check-") as folder, registry.files("register", name, run_id) as files:
        arrived = folder_digest(Path(files.download_artifacts(PIPELINE, folder)))
    if arrived != digest:
        msg = f"{registry.uri} does not hold the files that were sent to it, so no version was made: look at what lies between"
        raise RegistryError(msg)


def _save(bundle: Bundle, folder: Path, trusted: tuple[str, ...]) -> None:
    pipeline = bundle.pipeline()
    example = _example(bundle)
    facts = {key: value for key, value in bundle.metadata.items() if key != "forecasts"}  # these are in the probe
    libraries = [f"{library}=={installed(library)}" for library in ("mlflow", "scikit-learn", "skops", "numpy", "pandas")]
    with _known_packages():
        mlflow.sklearn.save_model(
            pipeline,
            str(folder),
            signature=infer_signature(example, pipeline.predict(example)),
            input_example=example,
            pip_requirements=libraries,
            serialization_format="skops",
            skops_trusted_types=[*TRUSTED_TYPES, *trusted],
            metadata={**facts, "metrics": bundle.metrics, "libraries": libraries},
        )
    write_probe(bundle, pipeline, folder)


@contextmanager
def _known_packages() -> Iterator[None]:
    """Spare MLflow a look at every installed file, half a second, by which it checks the requirements that it is given.

    They were just read from what is installed; nothing public takes them unchecked. An MLflow that keeps what it
    found elsewhere than this one looks, and finds the same.
    """
    there = getattr(requirements_utils, _PACKAGES, ...)
    if there is not None:
        yield
        return
    setattr(requirements_utils, _PACKAGES, {})
    try:
        yield
    finally:
        setattr(requirements_utils, _PACKAGES, None)


def _example(bundle: Bundle) -> pd.DataFrame:
    """Return two days of raw features: the last of the features file where there is one that fits, else typical ones."""
    if bundle.features_path:
        try:
            days = read_table(bundle.features_path)[bundle.feature_names].astype(float)
        except (KeyError, ValueError, OSError) as error:
            logger.warning("%s does not fit this bundle: %s; the input example is of typical days", bundle.features_path, error)
        else:
            finite = days.replace([np.inf, -np.inf], np.nan).dropna().tail(2)
            if len(finite):
                return finite
    return bundle.typical_days()


def _run_params(bundle: Bundle) -> dict[str, Any]:
    return {
        "symbol": bundle.symbol,
        "model_type": bundle.model_type,
        "architecture": bundle.architecture,
        "features_count": bundle.features_count,
        "timestamp": bundle.timestamp,
        **{f"config_{key}": value for key, value in bundle.config.items()},
    }


def _describe(bundle: Bundle) -> str:
    error = bundle.metrics.get("val_rmse")
    measured = f"validation RMSE {error:.6f}" if error is not None else "no validation RMSE recorded"
    return (
        f"{bundle.model_type} forecasting the next day's return of {bundle.symbol}: hidden layers {bundle.architecture}, "
        f"{bundle.features_count} features, {measured}, trained {bundle.timestamp}."
    )
