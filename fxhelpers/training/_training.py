"""Training of one model: by its recipe on all days, or, as before there were recipes, on the training days only."""

import copy
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from fxhelpers import estimators
from fxhelpers.comparison import over_zero
from fxhelpers.display import progress_bar, shown_as
from fxhelpers.errors import PriceDataError
from fxhelpers.features import HORIZON_DAYS, SCHEMA_VERSION, TARGET, build_features, next_day_return
from fxhelpers.metrics import hit_rate, mae, rmse
from fxhelpers.params import TrainingParams
from fxhelpers.prices import (
    KeptPrices,
    SharePrices,
    columns_on,
    extend_columns,
    extend_prices,
    keep_columns,
    keep_prices,
    pack_prices,
    prices_digest,
    unpack_columns,
    unpack_prices,
)
from fxhelpers.recipes import Recipe
from fxhelpers.training._extra import checked_extra, chosen_model, join_extra
from fxhelpers.training._fitting import Fit, check_windows, fit_recipe, fit_setting
from fxhelpers.training._rolling import Rolling, roll

_KEPT_FORECASTS = 128
_NAMED = 5  # columns of the user's own, in a sentence

_Windows = dict[str, tuple[pd.DataFrame, pd.Series]]
"""Features and target of each window."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """A fitted model, not yet written to disk."""

    model: Any  # the model takes scaled features
    scaler: StandardScaler
    metadata: dict[str, Any]  # content of the bundle's metadata file, without file names
    candidates: pd.DataFrame  # one row per combination tried, with ``val_rmse`` (fraction; lower is better); the kept one first
    validation: pd.DataFrame  # ``target`` and ``forecast`` of the rolling-origin or validation days, returns as fractions
    cost: str  # which fits were made, and how long they took; a sentence
    features: str  # how many features there are, and which are the user's own; a sentence
    rolling: Rolling | None = None  # what its recipe would have forecast; None if it was fitted on the training days only

    @property
    def days(self) -> str:
        """The days of ``validation``: rolling-origin or validation."""
        return "validation" if self.rolling is None else "rolling-origin"

    @property
    def origins(self) -> list[str]:
        """First day that each fit forecasts, YYYY-MM-DD; empty without rolling-origin forecasts."""
        return [] if self.rolling is None else [origin.day for origin in self.rolling.origins]

    @property
    def answer(self) -> dict[str, str]:
        """Result and answer for the summary: whether the forecasts are better than forecasting zero."""
        found = over_zero(self.validation["target"], self.validation["forecast"], self.days)
        if self.rolling is None and len(self.candidates) > 1:
            found["answer"] += f" The best of {len(self.candidates)} candidates was chosen on these days, so this is optimistic."
        return found

    def candidates_frame(self) -> pd.DataFrame:
        """Return the combinations tried as text, for display, the kept one first; of a single one, its settings."""
        if len(self.candidates) == 1:
            settings = {name: str(value) for name, value in self.metadata["config"].items() if name != "model"}
            return pd.DataFrame({"value": settings}).rename_axis(columns="setting")
        shown = self.candidates.drop(columns="val_rmse").map(str)
        shown["validation RMSE (lower is better)"] = [shown_as(value, "{:.4%}") for value in self.candidates["val_rmse"]]
        shown[""] = ["kept", *[""] * (len(shown) - 1)]
        return shown


def supervised(prices: pd.DataFrame, extra: pd.DataFrame | None = None) -> tuple[pd.DataFrame, pd.Series]:
    """Return features and target of the days on which all of them are known; ``extra`` are columns of the user's own, by day.

    :class:`FeaturesError` if a day of prices after the first row of ``extra`` has no value.
    """
    features, target = join_extra(build_features(prices), extra), next_day_return(prices)
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
    held = {name: window.stop - window.start for name, window in windows.items()}
    check_windows(held, count, "training.validation_size or training.test_size")
    return windows


def train_model(
    symbol: str,
    prices: SharePrices | pd.DataFrame,
    params: TrainingParams,
    *,
    model: str = "",
    overrides: dict[str, Any] | None = None,
    source: str = "",
    extra: pd.DataFrame | None = None,
    earlier: Iterable[Mapping[str, Any]] = (),
) -> TrainedModel:
    """Fit one model by its recipe; of several candidates keep the one with the lowest validation RMSE.

    With ``training.refit`` the model is fitted on all days, and comes with
    rolling-origin forecasts: what its recipe would have forecast of earlier
    days, each fit using only the days before it. Otherwise it is fitted on the
    training days, and the test days are set aside before, and never used.

    All of it is computed from the prices in single precision, as the bundle
    keeps them, so that it can be computed again.

    Parameters
    ----------
    symbol : str
        Ticker, for the metadata.
    prices : SharePrices, or DataFrame of shape (n_days, 5)
        As :func:`fxhelpers.prices.read_prices` or ``load_prices`` returns it.
        The bundle keeps the former with their format and what is doubtful.
    params : TrainingParams
        The ``training`` section of ``params.yaml``.
    model : str, optional
        A key of ``training.models``; by default ``training.model``.
    overrides : dict, optional
        Hyperparameters that replace those of ``params.yaml``, including their
        candidates.
    source : str, optional
        The price source of a DataFrame, for the metadata.
    extra : DataFrame of shape (n_days, n_columns), optional
        Columns of the user's own, as :func:`read_extra` returns them; required
        if the model's ``features.extra`` is set. Each value must be known at
        the close of its day. The bundle keeps them.
    earlier : iterable of dict, optional
        Metadata of earlier bundles, newest first, as ``earlier_trainings``
        returns them. The rolling-origin forecasts of the first one with the
        same recipe, the same prices and the same ``extra`` are taken over.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ParamsError
        No such model, an unknown hyperparameter, or a fit that diverges.
    FeaturesError
        ``extra`` is missing, is not what the model takes, or lacks days of
        the prices.
    PriceDataError
        Too few days, or a close that does not change.
    """
    chosen = model or params.model
    settings = chosen_model(params, chosen, overrides or {})
    more = checked_extra(settings, extra)
    recipe = Recipe.of(settings, params, () if more is None else more.columns)
    more, about = _on_days(symbol, recipe, prices, more)
    kept, more, taken = _kept(recipe, prices, more, earlier)
    features, target = supervised(kept.frame, more)
    if recipe.refits:
        parts = _train_refit(symbol, recipe, features, target, taken)
    else:
        parts = _train_split(symbol, recipe, params, features, target)
    metadata = {
        "symbol": symbol,
        **_description(recipe, parts, chosen, params),
        **_provenance(parts, params),
        "prices": {**_origin(prices, source), "kept": pack_prices(kept)},
        **({} if more is None else {"extra": keep_columns(more, recipe.extra["folder"])}),
        "forecasts": _some_forecasts(parts.fit, features),
        "recipe": recipe.facts,
        **({"rolling": parts.rolling.to_json(), "size": parts.fit.size} if parts.rolling else {}),
    }
    return TrainedModel(
        model=parts.fit.estimator,
        scaler=_named(parts.fit.scaler, features.columns),
        metadata=metadata,
        candidates=_candidates(recipe, parts.fit),
        validation=parts.judged,
        cost=parts.cost,
        features=f"{features.shape[1]} features{about}.",
        rolling=parts.rolling,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    fit: Fit
    windows: _Windows
    judged: pd.DataFrame  # ``target`` and ``forecast`` of the days on which the recipe is measured
    mean: pd.Series  # forecast of these days by the mean of the returns fitted on
    cost: str
    rolling: Rolling | None = None


def _on_days(
    symbol: str, recipe: Recipe, prices: SharePrices | pd.DataFrame, extra: pd.DataFrame | None
) -> tuple[pd.DataFrame | None, str]:
    """Return columns of the user's own on the days of prices, and what they are, for people."""
    if extra is None:
        return None, ""
    days = pd.DatetimeIndex((prices.frame if isinstance(prices, SharePrices) else prices).index)
    where = f"{recipe.extra['folder']}/{symbol}.csv"
    values, ignored = columns_on(extra, days, where)
    names = ", ".join(extra.columns[:_NAMED]) + (", …" if extra.shape[1] > _NAMED else "")
    left_out = f"; {ignored:,} of its {len(extra):,} rows are of days without prices, and left out" if ignored else ""
    return values, f", {extra.shape[1]} of them from {where} ({names}){left_out}"


def _kept(
    recipe: Recipe, prices: SharePrices | pd.DataFrame, extra: pd.DataFrame | None, earlier: Iterable[Mapping[str, Any]]
) -> tuple[KeptPrices, pd.DataFrame | None, Rolling | None]:
    """Return prices and columns to compute with, and the rolling-origin forecasts of an earlier training on the same ones."""
    for metadata in earlier if recipe.refits else ():
        if "rolling" in metadata and Recipe.read(metadata).digest == recipe.digest:
            longer = extend_prices(unpack_prices(metadata["prices"]["kept"]), prices)
            more = None if extra is None else extend_columns(unpack_columns(metadata["extra"]), extra)
            if longer is not None and (extra is None or more is not None):
                return longer, more, Rolling.read(metadata["rolling"])
    return keep_prices(prices), extra, None


def _train_refit(symbol: str, recipe: Recipe, features: pd.DataFrame, target: pd.Series, taken: Rolling | None) -> _Parts:
    _check_moves(symbol, "the days", target)
    fit = fit_recipe(recipe, features.to_numpy(), target.to_numpy())
    begun = time.perf_counter()
    with progress_bar(f"{symbol}: rolling-origin forecasts") as progress:
        rolling, made = roll(recipe, features, target, taken=taken, progress=progress)
    seconds, count = time.perf_counter() - begun, len(rolling.origins)
    known = f"{count} origins of rolling forecasts: {count - made} taken over, {made} fitted in {seconds:.1f} s"
    actual = target.loc[rolling.forecasts.index]
    return _Parts(
        fit=fit,
        windows={"training": (features, target)},
        judged=pd.DataFrame({"target": actual, "forecast": rolling.forecasts}),
        mean=rolling.means,
        cost=f"What serves: {fit.seconds:.1f} s. {known}.",
        rolling=rolling,
    )


def _train_split(symbol: str, recipe: Recipe, params: TrainingParams, features: pd.DataFrame, target: pd.Series) -> _Parts:
    windows = {name: (features.iloc[days], target.iloc[days]) for name, days in split_windows(features.index, params).items()}
    for name in ("training", "validation"):
        _check_moves(symbol, f"any {name} day", windows[name][1])
    (known, returns), (later, actual) = windows["training"], windows["validation"]
    fits = [fit_setting(recipe, n, known.to_numpy(), returns.to_numpy()) for n in range(len(recipe.settings))]
    forecasts = [fit.forecast(later.to_numpy()) for fit in fits]
    errors = tuple(rmse(actual, pd.Series(forecast, later.index)) for forecast in forecasts)
    best = int(np.argmin(errors))
    fit = replace(fits[best], val_rmse=errors)
    seconds = sum(one.seconds for one in fits)
    return _Parts(
        fit=fit,
        windows=windows,
        judged=pd.DataFrame({"target": actual, "forecast": forecasts[best]}),
        mean=actual * 0 + float(returns.mean()),
        cost=f"{len(fits)} fitted in {seconds:.1f} s.",
    )


def _named(scaler: StandardScaler, names: pd.Index) -> StandardScaler:
    """Return a scaler that knows the names of its features, as if it had been fitted on a frame."""
    named = copy.copy(scaler)
    named.feature_names_in_ = np.asarray(names, dtype=object)
    return named


def _check_moves(symbol: str, where: str, target: pd.Series) -> None:
    if not target.any():
        msg = f"{symbol}: the close does not change on {where}, so there is no return to forecast"
        raise PriceDataError(msg)


def _candidates(recipe: Recipe, fit: Fit) -> pd.DataFrame:
    """Return what the settings of a recipe differ in, with their validation errors; the kept one first."""
    table = pd.DataFrame(recipe.settings)
    table = table[[name for name in table if len(set(table[name].map(str))) > 1]]
    table["val_rmse"] = fit.val_rmse or [np.nan] * len(table)
    order = sorted(range(len(table)), key=lambda n: (n != fit.setting, table["val_rmse"][n]))
    return table.iloc[order].reset_index(drop=True)


def _description(recipe: Recipe, parts: _Parts, model: str, params: TrainingParams) -> dict[str, Any]:
    known, target = parts.windows["training"]
    actual, forecast, setting = parts.judged["target"], parts.judged["forecast"], recipe.settings[parts.fit.setting]
    count = getattr(estimators.regressor_in(parts.fit.estimator), "n_iter_", None)
    iterations = {"iterations": int(count)} if isinstance(count, int | np.integer) else {}
    metrics = {
        "val_rmse": rmse(actual, forecast),
        "val_mae": mae(actual, forecast),
        "val_direction_accuracy": hit_rate(actual, forecast),
        "val_rmse_zero": rmse(actual, actual * 0),
        "val_rmse_mean": rmse(actual, parts.mean),
        "train_rmse": rmse(target, pd.Series(parts.fit.forecast(known.to_numpy()), known.index)),
        **iterations,
        "training_time": parts.fit.seconds,
    }
    layers = {"architecture": list(setting["hidden_layer_sizes"])} if "hidden_layer_sizes" in setting else {}
    return {
        "model_type": estimators.model_type(recipe.facts["estimator"]),
        **layers,
        "features_count": known.shape[1],
        "feature_names": list(known.columns),
        "feature_ranges": {str(name): [float(values.min()), float(values.max())] for name, values in known.items()},
        "metrics": metrics,
        "config": {
            "estimator": recipe.facts["estimator"],
            **setting,
            "model": model,
            **iterations,
            "random_state": params.random_state,
        },
    }


def _some_forecasts(fit: Fit, features: pd.DataFrame) -> dict[str, list[Any]]:
    """Forecast a sample of all days, which later reveals restated prices."""
    some = features.iloc[np.linspace(0, len(features) - 1, _KEPT_FORECASTS).round().astype(int)]
    return {"days": [f"{day:%Y-%m-%d}" for day in some.index], "values": fit.forecast(some.to_numpy()).tolist()}


def _provenance(parts: _Parts, params: TrainingParams) -> dict[str, Any]:
    libraries = {name: version(name) for name in ("scikit-learn", "numpy", "pandas", "TA-Lib", "skops")}
    return {
        "feature_schema": {"version": SCHEMA_VERSION, "dtype": "float64"},
        "target": {"name": TARGET, "horizon_days": HORIZON_DAYS, "units": "fraction", "training_mean": parts.fit.mean},
        "windows": {name: span_of(target.index) for name, (_, target) in parts.windows.items()},
        "embargo_days": params.embargo_days,
        "libraries": {**libraries, "python": platform.python_version()},
    }


def _origin(prices: SharePrices | pd.DataFrame, source: str) -> dict[str, Any]:
    """Describe the prices."""
    if isinstance(prices, SharePrices):
        return {**prices.facts(), "sha256": prices.sha256, **span_of(prices.frame.index)}
    return {"source": source, "sha256": prices_digest(prices), **span_of(prices.index)}


def span_of(days: pd.Index) -> dict[str, Any]:
    """Return first day, last day and number of days, as metadata hold them."""
    return {"first_day": f"{days[0]:%Y-%m-%d}", "last_day": f"{days[-1]:%Y-%m-%d}", "days": len(days)}
