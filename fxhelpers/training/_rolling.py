"""Rolling-origin forecasts: what a recipe would have forecast, each fit using only days before; made, kept and made again."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import joblib
import numpy as np
import pandas as pd

from fxhelpers.errors import PriceDataError, RollingForecastsError
from fxhelpers.estimators import dump_estimator, load_estimator
from fxhelpers.prices import as_days, day_bytes, pack, unpack
from fxhelpers.recipes import Recipe
from fxhelpers.training._fitting import MINIMUM_WINDOW, Fit, fit_recipe

Progress = Callable[[int, int], None]
"""Takes the number of fits done, and of all."""

_LARGEST, _FLOAT = 2**24, "<f8"
_SERIAL_SECONDS = 4.0  # of fits: starting other processes takes about as long
_GREATEST = 1e100  # whose square is still a number
_LEAST = 1e-3  # of the returns' standard deviation: forecasts that vary less are constant
_SAME = 1e-3  # of the forecasts' standard deviation
_KEPT_BYTES = 2**20  # of the last fit; one that is larger, as of a forest, is made again
_LAST_BITS, _TIMES = 1e-9, 3.0  # a relative change as by another processor's arithmetic, and the multiple of its effect to allow


class Origin(NamedTuple):
    """One fit of a recipe, and from which day on it forecasts."""

    day: str  # first day that it forecasts, YYYY-MM-DD
    setting: int  # the candidate chosen, by its place among the recipe's settings
    mean: float  # of the returns that it was fitted on, a fraction
    size: float  # RMS of its forecasts over that of the returns, on the last 63 days that it was fitted on


class Block(NamedTuple):
    """One fit, and the days that it forecasts; all are positions among the days."""

    known: int  # it is fitted on so many of the first days
    start: int  # first day that it forecasts
    end: int  # the day after the last one
    setting: int | None = None  # a choice among the recipe's candidates that was made before; None: chosen on the known days


class SavedFit(NamedTuple):
    """The fit of the last origin, as ``.skops`` files: it forecasts the days that follow."""

    scaler: bytes
    estimator: bytes

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """Save a fit."""
        return cls(dump_estimator(fit.scaler), dump_estimator(fit.estimator))

    def forecast(self, features: np.ndarray) -> np.ndarray:
        """Forecast the days of raw features, as fractions of return; :class:`BundleError` if it is not one of our models."""
        scaler, estimator = (load_estimator(part, "the last rolling-origin fit of the earlier training") for part in self)
        return np.asarray(estimator.predict(scaler.transform(features)), dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rolling:
    """Rolling-origin forecasts of a recipe."""

    forecasts: pd.Series  # by day, as fractions of return
    origins: tuple[Origin, ...]  # in order of time; the first one's day is that of the first forecast
    last: SavedFit | None = field(default=None, repr=False)  # the last origin's fit, unless it is large

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` returned; :class:`ValueError` if it is anything else, or was edited."""
        try:
            content = unpack(stored["kept"], _LARGEST)
            days, values = as_days(content, 1, _FLOAT)
            origins = tuple(Origin(str(day), int(n), float(mean), float(size)) for day, n, mean, size in stored["origins"])
            last = SavedFit(*map(base64.b64decode, stored["last"])) if "last" in stored else None
            digest = str(stored["sha256"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            msg = f"not rolling-origin forecasts: {type(error).__name__}: {error}"
            raise ValueError(msg) from error
        if digest != _digest(content, origins, last):
            msg = "the rolling-origin forecasts do not have the SHA-256 recorded with them: they were edited after the training"
            raise ValueError(msg)
        starts = pd.DatetimeIndex(pd.to_datetime([origin.day for origin in origins], format="%Y-%m-%d"))
        known = np.array([(origin.mean, origin.size) for origin in origins] or [(0.0, 0.0)])
        if not (np.abs(known) < _GREATEST).all() or any(origin.setting < 0 or origin.size < 0 for origin in origins):
            msg = "each origin of rolling-origin forecasts must have a finite mean, and a candidate and a size from zero on"
            raise ValueError(msg)
        ordered = all(index.is_monotonic_increasing and index.is_unique for index in (days, starts))
        if not (
            len(days)
            and ordered
            and (np.abs(values) < _GREATEST).all()
            and starts.isin(days).all()
            and starts[:1].equals(days[:1])
        ):
            msg = "rolling-origin forecasts must be one finite number for each of increasing days, from the first origin on"
            raise ValueError(msg)
        return cls(forecasts=pd.Series(values[:, 0], index=days), origins=origins, last=last)

    def to_json(self) -> dict[str, Any]:
        """Return the origins, the forecasts to the last bit, the last fit, and one SHA-256 over all, for a bundle."""
        content = day_bytes(self.forecasts.index, self.forecasts.to_numpy()[:, np.newaxis], _FLOAT)
        last = {"last": [base64.b64encode(part).decode() for part in self.last]} if self.last else {}
        origins, digest = [list(origin) for origin in self.origins], _digest(content, self.origins, self.last)
        return {"origins": origins, "kept": pack(content), **last, "sha256": digest}

    def until(self, day: pd.Timestamp) -> Self:
        """Return the forecasts of the days before one: those that a training on that day would have."""
        origins = (origin for origin in self.origins if origin.day < f"{day:%Y-%m-%d}")
        return type(self)(forecasts=self.forecasts[self.forecasts.index < day], origins=tuple(origins))

    @property
    def means(self) -> pd.Series:
        """The mean return that was known at each day's origin, by day: a forecast that needs no model."""
        starts = pd.to_datetime([origin.day for origin in self.origins])
        return pd.Series([origin.mean for origin in self.origins], starts).reindex(self.forecasts.index, method="ffill")


def _digest(content: bytes, origins: Iterable[Origin], last: SavedFit | None) -> str:
    fit = b"" if last is None else b"".join(hashlib.sha256(part).digest() for part in last)
    return hashlib.sha256(content + json.dumps([list(origin) for origin in origins]).encode() + fit).hexdigest()


def first_days(recipe: Recipe, count: int) -> list[int]:
    """Return the positions of the origins among so many days; :class:`PriceDataError` if there is none, or no days to fit on."""
    rule = recipe.facts["origins"]
    held = rule["first_day"] - recipe.gap
    if held < MINIMUM_WINDOW:  # below zero, a slice would reach the days after
        msg = (
            f"the first rolling-origin forecast would be made by a fit on {held} days, at least {MINIMUM_WINDOW} are required: "
            "raise training.rolling.first_day, or lower training.embargo_days"
        )
        raise PriceDataError(msg)
    if count <= rule["first_day"]:
        msg = (
            f"{count} days have all features and a next day, but the first rolling-origin forecast is made on day "
            f"{rule['first_day'] + 1}: use more prices, lower training.rolling.first_day, or set training.refit to false"
        )
        raise PriceDataError(msg)
    return list(range(rule["first_day"], count, rule["every_days"]))


def roll(
    recipe: Recipe, features: pd.DataFrame, target: pd.Series, *, taken: Rolling | None = None, progress: Progress | None = None
) -> tuple[Rolling, int]:
    """Forecast every day from the first origin on, and return also the number of origins that were fitted.

    ``taken`` are earlier forecasts of the same recipe on the same prices: they
    stay. Days that its last fit has yet to forecast are forecast by the saved
    one; one too large to be saved is made once more, with the candidate that
    it had chosen.
    """
    starts = first_days(recipe, len(features))
    if taken is not None and not taken.forecasts.index.equals(features.index[starts[0] : starts[0] + len(taken.forecasts)]):
        taken = None  # other days than these would be
    values, days = features.to_numpy(), features.index
    forecasts = np.full(len(features) - starts[0], np.nan)
    origins: dict[int, Origin] = {}
    have, last = starts[0], None
    if taken is not None:
        forecasts[: len(taken.forecasts)] = taken.forecasts
        origins, have, last = dict(enumerate(taken.origins)), starts[0] + len(taken.forecasts), taken.last
    ends = [*starts[1:], len(features)]
    if last is not None and (end := ends[len(origins) - 1]) > have:
        forecasts[have - starts[0] : end - starts[0]] = last.forecast(values[have:end])
        have = end
    todo = [number for number, end in enumerate(ends) if end > have]
    settings = {n: origin.setting for n, origin in origins.items()}
    blocks = [Block(starts[n] - recipe.gap, starts[n], ends[n], settings.get(n)) for n in todo]
    fits = fit_blocks(recipe, values, target.to_numpy(), blocks, progress)
    for number, (_, start, end, _), (fit, forecast) in zip(todo, blocks, fits, strict=True):
        origins.setdefault(number, Origin(f"{days[start]:%Y-%m-%d}", fit.setting, fit.mean, fit.size))
        new = max(start, have)
        forecasts[new - starts[0] : end - starts[0]] = forecast[new - start :]
    if fits:
        saved = SavedFit.of(fits[-1][0])
        last = saved if sum(map(len, saved)) <= _KEPT_BYTES else None
    by_day = pd.Series(forecasts, days[starts[0] :])
    return Rolling(forecasts=by_day, origins=tuple(origins[n] for n in range(len(starts))), last=last), len(todo)


def _block(recipe: Recipe, features: np.ndarray, target: np.ndarray, block: Block) -> tuple[Fit, np.ndarray]:
    fit = fit_recipe(recipe, features[: block.known], target[: block.known], block.setting)
    return fit, fit.forecast(features[block.start : block.end])


def fit_blocks(
    recipe: Recipe, features: np.ndarray, target: np.ndarray, blocks: list[Block], progress: Progress | None = None
) -> list[tuple[Fit, np.ndarray]]:
    """Return each block's fit and forecasts, made on all cores if that takes long; the last one, which takes longest, tells."""
    results: list[tuple[Fit, np.ndarray]] = []
    note = progress or (lambda _done, _total: None)
    if not blocks:
        return results
    *others, last = blocks
    begun = time.perf_counter()
    final = _block(recipe, features, target, last)
    note(1, len(blocks))
    jobs = joblib.cpu_count() if len(others) * (time.perf_counter() - begun) / 2 > _SERIAL_SECONDS else 1
    made = joblib.Parallel(jobs, return_as="generator")(joblib.delayed(_block)(recipe, features, target, one) for one in others)
    for result in made:
        results.append(result)
        note(len(results) + 1, len(blocks))
    return [*results, final]


def check_rolling(
    recipe: Recipe,
    features: pd.DataFrame,
    target: pd.Series,
    rolling: Rolling,
    *,
    seed: str,
    count: int,
    who: str,
    seconds: float = 0.0,
) -> list[str]:
    """Make the forecasts of some origins again, and return their days; ``seed`` chooses them.

    At least ``count`` of them, and more as long as fits take less than so many ``seconds`` in all.

    A fit whose forecasts another processor's arithmetic would change is made
    once more on features that are changed in their last digits: what that
    moves is allowed.

    Raises
    ------
    RollingForecastsError
        The forecasts are not those of the recipe on these days: they were
        edited, fitted on days that they forecast, or their candidates chosen
        by later days.
    """
    starts = first_days(recipe, len(features))
    days = features.index[starts[0] :]
    recorded = [f"{features.index[start]:%Y-%m-%d}" for start in starts]
    if not rolling.forecasts.index.equals(days) or recorded != [origin.day for origin in rolling.origins]:
        msg = (
            f"{who}: its rolling-origin forecasts are of {len(rolling.forecasts)} days with {len(rolling.origins)} origins, its "
            f"recipe's on its own prices of {len(days)} days with {len(starts)}; they are not of this training: train again"
        )
        raise RollingForecastsError(msg)
    chosen = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:16], 16))
    begun = time.perf_counter()
    made: list[str] = []
    ends, values = [*starts[1:], len(features)], (features.to_numpy(), target.to_numpy())
    for number in map(int, chosen.permutation(len(starts))):
        if len(made) >= count and time.perf_counter() - begun > seconds:
            break
        made.append(recorded[number])
        origin, block = rolling.origins[number], Block(starts[number] - recipe.gap, starts[number], ends[number])
        stored = rolling.forecasts.to_numpy()[block.start - starts[0] : block.end - starts[0]]
        fit, again = _block(recipe, *values, block)
        spread = _spread(values[1], fit.forecast(values[0][: block.known]), rolling.forecasts.to_numpy())
        off = _distance(again, stored, spread)
        facts_off = max(abs(fit.mean - origin.mean) / spread, abs(fit.size - origin.size))
        if fit.setting == origin.setting and max(off, facts_off) <= _SAME:
            continue
        nudged, moved = _block(recipe, *_nudged(*values), block)
        allowed = _TIMES * max(_distance(moved, again, spread), abs(nudged.size - fit.size))
        if max(off, facts_off) > max(_SAME, allowed) or (fit.setting != origin.setting and nudged.setting == fit.setting):
            raise RollingForecastsError(_refusal(who, recipe, origin, fit, off))
    return sorted(made)


def check_fit(recipe: Recipe, features: pd.DataFrame, target: pd.Series, forecasts: pd.Series, size: float, *, who: str) -> None:
    """Repeat the fit of what serves: its stored ``forecasts`` of some days, and their ``size``, must come out again.

    :class:`RollingForecastsError` if they do not, even with another
    processor's arithmetic.
    """
    days, values = features.loc[forecasts.index].to_numpy(), (features.to_numpy(), target.to_numpy())
    fit = fit_recipe(recipe, *values)
    again = fit.forecast(days)
    spread = _spread(values[1], again, forecasts.to_numpy())
    off = max(_distance(again, forecasts.to_numpy(), spread), abs(fit.size - size))
    if off <= _SAME:
        return
    nudged = fit_recipe(recipe, *_nudged(*values))
    if off > _TIMES * max(_distance(nudged.forecast(days), again, spread), abs(nudged.size - fit.size)):
        msg = (
            f"{who}: it is not what its recipe fits on its prices: its forecasts differ by {off:.2g} standard deviations. It was "
            "fitted otherwise than its metadata say; train again: fx run train"
        )
        raise RollingForecastsError(msg)


def _spread(target: np.ndarray, *forecasts: np.ndarray) -> float:
    """Return the least of their standard deviations: one wild forecast on a day that nobody compares must not hide others."""
    return max(min(float(one.std()) for one in forecasts), _LEAST * float(target.std()))


def _distance(one: np.ndarray, other: np.ndarray, spread: float) -> float:
    """Return the RMS of a difference in standard deviations of forecasts."""
    return float(np.sqrt(np.mean((one - other) ** 2))) / spread


def _nudged(features: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0)
    return features * (1 + _LAST_BITS * noise.standard_normal(features.shape)), target


def _refusal(who: str, recipe: Recipe, origin: Origin, fit: Fit, off: float) -> str:
    what = f"differ by {off:.2g} standard deviations"
    if fit.setting != origin.setting:
        stored = recipe.settings[origin.setting] if 0 <= origin.setting < len(recipe.settings) else origin.setting
        differing = {k: v for k, v in recipe.settings[fit.setting].items() if not isinstance(stored, dict) or stored.get(k) != v}
        what = f"{what}, and its candidate is not the one with the least error on the days before (which is {differing})"
    return (
        f"{who}: the forecasts from {origin.day} on are not what its recipe forecasts from the days before: they {what}. They "
        "were edited, fitted on days that they forecast, or chosen by later ones. Move the bundle away: a training would take "
        "them over; then fx run train"
    )
