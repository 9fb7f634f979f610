"""Consistency checks of a bundle: metadata, digests, estimators, forecasts."""

import logging
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from sklearn.compose import TransformedTargetRegressor

from fxhelpers.bundles._bundle import FORMAT_VERSION, Bundle
from fxhelpers.errors import BundleError
from fxhelpers.estimators import arguments, canonical, describe, layers, model_type, regressor_in
from fxhelpers.foresightx import predictions_file, read_features
from fxhelpers.params import ESTIMATORS, HYPERPARAMETERS, MODEL_PARTS, explain
from fxhelpers.prices import unpack_columns, unpack_prices
from fxhelpers.recipes import RecipeFacts
from fxhelpers.system import sha256
from fxhelpers.training import Rolling

logger = logging.getLogger(__name__)

_SAME = 1e-6  # tolerance for forecasts, absolute and relative: another processor or library may change the last digits
_Day = Annotated[date, BeforeValidator(lambda text: date.fromisoformat(text) if isinstance(text, str) else text)]


def _printable(name: str) -> str:
    if not name.isprintable():
        msg = "a name must be printable"
        raise ValueError(msg)
    return name


def _kept(text: str) -> str:
    unpack_prices(text)
    return text


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


def _rolled(stored: dict[str, Any]) -> dict[str, Any]:
    Rolling.read(stored)
    return stored


def _columns(stored: dict[str, Any]) -> dict[str, Any]:
    unpack_columns(stored)
    return stored


class _Days(_Part):
    first_day: _Day
    last_day: _Day
    days: int = 0


class _Target(_Part):
    horizon_days: int = 1
    units: str = "fraction"
    training_mean: float = Field(default=0.0, allow_inf_nan=False)


class _Prices(_Days):
    sha256: str
    kept: Annotated[str, AfterValidator(_kept)] = ""


class _Spans(_Part):
    windows: dict[str, _Days] = {}
    prices: _Prices | None = None


class _Metadata(_Spans):
    """All keys that later steps rely on."""

    feature_names: list[Annotated[str, AfterValidator(_printable)]]
    features_count: int = 0
    architecture: list[Any] = []
    metrics: dict[str, Any] = {}
    config: dict[str, Any] = {}
    files: dict[str, Any] = {}
    target: _Target = _Target()
    forecasts: dict[str, Any] = {}
    recipe: RecipeFacts | None = None
    rolling: Annotated[dict[str, Any], AfterValidator(_rolled)] | None = None
    extra: Annotated[dict[str, Any], AfterValidator(_columns)] | None = None
    size: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    feature_schema: dict[str, Any] = {}

    @model_validator(mode="after")
    def _evidence_is_whole(self) -> Self:
        refits = self.recipe is not None and self.recipe.fit == "all days"
        if refits and not (self.rolling and self.prices and self.prices.kept and self.size is not None):
            msg = "a recipe that fits all days needs rolling (its rolling-origin forecasts), size and prices.kept; train again"
            raise ValueError(msg)
        if self.recipe and self.feature_schema.get("version") != self.recipe.features.number:
            msg = "feature_schema.version is not the schema of the recipe's features; train again"
            raise ValueError(msg)
        if self.rolling and not refits:
            msg = "rolling is there without a recipe that fits all days; train again"
            raise ValueError(msg)
        if self.recipe and self.rolling and any(one[1] >= len(self.recipe.settings) for one in self.rolling["origins"]):
            msg = f"rolling: an origin chose a candidate beyond the {len(self.recipe.settings)} of its recipe; train again"
            raise ValueError(msg)
        stated, kept = self.recipe.features.extra if self.recipe else {}, self.extra or {}
        if stated != {key: kept[key] for key in ("folder", "columns") if key in kept}:
            msg = "extra must hold the columns that the recipe takes from a folder of the user's own, and no others; train again"
            raise ValueError(msg)
        return self


def check_metadata(metadata: dict[str, Any], path: Path, symbol: str) -> None:
    """Raise :class:`BundleError` if metadata are incomplete, malformed, newer than this fxhelpers, or of another symbol."""
    version = metadata.get("format_version", 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        msg = f"{path}: format_version {version}, this fxhelpers reads up to {FORMAT_VERSION}; install a newer fxhelpers"
        raise BundleError(msg)
    missing = [key for key in ("symbol", "timestamp", "feature_names") if not metadata.get(key)]
    if missing:
        msg = f"{path}: no {', '.join(missing)}; found the keys {', '.join(metadata)}"
        raise BundleError(msg)
    try:
        _Metadata.model_validate(metadata)
    except ValidationError as error:
        msg = f"{path}: {explain(error, _Metadata)[0]}"
        raise BundleError(msg) from error
    (name, times), *_ = Counter(metadata["feature_names"]).most_common(1)
    if times > 1:
        msg = f"{path}: feature_names lists {name!r} more than once"
        raise BundleError(msg)
    if metadata["symbol"] != symbol:
        msg = f"{path}: metadata of {metadata['symbol']}, but the model file is for {symbol}"
        raise BundleError(msg)


def check_digests(metadata: dict[str, Any], path: Path, contents: dict[Path, bytes]) -> None:
    """Raise :class:`BundleError` if metadata list other files or other bytes."""
    recorded = metadata.get("files", {})
    for file, content in contents.items() if recorded else ():
        if file.name not in recorded:
            msg = f"{file}: {path.name} lists the bundle's files with their SHA-256, and this file is not among them"
            raise BundleError(msg)
        if recorded[file.name] != sha256(content):
            msg = f"{file}: its bytes are not those that {path.name} records; the file changed after training"
            raise BundleError(msg)


def check_estimators(metadata: dict[str, Any], path: Path, estimators: dict[Path, Any]) -> None:
    """Raise :class:`BundleError` if model and scaler are swapped, or made for other features than metadata list."""
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
    """Raise :class:`BundleError` if metadata describe another model than the fitted one, or if it is only a part of one."""
    model = regressor_in(bundle.model_object)
    kind, full = type(model).__name__, f"{type(model).__module__}.{type(model).__qualname__}"
    if full not in MODEL_PARTS:  # a trusted type, of which nothing is known
        return
    if kind not in ESTIMATORS:
        msg = f"{bundle.model_path}: holds a {kind}, which is no model here; expected one of {', '.join(ESTIMATORS)}"
        raise BundleError(msg)
    names = {*HYPERPARAMETERS[kind], "random_state"} & arguments(kind).keys()
    true = {f"config.{name}": getattr(model, name, None) for name in names}
    true["config.standardise_target"] = isinstance(bundle.model_object, TransformedTargetRegressor)
    true["architecture"] = layers(model) if kind == "MLPRegressor" else []
    if kind == "MLPRegressor":
        true["config.hidden_layer_sizes"] = true["architecture"]
    stated = {**bundle.metadata, **{f"config.{name}": value for name, value in bundle.config.items()}}
    for key in ("estimator", "config.estimator", "model_type"):
        true[key] = kind if stated.get(key) == kind else model_type(kind)  # which has two names
    given = {name: getattr(model, name) for name in names - {"random_state"}} | {
        "standardise_target": true["config.standardise_target"]
    }
    if bundle.recipe.whole and not bundle.recipe.describes(kind, given, getattr(model, "random_state", None)):
        msg = (
            f"{bundle.metadata_path}: its recipe trains another model than {bundle.model_path.name}, {describe(model)}: "
            "estimator, hyperparameters or seed differ; restore the metadata written with this model, or train again"
        )
        raise BundleError(msg)
    for key in sorted(stated.keys() & true.keys()):
        if canonical(stated[key]) != canonical(true[key]):
            msg = (
                f"{bundle.metadata_path}: {key} is {stated[key]!r:.60}, but {bundle.model_path.name} has {true[key]!r:.60}; "
                "these metadata describe another model: restore those written with this one"
            )
            raise BundleError(msg)


def check_evaluated(info: dict[str, Any], path: Path, metadata: dict[str, Any]) -> None:
    """Raise :class:`BundleError` if an evaluation of the same training time is of another model."""
    for key in ("model_type", "architecture", "features_count"):
        if key in info and key in metadata and info[key] != metadata[key]:
            msg = (
                f"{path}: it evaluates a model with {key} {info[key]!r:.60}, but the one trained at {metadata['timestamp']} has "
                f"{metadata[key]!r:.60}; move this evaluation away"
            )
            raise BundleError(msg)


def last_seen(metadata: dict[str, Any]) -> str:
    """Return the last training or validation day, else the last day of the prices; "" if metadata do not state it."""
    try:
        spans = _Spans.model_validate(metadata)
    except ValidationError:
        return ""
    seen = [spans.windows[name].last_day for name in ("training", "validation") if name in spans.windows]
    last = max(seen, default=spans.prices.last_day if spans.prices else None)
    return last.isoformat() if last else ""


def check_forecasts(bundle: Bundle) -> None:
    """Raise :class:`BundleError` if a bundle cannot forecast two typical days."""
    try:
        rows = bundle.typical_days()
        found = np.asarray(bundle.pipeline().predict(rows))
    except Exception as error:  # a crafted or half-fitted model can raise anything; it is refused
        msg = f"{bundle.model_path}: cannot forecast a typical day: {type(error).__name__}: {str(error)!r:.200}"
        raise BundleError(msg) from error
    if found.shape != (len(rows),) or found.dtype.kind != "f" or not np.isfinite(found).all():
        msg = f"{bundle.model_path}: expected one finite number per day, found {found.tolist()!r:.80} for two days"
        raise BundleError(msg)


def check_reproduces(bundle: Bundle, features: list[Path]) -> None:
    """Raise :class:`BundleError` if no features file reproduces the stored forecasts; the message is about the latest."""
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
        excess = (found - expected).abs() - _SAME * (1 + expected.abs())
        if (excess <= 0).all():
            return
        day = pd.Timestamp(str(excess.idxmax()))
        wrong = wrong or (
            f"{bundle.model_path}: forecasts {found.loc[day]:+.6g} for {day:%Y-%m-%d} from {path}, but {stored} has "
            f"{expected.loc[day]:+.6g}; {int((excess > 0).sum())} of {len(excess)} days differ. These files are not of one "
            f"training, or prices were restated: evaluate again where it was trained, or move {stored.name} away"
        )
    if wrong:
        raise BundleError(wrong)
    logger.warning(
        "%s: no features file has the days of %s, so its forecasts were not reproduced", bundle.model_path, stored.name
    )


def _forecasts(bundle: Bundle, path: Path) -> pd.Series:
    """Forecast the days that a features file and the stored forecasts have in common."""
    days = read_features(path)[bundle.feature_names].dropna()
    days = days.loc[days.index.intersection(bundle.forecasts.index)]
    values = bundle.pipeline().predict(days) if len(days) else np.empty(0)
    if not np.isfinite(values).all():
        msg = f"{bundle.model_path}: some of its forecasts are not finite numbers"
        raise BundleError(msg)
    return pd.Series(values, index=days.index, dtype=float)
