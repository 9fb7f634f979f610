"""History: which version was in Production when, who put it there, and where the record lies."""

import html
import json
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from fxhelpers.errors import ParamsError
from fxhelpers.ledger import Decision, Identity, Ledger, NamedVersions, ProductionPeriod, labels, same
from fxhelpers.params import current_record
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import read_ledger
from fxhelpers.registry.storage import unknown_model
from fxhelpers.tables import Table, link

_LONG = 140
"""Characters of a reason in a notebook."""

_COLUMNS = ["time (UTC)", "decision", "version", "result", "champion", "by", "approved by", "reason", "record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was decided about one registered model.

    Attributes
    ----------
    symbol : str
        Ticker.
    ledger : Ledger
        All decisions, in order.
    records : Path
        Folder of records.
    doubts : tuple of str
        Why the ledger may not tell all; empty where nothing speaks against it.
    uri : str
        Where the registry is, without credentials.
    """

    symbol: str
    ledger: Ledger
    records: Path
    doubts: tuple[str, ...]
    uri: str

    def at(self, when: str) -> list[ProductionPeriod]:
        """Return who was in Production on a day, or at a moment.

        Parameters
        ----------
        when : str
            ISO 8601: ``2026-11-23`` is that whole day, ``2026-11-23T03:00`` a
            moment, ``2026-11-23Z``, ``2026-11-23T03:00Z`` and ``…+01:00`` those
            of a zone. Without a zone UTC, if the time here leads to the same
            answer.

        Returns
        -------
        list of Reign
            In order of time; empty where no version was. A day can have
            several.

        Raises
        ------
        ParamsError
            Neither a day nor a moment, one that is still to come, or one
            whose two readings, UTC and the time here, differ in who was there.
        """
        readings = _spans(when)
        answers = [[period for period in self.ledger.during(*span) if period.version is not None] for span in readings]
        start = readings[0][0]
        if start > datetime.now(UTC):
            msg = f"at: {when} is still to come; nobody knows what will be in Production"
            raise ParamsError(msg)
        if any(answer != answers[0] for answer in answers):
            here = readings[1][0]
            offset = f"{here:%z}"
            msg = (
                f"at: {when} has two readings, and not the same version was in Production: in UTC, write {when}Z; or by the time "
                f"here, which begins {here.astimezone(UTC):%Y-%m-%dT%H:%M}Z, write {when}{offset[:3]}:{offset[3:5]}"
            )
            raise ParamsError(msg)
        return answers[0]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a decision, oldest first, for people."""
        named_versions = self.ledger.named_versions()
        known = labels(
            v for about in named_versions.values() for v in (about.before, about.after, *about.by_number.values()) if v
        )
        return pd.DataFrame([_row(d, named_versions[d.id], known) for d in self.ledger.decisions], columns=_COLUMNS)

    def production_periods(self) -> pd.DataFrame:
        """Return one row a time during which one version, or none, was in Production, oldest first."""
        production_periods = self.ledger.production_periods()
        known = labels(version for version in (period.identity() for period in production_periods) if version)
        rows = [
            [known[v] if (v := r.identity()) else "none", _clock(r.since), _clock(r.until), r.standing, r.decision]
            for r in production_periods
        ]
        return pd.DataFrame(rows, columns=["in Production", "since (UTC)", "until (UTC)", "rests on", "decision"])

    def to_json(self) -> str:
        """Return all of it as JSON: reigns, decisions with all their entries, and doubts."""
        decisions = [{"run_id": d.run_id, **{e.entry: json.loads(e.to_json()) for e in d.entries}} for d in self.ledger.decisions]
        whole = {"symbol": self.symbol, "model": self.ledger.name, "registry": self.uri, "doubts": self.doubts}
        return json.dumps(
            {**whole, "reigns": [dict(r) for r in self.ledger.production_periods()], "decisions": decisions}, indent=2
        )

    def to_csv(self) -> str:
        """Return the decisions as CSV."""
        return self.to_frame().to_csv(index=False)

    def _repr_html_(self) -> str:
        table = self.to_frame()
        table["reason"] = [shortened(reason) for reason in table["reason"]]
        table["record"] = [record_link(self.records, decision.record) for decision in self.ledger.decisions]
        if not table["approved by"].any():
            table = table.drop(columns="approved by")
        doubts = "".join(f"<p><b>{html.escape(doubt)}</b></p>" for doubt in self.doubts)
        return doubts + Table(table, ("record",))._repr_html_()


def read_history(registry: RegistryClient, name: str, symbol: str) -> History:
    """Read a model's ledger, and hold it against the registry; :class:`VersionNotFoundError` where nothing was ever decided."""
    ledger = read_ledger(registry, name)
    if not ledger.decisions and not ledger.faults:
        raise unknown_model(registry, name)
    doubts = [f"The ledger is not intact ({len(ledger.faults)} faults): fx verify {symbol}"] if ledger.faults else []
    now, decided = registry.champion_identity(name), ledger.serving
    if ledger.last_telling and not same(now, decided):
        known = labels(version for version in (now, decided) if version)
        there, then = (known[version] if version else "no version" for version in (now, decided))
        doubts.append(f"By the ledger {then} is in Production, MLflow's alias points to {there}: fx verify {symbol}")
    records = registry.params.paths.records
    return History(symbol=symbol, ledger=ledger, records=records, doubts=tuple(doubts), uri=registry.uri)


def shortened(reason: str) -> str:
    """Return the beginning of a reason; its record has all of it."""
    return reason if len(reason) <= _LONG else f"{reason[: _LONG - 1]}…"


def record_link(records: Path, record: str | None) -> str:
    """Return a link to a record, for the record that is being written or for a notebook of this folder; ``none`` without one."""
    if record is None:
        return "none"
    return link(path_from_here(records / record), Path(record).stem.partition("-")[2])  # its time stands beside it


def path_from_here(file: Path) -> str:
    """Return the way to a file, for a link in the record that is being written, or in a notebook of this folder."""
    base = (current_record() or Path.cwd() / "here").parent
    return quote(Path(os.path.relpath(file, base)).as_posix())


def _spans(when: str) -> list[tuple[datetime, datetime]]:
    """Return the first moment of a time and the first one after it, in UTC; where it names no zone, by the time here too."""
    try:
        if "T" not in when and " " not in when:
            day, zone = date.fromisoformat(when[:10]), when[10:]
            start, end = (datetime.fromisoformat(f"{d}T00:00{zone}") for d in (day, day + timedelta(days=1)))
        else:
            start = datetime.fromisoformat(when)
            end = start + timedelta(microseconds=1)
        if start.tzinfo:
            return [(start, end)]
        return [(start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)), (start.astimezone(), end.astimezone())]
    except (ValueError, OverflowError) as error:
        msg = f"at: {when!r} is neither a day such as 2026-11-23 nor a moment such as 2026-11-23T03:00"
        raise ParamsError(msg) from error


def _row(decision: Decision, named_versions: NamedVersions, known: dict[Identity, str]) -> list[Any]:
    before, after = (known[v].removeprefix("version ") if v else "none" for v in (named_versions.before, named_versions.after))
    moved = f"{before} → {after}" if decision.moved_at else after
    about = named_versions.by_number.get(decision.version) if decision.version is not None else None
    return [
        _clock(decision.time),
        decision.kind,
        known[about].removeprefix("version ") if about else "",
        decision.came_to,
        moved if decision.outcome else "",
        decision.actor,
        decision.approved_by or "",
        decision.reason,
        Path(decision.record).name if decision.record else "none",
    ]


def _clock(time: str | None) -> str:
    return time[:19].replace("T", " ") if time else ""
