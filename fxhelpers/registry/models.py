"""Versions: a bundle stored as one deployable pipeline, and read back with every byte checked."""

import logging
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature

from fxhelpers.bundles import Bundle
from fxhelpers.errors import ModelTamperedError, NotComparableError, ParamsError
from fxhelpers.estimators import TRUSTED_TYPES, load_estimator
from fxhelpers.files import folder_digest
from fxhelpers.registry.client import RegistryClient, log_values
from fxhelpers.registry.version import ModelVersion

logger = logging.getLogger(__name__)

BUNDLE_DIGEST = "fx.bundle_sha256"
MODEL_DIGEST = "fx.model_sha256"

_ARTIFACT = "model"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegisteredModel:
    """A version, loaded, its bytes checked.

    Attributes
    ----------
    version : ModelVersion
        What the registry says of it.
    pipeline : estimator
        Predicts from raw features.
    facts : dict
        The bundle's metadata when it was registered, with all its metrics:
        symbol, feature_names, target, windows, prices, ….
    """

    version: ModelVersion
    pipeline: Any = field(repr=False)
    facts: dict[str, Any] = field(repr=False)


def create_version(
    registry: RegistryClient, bundle: Bundle, name: str, *, description: str | None, tags: dict[str, str]
) -> tuple[ModelVersion, bool]:
    """Store a bundle as a new version of a registered model, unless it is one already; True where it was created.

    One pipeline with signature, input example and explicit requirements, in
    the skops format. The tags go on the version and on its run, beside our
    own; the version is the one that the registry returned for this creation.
    """
    own = {
        "model_family": "MLP",
        "task": "regression",
        "target": "stock_returns",
        "symbol": bundle.symbol,
        "version_timestamp": bundle.timestamp,
    }
    taken = [key for key in tags if key in own or key.startswith("fx.")]
    if taken:
        msg = f"tags: {', '.join(taken)}: set by fxhelpers itself ({', '.join(own)}, and all with fx. in front); use other names"
        raise ParamsError(msg)
    existing = registry.find_version(name, BUNDLE_DIGEST, bundle.digest)
    if existing:
        registry.annotate(name, existing.version, tags=tags, description=description)
        return registry.version(name, existing.version), False
    kept = registry.params.model_registry
    experiment = registry.experiment_id
    with tempfile.TemporaryDirectory(prefix="fx-register-") as folder, registry.session("register", name) as client:
        saved = Path(folder) / _ARTIFACT
        _save(bundle, saved)
        digests = {BUNDLE_DIGEST: bundle.digest, MODEL_DIGEST: folder_digest(saved)}
        run_name = f"register_{bundle.symbol}_{bundle.timestamp}"
        run_id = client.create_run(experiment, run_name=run_name, tags={**tags, **own}).info.run_id
        try:
            if kept.track_experiments:
                log_values(client, run_id, _run_params(bundle), bundle.metrics)
            client.log_artifacts(run_id, str(saved), _ARTIFACT)
            if kept.save_artifacts:
                for path in (bundle.scaler_path, bundle.metadata_path):
                    client.log_artifact(run_id, str(path), "artifacts")
            _ensure_registered(client, name)
            created = client.create_model_version(
                name,
                source=f"runs:/{run_id}/{_ARTIFACT}",
                run_id=run_id,
                tags={**tags, **own, **digests},
                description=description or _describe(bundle),
            )
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    return registry.version(name, int(created.version)), True


def load_version(registry: RegistryClient, name: str, version: int) -> RegisteredModel:
    """Load a version's pipeline after checking its bytes against what was registered.

    Raises
    ------
    ModelTamperedError
        The stored files are not those that were registered.
    NotComparableError
        Registered by something else than fxhelpers: no digest is known.
    """
    found = registry.version(name, version)
    recorded = found.tags.get(MODEL_DIGEST)
    if recorded is None:
        msg = (
            f"version {version} of {name} was not registered by fxhelpers: nothing says which bytes are right, so none are loaded"
        )
        raise NotComparableError(msg)
    with tempfile.TemporaryDirectory(prefix="fx-load-") as folder:
        with registry.session(f"load version {version} of", name) as client:
            local = Path(client.download_artifacts(found.run_id, _ARTIFACT, folder))
        stored = folder_digest(local)
        if stored != recorded:
            msg = (
                f"version {version} of {name}: the stored files have SHA-256 {stored[:12]}…, registered were {recorded[:12]}…; "
                "they changed since, and were not loaded. Promote or roll back to another version, and find out who wrote there."
            )
            raise ModelTamperedError(msg)
        pipeline = load_estimator((local / "model.skops").read_bytes(), f"version {version} of {name}: model.skops")
        facts = dict(Model.load(str(local)).metadata or {})
    return RegisteredModel(version=found, pipeline=pipeline, facts=facts)


def _save(bundle: Bundle, folder: Path) -> None:
    pipeline = bundle.pipeline()
    example = _example(bundle)
    libraries = ("mlflow", "scikit-learn", "skops", "numpy", "pandas")
    mlflow.sklearn.save_model(
        pipeline,
        str(folder),
        signature=infer_signature(example, pipeline.predict(example)),
        input_example=example,
        pip_requirements=[f"{library}=={installed(library)}" for library in libraries],
        serialization_format="skops",
        skops_trusted_types=list(TRUSTED_TYPES),
        metadata={**bundle.metadata, "metrics": bundle.metrics},
    )


def _example(bundle: Bundle) -> pd.DataFrame:
    """Return two days of raw features: the last of the features file where there is one that fits, else typical ones."""
    if bundle.features_path:
        try:
            days = pd.read_csv(bundle.features_path)[bundle.feature_names].astype(float)
        except (KeyError, ValueError) as error:
            logger.warning("%s does not fit this bundle: %s; the input example is of typical days", bundle.features_path, error)
        else:
            finite = days.replace([np.inf, -np.inf], np.nan).dropna().tail(2)
            if len(finite):
                return finite
    scaler, ones = bundle.scaler_object, np.ones(bundle.features_count)
    mean = ones * 0 if scaler.mean_ is None else scaler.mean_
    above = mean + (ones if scaler.scale_ is None else scaler.scale_)  # an average day, and one above it in everything
    return pd.DataFrame([mean, above], columns=bundle.feature_names)


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


def _ensure_registered(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
