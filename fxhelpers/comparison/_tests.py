"""Statistical tests: what each one answers, and the stationary bootstrap."""

import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm

SEED = 0
"""Of every bootstrap. It is fixed, so that nobody can look for a lucky one."""

RESAMPLES = 10_000
MOST_RESAMPLES = 1_000_000
"""Beyond these a bootstrap takes too long: p at a level that needs more comes from the tail of a distribution."""

EXPECTED = 5
"""Resamples that have to be expected beyond a level for p to be held against it."""

MINIMUM_DAYS = 30
"""With fewer days no test is made."""

INTERVAL = 0.95
"""Coverage of the intervals that are shown."""

POWER = 0.8
"""How often the detectable gain would be detected."""

TestName = Literal["stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSpec:
    """A test to be made.

    Attributes
    ----------
    test : {"stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"}
    versus : {"champion", "zero_return", "mean_training_return"} or None
        None for Pesaran and Timmermann's, which asks for no rival.
    margin : float
        The rival's RMSE is multiplied by 1 + margin first: above 0 it is
        asked whether the forecast is not worse by more than that.
    alpha : float
        Level, after division by what earlier attempts have spent.
    resamples : int
        Of the bootstrap, at least.
    """

    test: TestName
    versus: str | None = None
    margin: float = 0.0
    alpha: float = 0.05
    resamples: int = RESAMPLES

    def stages(self, family: int) -> list[int]:
        """Return how many resamples to draw, and how many more as long as those leave it open whether p lies below alpha.

        Earlier attempts may have left so little of alpha that the first ones
        cannot show it. Where all that can be drawn could not either, the first
        ones are enough.
        """
        needed = math.ceil(EXPECTED / self.alpha)
        if not self.resamples < needed <= MOST_RESAMPLES // family:
            return [self.resamples]
        powers = range(math.ceil(math.log10(needed / self.resamples)))
        return [*(self.resamples * 10**power for power in powers), needed]

    def open_after(self, p: float, resamples: int) -> bool:
        """Tell whether so few of so many resamples exceeded that more could still bring p below alpha."""
        return p * (resamples + 1) <= max(EXPECTED, 10 * self.alpha * resamples)

    def unresolved(self, p: float, resamples: int) -> bool:
        """Tell whether that is still so, since the resamples are too few for alpha."""
        return self.open_after(p, resamples) and resamples * self.alpha < EXPECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """What a test said.

    Attributes
    ----------
    question : Question
    forecast : str
        Column of the frame that is tested.
    p : float
        One-sided; adjusted for the other challengers where there are any; NaN
        where the test was not made.
    why : str
        Why it was not made; "" where it was.
    statistic : float
        Of the test; NaN for a bootstrap.
    p_alone : float
        As if there were no other challengers.
    gain, low, high : float
        By how much the RMSE is below the rival's, as a fraction of that, and
        its 95 % interval; only of a bootstrap.
    detectable : float
        The gain that the test detects with 80 % power at this level.
    block : int
        Mean length of the bootstrap's blocks, in days.
    resamples : int
        0 for a test that draws none.
    tail : bool
        Whether these were too few for the level, so that p comes from the
        tail of Student's distribution.
    family : int
        How many challengers were tested at once.
    """

    spec: TestSpec
    forecast: str
    p: float = math.nan
    why: str = ""
    statistic: float = math.nan
    p_alone: float = math.nan
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan
    block: int = 0
    resamples: int = 0
    tail: bool = False
    family: int = 1

    @property
    def shows(self) -> float:
        """The detectable gain; NaN where it would take more than all of the rival's squared error, so that none can be shown."""
        return self.detectable if 2 * self.detectable < 1 else math.nan

    def detects(self, rival: str) -> str:
        """Return the gain over a rival that the days can detect, as a part of a sentence."""
        if math.isnan(self.shows):
            why = "with errors of this size it would have to exceed 100 %, which is impossible"
            return f"no gain over {rival} can be detected: {why}"
        return f"80 % power to detect a gain of {100 * self.shows:.3g} % over {rival}"

    def to_json(self) -> dict[str, Any]:
        """Return all of it with None where there is no number."""
        whole = asdict(self)
        whole |= whole.pop("spec")
        whole["seed"] = SEED if self.resamples else None
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in whole.items()}


_SHORTEST_BLOCK = 5


def squared_errors(target: pd.Series, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return each forecast's squared error of each day, as squared fractions of return."""
    return forecasts.rsub(target, axis=0) ** 2


def untestable(difference: pd.Series) -> str:
    """Return why a difference of losses, the rival's minus the forecast's, cannot be tested; "" where it can."""
    values = difference.to_numpy()
    if not np.isfinite(values).all():
        return f"not finite on {int((~np.isfinite(values)).sum())} of {len(values)} days"
    with np.errstate(over="ignore"):
        if not np.isfinite(np.sum(values**4)):
            return "the errors are too large to be compared"
    if len(values) < MINIMUM_DAYS:
        return f"{len(values)} days, a test needs at least {MINIMUM_DAYS}"
    if not values.any():
        return "the two make the same errors on every day"
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return "the difference is the same on every day"
    return ""


def block_length(differences: pd.DataFrame) -> int:
    """Return the mean length of blocks, in days, that keeps how days depend on each other in any column, at least 5.

    Politis and White (2004), doi:10.1081/ETC-120028836, as arch computes it.
    """
    from arch.bootstrap import optimal_block_length

    longest = float(optimal_block_length(differences)["stationary"].max())
    return max(_SHORTEST_BLOCK, math.ceil(longest))


def resampled_means(differences: pd.DataFrame, block: int, resamples: int) -> np.ndarray:
    """Return the means of resampled days, a row a sample: Politis and Romano's stationary bootstrap, from arch."""
    from arch.bootstrap import StationaryBootstrap

    one = differences.shape[1] == 1
    drawn = StationaryBootstrap(block, differences.to_numpy()[:, 0] if one else differences.to_numpy(), seed=SEED)
    return np.asarray(drawn.apply(np.mean if one else _column_means, resamples))


def resampled_paths(difference: pd.Series, resamples: int = 2_000) -> np.ndarray:
    """Return the running sums, a row a sample, that resampled days would give if there were no difference."""
    from arch.bootstrap import StationaryBootstrap

    centred = (difference - difference.mean()).to_numpy()
    drawn = StationaryBootstrap(block_length(difference.to_frame()), centred, seed=SEED)
    return np.asarray(drawn.apply(np.cumsum, resamples))


def bootstrap_test(target: pd.Series, rival: pd.Series, forecasts: pd.DataFrame, spec: TestSpec) -> list[TestResult]:
    """Test whether forecasts have a lower mean squared error than a rival.

    One forecast is tested by the stationary bootstrap of the mean difference.
    Several are tested at once: Hansen's test of superior predictive ability,
    then the steps of Romano and Wolf, both from arch; ``p`` is then adjusted
    for having looked at all of them.

    Where hardly any resample exceeds, and the level is finer than
    ``MOST_RESAMPLES`` can show, ``p`` is that of :func:`tail`, times the
    number of forecasts.

    Parameters
    ----------
    target, rival : Series of shape (n_days,)
        Next-day returns and forecasts of them, as fractions, on one index.
    forecasts : DataFrame of shape (n_days, n_forecasts)
        On the same index.
    question : Question
        Margin, level and resamples.

    Returns
    -------
    list of Answer
        One a forecast, in their order.
    """
    rivals = (target - rival) ** 2 * (1 + spec.margin) ** 2
    losses = squared_errors(target, forecasts)
    differences = losses.rsub(rivals, axis=0)
    plain = losses.rsub((target - rival) ** 2, axis=0)  # with a margin, identical forecasts would differ by it
    reasons = {str(name): untestable(plain[name]) or untestable(differences[name]) for name in forecasts}
    test_results = {name: TestResult(spec=spec, forecast=name, why=why, family=len(reasons)) for name, why in reasons.items()}
    tested = differences[[name for name, why in reasons.items() if not why]]
    if tested.empty:
        return list(test_results.values())
    block, left = block_length(tested), spec.stages(len(reasons))
    while True:
        count = left.pop(0)
        means = resampled_means(tested, block, count)
        alone = (1 + (means - tested.mean().to_numpy() >= tested.mean().to_numpy()).sum(axis=0)) / (count + 1)
        p = _stepwise(rivals, losses[tested.columns], block, count) if len(reasons) > 1 else alone
        if not left or not spec.open_after(float(p.min()), count):
            break
    by_tail = [spec.unresolved(value, count) for value in map(float, p)]
    for place, name in enumerate(map(str, tested)):
        if by_tail[place]:
            alone[place] = tail(target, rival, forecasts[name], spec.margin)
            p[place] = min(1.0, alone[place] * len(reasons))
    error = float(((target - rival) ** 2).mean())
    margin = error * ((1 + spec.margin) ** 2 - 1)
    power = float(norm.ppf(1 - spec.alpha / len(reasons)) + norm.ppf(POWER))
    for place, name in enumerate(map(str, tested)):
        low, high = np.quantile(means[:, place], [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]) - margin
        test_results[name] = replace(
            test_results[name],
            p=float(p[place]),
            p_alone=float(alone[place]),
            gain=_gain(float(plain[name].mean()), error),
            low=_gain(float(low), error),
            high=_gain(float(high), error),
            detectable=0.5 * power * float(means[:, place].std(ddof=1)) / error if error else math.nan,
            block=block,
            resamples=count,
            tail=by_tail[place],
        )
    return list(test_results.values())


def tail(target: pd.Series, rival: pd.Series, forecast: pd.Series, margin: float = 0.0) -> float:
    """Return p by the tail of Student's distribution: the larger one of Diebold and Mariano's test with lags and without.

    Over a few hundred days the variance with statsmodels' lags is so noisy
    that p of 1e-5 comes several times too often; without lags nothing is seen
    of days that depend on each other.
    """
    worse = target - (1 + margin) * (target - rival)
    return max(diebold_mariano_p(target, worse, forecast, lags=lags)[1] for lags in (None, 0))


def diebold_mariano_p(
    target: pd.Series, rival: pd.Series, forecast: pd.Series, *, lags: int | None = None
) -> tuple[float, float]:
    """Return statistic and p of Diebold and Mariano's test, by statsmodels, with Harvey, Leybourne and Newbold's correction.

    statsmodels' two-sided p is halved towards the better forecast. What is
    too small for a float is the smallest one, as p is never zero.
    """
    from statsmodels.tsa.stattools import diebold_mariano_test

    found = diebold_mariano_test(target, rival, forecast, lags=lags, harvey_adj=True)
    half = float(found.pvalue) / 2
    return float(found.statistic), max(half if found.statistic > 0 else 1 - half, sys.float_info.min)


def _stepwise(rivals: pd.Series, losses: pd.DataFrame, block: int, resamples: int) -> np.ndarray:
    """Return p of each forecast, adjusted for all that were tested: the level at which the steps reach it.

    These are the steps of arch's StepM, which itself fails where they end
    with every forecast found superior, and which knows no p.
    """
    from arch.bootstrap import SPA

    spa = SPA(rivals, losses, block_size=block, reps=resamples, seed=SEED)
    left, adjusted, largest = np.ones(losses.shape[1], dtype=bool), np.ones(losses.shape[1]), 0.0
    for place in np.argsort(losses.mean().to_numpy(), kind="stable"):
        spa.subset(left)
        spa.compute()
        exceeded = round(float(spa.pvalues["consistent"]) * resamples)
        largest = max(largest, (1 + exceeded) / (resamples + 1))
        adjusted[place] = largest
        left[place] = False
    return adjusted


def _gain(difference: float, error: float) -> float:
    """Return by which fraction an RMSE lies below one whose square is ``error``, given the difference of the squares."""
    return 1 - math.sqrt(max(0.0, 1 - difference / error)) if error else math.nan


def _column_means(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.full(len(values), 1 / len(values)) @ values)  # several times faster than mean(axis=0)
