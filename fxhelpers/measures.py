"""The measures by name: label, direction and format. The formulas are in :mod:`fxhelpers.metrics`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Properties of a measure."""

    label: str  # its name in reports
    better: Literal["lower", "higher", "nearer to 1"]  # {"lower", "higher", "nearer to 1"}
    form: str  # format of one value
    of_zero: bool = True  # whether the zero forecast, which has no sign, has this measure
    of_files: bool = False  # whether it is measured on the stored model and this machine, not on the days

    @property
    def signed(self) -> bool:
        """Whether it can be negative."""
        return "+" in self.form

    @property
    def heading(self) -> str:
        """Label and direction, for the head of a column."""
        return f"{self.label} ({self.better} is better)"


MEASURES = {
    "rmse": Measure(label="RMSE", better="lower", form="{:.3%}"),
    "mae": Measure(label="MAE", better="lower", form="{:.3%}"),
    "r2": Measure(label="R² against zero", better="higher", form="{:+.4f}"),
    "rmse_to_zero": Measure(label="RMSE / RMSE of the zero forecast", better="lower", form="{:.4f}"),
    "rmse_to_mean": Measure(label="RMSE / RMSE of the mean forecast", better="lower", form="{:.4f}"),
    "hit_rate": Measure(label="hit rate", better="higher", form="{:.1%}", of_zero=False),
    "hit_rate_up": Measure(label="hit rate on up days", better="higher", form="{:.1%}", of_zero=False),
    "hit_rate_down": Measure(label="hit rate on down days", better="higher", form="{:.1%}", of_zero=False),
    "information_coefficient": Measure(label="information coefficient", better="higher", form="{:+.3f}", of_zero=False),
    "mincer_zarnowitz_slope": Measure(label="Mincer-Zarnowitz slope", better="nearer to 1", form="{:+.3f}", of_zero=False),
    "strategy_return": Measure(label="annual return of the sign strategy", better="higher", form="{:+.1%}", of_zero=False),
    "sharpe": Measure(label="Sharpe ratio of the sign strategy", better="higher", form="{:+.2f}", of_zero=False),
    "max_drawdown": Measure(label="drawdown of the sign strategy", better="lower", form="{:.1%}", of_zero=False),
    "turnover": Measure(label="daily turnover of the sign strategy", better="lower", form="{:.2f}", of_zero=False),
    "artifact_bytes": Measure(label="bytes of the stored model", better="lower", form="{:,.0f}", of_zero=False, of_files=True),
    "load_memory": Measure(label="bytes of memory to load it", better="lower", form="{:,.0f}", of_zero=False, of_files=True),
    "latency": Measure(label="seconds to forecast one day", better="lower", form="{:.6f}", of_zero=False, of_files=True),
}

MEANINGS = {
    "rmse": "root of the mean squared error of the forecasts",
    "mae": "mean absolute error of the forecasts",
    "r2": "share of the squared returns that the forecasts explain; 0 for forecasting zero",
    "rmse_to_zero": "below 1 is better than forecasting zero",
    "rmse_to_mean": "below 1 is better than forecasting the mean training return",
    "hit_rate": "share of the days whose direction was forecast; compare it with that of the mean training return",
    "hit_rate_up": "share of the rising days that were forecast to rise",
    "hit_rate_down": "share of the falling days that were forecast to fall",
    "information_coefficient": "rank correlation of forecast and return; 0 without a relation",
    "mincer_zarnowitz_slope": "slope of the regression of return on forecast; 1 is ideal; imprecise if forecasts hardly vary",
    "strategy_return": "long or short by the sign of the forecast, after costs",
    "sharpe": "annual return of the sign strategy over its volatility, after costs",
    "max_drawdown": "largest loss from a previous high, after costs",
    "turnover": "traded value per day as a multiple of the capital; 2 for a change from long to short",
}
"""Definitions by measure, for tooltips."""

REFUSED = {
    "mape": (
        "a percentage of a return means nothing: daily returns are often almost zero, and dividing by them yields values such as "
        "1.8e13; use rmse or mae"
    ),
}
"""Measures that are not offered, and why."""
