"""Daily prices of one share, adjusted for splits and dividends, and checked.

Sources are the entries of ``SOURCES``: ``sample`` (real prices of a few
shares, from the package ``bokeh_sampledata``), ``csv`` (a folder of
``SYMBOL.csv``) and ``yfinance`` (optional extra).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.errors import PriceDataError, TooFewDaysError, UnknownSymbolError
from fxhelpers.params import PricesParams, check_symbol, nearest

COLUMNS = ["Open", "High", "Low", "Close", "Volume"]
MINIMUM_DAYS = 500
"""The longest feature looks back 200 days, and three windows follow."""


def known_symbols(params: PricesParams) -> list[str] | None:
    """List the symbols of the price source, sorted; None if it has no such list."""
    source = SOURCES[params.source]
    if source.suffix:
        return sorted(path.stem for path in params.folder.glob(f"*{source.suffix}"))
    return list(source.symbols) or None


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
        dividends) and Volume (shares, adjusted so that price times volume
        stays what it was); index: Date, increasing.

    Raises
    ------
    UnknownSymbolError
        The source does not have the symbol; the message lists those it has.
    TooFewDaysError
        Fewer than ``MINIMUM_DAYS``.
    PriceDataError
        Dates repeated or out of order, a missing or non-positive value, or a
        High below a Low.
    """
    check_symbol(symbol)
    source, known = SOURCES[params.source], known_symbols(params)
    file = params.folder / f"{symbol}{source.suffix}" if source.suffix else None
    if known is not None and symbol not in known:
        in_folder = f"in {params.folder} (prices.folder in params.yaml), as {file.name}" if file else ""
        where = in_folder or f"of prices.source: {params.source}"
        has = ", ".join(known) or ("nothing" if params.folder.is_dir() else "no such folder")
        msg = f"no prices for {symbol!r} {where}{nearest(symbol, known)}; there: {has}"
        raise UnknownSymbolError(msg)
    origin = str(file) if file else f"{symbol} ({params.source})"
    frame = _adjust(source.read(file or symbol), origin)
    check_prices(frame, origin)
    first, last = (pd.Timestamp(day) if day else None for day in (params.start, params.end))
    frame = frame.loc[first:last]
    if len(frame) < MINIMUM_DAYS:
        span = f" ({frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d})" if len(frame) else ""
        msg = (
            f"{origin}: {len(frame)} days of prices{span}, at least {MINIMUM_DAYS} are required: the longest feature looks back "
            "200 days, and three windows follow. Choose another symbol or an earlier prices.start."
        )
        raise TooFewDaysError(msg)
    return frame


def check_prices(frame: pd.DataFrame, origin: str) -> None:
    """Raise :class:`PriceDataError` for impossible prices: the rule they break, how often, and the first day."""
    index = pd.DatetimeIndex(frame.index)
    if index.hasnans:
        msg = f"{origin}: {int(np.isnat(index.to_numpy()).sum())} rows without a date"
        raise PriceDataError(msg)
    broken = {
        "a date that occurs more than once": index.duplicated(),
        "a date earlier than the one before it": np.diff(index.asi8, prepend=index.asi8[:1]) < 0,
        "a missing or infinite value": ~np.isfinite(frame[COLUMNS].to_numpy()).all(axis=1),
        "a price that is not above zero": (frame[COLUMNS[:4]] <= 0).any(axis=1).to_numpy(),
        "a negative volume": (frame["Volume"] < 0).to_numpy(),
        "High below Low": (frame["High"] < frame["Low"]).to_numpy(),
    }
    for rule, rows in broken.items():
        if rows.any():
            times = "once" if rows.sum() == 1 else f"{rows.sum()} times, first"
            msg = f"{origin}: {rule}, {times} on {index[rows][0]:%Y-%m-%d}; fix the prices at their source"
            raise PriceDataError(msg)


def describe_prices(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarize prices in one column, for a sanity check.

    Parameters
    ----------
    frame : DataFrame
        As ``load_prices`` returns it.

    Returns
    -------
    DataFrame
        First and last day, number of days, largest daily move and longest
        gap: they reveal an unadjusted split or a hole in the data.
    """
    moves, gaps = frame["Close"].pct_change(), frame.index.to_series().diff()
    largest = int(np.nanargmax(moves.abs()))
    rows = {
        "first day": f"{frame.index[0]:%Y-%m-%d}",
        "last day": f"{frame.index[-1]:%Y-%m-%d}",
        "days": f"{len(frame):,}",
        "largest daily move": f"{moves.iloc[largest]:+.1%} on {frame.index[largest]:%Y-%m-%d}",
        "longest gap": f"{gaps.max().days} calendar days up to {gaps.idxmax():%Y-%m-%d}",
    }
    return pd.DataFrame({"prices": rows})


def prices_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of the days and values of a price frame."""
    days = frame.index.to_numpy().astype("datetime64[D]").astype("<i8")
    values = np.ascontiguousarray(frame[COLUMNS].to_numpy(), dtype="<f8")
    return hashlib.sha256(days.tobytes() + values.tobytes()).hexdigest()


def _adjust(raw: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Bring a source's table to our columns; if it has an adjusted close, adjust all prices by it."""
    table = raw.rename(columns=lambda name: str(name).strip().lower().replace("_", " "))
    there = f"there: {', '.join(map(str, raw.columns))}"
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        msg = f"{origin}: more than one column {twice[0].title()}; {there}"
        raise PriceDataError(msg)
    missing = [name for name in ["Date", *COLUMNS] if name.lower() not in table]
    if missing:
        separator = "; separate columns by commas" if len(raw.columns) == 1 else ""
        msg = f"{origin}: no column {', '.join(missing)}; {there}{separator}"
        raise PriceDataError(msg)
    written = table["date"].astype(str).str[:10]  # the day on the exchange, whatever hour and offset follow
    days = pd.to_datetime(written, format="%Y-%m-%d", errors="coerce")
    _refuse_unreadable(origin, "date, written as YYYY-MM-DD,", table["date"], days, rows=pd.Series(range(1, len(days) + 1)))
    numbers = {}
    for name in (*COLUMNS, "Adj Close"):
        if name.lower() in table:
            text = table[name.lower()]
            numbers[name] = pd.to_numeric(text, errors="coerce")
            _refuse_unreadable(origin, f"number in column {name}", text, numbers[name], rows=written)
    frame = pd.DataFrame(numbers).astype(float).set_axis(pd.DatetimeIndex(days, name="Date"))
    factor = (frame.pop("Adj Close") if "Adj Close" in frame else frame["Close"]) / frame["Close"]
    frame[COLUMNS[:4]] = frame[COLUMNS[:4]].mul(factor, axis=0)
    frame["Volume"] /= factor
    return frame


def _refuse_unreadable(origin: str, what: str, written: pd.Series, read: pd.Series, *, rows: pd.Series) -> None:
    """Refuse text in place of a date or a number; missing values are found later."""
    wrong = written.notna().to_numpy() & read.isna().to_numpy()
    if wrong.any():
        first = int(np.argmax(wrong))
        msg = f"{origin}: not a {what} {int(wrong.sum())} times, first {written.iloc[first]!r} in row {rows.iloc[first]}"
        raise PriceDataError(msg)


def _read_sample(symbol: str) -> pd.DataFrame:
    from bokeh_sampledata import stocks

    return pd.DataFrame(getattr(stocks, symbol))


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as a table: {error}"
        raise PriceDataError(msg) from error


def _read_yfinance(symbol: str) -> pd.DataFrame:
    try:
        import yfinance
    except ImportError as error:
        msg = "prices.source is yfinance, which is not installed: pip install 'fxhelpers[yfinance]', or use sample or csv"
        raise PriceDataError(msg) from error
    table: pd.DataFrame = yfinance.Ticker(symbol).history(period="max", auto_adjust=True)
    if table.empty:
        msg = f"yfinance returned no prices for {symbol!r}: a wrong symbol, or no network"
        raise UnknownSymbolError(msg)
    return table.reset_index()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSource:
    """Source of daily prices."""

    # takes the file, or the symbol if the source has no files; returns columns Date, Open, High, Low, Close, Volume and, if
    # prices are not adjusted yet, Adj Close, in any order and case
    read: Callable[[Any], pd.DataFrame]
    suffix: str = ""  # suffix of the files, one per symbol, such as ``.csv``; "" without files
    symbols: tuple[str, ...] = ()  # all symbols of a source without files; empty if they are unknown


SOURCES = {
    "sample": PriceSource(read=_read_sample, symbols=("AAPL", "FB", "GOOG", "IBM", "MSFT")),
    "csv": PriceSource(read=_read_csv, suffix=".csv"),
    "yfinance": PriceSource(read=_read_yfinance),
}
"""The sources, by their names in ``prices.source``."""
