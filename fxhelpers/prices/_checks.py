"""What no exchange printed: checks of the daily prices of one share.

Every check is a function that returns its findings; :func:`check_prices` returns those of all. Rows that cannot be are left
out of the checks that compare days with each other.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from fxhelpers.params._prices import PriceChecksParams
from fxhelpers.prices._finding import PriceFinding, Severity
from fxhelpers.prices._jumps import check_jumps
from fxhelpers.prices._ordinary import WEEKLY, CheckedPrices, Flags

PRICES = ["Open", "High", "Low", "Close"]

_FEWEST = 30  # days below which days are not compared with each other
_MONTHLY = 20  # calendar days between most rows of monthly bars, at least
_NEARBY = 60  # days before and after a run of equal closes that tell how often closes are equal
_ODDS = 1e-6  # of as many equal closes in a row


def check_prices(
    frame: pd.DataFrame,
    *,
    sessions: pd.DatetimeIndex | None,
    bounds: PriceChecksParams,
    now_day: pd.Timestamp,
    rounding: "pd.Series[float] | None" = None,
) -> list[PriceFinding]:
    """Find what no exchange printed.

    Parameters
    ----------
    frame : DataFrame of shape (n_days, 5)
        Columns Open, High, Low, Close and Volume, adjusted; index: Date, sorted; dates may repeat.
    sessions : DatetimeIndex or None
        All sessions of the exchange from the first to the last day; its name is that of the calendar. None: any day trades.
    bounds : PriceChecksParams
        The section ``prices.checks`` of ``params.yaml``.
    now_day : Timestamp
        The current day on the exchange.
    rounding : Series or None, default None
        By day, the largest error of a price by rounding, relative to the price. None: prices are not rounded.

    Returns
    -------
    list of PriceFinding
        All findings, not only the first; empty if there are none.
    """
    if frame.empty:
        return []
    days = pd.DatetimeIndex(frame.index)
    errors = np.zeros(len(days))
    if rounding is not None:
        errors = np.asarray(rounding[~rounding.index.duplicated()].reindex(days).fillna(0.0), dtype=float)
    prices = CheckedPrices(frame, sessions, bounds, now_day, errors)
    findings = [finding for check in _OF_ROWS for finding in check(prices)]
    possible = _possible(prices)
    sound = CheckedPrices(frame[possible], sessions, bounds, now_day, errors[possible])
    if len(sound.frame) >= _FEWEST and sound.step < WEEKLY:
        findings += [finding for check in _OF_NEIGHBOURS for finding in check(sound)]
    return findings


def _bad_rows(prices: CheckedPrices) -> dict[str, tuple[str, Flags]]:
    values = prices.frame[[*PRICES, "Volume"]].to_numpy(dtype=float)
    return {
        "missing": ("a missing or infinite value", ~np.isfinite(values).all(axis=1)),
        "zero": ("a price that is not above zero", (values[:, :4] <= 0).any(axis=1)),
        "negative_volume": ("a negative volume", values[:, 4] < 0),
        "crossed": ("High below Low", prices.values("High") < prices.values("Low") * (1 - 2 * prices.rounding - 1e-9)),
    }


def _possible(prices: CheckedPrices) -> Flags:
    bad = np.logical_or.reduce([rows for _, rows in _bad_rows(prices).values()])
    return ~np.asarray(bad | prices.days.duplicated() | (prices.days > prices.now_day))


def _check_rows(prices: CheckedPrices) -> Iterator[PriceFinding]:
    for check, (what, rows) in _bad_rows(prices).items():
        if rows.any():
            yield prices.finding(check, "refused", what, "fix the prices at their source", prices.days[rows])


def _check_duplicates(prices: CheckedPrices) -> Iterator[PriceFinding]:
    again = prices.days.duplicated()
    if again.any():
        most = prices.days[again].nunique() > prices.days.nunique() / 2
        do = "most dates do: intraday bars, or rows of several shares; give one row a day of one share"
        do = do if most else "keep the right row of each date"
        yield prices.finding("duplicates", "refused", "a date that occurs more than once", do, prices.days[again])


def _check_future(prices: CheckedPrices) -> Iterator[PriceFinding]:
    late = prices.days[prices.days > prices.now_day]
    if len(late):
        do = f"on the exchange it is {prices.now_day:%Y-%m-%d}: remove these rows, or correct how their dates are written"
        yield prices.finding("future", "refused", "a date after today", do, late)


def _check_step(prices: CheckedPrices) -> Iterator[PriceFinding]:
    if prices.step >= WEEKLY and len(prices.days) > 1:
        bars = "weekly" if prices.step < _MONTHLY else "monthly"
        message = (
            f"{bars} bars: most rows are {prices.step:.0f} calendar days apart; "
            "daily bars are required: download the prices again with interval 1d"
        )
        yield PriceFinding(check="weekly", severity="refused", message=message)


def _check_sessions(prices: CheckedPrices) -> Iterator[PriceFinding]:
    past = prices.days[prices.days <= prices.now_day].unique()
    if prices.step >= WEEKLY or past.empty:
        return
    if prices.sessions is None:
        yield from _check_holes(prices, past)
        return
    name = prices.sessions.name or "prices.calendar"
    alien = past[~past.isin(prices.sessions)]
    if len(alien):
        do = "set prices.calendar to the share's exchange, e.g. XTKS, XLON, XETR, or null: any day trades"
        yield prices.finding("no_session", "refused", f"a day that was no session of {name}", do, alien)
    due = prices.sessions[(prices.sessions >= past[0]) & (prices.sessions <= past[-1])]
    missing = due[~due.isin(past)]
    if len(missing):
        share = len(missing) / len(due)
        refused = share > prices.bounds.max_missing
        do = "the calendar is another exchange's (set prices.calendar), or the file is a part" if refused else "add these days"
        what = f"no prices of a session of {name} ({share:.1%} of {len(due):,})"
        yield prices.finding("gaps", "refused" if refused else "doubtful", what, do, missing)


def _check_holes(prices: CheckedPrices, past: pd.DatetimeIndex) -> Iterator[PriceFinding]:
    between = np.diff(past.as_unit("s").asi8, prepend=past.as_unit("s").asi8[:1]) / 86_400
    holes = between > prices.bounds.max_hole_days
    if holes.any():
        what = f"no prices for more than {prices.bounds.max_hole_days} calendar days (up to {between.max():.0f}) before a day"
        yield prices.finding("gaps", "doubtful", what, "add the days between, or set prices.start", past[holes])


def _check_outside(prices: CheckedPrices) -> Iterator[PriceFinding]:
    error = 2 * prices.rounding + 1e-6
    low, high = prices.values("Low") * (1 - error), prices.values("High") * (1 + error)
    opens, closes = prices.values("Open"), prices.values("Close")
    below, above = closes < low, closes > high
    outside = (opens < low) | (opens > high) | below | above
    if not outside.any():
        return
    share, many = float(outside.mean()), prices.bounds.max_outside
    do = "correct these rows"
    if share > many:
        do = "columns are exchanged or of different sources"
        if max(below.mean(), above.mean()) > 0.8 * share:
            do = (
                "Close seems to be adjusted, and Open, High and Low are not: give the raw close as Close and the adjusted one as "
                "Adj Close, or all four adjusted"
            )
    severity: Severity = "refused" if share > many else "doubtful"
    yield prices.finding("outside", severity, f"Open or Close outside Low..High ({share:.1%})", do, prices.days[outside])


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """Return first and one past the last position of every run of true flags."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _check_stuck(prices: CheckedPrices) -> Iterator[PriceFinding]:
    """Find runs of equal closes; where closes often equal the one before, as at low prices, longer ones."""
    closes, bound = prices.values("Close"), prices.bounds.equal_closes
    if np.ptp(closes) == 0:
        yield PriceFinding(
            check="stuck", severity="refused", message="the close never changes; give the prices of a share that trades"
        )
        return
    equal = np.r_[False, closes[1:] == closes[:-1]]
    coarse = np.minimum(2 * prices.rounding / prices.ordinary.scale, 1.0)  # how often rounding makes closes equal, at most
    stuck = np.zeros(len(closes), dtype=bool)
    for first, end in _runs(equal):
        if end - first + 1 >= bound:
            near = equal[max(first - _NEARBY, 0) : end + _NEARBY]
            often = (near.sum() - (end - first) + 1) / (len(near) - (end - first) + 1)
            often = max(often, float(coarse[first - 1 : end].max()))
            stuck[first - 1 : end] |= often ** (end - first) < _ODDS
    if stuck.any():
        what, do = f"{bound} or more equal closes in a row", "remove days without trading, or fill in their prices"
        yield prices.finding("stuck", "doubtful", what, do, prices.days[stuck], times=len(_runs(stuck)))


def _check_repeated(prices: CheckedPrices) -> Iterator[PriceFinding]:
    values = prices.frame[[*PRICES, "Volume"]].to_numpy(dtype=float)
    repeated = np.r_[False, (values[1:] == values[:-1]).all(axis=1) & (values[1:, 4] > 0)]  # four prices can be equal by chance
    if repeated.any():
        what = "a row that repeats the day before (Open, High, Low, Close and Volume)"
        yield prices.finding("repeated", "doubtful", what, "give the day's own prices", prices.days[repeated])


def _check_volume(prices: CheckedPrices) -> Iterator[PriceFinding]:
    none = prices.values("Volume") == 0
    if none.all():
        message = "no volume on any day, as of an index or a currency; features of volume say nothing"
        yield PriceFinding(check="no_volume", severity="note", message=message)
        return
    runs = [(first, end) for first, end in _runs(none) if end - first >= prices.bounds.zero_volume_days]
    if runs:
        days = prices.days[np.concatenate([np.arange(first, end) for first, end in runs])]
        what = f"no volume on {prices.bounds.zero_volume_days} or more days in a row"
        do = "remove days without trading, or give their volume"
        yield prices.finding("no_volume", "doubtful", what, do, days, times=len(runs))


_OF_ROWS: tuple[Callable[[CheckedPrices], Iterator[PriceFinding]], ...] = (
    _check_duplicates,
    _check_rows,
    _check_future,
    _check_step,
    _check_sessions,
)
_OF_NEIGHBOURS: tuple[Callable[[CheckedPrices], Iterator[PriceFinding]], ...] = (
    _check_outside,
    _check_stuck,
    _check_repeated,
    _check_volume,
    check_jumps,
)
