"""Daily prices of one share: adjusted for splits and dividends, and checked.

Each source is an entry of ``SOURCES``: ``sample`` (real prices of a few
shares, in the package ``bokeh_sampledata``), ``csv`` (a folder of
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
"""Days needed: the longest feature looks back over 200, and three windows have to hold something."""


def known_symbols(params: PricesParams) -> list[str] | None:
    """List the symbols of the price source; None where it cannot be known without asking for one.

    Parameters
    ----------
    params : PricesParams
        The ``prices`` section of ``params.yaml``.

    Returns
    -------
    list of str or None
        Sorted.
    """
    source = SOURCES[params.source]
    if source.suffix:
        return sorted(path.stem for path in params.folder.glob(f"*{source.suffix}"))
    return list(source.symbols) or None


def price_file(symbol: str, params: PricesParams) -> Path | None:
    """Return the file that holds the prices of a symbol; None where the source is no folder of files.

    Parameters
    ----------
    symbol : str
        Ticker.
    params : PricesParams
        The ``prices`` section of ``params.yaml``.

    Returns
    -------
    Path or None
        It need not be there.
    """
    suffix = SOURCES[params.source].suffix
    return params.folder / f"{symbol}{suffix}" if suffix else None


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
        The source does not have the symbol; the message lists what it has.
    TooFewDaysError
        Fewer than ``MINIMUM_DAYS``.
    PriceDataError
        Dates repeated or out of order, a missing or non-positive value, or a
        High below a Low.
    """
    check_symbol(symbol)
    known, file = known_symbols(params), price_file(symbol, params)
    if known is not None and symbol not in known:
        looked = f"in {params.folder} (prices.folder in params.yaml), as {file.name}" if file else ""
        where = looked or f"of prices.source: {params.source}"
        has = ", ".join(known) or ("nothing" if params.folder.is_dir() else "no such folder")
        msg = f"no prices for {symbol!r} {where}{nearest(symbol, known)}; there: {has}"
        raise UnknownSymbolError(msg)
    origin = str(file) if file else f"{symbol} ({params.source})"
    raw = SOURCES[params.source].read(file or symbol)
    frame = _adjust(raw, origin)
    check_prices(frame, origin)
    first, last = (pd.Timestamp(day) if day else None for day in (params.start, params.end))
    frame = frame.loc[first:last]
    if len(frame) < MINIMUM_DAYS:
        span = f" ({frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d})" if len(frame) else ""
        msg = (
            f"{origin}: {len(frame)} days of prices{span}, at least {MINIMUM_DAYS} are needed: the 200-day average has to "
            "warm up and training, validation and test windows have to hold something. Choose another symbol or an "
            "earlier prices.start."
        )
        raise TooFewDaysError(msg)
    return frame


def check_prices(frame: pd.DataFrame, origin: str) -> None:
    """Refuse prices that no exchange could have printed: name the rule that is broken, how often, and the first day."""
    index = pd.DatetimeIndex(frame.index)
    if index.hasnans:
        msg = f"{origin}: {int(np.isnat(index.to_numpy()).sum())} rows without a date"
        raise PriceDataError(msg)
    if not index.is_unique:
        _refuse(origin, "a date that occurs more than once", index[index.duplicated()])
    if not index.is_monotonic_increasing:
        _refuse(origin, "a date earlier than the one before it", index[1:][np.diff(index.asi8) < 0])
    values = frame[COLUMNS]
    broken = {
        "a missing or infinite value": ~np.isfinite(values.to_numpy()).all(axis=1),
        "a price that is not above zero": (frame[COLUMNS[:4]] <= 0).any(axis=1).to_numpy(),
        "a negative volume": (frame["Volume"] < 0).to_numpy(),
        "High below Low": (frame["High"] < frame["Low"]).to_numpy(),
    }
    for rule, rows in broken.items():
        if rows.any():
            _refuse(origin, rule, index[rows])


def describe_prices(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what to look at before believing prices, as a table of one column.

    Parameters
    ----------
    frame : DataFrame
        As ``load_prices`` returns it.

    Returns
    -------
    DataFrame
        First and last day, their number, the largest move of a day and the
        longest gap between two: a split that was not adjusted for, or a hole,
        shows in these.
    """
    moves, gaps = frame["Close"].pct_change(), frame.index.to_series().diff()
    largest = int(np.nanargmax(moves.abs()))
    rows = {
        "first day": f"{frame.index[0]:%Y-%m-%d}",
        "last day": f"{frame.index[-1]:%Y-%m-%d}",
        "days": f"{len(frame):,}",
        "largest move of a day": f"{moves.iloc[largest]:+.1%} on {frame.index[largest]:%Y-%m-%d}",
        "longest gap": f"{gaps.max().days} calendar days up to {gaps.idxmax():%Y-%m-%d}",
    }
    return pd.DataFrame({"prices": rows})


def prices_digest(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of a price frame: same days and same values, same digest."""
    days = frame.index.to_numpy().astype("datetime64[D]").astype("<i8")
    values = np.ascontiguousarray(frame[COLUMNS].to_numpy(), dtype="<f8")
    return hashlib.sha256(days.tobytes() + values.tobytes()).hexdigest()


def _refuse(origin: str, rule: str, days: pd.Index) -> None:
    first = pd.Timestamp(days[0])
    times = "once" if len(days) == 1 else f"{len(days)} times, first"
    msg = f"{origin}: {rule}, {times} on {first:%Y-%m-%d}; mend the prices at their source"
    raise PriceDataError(msg)


def _adjust(raw: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Bring any source's table to our columns; where there is an adjusted close, adjust everything by it."""
    table = raw.rename(columns=lambda name: str(name).strip().lower().replace("_", " "))
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        msg = f"{origin}: more than one column {twice[0].title()}; there: {', '.join(map(str, raw.columns))}"
        raise PriceDataError(msg)
    missing = [name for name in ["date", *map(str.lower, COLUMNS)] if name not in table]
    if missing:
        separator = "; columns have to be separated by commas" if len(raw.columns) == 1 else ""
        there = ", ".join(map(str, raw.columns))
        msg = f"{origin}: no column {', '.join(name.title() for name in missing)}; there: {there}{separator}"
        raise PriceDataError(msg)
    written = table["date"].astype(str).str[:10]  # the day on the exchange, whatever hour and offset follow
    days = pd.to_datetime(written, format="%Y-%m-%d", errors="coerce")
    _refuse_unreadable(origin, "date, written as YYYY-MM-DD,", table["date"], days, rows=pd.Series(range(1, len(days) + 1)))
    names = {name.lower(): name for name in COLUMNS} | {"adj close": "Adj Close"}
    numbers = {}
    for key, name in names.items():
        if key in table:
            numbers[name] = pd.to_numeric(table[key], errors="coerce")
            _refuse_unreadable(origin, f"number in column {name}", table[key], numbers[name], rows=written)
    frame = pd.DataFrame(numbers).astype(float).set_axis(pd.DatetimeIndex(days, name="Date"))
    adjusted = frame.pop("Adj Close") if "Adj Close" in frame else frame["Close"]
    factor = adjusted / frame["Close"]
    frame[COLUMNS[:4]] = frame[COLUMNS[:4]].mul(factor, axis=0)
    frame["Volume"] = frame["Volume"] / factor
    return frame


def _refuse_unreadable(origin: str, what: str, written: pd.Series, read: pd.Series, *, rows: pd.Series) -> None:
    """Refuse text where a date or a number has to be; what is simply missing is found later."""
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
    """A place that daily prices come from.

    Attributes
    ----------
    read : callable
        Takes the file, or, of a source without files, the symbol; returns
        columns Date, Open, High, Low, Close, Volume and, where prices are not
        adjusted yet, Adj Close, in any order and case.
    suffix : str
        Of a folder with one file a symbol, such as ``.csv``; "" otherwise.
    symbols : tuple of str
        All that a source without files has; empty where nobody can know
        without asking for one.
    """

    read: Callable[[Any], pd.DataFrame]
    suffix: str = ""
    symbols: tuple[str, ...] = ()


SOURCES = {
    "sample": PriceSource(read=_read_sample, symbols=("AAPL", "FB", "GOOG", "IBM", "MSFT")),
    "csv": PriceSource(read=_read_csv, suffix=".csv"),
    "yfinance": PriceSource(read=_read_yfinance),
}
"""The sources by the name that ``prices.source`` in ``params.yaml`` gives them."""
