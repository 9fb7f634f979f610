"""Bets on the excess losses of live days, and the evidence that they give."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from fxhelpers.watching._sizes import check_finite
from fxhelpers.watching._watched import Thresholds, Watched

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Shares of the wealth at stake; the mean over them is the evidence."""
HALF_LIFE = 60
"""Trading days after which an earlier excess loss counts half in the size of bets."""
LEAST_EARLIER = 20
"""Fewest earlier excess losses that a bet needs."""

_CLIP = 4.0  # earlier sizes of an excess loss that make a full bet
_MOST = 1e300  # wealth of one fraction; what exceeds it is not counted, so that it stays a number
_UNIT = 64.0  # keeps the weighted sum of squares of the greatest floats finite


def excess_losses(actual: pd.Series, forecast: pd.Series, versus: pd.Series | None = None) -> pd.Series:
    """Squared error of a forecast, less that of another; lower is better, and 0 is as good.

    Parameters
    ----------
    actual, forecast : Series of shape (n_days,)
        Realized returns and their forecasts, as fractions, on one index.
    versus : Series of shape (n_days,), optional
        The other forecast; by default zero.

    Returns
    -------
    Series of shape (n_days,)
        ``(y - f)**2 - (y - g)**2``, without the rounding of that difference.

    Raises
    ------
    ValueError
        Not on one index, or a value that is not finite.

    Examples
    --------
    >>> excess_losses(pd.Series([0.02, -0.02]), pd.Series([0.01, 0.01])).round(6).tolist()
    [-0.0003, 0.0005]
    """
    other = versus if versus is not None else forecast * 0.0
    if not (actual.index.equals(forecast.index) and actual.index.equals(other.index)):
        msg = "returns and forecasts must be on one index"
        raise ValueError(msg)
    excess = (forecast - other) * (forecast + other - 2 * actual)
    check_finite(excess.to_numpy(dtype=float), "returns and forecasts")
    return excess.rename("excess")


def scales(excess: Sequence[float], earlier: Sequence[float] = ()) -> list[float]:
    """Size of the excess losses before each day, in squared returns: the root of their weighted mean square.

    Weights halve every 60 days. NaN on days with fewer than 20 excess losses
    before, in ``earlier`` or ``excess``: there is no bet.
    """
    keep, root, weight, found = 0.5 ** (1 / HALF_LIFE), 0.0, 0.0, []
    for number, value in enumerate((*earlier, *excess)):
        if number >= len(earlier):
            found.append(_UNIT * root / math.sqrt(weight) if number >= LEAST_EARLIER else math.nan)
        root, weight = math.hypot(math.sqrt(keep) * root, value / _UNIT), keep * weight + 1  # this day's counts from the next on
    return found


def watch(
    excess: pd.Series,
    earlier: np.ndarray,
    *,
    alpha: float = 0.05,
    years: float = 5,
    versus: str = "forecasting zero",
) -> Watched:
    """Bet against what serves being no worse than what it is compared with, day by day.

    Parameters
    ----------
    excess : Series of shape (n_days,)
        Excess losses of the live days, oldest first, from :func:`excess_losses`,
        since what serves was decided or since the last alarm.
    earlier : ndarray of shape (n_earlier,)
        Excess losses of the recipe's rolling-origin days, oldest first. They
        only set the size of the first bets. If there are fewer than 20, there
        is no bet before the 20th day of both together.
    alpha : float
        Most probability of a false alarm within ``years``, half of it for each
        detector; in (0, 1).
    years : float
        The horizon, in years of 252 live days. The e-process needs none.
    versus : str
        What it is compared with, for sentences.

    Returns
    -------
    Watched
        A day's evidence depends on this day and those before. If all earlier
        excess losses were zero there is no bet.

    Raises
    ------
    ValueError
        A value that is not finite, days that do not ascend, or ``alpha`` or
        ``years`` out of bounds.

    Examples
    --------
    >>> live = pd.Series(0.0004, pd.bdate_range("2024-01-01", periods=80))
    >>> watch(live.iloc[:5], earlier=np.full(500, 0.0001)).word
    'too early to tell'
    >>> watch(live, earlier=np.full(500, 0.0001)).first_alarm
    Timestamp('2024-01-16 00:00:00')
    """
    values, before = excess.to_numpy(dtype=float).tolist(), np.asarray(earlier, dtype=float).tolist()
    check_finite(np.array(values), "excess losses")
    check_finite(np.array(before), "earlier excess losses")
    if not (excess.index.is_monotonic_increasing and excess.index.is_unique):
        msg = "the days of the excess losses must ascend, each once"
        raise ValueError(msg)
    thresholds = Thresholds.of(alpha, years)
    bets = [_bet(value, scale) for value, scale in zip(values, scales(values, before), strict=True)]
    evidence = np.array(list(_evidence(bets))).reshape(-1, 2)
    days = pd.DataFrame(
        {"excess": values, "bet": bets, "e_process": evidence[:, 0], "e_detector": evidence[:, 1]}, excess.index, dtype=float
    )
    alarms = days.index[(days["e_process"] >= thresholds.e_process) | (days["e_detector"] >= thresholds.e_detector)]
    first = pd.Timestamp(alarms[0]) if len(alarms) else None
    return Watched(days=days, thresholds=thresholds, first_alarm=first, versus=versus)


def _bet(value: float, scale: float) -> float:
    """Return a bet from -1 to 1; 0 if nothing is known of the size of earlier values, or all were zero."""
    return min(max(value / _CLIP / scale, -1.0), 1.0) if scale > 0 else 0.0


def _evidence(bets: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Yield the e-process and the e-detector of each day: means over the fractions."""
    wealth, sums = [1.0] * len(FRACTIONS), [0.0] * len(FRACTIONS)
    for bet in bets:
        gains = [1 + fraction * bet for fraction in FRACTIONS]
        wealth = [min(before * gain, _MOST) for before, gain in zip(wealth, gains, strict=True)]
        sums = [min((before + 1) * gain, _MOST) for before, gain in zip(sums, gains, strict=True)]
        yield sum(wealth) / len(FRACTIONS), sum(sums) / len(FRACTIONS)
