"""Figures of one model: what its days are used for, and what it forecasts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from fxhelpers.plots.style import GREY, ORANGE, SKY, WINDOWS, axes, day, finish


def price_windows(prices: pd.DataFrame, windows: dict[str, dict[str, str]], ax: Axes | None = None) -> Axes:
    """Draw the closing price with the training, validation and test windows behind it."""
    ax = axes(ax, 3.2)
    ax.plot(prices.index, prices["Close"], color="black", linewidth=0.9)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    for name, window in windows.items():
        ax.axvspan(
            day(window["first_day"]),
            day(window["last_day"]),
            color=WINDOWS[name],
            alpha=0.15,
            label=name,
            lw=0,
        )
    ax.set_ylabel("adjusted close (log scale)")
    ax.set_title("Adjusted close, and what the days are used for")
    ax.legend(loc="upper left", frameon=False, ncols=3)
    return finish(ax)


def forecast_scatter(target: pd.Series, forecast: pd.Series, title: str, ax: Axes | None = None) -> Axes:
    """Draw returns against forecasts: every day, the mean of each tenth of the days, and the ideal line."""
    ax = axes(ax, 4.2)
    ax.scatter(forecast, target, s=9, color=SKY, alpha=0.6, linewidths=0, label="one day")
    if float(forecast.max()) > float(forecast.min()):
        tenths = pd.qcut(forecast.rank(method="first"), min(10, len(forecast)), labels=False)
        means = pd.DataFrame({"forecast": forecast, "target": target}).groupby(tenths).mean()
        ax.plot(means["forecast"], means["target"], "o", color=ORANGE, markersize=6, label="mean of a tenth of the days")
        ends = np.array([forecast.min(), forecast.max()])
        ax.plot(ends, ends, color="black", linewidth=1, label="ideal: return = forecast")
    ax.axhline(0, color=GREY, linewidth=0.6)
    limit = float(np.quantile(np.abs(target), 0.995))
    ax.set_ylim(-limit, limit)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("forecast of the next day's return")
    ax.set_ylabel("next day's return")
    ax.set_title(title)
    ax.legend(frameon=False, loc="upper left", fontsize=8)
    return finish(ax)
