"""The prices of one share: read, adjusted and checked, with all that is wrong or doubtful about them."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.errors import PriceDataError, TooFewDaysError
from fxhelpers.params import PricesParams, check_symbol, parse_day
from fxhelpers.prices._adjusting import Adjustment
from fxhelpers.prices._checks import check_prices
from fxhelpers.prices._finding import PriceFinding
from fxhelpers.prices._formats import COLUMNS
from fxhelpers.prices._reading import Reading, read
from fxhelpers.prices._sessions import sessions_of, today, zone_of
from fxhelpers.prices._sources import read_file, read_source

MINIMUM_DAYS = 500
"""The longest feature looks back 200 days, and three windows follow."""

_TITLES = {
    "all": "Adjusted close",
    "splits": "Close, not adjusted for dividends",
    "none": "Close, not adjusted",
    "unknown": "Close, as in the file",
}
ADJUSTED = {
    "all": "splits and dividends",
    "splits": "splits, not dividends",
    "none": "nothing",
    "unknown": "not known",
}
"""What prices are adjusted for, in words."""
_KEPT_DOUBTS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharePrices:
    """Daily prices of one share, with where they come from and what is doubtful."""

    symbol: str  # ticker
    source: str  # ``prices.source``
    origin: str  # the file, or the source with the symbol
    # columns Open, High, Low, Close (currency, adjusted as ``adjusted`` says) and Volume (shares, adjusted for splits); index:
    # Date, increasing. Empty if the file could not be read
    frame: pd.DataFrame = field(repr=False)
    format: str  # the vendor's format, or plain
    adjusted: str  # what the prices are adjusted for: all (splits and dividends), splits, none or unknown
    adjusted_by: str  # what says so, or did it
    columns: dict[str, str]  # of each part that was found, the name of its column
    dates: str  # how dates are written
    calendar: str | None  # the exchange; None if any day can trade
    findings: tuple[PriceFinding, ...]  # refused, doubtful and notes
    # the volume that schema 1 of the features takes, which is divided by the adjustment for dividends too
    volume_1: pd.Series = field(repr=False)
    precision: pd.Series = field(repr=False)  # largest relative error of a day's prices by their rounding
    sessions_missing: int = 0

    @property
    def refused(self) -> list[PriceFinding]:
        """What cannot be: nothing is trained or compared on these prices."""
        return [finding for finding in self.findings if finding.severity == "refused"]

    @property
    def doubts(self) -> list[PriceFinding]:
        """What may be wrong: trained and compared on, and reported."""
        return [finding for finding in self.findings if finding.severity == "doubtful"]

    @property
    def notes(self) -> list[PriceFinding]:
        """What a reader should know, and what was left out."""
        return [finding for finding in self.findings if finding.severity == "note"]

    @property
    def too_few(self) -> str:
        """Why there are too few days to train; "" if there are enough."""
        if len(self.frame) >= MINIMUM_DAYS:
            return ""
        span = f" ({self.frame.index[0]:%Y-%m-%d} to {self.frame.index[-1]:%Y-%m-%d})" if len(self.frame) else ""
        return (
            f"{len(self.frame)} days of prices{span}, at least {MINIMUM_DAYS} are required: the longest feature looks back 200 "
            "days, and three windows follow. Choose another symbol, or other days by prices.start and prices.end."
        )

    @property
    def title(self) -> str:
        """What the closing price is, for a figure."""
        return _TITLES[self.adjusted]

    @property
    def summary(self) -> str:
        """Adjustment, and what is doubtful, in a sentence or two; for the card of a report."""
        known = f"Adjusted for {ADJUSTED[self.adjusted]}." if self.adjusted != "unknown" else "Not known whether adjusted."
        doubts = "; ".join(doubt.message for doubt in self.doubts)
        return f"{known} DOUBTFUL: {doubts}" if doubts else f"{known} Nothing doubtful was found."

    def _repr_html_(self) -> str:
        from fxhelpers.display import Table

        return Table(describe_prices(self))._repr_html_()

    @property
    def sha256(self) -> str:
        """SHA-256 of the days and values."""
        return prices_digest(self.frame)

    def for_schema(self, schema: int) -> pd.DataFrame:
        """Return the prices that a schema of the features was made for: schema 1 takes another volume."""
        return self.frame.assign(Volume=self.volume_1) if schema == 1 else self.frame

    def facts(self) -> dict[str, Any]:
        """Return what a bundle keeps about its prices, for JSON."""
        doubts = [
            {"check": doubt.check, "found": doubt.message, "days": [f"{day:%Y-%m-%d}" for day in doubt.days[:_KEPT_DOUBTS]]}
            for doubt in self.doubts
        ]
        known = {"source": self.source, "format": self.format, "adjusted": self.adjusted, "calendar": self.calendar}
        return known | ({"doubts": doubts} if doubts else {})

    def to_json(self) -> dict[str, Any]:
        """Return everything that is known, for JSON."""
        frame = self.frame.rename_axis("Date").reset_index()
        frame["Date"] = frame["Date"].dt.strftime("%Y-%m-%d")
        frame = frame.astype(object).where(frame.replace([np.inf, -np.inf], np.nan).notna(), None)
        findings = [
            {
                "check": finding.check,
                "severity": finding.severity,
                "message": finding.message,
                "days": [f"{day:%Y-%m-%d}" for day in finding.days],
            }
            for finding in self.findings
        ]
        return {
            "symbol": self.symbol,
            "read_from": self.origin,
            "format": self.format,
            "adjusted": self.adjusted,
            "adjusted_by": self.adjusted_by,
            "columns": self.columns,
            "dates": self.dates,
            "calendar": self.calendar,
            "days": len(frame),
            "sessions_missing": self.sessions_missing,
            "refused": bool(self.refused or self.too_few),
            "too_few": self.too_few or None,
            "findings": findings,
            "first_rows": frame.head(3).to_dict(orient="records"),
            "last_rows": frame.tail(3).to_dict(orient="records"),
        }

    def raise_refused(self) -> None:
        """Raise one :class:`PriceDataError` with everything that is refused."""
        wrong = [finding.message for finding in self.refused]
        if not wrong:
            return
        command = f"fx prices {self.symbol} shows the file and its largest moves"
        if len(wrong) == 1:
            msg = f"{self.origin}: {wrong[0]} ({command})"
        else:
            lines = "\n".join(f"- {message}" for message in wrong)
            msg = f"{self.origin}: {len(wrong)} faults:\n{lines}\n{command}"
        raise PriceDataError(msg)


def load_prices(symbol: str, params: PricesParams) -> pd.DataFrame:
    """Read, adjust and check the daily prices of one share.

    Parameters
    ----------
    symbol : str
        Ticker.
    params : PricesParams
        The ``prices`` section of ``params.yaml``.

    Returns
    -------
    DataFrame of shape (n_days, 5)
        Columns Open, High, Low, Close (currency, adjusted for splits and
        dividends as far as the source allows) and Volume (shares, adjusted for
        splits); index: Date, increasing.

    Raises
    ------
    UnknownSymbolError
        The source does not have the symbol; the message lists those it has.
    TooFewDaysError
        Fewer than ``MINIMUM_DAYS``.
    PriceDataError
        The file cannot be read as prices, or holds what no exchange printed;
        the message names every fault.
    """
    return read_prices(symbol, params).frame


def read_prices(symbol: str, params: PricesParams, *, end: str = "") -> SharePrices:
    """Read, adjust and check the daily prices of one share, and keep what is doubtful about them.

    Parameters
    ----------
    symbol : str
        Ticker.
    params : PricesParams
        The ``prices`` section of ``params.yaml``.
    end : str, optional
        Last day to use, YYYY-MM-DD, if it is before ``prices.end``.

    Returns
    -------
    SharePrices
        Its ``frame`` is what :func:`load_prices` returns.

    Raises
    ------
    UnknownSymbolError, TooFewDaysError, PriceDataError
        As :func:`load_prices`.
    ParamsError
        ``end`` is not a day.
    """
    if end:
        last = parse_day("end", end)
        params = params.model_copy(update={"end": min(last, params.end or last)})
    found = examine_prices(symbol, params)
    found.raise_refused()
    if found.too_few:
        msg = f"{found.origin}: {found.too_few}"
        raise TooFewDaysError(msg)
    return found


def examine_prices(symbol: str, params: PricesParams, file: Path | None = None) -> SharePrices:
    """Read and check prices, and return whatever is found: nothing is refused, and any number of days will do.

    ``file`` is read instead of the one that ``params`` find.
    """
    check_symbol(symbol)
    table, origin = (read_file(file, params.columns), str(file)) if file else read_source(symbol, params)
    reading = read(table, symbol, params, zone_of(params.calendar))
    about: dict[str, Any] = {"symbol": symbol, "source": params.source, "origin": origin, "calendar": params.calendar}
    if reading.adjustment is None:
        return _unreadable(reading, about)
    made = _cut(reading.adjustment, params)
    now, unfinished = today(params.calendar, pd.Timestamp.now("UTC"))
    frame, dropped = _finished(made.frame, now) if unfinished else (made.frame, [])
    sessions = sessions_of(params.calendar, pd.DatetimeIndex(frame.index))
    checked = check_prices(frame, sessions=sessions, bounds=params.checks, now_day=now, rounding=made.rounding.iloc[: len(frame)])
    missing = 0
    if sessions is not None and len(frame):
        expected = sessions[(sessions >= frame.index.min()) & (sessions <= min(frame.index.max(), now))]
        missing = int((~expected.isin(frame.index)).sum())
    return SharePrices(
        **about,
        frame=frame,
        format=reading.format.name,
        adjusted=made.adjusted,
        adjusted_by=made.by.format_map(reading.columns),
        columns=reading.columns,
        dates=reading.written,
        findings=(*reading.findings, *dropped, *checked),
        volume_1=made.volume_1.iloc[: len(frame)],
        precision=made.precision.iloc[: len(frame)],
        sessions_missing=missing,
    )


def _unreadable(reading: Reading, about: dict[str, Any]) -> SharePrices:
    findings = reading.findings
    if not findings:
        findings = (PriceFinding(check="rows", severity="refused", message="it holds no row of prices"),)
    return SharePrices(
        **about,
        frame=pd.DataFrame(columns=COLUMNS, index=pd.DatetimeIndex([], name="Date"), dtype=float),
        format=reading.format.name,
        adjusted="unknown",
        adjusted_by="",
        columns=reading.columns,
        dates=reading.written,
        findings=findings,
        volume_1=pd.Series(dtype=float),
        precision=pd.Series(dtype=float),
    )


def _cut(made: Adjustment, params: PricesParams) -> Adjustment:
    """Keep the days from ``prices.start`` to ``prices.end``."""
    if params.start is None and params.end is None:
        return made
    days = made.frame.index
    keep = np.ones(len(days), dtype=bool)
    if params.start is not None:
        keep &= days >= pd.Timestamp(params.start)
    if params.end is not None:
        keep &= days <= pd.Timestamp(params.end)
    names = ("frame", "volume_1", "rounding", "precision")
    return replace(made, **{name: getattr(made, name)[keep] for name in names})


def _finished(frame: pd.DataFrame, day: pd.Timestamp) -> tuple[pd.DataFrame, list[PriceFinding]]:
    """Leave out the session of a day, which has not ended yet."""
    if day not in frame.index:
        return frame, []
    message = f"the row of {day:%Y-%m-%d} left out: that day's trading has not ended"
    return frame[frame.index != day], [PriceFinding(check="unfinished", severity="note", message=message, days=(day,))]


def prices_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of the days and values of a price frame."""
    days = frame.index.to_numpy().astype("datetime64[D]").astype("<i8")
    values = np.ascontiguousarray(frame[COLUMNS].to_numpy(), dtype="<f8")
    return hashlib.sha256(days.tobytes() + values.tobytes()).hexdigest()


def describe_prices(prices: "SharePrices | pd.DataFrame") -> pd.DataFrame:
    """Summarize prices in one column, for a sanity check.

    Parameters
    ----------
    prices : SharePrices or DataFrame
        As ``read_prices`` or ``load_prices`` returns it.

    Returns
    -------
    DataFrame
        First and last day, number of days, largest daily move and longest
        gap; of :class:`SharePrices` also their source, format and adjustment,
        and everything that is doubtful.
    """
    frame = prices.frame if isinstance(prices, SharePrices) else prices
    rows: dict[str, str] = {}
    if isinstance(prices, SharePrices):
        rows |= {
            "read from": prices.origin,
            "format": prices.format,
            "columns": _renamed(prices.columns),
            "dates": prices.dates,
            "adjusted for": ADJUSTED[prices.adjusted] + (f" ({prices.adjusted_by})" if prices.adjusted_by else ""),
        }
    if len(frame) > 1:
        moves, gaps = frame["Close"].pct_change(), frame.index.to_series().diff()
        largest = int(np.argmax(moves.abs().fillna(0.0)))
        rows |= {
            "first day": f"{frame.index[0]:%Y-%m-%d}",
            "last day": f"{frame.index[-1]:%Y-%m-%d}",
            "days": f"{len(frame):,}",
            "largest daily move": f"{moves.iloc[largest]:+.1%} on {frame.index[largest]:%Y-%m-%d}",
            "longest gap": f"{gaps.max().days} calendar days up to {gaps.idxmax():%Y-%m-%d}",
        }
    if isinstance(prices, SharePrices):
        rows["sessions missing"] = (
            f"{prices.sessions_missing} of {prices.calendar}" if prices.calendar else "not known: any day can trade"
        )
        for name, found in (("refused", prices.refused), ("doubtful", prices.doubts), ("note", prices.notes)):
            rows |= {f"{name}{f' {n}' if n > 1 else ''}": finding.message for n, finding in enumerate(found, start=1)}
    return pd.DataFrame({"prices": {name: value for name, value in rows.items() if value}})


def _renamed(columns: dict[str, str]) -> str:
    """Return the columns that the file calls otherwise than we do, for people."""
    return ", ".join(f"{part}: {name}" for part, name in columns.items() if name.lower() != part.lower())
