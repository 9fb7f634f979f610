"""Figures: each function draws what was computed elsewhere, and returns its axes."""

from fxhelpers.plots._figures import (
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
from fxhelpers.plots._overviews import family, portfolio, production_periods

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
