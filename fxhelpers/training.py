"""Training of one MLP: windows in order of time, fits on the training days, hyperparameters chosen on the validation days."""

import platform
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from fxhelpers.comparison import over_zero
from fxhelpers.errors import ParamsError, PriceDataError
from fxhelpers.features import HORIZON_DAYS, SCHEMA_VERSION, TARGET, build_features, next_day_return
from fxhelpers.metrics import hit_rate, mae, rmse
from fxhelpers.params import MlpParams, TrainingParams, explain, nearest
from fxhelpers.prices import SharePrices, pack_prices, prices_digest

_MINIMUM_WINDOW = 30
_KEPT_FORECASTS = 128

_Windows = dict[str, tuple[pd.DataFrame, pd.Series]]
"""Features and target of each window."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """A fitted model, not yet written to disk."""

    model: Any  # the model takes scaled features
    scaler: StandardScaler
    metadata: dict[str, Any]  # content of the bundle's metadata file, without file names
    candidates: pd.DataFrame  # one row per combination tried, with ``val_rmse`` (fraction; lower is better); the kept one first
    validation: pd.DataFrame  # ``target`` and ``forecast`` of the validation days, returns as fractions

    @property
    def answer(self) -> dict[str, str]:
        """Result and answer for the summary: whether the model is better than forecasting zero on the validation days."""
        found = over_zero(self.validation["target"], self.validation["forecast"], "validation")
        if len(self.candidates) > 1:
            found["answer"] += f" The best of {len(self.candidates)} candidates was chosen on these days, so this is optimistic."
        return found

    def candidates_frame(self) -> pd.DataFrame:
        """Return the combinations tried as text, for display; the kept one first."""
        shown = self.candidates.drop(columns="val_rmse").map(str)
        shown["validation RMSE (lower is better)"] = self.candidates["val_rmse"].map("{:.4%}".format)
        shown[""] = ["kept", *[""] * (len(shown) - 1)]
        return shown


def supervised(prices: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Return features and target of the days on which all of them are known."""
    features, target = build_features(prices), next_day_return(prices)
    known = features.notna().all(axis=1) & target.notna()
    return features[known], target[known]


def split_windows(days: pd.Index, params: TrainingParams) -> dict[str, slice]:
    """Split days into the positions of ``training``, ``validation`` and ``test``, in order of time.

    The forecast horizon and the embargo separate the windows, so that no
    target reaches into the next window. :class:`PriceDataError` if a window
    would hold fewer than 30 days.
    """
    count, gap = len(days), HORIZON_DAYS + params.embargo_days
    test_start = int(count * (1 - params.test_size))
    validation_start = int(count * (1 - params.test_size - params.validation_size))
    windows = {
        "training": slice(0, validation_start - gap),
        "validation": slice(validation_start, test_start - gap),
        "test": slice(test_start, count),
    }
    for name, window in windows.items():
        if (held := window.stop - window.start) < _MINIMUM_WINDOW:
            msg = (
                f"the {name} window would hold {held} of {count} days, at least {_MINIMUM_WINDOW} are required: "
                "use more prices, or change training.validation_size or training.test_size"
            )
            raise PriceDataError(msg)
    return windows


def train_model(
    symbol: str,
    prices: SharePrices | pd.DataFrame,
    params: TrainingParams,
    *,
    model: str = "",
    overrides: dict[str, Any] | None = None,
    source: str = "",
) -> TrainedModel:
    """Fit one model; of several candidates keep the one with the lowest validation RMSE.

    The test days are set aside before anything is fitted, and never used.

    Parameters
    ----------
    symbol : str
        Ticker, for the metadata.
    prices : SharePrices, or DataFrame of shape (n_days, 5)
        As :func:`fxhelpers.prices.read_prices` or ``load_prices`` returns it.
        The bundle keeps the former, with their format and what is doubtful.
    params : TrainingParams
        The ``training`` section of ``params.yaml``.
    model : str, optional
        A key of ``training.models``; by default ``training.model``.
    overrides : dict, optional
        Hyperparameters that replace those of ``params.yaml``, including their
        candidates.
    source : str, optional
        The price source of a DataFrame, for the metadata.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ParamsError
        No such model, an unknown hyperparameter, or a fit that diverges.
    PriceDataError
        Too few days, or a close that does not change.
    """
    chosen = model or params.model
    settings = _settings(params, chosen, overrides or {})
    frame = prices.frame if isinstance(prices, SharePrices) else prices
    features, target = supervised(frame)
    windows = {name: (features.iloc[days], target.iloc[days]) for name, days in split_windows(features.index, params).items()}
    for name in ("training", "validation"):
        if not windows[name][1].any():
            msg = f"{symbol}: the close does not change on any {name} day, so there is no return to forecast"
            raise PriceDataError(msg)
    scaler = StandardScaler().fit(windows["training"][0])
    fixed, grid = settings.model_dump(exclude={"candidates"}), ParameterGrid(settings.candidates)
    fits = [_fit({**fixed, **candidate}, scaler, windows, random_state=params.random_state) for candidate in grid]
    best = min(fits, key=lambda fit: fit.val_rmse)
    rows = [{**{key: fit.hyper[key] for key in settings.candidates}, "val_rmse": fit.val_rmse} for fit in fits]
    return TrainedModel(
        model=best.estimator,
        scaler=scaler,
        metadata={
            "symbol": symbol,
            **_description(best, windows, chosen, params),
            **_provenance(windows, params),
            "prices": _origin(prices, source),
            "forecasts": _some_forecasts(best, features),
        },
        candidates=pd.DataFrame(rows).sort_values("val_rmse", kind="stable", ignore_index=True),
        validation=pd.DataFrame({"target": windows["validation"][1], "forecast": best.forecast}),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """One combination of hyperparameters, fitted on the training days, with its forecast of the validation days."""

    hyper: dict[str, Any]
    scaler: StandardScaler
    estimator: Any
    seconds: float
    forecast: pd.Series
    val_rmse: float


def _settings(params: TrainingParams, chosen: str, overrides: dict[str, Any]) -> MlpParams:
    if chosen not in params.models:
        msg = f"model: {chosen!r} is not defined{nearest(chosen, params.models)}; training.models has {', '.join(params.models)}"
        raise ParamsError(msg)
    base = params.models[chosen]
    candidates = {name: values for name, values in base.candidates.items() if name not in overrides}
    try:
        return MlpParams(**{**base.model_dump(), "candidates": candidates, **overrides})
    except ValidationError as error:
        raise ParamsError("\n".join(f"overrides: {line}" for line in explain(error, MlpParams))) from error


def _fit(hyper: dict[str, Any], scaler: StandardScaler, windows: _Windows, *, random_state: int) -> _Fit:
    arguments = {name: value for name, value in hyper.items() if name != "standardise_target"}
    estimator = MLPRegressor(**arguments, random_state=random_state)
    if hyper["standardise_target"]:
        estimator = TransformedTargetRegressor(regressor=estimator, transformer=StandardScaler())
    (features, target), (later, actual) = windows["training"], windows["validation"]
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # a fit that diverges is an error below
            warnings.simplefilter("ignore", ConvergenceWarning)  # iterations and max_iter are both in the metadata
            estimator.fit(scaler.transform(features), target.to_numpy())
    except ValueError as error:
        msg = f"the model cannot be fitted with {arguments}: {error}"
        raise ParamsError(msg) from error
    seconds = time.perf_counter() - start
    forecast = _forecast(scaler, estimator, later)
    val_rmse = rmse(actual, forecast)
    return _Fit(hyper=hyper, scaler=scaler, estimator=estimator, seconds=seconds, forecast=forecast, val_rmse=val_rmse)


def _forecast(scaler: StandardScaler, estimator: Any, rows: pd.DataFrame) -> pd.Series:  # noqa: ANN401 (scikit-learn's have no common base)
    return pd.Series(estimator.predict(scaler.transform(rows)), index=rows.index)


def _metrics(fit: _Fit, windows: _Windows) -> dict[str, float]:
    (_, actual), (features, target) = windows["validation"], windows["training"]
    return {
        "val_rmse": fit.val_rmse,
        "val_mae": mae(actual, fit.forecast),
        "val_direction_accuracy": hit_rate(actual, fit.forecast),
        "val_rmse_zero": rmse(actual, actual * 0),
        "val_rmse_mean": rmse(actual, actual * 0 + float(target.mean())),
        "train_rmse": rmse(target, _forecast(fit.scaler, fit.estimator, features)),
    }


def _description(best: _Fit, windows: _Windows, model: str, params: TrainingParams) -> dict[str, Any]:
    iterations = getattr(best.estimator, "regressor_", best.estimator).n_iter_
    training, _ = windows["training"]
    return {
        "model_type": "MLP",
        "architecture": list(best.hyper["hidden_layer_sizes"]),
        "features_count": training.shape[1],
        "feature_names": list(training.columns),
        "feature_ranges": {str(name): [float(values.min()), float(values.max())] for name, values in training.items()},
        "metrics": {**_metrics(best, windows), "iterations": iterations, "training_time": best.seconds},
        "config": {**best.hyper, "model": model, "iterations": iterations, "random_state": params.random_state},
    }


def _some_forecasts(fit: _Fit, features: pd.DataFrame) -> dict[str, list[Any]]:
    """Forecast a sample of all days, which later reveals restated prices."""
    some = features.iloc[np.linspace(0, len(features) - 1, _KEPT_FORECASTS).round().astype(int)]
    forecast = _forecast(fit.scaler, fit.estimator, some)
    return {"days": [f"{day:%Y-%m-%d}" for day in forecast.index], "values": forecast.tolist()}


def _provenance(windows: _Windows, params: TrainingParams) -> dict[str, Any]:
    libraries = {name: version(name) for name in ("scikit-learn", "numpy", "pandas", "TA-Lib", "skops")}
    mean = float(windows["training"][1].mean())
    return {
        "feature_schema": {"version": SCHEMA_VERSION, "dtype": "float64"},
        "target": {"name": TARGET, "horizon_days": HORIZON_DAYS, "units": "fraction", "training_mean": mean},
        "windows": {name: _span(target.index) for name, (_, target) in windows.items()},
        "embargo_days": params.embargo_days,
        "libraries": {**libraries, "python": platform.python_version()},
    }


def _origin(prices: SharePrices | pd.DataFrame, source: str) -> dict[str, Any]:
    """Describe the prices, and keep them: what a vendor restates later is found by them."""
    if isinstance(prices, SharePrices):
        return {**prices.facts(), "sha256": prices.sha256, **_span(prices.frame.index), "kept": pack_prices(prices)}
    return {"source": source, "sha256": prices_digest(prices), **_span(prices.index)}


def _span(days: pd.Index) -> dict[str, Any]:
    return {"first_day": f"{days[0]:%Y-%m-%d}", "last_day": f"{days[-1]:%Y-%m-%d}", "days": len(days)}
