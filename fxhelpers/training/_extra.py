"""Columns of the user's own among the features of a recipe: found by its folder, and joined by day."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers.errors import FeaturesError, ParamsError
from fxhelpers.features import TARGET, build_features
from fxhelpers.params import ModelParams, Params, TrainingParams, check_symbol, extra_folder, nearest, with_overrides
from fxhelpers.prices import COLUMNS, check_columns, columns_on, read_columns
from fxhelpers.recipes import Recipe

_FRAME = ("target", "forecast")  # columns that an evaluation adds


def read_extra(
    symbol: str, params: Params, model: str | Recipe = "", overrides: Mapping[str, Any] | None = None
) -> pd.DataFrame | None:
    """Read the columns of the user's own that a model's ``features.extra``, or a version's recipe, names.

    The file is ``SYMBOL.csv`` in that folder. It has a column Date, and others
    of numbers. The value of a day must be known at that day's close.

    Parameters
    ----------
    symbol : str
        Ticker.
    params : Params
        All of ``params.yaml``, as ``load_params()``.
    model : str or Recipe, optional
        A key of ``training.models``; by default ``training.model``. Or the
        ``recipe`` of a version, whose columns may be those of a model that
        ``params.yaml`` no longer has.
    overrides : dict, optional
        Settings that replace those of ``params.yaml``, as for ``train_model``;
        not for a recipe, which has its settings.

    Returns
    -------
    DataFrame of shape (n_days, n_columns), or None
        Columns in the order of their names, NaN for an empty cell; index:
        Date, increasing; of a recipe, only those that it takes. None if there
        are none of the user's own.

    Raises
    ------
    FeaturesError
        There is no such file, or it has something that is not a day, a number
        or a name of its own; the message names the line. Or it lacks a column
        of the recipe.
    ParamsError
        No such model, an unknown hyperparameter, or ``overrides`` of a recipe.
    """
    if isinstance(model, Recipe):
        if overrides:
            msg = f"overrides: the recipe {model.short} has its settings; leave {', '.join(overrides)} out"
            raise ParamsError(msg)
        return recipe_columns(model, symbol, params.folder)
    folder = chosen_model(params.training, model or params.training.model, overrides or {}).features.extra
    return _read(params.folder / folder, symbol) if folder else None


def recipe_columns(recipe: Recipe, symbol: str, base: Path) -> pd.DataFrame | None:
    """Read the columns of a recipe as they are now, from its folder below ``base``; None if it has none of the user's own.

    :class:`FeaturesError` if the file lacks one of them, or is refused.
    """
    if not recipe.extra:
        return None
    try:
        folder = extra_folder(recipe.extra["folder"])
    except ValueError as error:
        msg = f"the recipe {recipe.short} takes columns from {recipe.extra['folder']!r:.60}: {error}"
        raise FeaturesError(msg) from error
    found = _read(base / folder, symbol)
    missing = [name for name in recipe.extra["columns"] if name not in found]
    if missing:
        what, there = ", ".join(missing)[:100], ", ".join(map(str, found))[:100]
        msg = f"{base / folder / symbol}.csv: no column {what}, which the recipe {recipe.short} takes; there: {there}"
        raise FeaturesError(msg)
    columns: pd.DataFrame = found[recipe.extra["columns"]]
    return columns


def join_extra(features: pd.DataFrame, extra: pd.DataFrame | None, where: str = "extra") -> pd.DataFrame:
    """Return features with columns of the user's own, joined by day; NaN on days before these begin.

    :class:`FeaturesError` if a later day has no value.
    """
    if extra is None:
        return features
    values, _ = columns_on(extra, pd.DatetimeIndex(features.index), where)
    return pd.concat([features, values.reindex(features.index)], axis=1)


def checked_extra(settings: ModelParams, extra: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the columns of a model, checked; :class:`FeaturesError` if it takes none, or some that were not passed."""
    folder = settings.features.extra
    if (extra is None) == bool(folder):
        found = "was not passed" if extra is None else "was passed"
        msg = f"features.extra of the model is {folder!r}, and extra {found}: pass extra=read_extra(symbol, params, model)"
        raise FeaturesError(msg)
    return None if extra is None else check_columns(extra, taken_names())


def chosen_model(params: TrainingParams, chosen: str, overrides: Mapping[str, Any]) -> ModelParams:
    """Return the settings of a model; :class:`ParamsError` if there is none of that name."""
    if chosen not in params.models:
        msg = f"model: {chosen!r} is not defined{nearest(chosen, params.models)}; training.models has {', '.join(params.models)}"
        raise ParamsError(msg)
    return with_overrides(params.models[chosen], overrides)


@lru_cache(maxsize=1)
def taken_names() -> tuple[str, ...]:
    """Return the names that a column of the user's own cannot have: those of built-in features, and of the target."""
    none = pd.DataFrame(columns=COLUMNS, index=pd.DatetimeIndex([]), dtype=float)
    return (*build_features(none).columns, TARGET, *_FRAME)


def _read(folder: Path, symbol: str) -> pd.DataFrame:
    return read_columns(folder / f"{check_symbol(symbol)}.csv", taken_names())
