"""Measures, tests, regimes and drift of an evaluation frame."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import chi2

from fxhelpers import metrics
from fxhelpers.comparison._comparison import Comparison
from fxhelpers.comparison._frame import MEAN, TARGET, ZERO, EvaluationFrame
from fxhelpers.comparison._tests import (
    TestSpec,
    bootstrap_test,
    confidence_set,
    diebold_mariano,
    pesaran_timmermann,
    squared_errors,
)
from fxhelpers.errors import NotComparableError
from fxhelpers.measures import MEASURES

STANDARD = (
    TestSpec(test="stationary_bootstrap", versus="champion"),
    TestSpec(test="stationary_bootstrap", versus="zero_return"),
    TestSpec(test="stationary_bootstrap", versus="mean_training_return"),
    TestSpec(test="diebold_mariano", versus="champion"),
    TestSpec(test="diebold_mariano", versus="zero_return"),
    TestSpec(test="pesaran_timmermann"),
)
"""Tests of every comparison; those against a champion only if there is one."""

_REGIMES = ("calm", "middle", "wild")
_VOLATILITY_DAYS = 20
_MIN_REGIME_DAYS = 20
_BINS = 10
_DRIFT_LEVEL = 0.95


def compare(frame: EvaluationFrame, required_tests: Iterable[TestSpec] = STANDARD, *, cost: float = 0.0) -> Comparison:
    """Measure and test the forecasts of a frame; ``cost`` of trading is a fraction of the value traded.

    Tests against a champion are made only if there is one.
    :class:`NotComparableError` without days, or if a value is not finite.
    """
    measures = measure(frame, cost=cost)
    days, names, specs = frame.days, frame.challengers, list(required_tests)
    target, champion = days[TARGET], frame.rival("champion")
    first, rest = [], []
    for spec in specs:
        rival = frame.rival(spec.versus)
        if spec.test == "pesaran_timmermann":
            first.append(pesaran_timmermann(target, days[names[0]], spec, len(names)))
        elif rival is None:
            continue
        elif spec.test == "diebold_mariano":
            first.append(diebold_mariano(target, days[rival], days[names[0]], spec, len(names)))
        else:
            head, *others = bootstrap_test(target, days[rival], days[names], spec)
            first.append(head)
            rest += others
    best: list[str] = []
    if len(names) > 1:
        versions = [name for name in (*names, champion) if name]
        best = confidence_set(squared_errors(target, days[versions]), specs[0] if specs else STANDARD[0])
    return Comparison(frame=frame, measures=measures, test_results=(*first, *rest), regimes=_regimes(frame), best=best, cost=cost)


def measure(frame: EvaluationFrame, *, cost: float = 0.0) -> pd.DataFrame:
    """Compute every measure of a frame; parameters and errors are those of :func:`compare`.

    One row per forecast, one column per measure; NaN if a measure does not
    exist, such as the hit rate of the zero forecast.
    """
    target = frame.days[TARGET]
    rows: dict[str, dict[str, float]] = {}
    for name in frame.days.columns.drop(TARGET):
        try:
            rows[name] = _measured(target, frame.days[name], cost)
        except ValueError as error:
            msg = f"{name} of {frame.symbol}: {error}"
            raise NotComparableError(msg) from error
    table = pd.DataFrame.from_dict(rows, orient="index")
    for key, baseline in (("rmse_to_zero", ZERO), ("rmse_to_mean", MEAN)):
        rival = float(table["rmse"].get(baseline, 0.0))
        table[key] = table["rmse"] / rival if rival else math.nan
    return table[[key for key, known in MEASURES.items() if not known.of_files]]


def _measured(target: pd.Series, forecast: pd.Series, cost: float) -> dict[str, float]:
    common = {"rmse": metrics.rmse(target, forecast), "mae": metrics.mae(target, forecast), "r2": metrics.r2(target, forecast)}
    if not forecast.any():
        return common | {key: math.nan for key, known in MEASURES.items() if not known.of_zero and not known.of_files}
    days = metrics.sign_strategy(target, forecast, cost=cost)
    up, down = target > 0, target < 0
    return common | {
        "hit_rate": metrics.hit_rate(target, forecast),
        "hit_rate_up": metrics.hit_rate(target[up], forecast[up]) if up.any() else math.nan,
        "hit_rate_down": metrics.hit_rate(target[down], forecast[down]) if down.any() else math.nan,
        "information_coefficient": metrics.information_coefficient(target, forecast),
        "mincer_zarnowitz_slope": metrics.mincer_zarnowitz(target, forecast)[0],
        "strategy_return": metrics.annual_return(days["net"]),
        "sharpe": metrics.sharpe(days["net"]),
        "max_drawdown": float(metrics.drawdown(days["net"]).max()),
        "turnover": float(days["traded"].mean()),
    }


def _regimes(frame: EvaluationFrame) -> pd.DataFrame:
    """Return the RMSE of each third of the days, by the standard deviation of the 20 returns known on each day."""
    known = frame.days[TARGET].shift(1).rolling(_VOLATILITY_DAYS).std().dropna()
    if len(known) < len(_REGIMES) * _MIN_REGIME_DAYS:
        return pd.DataFrame()
    third = pd.qcut(known.rank(method="first"), len(_REGIMES), labels=list(_REGIMES))
    groups = squared_errors(frame.days[TARGET], frame.days.drop(columns=TARGET)).loc[known.index].groupby(third, observed=True)
    table = groups.mean() ** 0.5
    table.insert(0, "days", groups.size().astype(float))
    return table.set_axis(list(_REGIMES), axis=0)


def population_stability(training: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """Measure the drift of each feature by the population stability index; lower is better.

    The bins are deciles of the training days. Without drift the index is
    about chi-squared with bins - 1 degrees of freedom, times (1/n + 1/m); see
    Yurdakul and Naranjo (2020), doi:10.21314/JRMV.2020.227. As days depend on
    each other, both numbers of days are reduced by the feature's
    autocorrelation.

    Both tables hold raw features. One row per feature: ``psi`` and the
    ``threshold`` that 5 % of features exceed without drift; the largest ratio
    first. Empty without training days.
    """
    rows = {name: _drift(training[name].to_numpy(), now[name].to_numpy()) for name in training} if len(training) else {}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["psi", "threshold"]).astype(float)
    return table.loc[(table["psi"] / table["threshold"]).sort_values(ascending=False, kind="stable").index]


def _drift(training: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    edges = np.unique(np.quantile(training, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = len(edges) + 1
    before, after = (
        (np.bincount(np.searchsorted(edges, values), minlength=bins) + 0.5) / (len(values) + 0.5 * bins)
        for values in (training, now)
    )
    psi = float(np.sum((after - before) * np.log(after / before)))
    spread = 1 / _effective_days(training) + 1 / _effective_days(now)
    return psi, float(chi2.ppf(_DRIFT_LEVEL, max(1, bins - 1)) * spread)


def _effective_days(values: np.ndarray) -> float:
    """Return the effective number of independent days: n (1 - r) / (1 + r), r being the lag-1 autocorrelation."""
    centred = values - values.mean()
    total = float(centred @ centred)
    r = float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0
    return len(values) * (1 - min(0.999, max(0.0, r))) / (1 + max(0.0, r))
