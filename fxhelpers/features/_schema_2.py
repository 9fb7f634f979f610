"""Schema 2: every feature of a day is a function of the last ``LOOK_BACK_DAYS`` days, from windows that are written out.

There are no running sums and no recursions. What left the window of a feature
has no influence on it, whether that was another price, a missing one or a
suspension, and not even by rounding.
"""

import numpy as np
import pandas as pd

LOOK_BACK_DAYS = 200
"""Days that determine a feature, its own day included; rows from ``LOOK_BACK_DAYS - 1`` on have all features."""
_SIGNAL_DAYS = 50  # of these 200, for the average of MACD: what it cuts off weighs 1e-5


def features_of(prices: pd.DataFrame) -> pd.DataFrame:
    """Compute all features, one row per day."""
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


def _returns(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    (close,) = _columns(prices, "Close")
    daily = _change(close, 1)
    lagged = {f"return_lag_{lag}": _before(daily, lag) for lag in (1, 2, 3, 5, 10)}
    momentum = {f"roc_{days}": _change(close, days) for days in (5, 10, 20, 60)}
    return {"return_1": daily, **lagged, **momentum}


def _averages(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    (close,) = _columns(prices, "Close")
    simple = {f"sma_{days}": _above(close, np.full(days, 1 / days)) for days in (5, 10, 20, 50, 200)}
    exponential = {f"ema_{days}": _above(close, _exponential(days)) for days in (12, 26, 50)}
    return {f"close_to_{name}": above / (close - above) for name, above in {**simple, **exponential}.items()}


def _oscillators(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    high, low, close = _columns(prices, "High", "Low", "Close")
    highest = _windows(high, 14).max(axis=-1)
    return {
        **{f"rsi_{days}": _relative_strength(close, days) for days in (14, 21)},
        **_macd(close),
        **_bollinger(close),
        "williams_r_14": -_share(highest - close, highest - _windows(low, 14).min(axis=-1), neutral=0.5),
    }


def _relative_strength(close: np.ndarray, days: int) -> np.ndarray:
    weights = _wilder(days)
    change = close - _before(close, 1)
    gain, loss = (_weighted(np.maximum(moved, 0), weights) for moved in (change, -change))
    return _share(gain, gain + loss, neutral=0.5)


def _macd(close: np.ndarray) -> dict[str, np.ndarray]:
    days = LOOK_BACK_DAYS - _SIGNAL_DAYS + 1
    macd = _above(close, _exponential(26, days)) - _above(close, _exponential(12, days))
    signal = _weighted(macd, _exponential(9, _SIGNAL_DAYS))
    return {"macd": macd / close, "macd_signal": signal / close, "macd_histogram": (macd - signal) / close}


def _bollinger(close: np.ndarray) -> dict[str, np.ndarray]:
    differences = _windows(close, 20) - close[:, np.newaxis]  # exactly zero where the price stood still
    middle, deviation = differences.mean(axis=-1), differences.std(axis=-1)
    position = _share(2 * deviation - middle, 4 * deviation, neutral=0.5)
    return {"bollinger_position": position, "bollinger_width": 4 * deviation / (close + middle)}


def _volatility(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    high, low, close = _columns(prices, "High", "Low", "Close")
    before, daily = _before(close, 1), _change(close, 1)
    true_range = np.maximum(high, before) - np.minimum(low, before)
    squares = np.log(high / low) ** 2 / (4 * np.log(2))
    return {
        **{f"atr_{days}": _weighted(true_range, _wilder(days)) / close for days in (14, 21)},
        **{f"volatility_{days}": _windows(daily, days).std(axis=-1, ddof=1) for days in (5, 10, 20, 30)},
        "parkinson_20": np.sqrt(_windows(squares, 20).mean(axis=-1)),
    }


def _volume(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    high, low, close, volume = _columns(prices, "High", "Low", "Close", "Volume")
    averages = {days: _windows(volume, days).mean(axis=-1) for days in (5, 20, 50)}
    shares = _windows(volume, 20).sum(axis=-1)
    spent = _windows((high + low + close) / 3 * volume, 20).sum(axis=-1)
    return {
        **{f"volume_to_sma_{days}": _share(volume, average, neutral=1.0) - 1 for days, average in averages.items()},
        "close_to_vwap_20": _share(close * shares, spent, neutral=1.0) - 1,
    }


def _candle(prices: pd.DataFrame) -> dict[str, np.ndarray]:
    opened, high, low, close = _columns(prices, "Open", "High", "Low", "Close")
    return {
        "body": (close - opened) / opened,
        "upper_shadow": (high - np.maximum(opened, close)) / close,
        "lower_shadow": (np.minimum(opened, close) - low) / close,
        "gap": opened / _before(close, 1) - 1,
    }


def _calendar(index: pd.DatetimeIndex) -> dict[str, np.ndarray]:
    week = 2 * np.pi * index.day_of_week.to_numpy() / 7
    year = 2 * np.pi * (index.month.to_numpy() - 1) / 12
    return {"weekday_sin": np.sin(week), "weekday_cos": np.cos(week), "month_sin": np.sin(year), "month_cos": np.cos(year)}


def _columns(prices: pd.DataFrame, *names: str) -> list[np.ndarray]:
    return [prices[name].to_numpy(dtype=np.float64) for name in names]


def _before(values: np.ndarray, days: int) -> np.ndarray:
    """Return the value some days before each day; NaN on the first days."""
    return np.concatenate([np.full(days, np.nan), values])[: len(values)]


def _change(values: np.ndarray, days: int) -> np.ndarray:
    """Return the change over some days as a fraction."""
    change: np.ndarray = values / _before(values, days) - 1
    return change


def _windows(values: np.ndarray, days: int) -> np.ndarray:
    """Return the last days up to each day, shape (n_days, days), oldest first; NaN before the first day. A view: no copies."""
    padded = np.concatenate([np.full(days, np.nan), values])
    return np.lib.stride_tricks.sliding_window_view(padded, days)[1:]


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the last days; weights are oldest first and add up to 1."""
    mean: np.ndarray = np.vecdot(_windows(values, len(weights)), weights)
    return mean


def _above(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each value less the weighted mean of the last days, its own included: exactly zero if none differs.

    It is the sum of the changes in the window, each as often as it has weight before it.
    """
    return _weighted(values - _before(values, 1), np.cumsum(weights)[:-1])


def _exponential(span: int, days: int = LOOK_BACK_DAYS) -> np.ndarray:
    """Return weights of an exponential average, whose recursion starts with the oldest of some days."""
    ratio = (span - 1) / (span + 1)
    weights = (1 - ratio) * ratio ** np.arange(days - 1, -1, -1)
    weights[0] = ratio ** (days - 1)  # and so has the weight of all that is cut off
    return weights


def _wilder(period: int) -> np.ndarray:
    """Return weights of Wilder's smoothing, for changes, which are one fewer than the days; what is cut off is left out."""
    decay = (1 - 1 / period) ** np.arange(LOOK_BACK_DAYS - 2, -1, -1)
    weights: np.ndarray = decay / decay.sum()
    return weights


def _share(part: np.ndarray, whole: np.ndarray, *, neutral: float) -> np.ndarray:
    """Return part / whole; ``neutral`` if the whole is zero, because nothing moved or was traded. NaN if either is NaN."""
    return np.where(whole == 0, neutral, part / np.where(whole == 0, 1.0, whole))
