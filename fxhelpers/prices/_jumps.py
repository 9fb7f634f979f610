"""Jumps in the prices of one share that no exchange printed: wrong decimals and units, splits, and rows of other shares.

Damage is told from news by what a day looks like besides its price. News that moves a price comes with a wide range and a high
volume; a split that was adjusted nowhere, or the first row of another share, is a gap into an ordinary day.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fxhelpers.prices._finding import PriceFinding, Severity
from fxhelpers.prices._ordinary import WINDOW, CheckedPrices, Flags, Floats, Ints, Ordinary, medians, news

SPLITS = {
    **{f"{new}:1": float(new) for new in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)},
    **{f"{new}:{old}": new / old for new, old in ((3, 2), (5, 2), (4, 3), (5, 3), (5, 4))},
}
"""New shares for old shares, by the name of the split; a reverse split is the inverse of a whole number."""

_NEAR = 10  # days before and after that a spike stands out from
_SPIKE = 8.0  # a spike is at least this many times its neighbors; the factors in question are 10, 100 and 1000
_UNIT = 50.0  # from here on it cannot be a price
_WICK = 1.6  # smallest factor between a wrong High or Low and the rest of its row,
_WICK_RANGES = 8  # and in ranges
_LONGEST = 500  # days of another share
_PAIRED = 0.5  # jumps that undo each other are doubtful from this share of the bound on,
_SHIFT = 0.5  # and from less if the volume changes with them: by this much per unit of its logarithm,
_MOST_SHIFT = 1.5  # up to here
_SPLIT = 0.35  # as are jumps that fit a split,
_FITTING = 1.5  # off by at most so many ranges,
_SAME_VOLUME = 0.9  # if the volume stays at its level, or follows the split, but for this
_UNTRADED = 1.5  # jumps are doubtful from so many times the bound on if there are no volumes
_MANY = 300  # pairs are sought among so many of the largest jumps
_COMPARE = "rows of another share? Compare with another source"


def check_jumps(prices: CheckedPrices) -> Iterator[PriceFinding]:
    """Find wrong decimals and units, splits, and rows of other shares."""
    days = prices.ordinary
    bound = prices.bounds.jump * (1.0 if days.traded else _UNTRADED)
    far = _far(days)
    yield from _say_far(prices, far)
    known = (far > 1) | np.r_[False, far[:-1] > 1]
    large = (np.abs(days.gap) > np.log(_UNIT)) & ~known
    if large.any() and np.ptp(np.sign(days.gap[large])) > 0:
        yield _say_units(prices, np.where(large, np.sign(days.gap), 0.0))
        known |= large
    jump = np.where(known, 0.0, days.jump)
    stretches = [pair for pair in _stretches(days, jump, bound) if not _is_split(days, *pair)]
    known[[at for stretch in stretches for at in stretch]] = True
    score = np.where(known, 0.0, days.score)
    undone = np.abs(days.opens - np.r_[days.opens[:1], days.opens[:-1]]) < days.scale
    stretches += [(int(at) - 1, int(at)) for at in np.flatnonzero(undone & (score > _PAIRED * bound))]
    score[undone & (score > _PAIRED * bound)] = 0.0
    yield from _say_stretches(prices, stretches)
    yield from _say_single(prices, days, score, bound)


def _far(days: Ordinary) -> Floats:
    """Return the factor between a price and those of the days before and after; of a High or Low, also between it and its row."""
    before, after = medians(days.close, _NEAR)
    prices = np.array([days.opens, days.high, days.low, days.close])
    away = np.maximum(np.minimum(prices - before, prices - after), np.minimum(before - prices, after - prices))
    away = np.nan_to_num(away.max(axis=0))  # the first and the last day have no neighbors on one side
    body = prices[[0, 3]]
    wick = np.maximum(days.high - body.max(axis=0), body.min(axis=0) - days.low)
    away = np.where(away > np.log(_SPIKE), away, 0.0)
    return np.exp(np.maximum(away, np.where(wick > np.maximum(np.log(_WICK), _WICK_RANGES * days.scale), wick, 0.0)))


def _mean(sums: Floats, first: Ints, end: Ints) -> Floats:
    """Means of rows first to end, from cumulative sums."""
    first, end = np.maximum(first, 0), np.minimum(end, len(sums) - 1)
    return np.asarray((sums[end] - sums[first]) / np.maximum(end - first, 1), dtype=float)


def _stretches(days: Ordinary, jump: Floats, bound: float) -> list[tuple[int, int]]:
    """Return first and one past the last position of stretches between two jumps that undo each other.

    A jump counts less if news explains it, and more if the level of the volume changes with it and changes back.
    """
    jumps = np.flatnonzero(jump > _PAIRED * bound / (1 + _SHIFT * _MOST_SHIFT))
    jumps = np.sort(jumps[np.argsort(-jump[jumps], kind="stable")][:_MANY])
    first, end = (side.ravel() for side in np.meshgrid(jumps, jumps, indexing="ij"))
    length = end - first
    possible = (length > 0) & (length <= _LONGEST) & (days.gap[first] * days.gap[end] < 0)
    first, end, length = first[possible], end[possible], length[possible]
    left = np.abs(days.opens[end] - days.close[first - 1])  # of both jumps
    smaller = np.minimum(np.abs(days.gap[first]), np.abs(days.gap[end]))
    undone = left <= 2 * days.scale[first] * np.sqrt(length) + 0.3 * smaller
    first, end, length = first[undone], end[undone], length[undone]

    sums = np.r_[0.0, np.cumsum(pd.Series(days.volume).ffill().fillna(0.0))]
    near = np.minimum(length, WINDOW)
    before, after = _mean(sums, first - WINDOW, first), _mean(sums, end, end + WINDOW)
    begin, finish = _mean(sums, first, first + near), _mean(sums, end - near, end)
    there, back = begin - before, after - finish
    shift = np.where(there * back < 0, np.minimum(np.abs(there), np.abs(back)), 0.0) * np.sqrt(near / WINDOW)
    volume = np.nan_to_num(days.volume)
    entry = jump[first] / news(volume[first] - np.maximum(before, begin))
    leave = jump[end] / news(volume[end] - np.maximum(finish, after))
    found = np.minimum(entry, leave) * (1 + _SHIFT * np.minimum(shift, _MOST_SHIFT)) >= _PAIRED * bound
    taken: set[int] = set()
    stretches = []
    for one, other in sorted(zip(first[found].tolist(), end[found].tolist(), strict=True), key=lambda pair: pair[1] - pair[0]):
        if one not in taken and other not in taken:
            taken |= {one, other}
            stretches.append((one, other))
    return sorted(stretches)


def _say_far(prices: CheckedPrices, far: Floats) -> Iterator[PriceFinding]:
    """Say which prices stand out; the day after each has a wrong return, too."""
    by_severity: dict[Severity, Flags] = {"refused": far >= _UNIT, "doubtful": (far > 1) & (far < _UNIT)}
    for severity, rows in by_severity.items():
        if rows.any():
            what = f"a price that is up to {far[rows].max():,.0f} times its neighbors, or as small a part of them"
            do = "correct the decimal point or the unit (pence, pounds)"
            after = rows | np.r_[False, rows[:-1]]
            yield prices.finding("spike", severity, what, do, prices.days[after], times=int(rows.sum()))


def _say_units(prices: CheckedPrices, turns: Floats) -> PriceFinding:
    """Say which days have the rarer unit; those after a change have a wrong return."""
    level = np.cumsum(turns)
    levels, counts = np.unique(level, return_counts=True)
    rows = (level != levels[np.argmax(counts)]) | (turns != 0)
    what = "prices in two units, such as pence and pounds"
    return prices.finding("spike", "refused", what, "give all prices in one unit", prices.days[rows])


def _say_stretches(prices: CheckedPrices, stretches: list[tuple[int, int]]) -> Iterator[PriceFinding]:
    """Say what lies between two jumps: a wrong row, or rows of another share."""
    short = [(first, end) for first, end in stretches if end - first == 1]
    long = [(first, end) for first, end in stretches if end - first > 1]
    for check, when, do, some in (("spike", "a day", "correct the row", short), ("splice", "days", _COMPARE, long)):
        if some:
            rows = np.unique(np.concatenate([np.arange(first, end + 1) for first, end in some]))
            what = f"a jump that is undone {when} later, without the range and volume that news has"
            yield prices.finding(check, "doubtful", what, do, prices.days[rows], times=len(some))


def _say_single(prices: CheckedPrices, days: Ordinary, score: Floats, bound: float) -> Iterator[PriceFinding]:
    """Say what nothing undoes: splits, and rows of another share from the first day on or to the last."""
    fits = {int(at): _split(days, int(at)) for at in np.flatnonzero(score > _SPLIT * bound)}
    splits = {at: name for at, name in fits.items() if name}
    if splits:
        what = f"a jump as of a split {next(iter(splits.values()))} that was not adjusted for"
        do = "if there was one, divide the earlier prices by it and multiply the volumes, or give Adj Close; if not, " + _COMPARE
        yield _finding_of_jumps(prices, "split", what, do, list(splits))
    others = [at for at, name in fits.items() if not name and score[at] >= bound]
    if others:
        what = f"a jump by {np.exp(days.gap[others[0]]) - 1:+.0%}, without the range and volume that news has"
        yield _finding_of_jumps(prices, "splice", what, f"before or after it, {_COMPARE}", others)


def _finding_of_jumps(prices: CheckedPrices, check: str, what: str, do: str, jumps: list[int]) -> PriceFinding:
    """Concern the days of the jumps and, if it is not long, what lies between a jump and the nearer end of the file."""
    last = len(prices.days)
    rows = np.zeros(last, dtype=bool)
    for at in jumps:
        rows[at] = True
        if min(at, last - at) <= _LONGEST:
            rows[slice(0, at) if at <= last / 2 else slice(at, last)] = True
    return prices.finding(check, "doubtful", what, do, prices.days[rows], times=len(jumps), first=prices.days[jumps[0]])


def _is_split(days: Ordinary, first: int, end: int) -> bool:
    """Return whether the larger of two jumps fits a split, and the other one is too small to undo it."""
    smaller, larger = sorted((first, end), key=lambda at: abs(float(days.gap[at])))
    return bool(abs(days.gap[smaller]) < abs(days.gap[larger]) / 2 and _split(days, larger))


def _split(days: Ordinary, at: int) -> str:
    """Name the split that a gap and the volume fit; empty if they fit none."""
    down = days.gap[at] < 0
    ratios = {name: ratio for name, ratio in SPLITS.items() if down or name.endswith(":1")}
    off = np.abs(np.abs(days.gap[at]) - np.log(list(ratios.values())))
    best = int(np.argmin(off))
    volume = min(abs(days.shift[at]), abs(days.shift[at] + days.gap[at]))
    if off[best] > _FITTING * days.scale[at] or volume > _SAME_VOLUME:
        return ""
    new, old = list(ratios)[best].split(":")
    return f"{new}:{old}" if down else f"{old}:{new}"
