"""Five years of live days whose truth is known, because it was made. ``make watching`` prints the tables of ``docs/watch.md``."""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap
from arch.univariate import SkewStudent
from lives import SPREAD, garch

from fxhelpers import load_prices
from fxhelpers.params import PricesParams
from fxhelpers.watching import DOUBT, Watched, excess_losses, size_warning, watch

BEFORE, LIFE, GOOD = 504, 1_260, 504  # rolling-origin days; live days: five years; those before something turns bad: two years
SKILL = 0.01  # share of the variance that a good recipe explains
LIVES = 500  # of each row
DAYS = pd.bdate_range("2010-01-04", periods=BEFORE + LIFE)
_SKEW = -0.3  # Hansen's parameter, with five degrees of freedom: a skewness of about -1.2
_CRASHES = 1 / 252  # a day
_REAL = ("AAPL", "GOOG", "IBM", "MSFT")


@dataclass(frozen=True, kw_only=True)
class Null:
    """No better and no worse than forecasting zero: the expected return is half of the forecast, so errors are equal."""

    name: str
    returns: str = "t"  # t, skewed, real (resampled months of the sample's four shares) or crashing
    sign: int = 0  # of every forecast; 0: it changes
    crash: float = 8.0  # once a year, in standard deviations of the returns; with crashing
    grows: float = 1.0  # after two good years, forecasts are so many times larger

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A good recipe whose forecasts are, from some day on, noise without any relation to the return."""

    name: str
    size: float  # RMS of the noise, in standard deviations of the returns
    good_days: int = 0  # live days before

    def __str__(self) -> str:
        return self.name


def _worse(rmse: float) -> float:
    """Return the size of the noise with which RMSE is so many times that of forecasting zero."""
    return math.sqrt(rmse**2 - 1)


NULLS = (
    Null(name="symmetric returns"),
    Null(name="symmetric returns, forecasts grow tenfold", grows=10),
    Null(name="symmetric returns, always a rise", sign=1),
    Null(name="skewed returns", returns="skewed"),
    Null(name="skewed returns, always a rise", returns="skewed", sign=1),
    Null(name="skewed returns, always a fall", returns="skewed", sign=-1),
    Null(name="real returns", returns="real"),
    Null(name="real returns, always a rise", returns="real", sign=1),
    Null(name="real returns, always a fall", returns="real", sign=-1),
    Null(name="a crash of 8 deviations a year, always a fall", returns="crashing", sign=-1),
    Null(name="a crash of 30 deviations a year, always a fall", returns="crashing", sign=-1, crash=30),
)
BADS = (
    Bad(name="RMSE x 4, from the start", size=_worse(4)),
    Bad(name="RMSE + 50 %, from the start", size=_worse(1.5)),
    Bad(name="RMSE + 20 %, from the start", size=_worse(1.2)),
    Bad(name="RMSE + 10 %, from the start", size=_worse(1.1)),
    Bad(name="RMSE + 50 %, after two good years", size=_worse(1.5), good_days=GOOD),
    Bad(name="RMSE + 20 %, after two good years", size=_worse(1.2), good_days=GOOD),
    Bad(name="skill of R² 1 % lost, after two good years", size=math.sqrt(SKILL), good_days=GOOD),
)


def null_days(null: Null, seed: int) -> tuple[pd.Series, pd.Series]:
    """Return the returns and the forecasts of all days; the first 504 are rolling-origin days."""
    rng = np.random.default_rng([seed, 11])
    noise = _noise(null.returns, rng, null.crash)
    forecast = 0.1 * SPREAD * (null.sign * np.ones(len(DAYS)) if null.sign else rng.standard_normal(len(DAYS)))
    forecast[BEFORE + GOOD :] *= null.grows
    return pd.Series(noise + forecast / 2, DAYS), pd.Series(forecast, DAYS)


def bad_days(bad: Bad, seed: int) -> tuple[pd.Series, pd.Series]:
    """Return the returns and the forecasts of all days; those of good days explain 1 % of the returns' variance."""
    rng, first = np.random.default_rng([seed, 12]), BEFORE + bad.good_days
    signal, more = rng.standard_normal((2, len(DAYS)))
    best = SPREAD * math.sqrt(SKILL) * signal
    returns = best + math.sqrt(1 - SKILL) * garch(rng, len(DAYS))
    forecast = np.where(np.arange(len(DAYS)) < first, best, bad.size * SPREAD * more)
    return pd.Series(returns, DAYS), pd.Series(forecast, DAYS)


def watched(returns: pd.Series, forecast: pd.Series) -> Watched:
    """Watch the live days, after the rolling-origin days."""
    excess = excess_losses(returns, forecast)
    return watch(excess.iloc[BEFORE:], excess.iloc[:BEFORE].to_numpy())


def alarmed(null: Null, seed: int) -> bool:
    """Whether there is a false alarm in five years of daily looks."""
    return watched(*null_days(null, seed)).first_alarm is not None


def delay(bad: Bad, seed: int) -> float:
    """Return the live days from the first bad one to the alarm, inclusive; infinite without one, NaN with one before."""
    found = watched(*bad_days(bad, seed))
    if found.first_alarm is None:
        return math.inf
    days = DAYS.get_loc(found.first_alarm) + 1 - BEFORE - bad.good_days
    return float(days) if days > 0 else math.nan


def size_delay(bad: Bad, seed: int) -> float:
    """Return the bad days until the size of the forecasts is a warning; infinite without one in a quarter."""
    forecast, first = bad_days(bad, seed)[1], BEFORE + bad.good_days
    rolling = forecast.iloc[:BEFORE]
    days = (day for day in range(1, 64) if size_warning(forecast.iloc[BEFORE : first + day], rolling))
    return next(map(float, days), math.inf)


def size_warned(seed: int) -> bool:
    """Whether the size of good forecasts is a warning in five years of weekly looks."""
    forecast = bad_days(Bad(name="", size=0, good_days=LIFE), seed)[1]
    rolling = forecast.iloc[:BEFORE]
    return any(size_warning(forecast.iloc[BEFORE : BEFORE + day], rolling) for day in range(1, LIFE + 1, 5))


def fixed_test_rejects(null: Null, seed: int) -> bool:
    """Whether a one-sided t-test at 5 %, looked at every day from the 63rd on, ever rejects."""
    excess = excess_losses(*null_days(null, seed)).iloc[BEFORE:]
    days = np.arange(1, LIFE + 1)
    means, squares = excess.cumsum() / days, (excess**2).cumsum() / days
    return bool((means / np.sqrt((squares - means**2) / (days - 1)) > 1.645).iloc[62:].any())


def _noise(kind: str, rng: np.random.Generator, crash: float) -> np.ndarray:
    if kind == "real":
        real = _real()[_REAL[int(rng.integers(len(_REAL)))]]
        drawn = next(StationaryBootstrap(20, real, seed=rng).bootstrap(len(DAYS) // len(real) + 1))[0][0]
        return np.asarray(drawn)[: len(DAYS)] * SPREAD / real.std()
    shocks = SkewStudent(seed=rng).simulate([5.0, _SKEW])(len(DAYS) + 250) if kind == "skewed" else None
    values = garch(rng, len(DAYS), shocks)
    return values - crash * SPREAD * ((rng.random(len(DAYS)) < _CRASHES) - _CRASHES) if kind == "crashing" else values


@cache
def _real() -> dict[str, np.ndarray]:
    """Return daily returns of the sample's shares, less their mean."""
    found = {}
    for symbol in _REAL:
        returns = load_prices(symbol, PricesParams(source="sample"))["Close"].pct_change().dropna().to_numpy()
        found[symbol] = returns - returns.mean()
    return found


def _rows(lives: int) -> Iterator[str]:
    yield "| equal errors | false alarms in five years | ever in doubt | of days in doubt | t-test at 5 %, looked at daily |"
    yield "| --- " * 5 + "|"
    for null in NULLS:
        found = [watched(*null_days(null, seed)) for seed in range(lives)]
        alarms, doubts = np.mean([w.first_alarm is not None for w in found]), np.array([w.share >= DOUBT for w in found])
        fixed = np.mean([fixed_test_rejects(null, seed) for seed in range(lives)])
        yield _row(
            null.name, _percent(alarms, 1), _percent(doubts.any(axis=1).mean(), 1), _percent(doubts.mean(), 2), _percent(fixed)
        )
    yield ""
    yield "| what turned bad | alarm after (median) | nine of ten within | seen within five years | size warns after (median) |"
    yield "| --- " * 5 + "|"
    for bad in BADS:
        days = np.array([delay(bad, seed) for seed in range(lives)])
        days = days[~np.isnan(days)]
        size = np.median([size_delay(bad, seed) for seed in range(lives // 10)])
        middle, most = np.quantile(days, [0.5, 0.9], method="inverted_cdf")
        yield f"| {bad.name} | {middle:.0f} | {most:.0f} | {_percent(np.isfinite(days).mean())} | {size:.0f} |".replace(
            "inf", "never"
        )
    yield ""
    warned = np.mean([size_warned(seed) for seed in range(lives // 5)])
    yield f"Good forecasts whose size is a warning in five years of weekly looks: {_percent(warned, 1)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _days(count: float) -> str:
    return f"{count:.0f}" if math.isfinite(count) else "never"


def _percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer lives")
    for row in _rows(max(10, round(LIVES * parser.parse_args().scale))):
        print(row, flush=True)


if __name__ == "__main__":
    main()
