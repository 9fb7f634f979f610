"""Long histories, made fast: a real registration, copied row by row, its entries chained anew."""

import re
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.projects import DATABASE, bundle_maker, new_project
from fxhelpers import ModelRegistry
from fxhelpers.ledger import FACTS, KINDS, Decision, Entry, entry_name, link_name
from fxhelpers.registry.ledger_store import read_ledger

SYMBOL = "S001"
NAME = f"MLP_Stock_Predictor_{SYMBOL}"
_OF_A_RUN = ("tags", "params", "metrics", "latest_metrics")


def new_history(folder: Path, versions: int) -> Path:
    """Make a project whose model has so many versions: the first in Production, each of them registered by a decision."""
    registry = ModelRegistry(new_project(folder) / "params.yaml")
    new_bundle = bundle_maker(registry.params, SYMBOL)
    registry.register_model(new_bundle())
    registry.transition_stage(NAME, 1, "Production")
    last = registry.register_model(new_bundle())
    head = read_ledger(registry.client, NAME).head
    with sqlite3.connect(folder / DATABASE) as database:
        _Copies(database, last.decision, last.run_id, head, last.decision.run_id).add(range(3, versions + 1))
    database.close()
    found = registry.verify(SYMBOL)
    if found.findings or found.decisions != versions + 1 or len(registry.get_model_versions(NAME)) != versions:
        msg = f"the history of {versions} versions is not what it should be: {found.message} {found.findings[:3]}"
        raise RuntimeError(msg)
    return folder


@dataclass
class _Copies:
    """Rows of the last registration, and what of them differs from one version to the next."""

    database: sqlite3.Connection
    decision: Decision
    run_id: str
    head: Entry
    keeper: str
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, numbers: range) -> None:
        runs = {self.run_id, self.decision.run_id}
        where = f"run_uuid IN ({', '.join(map(repr, runs))})"
        of_version = f"name = '{NAME}' AND version = {self.decision.version}"
        templates = {table: self._read(table, where) for table in ("runs", *_OF_A_RUN)}
        templates |= {table: self._read(table, of_version) for table in ("model_versions", "model_version_tags")}
        made: dict[str, list[dict[str, Any]]] = {table: [] for table in templates}
        for number in numbers:
            for table, row in self._of(number, templates):
                made[table].append(row)
        for table, rows in made.items():
            if rows:
                columns = ", ".join(rows[0])
                slots = ", ".join(f":{column}" for column in rows[0])
                self.database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({slots})", rows)
        if numbers:
            self.database.execute(f"UPDATE registered_model_aliases SET version = {numbers[-1]} WHERE alias = 'challenger'")

    def _read(self, table: str, where: str) -> list[dict[str, Any]]:
        self.database.row_factory = sqlite3.Row
        return [dict(row) for row in self.database.execute(f"SELECT * FROM {table} WHERE {where}")]

    def _of(self, number: int, templates: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the rows of one more version; whatever names the template by an id names the copy."""
        new = {self.run_id: secrets.token_hex(16), self.decision.run_id: secrets.token_hex(16)}
        new[self.decision.id] = f"{self.decision.id.rpartition('-')[0]}-{number:08x}"
        for digest in (self.decision.bundles[str(self.decision.version)], self.decision.outcome_facts.model_sha256):
            new[digest] = sha256(f"{digest} {number}".encode()).hexdigest()
        pattern = re.compile("|".join(map(re.escape, new)))

        def renamed(value: object) -> object:
            return pattern.sub(lambda found: new[found[0]], value) if isinstance(value, str) else value

        before, run = self.head, new[self.decision.run_id]
        entries = self._entries(number, renamed)
        yield "params", {"key": f"fx.{link_name(before.digest)}", "value": f"{entries[0].digest} {run}", "run_uuid": self.keeper}
        self.keeper = run
        new |= {old.digest: entry.digest for old, entry in zip(self.decision.entries, entries, strict=True)}
        pattern = re.compile("|".join(map(re.escape, new)))
        texts = {f"fx.{entry_name(old)}": entry for old, entry in zip(self.decision.entries, entries, strict=True)}
        later = number - self.decision.version  # milliseconds: no two decisions end at once
        for table, rows in templates.items():
            for row in rows:
                copy = {column: renamed(value) for column, value in row.items()}
                if table.startswith("model_version"):
                    copy["version"] = number
                if table == "runs":
                    copy["end_time"] += later
                if table == "tags" and row["key"] in texts:
                    copy["key"], copy["value"] = f"fx.{entry_name(texts[row['key']])}", texts[row["key"]].to_json()
                yield table, copy

    def _entries(self, number: int, renamed: Any) -> list[Entry]:
        made = []
        for kind in KINDS:
            template: Entry = getattr(self.decision, kind)
            facts = _mapped(template.facts.stored(), renamed)
            if kind == "outcome":
                facts |= {"version": number, "bundles": {str(number): next(iter(facts["bundles"].values()))}}
            now = datetime.fromisoformat(template.time) + timedelta(milliseconds=number - self.decision.version)
            decision, time = renamed(self.decision.id), now.isoformat(timespec="milliseconds")
            self.head = Entry.after(self.head, ledger=NAME, decision=decision, now=time, facts=FACTS[kind].read(facts))
            made.append(self.head)
        return made


def _mapped(facts: Any, renamed: Any) -> Any:
    if isinstance(facts, dict):
        return {key: _mapped(value, renamed) for key, value in facts.items()}
    return renamed(facts)
