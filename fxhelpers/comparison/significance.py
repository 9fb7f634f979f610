"""Tests of whether the difference between two forecasts could be luck.

All of them are one-sided: a small p says that the forecast is better than its
rival. They come from arch and statsmodels, which fail open where forecasts
are identical or not finite; so each is guarded, and says why where it was not
made. Seeds are fixed: the same days give the same p.
"""

import sys
from dataclasses import replace

import pandas as pd

from fxhelpers.comparison.answers import MINIMUM_DAYS, RESAMPLES, SEED, Answer, Question
from fxhelpers.comparison.bootstrap import block_length, diebold_mariano_p, untestable


def diebold_mariano(target: pd.Series, rival: pd.Series, forecast: pd.Series, question: Question) -> Answer:
    """Test equal squared errors: Diebold and Mariano's test with the correction of Harvey, Leybourne and Newbold."""
    answer = Answer(question=question, forecast=str(forecast.name))
    why = untestable((target - rival) ** 2 - (target - forecast) ** 2)
    if why:
        return replace(answer, why=why)
    statistic, p = diebold_mariano_p(target, rival, forecast)
    return replace(answer, p=p, p_alone=p, statistic=statistic)


def pesaran_timmermann(target: pd.Series, forecast: pd.Series, question: Question) -> Answer:
    """Test whether the signs of forecasts and returns go together, by statsmodels."""
    answer = Answer(question=question, forecast=str(forecast.name))
    for who, values in (("the forecast", forecast), ("the return", target)):
        if (values > 0).all() or not (values > 0).any():
            return replace(answer, why=f"{who} has the same sign on every day")
    if len(target) < MINIMUM_DAYS:
        return replace(answer, why=f"{len(target)} days, a test needs at least {MINIMUM_DAYS}")
    from statsmodels.stats.diagnostic import pesaran_timmermann as tested

    found = tested(target, forecast, "larger")
    p = max(float(found.pvalue), sys.float_info.min)
    return replace(answer, p=p, p_alone=p, statistic=float(found.statistic))


def for_family(answer: Answer, family: int) -> Answer:
    """Return an answer about the best of several challengers: by Bonferroni, p times their number."""
    return replace(answer, p=min(1.0, answer.p * family) if not answer.why else answer.p, family=family)


def confidence_set(losses: pd.DataFrame, question: Question) -> list[str]:
    """Return the forecasts that may be the best: Hansen, Lunde and Nason's model confidence set, from arch.

    Forecasts that make the same errors are in it together, or not at all; it
    is empty where nothing can be tested.
    """
    from arch.bootstrap import MCS

    twins = {name: next(first for first in losses if losses[first].equals(losses[name])) for name in losses}
    distinct = losses[list(dict.fromkeys(twins.values()))]
    pairs = [distinct[a] - distinct[b] for a in distinct for b in distinct if str(a) < str(b)]
    if not pairs or any(untestable(pair) for pair in pairs):
        return []
    first = distinct.columns[0]
    block = block_length(distinct.drop(columns=first).rsub(distinct[first], axis=0))
    found = MCS(distinct, size=0.05, block_size=block, reps=min(question.resamples, RESAMPLES), seed=SEED)
    found.compute()
    included = set(found.included)
    return [str(name) for name in losses if twins[name] in included]
