"""Records: executed notebooks on disk, the summary at the end of each, and those that a process left unfinished."""

import fcntl
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from fxhelpers.display import has_value, rows_html, shown
from fxhelpers.ledger import NO_SKILL, NOT_COMPARED, SealFacts
from fxhelpers.params import current_journal, current_record, unrecorded_shell
from fxhelpers.system import UNREADABLE, actor, can_write, create_exclusive, has_ended, process_identity, sha256, write_atomic

logger = logging.getLogger(__name__)

LEFT = "The process that wrote this record ended without closing it: it was killed, or its machine stopped."
"""Error in a record that a process left unfinished."""

_FOLDER, _LOCK_SECONDS = ".running", 60


@dataclass(slots=True)
class Marker:
    """File that marks a record as being written, by the process that holds its lock."""

    path: Path
    file: BufferedRandom

    def remove(self) -> None:
        """Remove the marker: the record is closed."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Release the lock: the record could not be closed, and the next run closes it."""
        self.file.close()


def mark_running(record: Path) -> Marker:
    """Mark a record that this process is about to write."""
    path = _marker_of(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{secrets.token_hex(8)}")
    file = hidden.open("x+b")
    try:
        with suppress(OSError):  # a file system without locks: then only this machine can tell
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"record": record_name(record), "process": process_identity()}).encode())
        file.flush()
        hidden.rename(path)  # locked before another process sees it
    except BaseException:
        file.close()
        hidden.unlink(missing_ok=True)
        raise
    return Marker(path, file)


def is_running(record: Path, header: Mapping[str, Any]) -> bool:
    """Return whether a record is being written: its header says so, and it has a marker whose process lives."""
    marker = _marker_of(record)
    return header["status"] == "running" and marker.exists() and not _is_left(marker)


@contextmanager
def left_records(folder: Path) -> Iterator[list[Path]]:
    """Close the records whose process is gone, and yield them; their markers are removed afterwards.

    A record that cannot be read or written is a warning, and is tried again next time.
    """
    left = [marker for marker in sorted((folder / _FOLDER).glob("*.json")) if _is_left(marker)]
    if not left:
        yield []
        return
    with _one_at_a_time(folder) as locked:
        records = {marker: folder / marker.stem.replace("+", "/", 1) for marker in left}
        closed = {marker: record for marker, record in records.items() if _closed(record, locked=locked)}
        yield [record for record in closed.values() if record.exists()]
        for marker in closed:
            with suppress(OSError):  # in a folder where users delete only their own files
                marker.unlink()


def close_left(record: Path) -> None:
    """Close one record if its process is gone, before its digest is taken."""
    if _is_left(_marker_of(record)):
        with _one_at_a_time(record.parent.parent) as locked:
            _closed(record, locked=locked)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[bool]:
    """Take the lock of the folder of markers; yield False if that is not possible."""
    lock = FileLock(folder / _FOLDER / ".lock", timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except OSError as error:
        logger.warning("unfinished records in %s cannot be closed: %s", folder, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _marker_of(record: Path) -> Path:
    return record.parent.parent / _FOLDER / f"{record.parent.name}+{record.stem}.ipynb.json"


def _is_left(marker: Path) -> bool:
    """Return whether the process of a marker is gone; False if that is unknown, or the marker is another user's."""
    try:
        with marker.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # locked, perhaps by a child of its process; or a file system without locks
                return bool(has_ended(json.load(file)["process"]))
            return True
    except UNREADABLE:  # closed meanwhile, or that of another user
        return False


def _closed(record: Path, *, locked: bool) -> bool:
    """Mark an unfinished record as interrupted; False if that must wait."""
    try:
        if locked and record.exists():
            _close(record)
    except UNREADABLE as error:
        logger.warning("%s was left by its process, and cannot be closed: %s", record, error)
        return not isinstance(error, OSError)  # a torn record stays torn
    return locked


def _close(record: Path) -> None:
    nb = json.loads(record.read_bytes())
    header = nb["metadata"]["fxhelpers"]["record"]
    if header["status"] != "running":
        return
    last_written = datetime.fromtimestamp(record.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    header.update(status="interrupted", ended=last_written, error=LEFT)
    nb["metadata"].setdefault("papermill", {})["exception"] = True
    for papermill in (cell["metadata"].get("papermill", {}) for cell in nb["cells"]):
        if papermill.get("status") == "running":
            papermill.update(status="failed", exception=True)
    write_atomic(record, json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True).encode())


PORTFOLIO, EVENINGS = "_portfolio", "_forecasts"  # folders of the records of batches and of forecasts; no ticker has these names

_FOLDER_ID = ".folder"
_METADATA, _END_BYTES = b'\n "metadata": {', 65_536
_IN_THE_REPORT = ("notebook", "decided", "reason", "how sure", "undo", "approved by", "decision", "outcome sha256", "record")
SUMMARY_MIME = "application/vnd.fxhelpers.summary+json"


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a notebook: a table for people, JSON for programs."""

    data: dict[str, Any]

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        rows = summary_rows(self.data)
        return {
            "text/plain": "\n".join(f"{key:>20}  {shown(value)}" for key, value in rows.items()),
            "text/html": rows_html(rows, card=_IN_THE_REPORT),
            SUMMARY_MIME: self.data,
        }


def summary(notebook: str, **values: Any) -> Summary:  # noqa: ANN401 (anything that JSON can hold)
    """Return the summary at the end of a notebook.

    Parameters
    ----------
    notebook : str
        Name of the notebook, such as ``promote``.
    **values
        Results, in the order to show them.
    """
    record = current_record()
    values = json.loads(json.dumps(values, default=str))
    return Summary({"notebook": notebook, **values, "record": record.name if record else None})


def summary_rows(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary for people: without empty values, and with the change of RMSE as a gain (positive is better)."""
    rows = {key.replace("_", " "): value for key, value in summary.items() if has_value(value)}
    if isinstance(rows.get("rmse change"), float):
        rows = {("gain" if k == "rmse change" else k): f"{-v:+.3%} of RMSE" if k == "rmse change" else v for k, v in rows.items()}
    return rows


def promotion_label(summary: Mapping[str, Any]) -> str:
    """Return the label of a summary's promotion, such as ``no evidence of skill``; "" without one."""
    if summary.get("result") != "promoted" and summary.get("verdict") != "promote":
        return ""
    if summary.get("rests_on") == NOT_COMPARED:
        return NOT_COMPARED
    skill = summary.get("evidence_of_skill")  # earlier releases have it in the reason alone
    return NO_SKILL if skill is False or (skill is None and NO_SKILL in str(summary.get("reason"))) else ""


def is_unseen(summary: Mapping[str, Any]) -> bool:
    """Return whether a summary is of a decision by the policy alone, without an approver."""
    return bool(summary.get("decision")) and summary.get("rests_on") == "compared" and not summary.get("approved_by")


def read_summary(notebook: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary of an executed notebook; None if it did not get that far."""
    return read_output(notebook, SUMMARY_MIME)


def read_output(notebook: Mapping[str, Any], mime: str) -> dict[str, Any] | None:
    """Return the last output of a type in an executed notebook; None without one."""
    for cell in reversed(notebook["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if mime in data:
                return dict(data[mime])
    return None


def record_name(record: Path) -> str:
    """Return a record's name in the folder of records: ``AAPL/….ipynb``."""
    return f"{record.parent.name}/{record.name}"


def report_path(record: Path) -> Path:
    """Return the path of a record's report, which is in the same folder."""
    return record.with_suffix(".html")


def folder_to_write(records: Path, folder: str, *, looks: bool) -> Path:
    """Return the folder of a new record.

    Users who cannot write there have the records of notebooks that change nothing (``looks``) in a folder of their own; no
    ledger knows these.
    """
    if not looks or can_write(records / folder / "record"):
        return records / folder
    own = platformdirs.user_state_path("fxhelpers", appauthor=False) / "records" / folder
    if not (own.is_absolute() and can_write(own / "record")):  # a user without a home
        own = Path(tempfile.mkdtemp(prefix="fxhelpers-")) / folder
    logger.warning("%s cannot be written by %s; this record is kept in %s", records, actor(), own)
    return own


def record_folders(records: Path) -> list[Path]:
    """Return the folders of records, sorted, without hidden ones such as Jupyter's checkpoints."""
    return sorted(folder for folder in records.glob("*") if folder.is_dir() and not folder.name.startswith("."))


def record_facts(folder: Path, name: str | None) -> SealFacts:
    """Return a seal's facts about a record and its report: name, digests and size; the name alone if the record is gone.

    A record whose process is gone is closed first: after the seal nothing may change it.
    """
    if name is None:
        return SealFacts(record=None)
    try:
        close_left(folder / name)
        content = (folder / name).read_bytes()
    except OSError:
        return SealFacts(record=name, sha256=None)
    facts = SealFacts(record=name, sha256=sha256(content), bytes=len(content), folder=None)
    try:
        create_exclusive(folder / _FOLDER_ID, secrets.token_hex(8).encode())
        page = report_path(folder / name)
        if page.is_file():
            facts.report_sha256 = sha256(page.read_bytes())
    except OSError as error:
        logger.warning("the seal of %s lacks its report or its folder: %s", name, error)
    facts.folder = folder_id(folder)
    return facts


def folder_id(folder: Path) -> str | None:
    """Return the id that tells this folder of records from those on other machines; None if it has none, or not for this user."""
    try:
        return (folder / _FOLDER_ID).read_text(encoding="ascii") or None
    except (OSError, UnicodeDecodeError):
        return None


def note_decision(model_name: str, run_id: str) -> None:
    """Note a decision of this process in the run's journal, so that the engine seals the record; nothing outside a run."""
    journal = current_journal()
    if journal:
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([model_name, run_id]) + "\n")


def origin_of(record: Path) -> tuple[list[tuple[str, str]], str | None]:
    """Return a record's decisions, as registered models and run ids, and the URI of their registry or None."""
    header = _metadata(record).get("fxhelpers", {}).get("record", {})
    return [(name, run_id) for name, run_id in header.get("decisions", [])], header.get("registry")


def _metadata(record: Path) -> dict[str, Any]:
    """Return a record's metadata, without its cells if it was written as records are: keys sorted, a line each.

    No line within a string of JSON begins with the key of a notebook's own metadata: line ends in strings are escaped.
    """
    with record.open("rb") as file:
        file.seek(-min(_END_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
        _, found, end = file.read().rpartition(_METADATA)
        with suppress(ValueError):
            if found:
                return dict(json.loads(b"{" + found + end)["metadata"])
        file.seek(0)
        return dict(json.loads(file.read()).get("metadata", {}))


def decisions_in(journal: Path) -> list[tuple[str, str]]:
    """Return the decisions in a run's journal, as registered models and run ids."""
    if not journal.exists():
        return []
    return [(name, run_id) for name, run_id in map(json.loads, journal.read_text(encoding="utf-8").splitlines())]


def in_unrecorded_notebook() -> bool:
    """Return whether this is a Jupyter kernel whose notebook is not kept as a record."""
    return unrecorded_shell() is not None
