"""Statistical tests of forecasts against rivals: specifications, results, bootstrap, Diebold-Mariano, Pesaran-Timmermann."""

import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm

SEED = 0  # of every bootstrap: fixed, so that no one can search for a favorable one
RESAMPLES = 10_000
MAX_RESAMPLES = 1_000_000  # a level that would need more is tested by the tail of a distribution instead
MIN_EXCEEDANCES = 5  # resamples expected beyond the level before p is compared with it
MIN_DAYS = 30  # fewest days to test on
INTERVAL = 0.95  # coverage of the reported intervals
POWER = 0.8  # at which the detectable gain is computed
_MIN_BLOCK = 5

TestName = Literal["stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSpec:
    __test__ = False  # for pytest

    test: TestName
    versus: str | None = None  # "champion", "zero_return" or "mean_training_return"; None for the Pesaran-Timmermann test
    margin: float = 0.0  # non-inferiority margin: the rival's RMSE is multiplied by 1 + margin
    alpha: float = 0.05  # level, after division by what earlier attempts have spent
    resamples: int = RESAMPLES  # fewest resamples of the bootstrap

    def stages(self, challengers: int) -> list[int]:
        """Return the numbers of resamples to draw in turn, as long as it stays open whether p is below alpha.

        Earlier attempts may have left so little of alpha that the first number
        cannot show it. If no possible number could, only the first is drawn.
        """
        needed = math.ceil(MIN_EXCEEDANCES / self.alpha)
        if not self.resamples < needed <= MAX_RESAMPLES // challengers:
            return [self.resamples]
        powers = range(math.ceil(math.log10(needed / self.resamples)))
        return [*(self.resamples * 10**power for power in powers), needed]

    def open_after(self, p: float, resamples: int) -> bool:
        """Return whether more resamples could still bring p below alpha, as so few of these exceeded."""
        return p * (resamples + 1) <= max(MIN_EXCEEDANCES, 10 * self.alpha * resamples)

    def unresolved(self, p: float, resamples: int) -> bool:
        """Return whether p is still open because there are too few resamples for alpha."""
        return self.open_after(p, resamples) and resamples * self.alpha < MIN_EXCEEDANCES


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    __test__ = False  # for pytest

    spec: TestSpec
    forecast: str  # column of the frame that is tested
    p: float = math.nan  # one-sided; adjusted for the number of challengers; NaN if the test was not made
    why: str = ""  # why it was not made; "" if it was
    statistic: float = math.nan  # NaN for a bootstrap
    p_alone: float = math.nan  # p without the adjustment
    gain: float = math.nan  # fraction by which the RMSE is below the rival's, and its 95 % interval; bootstrap only
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan  # true gain that the test detects with 80 % power on these days, at this level
    block: int = 0  # mean length of the bootstrap's blocks, in days
    resamples: int = 0  # resamples drawn; 0 for a test that draws none
    tail: bool = False  # whether these were too few for the level, so that p comes from the tail of Student's distribution
    challengers: int = 1  # number of challengers tested at once; ``family`` in JSON

    @property
    def shows(self) -> float:
        """The detectable gain; NaN if it exceeds the rival's whole squared error, so that no gain can be detected."""
        return self.detectable if 2 * self.detectable < 1 else math.nan

    def detects(self, rival: str) -> str:
        """Return the gain over a rival that the days can detect, as a part of a sentence."""
        if math.isnan(self.shows):
            why = "with errors of this size it would have to exceed 100 %, which is impossible"
            return f"no gain over {rival} can be detected: {why}"
        return f"80 % power to detect a gain of {100 * self.shows:.3g} % over {rival}"

    def to_json(self) -> dict[str, Any]:
        """Return all fields, with None for numbers that are not finite."""
        whole = asdict(self)
        whole |= {"family": whole.pop("challengers"), **whole.pop("spec"), "seed": SEED if self.resamples else None}
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in whole.items()}


def squared_errors(target: pd.Series, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return each forecast's squared error of each day, as squared fractions of return."""
    return forecasts.rsub(target, axis=0) ** 2


def untestable(difference: pd.Series) -> str:
    """Return why a loss difference (rival minus forecast) cannot be tested; "" if it can."""
    values = difference.to_numpy()
    if wrong := int((~np.isfinite(values)).sum()):
        return f"not finite on {wrong} of {len(values)} days"
    with np.errstate(over="ignore"):
        if not np.isfinite(np.sum(values**4)):
            return "the errors are too large to be compared"
    if len(values) < MIN_DAYS:
        return f"{len(values)} days, a test needs at least {MIN_DAYS}"
    if not values.any():
        return "the two make the same errors on every day"
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return "the difference is the same on every day"
    return ""


def block_length(differences: pd.DataFrame) -> int:
    """Return the mean block length, in days, that preserves the dependence of days in every column, at least 5.

    Politis and White (2004), doi:10.1081/ETC-120028836, as arch computes it.
    """
    from arch.bootstrap import optimal_block_length

    return max(_MIN_BLOCK, math.ceil(float(optimal_block_length(differences)["stationary"].max())))


def resampled_means(differences: pd.DataFrame, block: int, resamples: int) -> np.ndarray:
    """Return the means of resampled days, one row per sample: Politis and Romano's stationary bootstrap, from arch."""
    from arch.bootstrap import StationaryBootstrap

    one = differences.shape[1] == 1
    drawn = StationaryBootstrap(block, differences.to_numpy()[:, 0] if one else differences.to_numpy(), seed=SEED)
    return np.asarray(drawn.apply(np.mean if one else _column_means, resamples))


def _column_means(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.full(len(values), 1 / len(values)) @ values)  # several times faster than mean(axis=0)


def resampled_paths(difference: pd.Series, resamples: int = 2_000) -> np.ndarray:
    """Return running sums of resampled days under the hypothesis of no difference, one row per sample."""
    from arch.bootstrap import StationaryBootstrap

    centred = (difference - difference.mean()).to_numpy()
    drawn = StationaryBootstrap(block_length(difference.to_frame()), centred, seed=SEED)
    return np.asarray(drawn.apply(np.cumsum, resamples))


def saved_so_far(difference: pd.Series) -> pd.DataFrame:
    """Return the running sum of a loss difference, ``saved``, by day; rising is better.

    ``low`` and ``high`` enclose 95 % of the paths of days without any
    difference; NaN if these cannot be resampled.
    """
    low = high = np.full(len(difference), math.nan)
    if not untestable(difference):
        paths = np.ascontiguousarray(resampled_paths(difference).T)
        low, high = np.quantile(paths, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=1, overwrite_input=True)
    return pd.DataFrame({"saved": difference.cumsum(), "low": low, "high": high})


def bootstrap_test(target: pd.Series, rival: pd.Series, forecasts: pd.DataFrame, spec: TestSpec) -> list[TestResult]:
    """Test whether forecasts have a lower mean squared error than a rival.

    One forecast is tested by the stationary bootstrap of the mean difference;
    several by Hansen's test of superior predictive ability and the steps of
    Romano and Wolf, both from arch, which adjust ``p`` for their number. If
    the level is finer than ``MAX_RESAMPLES`` can show and hardly any resample
    exceeds, ``p`` comes from :func:`tail`, times the number of forecasts.

    All values are fractions of return on one index. Returns one result per
    column of ``forecasts``, in their order.
    """
    squared = (target - rival) ** 2
    rivals, losses = squared * (1 + spec.margin) ** 2, squared_errors(target, forecasts)
    differences = losses.rsub(rivals, axis=0)
    plain = losses.rsub(squared, axis=0)  # with a margin, identical forecasts would differ by it
    reasons = {str(name): untestable(plain[name]) or untestable(differences[name]) for name in forecasts}
    count = len(reasons)
    results = {name: TestResult(spec=spec, forecast=name, why=why, challengers=count) for name, why in reasons.items()}
    tested = differences[[name for name, why in reasons.items() if not why]]
    if tested.empty:
        return list(results.values())
    block = block_length(tested)
    means, alone, adjusted = p_values(rivals, losses[tested.columns], block, spec, count)
    error = float(squared.mean())
    margin = error * ((1 + spec.margin) ** 2 - 1)
    power = float(norm.ppf(1 - spec.alpha / count) + norm.ppf(POWER))
    for place, name in enumerate(map(str, tested)):
        p_alone, p = float(alone[place]), float(adjusted[place])
        by_tail = spec.unresolved(p, len(means))
        if by_tail:
            p_alone = tail(target, rival, forecasts[name], spec.margin)
            p = min(1.0, p_alone * count)
        low, high = np.quantile(means[:, place], [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]) - margin
        results[name] = replace(
            results[name],
            p=p,
            p_alone=p_alone,
            gain=relative_gain(float(plain[name].mean()), error),
            low=relative_gain(float(low), error),
            high=relative_gain(float(high), error),
            detectable=0.5 * power * float(means[:, place].std(ddof=1)) / error if error else math.nan,
            block=block,
            resamples=len(means),
            tail=by_tail,
        )
    return list(results.values())


def p_values(
    rivals: pd.Series, losses: pd.DataFrame, block: int, spec: TestSpec, challengers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw as many resamples as the level needs; return their means, and p of each forecast, alone and adjusted."""
    differences, stages = losses.rsub(rivals, axis=0), spec.stages(challengers)
    observed = differences.mean().to_numpy()
    while True:
        resamples = stages.pop(0)
        means = resampled_means(differences, block, resamples)
        alone = (1 + (means - observed >= observed).sum(axis=0)) / (resamples + 1)
        adjusted = _stepwise(rivals, losses, block, resamples) if challengers > 1 else alone
        if not stages or not spec.open_after(float(adjusted.min()), resamples):
            return means, alone, adjusted


def _stepwise(rivals: pd.Series, losses: pd.DataFrame, block: int, resamples: int) -> np.ndarray:
    """Return p of each forecast, adjusted for all that were tested: the level at which the steps reach it.

    These are the steps of arch's StepM, which itself fails if they end with
    every forecast found superior, and which returns no p.
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


def relative_gain(difference: float, error: float) -> float:
    """Return the fraction by which an RMSE is below ``sqrt(error)``, given the difference of the squares."""
    return 1 - math.sqrt(max(0.0, 1 - difference / error)) if error else math.nan


def tail(target: pd.Series, rival: pd.Series, forecast: pd.Series, margin: float = 0.0) -> float:
    """Return p from the tail of Student's distribution: the larger one of the Diebold-Mariano test with lags and without.

    Over a few hundred days the variance with statsmodels' lags is so noisy
    that p of 1e-5 comes several times too often; without lags the dependence
    of days is ignored.
    """
    worse = target - (1 + margin) * (target - rival)
    return max(_diebold_mariano(target, worse, forecast, lags=lags)[1] for lags in (None, 0))


def _diebold_mariano(target: pd.Series, rival: pd.Series, forecast: pd.Series, *, lags: int | None = None) -> tuple[float, float]:
    """Return statistic and one-sided p, by statsmodels; p is at least the smallest float, as it is never zero."""
    from statsmodels.tsa.stattools import diebold_mariano_test

    found = diebold_mariano_test(target, rival, forecast, lags=lags, harvey_adj=True)
    half = float(found.pvalue) / 2
    return float(found.statistic), max(half if found.statistic > 0 else 1 - half, sys.float_info.min)


def diebold_mariano(target: pd.Series, rival: pd.Series, forecast: pd.Series, spec: TestSpec, challengers: int) -> TestResult:
    """Test equal squared errors: Diebold and Mariano's test with the correction of Harvey, Leybourne and Newbold."""
    result = TestResult(spec=spec, forecast=str(forecast.name), challengers=challengers)
    why = untestable((target - rival) ** 2 - (target - forecast) ** 2)
    return replace(result, why=why) if why else _bonferroni(result, *_diebold_mariano(target, rival, forecast))


def pesaran_timmermann(target: pd.Series, forecast: pd.Series, spec: TestSpec, challengers: int) -> TestResult:
    """Test whether the signs of forecasts and returns are related, by statsmodels."""
    result = TestResult(spec=spec, forecast=str(forecast.name), challengers=challengers)
    for who, values in (("the forecast", forecast), ("the return", target)):
        if (values > 0).all() or not (values > 0).any():
            return replace(result, why=f"{who} has the same sign on every day")
    if len(target) < MIN_DAYS:
        return replace(result, why=f"{len(target)} days, a test needs at least {MIN_DAYS}")
    from statsmodels.stats.diagnostic import pesaran_timmermann as test

    found = test(target, forecast, "larger")
    return _bonferroni(result, float(found.statistic), max(float(found.pvalue), sys.float_info.min))


def _bonferroni(result: TestResult, statistic: float, p: float) -> TestResult:
    """Adjust p of the best of several challengers for their number."""
    return replace(result, statistic=statistic, p_alone=p, p=min(1.0, p * result.challengers))


def confidence_set(losses: pd.DataFrame, spec: TestSpec) -> list[str]:
    """Return the forecasts that may be the best: Hansen, Lunde and Nason's model confidence set, from arch.

    Forecasts with identical errors are in it together, or not at all; it is
    empty if nothing can be tested.
    """
    from arch.bootstrap import MCS

    twins = {name: next(first for first in losses if losses[first].equals(losses[name])) for name in losses}
    distinct = losses[list(dict.fromkeys(twins.values()))]
    pairs = [distinct[a] - distinct[b] for a in distinct for b in distinct if str(a) < str(b)]
    if not pairs or any(untestable(pair) for pair in pairs):
        return []
    first = distinct.columns[0]
    block = block_length(distinct.drop(columns=first).rsub(distinct[first], axis=0))
    found = MCS(distinct, size=0.05, block_size=block, reps=min(spec.resamples, RESAMPLES), seed=SEED)
    found.compute()
    included = set(found.included)
    return [str(name) for name in losses if twins[name] in included]
