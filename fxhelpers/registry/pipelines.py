"""The pipeline of a version, which is saved to and loaded from a folder, and repeats its forecasts."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.utils import requirements_utils
from sklearn.pipeline import Pipeline

from fxhelpers.bundles import Bundle, select_by_name
from fxhelpers.errors import FeaturesError, NotComparableError, PredictionsChangedError
from fxhelpers.estimators import TRUSTED_TYPES, check_size, load_estimator
from fxhelpers.foresightx import read_table
from fxhelpers.params import BundlesParams, read_written_yaml
from fxhelpers.prices import unpack_columns
from fxhelpers.recipes import Recipe
from fxhelpers.registry._versions import ModelVersion
from fxhelpers.training import Rolling

logger = logging.getLogger(__name__)

_LIBRARIES = ("mlflow", "scikit-learn", "skops", "numpy", "pandas")
_MODEL_FILE, _PROBE_FILE, _MLMODEL_FILE = "model.skops", "probe.npz", "MLmodel"
_PROBED = 256
_MOST_NAMED = 5
_GREATEST = np.finfo(float).max
_TOLERANCE = 1e-9  # of a return: another processor's arithmetic stays within it, another model does not


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """Forecasts of a version at its registration."""

    inputs: np.ndarray  # (256, n_features): raw features, drawn from the distribution that the scaler saw
    forecasts: np.ndarray  # (256,): of these, as fractions of return
    days: pd.Series  # forecasts of real days, by date; empty if the bundle had none
    prices: str = ""  # the prices of the training, as the bundle keeps them; "" if it does not
    rolling: Rolling | None = None  # the rolling-origin forecasts of its recipe, if it makes them
    extra: pd.DataFrame | None = None  # columns of the user's own that it was trained on, by day; None without


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A version, loaded after its bytes were checked."""

    version: ModelVersion  # its entry in the registry
    pipeline: Any = field(repr=False)  # predicts from a DataFrame of raw features, which it takes by name
    # the bundle's metadata at registration, with all its metrics: symbol, feature_names, target, windows, prices, …
    facts: dict[str, Any] = field(repr=False)
    probe: Probe | None = field(repr=False)  # its forecasts at registration
    content: bytes = field(repr=False)  # of the stored estimator
    rules: BundlesParams = field(repr=False)  # the types and the size that are allowed

    @property
    def who(self) -> str:
        """``version 3 of MLP_Stock_Predictor_AAPL``."""
        return f"version {self.version.version} of {self.version.name}"

    @property
    def recipe(self) -> Recipe:
        """What its training did; of a foreign version, or one of an earlier release, what its metadata say."""
        return Recipe.read(self.facts)

    def load_again(self) -> Pipeline:
        """Return the pipeline, read anew from its bytes."""
        return _read_estimator(self.content, self.facts, self.who, self.rules)

    def forecast(self, features: Mapping[str, float]) -> float:
        """Forecast the next day's return, as a fraction, from one day's raw features, by name; others are ignored.

        :class:`FeaturesError` if a feature is missing, not a finite number, or outside of :attr:`ranges`.
        """
        names = self.facts["feature_names"]
        missing = [name for name in names if name not in features]
        if missing:
            msg = f"{self.who} needs {len(missing)} features that are missing: {', '.join(missing[:_MOST_NAMED])}"
            raise FeaturesError(msg)
        row = pd.DataFrame([{name: float(features[name]) for name in names}])
        values, (low, high) = row.to_numpy()[0], self.ranges
        outside = np.flatnonzero(~((low <= values) & (values <= high)))  # NaN always is
        if len(outside):
            shown = "; ".join(f"{names[n]} is {values[n]:g}, expected {low[n]:.4g} to {high[n]:.4g}" for n in outside[:3])
            msg = f"{len(outside)} of {len(names)} features are outside of what {self.who} was trained on: {shown}"
            raise FeaturesError(msg)
        return float(self.pipeline.predict(row)[0])

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest allowed value of each feature: the range in training, extended by half its span on both sides.

        Prices move on: on a third of the real days after a training some feature is a little outside of its range in training,
        and on one in 500 it is outside of this one. A version without ranges allows what its scaler can have seen: of n values
        none is farther from their mean than sqrt(n - 1) standard deviations.
        """
        ranges, names = self.facts.get("feature_ranges"), self.facts["feature_names"]
        if ranges is not None:
            low, high = np.asarray([ranges[name] for name in names], dtype=float).T
            return low - (high - low) / 2, high + (high - low) / 2
        scaler = self.pipeline.named_steps.get("scaler")
        if not all(hasattr(scaler, name) for name in ("mean_", "scale_", "n_samples_seen_")):
            return np.full(len(names), -_GREATEST), np.full(len(names), _GREATEST)
        far = scaler.scale_ * np.sqrt(np.max(scaler.n_samples_seen_) - 1)
        return scaler.mean_ - far, scaler.mean_ + far

    def replay(self) -> int:
        """Repeat the forecasts of the registration, and return how many there are: all are the same.

        :class:`PredictionsChangedError` if one differs: because of another library, or another model. :class:`NotComparableError`
        if none were stored.
        """
        if self.probe is None:
            msg = f"{self.who} was registered without forecasts to compare with; transition_stage can move it by hand"
            raise NotComparableError(msg)
        forecasts = self.pipeline.predict(pd.DataFrame(self.probe.inputs, columns=self.facts["feature_names"]))
        off = np.abs(forecasts - self.probe.forecasts)
        changed = int((~(off <= _TOLERANCE)).sum())  # NaN is a change
        if changed:
            libraries = ", ".join(self.facts.get("libraries", ["unknown libraries"]))
            msg = (
                f"{self.who} no longer gives the forecasts of its registration: {changed} of {len(off)} differ, by up to "
                f"{np.max(off):.3g}; its bytes are the same, so a library changed (it was registered with {libraries})"
            )
            raise PredictionsChangedError(msg)
        return len(off)


def save_pipeline(bundle: Bundle, folder: Path, rules: BundlesParams) -> None:
    """Save a bundle to a new folder: one pipeline with signature, example and requirements, in skops format, and its probe.

    :class:`UntrustedBundleError` if it would be too big to be read again.
    """
    pipeline, example = bundle.pipeline(), _example(bundle)
    metadata = {key: value for key, value in bundle.metadata.items() if key not in {"forecasts", "rolling"}}  # in the probe,
    kept = str(metadata.get("prices", {}).get("kept", ""))  # and so are these
    if kept:
        metadata["prices"] = {key: value for key, value in metadata["prices"].items() if key != "kept"}
    columns = metadata.get("extra")
    if columns:
        metadata["extra"] = {key: value for key, value in columns.items() if key != "kept"}
    libraries = [f"{library}=={installed(library)}" for library in _LIBRARIES]
    with _without_package_scan():
        mlflow.sklearn.save_model(
            pipeline,
            str(folder),
            signature=infer_signature(example, pipeline.predict(example)),
            input_example=example,
            pip_requirements=libraries,
            serialization_format="skops",
            skops_trusted_types=[*TRUSTED_TYPES, *rules.trusted_types],
            metadata={**metadata, "metrics": bundle.metrics, "libraries": libraries},
        )
    check_size((folder / _MODEL_FILE).read_bytes(), f"{bundle.model_path}: the pipeline to register", rules.max_bytes)
    mean, scale = bundle.typical
    inputs = mean + scale * np.random.default_rng(0).standard_normal((_PROBED, bundle.features_count))
    forecasts = pipeline.predict(pd.DataFrame(inputs, columns=bundle.feature_names))
    stored = bundle.forecasts
    days = stored.index.to_numpy().astype("datetime64[D]").astype("<i8")
    real = stored.to_numpy(dtype=float)
    whole = {"rolling": bundle.metadata.get("rolling"), "extra": columns}
    kept_too = {"prices": np.array(kept), **{name: np.array(json.dumps(value)) for name, value in whole.items()}}
    values = {"inputs": inputs, "forecasts": forecasts, "days": days, "real": real, **kept_too}
    np.savez_compressed(folder / _PROBE_FILE, allow_pickle=False, **values)


@contextmanager
def _without_package_scan() -> Iterator[None]:
    """Spare MLflow a scan of all installed packages, 0.5 to 1.4 s, that only checks the requirements that it is given."""
    module, name = requirements_utils, "_MODULES_TO_PACKAGES"
    replaced = getattr(module, name, ...) is None  # another MLflow may cache them elsewhere, and scans
    if replaced:
        setattr(module, name, {})
    try:
        yield
    finally:
        if replaced:
            setattr(module, name, None)


def _example(bundle: Bundle) -> pd.DataFrame:
    """Return two days of raw features: the last of a features file that fits, else typical ones."""
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


def load_pipeline(folder: Path, version: ModelVersion, rules: BundlesParams) -> LoadedModel:
    """Load what :func:`save_pipeline` saved, from bytes that were checked."""
    content = (folder / _MODEL_FILE).read_bytes()
    described = read_written_yaml((folder / _MLMODEL_FILE).read_text(encoding="utf-8"))
    facts = dict(described.get("metadata") or {})
    pipeline = _read_estimator(content, facts, f"version {version.version} of {version.name}", rules)
    return LoadedModel(
        version=version, pipeline=pipeline, facts=facts, probe=_read_probe(folder / _PROBE_FILE), content=content, rules=rules
    )


def _read_estimator(content: bytes, facts: dict[str, Any], who: str, rules: BundlesParams) -> Pipeline:
    """Read a stored pipeline; earlier releases stored no selection of features by name, so it is added here."""
    stored = load_estimator(content, f"{who}: {_MODEL_FILE}", trusted=rules.trusted_types, unpacked=rules.max_bytes)
    return select_by_name(stored, facts["feature_names"])


def _read_probe(path: Path) -> Probe | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        days = stored["days"] if "days" in stored else np.empty(0, dtype="<i8")
        real = stored["real"] if "real" in stored else np.empty(0)
        index = pd.DatetimeIndex(days.astype("datetime64[D]"))
        rolling, extra = (json.loads(str(stored[name])) if name in stored else None for name in ("rolling", "extra"))
        return Probe(
            inputs=stored["inputs"],
            forecasts=stored["forecasts"],
            days=pd.Series(real, index=index),
            prices=str(stored["prices"]) if "prices" in stored else "",
            rolling=Rolling.read(rolling) if rolling else None,
            extra=unpack_columns(extra) if extra else None,
        )
