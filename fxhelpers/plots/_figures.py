"""Figures of one model or one comparison, and the style of all figures.

A figure is as wide as a phone: a report shows two of them side by side, or one
above the other. Colors are those of Okabe and Ito, which color-blind readers
distinguish; a line style, a marker or a hatch says the same.
"""

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from PIL import Image

from fxhelpers.comparison import MEAN, ZERO, Comparison, column
from fxhelpers.metrics import mincer_zarnowitz
from fxhelpers.prices import SharePrices

BLUE, ORANGE, GREEN, GREY, SKY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E", "#56B4E9"
DOUBT = "#B00020"
WINDOWS = {"training": BLUE, "validation": ORANGE, "test": GREEN}

_DPI = 96  # a screen's; drawn at twice that
_WIDTH, _TEXT, _TITLE = 4.4, 8, 9.5  # inches, points, points
_SHORT_LABEL = 28  # characters; longer ones stand one below the other in the legend
_PALETTE = 64
_DECADE = 20


class Figure(matplotlib.figure.Figure):
    """A figure that notebooks show sharp and small, with a description for readers who do not see it."""

    @property
    def alt(self) -> str:
        """Description of each part: title, axes and legend, and the values at which its lines begin and end."""
        return " ".join(_described(ax) for ax in self.axes)

    def png(self) -> tuple[bytes, dict[str, Any]]:
        """Return the figure as PNG at twice the usual sharpness, with the size and the description to show it with."""
        drawn, png = BytesIO(), BytesIO()
        self.savefig(drawn, format="png", dpi=2 * _DPI)
        image = Image.open(drawn).convert("RGB").quantize(_PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        image.save(png, "png")
        return png.getvalue(), {"width": image.width // 2, "height": image.height // 2, "alt": self.alt}


def _described(ax: Axes) -> str:
    axis = [f"{name}: {label}" for name, label in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())) if label]
    names = [tick.get_text() for tick in ax.get_yticklabels() if re.search("[A-Za-z]", tick.get_text())]
    rows = [f"rows: {', '.join(names)}"] if names else []
    handles, labels = ax.get_legend_handles_labels()
    ends = {line.get_label(): line.get_ydata() for line in handles if hasattr(line, "get_ydata")}
    lines = [f"{label}{_ends(ends.get(label))}" for label in labels]
    shown = ["shown: " + ", ".join(lines)] if lines else []
    parts = [ax.get_title() or "A panel without a title", *axis, *rows, *shown]
    return "; ".join(parts).replace("\n", " ") + "."


def _ends(values: Any) -> str:  # noqa: ANN401 (matplotlib's data)
    """Return the values at which a line begins and ends; "" for a point, or without numbers."""
    finite = np.asarray(values, dtype=float) if values is not None and len(values) > 1 else np.array([])
    finite = finite[np.isfinite(finite)]
    return f" (from {finite[0]:.3g} to {finite[-1]:.3g})" if len(finite) else ""


def axes(ax: Axes | None, height: float) -> Axes:
    if ax is not None:
        return ax
    shell = get_ipython()
    if shell is not None:  # before matplotlib's own formatter, which knows no description
        shell.display_formatter.formatters["image/png"].for_type(Figure, Figure.png)
    return plt.figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", FigureClass=Figure).subplots()


def day(text: str) -> float:
    """Return a day in the units of a date axis."""
    return float(date2num(np.datetime64(text.removesuffix("+00:00"))))  # type: ignore[no-untyped-call]


def dates(ax: Axes) -> None:
    """Label an axis of days so that the labels fit a narrow figure."""
    ax.xaxis_date()
    places = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(places)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(places))  # type: ignore[no-untyped-call]


def nothing(ax: Axes, why: str) -> None:
    ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, fontsize=_TEXT, wrap=True)


def finish(ax: Axes) -> Axes:
    """Set the sizes of all text, put the legend below, and remove what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.title.set_fontsize(_TITLE)
    ax.tick_params(labelsize=_TEXT)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.xaxis.get_offset_text(), ax.yaxis.get_offset_text()):
        text.set_fontsize(_TEXT)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > _SHORT_LABEL else 2
        ax.figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=_TEXT)
    return ax


_MOST_BARS = 15
_LINES = (("-", ORANGE, 1.6), ("--", BLUE, 1.4), (":", GREEN, 1.4), ("-.", SKY, 1.2))
_SQUARED = 1e4  # squared fractions to squared per cent


def evidence(comparison: Comparison | None) -> list[Axes]:
    """Draw what a decision rests on: loss difference, gains, forecasts and days; if nothing was compared, say so."""
    if comparison is not None:
        return [draw(comparison) for draw in (loss_difference, gains, calibration, windows)]
    ax = axes(None, 0.6)
    nothing(ax, "Nothing was compared.")
    ax.set_axis_off()
    return [ax]


def loss_difference(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the cumulative squared error that the challenger saved, in the band of chance."""
    ax = axes(ax, 2.9)
    first, *others = comparison.rivals()
    saved = comparison.loss_difference(first) * _SQUARED
    band = "95 % band of equally good forecasts"
    ax.fill_between(saved.index, saved["low"], saved["high"], color=GREY, alpha=0.2, lw=0, label=band)
    ax.plot(saved.index, saved["saved"], color=ORANGE, linewidth=1.6, label=f"against {_rival(comparison, first)}")
    for name in others:
        line = comparison.loss_difference(name)["saved"] * _SQUARED
        ax.plot(line.index, line, color=BLUE, linestyle="--", linewidth=1.1, label=f"against {_rival(comparison, name)}")
    ax.axhline(0, color="black", linewidth=0.8)
    dates(ax)
    ax.set(ylabel="squared error saved so far (%²)", title=f"Cumulative loss difference of {comparison.challenger}: up is better")
    return finish(ax)


def rolling_origins(target: pd.Series, forecast: pd.Series, origins: Sequence[str], title: str, ax: Axes | None = None) -> Axes:
    """Draw the cumulative squared error that rolling-origin forecasts saved against forecasting zero, and their origins."""
    ax = axes(ax, 2.9)
    saved = (target**2 - (target - forecast) ** 2).cumsum() * _SQUARED
    ax.plot(saved.index, saved, color=ORANGE, linewidth=1.6, label="against forecasting zero")
    ax.axhline(0, color="black", linewidth=0.8)
    at = ax.get_xaxis_transform()
    fitted = [day(origin) for origin in origins]
    ax.plot(
        fitted, [0.02] * len(fitted), "|", color="black", markersize=5, transform=at, label="fitted again, on all days before"
    )
    dates(ax)
    ax.set(ylabel="squared error saved so far (%²)", title=title)
    return finish(ax)


def rolling(comparison: Comparison, window: int = 60) -> list[Axes]:
    """Draw each version's RMSE over the last days as a ratio to that of zero, and its hit rate."""
    window = max(1, min(window, len(comparison.target) // 2))
    made = [axes(None, 3.0), axes(None, 3.0)]
    for ax, table, level in zip(made, comparison.rolling(window), (1.0, 0.5), strict=True):
        for (name, values), (style, color, width) in zip(table.items(), _LINES, strict=False):
            ax.plot(values.index, values, style, color=color, linewidth=width, label=_role(comparison, str(name)))
        ax.axhline(level, color="black", linewidth=0.8)
        dates(ax)
    ratio, hits = made
    ratio.set(ylabel="RMSE / RMSE of zero", title=f"RMSE of {window} days: below 1 beats forecasting zero")
    hits.set(ylabel="hit rate", title=f"Hit rate of {window} days: share of correct directions")
    hits.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return [finish(ratio), finish(hits)]


def gains(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the gain in RMSE over each rival with its interval, and the gain that these days can detect."""
    table = comparison.gains()
    table = table[table["gain"].notna()].iloc[::-1].reset_index(drop=True)
    ax = axes(ax, 2.9 if len(table) <= 3 else 1.8 + 0.4 * len(table))  # noqa: PLR2004 (champion, zero, mean)
    places, shown = np.arange(len(table)), table["detectable"].notna()
    ax.hlines(places, table["low"], table["high"], color=BLUE, linewidth=2.5, label="95 % interval")
    ax.plot(table["gain"], places, "o", color=ORANGE, markersize=8, label="gain")
    if shown.any():
        label = "gain detected with 80 % power"
        ax.plot(table["detectable"][shown], places[shown], "|", color="black", markersize=18, markeredgewidth=2, label=label)
    if table.empty:
        nothing(ax, "Nothing could be tested")
    ax.axvline(0, color="black", linewidth=0.8)
    names = "over " + table["versus"].map(lambda name: _rival(comparison, name).replace(" (", "\n("))
    if len(comparison.frame.challengers) > 1:
        names = table["forecast"] + " " + names
    ax.set_yticks(places, names.where(shown, names + "\n(nothing detectable)"))
    ax.set_ylim(-0.7, max(0, len(table) - 1) + 0.7)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="RMSE below the rival's; right is better", title=f"Gain in RMSE of {comparison.challenger}")
    return finish(ax)


def calibration(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw returns against the challenger's forecasts, with the line of Mincer and Zarnowitz."""
    ax = _scatter(comparison.target, comparison.forecast, f"Forecast and return: {comparison.challenger}", axes(ax, 3.1))
    slope, intercept = mincer_zarnowitz(comparison.target, comparison.forecast)
    if np.isfinite(slope):
        ends = np.array([comparison.forecast.min(), comparison.forecast.max()])
        label = f"regression: return = {intercept:.3%} {slope:+.2f} x forecast"
        ax.plot(ends, intercept + slope * ends, "--", color=ORANGE, linewidth=1.4, label=label)
    return finish(ax)


def forecast_scatter(target: pd.Series, forecast: pd.Series, title: str, ax: Axes | None = None) -> Axes:
    """Draw returns against forecasts: every day, the mean of each tenth of the days, and the ideal line."""
    return finish(_scatter(target, forecast, title, axes(ax, 3.5)))


def _scatter(target: pd.Series, forecast: pd.Series, title: str, ax: Axes) -> Axes:
    ax.scatter(forecast, target, s=7, color=SKY, alpha=0.6, linewidths=0, label="one day")
    if float(forecast.max()) > float(forecast.min()):
        tenths = pd.qcut(forecast.rank(method="first"), min(10, len(forecast)), labels=False)
        means = pd.DataFrame({"forecast": forecast, "target": target}).groupby(tenths).mean()
        ax.plot(means["forecast"], means["target"], "o", color=ORANGE, markersize=6, label="mean of a tenth")
        ends = np.array([forecast.min(), forecast.max()])
        ax.plot(ends, ends, color="black", linewidth=1, label="ideal: return = forecast")
    ax.axhline(0, color=GREY, linewidth=0.6)
    limit = float(np.quantile(np.abs(target), 0.995))
    ax.set_ylim(-limit, limit)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="forecast of the next day's return", ylabel="next day's return", title=title)
    return ax


def errors(comparison: Comparison) -> list[Axes]:
    """Draw the errors of each version: their distribution, and their quantiles against a normal distribution."""
    sizes, quantiles = axes(None, 3.2), axes(None, 3.2)
    table = comparison.errors()
    names = list(table.columns.drop("normal"))
    limit = float(np.quantile(np.abs(table[names[0]]), 0.99)) * 1.2 or 1.0
    for name, (style, color, width) in zip(names, _LINES, strict=False):
        bins = list(np.linspace(-limit, limit, 61))
        sizes.hist(table[name], bins=bins, histtype="step", color=color, linestyle=style, linewidth=width, label=name)
        quantiles.plot(table["normal"], table[name], "o" if name == names[0] else "+", color=color, markersize=3, label=name)
    spread = float(table[names[0]].std())
    ends = np.array([table["normal"].iloc[0], table["normal"].iloc[-1]])
    quantiles.plot(ends, ends * spread, color="black", linewidth=1, label="normal distribution")
    sizes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    sizes.set(xlabel="error of one day: return minus forecast", ylabel="days", title="Distribution of the errors")
    quantiles.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    quantiles.set(xlabel="quantile of a normal distribution (std)", ylabel="quantile of the error")
    quantiles.set_title("Q-Q plot: steep ends are fat tails")
    return [finish(sizes), finish(quantiles)]


def strategies(comparison: Comparison) -> list[Axes]:
    """Draw capital and drawdown of trading the sign of each forecast, net of costs."""
    top, bottom = axes(None, 3.3), axes(None, 3.3)
    capital, fallen = comparison.strategies()
    for name, (style, color, width) in zip(capital, _LINES, strict=False):
        label = f"{MEAN} (mostly long)" if name == MEAN else _role(comparison, str(name))
        top.plot(capital.index, capital[name], style, color=color, linewidth=width, label=label)
        bottom.plot(fallen.index, -fallen[name], style, color=color, linewidth=width, label=label)
    top.axhline(1, color="black", linewidth=0.8)
    top.set(ylabel="capital (1 at the start)", title=f"Long or short by sign, after costs of {comparison.cost:.2%} of trades")
    bottom.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bottom.set(ylabel="below the highest so far", title="Drawdown")
    for ax in (top, bottom):
        dates(ax)
    return [finish(top), finish(bottom)]


def windows(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the days on which each version was trained and chosen, those left out, and those compared."""
    frame = comparison.frame
    versions = [v for v in (*reversed(frame.others), frame.champion, frame.challenger) if v is not None]
    ax = axes(ax, 3.1 if len(versions) <= 2 else 2.0 + 0.4 * len(versions))  # noqa: PLR2004 (challenger and champion)
    begin, end = day(comparison.first_day), day(comparison.last_day)
    named: set[str] = set()

    def bar(row: int, first: float, last: float, name: str, **style: object) -> None:
        ax.barh(row, last - first, left=first, height=0.5, label=None if name in named else name, **style)  # type: ignore[arg-type]
        named.add(name)

    for row, version in enumerate(versions):
        facts = frame.facts[version]
        origins = [day(origin) for origin in facts["seen"].get("origins", ())]
        for name, window in facts["windows"].items():
            last = min([day(window["last_day"]), *origins])
            bar(row, day(window["first_day"]), last, "before the first origin" if origins else name, color=WINDOWS[name])
        if not origins:
            last = day(facts["seen"]["last_day"])
            bar(row, last, begin, "left out: horizon, embargo", color="white", edgecolor=GREY, hatch="////")
        bar(row, begin, end, "compared here", color=SKY, edgecolor="black")
        if origins:
            label = None if "fitted again" in named else "fitted again, on all days before"
            named.add("fitted again")
            ax.plot(origins, [row - 0.32] * len(origins), "|", color="black", markersize=4, label=label)
    ax.set_yticks(range(len(versions)), [_role(comparison, column(version)).replace(" (", "\n(") for version in versions])
    dates(ax)
    ax.set_title("Days of each version")
    return finish(ax)


def drift(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the population stability index of each feature, and the value that chance alone rarely exceeds."""
    table = comparison.frame.drift.head(_MOST_BARS).iloc[::-1]
    ax = axes(ax, 1.4 + 0.24 * max(3, len(table)))
    colors = [ORANGE if moved else SKY for moved in table["psi"] > table["threshold"]]
    ax.barh(range(len(table)), table["psi"], color=colors, height=0.6)
    for row, threshold in enumerate(table["threshold"]):
        label = "5 % exceed this by chance" if row == 0 else None
        ax.plot(threshold, row, "|", color="black", markersize=11, markeredgewidth=2, label=label)
    if table.empty:
        nothing(ax, "Not measured: the training window is not known")
    ax.set_yticks(range(len(table)), list(table.index))
    features = len(comparison.frame.drift)
    title = "Drift since training" + (f", the most of {features} features" if features > len(table) else "")
    ax.set(xlabel="population stability index (PSI)", title=title)
    return finish(ax)


def price_windows(
    prices: SharePrices | pd.DataFrame, windows: dict[str, dict[str, str]] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the closing price with the training, validation and test windows behind it, and a mark at each doubtful day."""
    ax = axes(ax, 3.5)
    frame, title = (prices.frame, prices.title) if isinstance(prices, SharePrices) else (prices, "Close")
    ax.plot(frame.index, frame["Close"], color="black", linewidth=0.9)
    doubts = prices.doubts if isinstance(prices, SharePrices) else []
    doubtful = frame["Close"][frame.index.isin([day for doubt in doubts for day in doubt.days])]
    if len(doubtful):
        ax.plot(doubtful.index, doubtful, "x", color=DOUBT, markersize=5, label="doubtful")
    ax.set_yscale("log")
    if frame["Close"].max() < _DECADE * frame["Close"].min():  # whose powers of ten alone would be too few
        ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    for name, window in (windows or {}).items():
        ax.axvspan(day(window["first_day"]), day(window["last_day"]), color=WINDOWS[name], alpha=0.15, label=name, lw=0)
    dates(ax)
    ax.set(ylabel="close (log scale)", title=title)
    return finish(ax)


def _rival(comparison: Comparison, name: str) -> str:
    words = {ZERO: "forecasting zero", MEAN: "the constant mean"}
    return words.get(name, f"{name} (champion)" if name == comparison.champion else name)


def _role(comparison: Comparison, name: str) -> str:
    if name == comparison.champion:
        return f"{name} (champion)"
    return f"{name} (challenger)" if name == comparison.challenger else name
