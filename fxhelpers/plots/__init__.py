"""Figures: each function draws what was computed elsewhere, and returns its axes."""

from fxhelpers.plots.many import family, portfolio
from fxhelpers.plots.pairs import calibration, drift, errors, evidence, gains, loss_difference, rolling, strategies, windows
from fxhelpers.plots.reigning import production_periods
from fxhelpers.plots.single import forecast_scatter, price_windows

__all__ = [
    "calibration",
    "drift",
    "errors",
    "evidence",
    "family",
    "forecast_scatter",
    "gains",
    "loss_difference",
    "portfolio",
    "price_windows",
    "production_periods",
    "rolling",
    "strategies",
    "windows",
]
