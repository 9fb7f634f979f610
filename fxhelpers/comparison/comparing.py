"""Measures and tests of all forecasts of one frame, and what its figures show."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from fxhelpers import metrics
from fxhelpers.comparison.answers import INTERVAL, Answer, Question
from fxhelpers.comparison.bootstrap import bootstrap_test, resampled_paths, squared_errors, untestable
from fxhelpers.comparison.frame import MEAN, TARGET, ZERO, EvaluationFrame, column
from fxhelpers.comparison.significance import confidence_set, diebold_mariano, for_family, pesaran_timmermann
from fxhelpers.errors import NotComparableError
from fxhelpers.measures import MEASURES
from fxhelpers.results import shown_as

VERSUS = {"zero_return": ZERO, "mean_training_return": MEAN}
"""How a policy names the baselines, and the frame's columns."""

STANDARD = (
    Question(test="stationary_bootstrap", versus="champion"),
    Question(test="stationary_bootstrap", versus="zero_return"),
    Question(test="diebold_mariano", versus="champion"),
    Question(test="diebold_mariano", versus="zero_return"),
    Question(test="pesaran_timmermann"),
)
"""Tests that are made in every comparison; those against a champion where there is one."""

REGIMES = ("calm", "middle", "wild")
_VOLATILITY_DAYS = 20
_LEAST_IN_A_REGIME = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Measures and tests of all forecasts of one evaluation frame.

    Attributes
    ----------
    frame : EvaluationFrame
        What was measured.
    measures : DataFrame
        One row a forecast, one column a measure of ``fxhelpers.measures``.
    answers : tuple of Answer
        Of the tests: those of the challenger first, then, where several were
        tested at once, those of the others.
    regimes : DataFrame
        RMSE by third of the days, by the volatility that was known on each:
        ``days`` and one column a forecast. Empty with too few days.
    best : list of str
        The model confidence set, where there are several challengers.
    cost : float
        Of trading, as a fraction of the value traded.
    """

    frame: EvaluationFrame
    measures: pd.DataFrame
    answers: tuple[Answer, ...]
    regimes: pd.DataFrame
    best: list[str]
    cost: float

    @property
    def challenger(self) -> str:
        """The challenger's row and column."""
        return column(self.frame.challenger)

    @property
    def champion(self) -> str | None:
        """The champion's row and column; None without one."""
        return column(self.frame.champion) if self.frame.champion is not None else None

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

    def rivals(self) -> list[str]:
        """Return what the challenger is measured against: the champion where there is one, and zero."""
        return [self.champion, ZERO] if self.champion else [ZERO]

    def rival(self, versus: str | None) -> str | None:
        """Return the column that a policy's ``versus`` names; None where there is none, as without a champion."""
        return self.champion if versus == "champion" else VERSUS.get(str(versus))

    def answer(self, test: str, versus: str | None = None, *, margin: float = 0.0, forecast: str = "") -> Answer | None:
        """Return what a test said of the challenger, or of another forecast; None where it was not asked for."""
        name = forecast or self.challenger
        asked = (test, versus, margin)
        return next(
            (a for a in self.answers if a.forecast == name and (a.question.test, a.question.versus, a.question.margin) == asked),
            None,
        )

    def loss_difference(self, versus: str) -> pd.DataFrame:
        """Return the squared error that the challenger saved so far, and what chance would make of it.

        Parameters
        ----------
        versus : str
            A column of the frame.

        Returns
        -------
        DataFrame of shape (n_days, 3)
            ``saved``, in squared fractions of return: rising is better;
            ``low`` and ``high``: where 95 % of the paths lie that days
            without any difference would give. NaN where that cannot be told.
        """
        difference = (self.target - self.frame.days[versus]) ** 2 - (self.target - self.forecast) ** 2
        low = high = np.full(len(difference), math.nan)
        if not untestable(difference):
            low, high = np.quantile(resampled_paths(difference), [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
        return pd.DataFrame({"saved": difference.cumsum(), "low": low, "high": high})

    def rolling(self, window: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return, over the last days, each version's RMSE as a ratio to that of zero, and its hit rate.

        Parameters
        ----------
        window : int
            Trading days.

        Returns
        -------
        ratio : DataFrame of shape (n_days - window + 1, n_versions)
            Below 1 is better than forecasting zero.
        hits : DataFrame of shape (n_days - window + 1, n_versions)
            Fractions of the days on which the price moved.
        """
        days, names = self.frame.days, self.versions
        squared = squared_errors(self.target, days[[*names, ZERO]]).rolling(window).mean().dropna() ** 0.5
        moved = (self.target != 0).rolling(window).sum()
        right = days[names].apply(lambda forecast: (np.sign(forecast) == np.sign(self.target)) & (self.target != 0))
        hits = right.rolling(window).sum().div(moved.where(moved > 0), axis=0).iloc[window - 1 :]
        return squared[names].div(squared[ZERO], axis=0), hits

    def gains(self) -> pd.DataFrame:
        """Return by how much each challenger's RMSE is below its rivals', how sure that is, and what could be detected.

        Returns
        -------
        DataFrame
            One row a pair: ``forecast``, ``versus`` (columns of the frame),
            ``gain``, ``low``, ``high`` and ``detectable`` as fractions of the
            rival's RMSE, and ``p``.
        """
        keys = ("gain", "low", "high", "detectable", "p", "why")
        rows = [
            {"forecast": a.forecast, "versus": self.rival(a.question.versus), **{key: getattr(a, key) for key in keys}}
            for a in self.answers
            if a.question.test == "stationary_bootstrap" and not a.question.margin
        ]
        return pd.DataFrame(rows, columns=["forecast", "versus", *keys])

    def errors(self) -> pd.DataFrame:
        """Return each version's errors (return minus forecast), each sorted, beside the quantiles of a normal distribution.

        Returns
        -------
        DataFrame of shape (n_days, 1 + n_versions)
            Index: 0, 1, …; ``normal`` is standardised, errors are fractions.
        """
        count = len(self.target)
        normal = norm.ppf((np.arange(count) + 0.5) / count)
        versions = {name: np.sort((self.target - self.frame.days[name]).to_numpy()) for name in self.versions}
        return pd.DataFrame({"normal": normal, **versions})

    def strategies(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return what one unit of capital became by following each forecast's sign, and its drawdown, net of costs.

        Returns
        -------
        capital, drawdown : DataFrame of shape (n_days, n_forecasts)
            Columns: the versions, and ``mean training return``, which mostly
            means to hold the share.
        """
        names = [*self.versions, MEAN]
        net = {n: metrics.sign_strategy(self.target, self.frame.days[n], cost=self.cost)["net"] for n in names}
        capital = pd.DataFrame({name: (1 + days).cumprod() for name, days in net.items()})
        return capital, pd.DataFrame({name: metrics.drawdown(days) for name, days in net.items()})

    def to_frame(self) -> pd.DataFrame:
        """Return the measures with readable names, one column a forecast, for people."""
        roles = {self.challenger: "challenger", self.champion: "champion", ZERO: "baseline", MEAN: "baseline"}
        names = [*self.versions, *(name for name in (ZERO, MEAN) if name in self.measures.index)]
        whole = self.measures.join(self.frame.footprint)
        rows = {
            known.heading: [shown_as(whole[key][name], known.form) for name in names]
            for key, known in MEASURES.items()
            if key in whole
        }
        heads = [f"{name} ({roles.get(name, 'challenger too')})" for name in names]
        return pd.DataFrame.from_dict(rows, orient="index", columns=heads).rename_axis(columns="measure")

    def tests_frame(self) -> pd.DataFrame:
        """Return what the tests said, one row each, for people."""
        rows = []
        for answer in self.answers:
            asked = answer.question
            margin = f", not worse by {asked.margin:.3g}" if asked.margin else ""
            rows.append(
                {
                    "test": asked.test.replace("_", " "),
                    "of": answer.forecast,
                    "against": (self.rival(asked.versus) or "chance") + margin,
                    "gain": shown_as(answer.gain, "{:+.3%}"),
                    "95 % interval": f"{answer.low:+.2%} to {answer.high:+.2%}" if math.isfinite(answer.low) else "-",
                    "detectable": shown_as(answer.detectable, "{:.2%}"),
                    "p": shown_as(answer.p, "{:.4f}") if not answer.why else f"not made: {answer.why}",
                    "resamples": f"{answer.resamples:,}, blocks of {answer.block}" if answer.resamples else "-",
                }
            )
        columns = ["test", "of", "against", "gain", "95 % interval", "detectable", "p", "resamples"]
        return pd.DataFrame(rows, columns=columns).set_index("test").rename_axis(index=None, columns="test")

    def regimes_frame(self) -> pd.DataFrame:
        """Return the RMSE of each third of the days, for people."""
        table = self.regimes.map(lambda value: f"{value:.3%}")
        if not table.empty:
            table["days"] = self.regimes["days"].astype(int).astype(str)
        return table.rename_axis(index=None, columns="days were")

    def days_frame(self) -> pd.DataFrame:
        """Return which days each version has seen, how that is known, and whether its stored forecasts came out again."""
        rows = {}
        for version, facts in self.frame.facts.items():
            windows, seen = facts["windows"], facts["seen"]
            again, stored = self.frame.replayed.get(version, (0, 0))
            rows[column(version)] = {
                **{name: f"{windows[name]['first_day']} to {windows[name]['last_day']}" for name in windows},
                "last day seen": seen["last_day"],
                "which is": seen["basis"],
                "stored forecasts that came out again": f"{again} of {stored}" if stored else "none were stored",
            }
        return pd.DataFrame.from_dict(rows, orient="index").fillna("-")

    def to_json(self) -> dict[str, Any]:
        """Return all that was measured and tested, as JSON can hold it."""
        frame = self.frame
        seen = {column(version): facts["seen"] for version, facts in frame.facts.items() if "seen" in facts}
        return {
            "symbol": frame.symbol,
            "challenger": frame.challenger,
            "champion": frame.champion,
            "challengers": [frame.challenger, *frame.others],
            "window": {"first_day": self.first_day, "last_day": self.last_day, "days": len(frame.days)},
            "frame_sha256": frame.digest,
            "cost": self.cost,
            "seen": seen,
            "replayed": {column(version): list(counts) for version, counts in frame.replayed.items()},
            "measures": measures_json(self.measures),
            "tests": [answer.to_json() for answer in self.answers],
            "confidence_set": self.best,
            "regimes": measures_json(self.regimes),
            "drift": measures_json(frame.drift),
            "footprint": measures_json(frame.footprint),
        }

    def registered_metrics(self) -> pd.DataFrame:
        """Return the validation and test metrics that each version was registered with, for people."""
        rows = {
            label: {name: shown_as(found.get(key), form) for name, found in self.registered.items()}
            for key, (label, form) in _REGISTERED.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="metric")


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


def compare(frame: EvaluationFrame, questions: Iterable[Question] = STANDARD, *, cost: float = 0.0) -> Comparison:
    """Measure and test the forecasts of a frame.

    Parameters
    ----------
    frame : EvaluationFrame
        At least one day, all values finite.
    questions : iterable of Question
        The tests to make. Against a champion only where there is one.
    cost : float
        Of trading, as a fraction of the value traded.

    Returns
    -------
    Comparison

    Raises
    ------
    NotComparableError
        No days, or a value that is not finite: the message names the forecast.
    """
    measures = measure(frame, cost=cost)
    days, names = frame.days, frame.challengers
    asked = list(questions)
    target, champion = days[TARGET], column(frame.champion) if frame.champion is not None else None
    first, rest = [], []
    for question in asked:
        rival = champion if question.versus == "champion" else VERSUS.get(str(question.versus))
        if question.test == "pesaran_timmermann":
            first.append(for_family(pesaran_timmermann(target, days[names[0]], question), len(names)))
        elif rival is None:
            continue
        elif question.test == "diebold_mariano":
            first.append(for_family(diebold_mariano(target, days[rival], days[names[0]], question), len(names)))
        else:
            head, *tail = bootstrap_test(target, days[rival], days[names], question)
            first.append(head)
            rest += tail
    best: list[str] = []
    if len(names) > 1:
        versions = [name for name in (*names, champion) if name]
        best = confidence_set(squared_errors(target, days[versions]), asked[0] if asked else STANDARD[0])
    return Comparison(frame=frame, measures=measures, answers=(*first, *rest), regimes=_regimes(frame), best=best, cost=cost)


def measure(frame: EvaluationFrame, *, cost: float = 0.0) -> pd.DataFrame:
    """Compute every measure of every forecast of a frame.

    Parameters
    ----------
    frame : EvaluationFrame
        At least one day, all values finite.
    cost : float
        Of trading, as a fraction of the value traded.

    Returns
    -------
    DataFrame
        One row a forecast, one column a measure; NaN where there is none, as
        the hit rate of forecasting zero.

    Raises
    ------
    NotComparableError
        No days, or a value that is not finite: the message names the forecast.
    """
    target = frame.days[TARGET]
    rows: dict[str, dict[str, float]] = {}
    for name in frame.days.columns.drop(TARGET):
        try:
            rows[name] = _measured(target, frame.days[name], cost)
        except ValueError as wrong:
            msg = f"{name} of {frame.symbol}: {wrong}"
            raise NotComparableError(msg) from wrong
    table = pd.DataFrame.from_dict(rows, orient="index")
    for key, baseline in (("rmse_to_zero", ZERO), ("rmse_to_mean", MEAN)):
        error = float(table["rmse"].get(baseline, 0.0))
        table[key] = table["rmse"] / error if error else math.nan
    return table[[key for key, known in MEASURES.items() if not known.of_files]]


def _measured(target: pd.Series, forecast: pd.Series, cost: float) -> dict[str, float]:
    common = {"rmse": metrics.rmse(target, forecast), "mae": metrics.mae(target, forecast), "r2": metrics.r2(target, forecast)}
    others = [key for key, known in MEASURES.items() if not known.of_zero and not known.of_files]
    if not forecast.any():
        return common | dict.fromkeys(others, math.nan)
    days = metrics.sign_strategy(target, forecast, cost=cost)
    rises, falls = target > 0, target < 0
    return common | {
        "hit_rate": metrics.hit_rate(target, forecast),
        "hit_rate_up": metrics.hit_rate(target[rises], forecast[rises]) if rises.any() else math.nan,
        "hit_rate_down": metrics.hit_rate(target[falls], forecast[falls]) if falls.any() else math.nan,
        "information_coefficient": metrics.information_coefficient(target, forecast),
        "mincer_zarnowitz_slope": metrics.mincer_zarnowitz(target, forecast)[0],
        "strategy_return": metrics.annual_return(days["net"]),
        "sharpe": metrics.sharpe(days["net"]),
        "max_drawdown": float(metrics.drawdown(days["net"]).max()),
        "turnover": float(days["traded"].mean()),
    }


def _regimes(frame: EvaluationFrame) -> pd.DataFrame:
    """Return the RMSE of the calm, middle and wild third of the days, by the deviation of the 20 returns known on each."""
    known = frame.days[TARGET].shift(1).rolling(_VOLATILITY_DAYS).std().dropna()
    if len(known) < len(REGIMES) * _LEAST_IN_A_REGIME:
        return pd.DataFrame()
    third = pd.qcut(known.rank(method="first"), len(REGIMES), labels=list(REGIMES))
    squared = squared_errors(frame.days[TARGET], frame.days.drop(columns=TARGET)).loc[known.index]
    groups = squared.groupby(third, observed=True)
    table = groups.mean() ** 0.5
    table.insert(0, "days", groups.size().astype(float))
    return table.set_axis(list(REGIMES), axis=0)


def measures_json(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return rows and columns as JSON can hold them: None where there is no number."""
    rows = table.to_dict(orient="index")
    return {str(row): {str(k): v if math.isfinite(v) else None for k, v in values.items()} for row, values in rows.items()}
