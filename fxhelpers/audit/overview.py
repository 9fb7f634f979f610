"""Overview: who is champion of every symbol, and what was decided last; the start page shows it."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers.audit.history import path_from_here, record_link, shortened
from fxhelpers.errors import ParamsError
from fxhelpers.ledger import Decision, Identity, Ledger, same
from fxhelpers.params import MODEL_PREFIX
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import read_ledgers
from fxhelpers.registry.storage import registered_models
from fxhelpers.reports import PAGE
from fxhelpers.tables import Table, link, paragraphs

_FIRST_STEPS = (
    "fx run train -p symbol AAPL",
    "fx run evaluate -p symbol AAPL",
    "fx run register -p symbol AAPL",
    "fx run promote -p symbol AAPL -p apply true",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All registered models at once.

    Attributes
    ----------
    uri : str
        Where the registry is.
    champion : dict of str to Identity or None
        Version in Production of each registered model, as the registry has it.
    ledgers : dict of str to Ledger
        By registered model.
    records : Path
        Folder of records.
    latest : int
        How many decisions are shown.
    """

    uri: str
    champion: dict[str, Identity | None]
    ledgers: dict[str, Ledger]
    records: Path
    latest: int

    @property
    def serving(self) -> dict[str, int | None]:
        """Number of the version in Production of each registered model, as the registry has it."""
        return {name: version.number if version else None for name, version in self.champion.items()}

    @property
    def doubts(self) -> list[str]:
        """The symbols whose ledger is broken, or tells of another champion than the registry: ``fx verify`` says why."""
        return [self._named(name) for name in self.serving if self._is_doubtful(name)]

    @property
    def champions(self) -> "Table | FirstSteps":
        """One row a symbol: the version in Production, since when, and the decision that put it there, with its record."""
        if not self.serving:
            return FirstSteps(self.uri)
        rows = [self._period(name) for name in self.serving]
        columns = ["symbol", "in Production", "since (UTC)", "rests on", "decided by", "record"]
        table = pd.DataFrame(rows, columns=[*columns, "doubt"])
        return Table(table if table["doubt"].any() else table[columns], ("record",))

    def status_frame(self) -> pd.DataFrame:
        """Return one row per registered model, in plain values: version in Production (None: none), since when, why, warning."""
        columns = ["symbol", "version", "since", "rests_on", "decided_by", "record", "warning"]
        table = pd.DataFrame([self._period(name) for name in self.serving], columns=columns, dtype=object).drop(columns="record")
        table["version"] = pd.Series(list(self.serving.values()), dtype=object)
        table["since"] = [f"{since.replace(' ', 'T')}Z" if since else "" for since in table["since"]]
        table["warning"] = [f"ledger and registry do not match: {command}" if command else "" for command in table["warning"]]
        return table.assign(model=list(self.serving))

    @property
    def decisions(self) -> Table:
        """The latest decisions about all symbols, the last one first."""
        rows = [
            [
                decision.time[:19].replace("T", " "),
                self._named(decision.model_name),
                decision.kind,
                decision.version or "-",
                decision.came_to,
                decision.verdict or "-",
                shortened(decision.reason),
                record_link(self.records, decision.record),
            ]
            for decision in self._latest
        ]
        columns = ["time (UTC)", "symbol", "decision", "version", "result", "verdict", "reason", "record"]
        return Table(pd.DataFrame(rows, columns=columns), ("record",))

    @property
    def gallery(self) -> "Gallery":
        """The page that shows all records."""
        return Gallery(self.records / PAGE)

    def summary(self) -> dict[str, Any]:
        """Return what there is, in single values."""
        return {
            "symbols": len(self.serving),
            "champions": sum(version is not None for version in self.serving.values()),
            "decisions": sum(len(ledger.decisions) for ledger in self.ledgers.values()),
            "last_decision": self._latest[0].time if self._latest else None,
            "doubts": self.doubts,
        }

    def _repr_html_(self) -> str:
        return f"{self.champions._repr_html_()}{self.decisions._repr_html_() if self._latest else ''}{self.gallery._repr_html_()}"

    @property
    def _latest(self) -> list[Decision]:
        decided = (decision for ledger in self.ledgers.values() for decision in ledger.decisions)
        return sorted(decided, key=lambda decision: decision.time, reverse=True)[: self.latest]

    def _period(self, name: str) -> list[str]:
        version, ledger = self.champion[name], self.ledgers[name]
        told = [self._named(name), str(version or "none")]
        alone = f" {ledger.symbol}" if name == f"{MODEL_PREFIX}{ledger.symbol}" else ""
        doubt = f"fx verify{alone}" if self._is_doubtful(name) else ""
        period = next(iter(reversed(ledger.production_periods())), None)
        if period is None or not same(period.identity(), version):
            return [*told, "", "", "", "", doubt]
        by = next((decision for decision in ledger.decisions if decision.id == period.decision), None)
        record = record_link(self.records, by.record) if by else "none"
        return [
            *told,
            period.since[:19].replace("T", " "),
            period.standing,
            by.actor if by else "nobody's decision",
            record,
            doubt,
        ]

    def _is_doubtful(self, name: str) -> bool:
        return bool(self.ledgers[name].faults) or not same(self.champion[name], self.ledgers[name].serving)

    def _named(self, name: str) -> str:
        """Return the symbol, or the registered model where that has a name of somebody's own."""
        symbol = self.ledgers[name].symbol
        return symbol if name == f"{MODEL_PREFIX}{symbol}" else name


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """What to type where nothing is registered yet.

    Attributes
    ----------
    uri : str
        Where the registry is.
    """

    uri: str

    def _repr_html_(self) -> str:
        steps = "<br>".join(html.escape(step) for step in _FIRST_STEPS)
        message = f"Nothing is registered at {self.uri} yet. In a terminal, in the project's folder, type fx demo, or:"
        return f"{paragraphs([message])}<pre>{steps}</pre>"


@dataclass(frozen=True, slots=True)
class Gallery:
    """The page that shows all records, if it was made.

    Attributes
    ----------
    page : Path
        Where it lies.
    """

    page: Path

    def _repr_html_(self) -> str:
        if not self.page.is_file():
            return paragraphs([f"There is no gallery of the records in {self.page.parent} yet: fx records makes it."])
        return f"<p>{link(path_from_here(self.page), 'The gallery of all records')}</p>"


def read_overview(registry: RegistryClient, latest: int = 15) -> Overview:
    """Read who is champion of every symbol and all ledgers, in two searches however many symbols there are.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    latest : int
        How many decisions to show.

    Raises
    ------
    ParamsError
        Less than one.
    """
    if latest < 1:
        msg = f"latest: the number of decisions to show is expected, 1 or more, found {latest}"
        raise ParamsError(msg)
    ledgers, models = read_ledgers(registry), registered_models(registry)
    names = sorted({*ledgers, *models})
    own = {name: registry.champion_identity(name) for name in ledgers if not name.startswith(MODEL_PREFIX)}
    return Overview(
        uri=registry.uri,
        champion={name: {**models, **own}.get(name) for name in names},
        ledgers={name: ledgers.get(name, Ledger(name=name)) for name in names},
        records=registry.params.paths.records,
        latest=latest,
    )
