"""A training repeated: what a bundle holds must be what its recipe gives on the prices that it keeps."""

import math
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.bundles._bundle import Bundle
from fxhelpers.comparison import came_again
from fxhelpers.errors import RollingForecastsError
from fxhelpers.params import TrainingParams
from fxhelpers.prices import unpack_prices
from fxhelpers.training import check_fit, check_rolling, span_of, split_windows, supervised

_AGAIN, _SECONDS = 3, 2.0  # origins that a registration forecasts again; more of them as long as that takes less
_SAME = 1e-6  # of the returns' standard deviation: another processor may change the last digits of their mean
_SCALED = 1e-3  # of each feature's scale: tolerance of its mean


def check_recipe(bundle: Bundle) -> list[str]:
    """Repeat the fit of what serves and some rolling-origin forecasts, by the recipe, on the prices that the bundle keeps.

    Returns the days of the origins that were fitted again; none for a bundle without rolling-origin forecasts, of which only the
    windows and the scaler are checked.
    :class:`RollingForecastsError` if the recipe gives others.
    """
    kept = bundle.metadata.get("prices", {}).get("kept")
    if not kept or not bundle.recipe.whole:
        return []
    features, target = supervised(unpack_prices(kept).frame, bundle.extra)
    _check_training(bundle, features, target)
    if bundle.rolling is None:
        return []
    who = str(bundle.model_path)
    serves = pd.Series(bundle.pipeline().predict(features), features.index)
    stored = bundle.forecasts
    same = came_again(serves.reindex(stored.index).to_numpy(), stored.to_numpy(), float(serves.std(ddof=0)))
    if stored.empty or not same.all():
        msg = (
            f"{bundle.metadata_path}: {int((~same).sum())} of the {len(stored)} stored forecasts are not those of "
            f"{bundle.model_path.name} on the prices and columns that it keeps, or there are none: these files are not of one "
            "training; train again: fx run train"
        )
        raise RollingForecastsError(msg)
    check_fit(bundle.recipe, features, target, serves, bundle.metadata["size"], who=who)
    about: dict[str, Any] = {"seed": bundle.digest, "count": _AGAIN, "seconds": _SECONDS, "who": who}
    return check_rolling(bundle.recipe, features, target, bundle.rolling, **about)


def _check_training(bundle: Bundle, features: pd.DataFrame, target: pd.Series) -> None:
    """Raise :class:`RollingForecastsError` if a bundle states other windows, features or returns than those of its recipe."""
    recipe, windows = bundle.recipe.facts, {"training": slice(0, len(features))}
    if not bundle.recipe.refits:
        sizes = {"validation_size": recipe["choice"]["validation_size"], "test_size": recipe["test_size"]}
        windows = split_windows(features.index, TrainingParams(**sizes, embargo_days=recipe["embargo_days"]))
    spans = {name: features.index[days] for name, days in windows.items()}
    stated = bundle.metadata.get("target", {}).get("training_mean", math.nan)
    known, returns = features.iloc[windows["training"]].to_numpy(), target.iloc[windows["training"]]
    mean, scale = bundle.typical
    true = {
        "windows": bundle.metadata.get("windows") == {name: span_of(days) for name, days in spans.items()},
        "feature_names": bundle.feature_names == list(features.columns),
        "target.training_mean": abs(stated - float(returns.mean())) <= _SAME * float(returns.std()),
        "the scaler's means": bool((np.abs(mean - known.mean(axis=0)) <= _SCALED * scale).all()),
    }
    wrong = [key for key, right in true.items() if not right]
    if wrong:
        msg = (
            f"{bundle.metadata_path}: {' and '.join(wrong)} are not those of a fit on {recipe['fit']} of its prices, "
            f"{' to '.join(span_of(spans['training'])[key] for key in ('first_day', 'last_day'))}: edited after the training; "
            "train again: fx run train"
        )
        raise RollingForecastsError(msg)
