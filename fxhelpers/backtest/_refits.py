"""The fits of a backtest: each model's rolling-origin forecasts, and one refit per retraining day."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.display import progress_bar
from fxhelpers.errors import ParamsError
from fxhelpers.frames import Evidence
from fxhelpers.params import TrainingParams
from fxhelpers.recipes import Recipe
from fxhelpers.training import Block, Fit, Rolling, chosen_model, first_days, fit_blocks, roll


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refit:
    """What one model's training on one day gives, as a version would have it."""

    version: int  # 1-based, in the order in which versions are offered
    model: str  # key of ``training.models``
    recipe: str  # SHA-256
    known: int  # number of days that it was fitted on; also the position of the retraining day
    fit: Fit
    forecasts: np.ndarray  # of all days, as fractions of return; NaN before the retraining day
    rolling: Rolling  # the forecasts that a training on that day has

    def evidence(self, target: pd.Series, now: int) -> Evidence:
        """Return what is known of it on a day, given by its position: nothing that happens later."""
        days = pd.DatetimeIndex(target.index)
        first, last = days[0], days[self.known - 1]
        about: dict[str, Any] = {"target": {"training_mean": self.fit.mean}, "size": self.fit.size}
        return Evidence(
            about=about,
            days=pd.DataFrame({"target": target.iloc[:now], "forecast": self.forecasts[:now]}),
            windows={"training": {"first_day": f"{first:%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}},
            last_seen=last,
            recipe=self.recipe,
            rolling=self.rolling,
        )


def recipes_of(params: TrainingParams, models: list[str]) -> dict[str, Recipe]:
    """Return each model's recipe; :class:`ParamsError` if two are the same, or one is not refitted on all days."""
    found: dict[str, Recipe] = {}
    for model in models:
        recipe = Recipe.of(chosen_model(params, model, {}), params)
        if not recipe.refits:
            msg = (
                f"models: {model} has refit: false, so it has no rolling-origin forecasts to judge it by; set training.refit to "
                "true, or choose another model"
            )
            raise ParamsError(msg)
        twin = next((other for other, known in found.items() if known.digest == recipe.digest), None)
        if twin is not None:
            msg = f"models: {twin} and {model} are the same recipe, {recipe.short}; name it once"
            raise ParamsError(msg)
        found[model] = recipe
    return found


def make_refits(
    symbol: str, recipes: Mapping[str, Recipe], features: pd.DataFrame, target: pd.Series, retrainings: list[int]
) -> list[list[Refit]]:
    """Fit each recipe on all days known on each retraining day, and forecast the days from it on; one list per retraining day.

    The rolling-origin forecasts are made once: those before a day are what a
    training on that day would have made.
    """
    made: list[list[Refit]] = [[] for _ in retrainings]
    count = len(recipes) * (len(first_days(next(iter(recipes.values())), len(features))) + len(retrainings))
    done = 0
    with progress_bar(f"{symbol}: fits of {', '.join(recipes)}") as show:
        for place, (model, recipe) in enumerate(recipes.items(), 1):
            rolling, origins = roll(recipe, features, target, progress=lambda n, _, done=done: show(done + n, count))  # type: ignore[misc]
            done += origins
            blocks = [Block(known, known, len(features)) for known in retrainings]
            fits = fit_blocks(
                recipe,
                features.to_numpy(),
                target.to_numpy(),
                blocks,
                lambda n, _, done=done: show(done + n, count),  # type: ignore[misc]
            )
            done += len(blocks)
            for number, (known, (fit, forecasts)) in enumerate(zip(retrainings, fits, strict=True)):
                made[number].append(
                    Refit(
                        version=number * len(recipes) + place,
                        model=model,
                        recipe=recipe.digest,
                        known=known,
                        fit=fit,
                        forecasts=np.concatenate([np.full(known, np.nan), forecasts]),
                        rolling=rolling.until(features.index[known]),
                    )
                )
    return made
