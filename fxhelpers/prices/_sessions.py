"""Sessions of an exchange, from ``exchange_calendars``."""

import warnings
from contextlib import suppress
from functools import lru_cache
from typing import Any

import pandas as pd

from fxhelpers.errors import ParamsError
from fxhelpers.params import nearest

_USUAL = "2000-01-01"
_WRONG = (
    "XBOM",
    "XMOS",
    "XTAE",
)  # wrong sessions in exchange_calendars 4.13.2 on pandas 3: findings/exchange-calendars-pandas-3.sh


def zone_of(calendar: str | None) -> str | None:
    """Return the time zone of an exchange; None without one. :class:`ParamsError` for one that is unknown, or wrong."""
    return str(_covering(calendar).tz) if calendar else None


def sessions_of(calendar: str | None, days: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    """Return an exchange's sessions in the years of some days and the year after, if they are known; None without an exchange."""
    if calendar is None or days.empty:
        return None
    last = min(days.max().year, pd.Timestamp.now("UTC").year)  # a wrong date may be centuries from now
    first = days.min().year
    sessions: pd.DatetimeIndex = _covering(calendar, f"{first}-01-01", f"{last + 1}-12-31").sessions
    return sessions[(sessions.year >= first) & (sessions.year <= last + 1)].as_unit("us").rename(calendar)


def today(calendar: str | None, now: pd.Timestamp) -> tuple[pd.Timestamp, bool]:
    """Return the day that it is on the exchange, and whether that day's trading has not ended yet.

    Without an exchange a day ends at midnight UTC.
    """
    if calendar is None:
        return now.tz_convert("UTC").tz_localize(None).normalize(), True
    exchange = _around(calendar, now)
    day = now.tz_convert(exchange.tz).tz_localize(None).normalize()
    return day, bool(exchange.is_session(day)) and now < exchange.session_close(day)


def last_session(calendar: str | None, now: pd.Timestamp) -> pd.Timestamp:
    """Return the newest session that has ended; without an exchange, yesterday by UTC."""
    day, unfinished = today(calendar, now)
    return previous_session(calendar, day if unfinished else day + pd.Timedelta(days=1))


def next_session(calendar: str | None, day: pd.Timestamp) -> pd.Timestamp:
    """Return the session after a day; without an exchange, the next day."""
    after = day + pd.Timedelta(days=1)
    return after if calendar is None else _around(calendar, day).date_to_session(after, "next")


def previous_session(calendar: str | None, day: pd.Timestamp) -> pd.Timestamp:
    """Return the session before a day; without an exchange, the day before."""
    before = day - pd.Timedelta(days=1)
    return before if calendar is None else _around(calendar, day).date_to_session(before, "previous")


def session_open(calendar: str | None, session: pd.Timestamp) -> pd.Timestamp:
    """Return when a session opens, UTC; without an exchange, at midnight UTC.

    A day that is no session, such as one that another calendar had, begins at the exchange's midnight: never later than trading.
    """
    if calendar is None:
        return session.tz_localize("UTC")
    exchange = _around(calendar, session)
    if not exchange.is_session(session):
        return session.tz_localize(exchange.tz).tz_convert("UTC")
    return pd.Timestamp(exchange.session_open(session))


def sessions_since(calendar: str | None, day: pd.Timestamp) -> int | None:
    """Return how many sessions of an exchange have ended after a day; None without an exchange."""
    if calendar is None:
        return None
    last = last_session(calendar, pd.Timestamp.now("UTC"))
    sessions = _covering(calendar, f"{day.year}-01-01", f"{max(day, last).year}-12-31").sessions
    return int(((sessions > day) & (sessions <= last)).sum())


def _around(calendar: str, day: pd.Timestamp) -> Any:  # noqa: ANN401
    """Return an exchange's calendar from the year before a day to the year after it."""
    return _covering(calendar, f"{day.year - 1}-01-01", f"{day.year + 1}-12-31")


def _covering(name: str, start: str = _USUAL, end: str = _USUAL) -> Any:  # noqa: ANN401
    """Return a calendar that covers some days: mostly one from 2000 to next year, since making one takes 0.15 s."""
    next_year = f"{pd.Timestamp.now('UTC').year + 1}-12-31"
    if start >= _USUAL and end <= next_year:
        with suppress(ParamsError):  # its holidays may be known for some years only
            return _calendar(name, _USUAL, next_year)
    return _calendar(name, start, end)


@lru_cache(maxsize=16)
def _calendar(name: str, start: str, end: str = "") -> Any:  # noqa: ANN401 (exchange_calendars has no types)
    import exchange_calendars

    known = exchange_calendars.get_calendar_names(include_aliases=True)
    if name not in known:
        msg = (
            f"prices.calendar: {name!r} is unknown to exchange_calendars{nearest(name, known)}; expected an exchange, such as "
            "XNYS, XLON, XETR or XTKS, or null if any day can trade"
        )
        raise ParamsError(msg)
    if exchange_calendars.resolve_alias(name) in _WRONG:
        msg = f"prices.calendar: exchange_calendars has wrong sessions of {name} on this version of pandas; set null"
        raise ParamsError(msg)
    try:
        with warnings.catch_warnings():  # it uses what pandas 4 will change
            warnings.simplefilter("ignore")
            return exchange_calendars.get_calendar(name, start=start or None, end=end or None)
    except (ValueError, NotImplementedError) as error:
        if end:  # later than the holidays that are known
            return _calendar(name, start)
        msg = (
            f"prices.calendar: exchange_calendars cannot give the sessions of {name} from {start or 'recent years'} on: "
            f"{str(error)[:160] or type(error).__name__}; set null, or a later prices.start"
        )
        raise ParamsError(msg) from error
