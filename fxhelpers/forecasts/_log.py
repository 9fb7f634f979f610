"""The record of all forecasts: append-only, in the registry's own server, chained as a ledger is.

Each batch is one decision of the ledger ``fx-forecasts``: its outcome has the
SHA-256 of a file of rows, which the decision's run keeps. A batch counts from
the time of its outcome, which the registry's clock gives: what it holds was on
record then.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fxhelpers.decisions import EVIDENCE, act, begin, recording_failure, refuse_unrecorded, run_command, store_evidence
from fxhelpers.ledger import Decision, Identity, IntentFacts, OutcomeFacts
from fxhelpers.prices import session_open
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import FORECASTS, fetch, read_ledger
from fxhelpers.system import sha256, write_atomic

logger = logging.getLogger(__name__)

ROWS = "forecasts.csv"
CHAMPION, PREDECESSOR = "champion", "predecessor"
_LONGEST_REASON, _LONGEST_WHY = 500, 300
_SAME = 1e-12  # of a return: another processor's arithmetic stays within it


class Row(NamedTuple):
    """One forecast, or the reason why there is none."""

    session: str  # that it is about, YYYY-MM-DD
    symbol: str  # ticker
    role: str  # champion, or predecessor: forecast only to watch the champion
    forecast: float  # return from the close of ``as_of`` to that of the session, a fraction; NaN: none
    why: str  # no number; "" if there is one
    model: str  # registered model
    version: int  # its number; 0: no version
    as_of: str  # last session whose prices were used, YYYY-MM-DD
    bundle_sha256: str
    recipe_sha256: str  # "" if it is not wholly known
    prices_sha256: str  # of all prices that were read
    last_return: float  # of the session ``as_of``, a fraction, by the prices of then; NaN if they were not read


COLUMNS = Row._fields
_OF_BATCH = ["made_at", "batch", "record"]
_TYPES = {"forecast": float, "last_return": float, "version": int}
_KEY = ["symbol", "session", "role"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Log:
    """All forecasts on record, in the order in which they were recorded."""

    # columns of ``Row``, and of its batch: made_at (time of the outcome, UTC), live (before the session opened), batch (the
    # decision's id), record
    rows: pd.DataFrame
    head: str  # SHA-256 of the last batch's outcome; "" if there is none
    faults: tuple[str, ...] = ()  # what is wrong with the ledger; and files that are gone or were edited, which do not count

    def of(self, symbol: str) -> "Log":
        """Return the part about one symbol."""
        return replace(self, rows=self.rows[self.rows["symbol"] == symbol])

    def by_symbol(self) -> "dict[str, Log]":
        """Return the part about each symbol on record."""
        return {str(symbol): replace(self, rows=rows) for symbol, rows in self.rows.groupby("symbol")}

    def counted(self, role: str = CHAMPION) -> pd.DataFrame:
        """Return the one row that counts of each symbol and session: the first with a number, else the last reason.

        ``revision`` is the last number that differs from it, NaN without one.
        """
        rows = self.rows[self.rows["role"] == role]
        numbers = rows[rows["forecast"].notna()]
        first = numbers.drop_duplicates(_KEY)
        later = numbers.merge(first[[*_KEY, "forecast"]], on=_KEY, suffixes=("", "_first"))
        later = later[(later["forecast"] - later["forecast_first"]).abs() > _SAME].drop_duplicates(_KEY, keep="last")
        reasons = rows.drop_duplicates(_KEY, keep="last")
        found = pd.concat([first, reasons[reasons["forecast"].isna()]]).drop_duplicates(_KEY)
        revised = later.rename(columns={"forecast": "revision"})[[*_KEY, "revision"]]
        return found.merge(revised, on=_KEY, how="left").sort_values(["session", "symbol"], ignore_index=True)

    def news(self, made: Sequence[Row]) -> list[Row]:
        """Return the rows that add something: a number where there is none or another one, or another reason."""
        rows = self.rows[self.rows["session"].isin({row.session for row in made})]
        last = rows.drop_duplicates(_KEY, keep="last").set_index(_KEY)
        counted = rows[rows["forecast"].notna()].groupby(_KEY)["forecast"].agg(list).to_dict()
        reasons = last["why"].to_dict()

        def adds(row: Row) -> bool:
            key = (row.symbol, row.session, row.role)
            if np.isnan(row.forecast):
                return key not in counted and reasons.get(key) != row.why
            return all(abs(row.forecast - known) > _SAME for known in counted.get(key, ()))

        return [row for row in made if adds(row)]


def read_log(registry: RegistryClient, *, since: str = "") -> Log:
    """Read the forecasts on record, of sessions from ``since`` on.

    Each file is kept in ``paths.forecasts`` by its SHA-256, so that the registry gives it once.
    """
    ledger = read_ledger(registry, FORECASTS)
    recorded = [d for d in ledger.outcomes if d.result == "recorded"]
    batches = [d for d in recorded if not d.intent.facts.sessions or max(d.intent.facts.sessions) >= since]
    contents, kept = [], []
    faults = [f"{FORECASTS}: {fault.message}; details: fx verify" for fault in ledger.faults]
    for fault in faults:
        logger.warning(fault)
    for batch in batches:
        content = _content(registry, batch)
        if isinstance(content, str):
            logger.warning(content)
            faults.append(content)
        else:
            contents.append(content)
            kept.append(batch)
    rows = _of_batches(kept, contents)
    rows = rows[rows["session"] >= since].reset_index(drop=True) if since else rows
    rows = with_live(rows, registry.params.prices.calendar)
    head = batches[-1].outcome.digest if batches and batches[-1].outcome else ""
    return Log(rows=rows, head=head, faults=tuple(faults))


def with_live(rows: pd.DataFrame, calendar: str | None) -> pd.DataFrame:
    """Return rows with the column ``live``: whether they were made before their session opened."""
    opens = {session: session_open(calendar, pd.Timestamp(session)) for session in rows["session"].unique()}
    return rows.assign(live=pd.to_datetime(rows["made_at"], utc=True) < pd.to_datetime(rows["session"].map(opens), utc=True))


def version_of(row: Any) -> Identity:  # noqa: ANN401 (of itertuples)
    """Return the version that made a row."""
    return Identity(int(row.version), str(row.bundle_sha256))


def in_a_line(error: Exception) -> str:
    """Return an error as a reason in a row."""
    return " ".join(str(error).split())[:_LONGEST_WHY]


def _of_batches(batches: Sequence[Decision], contents: Sequence[bytes]) -> pd.DataFrame:
    """Return the rows of all files, each with what its batch says; files with the same columns are read at once."""
    parts = [_empty()]
    for header, some in groupby(zip(batches, contents, strict=True), key=lambda one: one[1].partition(b"\n")[0]):
        group = list(some)
        bodies = [content[len(header) + 1 :] for _, content in group]
        rows = _parsed(header + b"\n" + b"".join(bodies))
        stated = [(batch.outcome.time if batch.outcome else "", batch.id, batch.record or "") for batch, _ in group]
        numbers = np.repeat(np.arange(len(group)), [body.count(b"\n") for body in bodies])
        parts.append(rows.join(pd.DataFrame(stated, columns=_OF_BATCH, dtype=str).take(numbers).set_axis(rows.index)))
    return pd.concat(parts, ignore_index=True)


def record_rows(registry: RegistryClient, rows: Sequence[Row]) -> Decision:
    """Append a batch of rows to the record of forecasts, in few calls for any number of them."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    sessions = sorted(set(table["session"]))
    refuse_unrecorded(run_command("forecast", {"apply": True}))
    decision = begin(registry, FORECASTS, IntentFacts(kind="forecast", sessions=sessions))
    with recording_failure(registry, decision):
        content = table.to_csv(index=False, lineterminator="\n").encode()
        _keep(registry, content)
        digests = store_evidence(registry, decision, {ROWS: content})
        numbers = int(table["forecast"].notna().sum())
        reason = f"{numbers} forecasts, and {len(table) - numbers} reasons why there is none, of {', '.join(sessions)}."
        facts = OutcomeFacts(result="recorded", rows=numbers, reason=reason[:_LONGEST_REASON], evidence=digests)
        return act(registry, decision, facts=facts)


def _content(registry: RegistryClient, batch: Decision) -> bytes | str:
    """Return the file of a batch, or what is wrong with it."""
    digest = batch.outcome_facts.evidence.get(ROWS, "")
    kept = _kept(registry, digest)
    if kept.is_file() and sha256(content := kept.read_bytes()) == digest:
        return content
    found = fetch(registry, batch, f"{EVIDENCE}/{ROWS}")
    if found is not None and sha256(found) == digest:
        _keep(registry, found)
        return found
    what = "is gone from" if found is None else "was edited in"
    return (
        f"the {ROWS} of {batch.id} {what} MLflow, run {batch.run_id}: its forecasts do not count. Restore the file from a "
        "backup; details: fx verify --deep"
    )


def _kept(registry: RegistryClient, digest: str) -> Path:
    return registry.params.paths.forecasts / "log" / f"{digest}.csv"


def _keep(registry: RegistryClient, content: bytes) -> None:
    path = _kept(registry, sha256(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def _parsed(content: bytes) -> pd.DataFrame:
    types: dict[str, Any] = {name: _TYPES.get(name, str) for name in COLUMNS}
    return pd.read_csv(io.BytesIO(content), dtype=types, keep_default_na=False, na_values={"forecast": "", "last_return": ""})


def _empty() -> pd.DataFrame:
    columns: dict[str, Any] = {name: pd.Series(dtype=_TYPES.get(name, str)) for name in (*COLUMNS, *_OF_BATCH)}
    return pd.DataFrame(columns)
