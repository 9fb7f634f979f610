"""From one evaluation frame to measures: every forecast on the same days."""

import hashlib
import io
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from fxhelpers.metrics import hit_rate, mae, r2, rmse
from fxhelpers.results import shown_as

TARGET = "target"
ZERO = "zero return"
MEAN = "mean training return"


def column(version: int) -> str:
    """Return the name that a version's forecasts have in an evaluation frame."""
    return f"version {version}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationFrame:
    """The common days, the target and every forecast of it.

    Attributes
    ----------
    symbol : str
        Ticker.
    challenger : int
        Version that wants to be champion.
    champion : int or None
        Version in Production, where there is another one.
    days : DataFrame of shape (n_days, 3 or more)
        Index: Date, increasing. Columns: ``target``, ``zero return``,
        ``mean training return`` (the challenger's) and one ``version N``
        each; next-day returns as fractions.
    facts : dict of int to dict
        What each version's training recorded.
    """

    symbol: str
    challenger: int
    champion: int | None
    days: pd.DataFrame
    facts: dict[int, dict[str, Any]]

    @property
    def digest(self) -> str:
        """SHA-256 of days and values: the same frame, the same digest."""
        days = self.days.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = np.ascontiguousarray(self.days.to_numpy(), dtype="<f8")
        names = "\n".join(self.days.columns).encode()
        return hashlib.sha256(names + days.tobytes() + values.tobytes()).hexdigest()

    def to_csv(self) -> str:
        """Return the days as CSV with every digit, so that :meth:`from_csv` gives the same frame."""
        return self.days.rename_axis("Date").to_csv(date_format="%Y-%m-%d")

    @classmethod
    def from_csv(cls, text: str, *, symbol: str, challenger: int, champion: int | None) -> Self:
        """Read a frame that was written by :meth:`to_csv`; what the versions' trainings recorded is not in it."""
        days = pd.read_csv(io.StringIO(text), dtype=str).set_index("Date").astype(float)  # every digit counts
        days.index = pd.to_datetime(days.index, format="%Y-%m-%d")
        return cls(symbol=symbol, challenger=challenger, champion=champion, days=days, facts={})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Measures of all forecasts of one evaluation frame.

    Attributes
    ----------
    frame : EvaluationFrame
        What was measured.
    measures : DataFrame
        One row a forecast: ``rmse``, ``mae`` (fractions of return; lower is
        better), ``hit_rate`` (fraction of days), ``r2`` (against zero) and
        ``rmse_to_zero`` (ratio; below 1 is better than forecasting zero).
    """

    frame: EvaluationFrame
    measures: pd.DataFrame

    @property
    def challenger(self) -> str:
        """The challenger's row and column."""
        return column(self.frame.challenger)

    @property
    def champion(self) -> str | None:
        """The champion's row and column; None without one."""
        return column(self.frame.champion) if self.frame.champion is not None else None

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
        """Return what the challenger is measured against: zero, and the champion where there is one."""
        return [ZERO, self.champion] if self.champion else [ZERO]

    def cumulative_gain(self, versus: str) -> pd.Series:
        """Return the sum, day by day, of squared error saved against a rival; rising is better.

        Parameters
        ----------
        versus : str
            A column of the frame.

        Returns
        -------
        Series of shape (n_days,)
            In squared fractions of return.
        """
        return ((self.target - self.frame.days[versus]) ** 2 - (self.target - self.forecast) ** 2).cumsum()

    def rolling_rmse_to_zero(self, window: int = 60) -> pd.DataFrame:
        """Return each version's RMSE over the last days as a ratio to that of forecasting zero; below 1 is better.

        Parameters
        ----------
        window : int
            Trading days.

        Returns
        -------
        DataFrame of shape (n_days - window + 1, n_versions)
        """
        days = self.frame.days
        names = [name for name in (self.challenger, self.champion) if name]
        squared = days[[*names, ZERO]].rsub(days[TARGET], axis=0) ** 2
        rolling = squared.rolling(window).mean().dropna() ** 0.5
        return rolling[names].div(rolling[ZERO], axis=0)

    def to_frame(self) -> pd.DataFrame:
        """Return the measures with readable names, for people."""
        roles: dict[str | None, str] = {
            self.challenger: "challenger",
            self.champion: "champion",
            ZERO: "baseline",
            MEAN: "baseline",
        }
        table = pd.DataFrame({"role": [roles.get(name, "") for name in self.measures.index]}, index=self.measures.index)
        for key, (label, form) in _READABLE.items():
            table[label] = [shown_as(value, form) for value in self.measures[key]]
        return table.rename_axis(columns="forecast")

    def measures_json(self) -> dict[str, dict[str, float | None]]:
        """Return the measures as JSON can hold them: by forecast and name, None where there is no number."""
        rows = self.measures.to_dict(orient="index")
        return {str(row): {str(k): v if math.isfinite(v) else None for k, v in values.items()} for row, values in rows.items()}

    def registered_metrics(self) -> pd.DataFrame:
        """Return the validation and test metrics that each version was registered with, for people."""
        rows = {
            label: {name: shown_as(metrics.get(key), form) for name, metrics in self.registered.items()}
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
_READABLE = {
    "rmse": ("RMSE (lower is better)", "{:.3%}"),
    "rmse_to_zero": ("as a ratio to zero's (below 1 is better)", "{:.4f}"),
    "mae": ("MAE (lower is better)", "{:.3%}"),
    "hit_rate": ("hit rate (higher is better)", "{:.1%}"),
    "r2": ("R² against zero (higher is better)", "{:+.4f}"),
}


def compare(frame: EvaluationFrame) -> Comparison:
    """Measure every forecast of a frame.

    Parameters
    ----------
    frame : EvaluationFrame
        At least one day, all values finite.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        No days, or a value that is not finite: the message names the forecast.
    """
    target = frame.days[TARGET]
    zero = rmse(target, target * 0)
    rows = {}
    for name in frame.days.columns.drop(TARGET):
        forecast = frame.days[name]
        try:
            error = rmse(target, forecast)
        except ValueError as wrong:
            msg = f"{name} of {frame.symbol}: {wrong}"
            raise ValueError(msg) from wrong
        rows[name] = {
            "rmse": error,
            "rmse_to_zero": error / zero if zero else float("nan"),
            "mae": mae(target, forecast),
            "hit_rate": hit_rate(target, forecast) if forecast.any() else float("nan"),
            "r2": r2(target, forecast),
        }
    return Comparison(frame=frame, measures=pd.DataFrame.from_dict(rows, orient="index"))
