"""Measures of a forecast of daily returns.

Each says in its first line which direction is better. Mean absolute
percentage error is not here on purpose: returns are often almost zero, and
dividing by them gives numbers such as 1.8e13.
"""

import numpy as np
import pandas as pd


def rmse(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Root of the mean squared error; lower is better.

    Parameters
    ----------
    y_true, y_pred : Series of shape (n_days,)
        Next-day simple returns, as fractions, on one index.

    Returns
    -------
    float
        In the units of the returns.

    Raises
    ------
    ValueError
        Empty, not on one index, or not finite.

    Examples
    --------
    >>> rmse(pd.Series([0.03, -0.04]), pd.Series([0.0, 0.0]))
    0.035355339059327376
    """
    error = _errors(y_true, y_pred)
    return float(np.sqrt(np.mean(error**2)))


def mae(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Mean absolute error; lower is better.

    Parameters
    ----------
    y_true, y_pred : Series of shape (n_days,)
        Next-day simple returns, as fractions, on one index.

    Returns
    -------
    float
        In the units of the returns.

    Raises
    ------
    ValueError
        Empty, not on one index, or not finite.
    """
    return float(np.mean(np.abs(_errors(y_true, y_pred))))


def hit_rate(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Share of days on which the sign of the return was forecast; higher is better.

    Parameters
    ----------
    y_true, y_pred : Series of shape (n_days,)
        Next-day simple returns, as fractions, on one index. Days without a
        change of price are left out.

    Returns
    -------
    float in [0, 1]
        NaN where every ``y_true`` is zero.

    Raises
    ------
    ValueError
        Empty, not on one index, or not finite.

    Examples
    --------
    >>> hit_rate(pd.Series([0.01, -0.02, 0.0, 0.01]), pd.Series([0.1, -0.1, 0.1, -0.1]))
    0.6666666666666666
    """
    _errors(y_true, y_pred)
    moved = y_true != 0
    if not moved.any():
        return float("nan")
    return float(np.mean(np.sign(y_true[moved]) == np.sign(y_pred[moved])))


def r2(y_true: pd.Series, y_pred: pd.Series) -> float:
    """Share of the squared returns that the forecast explains, against forecasting zero; higher is better.

    Out-of-sample R² as in Campbell and Thompson (2008),
    doi:10.1093/rfs/hhm055, with the zero forecast as the benchmark.

    Parameters
    ----------
    y_true, y_pred : Series of shape (n_days,)
        Next-day simple returns, as fractions, on one index.

    Returns
    -------
    float
        At most 1; below 0 where forecasting zero is better; NaN where every
        ``y_true`` is zero.

    Raises
    ------
    ValueError
        Empty, not on one index, or not finite.
    """
    error = _errors(y_true, y_pred)
    total = float(np.sum(y_true**2))
    return 1 - float(np.sum(error**2)) / total if total else float("nan")


def _errors(y_true: pd.Series, y_pred: pd.Series) -> pd.Series:
    if len(y_true) == 0:
        msg = "y_true: no days"
        raise ValueError(msg)
    if not y_true.index.equals(y_pred.index):
        msg = "y_true and y_pred: not on one index"
        raise ValueError(msg)
    for name, values in (("y_true", y_true), ("y_pred", y_pred)):
        if not np.isfinite(values).all():
            msg = f"{name}: not finite on {int((~np.isfinite(values)).sum())} of {len(values)} days"
            raise ValueError(msg)
    return y_true - y_pred
