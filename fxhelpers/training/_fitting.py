"""One fit by a recipe: hyperparameters chosen on the latest of the days that it may see, then fitted on all of these."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from fxhelpers import estimators
from fxhelpers.comparison import QUARTER
from fxhelpers.errors import PriceDataError
from fxhelpers.recipes import Recipe

MINIMUM_WINDOW = 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A scaler and an estimator, fitted."""

    setting: int  # the candidate that was chosen, by its place among the recipe's settings
    val_rmse: tuple[float, ...]  # of each setting, on the days that it was chosen on, as fractions; empty with one setting
    scaler: StandardScaler
    estimator: Any  # takes scaled features
    mean: float  # of the returns that it was fitted on, a fraction
    size: float  # RMS of its forecasts over that of the returns, on the last 63 days that it was fitted on
    seconds: float  # of all its fits

    def forecast(self, features: np.ndarray) -> np.ndarray:
        """Forecast the days of raw features, as fractions of return."""
        return np.asarray(self.estimator.predict(self.scaler.transform(features)), dtype=float)


def fit_recipe(recipe: Recipe, features: np.ndarray, target: np.ndarray, setting: int | None = None) -> Fit:
    """Fit a recipe on these days; ``setting`` is a choice among its candidates that was made before.

    Candidates are fitted on the earlier of these days, without the horizon and
    the embargo, and compared on the later ones.
    """
    start, errors = time.perf_counter(), []
    if setting is None:
        errors = _validation_errors(recipe, features, target) if len(recipe.settings) > 1 else []
        setting = int(np.argmin(errors)) if errors else 0
    fit = fit_setting(recipe, setting, features, target)
    return replace(fit, val_rmse=tuple(errors), seconds=time.perf_counter() - start)


def fit_setting(recipe: Recipe, setting: int, features: np.ndarray, target: np.ndarray) -> Fit:
    """Fit one of a recipe's settings on all of these days."""
    start, hyper = time.perf_counter(), recipe.settings[setting]
    scaler = StandardScaler().fit(features)
    estimator = estimators.build(recipe.facts["estimator"], hyper, random_state=recipe.facts["random_state"])
    estimators.fit(estimator, scaler.transform(features), target)
    recent = estimator.predict(scaler.transform(features[-QUARTER:]))
    moved = float(np.sqrt(np.mean(target[-QUARTER:] ** 2)))
    return Fit(
        setting=setting,
        val_rmse=(),
        scaler=scaler,
        estimator=estimator,
        mean=float(target.mean()),
        size=float(np.sqrt(np.mean(recent**2))) / moved if moved else 0.0,
        seconds=time.perf_counter() - start,
    )


def check_windows(held: Mapping[str, int], count: int, settings: str) -> None:
    """Raise :class:`PriceDataError` if a window, of so many days by its name, is too short; ``settings`` say how long it is."""
    for name, days in held.items():
        if days < MINIMUM_WINDOW:
            msg = (
                f"the {name} window would hold {days} of {count} days, at least {MINIMUM_WINDOW} are required: "
                f"use more prices, or change {settings}"
            )
            raise PriceDataError(msg)


def _validation_errors(recipe: Recipe, features: np.ndarray, target: np.ndarray) -> list[float]:
    first = int(len(target) * (1 - recipe.facts["choice"]["validation_size"]))
    known = first - recipe.gap
    held = {"training": known, "validation": len(target) - first}
    check_windows(held, len(target), "training.validation_size or training.rolling.first_day")
    errors = []
    for setting in range(len(recipe.settings)):
        fit = fit_setting(recipe, setting, features[:known], target[:known])
        errors.append(float(np.sqrt(np.mean((target[first:] - fit.forecast(features[first:])) ** 2))))
    return errors
