"""Who was in Production when."""

from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter

from fxhelpers.ledger import AGAINST, ProductionPeriod, labels
from fxhelpers.plots.style import BLUE, GREY, ORANGE, SKY, axes, day, finish


def production_periods(history: list[ProductionPeriod], now: str, ax: Axes | None = None) -> Axes:
    """Draw which version was in Production from when to when; ``now`` (ISO 8601) ends the present reign."""
    known = labels(version for version in (period.identity() for period in history) if version)
    versions = list(known)
    ax = axes(ax, 1.2 + 0.4 * max(1, len(versions)))
    for period in history:
        version = period.identity()
        if version is None:
            continue
        first, last = day(period.since), day(period.until or now)
        row = versions.index(version)
        against = AGAINST in period.mark
        colour = ORANGE if against else SKY if period.mark else BLUE if period.decision else GREY
        hatch = "//" if against else ".." if period.mark else None
        ax.barh(row, last - first, left=first, height=0.5, color=colour, hatch=hatch, edgecolor="white")
        ax.plot(first, row, "|", color="black", markersize=14)
    if not versions:
        ax.text(0.5, 0.5, "No version was ever in Production", ha="center", va="center", transform=ax.transAxes)
    ax.set_yticks(range(len(versions)), list(known.values()))
    ax.xaxis_date()
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    ax.set_xlabel("UTC")
    told = {"grey: without a decision": any(not r.decision for r in history)}
    told["hatched: against the verdict"] = any(AGAINST in r.mark for r in history)
    told["dotted: no evidence of skill, or not compared"] = any(r.mark and AGAINST not in r.mark for r in history)
    marks = "; ".join(mark for mark, there in told.items() if there)
    ax.set_title("In Production" + (f" ({marks})" if marks else ""))
    return finish(ax)
