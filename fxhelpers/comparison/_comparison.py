"""What was measured and tested on one evaluation frame: for the policy, for figures, for people and as JSON."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from fxhelpers import metrics
from fxhelpers.comparison._frame import MEAN, MOVED, TARGET, ZERO, EvaluationFrame, column
from fxhelpers.comparison._tests import (
    TestResult,
    TestSpec,
    bootstrap_test,
    saved_so_far,
    squared_errors,
)
from fxhelpers.display import shown_as
from fxhelpers.measures import MEANINGS, MEASURES

_REGISTERED = {
    "val_rmse": ("validation RMSE", "{:.3%}"),
    "val_rmse_zero": ("validation RMSE of forecasting zero", "{:.3%}"),
    "val_mae": ("validation MAE", "{:.3%}"),
    "val_direction_accuracy": ("validation hit rate", "{:.1%}"),
    "test_rmse": ("test RMSE", "{:.3%}"),
    "test_rmse_zero": ("test RMSE of forecasting zero", "{:.3%}"),
    "test_mae": ("test MAE", "{:.3%}"),
    "direction_accuracy": ("test hit rate", "{:.1%}"),
    "iterations": ("iterations", "{:.0f}"),
    "training_time": ("seconds of training", "{:.2f}"),
}

QUARTER = 63  # trading days: after so many, a recipe is refitted for its rolling-origin forecasts
_QUARTERS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Measures and tests of all forecasts of one evaluation frame."""

    frame: EvaluationFrame  # what was measured
    measures: pd.DataFrame  # one row per forecast, one column per measure of ``fxhelpers.measures``
    test_results: tuple[TestResult, ...]  # those of the challenger first, then those of others tested at the same time
    # RMSE by third of the days, by the volatility known on each: ``days`` and one column per forecast; empty with too few days
    regimes: pd.DataFrame
    best: list[str]  # the model confidence set, if there are several challengers
    cost: float  # of trading, as a fraction of the value traded

    @property
    def challenger(self) -> str:
        """Its row and column."""
        return column(self.frame.challenger)

    @property
    def champion(self) -> str | None:
        """The champion's row and column; None without one."""
        return self.frame.rival("champion")

    @property
    def versions(self) -> list[str]:
        """Rows and columns of all versions: the challenger, the champion, the others."""
        first, *others = self.frame.challengers
        return [name for name in (first, self.champion, *others) if name]

    @property
    def registered(self) -> dict[str, dict[str, float]]:
        """The metrics that each version was registered with, by its row and column."""
        return {column(version): facts.get("metrics", {}) for version, facts in self.frame.facts.items()}

    @property
    def target(self) -> pd.Series:
        """Next-day returns, as fractions."""
        return self.frame.days[TARGET]

    @property
    def forecast(self) -> pd.Series:
        """The challenger's forecasts, as fractions."""
        return self.frame.days[self.challenger]

    @property
    def first_day(self) -> str:
        """First day compared, YYYY-MM-DD."""
        return f"{self.frame.days.index[0]:%Y-%m-%d}"

    @property
    def last_day(self) -> str:
        """Last day compared, YYYY-MM-DD."""
        return f"{self.frame.days.index[-1]:%Y-%m-%d}"

    @property
    def bootstraps(self) -> list[TestResult]:
        """The results that measure by how much a forecast is better than a rival."""
        return [a for a in self.test_results if a.spec.test == "stationary_bootstrap" and not a.spec.margin]

    def rivals(self) -> list[str]:
        """Return what the challenger is measured against: the champion, if there is one, and zero."""
        return [self.champion, ZERO] if self.champion else [ZERO]

    def rival(self, versus: str | None) -> str | None:
        """Return the column that a policy's ``versus`` names; None without one, as without a champion."""
        return self.frame.rival(versus)

    def test_result(self, test: str, versus: str | None = None, *, margin: float = 0.0) -> TestResult | None:
        """Return the result of a test of the challenger; None if it was not required."""
        own = (found for found in self.test_results if found.forecast == self.challenger)
        return next((a for a in own if (a.spec.test, a.spec.versus, a.spec.margin) == (test, versus, margin)), None)

    def loss_difference(self, versus: str) -> pd.DataFrame:
        """Return the squared error ``saved`` so far against a column, by day, in squared fractions of return; rising is better.

        ``low`` and ``high`` enclose 95 % of the paths of days without any
        difference; NaN if these cannot be resampled.
        """
        return loss_saved(self.target, self.frame.days[versus], self.forecast)

    def rolling(self, window: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return, over the last trading days, each version's RMSE as a ratio to that of zero, and its hit rate, by day.

        A ratio below 1 is better than forecasting zero; hit rates are fractions
        of the days on which the price moved.
        """
        days, names = self.frame.days, self.versions
        squared = squared_errors(self.target, days[[*names, ZERO]]).rolling(window).mean().dropna() ** 0.5
        moved = (self.target != 0).rolling(window).sum()
        right = days[names].apply(lambda forecast: (np.sign(forecast) == np.sign(self.target)) & (self.target != 0))
        hits = right.rolling(window).sum().div(moved.where(moved > 0), axis=0).iloc[window - 1 :]
        return squared[names].div(squared[ZERO], axis=0), hits

    def gains(self) -> pd.DataFrame:
        """Return how far each challenger's RMSE is below its rivals', one row per pair of columns ``forecast`` and ``versus``.

        ``gain``, ``low``, ``high`` and ``detectable`` (NaN if these days can show
        nothing) are fractions of the rival's RMSE.
        """
        rows = [(a.forecast, self.rival(a.spec.versus), a.gain, a.low, a.high, a.shows, a.p) for a in self.bootstraps]
        return pd.DataFrame(rows, columns=["forecast", "versus", "gain", "low", "high", "detectable", "p"])

    def errors(self) -> pd.DataFrame:
        """Return each version's errors (return minus forecast, fractions), sorted, next to standard ``normal`` quantiles."""
        count = len(self.target)
        normal = norm.ppf((np.arange(count) + 0.5) / count)
        versions = {name: np.sort((self.target - self.frame.days[name]).to_numpy()) for name in self.versions}
        return pd.DataFrame({"normal": normal, **versions})

    def strategies(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return what one unit of capital became by following each forecast's sign, and its drawdown, net of costs, by day.

        Columns: the versions, and ``mean training return``, which mostly means
        to hold the share.
        """
        names = [*self.versions, MEAN]
        net = {n: metrics.sign_strategy(self.target, self.frame.days[n], cost=self.cost)["net"] for n in names}
        return (1 + pd.DataFrame(net)).cumprod(), pd.DataFrame(net).apply(metrics.drawdown)

    def to_frame(self) -> pd.DataFrame:
        """Return the measures with readable names, one column per forecast, for people."""
        roles = {self.challenger: "challenger", self.champion: "champion", ZERO: "baseline", MEAN: "baseline"}
        names = [*self.versions, *(name for name in (ZERO, MEAN) if name in self.measures.index)]
        whole = self.measures.join(self.frame.footprint)
        rows = {
            known.heading: [shown_as(whole[key][name], known.form) for name in names]
            for key, known in MEASURES.items()
            if key in whole
        }
        heads = [f"{name} ({roles.get(name, 'challenger too')})" for name in names]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=heads)
        return table[(table != "-").any(axis=1)].rename_axis(columns="measure")

    def tests_frame(self) -> pd.DataFrame:
        """Return the results of the tests, one row each, for people."""
        columns = ["test", "of", "against", "gain", "p", "95 % interval", "detectable", "resamples"]
        table = pd.DataFrame([self._test_row(found) for found in self.test_results], columns=columns)
        table = table.set_index("test").rename_axis(index=None, columns="test")
        return table if self.frame.others else table.drop(columns="of")

    def _test_row(self, found: TestResult) -> tuple[str, ...]:
        margin = f", not worse by {found.spec.margin:.3g}" if found.spec.margin else ""
        drawn = f"{found.resamples:,}, blocks of {found.block}" if found.resamples else "-"
        return (
            found.spec.test.replace("_", " "),
            found.forecast,
            (self.rival(found.spec.versus) or "chance") + margin,
            shown_as(found.gain, "{:+.3%}"),
            f"not made: {found.why}" if found.why else shown_as(found.p, "{:.4f}"),
            f"{found.low:+.2%} to {found.high:+.2%}" if math.isfinite(found.low) else "-",
            "none" if found.resamples and math.isnan(found.shows) else shown_as(found.shows, "{:.2%}"),
            f"{drawn}; too few for the level: p from Student's tail" if found.tail else drawn,
        )

    def terms(self) -> dict[str, str]:
        """Return definitions of the labels in these tables, for tooltips."""
        return {
            **{MEASURES[key].heading: meaning for key, meaning in MEANINGS.items()},
            "gain": "RMSE below the rival's, as a share of it; positive is better",
            "p": "probability of a difference at least this large if the two forecasts were equally good",
            "detectable": "gain that the test detects with 80 % power on these days",
            "resamples": "of blocks of days, with their mean length: blocks keep the dependence between days",
            "volatility": "standard deviation of the 20 returns before each day, in thirds of the days",
        }

    def regimes_frame(self) -> pd.DataFrame:
        """Return the RMSE of each third of the days, and the number of days without a third, for people."""
        table = self.regimes.map(lambda value: f"{value:.3%}")
        if not table.empty:
            counted = self.regimes["days"].astype(int)
            table["days"] = counted.astype(str)
            left = len(self.target) - counted.sum()
            table.loc["unknown: no 20 returns before"] = [str(left), *["-"] * (table.shape[1] - 1)]
        return table.rename_axis(index=None, columns="volatility")

    @property
    def recent(self) -> list[float]:
        """RMSE over that of forecasting zero in each of the last three quarters (63 days), the latest first; lower is better.

        A quarter that began before the first day is left out, unless it is the only one; NaN if no price moved in it.
        """
        days = self.frame.days
        ends = [len(days) - QUARTER * back for back in range(_QUARTERS)]
        parts = [days.iloc[max(0, end - QUARTER) : end] for end in ends if end >= QUARTER or end == len(days)]
        return [metrics.rmse(part[TARGET], part[self.challenger]) / (_rmse_of_zero(part) or math.nan) for part in parts]

    @property
    def gain_since(self) -> tuple[int, float]:
        """Number of days since the challenger's recipe was first registered, and its gain over its first rival on these."""
        days = self.frame.days
        later = days[days.index >= pd.Timestamp(self.frame.since)] if self.frame.since else days.iloc[:0]
        return len(later), self._gain_on(later)

    def _gain_on(self, days: pd.DataFrame) -> float:
        """Return by how much the challenger's RMSE is below its first rival's on some days, as a fraction of that."""
        rival = metrics.rmse(days[TARGET], days[self.rivals()[0]]) if len(days) else 0.0
        return 1 - metrics.rmse(days[TARGET], days[self.challenger]) / rival if rival else math.nan

    def since_frame(self) -> pd.DataFrame:
        """Return RMSE and gain before and since the challenger's recipe was first registered, for people; empty if unknown.

        Days before may have been used to think the recipe up, which nobody can check.
        """
        if not self.frame.since:
            return pd.DataFrame()
        days, rival = self.frame.days, self.rivals()[0]
        known = days.index >= pd.Timestamp(self.frame.since)
        rows = {}
        for when, part in (("before", days[~known]), ("since", days[known])):
            errors = {name: metrics.rmse(part[TARGET], part[name]) if len(part) else None for name in (self.challenger, rival)}
            shown = {name: shown_as(error, "{:.3%}") for name, error in errors.items()}
            rows[f"{when} {self.frame.since}"] = {
                "days": f"{len(part):,}",
                **shown,
                "gain": shown_as(self._gain_on(part), "{:+.3%}"),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="recipe registered")

    def days_frame(self) -> pd.DataFrame:
        """Return which days each version has seen, how that is known, and how many stored forecasts it reproduces."""
        rows = {}
        for version, facts in self.frame.facts.items():
            windows, seen = facts["windows"], facts["seen"]
            again, stored = self.frame.replayed.get(version, (0, 0))
            rows[column(version)] = {
                **{name: f"{windows[name]['first_day']} to {windows[name]['last_day']}" for name in windows},
                "last day seen": seen["last_day"],
                "which is": seen["basis"],
                "stored forecasts that came out again": f"{again} of {stored}" if stored else "none were stored",
                **({"prices since its training": self.frame.restated[version]} if version in self.frame.restated else {}),
                **(
                    {"largest move of a stored forecast": f"{size:.2g} standard deviations"}
                    if (size := self.frame.moved.get(version, 0.0)) > MOVED
                    else {}
                ),
            }
        return pd.DataFrame.from_dict(rows, orient="index").fillna("-")

    def to_json(self) -> dict[str, Any]:
        """Return all that was measured and tested, for JSON."""
        frame = self.frame
        return {
            "symbol": frame.symbol,
            "challenger": frame.challenger,
            "champion": frame.champion,
            "challengers": [frame.challenger, *frame.others],
            "window": {"first_day": self.first_day, "last_day": self.last_day, "days": len(frame.days)},
            "frame_sha256": frame.digest,
            "cost": self.cost,
            "seen": {column(version): facts["seen"] for version, facts in frame.facts.items() if "seen" in facts},
            "replayed": {column(version): list(counts) for version, counts in frame.replayed.items()},
            **({"restated": {column(v): why for v, why in frame.restated.items()}} if frame.restated else {}),
            **({"moved": {column(v): size for v, size in frame.moved.items()}} if any(frame.moved.values()) else {}),
            "prices": {
                "doubts": {doubt: list(days) for doubt, days in frame.doubts.items()},
                "sample": frame.sample,
                "sessions_since": frame.sessions_since,
            },
            "measures": measures_json(self.measures),
            "tests": [test_result.to_json() for test_result in self.test_results],
            "confidence_set": self.best,
            "regimes": measures_json(self.regimes),
            "drift": measures_json(frame.drift),
            "footprint": measures_json(frame.footprint),
            **frame.origin(),
            **(
                {"recent_rmse_to_zero": [r if math.isfinite(r) else None for r in self.recent]} if frame.kind == "refresh" else {}
            ),
        }

    def registered_metrics(self) -> pd.DataFrame:
        """Return the validation and test metrics that each version was registered with, for people."""
        rows = {
            label: {name: shown_as(found.get(key), form) for name, found in self.registered.items()}
            for key, (label, form) in _REGISTERED.items()
            if any(found.get(key) is not None for found in self.registered.values())
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="metric")


def _rmse_of_zero(days: pd.DataFrame) -> float:
    return metrics.rmse(days[TARGET], days[ZERO])


def loss_saved(target: pd.Series, rival: pd.Series, forecast: pd.Series) -> pd.DataFrame:
    """Return what :meth:`Comparison.loss_difference` does, of any forecast and rival; all are fractions of return by day."""
    return saved_so_far((target - rival) ** 2 - (target - forecast) ** 2)


def over_zero(target: pd.Series, forecast: pd.Series, days: str) -> dict[str, str]:
    """Compare forecasts with zero on the same ``days``, such as ``validation``, for the card of a report.

    ``result``: better than zero, worse than zero or inconclusive, by the 95 %
    interval of the gain; ``answer``: a sentence with the numbers.
    """
    spec = TestSpec(test="stationary_bootstrap", versus="zero_return")
    (found,) = bootstrap_test(target, target * 0.0, forecast.to_frame("forecast"), spec)
    error = f"RMSE {metrics.rmse(target, forecast):.3%} on {len(target)} {days} days"
    if not math.isfinite(found.low):
        return {"result": "inconclusive", "answer": f"Not tested: {found.why or 'there is no interval'}. {error}."}
    result = "better than zero" if found.low > 0 else "worse than zero" if found.high < 0 else "inconclusive"
    words = {"inconclusive": "Not shown: the interval contains zero"}.get(result, f"{result.capitalize()} return")
    gain = f"gain over forecasting zero {found.gain:+.2%} (95 % interval {found.low:+.2%} to {found.high:+.2%})"
    return {"result": result, "answer": f"{words}. {error}, {gain}."}


def measures_json(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return rows and columns for JSON, with None for numbers that are not finite."""
    rows = table.to_dict(orient="index")
    return {str(row): {str(k): v if math.isfinite(v) else None for k, v in values.items()} for row, values in rows.items()}
