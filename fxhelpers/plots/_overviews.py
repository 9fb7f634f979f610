"""Figures of many symbols or decisions."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fxhelpers.ledger import AGAINST, NO_SKILL, ProductionPeriod, labels
from fxhelpers.plots._figures import BLUE, GREEN, GREY, ORANGE, SKY, axes, dates, day, finish, nothing
from fxhelpers.portfolio import OneTest, Portfolio

_COLORS = {"promoted": GREEN, "promote": GREEN, "keep": BLUE, "inconclusive": SKY, "completed": BLUE}
_MANY = 40


def portfolio(found: Portfolio) -> list[Axes]:
    """Draw the number of symbols by outcome, and each challenger's gain over its rival."""
    runs = found.runs
    gains = -runs["rmse_change"].dropna().sort_values() if "rmse_change" in runs else None
    drawn = [_counts(found)]
    if gains is None or gains.empty:
        return drawn
    ax = axes(None, 2.2 + 0.14 * min(len(gains), _MANY))
    promoted = runs.loc[gains.index, "result"].eq("promoted") | runs.loc[gains.index, "verdict"].eq("promote")
    marked = found.marks[gains.index].ne("")
    places = np.arange(len(gains))
    ax.axvline(0, color=GREY, linewidth=0.8)
    kinds = [(promoted & ~marked, GREEN, "o", "promote"), (promoted & marked, ORANGE, "D", f"promote, {NO_SKILL}")]
    for rows, color, marker, label in (*kinds, (~promoted, BLUE, "x", "not promoted")):
        if rows.any():
            ax.plot(gains[rows], places[rows], marker, color=color, markersize=5, label=label)
    if len(gains) <= _MANY:
        ax.set_yticks(places, list(gains.index))
        ax.margins(y=0.1)
    else:
        ax.set_ylabel(f"{len(gains)} symbols, best first")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="RMSE below the champion's, or that of zero without one", title="Gain in RMSE: right is better")
    return [*drawn, finish(ax)]


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
    ax.set(xlabel="rank", ylabel="p, adjusted for attempts (log scale)", title="p of each symbol, adjusted for all symbols")
    return finish(ax)


def pooled(found: Portfolio) -> list[Axes]:
    """Draw a recipe's pooled loss difference, in the band of chance, and each symbol's own gain; nothing without such a test."""
    test = found.one_test
    if test is None or test.result.days.empty:
        return []
    ax, path = axes(None, 2.9), test.result.path()
    band = "95 % band of equally good recipes"
    ax.fill_between(path.index, path["low"], path["high"], color=GREY, alpha=0.2, lw=0, label=band)
    label = f"mean over {test.pooled.over}"
    ax.plot(path.index, path["saved"], color=ORANGE, linewidth=1.6, label=label)
    ax.axhline(0, color="black", linewidth=0.8)
    dates(ax)
    ax.set(ylabel="saved so far (standard deviations)", title="Pooled loss difference of the recipe: up is better")
    return [finish(ax), _own_gains(test)]


def _own_gains(test: OneTest) -> Axes:
    gains, pooled = test.gains.sort_values("gain"), test.pooled
    ax = axes(None, 2.2 + 0.14 * min(len(gains), _MANY))
    places = np.arange(len(gains))
    if math.isfinite(pooled.low):
        ax.axvspan(pooled.low, pooled.high, color=ORANGE, alpha=0.2, lw=0, label="mean gain, 95 % interval")
    ax.axvline(pooled.gain, color=ORANGE, linestyle="--", linewidth=1.4, label="mean gain")
    ax.hlines(places, gains["low"], gains["high"], color=BLUE, linewidth=1.2, label="own gain, 95 % interval")
    ax.plot(gains["gain"], places, "o", color=BLUE, markersize=5 if len(gains) <= _MANY else 2.5, label="own gain")
    ax.axvline(0, color="black", linewidth=0.8)
    if len(gains) <= _MANY:
        ax.set_yticks(places, list(gains.index))
    else:
        ax.set_ylabel(f"{len(gains)} symbols, best first")
    ax.set_ylim(-0.7, len(gains) - 0.3)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="RMSE below the champion's; right is better", title="Gain in RMSE of each symbol pooled")
    return finish(ax)


def _counts(found: Portfolio) -> Axes:
    counts = found.counts.iloc[::-1]
    ax = axes(None, 1.2 + 0.4 * max(1, len(counts)))
    names = [str(what).replace(", ", ",\n") for what in counts.index]
    bars = ax.barh(names, counts, color=[_COLORS.get(str(what), ORANGE) for what in counts.index])
    ax.bar_label(bars, padding=3)
    ax.margins(x=0.15)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="symbols", title="Symbols by outcome")
    if counts.empty:
        nothing(ax, "No batch yet")
        ax.set_axis_off()
    return finish(ax)


def production_periods(history: list[ProductionPeriod], now: str, ax: Axes | None = None) -> Axes:
    """Draw the production periods of each version; ``now`` (ISO 8601) ends the present one."""
    known = labels(version for version in (period.identity() for period in history) if version)
    versions = list(known)
    ax = axes(ax, 1.6 + 0.4 * max(1, len(versions)))
    named: set[str] = set()
    for period in history:
        version = period.identity()
        if version is None:
            continue
        first, last = day(period.since), day(period.until or now)
        row, label, color, hatch = versions.index(version), "by decision", BLUE, None
        if AGAINST in period.mark:
            label, color, hatch = AGAINST, ORANGE, "//"
        elif period.mark:
            label, color, hatch = "no evidence of skill, or not compared", SKY, ".."
        elif not period.decision:
            label, color = "without a decision", GREY
        new = None if label in named else label
        ax.barh(row, last - first, left=first, height=0.5, color=color, hatch=hatch, edgecolor="white", label=new)
        ax.plot(first, row, "|", color="black", markersize=14)
        named.add(label)
    if not versions:
        nothing(ax, "No version was ever in Production")
    ax.set_yticks(range(len(versions)), list(known.values()))
    dates(ax)
    ax.set(xlabel="UTC", title="Versions in Production")
    return finish(ax)
