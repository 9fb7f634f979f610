"""Figures of many symbols at once."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fxhelpers.ledger import NO_SKILL
from fxhelpers.plots.style import BLUE, GREEN, GREY, ORANGE, SKY, axes, finish, panels
from fxhelpers.portfolio import Portfolio

_COLOURS = {"promoted": GREEN, "promote": GREEN, "keep": BLUE, "inconclusive": SKY, "completed": BLUE}
_MANY = 40


def portfolio(found: Portfolio) -> list[Axes]:
    """Draw how many symbols came to what, and each challenger's gain over its rival."""
    runs = found.runs
    gains = -runs["rmse_change"].dropna().sort_values() if "rmse_change" in runs else None
    if gains is None or gains.empty:
        return [_counts(found, axes(None, 0.8 + 0.4 * len(found.counts)))]
    left, right = panels(1, 2, 3.6)
    _counts(found, left)
    promoted = runs.loc[gains.index, "result"].eq("promoted") | runs.loc[gains.index, "verdict"].eq("promote")
    marked = found.marks[gains.index].ne("")
    places = np.arange(len(gains))
    right.axvline(0, color=GREY, linewidth=0.8)
    kinds = [(promoted & ~marked, GREEN, "o", "promote"), (promoted & marked, ORANGE, "D", f"promote, {NO_SKILL}")]
    for rows, colour, marker, label in (*kinds, (~promoted, BLUE, "x", "do not")):
        if rows.any():
            right.plot(gains[rows], places[rows], marker, color=colour, markersize=5, label=label)
    if len(gains) <= _MANY:
        right.set_yticks(places, list(gains.index), fontsize=7)
        right.margins(y=0.1)
    else:
        right.set_ylabel(f"{len(gains)} symbols, best first")
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set_xlabel("RMSE below that of the champion, or of zero where there is none; right is better")
    right.xaxis.label.set_fontsize(8)
    right.set_title("Gain")
    right.legend(frameon=False, fontsize=8)
    return [left, finish(right)]


def family(found: Portfolio, ax: Axes | None = None) -> Axes | None:
    """Draw every symbol's p by rank, and the line of Benjamini and Hochberg below which it survives; None without a family."""
    together = found.family
    if together is None or not together.p:
        return None
    ax = axes(ax, 3.6)
    p = np.sort(list(together.p.values()))
    ranks = np.arange(1, len(p) + 1)
    line = together.fdr * ranks / len(p)
    below = np.flatnonzero(p <= line)
    survivors = below[-1] + 1 if len(below) else 0
    ax.plot(ranks, line, color=ORANGE, label=f"{together.fdr:g} x rank / {len(p)}")
    ax.plot(ranks[:survivors], p[:survivors], "o", color=GREEN, markersize=5, label=f"{survivors} survive")
    ax.plot(ranks[survivors:], p[survivors:], "x", color=BLUE, markersize=5, label=f"{len(p) - survivors} do not")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("rank")
    ax.set_ylabel("p, adjusted for attempts (log scale)")
    ax.set_title("Who survives the adjustment for all symbols")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return finish(ax)


def _counts(found: Portfolio, ax: Axes) -> Axes:
    counts = found.counts.iloc[::-1]
    bars = ax.barh([str(what) for what in counts.index], counts, color=[_COLOURS.get(str(what), ORANGE) for what in counts.index])
    ax.bar_label(bars, padding=3)
    ax.margins(x=0.15)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("symbols")
    if counts.empty:
        ax.text(0.5, 0.5, "No batch was run yet", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
    ax.set_title("What they came to")
    return finish(ax)
