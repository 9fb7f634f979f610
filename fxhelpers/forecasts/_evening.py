"""One evening: forecast the next session of every champion, put it on record, and write the file that a desk picks up."""

import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers.display import Keyed, progress_bar
from fxhelpers.errors import ParamsError
from fxhelpers.forecasts._log import CHAMPION, PREDECESSOR, Log, Row, read_log, record_rows, version_of, with_live
from fxhelpers.forecasts._making import TOO_OLD, Wanted, make_rows
from fxhelpers.ledger import Decision, Identity
from fxhelpers.params import MODEL_PREFIX, check_symbol, is_symbol, parse_day
from fxhelpers.prices import last_session, next_session, previous_session, session_open
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.storage import registered_models
from fxhelpers.reports.gallery import note_live
from fxhelpers.system import write_atomic

MOST_MISSED = 10
"""Missed sessions that are caught up, the newest ones."""
_SEARCHED_DAYS = 40  # before the newest session, in which a symbol's last forecast on record is looked for

FILE_COLUMNS = (
    "session",
    "symbol",
    "forecast",
    "why",
    "status",
    "revision",
    "model",
    "version",
    "as_of",
    "made_at",
    "bundle_sha256",
    "recipe_sha256",
    "prices_sha256",
    "record",
)
"""Columns of ``outputs/forecasts/SESSION.csv``, in this order; new ones come at the end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecasts(Keyed):
    """The forecasts of one session."""

    session: str  # YYYY-MM-DD
    opens: str  # when it opens, ISO 8601, UTC
    as_of: str  # the session before it, whose prices were used, YYYY-MM-DD
    # one row per symbol: FILE_COLUMNS. forecast: a fraction; status: live, late, or empty without a number
    rows: pd.DataFrame = field(repr=False)
    caught_up: tuple[str, ...]  # earlier sessions that were missed, and are on record now
    recorded: Decision | None = field(repr=False)  # the batch; None if nothing was new, or was only shown
    path: Path | None  # the CSV; None if it was only shown
    shown_only: bool  # nothing was recorded

    def to_frame(self) -> pd.DataFrame:
        """Return one row per symbol, for people: the forecast in per cent, or why there is none."""
        shown = self.rows[["forecast", "status", "version", "why"]].set_axis(self.rows["symbol"])
        numbers = [f"{value:+.3%}" if math.isfinite(value) else "" for value in shown["forecast"]]
        revised = [f"{value:+.3%}" if math.isfinite(value) else "" for value in self.rows["revision"]]
        table = shown.assign(forecast=numbers, version=shown["version"].where(shown["version"] > 0, "none").astype(str))
        table = table.assign(revision=revised) if any(revised) else table
        return table.rename_axis(index=None, columns=f"forecasts of {self.session}").loc[:, lambda t: (t != "").any()]

    def _repr_html_(self) -> str:
        from fxhelpers.display import Table

        return Table(self.to_frame())._repr_html_()

    def details(self) -> pd.DataFrame:
        """Return one row per symbol: what the number rests on."""
        names = ["model", "version", "as_of", "made_at", "revision", "bundle_sha256", "recipe_sha256", "prices_sha256"]
        return self.rows[names].set_axis(self.rows["symbol"]).rename_axis(index=None)

    @property
    def summary(self) -> dict[str, Any]:
        """Result, answer and counts, for the summary of the notebook."""
        status = self.rows["status"]
        counts = {
            "live": int((status == "live").sum()),
            "late": int((status == "late").sum()),
            "without_a_number": int((status == "").sum()),
            "revised": int(self.rows["revision"].notna().sum()),
        }
        named = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
        text = f"{self.session}, which opens at {self.opens[:16].replace('T', ' ')} UTC: {', '.join(named) or 'no symbol'}."
        if len(self.rows) == 1 and math.isfinite(number := self.rows["forecast"].iloc[0]):
            text += f" {self.rows['symbol'].iloc[0]}: {number:+.3%}."
        without = self.rows.loc[status == "", ["symbol", "why"]].head(1)
        text += "".join(f" {symbol}: {str(why).rstrip('.')}." for symbol, why in without.itertuples(index=False))
        if self.shown_only:
            text += " Only shown, nothing is on record: fx forecast records it."
        elif self.recorded is None:
            text += " Nothing is new: all of it was on record already."
        if self.caught_up and not self.shown_only:
            text += f" Caught up, late: {', '.join(self.caught_up)}."
        result = "only shown" if self.shown_only else "recorded" if self.recorded else "unchanged"
        if not self.shown_only and self.rows["why"].str.contains(TOO_OLD, regex=False).any():
            result = "stale"
        file = {"file": str(self.path)} if self.path else {}
        return {"result": result, "answer": text, **counts, **file}


def forecast(
    registry: RegistryClient,
    symbols: Collection[str] = (),
    *,
    as_of: str = "",
    accept_doubts: bool = False,
    apply: bool = False,
) -> Forecasts:
    """Forecast the session after ``as_of``, by default after the newest one that has ended, of symbols or of all champions."""
    calendar = registry.params.prices.calendar
    now = pd.Timestamp(registry.server_time() or datetime.now(UTC))
    newest = last_session(calendar, now)
    day = _checked_day(as_of, newest, calendar) if as_of else newest
    session = next_session(calendar, day)
    log = read_log(registry, since=f"{day - pd.Timedelta(days=_SEARCHED_DAYS):%Y-%m-%d}")
    chosen = chosen_symbols(registry, symbols, log)
    known, last = _known(log), log.rows.groupby("symbol")["session"].max().to_dict()
    wanted = [
        Wanted(
            symbol=symbol,
            days=[f"{day:%Y-%m-%d}"] if as_of else _days(last.get(symbol), calendar, day),
            known=known.get(symbol),
            accept_doubts=accept_doubts,
        )
        for symbol in chosen
    ]
    with progress_bar("forecasts") as progress:
        made = make_rows(registry, wanted, progress)
    news = log.news(made)
    recorded = None
    if apply:
        if news:
            recorded = record_rows(registry, news)
            log = read_log(registry, since=min(row.session for row in made))
    else:
        log = _shown(log, news, now, calendar)
    sessions = sorted({row.session for row in made} | {f"{session:%Y-%m-%d}"})
    counted = log.counted()
    tables = {one: _table(counted[counted["session"] == one]) for one in sessions}
    if apply:
        for one, table in tables.items():
            _write(registry.params.paths.forecasts, one, table)
    text = f"{session:%Y-%m-%d}"
    rows = tables[text]
    if apply:
        note_live(registry.params.paths.records, map(_next, rows.itertuples()))
    return Forecasts(
        session=text,
        opens=session_open(calendar, session).isoformat(timespec="seconds"),
        as_of=f"{day:%Y-%m-%d}",
        rows=rows[rows["symbol"].isin(chosen)].reset_index(drop=True),
        caught_up=tuple(one for one in sessions if one < text),
        recorded=recorded,
        path=registry.params.paths.forecasts / f"{text}.csv" if apply else None,
        shown_only=not apply,
    )


def chosen_symbols(registry: RegistryClient, symbols: Collection[str], log: Log) -> list[str]:
    """Return the given symbols, or all with a champion, and those that had one at the last session on record."""
    if isinstance(symbols, str):
        msg = f'symbols: expected a list such as ["AAPL", "MSFT"], found the text {symbols!r:.60}'
        raise ParamsError(msg)
    if symbols:
        return sorted({check_symbol(symbol) for symbol in symbols})
    models = {name.removeprefix(MODEL_PREFIX): champion for name, champion in registered_models(registry).items()}
    last = set(log.rows.loc[log.rows["session"] == log.rows["session"].max(), "symbol"])
    return sorted(symbol for symbol, champion in models.items() if is_symbol(symbol) and (champion or symbol in last))


def _checked_day(as_of: str, newest: pd.Timestamp, calendar: str | None) -> pd.Timestamp:
    """Return the session that somebody named; :class:`ParamsError` if it is none, or has not ended."""
    day = pd.Timestamp(parse_day("as_of", as_of))
    if day > newest:
        msg = f"as_of: {as_of} has not ended yet; the newest session that has is {newest:%Y-%m-%d}"
        raise ParamsError(msg)
    last = previous_session(calendar, day + pd.Timedelta(days=1))
    if last != day:
        msg = f"as_of: {as_of} is no session of {calendar}; the last one before it is {last:%Y-%m-%d}"
        raise ParamsError(msg)
    return day


def _days(last: str | None, calendar: str | None, day: pd.Timestamp) -> list[str]:
    """Return the days to forecast after: the newest one, and those since the symbol's last forecast on record."""
    days = [day]
    start = pd.Timestamp(last) if last else day
    while days[0] > start and len(days) <= MOST_MISSED:
        days.insert(0, previous_session(calendar, days[0]))
    return [f"{one:%Y-%m-%d}" for one in days]


def _known(log: Log) -> dict[str, tuple[Identity, Identity | None]]:
    """Return champion of each symbol's last number on record, and the predecessor in any batch of this champion."""
    rows = log.rows
    numbers = rows[(rows["role"] == CHAMPION) & rows["forecast"].notna()]
    last = numbers.drop_duplicates("symbol", keep="last")
    batches = numbers.merge(last[["symbol", "bundle_sha256"]])[["symbol", "batch"]]
    before = rows[rows["role"] == PREDECESSOR].merge(batches).drop_duplicates("symbol", keep="last")
    shadows = {str(row.symbol): version_of(row) for row in before.itertuples()}
    return {str(row.symbol): (version_of(row), shadows.get(str(row.symbol))) for row in last.itertuples()}


def _shown(log: Log, news: Sequence[Row], now: pd.Timestamp, calendar: str | None) -> Log:
    """Return the record as it would be with these rows."""
    rows = pd.DataFrame(news, columns=Row._fields).assign(made_at=now.isoformat(timespec="milliseconds"), batch="", record="")
    return replace(log, rows=pd.concat([log.rows, with_live(rows, calendar)], ignore_index=True) if len(rows) else log.rows)


def _next(row: Any) -> dict[str, Any]:  # noqa: ANN401 (of itertuples)
    """Return what the gallery shows of a forecast."""
    number = row.forecast if math.isfinite(row.forecast) else None
    return {"model": row.model, "symbol": row.symbol, "next": [row.session, number, row.status or row.why]}


def _table(counted: pd.DataFrame) -> pd.DataFrame:
    """Return what the file of a session has."""
    numbered = counted["forecast"].notna()
    status = counted["live"].map({True: "live", False: "late"}).where(numbered, "")
    return counted.assign(status=status).loc[:, list(FILE_COLUMNS)].sort_values("symbol", ignore_index=True)


def _write(folder: Path, session: str, table: pd.DataFrame) -> None:
    """Write both files of a session, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    parquet = io.BytesIO()
    table.to_parquet(parquet, index=False)
    write_atomic(folder / f"{session}.parquet", parquet.getvalue())
    write_atomic(folder / f"{session}.csv", table.to_csv(index=False, lineterminator="\n").encode())
