"""Tests of whether the difference between two forecasts could be luck.

All of them are one-sided: a small p says that the forecast is better than its
rival. They come from arch and statsmodels, which fail open where forecasts
are identical or not finite; so each is guarded, and says why where it was not
made. Seeds are fixed: the same days give the same p.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm

SEED = 0
"""Of every bootstrap. It is fixed, so that nobody can look for a lucky one."""

RESAMPLES = 10_000
MOST_RESAMPLES = 1_000_000
"""Beyond these a bootstrap takes too long: a level that needs more cannot be reached."""

MINIMUM_DAYS = 30
"""With fewer days no test is made."""

INTERVAL = 0.95
"""Coverage of the intervals that are shown."""

POWER = 0.8
"""How often the detectable gain would be detected."""

TestName = Literal["stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"]

_SHORTEST_BLOCK = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
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
        """Return how many resamples to draw, and how many more if those leave it open whether p lies below alpha.

        Earlier attempts may have left so little of alpha that the first ones
        cannot show it; five of the most extreme resamples have to be expected.

        Parameters
        ----------
        family : int
            How many challengers are tested at once.

        Returns
        -------
        list of int
            One number, or two.
        """
        needed = min(MOST_RESAMPLES // family, math.ceil(5 / self.alpha))
        return [self.resamples] if needed <= self.resamples else [self.resamples, needed]

    def open_after(self, p: float, resamples: int) -> bool:
        """Tell whether more resamples could still bring p below alpha.

        Parameters
        ----------
        p : float
            As the first resamples have it.
        resamples : int
            How many these were.

        Returns
        -------
        bool
        """
        return p * (resamples + 1) <= max(5, 10 * self.alpha * resamples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
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
        The true gain that this many days would show four times out of five,
        at this level.
    block : int
        Mean length of the bootstrap's blocks, in days.
    resamples : int
        0 for a test that draws none.
    family : int
        How many challengers were tested at once.
    """

    question: Question
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
    family: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return all of it with None where there is no number."""
        whole = asdict(self)
        whole |= whole.pop("question")
        whole["seed"] = SEED if self.resamples else None
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in whole.items()}


def squared_errors(target: pd.Series, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return each forecast's squared error of each day.

    Parameters
    ----------
    target : Series of shape (n_days,)
        Next-day returns, as fractions.
    forecasts : DataFrame of shape (n_days, n_forecasts)
        On the same index.

    Returns
    -------
    DataFrame of shape (n_days, n_forecasts)
        Squared fractions of return.
    """
    return forecasts.rsub(target, axis=0) ** 2


def untestable(difference: pd.Series) -> str:
    """Return why a difference of losses cannot be tested; "" where it can.

    Parameters
    ----------
    difference : Series of shape (n_days,)
        Loss of the rival minus loss of the forecast.

    Returns
    -------
    str
    """
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
    """Return the mean length of blocks that keeps how days depend on each other, at least 5.

    Politis and White (2004), doi:10.1081/ETC-120028836, as arch computes it.

    Parameters
    ----------
    differences : DataFrame of shape (n_days, n_forecasts)
        Differences of losses that can be tested.

    Returns
    -------
    int
        Of the column that needs the longest, in days.
    """
    from arch.bootstrap import optimal_block_length

    longest = float(optimal_block_length(differences)["stationary"].max())
    return max(_SHORTEST_BLOCK, math.ceil(longest))


def resampled_means(differences: pd.DataFrame, block: int, resamples: int) -> np.ndarray:
    """Return the means of resampled days: Politis and Romano's stationary bootstrap, from arch.

    Parameters
    ----------
    differences : DataFrame of shape (n_days, n_forecasts)
        Differences of losses.
    block : int
        Mean length of a block, in days.
    resamples : int
        How many.

    Returns
    -------
    ndarray of shape (resamples, n_forecasts)
    """
    from arch.bootstrap import StationaryBootstrap

    one = differences.shape[1] == 1
    drawn = StationaryBootstrap(block, differences.to_numpy()[:, 0] if one else differences.to_numpy(), seed=SEED)
    return np.asarray(drawn.apply(np.mean if one else _column_means, resamples))


def resampled_paths(difference: pd.Series, resamples: int = 2_000) -> np.ndarray:
    """Return the running sums that resampled days would give if there were no difference.

    Parameters
    ----------
    difference : Series of shape (n_days,)
        Loss of the rival minus loss of the forecast.
    resamples : int
        How many.

    Returns
    -------
    ndarray of shape (resamples, n_days)
    """
    from arch.bootstrap import StationaryBootstrap

    centred = (difference - difference.mean()).to_numpy()
    drawn = StationaryBootstrap(block_length(difference.to_frame()), centred, seed=SEED)
    return np.asarray(drawn.apply(np.cumsum, resamples))


def bootstrap_test(target: pd.Series, rival: pd.Series, forecasts: pd.DataFrame, question: Question) -> list[Answer]:
    """Test whether forecasts have a lower mean squared error than a rival.

    One forecast is tested by the stationary bootstrap of the mean difference.
    Several are tested at once: Hansen's test of superior predictive ability,
    then the steps of Romano and Wolf, both from arch; ``p`` is then adjusted
    for having looked at all of them.

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
    rivals = (target - rival) ** 2 * (1 + question.margin) ** 2
    losses = squared_errors(target, forecasts)
    differences = losses.rsub(rivals, axis=0)
    plain = losses.rsub((target - rival) ** 2, axis=0)  # with a margin, identical forecasts would differ by it
    reasons = {str(name): untestable(plain[name]) or untestable(differences[name]) for name in forecasts}
    answers = {name: Answer(question=question, forecast=name, why=why, family=len(reasons)) for name, why in reasons.items()}
    tested = differences[[name for name, why in reasons.items() if not why]]
    if tested.empty:
        return list(answers.values())
    block, left = block_length(tested), question.stages(len(reasons))
    while True:
        count = left.pop(0)
        means = resampled_means(tested, block, count)
        alone = (1 + (means - tested.mean().to_numpy() >= tested.mean().to_numpy()).sum(axis=0)) / (count + 1)
        p = _stepwise(rivals, losses[tested.columns], block, count) if len(reasons) > 1 else alone
        if not left or not question.open_after(float(p.min()), count):
            break
    error = float(((target - rival) ** 2).mean())
    margin = error * ((1 + question.margin) ** 2 - 1)
    power = float(norm.ppf(1 - question.alpha / len(reasons)) + norm.ppf(POWER))
    for place, name in enumerate(map(str, tested)):
        low, high = np.quantile(means[:, place], [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]) - margin
        answers[name] = replace(
            answers[name],
            p=float(p[place]),
            p_alone=float(alone[place]),
            gain=_gain(float(plain[name].mean()), error),
            low=_gain(float(low), error),
            high=_gain(float(high), error),
            detectable=0.5 * power * float(means[:, place].std(ddof=1)) / error if error else math.nan,
            block=block,
            resamples=count,
        )
    return list(answers.values())


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


def diebold_mariano(target: pd.Series, rival: pd.Series, forecast: pd.Series, question: Question) -> Answer:
    """Test equal squared errors: Diebold and Mariano's test with the correction of Harvey, Leybourne and Newbold.

    Parameters
    ----------
    target, rival, forecast : Series of shape (n_days,)
        Next-day returns and two forecasts of them, as fractions.
    question : Question
        Its margin is not used.

    Returns
    -------
    Answer
        statsmodels' two-sided p is halved towards the better forecast.
    """
    answer = Answer(question=question, forecast=str(forecast.name))
    why = untestable((target - rival) ** 2 - (target - forecast) ** 2)
    if why:
        return replace(answer, why=why)
    from statsmodels.tsa.stattools import diebold_mariano_test

    found = diebold_mariano_test(target, rival, forecast, harvey_adj=True)
    half = float(found.pvalue) / 2
    p = half if found.statistic > 0 else 1 - half
    return replace(answer, p=p, p_alone=p, statistic=float(found.statistic))


def pesaran_timmermann(target: pd.Series, forecast: pd.Series, question: Question) -> Answer:
    """Test whether the signs of forecasts and returns go together, by statsmodels.

    Parameters
    ----------
    target, forecast : Series of shape (n_days,)
        Next-day returns and forecasts of them, as fractions.
    question : Question
        Only kept with the answer.

    Returns
    -------
    Answer
    """
    answer = Answer(question=question, forecast=str(forecast.name))
    for who, values in (("the forecast", forecast), ("the return", target)):
        if (values > 0).all() or not (values > 0).any():
            return replace(answer, why=f"{who} has the same sign on every day")
    if len(target) < MINIMUM_DAYS:
        return replace(answer, why=f"{len(target)} days, a test needs at least {MINIMUM_DAYS}")
    from statsmodels.stats.diagnostic import pesaran_timmermann as tested

    found = tested(target, forecast, "larger")
    return replace(answer, p=float(found.pvalue), p_alone=float(found.pvalue), statistic=float(found.statistic))


def for_family(answer: Answer, family: int) -> Answer:
    """Return an answer about the best of several challengers: by Bonferroni, p times their number.

    Parameters
    ----------
    answer : Answer
        Of a test that knows of one forecast only.
    family : int
        How many challengers there were to choose from.

    Returns
    -------
    Answer
    """
    return replace(answer, p=min(1.0, answer.p * family) if not answer.why else answer.p, family=family)


def confidence_set(losses: pd.DataFrame, question: Question) -> list[str]:
    """Return the forecasts that may be the best: Hansen, Lunde and Nason's model confidence set, from arch.

    Parameters
    ----------
    losses : DataFrame of shape (n_days, n_forecasts)
        Squared errors.
    question : Question
        Level and resamples.

    Returns
    -------
    list of str
        In the order of the columns. Forecasts that make the same errors are
        in it together, or not at all; empty where nothing can be tested.
    """
    from arch.bootstrap import MCS

    twins = {name: next(first for first in losses if losses[first].equals(losses[name])) for name in losses}
    distinct = losses[list(dict.fromkeys(twins.values()))]
    pairs = [distinct[a] - distinct[b] for a in distinct for b in distinct if str(a) < str(b)]
    if not pairs or any(untestable(pair) for pair in pairs):
        return []
    first = distinct.columns[0]
    block = block_length(distinct.drop(columns=first).rsub(distinct[first], axis=0))
    found = MCS(distinct, size=0.05, block_size=block, reps=min(question.resamples, RESAMPLES), seed=SEED)
    found.compute()
    included = set(found.included)
    return [str(name) for name in losses if twins[name] in included]


def _gain(difference: float, error: float) -> float:
    """Return by which fraction an RMSE lies below one whose square is ``error``, given the difference of the squares."""
    return 1 - math.sqrt(max(0.0, 1 - difference / error)) if error else math.nan


def _column_means(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.full(len(values), 1 / len(values)) @ values)  # several times faster than mean(axis=0)
