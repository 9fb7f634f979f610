"""Consistency checks of a bundle: metadata, digests, estimators, forecasts."""

import logging
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline

from fxhelpers.bundles._bundle import FORMAT_VERSION, Bundle
from fxhelpers.errors import BundleError
from fxhelpers.files import sha256
from fxhelpers.foresightx import predictions_file, read_features

logger = logging.getLogger(__name__)


_KINDS = {"feature_names": list, "features_count": int, "architecture": list}
_KINDS |= dict.fromkeys(("metrics", "config", "files", "windows", "target", "forecasts"), dict)

_Day = Annotated[date, BeforeValidator(lambda text: date.fromisoformat(text) if isinstance(text, str) else text)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Days(_Part):
    """First and last day of a window."""

    first_day: _Day
    last_day: _Day
    days: int = 0


class Target(_Part):
    """What is forecast."""

    horizon_days: int = 1
    units: str = "fraction"
    training_mean: float = Field(default=0.0, allow_inf_nan=False)


class Prices(Days):
    """What it was trained on."""

    sha256: str


class Facts(_Part):
    """What later steps count on, where metadata say it."""

    windows: dict[str, Days] = {}
    target: Target | None = None
    prices: Prices | None = None


def check_metadata(metadata: dict[str, Any], path: Path, symbol: str) -> None:
    """Raise :class:`BundleError` where metadata lack something, say it in another form, or are another symbol's."""
    version = metadata.get("format_version", 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        msg = f"{path}: format_version {version}, this fxhelpers reads up to {FORMAT_VERSION}; install a newer fxhelpers"
        raise BundleError(msg)
    missing = [key for key in ("symbol", "timestamp", "feature_names") if not metadata.get(key)]
    if missing:
        msg = f"{path}: no {', '.join(missing)}; found the keys {', '.join(metadata)}"
        raise BundleError(msg)
    for key, kind in _KINDS.items():
        if key in metadata and not isinstance(metadata[key], kind):
            msg = f"{path}: {key} has to be {kind.__name__}, found {metadata[key]!r:.80}"
            raise BundleError(msg)
    if not all(isinstance(name, str) and name.isprintable() for name in metadata["feature_names"]):
        msg = f"{path}: feature_names has to list names, found {metadata['feature_names']!r:.80}"
        raise BundleError(msg)
    twice = [name for name, times in Counter(metadata["feature_names"]).items() if times > 1]
    if twice:
        msg = f"{path}: feature_names lists {twice[0]!r} more than once"
        raise BundleError(msg)
    try:
        Facts.model_validate(metadata)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"]))
        msg = f"{path}: {where}: {found['msg']}, found {found['input']!r:.80}"
        raise BundleError(msg) from error
    if metadata["symbol"] != symbol:
        msg = f"{path}: metadata of {metadata['symbol']}, but the model file is {symbol}'s"
        raise BundleError(msg)


def check_digests(metadata: dict[str, Any], path: Path, contents: dict[Path, bytes]) -> None:
    """Raise :class:`BundleError` where metadata list the bundle's files, and not these."""
    recorded = metadata.get("files", {})
    for file, content in contents.items() if recorded else ():
        if file.name not in recorded:
            msg = f"{file}: {path.name} lists the bundle's files with their SHA-256, and this one is not among them"
            raise BundleError(msg)
        if recorded[file.name] != sha256(content):
            msg = f"{file}: its bytes are not those that {path.name} records; the file changed after training"
            raise BundleError(msg)


def check_estimators(metadata: dict[str, Any], path: Path, estimators: dict[Path, Any]) -> None:
    """Raise :class:`BundleError` where model and scaler, in this order, are not such, or of other features than metadata list."""
    names = metadata["feature_names"]
    count = metadata.get("features_count", len(names))
    if count != len(names):
        msg = f"{path}: features_count is {count}, but feature_names lists {len(names)}"
        raise BundleError(msg)
    for (file, estimator), act in zip(estimators.items(), ("predict", "transform"), strict=True):
        if not hasattr(estimator, act):
            msg = f"{file}: holds a {type(estimator).__name__}, which cannot {act}; were model and scaler swapped?"
            raise BundleError(msg)
        if not isinstance(estimator.n_features_in_, int | np.integer) or estimator.n_features_in_ != count:
            msg = f"{file}: made for {estimator.n_features_in_} features, but {path.name} lists {count}"
            raise BundleError(msg)
        if np.asarray(getattr(estimator, "feature_names_in_", names), dtype=object).tolist() != list(names):
            msg = f"{file}: made for other features, or another order, than {path.name} lists"
            raise BundleError(msg)


def check_description(bundle: Bundle) -> None:
    """Raise :class:`BundleError` where metadata describe another network than the weights are."""
    model = bundle.model_object
    while not isinstance(model, MLPRegressor):  # in a pipeline, or behind a transformed target
        model = model[-1] if isinstance(model, Pipeline) else getattr(model, "regressor_", None)
        if model is None:  # of a type that params.yaml trusts: nothing is known of what it is made of
            return
    config = bundle.config
    layers = [len(biases) for biases in model.intercepts_[:-1]]
    for key, stated, found in (
        ("architecture", bundle.metadata.get("architecture"), layers),
        ("config.hidden_layer_sizes", config.get("hidden_layer_sizes"), layers),
        ("config.solver", config.get("solver"), model.solver),
        ("config.activation", config.get("activation"), model.activation),
    ):
        if stated is not None and stated != found:
            msg = (
                f"{bundle.metadata_path}: {key} is {stated!r:.60}, but {bundle.model_path.name} has {found!r:.60}; these "
                "metadata are of another model: put those that were written with it beside it"
            )
            raise BundleError(msg)


def check_evaluated(of: dict[str, Any], path: Path, metadata: dict[str, Any]) -> None:
    """Raise :class:`BundleError` where an evaluation of the same training time says that it is of another network."""
    for key in ("architecture", "features_count"):
        if key in of and key in metadata and of[key] != metadata[key]:
            msg = (
                f"{path}: evaluated was a model with {key} {of[key]!r:.60}, but the one trained at the same time, "
                f"{metadata['timestamp']}, has {metadata[key]!r:.60}; put the evaluation of another model aside"
            )
            raise BundleError(msg)


def last_seen(metadata: dict[str, Any]) -> str:
    """Return the last day that a model was trained or chosen on, else the last of its prices; "" where metadata do not say."""
    try:
        facts = Facts.model_validate(metadata)
    except ValidationError:
        return ""
    seen = [facts.windows[name].last_day for name in ("training", "validation") if name in facts.windows]
    last = max(seen, default=facts.prices.last_day if facts.prices else None)
    return last.isoformat() if last else ""


def check_forecasts(bundle: Bundle) -> None:
    """Let a bundle forecast two typical days: what cannot do that has no place in a registry."""
    try:
        rows = bundle.typical_days()
        found = np.asarray(bundle.pipeline().predict(rows))
    except Exception as error:  # a crafted or half-fitted model can raise anything; it is refused
        msg = f"{bundle.model_path}: cannot forecast a typical day: {type(error).__name__}: {str(error)!r:.200}"
        raise BundleError(msg) from error
    if found.shape != (len(rows),) or found.dtype.kind != "f" or not np.isfinite(found).all():
        msg = f"{bundle.model_path}: one finite number a day is expected, found {found.tolist()!r:.80} for two days"
        raise BundleError(msg)


_SAME = 1e-6
"""Returns, or shares of the forecast: what another processor or library may change."""


def check_reproduces(bundle: Bundle, features: list[Path]) -> None:
    """Let a bundle give its stored forecasts again, from any of the features files that are at hand.

    Raises
    ------
    BundleError
        From none of them does it; the message says how the latest differs.
    """
    if bundle.forecasts.empty or bundle.evaluation_path is None:
        return
    stored = predictions_file(bundle.evaluation_path)
    wrong = ""
    for path in features:
        try:
            found = _forecasts(bundle, path)
        except KeyError as error:
            logger.warning("%s does not fit %s: %s", path, bundle.model_path.name, error)
            continue
        if found.empty:
            continue
        expected = bundle.forecasts.loc[found.index]
        off = (found - expected).abs() - _SAME * (1 + expected.abs())
        if (off <= 0).all():
            return
        day = pd.Timestamp(str(off.idxmax()))
        wrong = wrong or (
            f"{bundle.model_path}: forecasts {found.loc[day]:+.6g} for {day:%Y-%m-%d} from {path}, but {stored} has "
            f"{expected.loc[day]:+.6g}; {int((off > 0).sum())} of {len(off)} days differ. Model, scaler, features and "
            "predictions are not of one training, or the features were computed anew from other prices. Evaluate it again where "
            f"it was trained, or put {stored.name} aside if it is known to be of another model"
        )
    if wrong:
        raise BundleError(wrong)
    logger.warning("%s: no features are at hand for the days of %s, so these were not reproduced", bundle.model_path, stored.name)


def _forecasts(bundle: Bundle, path: Path) -> pd.Series:
    """Forecast the days that both a features file and the stored forecasts have."""
    days = read_features(path)[bundle.feature_names].dropna()
    days = days.loc[days.index.intersection(bundle.forecasts.index)]
    values = bundle.pipeline().predict(days) if len(days) else np.empty(0)
    if not np.isfinite(values).all():
        msg = f"{bundle.model_path}: some of its forecasts are not finite numbers"
        raise BundleError(msg)
    return pd.Series(values, index=days.index, dtype=float)
