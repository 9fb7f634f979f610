"""Outcome of a batch: one row per symbol, checked against the records themselves."""

import json
import logging
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from fxhelpers.comparison import PooledResult
from fxhelpers.display import Keyed, Table, link, rows_html, shown, shown_as
from fxhelpers.errors import FxError, ParamsError
from fxhelpers.params import current_record, load_params
from fxhelpers.policy import Family, Pooled, digits, percent, short
from fxhelpers.records import PORTFOLIO, promotion_label
from fxhelpers.system import UTC_SLACK, dated, latest_first, sha256

logger = logging.getLogger(__name__)

_COLUMNS = (
    "version",
    "verdict",
    "result",
    "stage",
    "champion_before",
    "champion_after",
    "rmse_change",
    "p",
    "p_attempt",
    "p_family",
    "evidence_of_skill",
    "rests_on",
)
"""Values of the notebooks' summaries that a row shows."""

_LONG, _MOST_NAMES = 100, 10
_NONE_YET = "No batch yet: fx run NOTEBOOK --symbols AAPL,MSFT runs one, and then this notebook."


@dataclass(frozen=True, kw_only=True, eq=False)
class Portfolio(Keyed):
    """A batch and the outcome of each run."""

    batch: str  # its id
    about: dict[str, Any]  # who began it and when, notebook, parameters and symbols
    # one row per symbol: status, values of the notebook's summary, seconds, error, the record's name and SHA-256, and whether the
    # record still has it
    runs: pd.DataFrame = field(repr=False)
    family: Family | None = None  # if the symbols were decided about together
    one_test: "OneTest | None" = None  # if a recipe was judged once on all symbols

    @property
    def counts(self) -> pd.Series:
        """Number of symbols by verdict, result or status, and by label."""
        came, marks = self._came_to, self.marks.where(self.runs["error"].isna(), "")
        return came.where(marks.eq(""), came + ", " + marks).value_counts()

    @property
    def _came_to(self) -> pd.Series:
        """Status if it failed, else promoted, left out, the verdict or the result, of each symbol."""
        failed = self.runs["error"].notna()
        values = self.runs["status"].where(failed, "completed")
        for key in ("result", "verdict"):
            if key in self.runs:
                values = values.where(failed | self.runs[key].isna(), self.runs[key])
        if self.one_test:
            values = values.mask(~failed & self.runs.index.isin(list(self.one_test.left_out)), "left out")
        return values.mask(~failed & (self.runs["result"] == "promoted"), "promoted") if "result" in self.runs else values

    @property
    def marks(self) -> pd.Series:
        """Label of each promotion, such as no evidence of skill; "" without one."""
        labels = [promotion_label({str(k): v for k, v in row.items()}) for row in self.runs.to_dict("records")]
        return pd.Series(labels, self.runs.index, dtype=str)

    @property
    def untested(self) -> list[str]:
        """Symbols whose promotion no test decided: there was no champion, and the forecasts show no skill."""
        runs = self.runs.reindex(columns=self.runs.columns.union(["champion_before", "p"]))
        return [str(symbol) for symbol in runs.index[runs["champion_before"].isna() & runs["p"].isna() & self.marks.ne("")]]

    @property
    def answer(self) -> str:
        """Outcome of the batch in a few sentences, for the card of a report."""
        if not self.batch:
            return _NONE_YET
        counted = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        text = f"{self.about['notebook']} of {len(self.runs)} symbols: {counted}."
        if self.untested:
            names = ", ".join(self.untested[:_MOST_NAMES]) + (", …" if len(self.untested) > _MOST_NAMES else "")
            text += f" {len(self.untested)} first champions were tested by nothing: no champion, no proof of skill ({names})."
        if self.one_test:
            text += f" {self.one_test.answer}"
        return text

    @property
    def seconds(self) -> float:
        """Seconds from the start to the last outcome."""
        return float(self.about["seconds"])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per symbol."""
        return self.runs

    def summary(self) -> dict[str, Any]:
        """Return the outcome of the batch in single values."""
        failed = self.runs["error"].notna()
        values: dict[str, Any] = {
            "runs": len(self.runs),
            "failed": int(failed.sum()),
            **{str(k): int(v) for k, v in self._came_to.value_counts().items()},
            **{str(k).replace(" ", "_"): int(v) for k, v in self.marks[self.marks.ne("")].value_counts().items()},
        }
        if self.family:
            tested = len(self.family.p)
            values |= {"fdr": self.family.fdr, "tested_together": tested, "tested_by_none": len(self.runs) - tested}
        if self.one_test:
            values |= self.one_test.summary()
        intact = bool(self.runs.loc[~failed, "intact"].all())
        return {"answer": self.answer, **values, "seconds": round(self.seconds, 1), "records_intact": intact}

    def _repr_html_(self) -> str:
        about = self.about
        if not self.batch:
            return f"<p>{_NONE_YET}</p>"
        rows = {
            "notebook": about["notebook"],
            "parameters": ", ".join(f"{key} = {value}" for key, value in about["parameters"].items()),
            "begun": f"{about['time']} by {about['actor']}",
            "registry": about.get("registry"),
            "ran": f"on {about['cluster'] or 'this machine'}, {shown(self.seconds)} s",
            "outcome": self.answer,
            "notes": "; ".join(about.get("notes") or []),
        }
        return rows_html(rows, card=("outcome",)) + _whole_table(self.table())

    def table(self) -> pd.DataFrame:
        """Return one row per symbol for people: gains in per cent, errors cut short, no empty column."""
        runs = self.runs.dropna(axis=1, how="all")
        table = pd.DataFrame(index=runs.index)
        for column in ("status", "result", "verdict", "version", "stage"):
            if column in runs and not (column == "status" and runs[column].eq("completed").all()):
                table[column] = runs[column].map(_whole)
        if self.marks.any():
            table["label"] = self.marks
        if "champion_after" in runs:
            before = self.runs["champion_before"].map(_whole)
            table["champion"] = before + " → " + runs["champion_after"].map(_whole)
        if "rmse_change" in runs:
            table["gain"] = runs["rmse_change"].map(lambda change: shown_as(-change, "{:+.3%}"))
        for column, name in (("p", "p"), ("p_attempt", "for attempts"), ("p_family", "for all symbols")):
            if column in runs:
                table[name] = runs[column].map(lambda p: shown_as(p, "{:.4g}"))
        if "error" in runs:
            table["error"] = runs["error"].fillna("").str.slice(0, _LONG)
        return table

    @property
    def records(self) -> "Records":
        """Each run's record, its SHA-256 in the batch, and whether the file still has it."""
        found = self.runs.loc[self.runs["record"].notna(), ["record", "sha256", "intact"]]
        intact = found["intact"].map({True: "yes", False: "CHANGED OR GONE"})
        return Records(found.assign(intact=intact)[["record", "intact", "sha256"]], load_params().paths.records)


@dataclass(frozen=True, kw_only=True, eq=False)
class OneTest:
    """One recipe, judged once on many symbols."""

    pooled: Pooled  # as each decision took it
    result: PooledResult  # with the daily series, and who was left out
    gains: pd.DataFrame  # by symbol that is pooled: its own ``gain``, ``low`` and ``high``, fractions of the champion's RMSE

    @property
    def left_out(self) -> dict[str, str]:
        """Symbol to why it is not pooled."""
        return self.result.left_out

    @property
    def answer(self) -> str:
        """Result in a sentence."""
        test, over = self.pooled, f"One test over {self.pooled.over} ({len(self.left_out)} left out)"
        if not math.isfinite(test.p):
            return f"{over} was not made: {test.why}."
        interval = f"95 % interval {percent(test.low)} to {percent(test.high)}"
        required = f"p = {digits(test.p)}, required: p < {test.level:.3g} at attempt {test.attempt}"
        return f"{over}: mean gain {percent(test.gain)} ({interval}; {required})."

    def summary(self) -> dict[str, Any]:
        """Return the result in single values."""
        facts = self.pooled.ledger_facts()
        facts = {key: facts[key] for key in ("p", "level", "gain", "attempt", "days", "recipe", "digest")}
        return {"symbols_pooled": len(self.pooled.members), **{f"pooled_{key}": value for key, value in facts.items()}}

    def _repr_html_(self) -> str:
        result, shown = self.result, shown_as
        rows = {
            "recipe": f"{short(self.pooled.recipe)}, against the champions' {short(self.pooled.champion_recipe)}",
            "result": self.answer,
            "days": f"{len(result.days):,}; resampled in blocks of {result.block}, {result.resamples:,} times",
            "gain detected with 80 % power": shown(self.pooled.detectable, "{:.2%}"),
            "largest part of the pooled difference": f"{result.largest}, {shown(result.share, '{:.0%}')}",
        }
        table = pd.DataFrame({"why it is left out": pd.Series(self.left_out, dtype=str)})
        return rows_html(rows) + (_whole_table(table) if self.left_out else "<p>No symbol is left out.</p>")


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a batch, all of them and with links."""

    frame: pd.DataFrame  # one row per symbol: record, intact, sha256
    folder: Path  # of the records

    def _repr_html_(self) -> str:
        links = [self._link(str(record)) for record in self.frame["record"]]
        return _whole_table(self.frame.assign(record=links), ("record",))

    def _link(self, record: str) -> str:
        """Return a relative link to the report of a record, or to the record without one."""
        page = (self.folder / record).with_suffix(".html")
        base = (current_record() or Path.cwd() / "here").parent
        there = os.path.relpath(page if page.is_file() else self.folder / record, base)
        return link(quote(Path(there).as_posix()), Path(record).stem)


def read_portfolio(batch: str = "") -> Portfolio:
    """Read the journal of a batch, and compare it with the records.

    Parameters
    ----------
    batch : str
        Its id; by default the latest.

    Returns
    -------
    Portfolio
        Without runs if there is no batch yet.

    Raises
    ------
    ParamsError
        No such batch.
    """
    records = load_params().paths.records
    known = sorted(path.stem for path in (records / PORTFOLIO).glob("*.jsonl"))
    if not batch and not known:
        columns = ["status", "error", "record", "sha256", "intact"]
        return Portfolio(batch="", about={"notebook": None, "seconds": 0.0}, runs=pd.DataFrame(columns=columns))
    if batch and batch not in known:
        msg = f"batch {batch!r}: there is none in {records / PORTFOLIO}; fx run NOTEBOOK --symbols … makes one"
        raise ParamsError(msg)
    lines = journal_lines(records / PORTFOLIO / f"{batch or _latest(records / PORTFOLIO)}.jsonl")
    about = lines[0]
    last = {line["symbol"]: line for line in lines if "symbol" in line}  # the last phase that each symbol reached
    times = pd.to_datetime([line["time"] for line in lines])
    runs = [_row(records, last.get(symbol) or {"symbol": symbol, "status": "not run"}) for symbol in about["symbols"]]
    return Portfolio(
        batch=about["batch"],
        about={**about, "seconds": (times.max() - times.min()).total_seconds()},
        runs=pd.DataFrame(runs).set_index("symbol"),
        family=Family.read(next((line["family"] for line in lines if line.get("family")), None)),
        one_test=_one_test(lines),
    )


def _one_test(lines: list[dict[str, Any]]) -> OneTest | None:
    line = next((line for line in lines if line.get("pooled")), None)
    pooled = Pooled.read(line["pooled"]) if line else None
    if line is None or pooled is None:
        return None
    gains = pd.DataFrame.from_dict(line["gains"], orient="index", columns=["gain", "low", "high"], dtype=float)
    return OneTest(pooled=pooled, result=PooledResult.read(line["result"]), gains=gains)


def _latest(folder: Path) -> str:
    choice = latest_first(dated(path, path.name.partition("-")[0], slack=UTC_SLACK) for path in folder.glob("*.jsonl"))
    for warning in choice.warnings:
        logger.warning(warning)
    return choice.paths[0].stem


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal; the last may have been cut off."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    if not found or "batch" not in found[0]:
        msg = f"{path}: not the journal of a batch"
        raise FxError(msg)
    return found


def _row(records: Path, line: dict[str, Any]) -> dict[str, Any]:
    summary, record = line.get("summary") or {}, line.get("record")
    path = records / record if record else None
    return {
        "symbol": line["symbol"],
        "status": line["status"],
        **{column: summary[column] for column in _COLUMNS if column in summary},
        "error": line.get("error") or (None if line["status"] != "not run" else "not run"),
        "seconds": line.get("seconds"),
        "record": record,
        "sha256": line.get("sha256"),
        "intact": bool(path and path.is_file() and sha256(path.read_bytes()) == line.get("sha256")),
    }


def _whole_table(table: pd.DataFrame, written: tuple[str, ...] = ()) -> str:
    return Table(table.rename_axis(index=None, columns="symbol"), written)._repr_html_()


def _whole(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    return f"{value:.0f}" if isinstance(value, float) else str(value)
