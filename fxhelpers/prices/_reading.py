"""From a table of text to days, prices and volume of one share, adjusted as far as the file says how."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from fxhelpers.errors import ParamsError
from fxhelpers.params import PricesParams, nearest
from fxhelpers.prices._adjusting import Adjustment, adjust
from fxhelpers.prices._finding import PriceFinding, how_often
from fxhelpers.prices._formats import COLUMNS, FORMATS, PLAIN, ROLES, Format, looks_adjusted, recognized, roles, spelling
from fxhelpers.prices._table import Table
from fxhelpers.prices._tickers import which_ticker
from fxhelpers.prices._written import Days, as_text, decimal_sign, is_missing, numbers, read_days, volume_sign

PRICES = COLUMNS[:4]
_EVENT = re.compile(r"dividend|split", re.IGNORECASE)
_NUMERIC = ("Adj Open", "Adj High", "Adj Low", "Adj Close", "Price Divisor", "Volume Factor", "Total Return", "Return Factor")
_FEW_TICKERS = 3  # of other shares, that are named
_SUNDAY_TO_THURSDAY = {6, 0, 1, 2, 3}
_TICKER = re.compile(r"[A-Z]{1,5}(?:[.][A-Z]{1,3})?")  # what is more likely a ticker than a name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What a table says about one share."""

    format: Format
    findings: tuple[PriceFinding, ...]  # all at once
    adjustment: Adjustment | None = None  # None if the table cannot be read as prices
    written: str = ""  # how dates are written
    columns: dict[str, str] = field(default_factory=dict)  # the parts that were found, and the names of their columns


def read(table: Table, symbol: str, params: PricesParams, zone: str | None) -> Reading:
    """Read the rows of one share; faults are findings, all of them."""
    table, faults = _of_symbol(table, symbol, params.columns)
    found, wrong = _format(table, params)
    places, more = roles(table.header, params.columns)
    there = f"there: {', '.join(table.header)}"
    wrong += [f"{message}; {there}" if message.startswith("more than") else message for message in more]
    missing = [name for name in ("Date", *COLUMNS) if name not in places]
    if found.no_open and "Open" in missing:
        missing.remove("Open")
        wrong.append(found.no_open)
    if missing:
        wrong.append(f"no column {', '.join(missing)}; {there}; name it in prices.columns in params.yaml, as {{{missing[0]}: …}}")
    wrong += _unused(table, places, params)
    faults += [PriceFinding(check="columns", severity="refused", message=message) for message in wrong]
    columns = {role: table.header[place] for role, place in places.items()}
    if any(fault.severity == "refused" for fault in faults):
        return Reading(format=found, findings=tuple(faults), columns=columns)
    parts, dropped = _drop_empty({role: table.data[place] for role, place in places.items()}, table)
    days = read_days(parts["Date"], zone)
    frame, unread = _values(table, parts, days, zone)
    faults += [*dropped, *unread]
    frame, disorder = _in_order(frame)
    faults += disorder
    only_adjusted = looks_adjusted(columns["Close"]) and spelling(columns["Close"]) not in ROLES["Close"]
    stated = "all" if params.adjusted is None and only_adjusted else params.adjusted
    adjustment = adjust(frame, found, stated) if len(frame) else None
    faults += adjustment.findings if adjustment else ()
    return Reading(format=found, findings=tuple(faults), adjustment=adjustment, written=days.written, columns=columns)


def _values(table: Table, parts: dict[str, pd.Series], days: Days, zone: str | None) -> tuple[pd.DataFrame, list[PriceFinding]]:
    """Return all numbers by day, and what is not a number or a day; rows that hold such are left out."""
    decimal, volume = _signs(parts, table.delimiter)
    values = {role: numbers(parts[role], decimal or ".") for role in (*PRICES, *_NUMERIC) if role in parts}
    values |= {role: numbers(parts[role], volume, units=True) for role in ("Volume", "Adj Volume") if role in parts}
    if "Split" in parts:
        values["Split"] = _ratios(parts["Split"], decimal or ".")
    faults = list(_unreadable(table, parts, days, values))
    if not decimal:
        shown = as_text(parts["Close"]).iloc[0]
        message = f"numbers such as {shown!r} have a decimal comma, or groups of thousands: write them with a decimal point"
        faults.append(PriceFinding(check="text", severity="refused", message=message))
    week = set(days.read.dt.day_of_week.dropna())
    if not days.unclear and days.moments and zone is None and week == _SUNDAY_TO_THURSDAY:
        message = "its moments fall on Sundays and on no Friday, so they are days of another time zone: set prices.calendar"
        faults.append(PriceFinding(check="dates", severity="refused", message=message))
    frame = pd.DataFrame(values).set_axis(pd.DatetimeIndex(days.read, name="Date").as_unit("us"))
    if faults:  # what is missing there is reported already
        frame = frame[frame[COLUMNS].notna().all(axis=1).to_numpy()]
    return frame[frame.index.notna()], faults


def _in_order(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[PriceFinding]]:
    """Return the oldest day first; only the newest first is another order that is expected."""
    if len(frame) and frame.index.is_monotonic_decreasing:
        return frame.iloc[::-1], []
    back = np.flatnonzero(np.diff(pd.DatetimeIndex(frame.index).asi8) < 0)
    if not len(back):
        return frame, []
    often = how_often(len(back), f"on {frame.index[back[0] + 1]:%Y-%m-%d}")
    message = f"a date earlier than the one before it, {often}; sort the rows by date"
    return frame.sort_index(kind="stable"), [PriceFinding(check="order", severity="refused", message=message)]


def _signs(parts: dict[str, pd.Series], delimiter: str) -> tuple[str, str]:
    """Return the decimal signs of prices and of volumes; "" for prices if either could be meant."""
    decimal = decimal_sign([parts[name] for name in PRICES])
    volume = volume_sign(parts["Volume"], decimal)
    if not decimal and not volume:
        commas = as_text(parts["Close"]).str.contains(",", regex=False).any()
        decimal = "." if not commas else "," if delimiter == ";" else ""
    return decimal or volume, volume or decimal or "."


def _format(table: Table, params: PricesParams) -> tuple[Format, list[str]]:
    """Return the format that is stated or recognized, and what the table lacks of the stated one."""
    if params.format is None:
        return recognized(table.header, tickers=table.tickers is not None), []
    names = {one.name: one for one in (*FORMATS, PLAIN)}
    if params.format not in names:
        close = nearest(params.format, names)
        msg = f"prices.format: {params.format!r} is unknown{close}; expected one of {', '.join(names)}, or null"
        raise ParamsError(msg)
    found = names[params.format]
    lacking = sorted(found.columns - {*map(spelling, table.header), "tickerline"})
    return found, [f"prices.format is {found.name}, but there is no column {', '.join(lacking)}"] if lacking else []


def tickers_in(table: Table, chosen: Mapping[str, str] | None = None) -> list[str]:
    """Return the tickers that a table names, in its header or in a column; empty if it names none."""
    if table.tickers is not None:
        return list(dict.fromkeys(filter(None, table.tickers)))
    written = _ticker_column(table, chosen or {})
    return [] if written is None else [ticker for ticker in written.unique() if ticker]


def _ticker_column(table: Table, chosen: Mapping[str, str]) -> pd.Series | None:
    places, _ = roles(table.header, chosen)
    place = places.get("Ticker", places.get("Name"))
    return None if place is None else as_text(table.data[place].fillna(""))


def _of_symbol(table: Table, symbol: str, chosen: Mapping[str, str]) -> tuple[Table, list[PriceFinding]]:
    """Return the columns and rows of one symbol, if the table says which are of which."""
    tickers = tickers_in(table, chosen)
    if not tickers:
        return table, []
    name, message = which_ticker(symbol, tickers)
    if (
        table.tickers is None
        and "Ticker" not in roles(table.header, chosen)[0]
        and len(tickers) == 1
        and not _TICKER.fullmatch(tickers[0])
    ):
        return table, []  # the name of a company, or of anything else
    if message:
        return table, [PriceFinding(check="ticker", severity="refused", message=message)]
    if table.tickers is None:
        return _rows_of(table, name, tickers, chosen)
    keep = [n for n, ticker in enumerate(table.tickers) if ticker in {"", name}]
    data = table.data[keep].set_axis(range(len(keep)), axis=1)
    if len(tickers) > 1:  # days on which only others traded
        data = data[~pd.concat([is_missing(data[n]) for n in range(1, len(keep))], axis=1).all(axis=1)].reset_index(drop=True)
    return replace(table, header=[table.header[n] for n in keep], tickers=["", *[name] * (len(keep) - 1)], data=data), []


def _rows_of(table: Table, name: str, tickers: list[str], chosen: Mapping[str, str]) -> tuple[Table, list[PriceFinding]]:
    """Return the rows of one ticker; a column that identifies the share keeps those under its earlier tickers."""
    written = _ticker_column(table, chosen)
    if written is None:
        return table, []
    mine, earlier = written == name, ""
    place = roles(table.header, chosen)[0].get("Security", -1)
    shares = as_text(table.data[place]) if place >= 0 else written
    same = shares == shares[mine].iloc[0]
    if place >= 0 and len(shares[mine].unique()) == 1:
        others = ", ".join(written[same & ~mine].unique())
        mine, earlier = same, f"rows under the earlier ticker {others} are used: the same {table.header[place]}" if others else ""
    elif 1 < len(tickers) <= _FEW_TICKERS:
        earlier = f"rows of {', '.join(ticker for ticker in tickers if ticker != name)} left out"
    notes = [PriceFinding(check="ticker", severity="note", message=earlier)] if earlier else []
    return replace(table, data=table.data[mine].reset_index(drop=True)), notes


def _unused(table: Table, places: dict[str, int], params: PricesParams) -> Iterator[str]:
    """Yield columns that look like adjusted prices and are not used."""
    if params.adjusted is not None:
        return
    if "Adj Close" not in places and {"Adj Open", "Adj High", "Adj Low"} & set(places):
        yield "there are adjusted prices, but no adjusted close: add it as Adj Close, or say prices.adjusted in params.yaml"
    used = set(places.values())
    for place, name in enumerate(table.header):
        if place not in used and looks_adjusted(name) and (~numbers(table.data[place].head(50), ".").isna()).mean() > 0.5:  # noqa: PLR2004 (most)
            yield (
                f"the column {name} looks like an adjusted price and is not used: in params.yaml, say prices.columns: "
                f"{{Adj Close: {name}}}, or prices.adjusted: all if Close is adjusted already"
            )


def _drop_empty(parts: dict[str, pd.Series], table: Table) -> tuple[dict[str, pd.Series], list[PriceFinding]]:
    """Leave out rows without any price, lines about dividends and splits, and the last lines if they are no prices."""
    empty = pd.concat([is_missing(parts[name]) for name in PRICES if name in parts], axis=1).all(axis=1)
    event = as_text(parts["High"]).eq("") & as_text(parts.get("Open", parts["High"])).str.contains(_EVENT)
    notes = []
    for rows, what in ((empty & ~event, "without any price"), (event, "about dividends and splits")):
        if rows.any():
            first = as_text(parts["Date"])[rows].iloc[0]
            count = int(rows.sum())
            message = f"{count} row{'s' * (count > 1)} {what} left out, first {first[:40]!r}"
            notes.append(PriceFinding(check="rows", severity="note", message=message))
    events = [line for _, line in table.ragged if _EVENT.search(line)] + [line for line in table.below if _EVENT.search(line)]
    below = [line for line in table.below if not _EVENT.search(line)]
    strange = [(n, line) for n, line in table.ragged if not _EVENT.search(line)]
    notes += [
        PriceFinding(
            check="rows",
            severity="note",
            message=f"{len(found)} line{'s' * (len(found) > 1)} {what} left out, first {found[0][:40]!r}",
        )
        for found, what in ((events, "about dividends and splits"), (below, "below the rows"))
        if found
    ]
    if table.repeated:
        message = f"{table.repeated} rows that repeat the header left out"
        notes.append(PriceFinding(check="rows", severity="note", message=message))
    if strange:
        number, line = strange[0]
        message = (
            f"{len(strange)} lines without the header's {len(table.header)} cells, first line {number}: {line[:60]!r}; "
            "give every row as many cells as the header"
        )
        notes.append(PriceFinding(check="rows", severity="refused", message=message))
    keep = ~(empty | event)
    return {role: column[keep] for role, column in parts.items()}, notes


def _ratios(column: pd.Series, decimal: str) -> pd.Series:
    """Read split ratios: 2, ``2:1``, ``2/1``, ``2 for 1``; 1 where there was no split, NaN where it cannot be read."""
    pair = as_text(column).str.extract(r"^([\d.,]+)\s*(?:[:/]|-?for-?|\s+for\s+)\s*([\d.,]+)$")
    given = numbers(column, decimal).where(pair[0].isna(), numbers(pair[0], decimal) / numbers(pair[1], decimal))
    return given.mask(is_missing(column) | (given <= 0), 1.0)


def _unreadable(table: Table, parts: dict[str, pd.Series], days: Days, values: dict[str, pd.Series]) -> Iterator[PriceFinding]:
    """Yield text in place of a date or a number; missing values are found later."""
    without = is_missing(parts["Date"])
    if without.any():
        yield PriceFinding(check="dates", severity="refused", message=f"{int(without.sum())} rows without a date")
    if days.unclear:
        yield PriceFinding(check="dates", severity="refused", message=days.unclear)
    read_ = {**({} if days.unclear else {"Date": days.read}), **{r: v for r, v in values.items() if r != "Total Return"}}
    for role, found in read_.items():  # CRSP writes letters for returns that it does not have
        wrong = found.isna()
        wrong = wrong & ~is_missing(parts[role]) if wrong.any() else wrong
        if wrong.any():
            row = int(wrong.index[int(np.argmax(wrong))])
            what, where = f"a number in column {_column(table, parts[role])}", f"the row of {as_text(parts['Date']).loc[row]}"
            if role == "Date":
                what, where = f"a date, written as {days.written} like the others,", f"line {table.line(row)}"
            often = how_often(int(wrong.sum()), f"{str(parts[role].loc[row])[:40]!r} in {where}")
            yield PriceFinding(check="text", severity="refused", message=f"not {what} {often}")


def _column(table: Table, part: pd.Series) -> str:
    return table.header[int(str(part.name))]
