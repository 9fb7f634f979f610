"""Figures of what serves: the evidence against it, and what its live forecasts saved."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from fxhelpers.forecasts import Watch, WatchedSymbol
from fxhelpers.plots._figures import BLUE, DOUBT, GREEN, GREY, ORANGE, axes, dates, day, finish, nothing
from fxhelpers.watching import excess_losses

_LEAST = 1e-3  # evidence that is drawn
_GAP_MARKS = {
    "late": ("x", ORANGE),
    "without a number": ("v", GREY),
    "without a forecast": ("|", GREY),
    "without a return": ("s", BLUE),
}


def live(watched: Watch) -> list[Axes]:
    """Draw evidence and saved errors of the worst symbols."""
    return [draw(one) for one in watched.worst for draw in (live_evidence, live_losses)]


def live_evidence(found: WatchedSymbol, ax: Axes | None = None) -> Axes:
    """Draw the evidence that what serves is worse than forecasting zero, by live day, with the two thresholds of an alarm."""
    ax = axes(ax, 3.4)
    title = f"{found.symbol}: evidence against what serves ({found.word})"
    watched = found.versus_zero
    if watched is None or watched.days.empty:
        nothing(ax, found.reason)
        ax.set(title=title, xticks=[], yticks=[])
        return finish(ax)
    days, bounds = watched.days, watched.thresholds
    for name, bound, color, style in (("e_process", bounds.e_process, BLUE, "-"), ("e_detector", bounds.e_detector, GREEN, "--")):
        words = name.replace("_", "-")
        ax.plot(days.index, days[name].clip(lower=_LEAST), linestyle=style, color=color, linewidth=1.4, label=words)
        ax.axhline(bound, color=color, linewidth=0.9, linestyle=":", label=f"{words}: alarm at {bound:,.0f}")
    if watched.first_alarm is not None:
        ax.axvline(
            day(f"{watched.first_alarm:%Y-%m-%d}"), color=DOUBT, linewidth=1, label=f"alarm on {watched.first_alarm:%Y-%m-%d}"
        )
    ax.set_yscale("log")
    top = max(bounds.e_detector, float(days[["e_process", "e_detector"]].max().max()))
    ax.set_ylim(_LEAST, 5 * top)
    dates(ax)
    ax.set(ylabel="evidence, log scale", title=title)
    return finish(ax)


def live_losses(found: WatchedSymbol, ax: Axes | None = None) -> Axes:
    """Draw the squared error saved against forecasting zero by what served and by the champion before, and the missed days."""
    ax = axes(ax, 3.4)
    title = f"{found.symbol}: error saved against forecasting zero: up is better"
    if found.live is None or found.live.days.empty:
        nothing(ax, "No live day yet.")
        ax.set(title=title, xticks=[], yticks=[])
        return finish(ax)
    days = found.live.days
    whole = float((days["actual"] ** 2).sum()) or 1.0
    both = days.dropna()
    for name, rows, color, style in (("forecast", days, ORANGE, "-"), ("predecessor", both, GREY, "--")):
        if len(rows):
            saved = -excess_losses(rows["actual"], rows[name]).cumsum() / whole
            label = f"what served, {len(rows)} live days" if name == "forecast" else "the champion before"
            ax.plot(rows.index, saved, linestyle=style, color=color, linewidth=1.4, label=label)
    ax.axhline(0, color="black", linewidth=0.8)
    low = ax.get_ylim()[0]
    for why, (marker, color) in _GAP_MARKS.items():
        missed = np.array(found.live.gaps.get(why, ()), dtype="datetime64[D]")
        if len(missed):
            label = f"{len(missed)} {why}"
            ax.plot(missed, np.full(len(missed), low), marker, color=color, markersize=4, linestyle="", label=label)
    dates(ax)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(ylabel="saved so far, share of zero's total", title=title)
    return finish(ax)
