"""Figures of a backtest: what each policy served was worth, and which model served when."""

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fxhelpers.backtest import Backtest
from fxhelpers.plots._figures import BLUE, GREEN, GREY, ORANGE, SKY, axes, dates, finish

_PURPLE, _YELLOW = "#CC79A7", "#E69F00"
_STYLES = {
    "policy": ("-", ORANGE, 1.8),
    "tried": ("-", _PURPLE, 1.4),
    "non_inferiority": ((0, (6, 1.5)), "black", 1.2),
    "newest": ("--", BLUE, 1.4),
    "half": (":", GREEN, 1.6),
    "never": ("-.", SKY, 1.4),
}
_OTHERS = (((0, (1, 1)), _YELLOW, 1.4), ((0, (3, 1, 1, 1)), GREY, 1.2))
_MODELS = ((BLUE, ""), (ORANGE, "//"), (GREEN, ".."), (_PURPLE, "\\\\"), (_YELLOW, "xx"), (SKY, "||"))


def backtest_gains(found: Backtest, ax: Axes | None = None) -> Axes:
    """Draw the squared error that each policy saved against forecasting zero, with its interval."""
    table = found.summary.iloc[::-1]
    ax = axes(ax, 1.7 + 0.3 * len(table))
    places = np.arange(len(table))
    ax.hlines(places, table["low"], table["high"], color=BLUE, linewidth=2.5, label="95 % interval")
    ax.plot(table["gain"], places, "o", color=ORANGE, markersize=7, label="saved")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(places, [str(name) for name in table.index])
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    title = f"{found.symbol}: squared error saved, {len(found.served):,} days"
    ax.set(xlabel="share of zero's squared error; right is better", title=title)
    return finish(ax)


def backtest_losses(found: Backtest, ax: Axes | None = None) -> Axes:
    """Draw the cumulative squared error that each policy saved against forecasting zero, in the first one's band of chance."""
    ax = axes(ax, 3.4)
    others = cycle(_OTHERS)
    for policy in found.policies:
        saved, (style, color, width) = found.loss_saved(policy), _STYLES.get(policy) or next(others)
        if policy == found.policies[0] and saved["low"].notna().all():
            label = f"{policy}: 95 % band of chance"
            ax.fill_between(saved.index, saved["low"], saved["high"], color=GREY, alpha=0.2, lw=0, label=label)
        ax.plot(saved.index, saved["saved"], linestyle=style, color=color, linewidth=width, label=policy)
    ax.axhline(0, color="black", linewidth=0.8)
    dates(ax)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(
        ylabel="saved so far, share of zero's total", title=f"{found.symbol}: error saved against forecasting zero: up is better"
    )
    return finish(ax)


def backtest_periods(found: Backtest, ax: Axes | None = None) -> Axes:
    """Draw which model served when by each policy, with a tick where another refit began to serve."""
    rows = {policy: place for place, policy in enumerate(reversed(found.policies))}
    ax = axes(ax, 1.6 + 0.34 * len(rows))
    looks, named = dict(zip(found.models, _MODELS, strict=False)), set()
    begin, end = found.served.index[0], found.periods["until"].max()
    for row in rows.values():
        ax.barh(row, date2num(end) - date2num(begin), left=date2num(begin), height=0.5, color="#EEEEEE")  # type: ignore[no-untyped-call]
    for period in found.periods.itertuples():
        first, last = date2num(period.since), date2num(period.until)  # type: ignore[no-untyped-call]
        color, hatch = looks.get(str(period.model), _MODELS[-1])
        label = None if period.model in named else str(period.model)
        row = rows[str(period.policy)]
        ax.barh(row, last - first, left=first, height=0.5, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=label)
        ax.plot(first, row - 0.36, "|", color="black", markersize=4, label=None if "fit" in named else "another refit serves")
        named |= {str(period.model), "fit"}
    ax.barh(0, 0, color="#EEEEEE", label="no champion: counts as zero")
    ax.set_yticks(list(rows.values()), list(rows))
    dates(ax)
    ax.set_xlim(date2num(begin), date2num(end))  # type: ignore[no-untyped-call]
    ax.set(title=f"{found.symbol}: which model served")
    return finish(ax)
