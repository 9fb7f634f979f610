"""Figures of a comparison; what they show is computed by :class:`fxhelpers.comparison.Comparison`."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from fxhelpers.comparison import MEAN, ZERO, Comparison, column
from fxhelpers.metrics import mincer_zarnowitz
from fxhelpers.plots.single import forecast_scatter
from fxhelpers.plots.style import BLUE, GREEN, GREY, ORANGE, SKY, WINDOWS, axes, day, finish, panels

_MOST_BARS = 15
_LINES = (("-", ORANGE, 1.6), ("--", BLUE, 1.4), (":", GREEN, 1.4), ("-.", SKY, 1.2))
_SQUARED = 1e4  # squared fractions to squared per cent


def evidence(comparison: Comparison | None, ax: Axes | None = None) -> Axes:
    """Draw the main figure of a comparison; where nothing was compared, say so."""
    if comparison is not None:
        return loss_difference(comparison, ax)
    ax = axes(ax, 1.2)
    ax.text(0.5, 0.5, "Not compared: there is nothing to show", ha="center", va="center")
    ax.set_axis_off()
    return ax


def loss_difference(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw the squared error that the challenger saved, summed up day by day, in the band that chance alone would fill."""
    ax = axes(ax, 3.8)
    first, *others = comparison.rivals()
    saved = comparison.loss_difference(first) * _SQUARED
    ax.fill_between(
        saved.index, saved["low"], saved["high"], color=GREY, alpha=0.2, lw=0, label="95 % of paths without a difference"
    )
    ax.plot(saved.index, saved["saved"], color=ORANGE, linewidth=1.6, label=f"against {_rival(comparison, first)}")
    for name in others:
        line = comparison.loss_difference(name)["saved"] * _SQUARED
        ax.plot(line.index, line, color=BLUE, linestyle="--", linewidth=1.1, label=f"against {_rival(comparison, name)}")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("squared error saved so far\n(per cent of return, squared)")
    ax.set_title(f"Where {comparison.challenger} won and lost: a rising line is a better challenger")
    ax.legend(frameon=False, loc="best", fontsize=8)
    return finish(ax)


def rolling(comparison: Comparison, window: int = 60) -> list[Axes]:
    """Draw each version's RMSE over the last days as a ratio to that of zero, and its hit rate."""
    window = max(1, min(window, len(comparison.target) // 2))
    top, bottom = panels(2, 1, 5.2, sharex=True)
    for ax, table, level in zip((top, bottom), comparison.rolling(window), (1.0, 0.5), strict=True):
        for (name, values), (style, colour, width) in zip(table.items(), _LINES, strict=False):
            ax.plot(values.index, values, style, color=colour, linewidth=width, label=_role(comparison, str(name)))
        ax.axhline(level, color="black", linewidth=0.8)
    top.set_ylabel("RMSE / RMSE of zero")
    top.set_title(f"Over the last {window} trading days: below the line is better than forecasting zero")
    top.legend(frameon=False, loc="best", fontsize=8)
    bottom.set_ylabel("hit rate")
    bottom.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bottom.set_title("Share of the moves whose direction was forecast: above the line is better than a coin")
    return [finish(top), finish(bottom)]


def gains(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw by how much the RMSE is below each rival's, with its interval, and the gain that these days could show."""
    table = comparison.gains()
    table = table[table["gain"].notna()].iloc[::-1].reset_index(drop=True)
    ax = axes(ax, 1.5 + 0.38 * max(1, len(table)))
    places, shown = np.arange(len(table)), table["detectable"].notna()
    ax.hlines(places, table["low"], table["high"], color=BLUE, linewidth=2.5, label="95 % interval")
    ax.plot(table["gain"], places, "o", color=ORANGE, markersize=8, label="gain")
    if shown.any():
        label = "true gain that would be detected four times out of five"
        ax.plot(table["detectable"][shown], places[shown], "|", color="black", markersize=18, markeredgewidth=2, label=label)
    if table.empty:
        ax.text(0.5, 0.5, "Nothing could be tested", ha="center", va="center", transform=ax.transAxes)
    ax.axvline(0, color="black", linewidth=0.8)
    names = table["forecast"] + " over " + table["versus"].map(lambda name: _rival(comparison, name))
    ax.set_yticks(places, names.where(shown, names + "\n(such days can show nothing)"))
    ax.set_ylim(-0.7, max(0, len(table) - 1) + 0.7)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("gain: RMSE below the rival's; right of the line is better")
    ax.set_title("How large is the gain, and how sure is it?")
    if not table.empty:
        ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.28 - 0.6 / (len(table) + 1)), ncols=3, fontsize=8)
    return finish(ax)


def calibration(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw returns against the challenger's forecasts, with the line of Mincer and Zarnowitz."""
    ax = forecast_scatter(comparison.target, comparison.forecast, f"Forecast and return: {comparison.challenger}", ax)
    slope, intercept = mincer_zarnowitz(comparison.target, comparison.forecast)
    if np.isfinite(slope):
        ends = np.array([comparison.forecast.min(), comparison.forecast.max()])
        label = f"Mincer-Zarnowitz: return = {intercept:+.3%} {slope:+.2f} x forecast"
        ax.plot(ends, intercept + slope * ends, "--", color=ORANGE, linewidth=1.4, label=label)
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    return ax


def errors(comparison: Comparison) -> list[Axes]:
    """Draw the errors of each version: how often which size, and against a normal distribution."""
    left, right = panels(1, 2, 3.6)
    table = comparison.errors()
    names = list(table.columns.drop("normal"))
    limit = float(np.quantile(np.abs(table[names[0]]), 0.99)) * 1.2 or 1.0
    for name, (style, colour, width) in zip(names, _LINES, strict=False):
        bins = list(np.linspace(-limit, limit, 61))
        left.hist(table[name], bins=bins, histtype="step", color=colour, linestyle=style, linewidth=width, label=name)
        right.plot(table["normal"], table[name], "o" if name == names[0] else "+", color=colour, markersize=3, label=name)
    spread = float(table[names[0]].std())
    ends = np.array([table["normal"].iloc[0], table["normal"].iloc[-1]])
    right.plot(ends, ends * spread, color="black", linewidth=1, label="normal distribution")
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_xlabel("error of one day: return minus forecast")
    left.set_ylabel("days")
    left.set_title("Errors")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.set_xlabel("quantile of a normal distribution (standard deviations)")
    right.set_ylabel("quantile of the error")
    right.set_title("Steeper at the ends: more large errors than normal")
    for ax in (left, right):
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    return [finish(left), finish(right)]


def strategies(comparison: Comparison) -> list[Axes]:
    """Draw what following the sign of each forecast would have made of one unit of capital, net of costs."""
    top, bottom = panels(2, 1, 5.2, sharex=True)
    capital, fallen = comparison.strategies()
    for name, (style, colour, width) in zip(capital, _LINES, strict=False):
        label = f"{MEAN} (mostly: hold the share)" if name == MEAN else _role(comparison, str(name))
        top.plot(capital.index, capital[name], style, color=colour, linewidth=width, label=label)
        bottom.plot(fallen.index, -fallen[name], style, color=colour, linewidth=width)
    top.axhline(1, color="black", linewidth=0.8)
    top.set_ylabel("capital (1 at the beginning)")
    top.set_title(f"Long or short by the sign of the forecast, after costs of {comparison.cost:.2%} of what is traded")
    top.legend(frameon=False, loc="best", fontsize=8)
    bottom.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bottom.set_ylabel("below the highest so far")
    bottom.set_title("Drawdown")
    return [finish(top), finish(bottom)]


def windows(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw which days each version was trained and chosen on, what was left out, and which days are compared."""
    frame = comparison.frame
    versions = [v for v in (*reversed(frame.others), frame.champion, frame.challenger) if v is not None]
    ax = axes(ax, 1.6 + 0.35 * len(versions))
    begin, end = day(comparison.first_day), day(comparison.last_day)
    told: set[str] = set()

    for row, version in enumerate(versions):
        facts = frame.facts[version]
        for name, window in facts["windows"].items():
            first, last = day(window["first_day"]), day(window["last_day"])
            ax.barh(row, last - first, left=first, color=WINDOWS[name], height=0.5, label=None if name in told else name)
            told.add(name)
        seen = day(facts["seen"]["last_day"])
        label = None if "gap" in told else "left out: horizon, embargo, days of others"
        ax.barh(row, begin - seen, left=seen, color="white", edgecolor=GREY, hatch="////", height=0.5, label=label)
        told.add("gap")
        ax.barh(row, end - begin, left=begin, color=GREEN, height=0.5, label=None if "compared" in told else "compared here")
        told.add("compared")
    ax.set_yticks(range(len(versions)), [_role(comparison, column(version)) for version in versions])
    ax.xaxis_date()
    ax.set_title("No version has seen the days that it is judged on")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.1 - 0.2 / len(versions)), ncols=4, fontsize=8)
    return finish(ax)


def drift(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Draw how far the distribution of each feature moved since the training, beside what chance alone would do."""
    table = comparison.frame.drift.head(_MOST_BARS).iloc[::-1]
    ax = axes(ax, 1.4 + 0.24 * max(3, len(table)))
    colours = [ORANGE if moved else SKY for moved in table["psi"] > table["threshold"]]
    ax.barh(range(len(table)), table["psi"], color=colours, height=0.6)
    for row, threshold in enumerate(table["threshold"]):
        label = "more than this is not chance (5 %)" if row == 0 else None
        ax.plot(threshold, row, "|", color="black", markersize=11, markeredgewidth=2, label=label)
    if table.empty:
        ax.text(0.5, 0.5, "Not measured: the training window is not known", ha="center", va="center", transform=ax.transAxes)
    else:
        ax.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, -0.1), fontsize=8)
    ax.set_yticks(range(len(table)), list(table.index), fontsize=8)
    ax.set_xlabel("population stability index: 0 is no change")
    count = int((comparison.frame.drift["psi"] > comparison.frame.drift["threshold"]).sum())
    total = len(comparison.frame.drift)
    ax.set_title(f"Drift since the training of {comparison.challenger}: {count} of {total} features; the {len(table)} largest")
    return finish(ax)


def _rival(comparison: Comparison, name: str) -> str:
    words = {ZERO: "forecasting zero", MEAN: "the constant mean"}
    return words.get(name, f"the champion ({name})" if name == comparison.champion else name)


def _role(comparison: Comparison, name: str) -> str:
    if name == comparison.champion:
        return f"{name} (champion)"
    return f"{name} (challenger)" if name == comparison.challenger else name
