"""From versions in the registry to one evaluation frame: same days, and only days that none of them has seen."""

from typing import Any

import pandas as pd

from fxhelpers.comparison import MEAN, TARGET, ZERO, EvaluationFrame, column
from fxhelpers.errors import NotComparableError
from fxhelpers.evaluation import forecast_days
from fxhelpers.features import HORIZON_DAYS, SCHEMA_VERSION, build_features, next_day_return
from fxhelpers.registry import RegisteredModel, RegistryClient, load_version


def evaluation_frame(
    registry: RegistryClient, name: str, symbol: str, prices: pd.DataFrame, *, challenger: int, champion: int | None
) -> EvaluationFrame:
    """Load the versions, let each forecast from its own features, and keep the common days that none has seen.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    name : str
        Registered model.
    symbol : str
        Ticker.
    prices : DataFrame of shape (n_days, 5)
        As :func:`fxhelpers.prices.load_prices` returns it.
    challenger : int
        Version that wants to be champion.
    champion : int or None
        Version in Production, where there is another one.

    Returns
    -------
    EvaluationFrame
        Its first day lies more than the forecast's horizon and the embargo
        after the last day that any of the versions was trained or chosen on.

    Raises
    ------
    NotComparableError
        A version does not say what it was trained on, forecasts something
        else, or saw all the days that there are prices for.
    """
    models = {version: load_version(registry, name, version) for version in (challenger, champion) if version is not None}
    for model in models.values():
        _check(model, symbol)
    features, target = build_features(prices), next_day_return(prices)
    forecasts = {v: forecast_days(m.pipeline, m.facts["feature_names"], features, target) for v, m in models.items()}
    common = pd.concat({column(v): f["forecast"] for v, f in forecasts.items()}, axis=1, join="inner")
    common.insert(0, TARGET, forecasts[challenger]["target"])
    common.insert(1, ZERO, 0.0)
    common.insert(2, MEAN, float(models[challenger].facts["target"]["training_mean"]))
    seen = {version: _last_seen(model.facts) for version, model in models.items()}
    latest = max(seen.values())
    embargo = max(int(model.facts["embargo_days"]) for model in models.values())
    first = int(common.index.searchsorted(latest, side="right")) + HORIZON_DAYS + embargo
    if first >= len(common):
        who = ", ".join(f"version {version} up to {day:%Y-%m-%d}" for version, day in seen.items())
        msg = (
            f"{symbol}: no day is left to compare on: the prices end on {prices.index[-1]:%Y-%m-%d}, and seen were "
            f"{who}; wait for newer prices, or train with more test days"
        )
        raise NotComparableError(msg)
    facts = {version: model.facts for version, model in models.items()}
    return EvaluationFrame(symbol=symbol, challenger=challenger, champion=champion, days=common.iloc[first:], facts=facts)


def _check(model: RegisteredModel, symbol: str) -> None:
    facts, version = model.facts, model.version
    who = f"version {version.version} of {version.name}"
    missing = [key for key in ("feature_schema", "target", "windows", "embargo_days") if key not in facts]
    if missing:
        msg = (
            f"{who} cannot be compared: it does not say its {', '.join(missing)}, so no day is known that it was not trained on. "
            "Versions of such a bundle can be served, and transition_stage can move one to Production, or out of it, by hand."
        )
        raise NotComparableError(msg)
    if facts["symbol"] != symbol:
        msg = f"{who} forecasts {facts['symbol']}, not {symbol}"
        raise NotComparableError(msg)
    if facts["feature_schema"]["version"] != SCHEMA_VERSION:
        msg = f"{who} was trained on features of schema {facts['feature_schema']['version']}, computed here are {SCHEMA_VERSION}"
        raise NotComparableError(msg)
    if (facts["target"]["horizon_days"], facts["target"]["units"]) != (HORIZON_DAYS, "fraction"):
        msg = f"{who} forecasts {facts['target']}, here are next-day returns as fractions"
        raise NotComparableError(msg)


def _last_seen(facts: dict[str, Any]) -> pd.Timestamp:
    """Return the last day whose features the model was fitted or chosen with."""
    return max(pd.Timestamp(facts["windows"][window]["last_day"]) for window in ("training", "validation"))
