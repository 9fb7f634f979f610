"""Prices to check, and how ordinary each of their days is."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from fxhelpers.params._prices import PriceChecksParams
from fxhelpers.prices._finding import PriceFinding, Severity, how_often

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

WINDOW = 20
"""Days before and after whose medians are the ordinary range and volume."""
WEEKLY = 4
"""Calendar days between most rows of weekly bars, at least."""

_MOST_NEWS = 8.0  # a volume of more times its level explains no larger a gap,
_MOST_LAST_NEWS = 2.5  # and on the last day, which no later one confirms, of this many times
_SHIFT = 0.15  # a gap counts more if the level of the volume changes with it: by this much per unit of its logarithm,
_MOST_SHIFT = 2.0  # up to here
_GAPS = 2.5  # a day's range is at least this many of its gaps


@dataclass(frozen=True)
class CheckedPrices:
    """Prices to check, and what is needed to judge them."""

    frame: pd.DataFrame
    sessions: pd.DatetimeIndex | None
    bounds: PriceChecksParams
    now_day: pd.Timestamp
    rounding: Floats  # of every row of the frame

    @cached_property
    def days(self) -> pd.DatetimeIndex:
        """Days of the rows."""
        return pd.DatetimeIndex(self.frame.index)

    @cached_property
    def step(self) -> float:
        """Calendar days between most rows."""
        between = np.diff(self.days.unique().as_unit("s").asi8) / 86_400
        return float(np.median(between)) if len(between) else 1.0

    @cached_property
    def ordinary(self) -> "Ordinary":
        """How ordinary each day is."""
        return Ordinary(self)

    def values(self, name: str) -> Floats:
        """Values of a column."""
        return np.asarray(self.frame[name], dtype=float)

    def log(self, name: str) -> Floats:
        """Logarithms of a column."""
        return np.asarray(np.log(self.values(name)), dtype=float)

    def finding(
        self,
        check: str,
        severity: Severity,
        what: str,
        do: str,
        days: pd.DatetimeIndex,
        *,
        times: int = 0,
        first: pd.Timestamp | None = None,
    ) -> PriceFinding:
        """Say what was found and where first; once a day, unless the number of times is given."""
        times, first = times or len(days), first or days[0]
        message = f"{what}, {how_often(times, f'on {first:%Y-%m-%d}')}; {do}"
        return PriceFinding(check=check, severity=severity, message=message, days=tuple(days.unique()))


def medians(values: Floats, window: int = WINDOW) -> tuple[Floats, Floats]:
    """Return medians of the days before and after each day, the day itself left out; missing values are ignored."""
    forward = pd.Series(values).rolling(window, min_periods=1).median().shift(1)
    backward = pd.Series(values[::-1]).rolling(window, min_periods=1).median().shift(1)
    return forward.to_numpy(), backward.to_numpy()[::-1]


def news(excess: Floats, most: float | Floats = _MOST_NEWS) -> Floats:
    """Return the factor by which a volume above its level, in logarithms, makes a gap more ordinary."""
    return np.asarray(np.clip(np.exp(np.nan_to_num(excess)), 1.0, most), dtype=float)


class Ordinary:
    """Gap, range and volume of each day against those of the days before and after."""

    def __init__(self, prices: CheckedPrices) -> None:
        self.opens, self.close = prices.log("Open"), prices.log("Close")
        self.high, self.low = prices.log("High"), prices.log("Low")
        self.gap = np.r_[0.0, self.opens[1:] - self.close[:-1]]  # from the close before
        range_ = np.maximum(self.high - self.low, 2 * prices.rounding)
        ranges, gaps = np.fmax(*medians(range_)), np.fmax(*medians(np.abs(self.gap)))
        self.scale = np.maximum(np.maximum(ranges, _GAPS * gaps), 1e-4)  # an ordinary day's range
        volume = prices.values("Volume")
        self.traded = bool((volume > 0).any())
        self.volume = np.log(np.where(volume > 0, volume, np.nan))
        before, after = medians(self.volume)
        self.shift = np.nan_to_num(after - before)  # of the level of the volume
        elapsed = np.diff(prices.days.as_unit("s").asi8, prepend=np.nan) / 86_400
        waited = np.sqrt(np.fmax(elapsed / WEEKLY, 1.0))  # news adds up while there is no trading
        certain = np.maximum(np.abs(self.gap) - 2 * prices.rounding, 0.0)
        self.jump = certain / np.maximum(self.scale, range_) / waited  # the gap in ranges
        most = np.where(np.isnan(after), _MOST_LAST_NEWS, _MOST_NEWS)
        unexplained = self.jump / news(self.volume - np.fmax(before, after), most)
        self.score = unexplained * (1 + _SHIFT * np.minimum(np.abs(self.shift), _MOST_SHIFT))  # what news does not explain of it
