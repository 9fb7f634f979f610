"""Figures: each function draws what was computed elsewhere, and returns its axes."""

from fxhelpers.plots._backtests import backtest_gains, backtest_losses, backtest_periods
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
    rolling_origins,
    strategies,
    windows,
)
from fxhelpers.plots._live import live, live_evidence, live_losses
from fxhelpers.plots._overviews import family, pooled, portfolio, production_periods

__all__ = [
    "backtest_gains",
    "backtest_losses",
    "backtest_periods",
    "calibration",
    "drift",
    "errors",
    "evidence",
    "family",
    "forecast_scatter",
    "gains",
    "live",
    "live_evidence",
    "live_losses",
    "loss_difference",
    "pooled",
    "portfolio",
    "price_windows",
    "production_periods",
    "rolling",
    "rolling_origins",
    "strategies",
    "windows",
]
