"""Columns of the user's own, by day: read, checked, and joined to days of prices.

The value of a day counts as known at that day's close. It is used for that
day alone: nothing is filled in, forward or backward.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fxhelpers.errors import FeaturesError, PriceDataError
from fxhelpers.prices._table import Table, read_plain
from fxhelpers.prices._written import as_text, decimal_sign, has_clock, is_missing, numbers, read_days

DATE = "Date"
_MOST = 100  # columns
_LONGEST = 64  # characters of a name
_GREATEST = 1e100  # whose square, in a scaler, still is a number
_NO_NUMBER = r"[^\d.,+\-eE]"
_NAMED = 3  # days, and columns, that a message names


def read_columns(path: Path, taken: Collection[str]) -> pd.DataFrame:
    """Read a CSV file of a column Date and others of numbers; columns in the order of their names, an empty cell is NaN.

    ``taken`` are names that columns cannot have. :class:`FeaturesError`, with
    the line, for whatever is not a day or a number.
    """
    if not path.is_file():
        there = ", ".join(sorted(one.stem for one in path.parent.glob("*.csv"))[:_NAMED]) if path.parent.is_dir() else "no folder"
        msg = f"{path}: no such file (features.extra in params.yaml names its folder; there: {there or 'no CSV file'})"
        raise FeaturesError(msg)
    try:
        table = read_plain(path)
    except PriceDataError as error:
        raise FeaturesError(str(error)) from error
    place = _date_column(path, table.header)
    names = {n: name for n, name in enumerate(table.header) if n != place}
    _check_names(str(path), list(names.values()), taken)
    for line, text in table.ragged[:1]:
        msg = f"{path}: line {line} has not the header's {len(table.header)} cells: {text[:60]!r}; give every row as many"
        raise FeaturesError(msg)
    days = _days(path, table, place)
    sign = _sign(path, table, list(names))
    values = {name: _numbers(path, table, n, name, sign) for n, name in names.items()}
    frame = pd.DataFrame(values).set_axis(days)[sorted(values)]
    return frame.iloc[::-1] if len(days) > 1 and days[0] > days[-1] else frame


def check_columns(frame: pd.DataFrame, taken: Collection[str]) -> pd.DataFrame:
    """Return a frame as :func:`read_columns` does, with its columns in order, as float64; :class:`FeaturesError` as there."""
    where = "extra"
    _check_names(where, list(frame.columns), taken)
    days = frame.index
    plain = isinstance(days, pd.DatetimeIndex) and days.tz is None and days.notna().all() and days.equals(days.normalize())
    if not (plain and len(days) and days.is_monotonic_increasing and days.is_unique):
        msg = f"{where}: expected an index of days, without a time of day, increasing and each once; read_extra returns one"
        raise FeaturesError(msg)
    wrong = [name for name in frame if frame[name].dtype.kind not in "biuf"]
    if wrong:
        msg = f"{where}: the column {wrong[0]} holds {frame[wrong[0]].dtype}, not numbers"
        raise FeaturesError(msg)
    values = frame[sorted(map(str, frame))].astype(float)
    large = values.abs() > _GREATEST
    if large.any(axis=None):
        name = str(large.any().idxmax())
        msg = f"{where}: the column {name} is not a finite number, up to {_GREATEST:g}, on {large[name].idxmax():%Y-%m-%d}"
        raise FeaturesError(msg)
    return values.set_axis(pd.DatetimeIndex(days, name=DATE).as_unit("us"))


def columns_on(extra: pd.DataFrame, days: pd.DatetimeIndex, where: str) -> tuple[pd.DataFrame, int]:
    """Return the values of days of prices, from the first row on, and the number of rows on other days.

    Days before the first row have no values. :class:`FeaturesError` if a later
    one has no row, or an empty cell.
    """
    expected = days[days >= extra.index[0]]
    values = extra.reindex(expected)
    lacking = expected[values.isna().any(axis=1)]
    if expected.empty or len(lacking):
        msg = f"{where}: {_lacking(extra, expected, lacking) if len(expected) else _too_late(extra, days)}"
        raise FeaturesError(msg)
    return values, int((~extra.index.isin(days)).sum())


def _too_late(extra: pd.DataFrame, days: pd.DatetimeIndex) -> str:
    last = f"prices end on {days[-1]:%Y-%m-%d}" if len(days) else "there are no prices"
    return f"the first row is of {extra.index[0]:%Y-%m-%d}, and {last}"


def _lacking(extra: pd.DataFrame, days: pd.DatetimeIndex, lacking: pd.DatetimeIndex) -> str:
    """Describe days of prices without a value."""
    found, last = [], extra.index[-1]
    inside, after = lacking[lacking <= last], lacking[lacking > last]
    if len(inside):
        listed = ", ".join(f"{day:%Y-%m-%d}" for day in inside[:_NAMED])
        cells = extra.columns[extra.loc[extra.index.isin(inside)].isna().any()]
        empty = f" (empty: {', '.join(cells[:_NAMED])})" if len(cells) else ""
        found.append(f"no value on {len(inside):,} of {len(days):,} days of prices, first {listed}{empty}")
    if len(after):
        found.append(f"it ends on {last:%Y-%m-%d}, prices end on {days[-1]:%Y-%m-%d}")
    return f"{'; '.join(found)}. Every day needs the value that was known at its close: nothing is filled in"


def _date_column(path: Path, header: Sequence[str]) -> int:
    places = [n for n, name in enumerate(header) if name.lower() == DATE.lower()]
    if len(places) != 1:
        there = ", ".join(header)[:100] or "nothing"
        msg = f"{path}: {'no column' if not places else 'more than one column'} {DATE} in its first line; there: {there}"
        raise FeaturesError(msg)
    return places[0]


def _check_names(where: str, names: Sequence[object], taken: Collection[str]) -> None:
    """Refuse what cannot be the name of a feature, and more columns than are allowed."""
    reserved, seen, wrong = {name.lower() for name in (DATE, *taken)}, set(), ""
    if not names or len(names) > _MOST:
        wrong = f"expected 1 to {_MOST} columns besides {DATE}, found {len(names)}"
    for n, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST:
            wrong = wrong or f"column {n} besides {DATE} needs a name of 1 to {_LONGEST} printable characters, found {name!r:.80}"
        elif name.lower() in reserved:
            wrong = wrong or f"a column cannot have the name {name!r}: fxhelpers has one of that name; rename it"
        elif name.lower() in seen:
            wrong = wrong or f"more than one column {name!r}"
        seen.add(str(name).lower())
    if wrong:
        msg = f"{where}: {wrong}"
        raise FeaturesError(msg)


def _days(path: Path, table: Table, place: int) -> pd.DatetimeIndex:
    column = table.data[place]
    if column.empty:
        msg = f"{path}: no row below its first line"
        raise FeaturesError(msg)
    found = read_days(column, None)
    if found.unclear:
        msg = f"{path}: {found.unclear}"
        raise FeaturesError(msg)
    days = pd.DatetimeIndex(found.read, name=DATE).as_unit("us")
    clock = has_clock(column)
    backward = len(days) > 1 and days[0] > days[-1]
    moved = days.asi8 * (-1 if backward else 1)
    steps = pd.Series(np.diff(moved, prepend=moved[:1] - 1), column.index)
    for wrong, what in (
        (is_missing(column) | found.read.isna(), f"is not a date, written as {found.written} like the others"),
        (clock | (found.moments and not clock.any()), "is a moment: write the day at whose close its values are known"),
        (pd.Series(days.duplicated(), column.index), "is there twice; keep one row of each day"),
        (steps <= 0, "is not in order; sort the rows by date"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            msg = f"{path}: line {table.line(row)}: the date {str(column.iloc[row])[:40]!r} {what}"
            raise FeaturesError(msg)
    return days


def _sign(path: Path, table: Table, places: list[int]) -> str:
    """Return the decimal sign of all columns."""
    columns = [table.data[n] for n in places]
    sign = decimal_sign(columns)
    if sign:
        return sign
    if not any(column.str.contains(",", regex=False).any() for column in columns):
        return "."
    if table.delimiter == ";":
        return ","
    msg = f"{path}: its numbers have a decimal comma, or groups of thousands: write them with a decimal point"
    raise FeaturesError(msg)


def _numbers(path: Path, table: Table, place: int, name: str, sign: str) -> pd.Series:
    column = table.data[place]
    text, values, empty = as_text(column), numbers(column, sign), is_missing(column)
    for wrong, what in (
        (values.abs() > _GREATEST, f"not a finite number, up to {_GREATEST:g}"),
        (~empty & (values.isna() | text.str.contains(_NO_NUMBER)), "not a number"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            often = f" ({int(wrong.sum())} times)" if wrong.sum() > 1 else ""
            msg = f"{path}: line {table.line(row)}: {text.iloc[row][:40]!r} in column {name} is {what}{often}"
            raise FeaturesError(msg)
    return values
