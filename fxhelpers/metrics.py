"""Measures of a forecast of daily returns; each first line says which direction is better.

All take ``y_true`` and ``y_pred``, next-day simple returns and forecasts of
them, or ``net``, daily returns of a strategy: Series of shape (n_days,), as
fractions. ``y_true`` and ``y_pred`` must be finite, not empty and on one index;
otherwise :class:`ValueError`. Errors are in the units of the returns. Mean
absolute percentage error is left out on purpose (see ``measures.REFUSED``).
"""

import math

import numpy as np
import pandas as pd
from scipy.stats import linregress, spearmanr

TRADING_DAYS = 252
"""Trading days per year."""


def rmse(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Root mean squared error; lower is better.

    >>> rmse(pd.Series([0.03, -0.04]), pd.Series([0.0, 0.0]))
    0.035355339059327376
    """
    return float(np.sqrt(np.mean(_errors(y_true, y_pred) ** 2)))


def mae(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Mean absolute error; lower is better."""
    return float(np.mean(np.abs(_errors(y_true, y_pred))))


def hit_rate(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Share of days on which the sign of the return was forecast; higher is better.

    Days on which the price does not change are left out; NaN if no day remains.

    >>> hit_rate(pd.Series([0.01, -0.02, 0.0, 0.01]), pd.Series([0.1, -0.1, 0.1, -0.1]))
    0.6666666666666666
    """
    _errors(y_true, y_pred)
    moved = y_true != 0
    return float(np.mean(np.sign(y_true[moved]) == np.sign(y_pred[moved]))) if moved.any() else math.nan


def r2(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Out-of-sample R² against the zero forecast, at most 1; higher is better.

    As in Campbell and Thompson (2008), doi:10.1093/rfs/hhm055, with the zero
    forecast as the benchmark. Below 0 if the zero forecast is better; NaN if
    every ``y_true`` is zero.
    """
    error, total = _errors(y_true, y_pred), float(np.sum(y_true**2))
    return 1 - float(np.sum(error**2)) / total if total else math.nan


def information_coefficient(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Spearman's rank correlation of forecasts and returns, by scipy; higher is better. NaN if either is constant."""
    _errors(y_true, y_pred)
    return math.nan if _constant(y_true) or _constant(y_pred) else float(spearmanr(y_true, y_pred).statistic)


def mincer_zarnowitz(y_true: pd.Series, y_pred: pd.Series) -> tuple[float, float]:
    """Slope and intercept of the regression of returns on forecasts, by scipy; a slope nearer to 1 is better.

    A slope of 1 and an intercept of 0 mean a calibrated forecast: Mincer and
    Zarnowitz (1969), in Economic Forecasts and Expectations, NBER. Both are
    NaN if the forecast is constant.

    >>> forecast = pd.Series([0.01, -0.01, 0.02])
    >>> slope, intercept = mincer_zarnowitz(forecast * 3, forecast)
    >>> round(slope, 9), abs(round(intercept, 9))
    (3.0, 0.0)
    """
    _errors(y_true, y_pred)
    if _constant(y_pred):
        return math.nan, math.nan
    line = linregress(y_pred, y_true)
    return float(line.slope), float(line.intercept)


def sign_strategy(y_true: pd.Series, y_pred: pd.Series, *, cost: float = 0.0) -> pd.DataFrame:
    """Daily result of the sign strategy: long if the forecast is positive, short if it is negative.

    ``cost`` of trading is a fraction of the value traded. Columns: ``position``
    (1, -1 or 0), ``traded`` (fraction of the capital bought or sold, at most 2)
    and ``net`` (return after costs, as a fraction).
    """
    _errors(y_true, y_pred)
    position = np.sign(y_pred)
    traded = position.diff().fillna(position.iloc[0]).abs()
    return pd.DataFrame({"position": position, "traded": traded, "net": position * y_true - cost * traded})


def annual_return(net: pd.Series) -> float:
    """Mean daily return times 252, without compounding; higher is better."""
    return float(net.mean() * TRADING_DAYS)


def sharpe(net: pd.Series) -> float:
    """Annualized Sharpe ratio: mean daily return / its standard deviation * sqrt(252); higher is better. NaN if constant."""
    deviation = float(net.std(ddof=1)) if len(net) > 1 else 0.0
    return float(net.mean()) / deviation * TRADING_DAYS**0.5 if deviation > 0 else math.nan


def drawdown(net: pd.Series) -> pd.Series:
    """Fraction by which the capital is below its highest value so far, by day; lower is better.

    The capital before the first day counts too.
    """
    capital = (1 + net).cumprod()
    return 1 - capital / capital.cummax().clip(lower=1.0)


def _constant(values: pd.Series) -> bool:
    return bool((values == values.iloc[0]).all())


def _errors(y_true: pd.Series, y_pred: pd.Series) -> pd.Series:
    if len(y_true) == 0:
        msg = "y_true: no days"
        raise ValueError(msg)
    if not y_true.index.equals(y_pred.index):
        msg = "y_true and y_pred: not on one index"
        raise ValueError(msg)
    for name, values in (("y_true", y_true), ("y_pred", y_pred)):
        if wrong := int((~np.isfinite(values)).sum()):
            msg = f"{name}: not finite on {wrong} of {len(values)} days"
            raise ValueError(msg)
    return y_true - y_pred
