"""From an evaluation frame to a comparison: measures and tests."""

import math
import sys
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from fxhelpers import metrics
from fxhelpers.comparison._comparison import Comparison
from fxhelpers.comparison._frame import MEAN, TARGET, ZERO, EvaluationFrame
from fxhelpers.comparison._tests import (
    MINIMUM_DAYS,
    RESAMPLES,
    SEED,
    TestResult,
    TestSpec,
    block_length,
    bootstrap_test,
    diebold_mariano_p,
    squared_errors,
    untestable,
)
from fxhelpers.errors import NotComparableError
from fxhelpers.measures import MEASURES


def diebold_mariano(target: pd.Series, rival: pd.Series, forecast: pd.Series, spec: TestSpec) -> TestResult:
    """Test equal squared errors: Diebold and Mariano's test with the correction of Harvey, Leybourne and Newbold."""
    test_result = TestResult(spec=spec, forecast=str(forecast.name))
    why = untestable((target - rival) ** 2 - (target - forecast) ** 2)
    if why:
        return replace(test_result, why=why)
    statistic, p = diebold_mariano_p(target, rival, forecast)
    return replace(test_result, p=p, p_alone=p, statistic=statistic)


def pesaran_timmermann(target: pd.Series, forecast: pd.Series, spec: TestSpec) -> TestResult:
    """Test whether the signs of forecasts and returns go together, by statsmodels."""
    test_result = TestResult(spec=spec, forecast=str(forecast.name))
    for who, values in (("the forecast", forecast), ("the return", target)):
        if (values > 0).all() or not (values > 0).any():
            return replace(test_result, why=f"{who} has the same sign on every day")
    if len(target) < MINIMUM_DAYS:
        return replace(test_result, why=f"{len(target)} days, a test needs at least {MINIMUM_DAYS}")
    from statsmodels.stats.diagnostic import pesaran_timmermann as tested

    found = tested(target, forecast, "larger")
    p = max(float(found.pvalue), sys.float_info.min)
    return replace(test_result, p=p, p_alone=p, statistic=float(found.statistic))


def for_family(test_result: TestResult, family: int) -> TestResult:
    """Return an answer about the best of several challengers: by Bonferroni, p times their number."""
    return replace(test_result, p=min(1.0, test_result.p * family) if not test_result.why else test_result.p, family=family)


def confidence_set(losses: pd.DataFrame, spec: TestSpec) -> list[str]:
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
    found = MCS(distinct, size=0.05, block_size=block, reps=min(spec.resamples, RESAMPLES), seed=SEED)
    found.compute()
    included = set(found.included)
    return [str(name) for name in losses if twins[name] in included]


STANDARD = (
    TestSpec(test="stationary_bootstrap", versus="champion"),
    TestSpec(test="stationary_bootstrap", versus="zero_return"),
    TestSpec(test="stationary_bootstrap", versus="mean_training_return"),
    TestSpec(test="diebold_mariano", versus="champion"),
    TestSpec(test="diebold_mariano", versus="zero_return"),
    TestSpec(test="pesaran_timmermann"),
)
"""Tests that are made in every comparison; those against a champion where there is one."""

_REGIMES = ("calm", "middle", "wild")
_VOLATILITY_DAYS = 20
_LEAST_IN_A_REGIME = 20


def compare(frame: EvaluationFrame, required_tests: Iterable[TestSpec] = STANDARD, *, cost: float = 0.0) -> Comparison:
    """Measure and test the forecasts of a frame.

    Parameters
    ----------
    frame : EvaluationFrame
        At least one day, all values finite.
    questions : iterable of Question
        The tests to make. Against a champion only where there is one.
    cost : float
        Of trading, as a fraction of the value traded.

    Returns
    -------
    Comparison

    Raises
    ------
    NotComparableError
        No days, or a value that is not finite: the message names the forecast.
    """
    measures = measure(frame, cost=cost)
    days, names = frame.days, frame.challengers
    target, champion = days[TARGET], frame.rival("champion")
    asked = list(required_tests)
    first, rest = [], []
    for spec in asked:
        rival = frame.rival(spec.versus)
        if spec.test == "pesaran_timmermann":
            first.append(for_family(pesaran_timmermann(target, days[names[0]], spec), len(names)))
        elif rival is None:
            continue
        elif spec.test == "diebold_mariano":
            first.append(for_family(diebold_mariano(target, days[rival], days[names[0]], spec), len(names)))
        else:
            head, *tail = bootstrap_test(target, days[rival], days[names], spec)
            first.append(head)
            rest += tail
    best: list[str] = []
    if len(names) > 1:
        versions = [name for name in (*names, champion) if name]
        best = confidence_set(squared_errors(target, days[versions]), asked[0] if asked else STANDARD[0])
    return Comparison(frame=frame, measures=measures, test_results=(*first, *rest), regimes=_regimes(frame), best=best, cost=cost)


def measure(frame: EvaluationFrame, *, cost: float = 0.0) -> pd.DataFrame:
    """Compute every measure of every forecast of a frame.

    Parameters
    ----------
    frame : EvaluationFrame
        At least one day, all values finite.
    cost : float
        Of trading, as a fraction of the value traded.

    Returns
    -------
    DataFrame
        One row a forecast, one column a measure; NaN where there is none, as
        the hit rate of forecasting zero.

    Raises
    ------
    NotComparableError
        No days, or a value that is not finite: the message names the forecast.
    """
    target = frame.days[TARGET]
    rows: dict[str, dict[str, float]] = {}
    for name in frame.days.columns.drop(TARGET):
        try:
            rows[name] = _measured(target, frame.days[name], cost)
        except ValueError as wrong:
            msg = f"{name} of {frame.symbol}: {wrong}"
            raise NotComparableError(msg) from wrong
    table = pd.DataFrame.from_dict(rows, orient="index")
    for key, baseline in (("rmse_to_zero", ZERO), ("rmse_to_mean", MEAN)):
        error = float(table["rmse"].get(baseline, 0.0))
        table[key] = table["rmse"] / error if error else math.nan
    return table[[key for key, known in MEASURES.items() if not known.of_files]]


def _measured(target: pd.Series, forecast: pd.Series, cost: float) -> dict[str, float]:
    common = {"rmse": metrics.rmse(target, forecast), "mae": metrics.mae(target, forecast), "r2": metrics.r2(target, forecast)}
    others = [key for key, known in MEASURES.items() if not known.of_zero and not known.of_files]
    if not forecast.any():
        return common | dict.fromkeys(others, math.nan)
    days = metrics.sign_strategy(target, forecast, cost=cost)
    rises, falls = target > 0, target < 0
    return common | {
        "hit_rate": metrics.hit_rate(target, forecast),
        "hit_rate_up": metrics.hit_rate(target[rises], forecast[rises]) if rises.any() else math.nan,
        "hit_rate_down": metrics.hit_rate(target[falls], forecast[falls]) if falls.any() else math.nan,
        "information_coefficient": metrics.information_coefficient(target, forecast),
        "mincer_zarnowitz_slope": metrics.mincer_zarnowitz(target, forecast)[0],
        "strategy_return": metrics.annual_return(days["net"]),
        "sharpe": metrics.sharpe(days["net"]),
        "max_drawdown": float(metrics.drawdown(days["net"]).max()),
        "turnover": float(days["traded"].mean()),
    }


def _regimes(frame: EvaluationFrame) -> pd.DataFrame:
    """Return the RMSE of the calm, middle and wild third of the days, by the deviation of the 20 returns known on each."""
    known = frame.days[TARGET].shift(1).rolling(_VOLATILITY_DAYS).std().dropna()
    if len(known) < len(_REGIMES) * _LEAST_IN_A_REGIME:
        return pd.DataFrame()
    third = pd.qcut(known.rank(method="first"), len(_REGIMES), labels=list(_REGIMES))
    squared = squared_errors(frame.days[TARGET], frame.days.drop(columns=TARGET)).loc[known.index]
    groups = squared.groupby(third, observed=True)
    table = groups.mean() ** 0.5
    table.insert(0, "days", groups.size().astype(float))
    return table.set_axis(list(_REGIMES), axis=0)
