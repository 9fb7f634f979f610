"""The backtest itself: retraining days, fits, and one walk per policy."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.backtest._policies import POLICIES, policies_of, references_of
from fxhelpers.backtest._refits import make_refits, recipes_of
from fxhelpers.backtest._result import Backtest, summarize
from fxhelpers.backtest._walking import Setting, Walk, decisions_frame, periods_frame, walk_by_policy, walk_by_rule
from fxhelpers.display import progress_bar
from fxhelpers.errors import ParamsError, TooFewDaysError
from fxhelpers.params import Params, PromotionParams, parse_day
from fxhelpers.prices import SharePrices, keep_prices
from fxhelpers.training import supervised


def run_backtest(
    symbol: str,
    prices: SharePrices | pd.DataFrame,
    params: Params,
    *,
    models: Sequence[str] = (),
    policies: Sequence[str] = (),
    gates: Sequence[Mapping[str, Any]] = (),
    years: int = 5,
    every: int = 21,
    start: str = "",
    accept_doubts: bool = False,
) -> Backtest:
    """Walk through earlier years: retrain, apply each policy, and serve its champion until the next retraining.

    On each retraining day, after its close, every model's recipe is fitted on
    all days known then and offered to each policy, the first model first. Its
    evidence are its rolling-origin forecasts up to that day. What a policy
    decides takes effect for the next session. Nothing is stored.

    Parameters
    ----------
    symbol : str
        Ticker, for messages.
    prices : SharePrices, or DataFrame of shape (n_days, 5)
        As :func:`fxhelpers.prices.read_prices` or ``load_prices`` returns it.
    params : Params
        From ``load_params``: its sections ``training`` and ``promotion``.
    models : sequence of str, optional
        Keys of ``training.models``, the first champion's first; by default
        ``training.model`` alone. The others contest it from the beginning.
    policies : sequence of str, optional
        ``policy`` (that of ``params.yaml``), ``tried`` (the same with
        ``gates``), ``non_inferiority`` (the same, with a margin of 1 %), and
        what needs no policy: ``newest``, ``half`` (its forecasts times one
        half) and ``never`` (the first fit for ever). By default all but
        ``non_inferiority``; the first one is what others are compared with.
        With ``newest``, that of each further model is shown, too.
    gates : sequence of dict, optional
        Gates to try, as in ``params.yaml``, for the policy ``tried``.
    years : int
        How many years before the last day the first retraining is.
    every : int
        Trading days from one retraining to the next.
    start : str, optional
        Day of the first retraining, YYYY-MM-DD, instead of ``years``.
    accept_doubts : bool
        Let doubtful prices on the compared days pass.

    Returns
    -------
    Backtest

    Raises
    ------
    ParamsError
        An unknown model, policy or gate; a model that is not refitted on all
        days; ``years`` or ``every`` below 1; ``start`` is not a day.
    TooFewDaysError
        On the first retraining day, fewer rolling-origin forecasts are known
        than the policy requires to compare on.
    """
    begun = time.perf_counter()
    for name, number in {"years": years, "every": every}.items():
        if number < 1:
            msg = f"{name}: must be 1 or more, found {number}"
            raise ParamsError(msg)
    rules, notes = policies_of(params.promotion, policies, gates)
    recipes = recipes_of(params.training, list(models) or [params.training.model])
    features, target = supervised(keep_prices(prices).frame)
    first = _first(symbol, pd.DatetimeIndex(target.index), params, start, years)
    retrainings = list(range(first, len(target), every))
    made = make_refits(symbol, recipes, features, target, retrainings)
    doubts = {doubt.message: doubt.days for doubt in prices.doubts} if isinstance(prices, SharePrices) else {}
    setting = Setting(symbol=symbol, target=target, refits=made, doubts=doubts, accept_doubts=accept_doubts)
    references = references_of(list(rules), list(recipes))
    walks = [*_walk(setting, rules), *(walk_by_rule(setting, name, model) for name, model in references.items())]
    meanings = {name: POLICIES[name] for name in rules} | {
        name: f"the newest refit of {model}, without any test" for name, model in references.items()
    }
    served = pd.DataFrame({"target": target, **{walk.policy: walk.served for walk in walks}}).iloc[first:]
    decisions = decisions_frame(walks)
    return Backtest(
        symbol=symbol,
        models=tuple(recipes),
        meanings=meanings,
        retrainings=tuple(f"{target.index[known]:%Y-%m-%d}" for known in retrainings),
        every=every,
        served=served,
        decisions=decisions,
        periods=periods_frame(walks, setting),
        summary=summarize(served, decisions, {walk.policy: _days_served(walk, setting) for walk in walks}),
        notes=tuple(notes),
        seconds=time.perf_counter() - begun,
    )


def _walk(setting: Setting, rules: Mapping[str, PromotionParams | None]) -> list[Walk]:
    judged = sum(one is not None for one in rules.values())
    count, done = judged * sum(map(len, setting.refits)), 0
    with progress_bar(f"{setting.symbol}: decisions") as show:

        def note() -> None:
            nonlocal done
            done += 1
            show(done, count)

        return [
            walk_by_rule(setting, name) if policy is None else walk_by_policy(setting, name, policy, note)
            for name, policy in rules.items()
        ]


def _days_served(walk: Walk, setting: Setting) -> int:
    spans = [end - offered[0].known for offered, end in zip(setting.refits, setting.ends, strict=True)]
    return int(np.sum([span for span, champion in zip(spans, walk.champions, strict=True) if champion is not None]))


def _first(symbol: str, days: pd.DatetimeIndex, params: Params, start: str, years: int) -> int:
    """Return the position of the first retraining day, on which there is enough to compare on."""
    required = params.training.rolling.first_day + params.promotion.evaluation.min_days
    if len(days) <= required:
        msg = (
            f"{symbol}: {len(days)} days have all features and a next day; a backtest needs more than {required}: "
            f"{params.training.rolling.first_day} before the first rolling-origin forecast (training.rolling.first_day) and "
            f"{params.promotion.evaluation.min_days} to compare on (promotion.evaluation.min_days). Use more prices"
        )
        raise TooFewDaysError(msg)
    begin = pd.Timestamp(parse_day("start", start)) if start else days[-1] - pd.DateOffset(years=years)
    first = int(days.searchsorted(begin))
    if first >= len(days):
        msg = f"start: {start} is after {days[-1]:%Y-%m-%d}, the last day of {symbol} with a next day"
        raise ParamsError(msg)
    if first < required:
        which = f"start {start}" if start else f"{years} years before {days[-1]:%Y-%m-%d}"
        msg = (
            f"{symbol}: {which} is too early: the policy compares on at least {params.promotion.evaluation.min_days} "
            f"rolling-origin days (promotion.evaluation.min_days), which are known from {days[required]:%Y-%m-%d} on. Pass "
            f"-p start {days[required]:%Y-%m-%d}"
        )
        raise TooFewDaysError(msg)
    return first
