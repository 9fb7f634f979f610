"""Raw features of each day, as a version takes them, from prices: for a service, a forecast or a look at them."""

import numpy as np
import pandas as pd

from fxhelpers.errors import FeaturesError, ParamsError, PriceDataError, TooFewDaysError
from fxhelpers.features import LOOK_BACK_DAYS, SCHEMA_VERSION, SCHEMAS, build_features
from fxhelpers.prices import COLUMNS, SharePrices, check_columns, keep_prices
from fxhelpers.registry.pipelines import LoadedModel
from fxhelpers.training import join_extra, taken_names

_NAMED = 3


def features_for(
    prices: SharePrices | pd.DataFrame,
    model: LoadedModel | None = None,
    *,
    extra: pd.DataFrame | None = None,
    last: int | None = None,
) -> pd.DataFrame:
    """Compute the raw features of each day, the newest day included, as a version takes them.

    They are those of its training, to the last bit: by its schema, and from
    prices in single precision where it was trained on these. After a split or
    a dividend the same prices have another scale, and are rounded elsewhere:
    features then move by less than 1e-4 of their standard deviation.

    Parameters
    ----------
    prices : SharePrices, or DataFrame of shape (n_days, 5)
        As ``read_prices`` or ``load_prices`` returns it.
    model : LoadedModel, optional
        A version, as ``load_champion`` or ``Champions`` returns it: its
        features, in its order. By default all built-in features of today's
        schema, as ``train_model`` takes them.
    extra : DataFrame of shape (n_days, n_columns), optional
        Columns of the user's own, as ``read_extra(symbol, params,
        model.recipe)`` returns them; required if the version was trained with
        some. Each value must be known at the close of its day.
    last : int, optional
        Number of newest days to compute, if there are as many, in less time:
        the values are the same. By default all days.

    Returns
    -------
    DataFrame of shape (n_days, n_features)
        One row per day, the newest last; index: Date. Numbers without a unit;
        returns are fractions. Days that lack a feature are left out: the first
        199, and those before ``extra`` begins.

    Raises
    ------
    FeaturesError
        The version is foreign, or of a schema that is not known here; ``extra``
        is missing, is not what it takes, or lacks a day.
    TooFewDaysError
        Fewer than 200 days of prices.
    PriceDataError
        Prices of another symbol, or that no exchange printed.
    ParamsError
        ``last`` is not positive.

    See Also
    --------
    fxhelpers.features.build_features : The features and their sources.

    Examples
    --------
    >>> from fxhelpers import load_params, read_prices
    >>> prices = read_prices("AAPL", load_params().prices)
    >>> features_for(prices, last=1)[["return_1", "rsi_14"]].iloc[0].round(4).to_dict()
    {'return_1': -0.0248, 'rsi_14': 0.3334}
    """
    if last is not None and last < 1:
        msg = f"last: expected at least 1 day, found {last}"
        raise ParamsError(msg)
    schema = SCHEMA_VERSION if model is None else _schema(model)
    frame = _checked(prices, model, schema)
    if schema == SCHEMA_VERSION:  # a feature of schema 1 depends on all days before
        frame = frame if last is None else frame.iloc[-(last + LOOK_BACK_DAYS - 1) :]
        frame = keep_prices(frame).frame if _from_kept(model) else frame
    built = build_features(frame, schema).iloc[LOOK_BACK_DAYS - 1 :]
    built = built if last is None else built.iloc[-last:]
    found = join_extra(built, _columns(model, extra))
    return _known(found if model is None else found[model.facts["feature_names"]])


def _schema(model: LoadedModel) -> int:
    """Return the schema of a version's features; :class:`FeaturesError` if they are not computed here."""
    found = model.facts.get("feature_schema", {}).get("version")
    if found in SCHEMAS:
        return int(found)
    if found is None:
        why = "was not trained on features of fxhelpers; compute its own, and pass them to its forecast by name"
    else:
        why = f"was trained on features of schema {found}; this fxhelpers computes {' and '.join(map(str, SCHEMAS))}: upgrade it"
    msg = f"{model.who} {why}"
    raise FeaturesError(msg)


def _from_kept(model: LoadedModel | None) -> bool:
    """Whether features are computed from prices in single precision: versions of earlier releases, which keep none, are not."""
    return model is None or (model.probe is not None and bool(model.probe.prices))


def _checked(prices: SharePrices | pd.DataFrame, model: LoadedModel | None, schema: int) -> pd.DataFrame:
    """Return prices as a frame; refuse those of another symbol, in another order, too few, or that cannot be."""
    if isinstance(prices, SharePrices):
        prices.raise_refused()
        if model is not None and model.facts["symbol"] != prices.symbol:
            msg = f"{model.who} forecasts {model.facts['symbol']}, and these are prices of {prices.symbol}"
            raise PriceDataError(msg)
        frame = prices.for_schema(schema)
    elif schema == 1:
        msg = "features of schema 1 take another volume than a DataFrame of prices has: pass what read_prices returns"
        raise PriceDataError(msg)
    else:
        frame = prices
        _check_frame(frame)
    if len(frame) < LOOK_BACK_DAYS:
        msg = f"{len(frame)} days of prices, at least {LOOK_BACK_DAYS} are required: the longest feature looks back that far"
        raise TooFewDaysError(msg)
    return frame


def _check_frame(frame: pd.DataFrame) -> None:
    """Refuse a frame that is not of daily prices; what only a :class:`SharePrices` says is not checked."""
    missing, days, wrong = [name for name in COLUMNS if name not in frame], frame.index, ""
    if missing:
        wrong = f"no column {', '.join(missing)}"
    elif not (isinstance(days, pd.DatetimeIndex) and days.is_monotonic_increasing and days.is_unique):
        wrong = "its index is not of days, increasing and each once"
    elif any(kind.kind not in "iuf" for kind in frame[COLUMNS].dtypes):
        wrong = "a column does not hold numbers"
    else:
        values = frame[COLUMNS].to_numpy(dtype=float)
        bad = ~np.isfinite(values).all(axis=1) | (values[:, :4] <= 0).any(axis=1) | (values[:, 4] < 0)
        wrong = f"on {days[bad][0]:%Y-%m-%d} a price is not a number above zero, or the volume is negative" if bad.any() else ""
    if wrong:
        msg = f"prices: {wrong}; load_prices returns such a frame"
        raise PriceDataError(msg)


def _columns(model: LoadedModel | None, extra: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the columns of the user's own that a version takes; :class:`FeaturesError` if others were passed, or none."""
    if model is None:
        return None if extra is None else check_columns(extra, taken_names())
    names = list(model.recipe.extra.get("columns", ()))
    missing = names if extra is None else [name for name in names if name not in extra]
    if extra is not None and not names:
        msg = f"{model.who} takes no columns of your own, and extra was passed: leave it out"
        raise FeaturesError(msg)
    if missing:
        listed = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        folder = model.recipe.extra["folder"]
        msg = f"{model.who} needs columns from {folder}: {listed}; pass extra=read_extra(symbol, params, model.recipe)"
        raise FeaturesError(msg)
    return None if extra is None else check_columns(extra[names], taken_names())


def _known(features: pd.DataFrame) -> pd.DataFrame:
    """Leave out days before columns of the user's own begin; :class:`FeaturesError` if the newest day lacks a feature."""
    unknown = features.columns[features.iloc[-1].isna()]
    if len(unknown):
        msg = f"{', '.join(unknown[:_NAMED])} of {features.index[-1]:%Y-%m-%d} cannot be computed from these prices"
        raise FeaturesError(msg)
    return features[features.notna().all(axis=1)]
