"""Figures: each function draws what was computed elsewhere on an ``Axes`` and returns it.

Colours are those of Okabe and Ito, which colour-blind readers tell apart.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.ticker import FuncFormatter, PercentFormatter

from fxhelpers.comparison import MEAN, TARGET, ZERO, Comparison
from fxhelpers.ledger import Reign

BLUE, ORANGE, GREEN, GREY, SKY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E", "#56B4E9"
_WINDOWS = {"training": BLUE, "validation": ORANGE, "test": GREEN}


def price_windows(prices: pd.DataFrame, windows: dict[str, dict[str, str]], ax: Axes | None = None) -> Axes:
    """Draw the closing price with the training, validation and test windows behind it."""
    ax = _axes(ax, 3.2)
    ax.plot(prices.index, prices["Close"], color="black", linewidth=0.9)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    for name, window in windows.items():
        ax.axvspan(
            _day(window["first_day"]),
            _day(window["last_day"]),
            color=_WINDOWS[name],
            alpha=0.15,
            label=name,
            lw=0,
        )
    ax.set_ylabel("adjusted close (log scale)")
    ax.set_title("Adjusted close, and what the days are used for")
    ax.legend(loc="upper left", frameon=False, ncols=3)
    return _finish(ax)


def forecast_scatter(target: pd.Series, forecast: pd.Series, title: str, ax: Axes | None = None) -> Axes:
    """Draw returns against forecasts: every day, the mean of each tenth of the days, and the ideal line."""
    ax = _axes(ax, 4.2)
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
    return _finish(ax)


def error_against_zero(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw each version's RMSE as a ratio to that of forecasting zero, on validation days and on the days compared."""
    ax = _axes(ax, 2.6)
    names = [n for n in (comparison.challenger, comparison.champion) if n]
    labels = [*reversed(names), MEAN]
    for row, name in enumerate(labels):
        measured = comparison.registered.get(name, {})
        if measured.get("val_rmse_zero"):
            ax.plot(
                measured["val_rmse"] / measured["val_rmse_zero"],
                row,
                "s",
                color=ORANGE,
                markersize=8,
                label="validation days (it was chosen on these)" if row == 0 else None,
            )
        ax.plot(
            comparison.measures["rmse_to_zero"][name],
            row,
            "o",
            color=BLUE,
            markersize=9,
            label="days compared here" if row == 0 else None,
        )
    ax.axvline(1, color="black", linewidth=1)
    low, high = ax.get_xlim()
    if high > 1.5:  # noqa: PLR2004 (a hopeless model would flatten the others)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        ax.set_xticks([t for t in (0.9, 1, 1.5, 2, 3, 4, 5, 7, 10, 20, 50) if low * 0.95 <= t <= high * 1.05])
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set_xlabel("RMSE as a ratio to forecasting zero: left of the line is better")
    ax.set_title("Is it better than no model at all?")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, fontsize=8)
    return _finish(ax)


def cumulative_gain(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the squared error that the challenger saved, summed up day by day, against each rival; rising is better."""
    ax = _axes(ax, 3.6)
    for rival, colour, line in zip(comparison.rivals(), (ORANGE, BLUE), ("--", "-"), strict=False):
        name = "forecasting zero" if rival == ZERO else f"the champion ({rival})"
        gain = comparison.cumulative_gain(rival) * 1e4
        ax.plot(gain.index, gain, color=colour, linestyle=line, linewidth=1.5, label=f"against {name}")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("squared error saved so far\n(per cent of return, squared)")
    ax.set_title(f"Where {comparison.challenger} won and lost: a rising line is a better challenger")
    ax.legend(frameon=False, loc="best")
    return _finish(ax)


def evidence(comparison: Comparison | None, ax: Axes | None = None) -> Axes:
    """Draw the main figure of a comparison; where nothing was compared, say so."""
    if comparison is not None:
        return cumulative_gain(comparison, ax)
    ax = _axes(ax, 1.2)
    ax.text(0.5, 0.5, "Not compared: there is nothing to show", ha="center", va="center")
    ax.set_axis_off()
    return ax


def rolling_rmse(comparison: Comparison, window: int = 60, ax: Axes | None = None) -> Axes:
    """Draw each version's RMSE over the last days as a ratio to that of forecasting zero; below 1 is better."""
    ax = _axes(ax, 3.2)
    ratios = comparison.rolling_rmse_to_zero(window)
    for name, colour in zip(ratios.columns, (ORANGE, BLUE), strict=False):
        role = "challenger" if name == comparison.challenger else "champion"
        ax.plot(ratios.index, ratios[name], color=colour, linewidth=1.3, label=f"{name} ({role})")
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set_ylabel("RMSE / RMSE of zero")
    ax.set_title(f"Error over the last {window} trading days: below the line is better than forecasting zero")
    ax.legend(frameon=False, loc="best")
    return _finish(ax)


def error_distribution(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the distribution of each version's errors, in per cent of return."""
    ax = _axes(ax, 3.2)
    days = comparison.frame.days
    errors = {n: days[TARGET] - days[n] for n in (comparison.challenger, comparison.champion, ZERO) if n}
    limit = float(np.quantile(np.abs(errors[comparison.challenger]), 0.99)) * 1.2
    bins = list(np.linspace(-limit, limit, 61))
    for (name, error), colour in zip(errors.items(), (ORANGE, BLUE, GREY), strict=False):
        ax.hist(
            error,
            bins=bins,
            histtype="step",
            color=GREY if name == ZERO else colour,
            linewidth=1.4,
            label=f"{name}: RMSE {np.sqrt((error**2).mean()):.2%}",
        )
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("error: return minus forecast")
    ax.set_ylabel("days")
    ax.set_title("Errors of one day")
    ax.legend(frameon=False, loc="upper left")
    return _finish(ax)


def windows_timeline(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw which days each version was trained and chosen on, and which days are compared."""
    ax = _axes(ax, 2.2)
    versions = [v for v in (comparison.frame.champion, comparison.frame.challenger) if v is not None]
    labels = []
    for row, version in enumerate(versions):
        for name in ("training", "validation"):
            window = comparison.frame.facts[version]["windows"][name]
            first, last = _day(window["first_day"]), _day(window["last_day"])
            ax.barh(row, last - first, left=first, color=_WINDOWS[name], height=0.5, label=name if row == 0 else None)
        labels.append(f"version {version}")
    first, last = _day(comparison.first_day), _day(comparison.last_day)
    ax.barh(len(versions), last - first, left=first, color=GREEN, height=0.5, label="compared here")
    ax.set_yticks(range(len(versions) + 1), [*labels, "compared"])
    ax.xaxis_date()
    ax.set_title("No version has seen the days that it is judged on")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8)
    return _finish(ax)


def reigns(history: list[Reign], now: str, ax: Axes | None = None) -> Axes:
    """Draw which version was in Production from when to when; ``now`` (ISO 8601) ends the present reign."""
    versions = sorted({reign.version for reign in history if reign.version is not None})
    ax = _axes(ax, 1.2 + 0.4 * max(1, len(versions)))
    for reign in history:
        if reign.version is None:
            continue
        first, last = _day(reign.since), _day(reign.until or now)
        row = versions.index(reign.version)
        ax.barh(row, last - first, left=first, height=0.5, color=BLUE if reign.decision else GREY)
        ax.plot(first, row, "|", color="black", markersize=14)
    if not versions:
        ax.text(0.5, 0.5, "No version was ever in Production", ha="center", va="center", transform=ax.transAxes)
    ax.set_yticks(range(len(versions)), [f"version {version}" for version in versions])
    ax.xaxis_date()
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    ax.set_xlabel("UTC")
    ax.set_title("In Production" + (" (grey: without a decision)" if any(not r.decision for r in history) else ""))
    return _finish(ax)


def _axes(ax: Axes | None, height: float) -> Axes:
    return ax if ax is not None else plt.subplots(figsize=(9, height), dpi=120, layout="constrained")[1]


def _day(text: str) -> float:
    """Return a day in the units of a date axis."""
    return float(date2num(np.datetime64(text.removesuffix("+00:00"))))  # type: ignore[no-untyped-call]


def _finish(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.title.set_fontsize(11)
    return ax
