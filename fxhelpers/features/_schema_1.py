"""Schema 1, by TA-Lib, as earlier releases computed it: their versions are still compared and served.

It does not change. Its exponential and Wilder averages depend on every day
before, and a NaN or a flat price leaves the RSI at 0.
"""

import numpy as np
import pandas as pd
import talib


def features_of(prices: pd.DataFrame) -> pd.DataFrame:
    """Compute all features, one row per day; NaN on the first 199 days."""
    columns = {
        **_returns(prices),
        **_averages(prices),
        **_oscillators(prices),
        **_volatility(prices),
        **_volume(prices),
        **_candle(prices),
        **_calendar(pd.DatetimeIndex(prices.index)),
    }
    return pd.DataFrame(columns, index=prices.index)


def _returns(prices: pd.DataFrame) -> dict[str, pd.Series]:
    close = prices["Close"]
    daily = close.pct_change()
    lagged = {f"return_lag_{lag}": daily.shift(lag) for lag in (1, 2, 3, 5, 10)}
    momentum = {f"roc_{days}": close.pct_change(days) for days in (5, 10, 20, 60)}
    return {"return_1": daily, **lagged, **momentum}


def _averages(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    close = prices["Close"].to_numpy()
    return {
        **{f"close_to_sma_{days}": close / talib.SMA(close, days) - 1 for days in (5, 10, 20, 50, 200)},
        **{f"close_to_ema_{days}": close / talib.EMA(close, days) - 1 for days in (12, 26, 50)},
    }


def _oscillators(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    high, low, close = (prices[name].to_numpy() for name in ("High", "Low", "Close"))
    macd, signal, histogram = talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)
    upper, middle, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2, nbdevdn=2)
    return {
        "rsi_14": talib.RSI(close, 14) / 100,
        "rsi_21": talib.RSI(close, 21) / 100,
        "macd": macd / close,
        "macd_signal": signal / close,
        "macd_histogram": histogram / close,
        "bollinger_position": _share(close - lower, upper - lower),
        "bollinger_width": (upper - lower) / middle,
        "williams_r_14": talib.WILLR(high, low, close, 14) / 100,
    }


def _volatility(prices: pd.DataFrame) -> dict[str, pd.Series | np.ndarray]:
    high, low, close = (prices[name].to_numpy() for name in ("High", "Low", "Close"))
    daily = prices["Close"].pct_change()
    ranges = np.log(prices["High"] / prices["Low"]) ** 2 / (4 * np.log(2))
    return {
        **{f"atr_{days}": talib.ATR(high, low, close, days) / close for days in (14, 21)},
        **{f"volatility_{days}": daily.rolling(days).std() for days in (5, 10, 20, 30)},
        "parkinson_20": np.sqrt(ranges.rolling(20).mean()),
    }


def _volume(prices: pd.DataFrame) -> dict[str, np.ndarray | pd.Series]:
    volume = prices["Volume"].to_numpy()
    ratios = {f"volume_to_sma_{days}": _share(volume, talib.SMA(volume, days)) - 1 for days in (5, 20, 50)}
    typical = (prices["High"] + prices["Low"] + prices["Close"]) / 3
    shares = prices["Volume"].rolling(20).sum()
    vwap = (typical * prices["Volume"]).rolling(20).sum() / shares.where(shares != 0)
    vwap = vwap.where(shares != 0, prices["Close"])  # an index trades no shares
    return {**ratios, "close_to_vwap_20": prices["Close"] / vwap - 1}


def _candle(prices: pd.DataFrame) -> dict[str, pd.Series]:
    body = prices[["Open", "Close"]]
    return {
        "body": (prices["Close"] - prices["Open"]) / prices["Open"],
        "upper_shadow": (prices["High"] - body.max(axis=1)) / prices["Close"],
        "lower_shadow": (body.min(axis=1) - prices["Low"]) / prices["Close"],
        "gap": prices["Open"] / prices["Close"].shift(1) - 1,
    }


def _calendar(index: pd.DatetimeIndex) -> dict[str, np.ndarray]:
    week = 2 * np.pi * index.day_of_week.to_numpy() / 5
    year = 2 * np.pi * (index.month.to_numpy() - 1) / 12
    return {"weekday_sin": np.sin(week), "weekday_cos": np.cos(week), "month_sin": np.sin(year), "month_cos": np.cos(year)}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole; 0.5 if the whole is zero (a flat band), NaN if either is NaN."""
    return np.where(whole == 0, 0.5, part / np.where(whole == 0, 1.0, whole))
