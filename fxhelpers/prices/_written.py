"""Days and numbers as people and vendors write them."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

MISSING = (
    *("", "null", "nan", "na", "n/a", "n.a.", "#n/a", "#na", "#n/a n/a", "#value!", "none", "nil", "nat"),
    *("-", "--", "\u2013", "\u2014", ".", "?", "\\n"),
)
"""How files write that there is no value; lowercase."""

_UNITS = {"k": 1e3, "m": 1e6, "mm": 1e6, "mio": 1e6, "mln": 1e6, "b": 1e9, "bn": 1e9, "mrd": 1e9, "t": 1e12}
_UNIT = re.compile(r"(?<=\d)\s*(k|mm|mio\.?|mln|mrd\.?|m|bn|b|t)(?:\s*shares?)?$", re.IGNORECASE)
_CODES = "USD|EUR|GBP|CHF|JPY|CNY|HKD|CAD|AUD|SEK|NOK|DKK|PLN|BRL|KRW|INR|GBX|ZAR|SGD|NZD|MXN|TWD"
_NO_NUMBER = re.compile(rf"[\s\u00a0\u202f'\u2019%]|(?:US|HK|R|C|A|S|NT|NZ)?\$|[€£¥₹₩円元]|zł|kr\.?|Rs\.?|GBp|p$|{_CODES}")
_PLAIN = r"[-+.,0-9eE]*"  # nothing but digits and signs
_GROUPED = {
    ".": re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+|(?:,\d{2})+,\d{3})(?:\.\d*)?"),
    ",": re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+(?:,\d*)?"),
}
"""Numbers with groups of thousands, by the decimal sign."""
_OTHER = {".": ",", ",": "."}
_EPOCHS = {
    "s": (1e8, 1e11),
    "ms": (1e11, 1e14),
    "us": (1e14, 1e17),
    "ns": (1e17, 1e20),
}  # bounds of the time since 1970: from 1973 on
_WRITTEN = {
    "%Y-%m-%d": "YYYY-MM-DD",
    "%Y/%m/%d": "YYYY/MM/DD",
    "%Y.%m.%d": "YYYY.MM.DD",
    "%m/%d/%Y": "MM/DD/YYYY",
    "%d/%m/%Y": "DD/MM/YYYY",
    "%m-%d-%Y": "MM-DD-YYYY",
    "%d-%m-%Y": "DD-MM-YYYY",
    "%d.%m.%Y": "DD.MM.YYYY",
    "%b %d, %Y": "Mar 01, 2013",
    "%B %d, %Y": "March 1, 2013",
    "%b %d %Y": "Mar 01 2013",
    "%d %b %Y": "01 Mar 2013",
    "%d-%b-%Y": "01-Mar-2013",
    "%d %B %Y": "1 March 2013",
    "%d-%B-%Y": "01-March-2013",
    "%d%b%Y": "01MAR2013",
    "%d/%b/%Y": "01/Mar/2013",
    "%b-%d-%Y": "Mar-01-2013",
    "%Y-%b-%d": "2013-Mar-01",
    "%a %d %b %Y": "Fri 01 Mar 2013",
    "%A, %B %d, %Y": "Friday, March 1, 2013",
    "%a, %d %b %Y": "Fri, 01 Mar 2013",
    "%a %b %d %Y": "Fri Mar 01 2013",
    "%a, %b %d, %Y": "Fri, Mar 1, 2013",
    "%m/%d/%y": "MM/DD/YY",
    "%d/%m/%y": "DD/MM/YY",
    "%d.%m.%y": "DD.MM.YY",
    "%m-%d-%y": "MM-DD-YY",
    "%d-%m-%y": "DD-MM-YY",
    "%y-%m-%d": "YY-MM-DD",
    "%d-%b-%y": "01-Mar-13",
    "%d%b%y": "01MAR13",
    "%Y年%m月%d日": "2013年3月1日",
    "%Y%m%d": "YYYYMMDD",
}
_ORDERS = (("%m/%d/%Y", "%d/%m/%Y"), ("%m-%d-%Y", "%d-%m-%Y"), ("%m/%d/%y", "%d/%m/%y"), ("%m-%d-%y", "%d-%m-%y", "%y-%m-%d"))
_MIDNIGHT = re.compile(r"[ T,]+0?0[:.]00(?:[:.]00(?:\.0+)?)?\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})?$|[ T]000000Z?$")
_CLOCK = re.compile(r"(?<=\d)[ T,]+\d{1,2}[:.]\d{2}.*$|(?<=^\d{8})[ T]\d{6}Z?$")
_STAMP = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{4}(?:\d{2})?")  # YYYYMMDDHHMM(SS)
_YEARS = (pd.Timestamp("1850-01-01"), pd.Timestamp("2150-01-01"))
_ZONE = r"(?P<day>\d{4}-\d{2}-\d{2})[ T](?P<clock>\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})$"
_SERIALS = (20_000, 80_000)  # of days in a spreadsheet, counted from 1899-12-30: 1954 to 2119
_SAMPLE = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Days:
    """Dates as read."""

    read: pd.Series  # datetime64, midnight without zone; NaT where a date could not be read
    written: str  # the form, for people
    unclear: str = ""  # why the form is not certain; "" if it is
    moments: bool = False  # whether they were moments, and became days in the exchange's time


def is_missing(text: pd.Series) -> pd.Series:
    """Return where a column holds no value."""
    if pd.api.types.is_numeric_dtype(text) or pd.api.types.is_datetime64_any_dtype(text):
        return text.isna()
    return text.isna() | as_text(text).str.lower().isin(MISSING)


def as_text(column: pd.Series) -> pd.Series:
    return column.astype("str").str.strip() if not pd.api.types.is_string_dtype(column) else column.str.strip()


def decimal_sign(columns: list[pd.Series]) -> str:
    """Return the decimal sign of columns, a point or a comma; "" if a sign is followed by three digits everywhere."""
    given = [as_text(column) for column in columns if not pd.api.types.is_numeric_dtype(column)]
    text = _digits(pd.concat(given or [pd.Series(dtype="str")]))
    commas, points = text.str.contains(",", regex=False), text.str.contains(".", regex=False)
    both = text[commas & points]
    if len(both):
        return "," if (both.str.rfind(",") > both.str.rfind(".")).mean() > 0.5 else "."  # noqa: PLR2004 (most)
    for sign in (",", "."):
        if _is_decimal(text, sign):
            return sign
    if commas.any() and not commas.all():
        return "."
    return "" if commas.any() or points.all() else "."


def volume_sign(column: pd.Series, decimal: str) -> str:
    """Return the decimal sign of volumes, which may be written in another way than prices; that of prices where both fit."""
    if pd.api.types.is_numeric_dtype(column):
        return "."
    text = _digits(as_text(column))
    for sign, other in _OTHER.items():
        if (text.str.count(rf"\{sign}") > 1).any():
            return other
    for sign in _OTHER:
        if _is_decimal(text, sign):
            return sign
    points = text.str.contains(".", regex=False)
    if decimal == "." and points.any() and not points.all():  # 16.006 beside 987
        return ","
    return decimal


def _digits(text: pd.Series) -> pd.Series:
    """Return numbers without units and currencies."""
    if text.str.fullmatch(_PLAIN).all():
        return text
    return text.str.replace(_UNIT, "", regex=True).str.replace(_NO_NUMBER, "", regex=True)


def _is_decimal(text: pd.Series, sign: str) -> bool:
    """Return whether a sign stands where it could not group thousands."""
    signed = text[text.str.contains(sign, regex=False)]
    return bool(len(signed)) and not signed.str.fullmatch(_GROUPED[_OTHER[sign]].pattern).all()


def numbers(column: pd.Series, decimal: str, *, units: bool = False) -> pd.Series:
    """Read numbers such as ``1,234.5``, ``$430.47``, ``1.234,5`` or, with ``units``, ``38.46M``; NaN where there is none."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    text = as_text(column)
    if decimal == ".":
        plain = pd.to_numeric(text, errors="coerce")
        if not plain.hasnans or not (plain.isna() & ~is_missing(text)).any():
            return plain.astype(float)
    unit = pd.Series(1.0, text.index)
    if units:
        unit = text.str.extract(_UNIT)[0].str.lower().str.rstrip(".").map(_UNITS).fillna(1.0).astype(float)
        text = text.str.replace(_UNIT, "", regex=True).str.replace(r"\s*shares?$", "", regex=True)
    text = text.str.replace(_NO_NUMBER, "", regex=True)
    group = _OTHER[decimal]
    grouped = text.str.fullmatch(_GROUPED[decimal].pattern)
    text = text.where(~grouped, text.str.replace(group, "", regex=False))
    text = text.mask(text.str.contains(group, regex=False), "")  # a sign that groups nothing
    return pd.to_numeric(text.str.replace(",", ".", regex=False), errors="coerce").astype(float) * unit


def read_days(column: pd.Series, zone: str | None) -> Days:
    """Read the days of a column; a moment becomes the day that it was on the exchange.

    A moment with an offset is the day that it was in the exchange's time
    ``zone``, except midnight, which vendors write for the day itself. A moment
    without one is the day that is written.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        moments = column.dt.tz is not None
        return Days(read=_on_exchange(column, zone), written="time stamps", moments=moments)
    text = as_text(column).str.replace(r"\.0+$", "", regex=True)
    filled = text[~is_missing(text)]
    if filled.empty:
        return Days(read=pd.Series(pd.NaT, index=column.index, dtype="datetime64[s]"), written="YYYY-MM-DD")
    if filled.str.fullmatch(_STAMP.pattern).all():
        text = text.str[:8]
    elif filled.str.fullmatch(r"\d+(?:\.\d+)?(?:[eE]\+?\d+)?").mean() > 0.5:  # noqa: PLR2004 (most)
        found = _counted(pd.to_numeric(text, errors="coerce"), zone)
        if found is not None:
            return found
    timed = text.str.contains("[ T,]")  # else there is no time of day
    days, written, unclear = _calendar_days(text.str.replace(_CLOCK, "", regex=True) if timed.any() else text, filled.index)
    elsewhere, stamps = _moments(text)
    if zone and len(stamps):
        days = days.mask(elsewhere, stamps.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize().reindex(text.index))
    days = days.where(days.between(*_YEARS))
    if days[filled.index].notna().mean() < 0.5:  # noqa: PLR2004 (most)
        unclear = f"dates such as {filled.iloc[0][:40]!r} are in no known form: write them as YYYY-MM-DD"
    return Days(read=days, written=written, unclear=unclear, moments=len(stamps) > 0)


def has_clock(column: pd.Series) -> pd.Series:
    """Return where a time of day is written, other than midnight, which stands for the day."""
    text = as_text(column)
    written = text.str.contains(_CLOCK) & ~text.str.contains(_MIDNIGHT)
    return written | (text.str.fullmatch(_STAMP.pattern) & ~text.str[8:].str.fullmatch("0+"))


def _moments(text: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return where a time of day, other than midnight, and an offset are written, and these moments, UTC."""
    timed = text.str.contains(":", regex=False)
    if not timed.any():
        return timed, pd.Series(dtype="datetime64[us, UTC]")
    parts = text.str.extract(_ZONE)
    day, clock, zone = parts["day"], parts["clock"], parts["zone"].replace({"UTC": "Z", "GMT": "Z"})
    elsewhere = day.notna() & ~clock.fillna("").str.fullmatch(r"[0:.]*")
    stamps = pd.to_datetime((day + "T" + clock + zone)[elsewhere], utc=True, format="ISO8601", errors="coerce")
    return elsewhere, stamps


def _on_exchange(stamps: pd.Series, zone: str | None) -> pd.Series:
    """Return the day of a moment on the exchange; midnight, in whatever zone it is given, stands for the day itself."""
    stamps = stamps.dt.as_unit("us")
    local = stamps.dt.tz_localize(None) if stamps.dt.tz is not None else stamps
    if stamps.dt.tz is not None and zone:
        local = local.where(local == local.dt.normalize(), stamps.dt.tz_convert(zone).dt.tz_localize(None))
    days: pd.Series = local.dt.normalize()
    return days


def _counted(count: pd.Series, zone: str | None) -> Days | None:
    """Read days written as numbers: the time since 1970 in some unit, or the days of a spreadsheet; None if they are neither."""
    for unit, (low, high) in _EPOCHS.items():
        if low <= count.median() < high:
            seconds = (count / {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]).round()
            stamps = _on_exchange(pd.to_datetime(seconds, unit="s", utc=True, errors="coerce"), zone)
            return Days(read=stamps, written=f"{unit} since 1970", moments=True)
    if count.dropna().between(*_SERIALS).all():
        days = pd.Timestamp("1899-12-30").as_unit("us") + pd.to_timedelta(count, unit="D")
        return Days(read=days.dt.normalize(), written="days of a spreadsheet")
    return None


def _calendar_days(text: pd.Series, filled: pd.Index) -> tuple[pd.Series, str, str]:
    """Return the days by the form that fits the most rows, the form, and why it is not certain."""
    sample = text.loc[filled[np.unique(np.linspace(0, len(filled) - 1, _SAMPLE).round().astype(int))]]
    fits: dict[str, float] = {}
    for form in _WRITTEN:
        fits[form] = pd.to_datetime(sample, format=form, errors="coerce").notna().mean()
        if fits[form] == 1:  # no later one fits more
            break
    best = max(fits, key=lambda form: fits[form])
    if not fits[best]:
        best = "%Y-%m-%d"
    values = pd.to_datetime(text, format=best, errors="coerce")
    for forms in _ORDERS:
        if best in forms:
            return _in_order(text, filled, forms)
    return values, _WRITTEN[best], ""


def _in_order(text: pd.Series, filled: pd.Index, forms: tuple[str, ...]) -> tuple[pd.Series, str, str]:
    """Choose between month first and day first: the one that reads all rows, else the one whose days are in order."""
    read = {form: pd.to_datetime(text, format=form, errors="coerce") for form in forms}
    best = sorted(forms, key=lambda form: (read[form].loc[filled].isna().sum(), _disorder(read[form].loc[filled])))
    first, second = (read[form].loc[filled] for form in best[:2])
    unclear = ""
    if not first.isna().any() and not second.isna().any() and _disorder(first) == _disorder(second) and not first.equals(second):
        unclear = f"dates could be {_WRITTEN[best[0]]} or {_WRITTEN[best[1]]}: write them as YYYY-MM-DD"
    return read[best[0]], _WRITTEN[best[0]], unclear


def _disorder(days: pd.Series) -> int:
    """Return how many days are on a weekend, or turn back."""
    steps = np.sign(days.diff().dt.days.to_numpy()[1:])
    turns = int(min((steps > 0).sum(), (steps < 0).sum()))
    return turns + int((days.dt.day_of_week >= 5).sum())  # noqa: PLR2004 (Saturday)
