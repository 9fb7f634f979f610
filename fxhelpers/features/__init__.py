"""Features from the prices up to each day, and the target: the next day's return.

Features are ratios: multiplying all prices by a constant, or splitting the
share, changes none of them. None looks ahead, and each is a function of the
last ``LOOK_BACK_DAYS`` days, so that the first day of a price file does not
matter.
"""

import pandas as pd

from fxhelpers.features._schema_2 import LOOK_BACK_DAYS, features_of

TARGET = "Target_Return"
"""Name of the target's column."""
HORIZON_DAYS = 1
"""Trading days from a day's close to the close that its target is about."""
SCHEMAS = (1, 2)
SCHEMA_VERSION = SCHEMAS[-1]
"""Incremented when the computation of a feature changes: versions keep the features of the schema they were trained on."""


def build_features(prices: pd.DataFrame, schema: int = SCHEMA_VERSION) -> pd.DataFrame:
    """Compute all features of every day.

    Parameters
    ----------
    prices : pandas.DataFrame of shape (n_days, 5)
        Daily Open, High, Low, Close and Volume, as ``load_prices`` returns
        them; its index is a DatetimeIndex.
    schema : int
        How features are computed. 2, the default, uses fixed windows. 1 is for
        versions registered by earlier releases: its exponential averages
        depend on all days before, and it needs TA-Lib.

    Returns
    -------
    pandas.DataFrame of shape (n_days, 45)
        One row per day, in the order of ``prices``. A feature is NaN on days
        with fewer days before them than it needs: all are known from row
        ``LOOK_BACK_DAYS - 1`` on. A NaN in the prices makes those features NaN
        whose window contains it.

    Raises
    ------
    ValueError
        There is no such schema.

    Notes
    -----
    All numbers are pure, and returns are fractions: 0.01 is one percent. The
    number of days is part of the name.

    - ``return_1``, ``return_lag_N``, ``roc_N``: simple return over one day,
      over one day N days ago, and over N days.
    - ``close_to_sma_N``, ``close_to_ema_N``: close over its simple or
      exponential average, less 1.
    - ``macd``, ``macd_signal``, ``macd_histogram``: difference of the
      exponential averages of 12 and 26 days, its average of 9 days, and the
      first less the second, over the close [1]_.
    - ``rsi_N``: relative strength index, from 0 to 1 [2]_.
    - ``bollinger_position``, ``bollinger_width``: place of the close between
      the bands of two standard deviations, 0 at the lower and 1 at the upper,
      and their distance over the average, of 20 days [3]_.
    - ``williams_r_14``: Williams %R, from -1 at the lowest Low to 0 at the
      highest High [4]_.
    - ``atr_N``: average true range over the close [2]_.
    - ``volatility_N``: sample standard deviation of daily returns.
    - ``parkinson_20``: daily volatility from High and Low [5]_.
    - ``volume_to_sma_N``: volume over its average, less 1.
    - ``close_to_vwap_20``: close over the average price per share traded, less
      1, with (High + Low + Close) / 3 as the price of a day [6]_.
    - ``body``, ``upper_shadow``, ``lower_shadow``, ``gap``: Close over Open,
      less 1; distance of High and Low from the nearer of Open and Close, over
      the Close; Open over the close before, less 1.
    - ``weekday_sin``, ``weekday_cos``, ``month_sin``, ``month_cos``: place in
      a week of seven days and in the year.

    Exponential averages, and Wilder's, are weighted means: weights decay as in
    the definition, end at the look-back, and add up to 1. Where nothing moved, or no
    share was traded, in all of a window, a feature is neutral: RSI and
    ``bollinger_position`` are 0.5, Williams %R is -0.5, and others are 0.

    References
    ----------
    .. [1] Appel (2005), *Technical Analysis: Power Tools for Active Investors*.
    .. [2] Wilder (1978), *New Concepts in Technical Trading Systems*.
    .. [3] Bollinger (2001), *Bollinger on Bollinger Bands*.
    .. [4] Williams (1979), *How I Made One Million Dollars Last Year Trading
       Commodities*.
    .. [5] Parkinson (1980), doi:10.1086/296071.
    .. [6] Berkowitz, Logue and Noser (1988),
       doi:10.1111/j.1540-6261.1988.tb02591.x.

    Examples
    --------
    >>> import numpy as np
    >>> days = pd.bdate_range("2024-01-01", periods=250)
    >>> close = 100 * 1.01 ** np.arange(250)
    >>> prices = pd.DataFrame({"Open": close, "High": close, "Low": close, "Close": close, "Volume": 0.0}, index=days)
    >>> build_features(prices)[["return_1", "rsi_14", "volume_to_sma_5"]].iloc[-1].round(6).to_dict()
    {'return_1': 0.01, 'rsi_14': 1.0, 'volume_to_sma_5': 0.0}
    """
    if schema == SCHEMA_VERSION:
        return features_of(prices)
    if schema == 1:
        from fxhelpers.features import _schema_1

        return _schema_1.features_of(prices)
    msg = f"schema of features: expected 1 or {SCHEMA_VERSION}, found {schema!r}; a later fxhelpers may know it"
    raise ValueError(msg)


def next_day_return(prices: pd.DataFrame) -> pd.Series:
    """Compute the target: the simple return from each day's close to the next day's.

    Parameters
    ----------
    prices : pandas.DataFrame of shape (n_days, 5)
        Daily prices, as ``load_prices`` returns them; only Close is used.

    Returns
    -------
    pandas.Series of shape (n_days,)
        Fractions, 0.01 is one percent; NaN on the last day. Its name is
        ``TARGET``.

    Examples
    --------
    >>> next_day_return(pd.DataFrame({"Close": [100.0, 101.0]})).round(6).tolist()
    [0.01, nan]
    """
    close = prices["Close"]
    return (close.shift(-HORIZON_DAYS) / close - 1).rename(TARGET)
