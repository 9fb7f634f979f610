"""A file of prices as a table of text: compression, encoding, delimiter, lines above the header, several header lines."""

import csv
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from fxhelpers.errors import PriceDataError

ARROW = (".parquet", ".pq", ".feather", ".arrow")
TEXT = (".csv", ".txt", ".tsv")
PACKED = (".gz", ".bz2", ".zst", ".zip")
SUFFIXES = (*TEXT, *(text + packed for text in TEXT for packed in PACKED), *ARROW)
"""Suffixes of files that are read."""

_UNITS = {"usd", "eur", "gbp", "jpy", "chf", "shares", "currency", "number", "pcs"}
_TICKERS = ("ticker", "tickers")
_DELIMITERS = (",", ";", "\t", "|")
_LINE = 60  # bytes of a row, about
_SEARCHED = 40  # lines above the header
_NUMBER = re.compile(r"[-+$€£]?[\d.,]+%?[KMB]?")
_ENOUGH = 3  # known columns that make a line a header
_WIDEST = 10_000  # characters of a line that may be a header
_FEW = 2  # cells of a line below the rows that is no row
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV",
    b"{": "JSON: save its rows as CSV, for example with pandas.json_normalize(…).to_csv",
    b"[": "JSON: save its rows as CSV, for example with pandas.read_json(…).to_csv",
    b"PAR1": "Parquet: give it the suffix .parquet",
    b"%PDF": "a PDF: download the prices as CSV",
}
_WEB_PAGE = re.compile(rb"<(?:!doctype|html|head|body|table|script|svg|\?xml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table as it is written: nothing is converted or stripped."""

    header: list[str]  # one name per column
    tickers: list[str] | None = None  # of each column, where a line of the header names them; "" for the dates
    data: pd.DataFrame  # columns 0, 1, …; text, or typed values of an Arrow file
    delimiter: str = ","
    # lines that do not have the header's number of cells, with their number in the file
    ragged: list[tuple[int, str]] = field(default_factory=list)
    below: list[str] = field(default_factory=list)  # lines below the rows that are none
    repeated: int = 0  # rows that repeat the header, which are left out
    first_line: int = 2  # of the data in the file; 1-based
    lines: list[int] | None = None  # of every row, where it is known

    def line(self, row: int) -> int:
        """Return the line of a row in the file; lines that were left out are not counted, unless all are known."""
        return self.first_line + row if self.lines is None else self.lines[row]


def read_table(path: Path, known: Callable[[str], bool], *, rows: int | None = None) -> Table:
    """Read a file as a table, or its first ``rows``; ``known`` tells whether a cell is the name of a column.

    :class:`PriceDataError` if it is no table, or has no line with names of columns.
    """
    try:
        if path.suffix.lower() in ARROW:
            frame = pd.read_feather(path) if path.suffix.lower() in ARROW[2:] else pd.read_parquet(path)
            return frame_table(frame if rows is None else frame.head(rows))
    except _UNREADABLE as error:
        raise _no_table(path, error) from error
    return _parsed(_read_text(path, rows), str(path), known)


def read_plain(path: Path) -> Table:
    """Read a file of text whose first line names its columns, whatever these are; empty lines do not count.

    :class:`PriceDataError` if it is no table.
    """
    text = _split(_read_text(path))
    numbered = [(number, line) for number, line in enumerate(text, start=1) if line.strip(" ,;\t|")]
    first = numbered[0][1] if numbered else ""
    delimiter = max(_DELIMITERS, key=lambda one: len(_cells(first, one)))
    rows = [_cells(line, delimiter) for _, line in numbered[:2]]
    header = _as_wide(rows[0] if rows else [], rows[1] if len(rows) > 1 else [])
    lines = [number for number, _ in numbered[1:]]
    try:
        data, ragged, _ = _rows([line for _, line in numbered[1:]], header, delimiter, 0, few=0)
    except pa.ArrowException as error:
        raise _no_table(path, error) from error
    found = [(lines[place - 1], row) for place, row in ragged]
    return Table(header=header, data=data, delimiter=delimiter, ragged=found, lines=lines)


_UNREADABLE = (OSError, ValueError, pa.ArrowException, zipfile.BadZipFile, EOFError)


def _no_table(path: Path, error: Exception) -> PriceDataError:
    return PriceDataError(f"{path}: cannot be read as a table: {str(error)[:200]}")


def _read_text(path: Path, rows: int | None = None) -> str:
    """Return the text of a file, or its beginning; :class:`PriceDataError` if it is not one of text."""
    try:
        content = _unpacked(path, rows)
    except _UNREADABLE as error:
        raise _no_table(path, error) from error
    begin = content[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    what = next((words for magic, words in _OTHER_FILES.items() if begin.startswith(magic)), "")
    if _WEB_PAGE.match(begin):
        what = "a web page, perhaps that of a login or an error: download the file again"
    if what:
        msg = f"{path}: cannot be read as a table: it is {what}"
        raise PriceDataError(msg)
    return _text(content)


def _unpacked(path: Path, rows: int | None) -> bytes:
    if path.suffix.lower() != ".zip":
        with path.open("rb") as file:
            magic = file.read(4)
        packing = next((name for begin, name in _COMPRESSED.items() if magic.startswith(begin)), None)
        with pa.input_stream(str(path), compression=packing) as stream:
            if rows is None:
                return bytes(stream.read())
            start = bytes(stream.read(rows * _LINE))
            return start.rpartition(b"\n")[0] if len(start) == rows * _LINE else start
    with zipfile.ZipFile(path) as packed:
        names = [name for name in packed.namelist() if name.lower().endswith(TEXT) and not NO_PRICES.search(name)]
        if len(names) != 1:
            msg = f"one file of prices is expected in it, found {len(names)}: {', '.join(packed.namelist()[:5])}; unpack it"
            raise ValueError(msg)
        return packed.read(names[0])


NO_PRICES = re.compile(r"__MACOSX|^readme|licen[cs]e", re.IGNORECASE)


def _text(content: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if b"\x00" in content[:_LINE]:
        return content.decode("utf-16-be" if content[:1] == b"\x00" else "utf-16-le", errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _parsed(text: str, origin: str, known: Callable[[str], bool]) -> Table:
    lines = _split(text)
    found = [_header_line(lines[:_SEARCHED], delimiter, known) for delimiter in _DELIMITERS]
    count, place, delimiter = max(found, key=lambda one: one[0])
    if count < _ENOUGH:
        shown = next((line.strip() for line in lines if line.strip()), "")
        what = f"the first line is {shown[:100]!r}; prices.columns in params.yaml can name them" if shown else "the file is empty"
        msg = f"{origin}: cannot be read as a table: no line names columns such as Date, Open, High, Low, Close, Volume; {what}"
        raise PriceDataError(msg)
    rows = [_cells(line, delimiter) for line in lines[: place + 6]]
    header, tickers, begin = _header(rows, place, known)
    while begin < min(len(rows), place + 4) and rows[begin] and not any(map(str.isdigit, "".join(rows[begin]))):
        begin += 1  # units, or a rule
    header = _as_wide(header, rows[begin] if begin < len(rows) else [])
    data, ragged, below = _rows(lines[begin:], header, delimiter, begin)
    again = (data == pd.Series(header)).all(axis=1) if len(data) else pd.Series(dtype=bool)
    return Table(
        header=header,
        tickers=tickers,
        data=data[~again] if again.any() else data,
        delimiter=delimiter,
        ragged=ragged,
        below=below,
        repeated=int(again.sum()),
        first_line=begin + 1,
    )


def _split(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _as_wide(header: list[str], row: list[str]) -> list[str]:
    """Return a header of as many cells as a row, if they differ by a delimiter at the end of one of them."""
    if len(row) == len(header) + 1 and not row[-1]:
        return [*header, ""]
    return header[:-1] if len(row) == len(header) - 1 and not header[-1] else header


def _header_line(lines: list[str], delimiter: str, known: Callable[[str], bool]) -> tuple[int, int, str]:
    """Return how many known names the best line has, its place, and the delimiter."""
    rows = [_cells(line, delimiter) for line in lines]
    counts = [len({cell.lower() for cell in row if known(cell)}) for row in rows]
    for n, row in enumerate(rows):  # tickers next to the header, which may be words such as LOW
        if (
            row[:1]
            and row[0].lower() in _TICKERS
            and max([*counts[max(n - 1, 0) : n], *counts[n + 1 : n + 2]], default=0) >= _ENOUGH
        ):
            counts[n] = 0
    best = max(counts, default=0)
    return best, counts.index(best) if counts else 0, delimiter


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line[:_WIDEST]], delimiter=delimiter, skipinitialspace=True), [])]


def _header(rows: list[list[str]], place: int, known: Callable[[str], bool]) -> tuple[list[str], list[str] | None, int]:
    """Return the names of the columns, the ticker of each where another line has them, and the place of the first row."""
    header, begin, tickers = rows[place], place + 1, None
    above = rows[place - 1] if place else []
    below = rows[begin] if begin < len(rows) else []
    if _names_tickers(above, header, known):
        tickers = above
    elif _names_tickers(below, header, known):
        tickers, begin = below, begin + 1
    dates = rows[begin] if begin < len(rows) else []
    if tickers is not None and dates and dates[0] and not any(dates[1:]):  # the line that names the index
        header, begin = [dates[0], *header[1:]], begin + 1
    elif tickers is not None:
        first = header[0] or tickers[0]
        header = [first if known(first) else "Date", *header[1:]]
    return header, ["", *tickers[1:]] if tickers is not None else None, begin


def _names_tickers(cells: list[str], header: list[str], known: Callable[[str], bool]) -> bool:
    """Return whether a line next to the header names the ticker of each column."""
    named = cells[1:]
    dates_above = known(cells[0]) and not header[0] if cells and header else False  # of a frame whose index became a column
    if len(cells) != len(header) or not all(named) or not (cells[0].lower() in {"", *_TICKERS} or dates_above):
        return False
    if cells[0].lower() in _TICKERS:
        return True
    if {cell.lower() for cell in named} & _UNITS:
        return False
    return not any((known(cell) and len(cell) > 1) or _NUMBER.fullmatch(cell) for cell in named)


def _rows(
    lines: list[str], header: list[str], delimiter: str, begin: int, *, few: int = _FEW
) -> tuple[pd.DataFrame, list[tuple[int, str]], list[str]]:
    """Return the rows, the lines that have another number of cells than the header, with their numbers, and those below."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    below: list[str] = []
    while lines and len(list(filter(None, _cells(lines[-1], delimiter)))) <= few < len(header) and len(below) < _SEARCHED:
        *lines, last = lines
        below += [last.strip()] if last.strip() else []
    ragged: list[tuple[int, str]] = []

    def keep(row: arrow_csv.InvalidRow) -> str:
        ragged.append((begin + int(row.number or 0), row.text.strip()))
        return "skip"

    text = "\n".join(lines)
    if not text.strip():
        return pd.DataFrame(columns=range(len(header)), dtype=str), [], below
    columns = [str(number) for number in range(len(header))]
    table = arrow_csv.read_csv(
        io.BytesIO(text.encode()),
        read_options=arrow_csv.ReadOptions(column_names=columns, use_threads=False),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=keep),
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False),
    )
    return table.to_pandas().set_axis(range(len(header)), axis=1), ragged, below


def frame_table(frame: pd.DataFrame) -> Table:
    """Return a frame with columns of any names as a table; a named index is a column too."""
    index = frame.index
    if isinstance(index, pd.MultiIndex):
        dates = [isinstance(index.levels[n], pd.DatetimeIndex) for n in range(index.nlevels)]
        frame = frame.reset_index(
            names=[str(name or ("Date" if one else "Ticker")) for name, one in zip(index.names, dates, strict=True)]
        )
    elif index.name or isinstance(index, pd.DatetimeIndex) or index.dtype == object:
        frame = frame.rename_axis(index=str(index.name or "Date")).reset_index()
    if isinstance(frame.columns, pd.MultiIndex):  # fields and tickers, in either order
        levels = [[str(name) for name in frame.columns.get_level_values(n)] for n in range(2)]
        fields, tickers = sorted(
            levels, key=lambda names: len({*names} & {"Open", "High", "Low", "Close", "Volume"}), reverse=True
        )
        fields[0] = fields[0] or tickers[0] or "Date"
        return Table(header=fields, tickers=["", *tickers[1:]], data=frame.set_axis(range(len(fields)), axis=1))
    return Table(header=list(map(str, frame.columns)), data=frame.set_axis(range(frame.shape[1]), axis=1))
