"""Figures: each function draws what was computed elsewhere, and returns its axes."""

from fxhelpers.plots.many import family, portfolio, production_periods
from fxhelpers.plots.pairs import (
    calibration,
    drift,
    errors,
    evidence,
    forecast_scatter,
    gains,
    loss_difference,
    price_windows,
    rolling,
    strategies,
    windows,
)

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
