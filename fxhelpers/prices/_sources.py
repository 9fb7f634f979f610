"""Where daily prices come from: the sample, a folder of files, or a download."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from fxhelpers.errors import ParamsError, PriceDataError, UnknownSymbolError
from fxhelpers.params import PricesParams, is_symbol, nearest
from fxhelpers.prices._formats import known
from fxhelpers.prices._reading import tickers_in
from fxhelpers.prices._table import NO_PRICES, SUFFIXES, Table, frame_table, read_table
from fxhelpers.prices._tickers import bare_ticker, listed, plain_ticker, ticker_forms, without_exchange

_LISTED = 20
_SEARCHED = 200  # rows of a file that may hold many shares


def known_symbols(params: PricesParams) -> list[str] | None:
    """List the symbols of the price source, sorted; None if it has no such list."""
    if params.source != "csv":
        return list(SOURCES[params.source].symbols) or None
    found: set[str] = set()
    for path in _files(params.folder):
        found.update(list(filter(is_symbol, map(bare_ticker, _tickers(path)))) or [_symbol(path)])
    return sorted(found)


def find_file(symbol: str, params: PricesParams) -> Path:
    """Return the file that holds a symbol's prices: one named after it, or one of many symbols.

    :class:`UnknownSymbolError` lists the symbols that there are; :class:`ParamsError` if several files could be meant.
    """
    files = _files(params.folder)
    exact = [path for path in files if _stem(path) == symbol]
    plain = plain_ticker(symbol)
    found = exact or [path for path in files if plain in ticker_forms(_stem(path))]
    found = found or [path for path in files if any(plain in ticker_forms(ticker) for ticker in _tickers(path))]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        msg = f"{params.folder}: several files could hold the prices of {symbol}: {names}; keep one of them there"
        raise ParamsError(msg)
    known_here = known_symbols(params) or []
    where = f"in {params.folder} (prices.folder in params.yaml), as {symbol}.csv"
    there = listed(known_here, _LISTED) or _no_prices(params.folder)
    msg = f"no prices for {symbol!r} {where}{nearest(symbol, known_here)}; there: {there}; rename a file of another name"
    raise UnknownSymbolError(msg)


def _no_prices(folder: Path) -> str:
    """Return what is in a folder without prices."""
    if not folder.exists():
        return "no such folder"
    others = ", ".join(path.name for path in sorted(folder.glob("*"))[:5])
    return f"no table of prices, but {others}" if others else "nothing"


def read_file(path: Path, chosen: Mapping[str, str]) -> Table:
    """Read one file as a table; :class:`PriceDataError` if it is none. The last one is kept, as it may hold many shares."""
    try:
        stamp = path.stat()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise PriceDataError(msg) from error
    return _read_file(path, tuple(chosen.values()), stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=1)
def _read_file(path: Path, chosen: tuple[str, ...], _changed: int, _size: int) -> Table:
    return read_table(path, lambda name: known(name, chosen))


def _files(folder: Path) -> list[Path]:
    """Return the files of prices in a folder, or the one file that is given instead of a folder."""
    if folder.is_file():
        return [folder]
    found = (path for path in folder.glob("*") if path.name.lower().endswith(SUFFIXES) and path.is_file())
    return sorted(path for path in found if path.name[0] != "." and not NO_PRICES.search(path.name))


def _stem(path: Path) -> str:
    name = path.name
    while (suffix := Path(name).suffix.lower()) and any(end.endswith(suffix) for end in SUFFIXES):
        name = name[: -len(suffix)]
    return name


def _symbol(path: Path) -> str:
    """Return the symbol that a file is named after; a name in lowercase alone stands for the ticker in capitals."""
    stem = _stem(path)
    return bare_ticker(without_exchange(stem.upper())) if stem.islower() and is_symbol(stem) else stem


def _tickers(path: Path) -> list[str]:
    """Return the tickers in a file of many shares; empty for a file of one."""
    stamp = path.stat()
    return _read_tickers(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4096)
def _read_tickers(path: Path, _changed: int, _size: int) -> list[str]:
    try:
        begin = tickers_in(read_table(path, known, rows=_SEARCHED))
        if not begin or (len(begin) == 1 and ticker_forms(begin[0]) & ticker_forms(_stem(path))):
            return []
        found = tickers_in(read_file(path, {}))
    except PriceDataError:  # reading it as prices says why
        return []
    return sorted(found) if len(found) > 1 else []


def _read_sample(symbol: str) -> pd.DataFrame:
    from bokeh_sampledata import stocks

    return pd.DataFrame(getattr(stocks, symbol))


def _read_yfinance(symbol: str) -> pd.DataFrame:
    """Download; whatever goes wrong there is a :class:`PriceDataError`, and its warnings stay here."""
    try:
        import yfinance
    except ImportError as error:
        msg = "prices.source is yfinance, which is not installed: pip install 'fxhelpers[yfinance]', or use sample or csv"
        raise PriceDataError(msg) from error
    try:
        with warnings.catch_warnings(), _quiet("yfinance", "peewee"):
            warnings.simplefilter("ignore")
            table: pd.DataFrame = yfinance.Ticker(symbol).history(period="max", auto_adjust=True, raise_errors=True)
    except Exception as error:  # of its HTTP client, cache and parser, which have no common base
        found = f"{type(error).__name__} {error}".lower()
        what = next(
            (message for word, message in _TROUBLE.items() if word in found), "try again later, or use prices.source: csv"
        )
        msg = f"{symbol} (yfinance): no prices: {what}; {str(error)[:160]}"
        raise PriceDataError(msg) from error
    if table.empty:
        msg = f"{symbol} (yfinance): no prices for {symbol!r}: a wrong symbol, or one that Yahoo no longer has"
        raise UnknownSymbolError(msg)
    return table


_TROUBLE = {
    "ratelimit": "Yahoo answers too many requests: wait some minutes, or run fewer symbols at once",
    "too many requests": "Yahoo answers too many requests: wait some minutes, or run fewer symbols at once",
    "connect": "Yahoo cannot be reached: check the network, or use prices.source: csv",
    "resolve": "Yahoo cannot be reached: check the network, or use prices.source: csv",
    "timeout": "Yahoo does not answer in time: try again",
    "delisted": "a wrong symbol, or one that Yahoo no longer has",
}
"""By a word in an error of yfinance: what to do."""


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep what loggers would print out of records."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSource:
    """Source of daily prices that has no files."""

    read: Callable[[str], pd.DataFrame]  # takes the symbol; returns a table as a vendor writes it
    symbols: tuple[str, ...] = ()  # all that it has; empty if they are unknown


SOURCES = {
    "sample": PriceSource(read=_read_sample, symbols=("AAPL", "FB", "GOOG", "IBM", "MSFT")),
    "yfinance": PriceSource(read=_read_yfinance),
}
"""The sources without files, by their names in ``prices.source``."""


def read_source(symbol: str, params: PricesParams) -> tuple[Table, str]:
    """Return the table of a symbol and what to call it in messages; :class:`UnknownSymbolError` if there is none."""
    if params.source == "csv":
        path = find_file(symbol, params)
        return read_file(path, params.columns), str(path)
    source, origin = SOURCES[params.source], f"{symbol} ({params.source})"
    if source.symbols and symbol not in source.symbols:
        there = ", ".join(source.symbols)
        msg = f"no prices for {symbol!r} of prices.source: {params.source}{nearest(symbol, source.symbols)}; there: {there}"
        raise UnknownSymbolError(msg)
    return frame_table(source.read(symbol)), origin
