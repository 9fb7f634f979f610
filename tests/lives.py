"""Lives of five years under the promotion policy, in a market that was made, so that the truth is known.

Each month a recipe is fitted anew, and the refit is offered as a refresh; other recipes are offered as contests. Fits are given
as forecasts of known skill: nothing is trained. ``make lives`` prints the table of ``docs/policy.md``.
"""

import argparse
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Self

import numpy as np
import pandas as pd

from fxhelpers.comparison import MEAN, TARGET, ZERO, EvaluationFrame, column, compare
from fxhelpers.ledger import Attempt, attempt_number, repeated
from fxhelpers.params import PromotionParams
from fxhelpers.policy import decide, judge, policy_digest

LIVES = {"better": 120, "equal": 300, "at once": 300}  # lives of each scenario; shares of lives need more than means
OTHERS = 60  # of each other scenario
BEFORE, LIFE = 756, 1_260  # trading days of prices before the first decision: 504 can be compared; and of a life: five years
MONTH, BLOCK = 21, 63  # trading days between refits, and between the origins of rolling-origin forecasts
FIRST_ORIGIN = 252  # days before the first rolling-origin forecast
SPREAD = 0.015  # standard deviation of the daily returns without signal
BROKEN_SIZE = 0.44**0.5  # of a broken fit's errors, in standard deviations of the returns: RMSE + 20 %
MONTHS = range(BEFORE // MONTH, (BEFORE + LIFE) // MONTH)  # of a life
FIRST = 0, MONTHS[0] - 1  # the first recipe and its last fit before a life: the champion where others contest
FEATURES = 5  # without any relation to the return, which fits mistake for signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the market and the fits are like; shares are fractions of the variance of the returns."""

    name: str
    r2: float = 0.0  # share that the relation explains, on average
    memory: float = math.inf  # days after which half of a deviation of the relation from zero is forgotten
    flips: int = 0  # times that the relation changes its sign in a life
    noise: float = 0.0  # share that a fit adds by mistake
    broken: float = 0.0  # probability that a fit is broken
    better: float = 0.0  # share that a second recipe explains; 0: there is none
    equals: int = 0  # further recipes, as good as the first, each offered in three months: in turn, or
    at_once: int = 1  # so many at a time, once in a bit more than a year


# Sizes of noise, flips and breaks: such that the newest fit and the oracle lose what is stated in the tests.
SCENARIOS = {
    "no skill": Scenario(name="no skill", noise=0.0025),
    "drift": Scenario(name="drift", r2=0.0141, memory=252, noise=0.0002),
    "flip": Scenario(name="flip", r2=0.0087, flips=4, noise=0.0002),
    "breaks": Scenario(name="breaks", r2=0.0090, noise=0.0002, broken=0.0165),
    "better": Scenario(name="better", r2=0.005, noise=0.0002, better=0.05),
    "equal": Scenario(name="equal", r2=0.01, noise=0.0025, equals=20),
    "at once": Scenario(name="at once", r2=0.01, noise=0.0025, equals=20, at_once=4),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """One recipe, with a fit of every month: fit ``m`` has seen the days before day ``MONTH * m``."""

    digest: str
    fits: np.ndarray  # forecasts, as fractions of return: fit by day; those of days before the fit are of days it has seen
    sizes: np.ndarray  # by fit: RMS of its forecasts over RMS of the returns, on the last 63 days that it has seen

    def rolling(self, day: int) -> np.ndarray:
        """Return the rolling-origin forecasts of the days from the first origin up to a day."""
        days = np.arange(FIRST_ORIGIN, day)
        return self.fits[(days // BLOCK) * (BLOCK // MONTH), days]


@dataclass(frozen=True, kw_only=True, eq=False)
class Market:
    """Returns of one life, and the recipes of its team."""

    days: pd.DatetimeIndex
    returns: np.ndarray
    best: np.ndarray  # expected returns, which nobody knows
    recipes: list[Recipe]  # the first serves first
    offered: dict[int, list[int]]  # by month: recipes that contest

    @classmethod
    def made(cls, scenario: Scenario, seed: int) -> "Market":
        rng = np.random.default_rng([seed, 7])
        days = BEFORE + LIFE
        relation = _relation(scenario, rng, days)
        signal, more = rng.standard_normal((2, days))
        extra = SPREAD * math.sqrt(max(0.0, scenario.better - scenario.r2))
        best = relation * signal + extra * more
        returns = best + garch(rng, days)
        recipes = [_recipe(scenario, rng, returns, relation=relation, signal=signal)]
        offered: dict[int, list[int]] = {}
        if scenario.better:
            recipes.append(_recipe(scenario, rng, returns, relation=relation, signal=signal, more=extra * more))
            arrives = int(rng.integers(6, 36))
            offered = {month: [1] for month in MONTHS[arrives : arrives + 13]}  # for a year
        for number in range(1, 1 + scenario.equals):
            recipes.append(_recipe(scenario, rng, returns, relation=relation, signal=signal))
            begins = 13 * ((number - 1) // scenario.at_once) if scenario.at_once > 1 else 3 * (number - 1)
            for month in MONTHS[begins : begins + 3]:  # within 63 days: one attempt
                offered.setdefault(month, []).append(number)
        index = pd.bdate_range("2010-01-04", periods=days)
        return cls(days=index, returns=returns, best=best, recipes=recipes, offered=offered)


def garch(rng: np.random.Generator, days: int, shocks: np.ndarray | None = None) -> np.ndarray:
    """Return GARCH(1,1) errors, by default with Student's t innovations of five degrees of freedom, else of 250 days more."""
    shocks = rng.standard_t(5, days + 250) * math.sqrt(3 / 5) if shocks is None else shocks
    values, variance = np.empty(len(shocks)), 1.0
    for day, shock in enumerate(shocks):
        values[day] = math.sqrt(variance) * shock
        variance = 0.03 + 0.07 * values[day] ** 2 + 0.90 * variance
    return SPREAD * values[250:]


def _relation(scenario: Scenario, rng: np.random.Generator, days: int) -> np.ndarray:
    """Return the coefficient of the signal, by day."""
    size = SPREAD * math.sqrt(scenario.r2)
    if math.isfinite(scenario.memory):
        keeps, values = 0.5 ** (1 / scenario.memory), np.empty(days)
        values[0] = rng.standard_normal()
        for day, shock in enumerate(rng.standard_normal(days - 1), 1):
            values[day] = keeps * values[day - 1] + math.sqrt(1 - keeps**2) * shock
        return size * values
    flips = np.sort(rng.choice(np.arange(BEFORE + BLOCK, days - BLOCK), scenario.flips, replace=False))
    return size * (-1.0) ** np.searchsorted(flips, np.arange(days), side="right")


def _recipe(
    scenario: Scenario,
    rng: np.random.Generator,
    returns: np.ndarray,
    *,
    relation: np.ndarray,
    signal: np.ndarray,
    more: np.ndarray | float = 0.0,
) -> Recipe:
    """Return a recipe whose fits know the relation of the day before them, and add what they mistake for signal."""
    days, months = len(returns), len(returns) // MONTH
    known = relation[np.maximum(0, MONTH * np.arange(months) - 1)]
    mistakes = np.empty((months, FEATURES))
    mistakes[0] = rng.standard_normal(FEATURES)
    for month in range(1, months):  # the next fit has seen most of the same days
        mistakes[month] = 0.9 * mistakes[month - 1] + math.sqrt(1 - 0.9**2) * rng.standard_normal(FEATURES)
    mistakes *= SPREAD * math.sqrt(scenario.noise / FEATURES)
    broken = SPREAD * BROKEN_SIZE * (rng.random(months) < scenario.broken)
    fits = np.outer(known, signal) + more + mistakes @ rng.standard_normal((FEATURES, days))
    fits += np.outer(broken, rng.standard_normal(days))
    ends = MONTH * np.arange(months)
    last = [slice(max(0, end - BLOCK), max(1, end)) for end in ends]
    sizes = [math.sqrt(np.mean(fit[part] ** 2) / np.mean(returns[part] ** 2)) for fit, part in zip(fits, last, strict=True)]
    return Recipe(digest=sha256(fits.tobytes()).hexdigest(), fits=fits, sizes=np.array(sizes))


def hopeless(frame: EvaluationFrame, rules: PromotionParams) -> bool:
    """Return whether gates on errors refuse a challenger, whatever its tests give: then they need not be made."""
    errors = frame.days.rsub(frame.days[TARGET], axis=0).pow(2).mean() ** 0.5
    for gate in rules.gates:
        rival = frame.rival(gate.versus)
        if gate.severity == "fail" and gate.metric == "rmse" and not gate.slice and rival:
            allowed = 1 + (gate.max_regression or 0.0) - (gate.min_improvement or 0.0)
            if errors[column(frame.challenger)] > allowed * errors[rival] * (1 + 1e-9):
                return True
    return False


@dataclass(kw_only=True, eq=False)
class Life:
    """A life under a policy: what serves, who was promoted, and what was refused, each as (recipe, month of the fit)."""

    market: Market
    rules: PromotionParams = field(default_factory=PromotionParams)
    champion: tuple[int, int] | None = None
    attempts: list[Attempt] = field(default_factory=list)
    promoted: list[tuple[int, int]] = field(default_factory=list)  # of other recipes, by contest
    refused: list[tuple[int, int]] = field(default_factory=list)  # refreshes
    # forecasts that served on each day of the life, as fractions of return; 0 without a champion
    served: np.ndarray = field(default_factory=lambda: np.zeros(LIFE))

    def run(self, *, until_promoted: bool = False) -> Self:
        """Live all months, or until another recipe is promoted."""
        for month in MONTHS:
            self.decide(month)
            if self.champion:
                self.serve(month, *self.champion)
            if until_promoted and self.promoted:
                break
        return self

    def serve(self, month: int, recipe: int, fit: int) -> None:
        days = slice(MONTH * month, MONTH * (month + 1))
        self.served[days.start - BEFORE : days.stop - BEFORE] = self.market.recipes[recipe].fits[fit, days]

    def decide(self, month: int) -> None:
        """Offer a refit of the champion's recipe, or of the first one without a champion, and then what contests."""
        if self.champion is None:
            self.first(month)
        else:
            self.refresh(month)
        for recipe in self.market.offered.get(month, []):
            if self.champion and self.champion[0] != recipe:
                self.contest(month, recipe)

    def first(self, month: int) -> None:
        frame, today = self.frame(month, 0), self.today(month)
        if not hopeless(frame, self.rules) and decide(frame, self.rules, today=today)[1].outcome == "promote":
            self.champion = (0, month)

    def refresh(self, month: int) -> None:
        recipe = self.champion[0] if self.champion else 0
        comparison = compare(self.frame(month, recipe), ())  # no test decides, so that none is made
        if judge(comparison, self.rules, attempt=0, today=self.today(month)).outcome == "promote":
            self.champion = (recipe, month)
        else:
            self.refused.append((recipe, month))

    def contest(self, month: int, recipe: int) -> None:
        frame, today, digest = self.frame(month, recipe), self.today(month), policy_digest(self.rules)
        days, outcome = pd.DatetimeIndex(frame.days.index), "keep"
        year = f"{today - timedelta(days=365)}" if self.rules.attempts == "yearly" else ""
        number = attempt_number(self.attempts, key=frame.recipe, policy=digest, days=days, yearly_from=year)
        if not hopeless(frame, self.rules):
            _, verdict = decide(frame, self.rules, earlier=self.attempts, today=today)
            outcome = verdict.outcome
            assert verdict.attempt == number
        if not repeated(self.attempts, key=frame.recipe, policy=digest, days=days):
            made = Attempt(
                key=frame.recipe, policy=digest, number=number, day=f"{today}", time=f"{today}T21:00:00Z", frame=frame.digest
            )
            self.attempts.append(made)
        if outcome == "promote":
            self.champion = (recipe, month)
            self.promoted.append(self.champion)

    def today(self, month: int) -> date:
        """Return the last day whose return is known; a fit of the month has seen it."""
        return self.market.days[MONTH * month - 1].date()

    def frame(self, month: int, recipe: int) -> EvaluationFrame:
        """Return the evaluation frame of a month's fit of a recipe: the rolling-origin days of both."""
        days, ours = slice(FIRST_ORIGIN, MONTH * month), self.market.recipes[recipe]
        before, number = self.market.returns[:FIRST_ORIGIN], _version(recipe, month)
        columns = {TARGET: self.market.returns[days], ZERO: 0.0, MEAN: before.mean(), column(number): ours.rolling(days.stop)}
        seen, recipes, known = {number: self.today(month)}, {number: ours.digest}, dict[str, Any]()
        if self.champion:
            rival, theirs = _version(*self.champion), self.market.recipes[self.champion[0]]
            seen[rival], recipes[rival] = self.today(self.champion[1]), theirs.digest
            if theirs is ours:
                origins = ours.sizes[FIRST_ORIGIN // MONTH : month : BLOCK // MONTH]
                known = {"refreshes": rival, "size": ours.sizes[month], "sizes": tuple(origins)}
            else:
                known, columns[column(rival)] = {"champion": rival}, theirs.rolling(days.stop)
        return EvaluationFrame(
            symbol="LIFE",
            challenger=number,
            days=pd.DataFrame(columns, index=self.market.days[days]),
            facts={version: {"seen": {"last_day": f"{day}"}} for version, day in seen.items()},
            recipes=recipes,
            sessions_since=0,
            **{"champion": None, **known},
        )


def _version(recipe: int, month: int) -> int:
    return 1 + 1_000 * recipe + month


class Contests(Life):
    """A life without refreshes, which change nothing about contests: these are decided by rolling-origin forecasts."""

    def refresh(self, month: int) -> None:
        """Leave the champion's fit as it is."""


class Newest(Life):
    """The newest fit serves, of the recipe that was offered last, without any test."""

    def decide(self, month: int) -> None:
        recipe = next(reversed(self.market.offered.get(month, [])), self.champion[0] if self.champion else 0)
        if self.champion and recipe != self.champion[0]:
            self.promoted.append((recipe, month))
        self.champion = (recipe, month)


class Never(Life):
    """The first champion serves for ever."""

    def decide(self, month: int) -> None:
        if self.champion is None:
            self.first(month)


def loss(market: Market, served: np.ndarray) -> float:
    """Return by how much what served was worse than forecasting zero, in per cent of the MSE of that; lower is better."""
    returns = market.returns[BEFORE:]
    return 100 * (float(np.mean((returns - served) ** 2)) / float(np.mean(returns**2)) - 1)


def measured(name: str, seed: int, rules: PromotionParams) -> dict[str, float]:
    """Return what one life came to: loss by who decides, or whether and after how many days another recipe was promoted."""
    market = Market.made(SCENARIOS[name], seed)
    if market.offered:
        promoted = Contests(market=market, rules=rules, champion=FIRST).run(until_promoted=True).promoted
        days = MONTH * (promoted[0][1] - min(market.offered)) if promoted else math.inf
        return {"promoted": float(bool(promoted)), "days": days}
    kinds = {"this policy": Life, "newest": Newest, "never refreshed": Never}
    lives = {who: kind(market=market, rules=rules).run() for who, kind in kinds.items()}
    return {**{who: loss(market, life.served) for who, life in lives.items()}, "oracle": loss(market, market.best[BEFORE:])}


def table(names: Iterable[str], scale: float) -> Iterator[str]:
    """Yield the lines of the table, measured on all processors; ``scale`` times as many lives as usual."""
    rules = PromotionParams()
    with ProcessPoolExecutor() as pool:

        def found(name: str, rules: PromotionParams = rules) -> pd.DataFrame:
            lives = range(max(1, round(LIVES.get(name, OTHERS) * scale)))
            return pd.DataFrame(pool.map(partial(measured, name, rules=rules), lives))

        for name in names:
            lives_of = found(name)
            if name == "better":
                soon, later = (lives_of["days"] <= BLOCK).mean(), lives_of["promoted"].mean()
                yield f"{name:10}served within 63 days in {soon:.1%} of lives, within a year in {later:.1%}"
            elif name in {"equal", "at once"}:
                yearly = found(name, rules.model_copy(update={"attempts": "yearly"}))
                for attempts, those in (("spend", lives_of), ("yearly", yearly)):
                    yield f"{name:10}attempts: {attempts:7} a false promotion in {those['promoted'].mean():.1%} of lives"
            else:
                yield from (f"{name:10}{who:16}{of.mean():+.2f} % (se {of.sem():.2f})" for who, of in lives_of.items())


def main() -> None:
    """Print the table: losses against forecasting zero in per cent of its MSE, and promotions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many lives, such as 0.1 to try it")
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS), choices=list(SCENARIOS))
    chosen = parser.parse_args()
    for line in table(chosen.scenarios, chosen.scale):
        print(line, flush=True)


if __name__ == "__main__":
    main()
