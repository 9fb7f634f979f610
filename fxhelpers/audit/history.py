"""Who serves, since when and why: of one registered model, and of all."""

import html
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from fxhelpers.display import Table, link, paragraphs
from fxhelpers.errors import ParamsError
from fxhelpers.ledger import Decision, Identity, Ledger, ProductionPeriod, labels, same
from fxhelpers.params import MODEL_PREFIX, current_record
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger, read_ledgers
from fxhelpers.registry.storage import champions_and_words, unknown_model
from fxhelpers.reports import PAGE

if TYPE_CHECKING:
    from IPython.display import HTML

_REASON_CHARACTERS = 140  # in a notebook's table; the record has all of it

_COLUMNS = ["time (UTC)", "decision", "version", "result", "champion", "by", "approved by", "reason", "record"]

_FIRST_STEPS = """
fx run train -p symbol AAPL
fx run evaluate -p symbol AAPL
fx run register -p symbol AAPL
fx run promote -p symbol AAPL -p apply true
"""


@dataclass(frozen=True, kw_only=True)
class History:
    """The decisions about one registered model, and the version that serves."""

    ledger: Ledger
    champion: Identity | None  # version in Production, as the registry has it
    records: Path
    uri: str  # registry, without credentials

    @property
    def label(self) -> str:
        """Symbol; the registered model's name if the user chose that name."""
        return self.ledger.symbol if self.ledger.name == f"{MODEL_PREFIX}{self.ledger.symbol}" else self.ledger.name

    @property
    def command(self) -> str:
        """Command that checks this model."""
        return f"fx verify {self.label}" if self.label == self.ledger.symbol else "fx verify"

    @cached_property
    def warnings(self) -> list[str]:
        """Reasons not to trust the ledger; empty if there are none."""
        found = [f"The ledger is not intact ({len(self.ledger.faults)} faults): {self.command}"] if self.ledger.faults else []
        if not same(self.champion, self.ledger.serving):
            alias, decided = version_names(self.champion, self.ledger.serving)
            found.append(f"By the ledger {decided} is in Production, MLflow's alias points to {alias}: {self.command}")
        return found

    @cached_property
    def current(self) -> ProductionPeriod | None:
        """Production period of the champion; None if the ledger does not have it."""
        last = next(reversed(self.ledger.production_periods()), None)
        return last if last and same(last.identity(), self.champion) else None

    @property
    def decided_by(self) -> Decision | None:
        """Decision that began the current production period; None if there is none."""
        return next((d for d in self.ledger.decisions if self.current and d.id == self.current.decision), None)

    def at(self, when: str) -> list[ProductionPeriod]:
        """Return the production periods on a day or at a moment, without times when no version served.

        ``when`` is ISO 8601: ``2026-11-23`` is the whole day, which can have several champions, ``2026-11-23T03:00`` a moment;
        a zone may follow, as in ``2026-11-23Z`` or ``2026-11-23T03:00+01:00``. :class:`ParamsError` if it is no time, in the
        future, or has no zone although UTC and local time lead to different answers.
        """
        spans = _spans(when)
        if spans[0][0] > datetime.now(UTC):
            msg = f"at: {when} is in the future; give a past day or moment"
            raise ParamsError(msg)
        periods, *others = [[p for p in self.ledger.during(*span) if p.version is not None] for span in spans]
        if others and others[0] != periods:
            begin = spans[1][0]
            offset = f"{begin:%z}"
            msg = (
                f"at: {when} is ambiguous, UTC and local time (from {begin.astimezone(UTC):%Y-%m-%dT%H:%M}Z) lead to different "
                f"versions; write {when}Z for UTC or {when}{offset[:3]}:{offset[3:5]} for local time"
            )
            raise ParamsError(msg)
        return periods

    def to_frame(self) -> pd.DataFrame:
        """Return one row per decision, oldest first, for people."""
        versions = self.ledger.named_versions()
        known = labels(v for named in versions.values() for v in (named.before, named.after, *named.by_number.values()) if v)
        names = {version: label.removeprefix("version ") for version, label in known.items()}
        rows = []
        for decision in self.ledger.decisions:
            named = versions[decision.id]
            before, after = (names[v] if v else "none" for v in (named.before, named.after))
            about = named.by_number.get(decision.version) if decision.version is not None else None
            champion = f"{before} → {after}" if decision.moved_at else after
            rows.append(
                [
                    _clock(decision.time),
                    decision.kind,
                    names[about] if about else "",
                    decision.came_to,
                    champion if decision.outcome else "",
                    decision.actor,
                    decision.approved_by or "",
                    decision.reason,
                    Path(decision.record).name if decision.record else "none",
                ]
            )
        return pd.DataFrame(rows, columns=_COLUMNS)

    def production_periods(self) -> pd.DataFrame:
        """Return one row per time during which one version, or none, was in Production, oldest first."""
        periods = self.ledger.production_periods()
        names = version_names(*(period.identity() for period in periods), none="none")
        rows = [[name, _clock(p.since), _clock(p.until), p.standing, p.decision] for name, p in zip(names, periods, strict=True)]
        return pd.DataFrame(rows, columns=["in Production", "since (UTC)", "until (UTC)", "rests on", "decision"])

    def to_json(self) -> str:
        """Return the production periods, all decisions with their entries, and the warnings as JSON."""
        decisions = [{"run_id": d.run_id, **{e.entry: json.loads(e.to_json()) for e in d.entries}} for d in self.ledger.decisions]
        periods = [dict(period) for period in self.ledger.production_periods()]
        about = {"symbol": self.ledger.symbol, "model": self.ledger.name, "registry": self.uri, "doubts": self.warnings}
        return json.dumps({**about, "reigns": periods, "decisions": decisions}, indent=2)  # the keys of earlier releases

    def to_csv(self) -> str:
        """Return the decisions as CSV."""
        return self.to_frame().to_csv(index=False)

    def record_link(self, decision: Decision | None) -> str:
        """Return a link to a decision's record, as HTML; ``none`` without one."""
        if decision is None or decision.record is None:
            return "none"
        title = Path(decision.record).stem.partition("-")[2]  # without its time, which has a column
        return link(_relative(self.records / decision.record), title)

    def _repr_html_(self) -> str:
        table = self.to_frame()
        table["reason"] = table["reason"].map(shortened)
        table["record"] = [self.record_link(decision) for decision in self.ledger.decisions]
        table = table if table["approved by"].any() else table.drop(columns="approved by")
        warnings = "".join(f"<p><b>{html.escape(warning)}</b></p>" for warning in self.warnings)
        return warnings + Table(table, ("record",))._repr_html_()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The version that serves each symbol, and the latest decisions about all of them."""

    models: dict[str, History]  # by registered model
    records: Path
    uri: str
    latest: int  # number of decisions to show
    watched: Mapping[str, str] = field(default_factory=dict)  # what the last watch found, by registered model

    @property
    def serving(self) -> dict[str, int | None]:
        """Number of the version in Production of each registered model, as the registry has it."""
        return {name: model.champion.number if model.champion else None for name, model in self.models.items()}

    @property
    def warnings(self) -> list[str]:
        """Symbols whose ledger is not intact or has another champion than the registry; ``fx verify`` says why."""
        return [model.label for model in self.models.values() if model.warnings]

    @property
    def champions(self) -> "Table | HTML":
        """One row per symbol: the version in Production, since when, on what it rests, who decided, and the record."""
        if not self.models:
            text = f"Nothing is registered at {self.uri} yet. In a terminal, in the project's folder, type fx demo, or:"
            return _as_html(f"{paragraphs([text])}<pre>{html.escape(_FIRST_STEPS.strip())}</pre>")
        known, models = self.status_frame(), self.models.values()
        columns = {
            "symbol": known["symbol"],
            "in Production": [str(model.champion or "none") for model in models],
            "since (UTC)": known["since"].map(_clock),
            "rests on": known["rests_on"],
            "decided by": known["decided_by"],
            "watch": known["watch"],
            "record": [model.record_link(model.decided_by) if model.current else "" for model in models],
            "warning": [model.command if model.warnings else "" for model in models],
        }
        table = pd.DataFrame(columns)
        table = table if self.warnings else table.drop(columns="warning")
        return Table(table if self.watched else table.drop(columns="watch"), ("record",))

    def status_frame(self) -> pd.DataFrame:
        """Return one row per registered model, in plain values: version in Production (None: none), since when, why, warning."""
        columns = ["symbol", "version", "since", "rests_on", "decided_by", "watch", "warning", "model"]
        rows = []
        for name, model in self.models.items():
            period, decision = model.current, model.decided_by
            since, rests_on = (f"{period.since[:19]}Z", period.standing) if period else ("", "")
            by = decision.actor if decision else "no decision" if period else ""
            warning = f"ledger and registry do not match: {model.command}" if model.warnings else ""
            rows.append([model.label, self.serving[name], since, rests_on, by, self.watched.get(name, ""), warning, name])
        return pd.DataFrame(rows, columns=columns, dtype=object)

    @property
    def decisions(self) -> Table:
        """The latest decisions about all symbols, newest first."""
        rows = [
            [
                _clock(decision.time),
                model.label,
                decision.kind,
                decision.version or "-",
                decision.came_to,
                decision.verdict or "-",
                shortened(decision.reason),
                model.record_link(decision),
            ]
            for model, decision in self._latest
        ]
        columns = ["time (UTC)", "symbol", "decision", "version", "result", "verdict", "reason", "record"]
        return Table(pd.DataFrame(rows, columns=columns), ("record",))

    @property
    def gallery(self) -> "HTML":
        """Link to the page of all records."""
        page = self.records / PAGE
        if page.is_file():
            return _as_html(f"<p>{link(_relative(page), 'The gallery of all records')}</p>")
        return _as_html(paragraphs([f"There is no gallery of the records in {self.records} yet: fx records makes it."]))

    def summary(self) -> dict[str, Any]:
        """Return counts and warnings as single values, for a notebook's summary."""
        return {
            "symbols": len(self.models),
            "champions": sum(model.champion is not None for model in self.models.values()),
            "decisions": sum(len(model.ledger.decisions) for model in self.models.values()),
            "last_decision": self._latest[0][1].time if self._latest else None,
            "doubts": self.warnings,
        }

    def _repr_html_(self) -> str:
        decisions = self.decisions._repr_html_() if self._latest else ""
        return f"{self.champions._repr_html_()}{decisions}{self.gallery._repr_html_()}"  # type: ignore[no-untyped-call]

    @property
    def _latest(self) -> list[tuple[History, Decision]]:
        decided = ((model, decision) for model in self.models.values() for decision in model.ledger.decisions)
        return sorted(decided, key=lambda pair: pair[1].time, reverse=True)[: self.latest]


def read_history(registry: RegistryClient, name: str) -> History:
    """Read a model's ledger and its champion; :class:`VersionNotFoundError` if nothing was ever decided."""
    ledger = read_ledger(registry, name)
    if not ledger.decisions and not ledger.faults:
        raise unknown_model(registry, name)
    records = registry.params.paths.records
    return History(ledger=ledger, champion=registry.champion_identity(name), records=records, uri=registry.uri)


def read_overview(registry: RegistryClient, latest: int) -> Overview:
    """Read all champions and all ledgers, in two searches whatever the number of symbols."""
    if latest < 1:
        msg = f"latest: the number of decisions to show must be 1 or more, found {latest}"
        raise ParamsError(msg)
    ledgers, (champions, watched) = read_ledgers(registry), champions_and_words(registry)
    champions |= {name: registry.champion_identity(name) for name in ledgers if not name.startswith(MODEL_PREFIX)}
    records, uri = registry.params.paths.records, registry.uri
    models = {
        name: History(ledger=ledgers.get(name, Ledger(name=name)), champion=champions.get(name), records=records, uri=uri)
        for name in sorted({*ledgers, *champions})
    }
    return Overview(models=models, records=records, uri=uri, latest=latest, watched=watched)


def versions_frame(registry: RegistryClient, name: str) -> pd.DataFrame:
    """Return one row per version of a registered model, newest first, for people; times are UTC."""
    from fxhelpers.decisions import DECISION_TAG  # a reader of histories does without

    versions, days = registry.versions(name), registry.params.model_registry.retention_days
    columns = {
        "version": [v.version for v in versions],
        "stage": [v.stage for v in versions],
        "registered": [f"{v.created:%Y-%m-%d %H:%M}" for v in versions],
        "archive after": [f"{due:%Y-%m-%d}" if (due := v.archive_due(days)) else "" for v in versions],
        "trained": [v.tags.get("version_timestamp", "") for v in versions],
        "last decision": [v.tags.get(DECISION_TAG, "").partition(";")[0] for v in versions],
    }
    return pd.DataFrame(columns).set_index("version").rename_axis(index=None, columns="version")


def version_names(*versions: Identity | None, none: str = "no version") -> list[str]:
    """Return ``version 1`` for each, with its bundle if another of them has that number too."""
    known = labels(version for version in versions if version)
    return [known[version] if version else none for version in versions]


def _spans(when: str) -> list[tuple[datetime, datetime]]:
    """Return the first moment of a time and the first one after it: in UTC, and in local time too if it names no zone."""
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


def _clock(time: str | None) -> str:
    return time[:19].replace("T", " ") if time else ""


def shortened(reason: str) -> str:
    """Return the beginning of a reason, for a table; the record has all of it."""
    return reason if len(reason) <= _REASON_CHARACTERS else f"{reason[: _REASON_CHARACTERS - 1]}…"


def _relative(file: Path) -> str:
    """Return a file's path relative to the record that is being written, or to the current folder, as a link has it."""
    base = (current_record() or Path.cwd() / "notebook").parent
    return quote(Path(os.path.relpath(file, base)).as_posix())


def _as_html(text: str) -> "HTML":
    from IPython.display import HTML

    return HTML(text)  # type: ignore[no-untyped-call]
