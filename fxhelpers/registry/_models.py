"""Versions: read back with every byte checked, and let forecast again what they forecast."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import Model
from sklearn.pipeline import Pipeline

from fxhelpers.bundles import load_estimator, select_by_name
from fxhelpers.errors import FeaturesError, ModelTamperedError, NotComparableError, PredictionsChangedError, VersionNotFoundError
from fxhelpers.files import folder_digest
from fxhelpers.params import BundlesParams
from fxhelpers.registry._client import RegistryClient
from fxhelpers.registry._version import ModelVersion, Probe, read_probe

MODEL_DIGEST = "fx.model_sha256"

PRUNED = "fx.pruned"
"""Tag of a version whose files were deleted: the decision that did so."""

PIPELINE = "model"
"""Folder of a version's run that holds the pipeline."""

_NAMED = 5
_GREATEST = np.finfo(float).max
_SAME = 1e-9  # returns: what another processor's arithmetic may add up to, and no other model could stay within


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A version, loaded, its bytes checked.

    Attributes
    ----------
    version : ModelVersion
        What the registry says of it.
    pipeline : estimator
        Predicts from a DataFrame of raw features, which it takes by name.
    facts : dict
        The bundle's metadata when it was registered, with all its metrics:
        symbol, feature_names, target, windows, prices, ….
    probe : Probe or None
        What it forecast when it was registered.
    content : bytes
        Of the stored estimator.
    rules : BundlesParams
        What it may hold.
    """

    version: ModelVersion
    pipeline: Any = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    probe: Probe | None = field(repr=False)
    content: bytes = field(repr=False)
    rules: BundlesParams = field(repr=False)

    @property
    def who(self) -> str:
        """``version 3 of MLP_Stock_Predictor_AAPL``."""
        return f"version {self.version.version} of {self.version.name}"

    def load_again(self) -> Any:  # noqa: ANN401 (scikit-learn's estimators have no common base for this)
        """Return the pipeline, read from its bytes once more."""
        return _pipeline(self.content, self.facts, self.who, self.rules)

    def forecast(self, features: Mapping[str, float]) -> float:
        """Forecast the next day's return, as a fraction, from one day's raw features, by name; further ones are ignored.

        Raises
        ------
        FeaturesError
            One is missing, not a finite number, or outside of
            :attr:`ranges`: what comes out then is no forecast.
        """
        names = self.facts["feature_names"]
        missing = [name for name in names if name not in features]
        if missing:
            msg = f"{self.who} needs {len(missing)} features that are missing: {', '.join(missing[:_NAMED])}"
            raise FeaturesError(msg)
        row = pd.DataFrame([{name: float(features[name]) for name in names}])
        values, (low, high) = row.to_numpy()[0], self.ranges
        wrong = [number for number, fits in enumerate((low <= values) & (values <= high)) if not fits]  # NaN never does
        if wrong:
            told = "; ".join(f"{names[n]} is {values[n]:g}, expected {low[n]:.4g} to {high[n]:.4g}" for n in wrong[:3])
            msg = f"{self.who} was trained on nothing like this, in {len(wrong)} of {len(names)} features: {told}"
            raise FeaturesError(msg)
        return float(self.pipeline.predict(row)[0])

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest value of each feature that is taken: those of its training, and half of their span around.

        Prices move on: of real days after a training a third has a feature
        that is a little beyond, and one in 500 one beyond this. A version
        that does not tell them takes what its scaler can have seen: of n
        values none is farther from their mean than sqrt(n - 1) deviations.
        """
        told, names = self.facts.get("feature_ranges"), self.facts["feature_names"]
        if told is not None:
            low, high = np.asarray([told[name] for name in names], dtype=float).T
            return low - (high - low) / 2, high + (high - low) / 2
        scaler = self.pipeline.named_steps.get("scaler")
        if not all(hasattr(scaler, name) for name in ("mean_", "scale_", "n_samples_seen_")):
            return np.full(len(names), -_GREATEST), np.full(len(names), _GREATEST)
        far = scaler.scale_ * np.sqrt(np.max(scaler.n_samples_seen_) - 1)
        return scaler.mean_ - far, scaler.mean_ + far

    def replay(self) -> int:
        """Forecast again what was forecast when this was registered, and return how many forecasts came out the same.

        Raises
        ------
        PredictionsChangedError
            Another forecast came out: another library, or another model.
        NotComparableError
            None were kept with this version.
        """
        if self.probe is None:
            msg = f"{self.who} was registered without forecasts to compare with; transition_stage can move it by hand"
            raise NotComparableError(msg)
        found = self.pipeline.predict(pd.DataFrame(self.probe.inputs, columns=self.facts["feature_names"]))
        off = np.abs(found - self.probe.forecasts)
        if not (off <= _SAME).all():
            changed = int((~(off <= _SAME)).sum())
            msg = (
                f"{self.who} forecasts something else than when it was registered: {changed} of {len(off)} forecasts differ, "
                f"by up to {np.max(off):.3g}; its bytes are the same, so a library changed (it was registered with "
                f"{', '.join(self.facts.get('libraries', ['unknown libraries']))})"
            )
            raise PredictionsChangedError(msg)
        return len(off)


def load_version(registry: RegistryClient, name: str, version: int) -> LoadedModel:
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
    if found.tags.get(PRUNED):
        msg = f"the files of version {version} of {name} were deleted on purpose, by decision {found.tags[PRUNED]}"
        raise VersionNotFoundError(msg)
    with tempfile.TemporaryDirectory(prefix="fx-load-") as folder:
        for attempt in range(2 if registry.params.is_server else 1):  # a network may garble files, once
            with registry.files(f"load version {version} of", name, found.run_id) as files:
                to = Path(folder) / str(attempt)
                to.mkdir()
                local = Path(files.download_artifacts(PIPELINE, str(to)))
            stored = folder_digest(local)
            if stored == recorded:
                break
        if stored != recorded:
            msg = (
                f"version {version} of {name}: the stored files have SHA-256 {stored[:12]}…, registered were {recorded[:12]}…; "
                "they changed since, and were not loaded. Promote or roll back to another version, and find out who wrote there."
            )
            raise ModelTamperedError(msg)
        content = (local / "model.skops").read_bytes()
        facts = dict(Model.load(str(local)).metadata or {})
        probe = read_probe(local)
    rules = registry.params.bundles
    pipeline = _pipeline(content, facts, f"version {version} of {name}", rules)
    return LoadedModel(version=found, pipeline=pipeline, facts=facts, probe=probe, content=content, rules=rules)


def _pipeline(content: bytes, facts: dict[str, Any], who: str, rules: BundlesParams) -> Pipeline:
    """Read a stored pipeline; those of earlier releases took arrays too, and are given the selection by name here."""
    stored = load_estimator(content, f"{who}: model.skops", trusted=rules.trusted_types, unpacked=rules.max_bytes)
    return select_by_name(stored, facts["feature_names"])


def stored_digest(registry: RegistryClient, version: ModelVersion) -> str | None:
    """Return the SHA-256 of a version's stored pipeline; None where its files are gone."""
    try:
        if not version.run_id:
            return None
        with (
            tempfile.TemporaryDirectory(prefix="fx-digest-") as to,
            registry.files("read", version.name, version.run_id) as files,
        ):
            return folder_digest(Path(files.download_artifacts(PIPELINE, to))) if files.list_artifacts(PIPELINE) else None
    except VersionNotFoundError:  # its run is gone for good
        return None


def misdirected(registry: RegistryClient, version: ModelVersion) -> str | None:
    """Return where MLflow takes a version's files from, if that is not the run that it was registered with."""
    with registry.session("find the files of", version.name) as client:
        taken = str(client.get_model_version_download_uri(version.name, str(version.version)))
        known = f"{client.get_run(version.run_id).info.artifact_uri}/{PIPELINE}"
    return None if taken in {known, f"runs:/{version.run_id}/{PIPELINE}"} else taken
