"""Evaluation of one bundle on days that its forecasts have not seen: its recipe's rolling-origin days, or its own test days."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.bundles import Bundle
from fxhelpers.comparison import over_zero
from fxhelpers.display import shown_as
from fxhelpers.errors import NotComparableError
from fxhelpers.features import SCHEMA_VERSION, build_features, next_day_return
from fxhelpers.metrics import hit_rate, mae, r2, rmse
from fxhelpers.prices import SharePrices, prices_digest, restatement, unpack_prices
from fxhelpers.training import Rolling, join_extra


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Forecasts of one bundle on its rolling-origin or test days, with their metrics."""

    symbol: str
    days: str  # which days these are: rolling-origin or test
    # foresightX's ``test_metrics`` and those of the two baselines; errors as fractions of return, accuracies as fractions of
    # days. ``test_mape`` is None: a percentage of a return, which is often almost zero, means nothing
    metrics: dict[str, Any]
    predictions: pd.DataFrame  # one row per day: Date, Actual, Predicted, Error, Abs_Error, Direction_Correct
    # whether the prices are those of the training; another scale, after a split or a dividend, is not another price. Of bundles
    # that keep no prices: whether they are equal to the last digit
    same_prices: bool

    @property
    def answer(self) -> dict[str, str]:
        """Result and answer for the summary: whether the forecasts are better than forecasting zero on these days."""
        return over_zero(self.predictions["Actual"], self.predictions["Predicted"], self.days)

    def to_frame(self) -> pd.DataFrame:
        """Return the metrics of model and baselines as text, for display."""
        rows = {
            "model": ("test_rmse", "test_mae", "direction_accuracy"),
            "zero return": ("test_rmse_zero", "test_mae_zero", None),
            "mean training return": ("test_rmse_mean", "test_mae_mean", "direction_accuracy_mean"),
        }
        columns = {"RMSE (lower is better)": "{:.3%}", "MAE (lower is better)": "{:.3%}", "hit rate (higher is better)": "{:.1%}"}
        table = {
            name: [shown_as(self.metrics[key] if key else None, form) for key, form in zip(keys, columns.values(), strict=True)]
            for name, keys in rows.items()
        }
        return pd.DataFrame.from_dict(table, orient="index", columns=list(columns)).rename_axis(columns="forecast")


def evaluate_bundle(bundle: Bundle, prices: SharePrices | pd.DataFrame) -> Evaluation:
    """Measure a bundle's rolling-origin forecasts or, of a bundle without, forecast its test days and measure these.

    Parameters
    ----------
    bundle : Bundle
        Trained by fxhelpers.
    prices : SharePrices, or DataFrame of shape (n_days, 5)
        They must cover these days.

    Returns
    -------
    Evaluation

    Raises
    ------
    NotComparableError
        The bundle states no such days or has features that cannot be
        computed from prices, or the prices do not cover the days.
    """
    schema = bundle.metadata.get("feature_schema", {}).get("version", SCHEMA_VERSION)
    days = prices.for_schema(schema) if isinstance(prices, SharePrices) else prices
    test, mean = _rolled(bundle.rolling, days) if bundle.rolling is not None else _tested(bundle, days, schema)
    actual, predicted = test["target"], test["forecast"]
    trained = bundle.metadata["prices"]
    return Evaluation(
        symbol=bundle.symbol,
        days="test" if bundle.rolling is None else "rolling-origin",
        metrics=_metrics(actual, predicted, mean),
        predictions=_table(actual, predicted),
        same_prices=_same(trained, prices, days),
    )


def _rolled(rolling: Rolling, prices: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Return target and forecast of the recipe's rolling-origin days, and the mean return known before each."""
    target = next_day_return(prices).reindex(rolling.forecasts.index)
    if missing := int(target.isna().sum()):
        first, last = (f"{day:%Y-%m-%d}" for day in (target.index[0], target.index[-1]))
        msg = (
            f"the prices lack {missing} of the {len(target)} rolling-origin days from {first} to {last}, or the day after; "
            "evaluate with the price source that the bundle was trained on"
        )
        raise NotComparableError(msg)
    return pd.DataFrame({"target": target, "forecast": rolling.forecasts}), rolling.means


def _tested(bundle: Bundle, prices: pd.DataFrame, schema: int) -> tuple[pd.DataFrame, pd.Series]:
    """Return target and forecast of the test days, and the mean return of the training days."""
    features, extra = build_features(prices, schema), bundle.extra
    if extra is not None:  # the test days end before its last one
        features = join_extra(features.loc[: extra.index[-1]], extra, f"the columns that {bundle.metadata_path.name} keeps")
    frame = forecast_days(bundle.pipeline(), bundle.feature_names, features, next_day_return(prices))
    window = bundle.metadata.get("windows", {}).get("test")
    if window is None:
        msg = (
            f"{bundle.metadata_path.name} states no test window, so its unseen days are unknown; evaluate it where it was "
            "trained (its evaluation_metrics file is read), or train with fx run train"
        )
        raise NotComparableError(msg)
    test = frame.loc[window["first_day"] : window["last_day"]]
    if len(test) != window["days"]:
        msg = (
            f"the prices have {len(test)} of the {window['days']} test days from {window['first_day']} to {window['last_day']}; "
            "evaluate with the price source that the bundle was trained on"
        )
        raise NotComparableError(msg)
    return test, pd.Series(float(bundle.metadata["target"]["training_mean"]), test.index)


def _same(trained: dict[str, Any], prices: SharePrices | pd.DataFrame, days: pd.DataFrame) -> bool:
    if isinstance(prices, SharePrices) and trained.get("kept"):
        return restatement(unpack_prices(trained["kept"]), prices) is None
    return bool(prices_digest(days.loc[trained["first_day"] : trained["last_day"]]) == trained["sha256"])


def forecast_days(
    pipeline: Any,  # noqa: ANN401 (scikit-learn's estimators have no common base for this)
    feature_names: list[str],
    features: pd.DataFrame,
    target: pd.Series,
) -> pd.DataFrame:
    """Forecast, from raw features, every day on which they and the target are known; columns ``target`` and ``forecast``.

    :class:`NotComparableError` if a feature is missing, or there is no such day.
    """
    missing = [name for name in feature_names if name not in features]
    if missing:
        msg = (
            f"{len(missing)} of its {len(feature_names)} features are not among the {features.shape[1]} available ones, first "
            f"{missing[0]!r}: the model was trained on others. It can be registered and served, but not compared."
        )
        raise NotComparableError(msg)
    table = features[feature_names].assign(target=target).replace([np.inf, -np.inf], np.nan).dropna()
    if table.empty:
        msg = f"no day has all of its {len(feature_names)} features and the next day's return"
        raise NotComparableError(msg)
    forecast = pipeline.predict(table[feature_names])
    return pd.DataFrame({"target": table["target"], "forecast": np.asarray(forecast)}, index=table.index)


def _metrics(actual: pd.Series, predicted: pd.Series, mean: pd.Series) -> dict[str, Any]:
    up, down = actual > 0, actual < 0
    zero, constant = actual * 0, mean
    series = {"prediction": predicted, "actual": actual, "residual": actual - predicted}
    return {
        "test_rmse": rmse(actual, predicted),
        "test_mae": mae(actual, predicted),
        "test_mape": None,
        "direction_accuracy": hit_rate(actual, predicted),
        "up_movement_accuracy": hit_rate(actual[up], predicted[up]) if up.any() else None,
        "down_movement_accuracy": hit_rate(actual[down], predicted[down]) if down.any() else None,
        **{f"{name}_mean": float(values.mean()) for name, values in series.items()},
        **{f"{name}_std": float(values.std(ddof=0)) for name, values in series.items()},
        "test_samples": len(actual),
        "up_movements": int(up.sum()),
        "down_movements": int(down.sum()),
        "test_r2": r2(actual, predicted),
        "test_rmse_zero": rmse(actual, zero),
        "test_mae_zero": mae(actual, zero),
        "test_rmse_mean": rmse(actual, constant),
        "test_mae_mean": mae(actual, constant),
        "direction_accuracy_mean": hit_rate(actual, constant),
    }


def _table(actual: pd.Series, predicted: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame({"Date": actual.index, "Actual": actual.to_numpy(), "Predicted": predicted.to_numpy()})
    table["Error"] = table["Actual"] - table["Predicted"]
    table["Abs_Error"] = table["Error"].abs()
    table["Direction_Correct"] = np.sign(table["Actual"]) == np.sign(table["Predicted"])
    return table
