"""What came of a batch: one row a symbol, held against the records themselves."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers.errors import FxError, ParamsError
from fxhelpers.files import UTC_SLACK, dated, latest_first, sha256
from fxhelpers.params import load_params
from fxhelpers.policy import Family
from fxhelpers.records import PORTFOLIO, promotion_label
from fxhelpers.results import Keyed, rows_html, shown, shown_as
from fxhelpers.tables import Table

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
"""Of what the notebooks' summaries say, what a row shows where it is there."""

_LONG = 100
_NONE_YET = "No batch was run yet: fx run NOTEBOOK --symbols AAPL,MSFT runs one, and this notebook after it."


@dataclass(frozen=True, kw_only=True, eq=False)
class Portfolio(Keyed):
    """A batch and how each of its runs ended.

    Attributes
    ----------
    batch : str
        Its id.
    about : dict
        Who began it and when, notebook, parameters and symbols.
    runs : DataFrame
        One row a symbol: status, what the notebook's summary said, seconds,
        error, the record's name and SHA-256, and whether the record still has
        it.
    family : Family or None
        Where the symbols were decided about together.
    """

    batch: str
    about: dict[str, Any]
    runs: pd.DataFrame = field(repr=False)
    family: Family | None = None

    @property
    def counts(self) -> pd.Series:
        """How many symbols came to which verdict, or else to which status, and with which mark."""
        came, marks = self._came_to, self.marks.where(self.runs["error"].isna(), "")
        return came.where(marks.eq(""), came + ", " + marks).value_counts()

    @property
    def _came_to(self) -> pd.Series:
        """Verdict or status of each symbol."""
        told = self.runs["status"].where(self.runs["error"].notna(), "completed")
        if "verdict" in self.runs:
            told = told.where(self.runs["error"].notna(), self.runs["verdict"])
        if "result" in self.runs:
            told = told.mask(self.runs["error"].isna() & (self.runs["result"] == "promoted"), "promoted")
        return told

    @property
    def marks(self) -> pd.Series:
        """What to say with the promotion of each symbol, as that there is no evidence of skill; "" where nothing is."""
        return pd.Series(
            [promotion_label({str(k): v for k, v in row.items()}) for row in self.runs.to_dict("records")],
            self.runs.index,
            dtype=str,
        )

    @property
    def seconds(self) -> float:
        """From the beginning to the last outcome."""
        return float(self.about["seconds"])

    def to_frame(self) -> pd.DataFrame:
        """Return one row a symbol."""
        return self.runs

    def summary(self) -> dict[str, Any]:
        """Return what the batch came to, in single values."""
        failed = self.runs["error"].notna()
        told: dict[str, Any] = {
            "runs": len(self.runs),
            "failed": int(failed.sum()),
            **{str(k): int(v) for k, v in self._came_to.value_counts().items()},
            **{str(k).replace(" ", "_"): int(v) for k, v in self.marks[self.marks.ne("")].value_counts().items()},
        }
        if self.family:
            told |= {
                "fdr": self.family.fdr,
                "tested_together": len(self.family.p),
                "tested_by_none": len(self.runs) - len(self.family.p),
            }
        return {**told, "seconds": round(self.seconds, 1), "records_intact": bool(self.runs.loc[~failed, "intact"].all())}

    def _repr_html_(self) -> str:
        about = self.about
        if not self.batch:
            return f"<p>{_NONE_YET}</p>"
        rows = {
            "notebook": about["notebook"],
            "parameters": ", ".join(f"{key} = {value}" for key, value in about["parameters"].items()),
            "begun": f"{about['time']} by {about['actor']}",
            **({"registry": about["registry"]} if about.get("registry") else {}),
            "ran": f"on {about['cluster'] or 'this machine'}, {shown(self.seconds)} s",
            "came to": ", ".join(f"{count} {what}" for what, count in self.counts.items()),
            **({"notes": "; ".join(about["notes"])} if about.get("notes") else {}),
        }
        return rows_html(rows) + _whole_table(self.table())

    def table(self) -> pd.DataFrame:
        """Return one row a symbol for people: gains in per cent, errors cut short, no column without anything."""
        runs = self.runs.dropna(axis=1, how="all")
        table = pd.DataFrame(index=runs.index)
        for column in ("status", "version", "verdict", "result", "stage"):
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
        """Each run's record, its SHA-256 as the batch has it, and whether the file still has it."""
        found = self.runs.loc[self.runs["record"].notna(), ["record", "sha256", "intact"]]
        return Records(found.assign(intact=found["intact"].map({True: "yes", False: "CHANGED OR GONE"})))


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a batch, shown whole: pandas would leave out rows and cut digests.

    Attributes
    ----------
    frame : DataFrame
        One row a symbol: record, sha256, intact.
    """

    frame: pd.DataFrame

    def _repr_html_(self) -> str:
        return _whole_table(self.frame)


def read_portfolio(batch: str = "") -> Portfolio:
    """Read what a batch wrote down, and hold it against the records.

    Parameters
    ----------
    batch : str
        Its id; by default the latest.

    Returns
    -------
    Portfolio
        Without runs where no batch was run yet.

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
    lines = _lines(records / PORTFOLIO / f"{batch or _latest(records / PORTFOLIO)}.jsonl")
    about = lines[0]
    outcomes = [line for line in lines if "symbol" in line]
    last = {line["symbol"]: line for line in outcomes}  # of several phases the last that it came to
    family = next((line["family"] for line in lines if line.get("family")), None)
    times = pd.to_datetime([line["time"] for line in lines])
    runs = pd.DataFrame(
        [_row(records, last.get(symbol) or {"symbol": symbol, "status": "not run"}) for symbol in about["symbols"]]
    )
    return Portfolio(
        batch=about["batch"],
        about={**about, "seconds": (times.max() - times.min()).total_seconds()},
        runs=runs.set_index("symbol"),
        family=Family.read(family),
    )


def _latest(folder: Path) -> str:
    """Return the id of the batch that was begun last."""
    choice = latest_first(dated(path, path.name.partition("-")[0], slack=UTC_SLACK) for path in folder.glob("*.jsonl"))
    for warning in choice.warnings:
        logger.warning(warning)
    return choice.paths[0].stem


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal; the last may have been cut off."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    if not found or "batch" not in found[0]:
        msg = f"{path}: not the journal of a batch"
        raise FxError(msg)
    return found


def _row(records: Path, line: dict[str, Any]) -> dict[str, Any]:
    summary = line.get("summary") or {}
    record = line.get("record")
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


def _whole_table(table: pd.DataFrame) -> str:
    return Table(table.rename_axis(index=None, columns="symbol"))._repr_html_()


def _whole(value: object) -> str:
    """Return a number without the fraction that pandas gives it, or a word."""
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    return f"{value:.0f}" if isinstance(value, float) else str(value)
