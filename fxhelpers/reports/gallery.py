"""The gallery: one page of all records, who is in Production, and what the last verification found.

The page is its own store. Each record and each model is one line of JSON in
it, so that adding one reads no other record; whatever was lost is found again
by :func:`rebuild_gallery`.
"""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from fxhelpers.files import UNREADABLE, can_write, write_atomic
from fxhelpers.ledger import Decision, Identity, Ledger, ProductionPeriod, same
from fxhelpers.processes import utc_now
from fxhelpers.records import is_running, is_unseen, promotion_label, read_summary, record_folders, record_name, report_path
from fxhelpers.reports.pages import page_template

logger = logging.getLogger(__name__)

PAGE = "index.html"
"""Name of the gallery in the folder of records."""

_LOCK, _LOCK_SECONDS = ".index.lock", 60
_LONGEST = 240  # characters of a reason
_TOLD = ("verdict", "result", "version", "override")
_MOST_PERIODS = 50
_BLOCKS = ("records", "models")
_NAME = re.compile(r'\{"(?:name|model)":"((?:[^"\\]|\\.)*)"')
_Lines = dict[str, dict[str, str]]  # of each block: lines of JSON by what they are about


def add_record(record: Path) -> None:
    """Put a finished record into its gallery; a gallery that is not there yet gets all records.

    Parameters
    ----------
    record : Path
        An executed notebook, ``RECORDS/AAPL/….ipynb``.
    """
    folder = record.parent.parent

    def add(held: _Lines) -> None:
        if held["records"]:
            held["records"][_key(record_name(record))] = _line(_card(record))
        else:
            held["records"] = _all_cards(folder)

    _change(folder, add)


def add_decision(folder: Path, decision: Decision) -> None:
    """Put a decision into the gallery: who is champion by it, and since when.

    Parameters
    ----------
    folder : Path
        Of the records.
    decision : Decision
        With its outcome.
    """

    def add(held: _Lines) -> None:
        told = _told(held["models"].get(_key(decision.model_name), "{},"))
        if decision.outcome is None or told.get("decided", "") > decision.time:
            return  # a later one is known already
        told |= {"symbol": decision.symbol, "decided": decision.time, "asof": utc_now()}
        to, bundle = decision.to_version, decision.bundles.get(str(decision.to_version))
        if not decision.moved_at and (told.get("champion"), told.get("bundle") or bundle) != (to, bundle):
            told |= {"champion": to, "since": None, "record": None}
        told["bundle"] = bundle
        if decision.moved_at:
            production_periods = [[*period[:2], period[2] or decision.moved_at, *period[3:]] for period in told.get("reigns", [])]
            production_periods.append([decision.to_version, decision.moved_at, None, _marked(decision)])
            told |= {"champion": decision.to_version, "since": decision.moved_at, "record": decision.record}
            told["reigns"] = production_periods[-_MOST_PERIODS:]
        held["models"][_key(decision.model_name)] = _line({"model": decision.model_name, **told})

    _change(folder, add)


def note_models(folder: Path, models: Iterable[Mapping[str, Any]], *, all_there_are: bool = False) -> None:
    """Put what is known of some models into the gallery: who is champion, who was, what a verification found.

    Who may only read the records leaves their gallery as it is.

    Parameters
    ----------
    folder : Path
        Of the records.
    models : iterable of mapping
        ``model`` names the registered model; what a mapping does not say
        stays as it was.
    all_there_are : bool
        Others, about which no registry ever decided, leave the gallery.
    """
    models = list(models)
    if not can_write(folder / _LOCK):
        return

    def note(held: _Lines) -> None:
        if all_there_are:
            there = {_key(told["model"]) for told in models}
            held["models"] = {k: line for k, line in held["models"].items() if k in there or _told(line).get("decided")}
        for told in models:
            before = _told(held["models"].get(_key(told["model"]), "{},"))
            older = before.get("decided", "") > (told.get("decided") or "")  # decided since it was looked at
            whole = {**told, **before, "verified": told.get("verified")} if older else {**before, **told}
            held["models"][_key(told["model"])] = _line({"model": told["model"], **whole})

    _change(folder, note)


def standing(ledger: Ledger, champion: Identity | None) -> dict[str, Any]:
    """Return what the gallery tells of a model: who is in Production, and who was.

    Parameters
    ----------
    ledger : Ledger
        Of the registered model.
    champion : Identity or None
        Version that is in Production, as the registry has it.

    Returns
    -------
    dict
        For :func:`note_models`.
    """
    production_periods, records = ledger.production_periods(), {decision.id: decision.record for decision in ledger.decisions}
    last = production_periods[-1] if production_periods and same(production_periods[-1].identity(), champion) else None
    return {
        "model": ledger.name,
        "symbol": ledger.symbol,
        "champion": champion.number if champion else None,
        "bundle": champion.bundle if champion else None,
        "since": last.since if last else None,
        "record": records.get(str(last.decision)) if last else None,
        "reigns": [[r.version, r.since, r.until, _marked(r)] for r in production_periods[-_MOST_PERIODS:]],
        "decided": ledger.outcomes[-1].time if ledger.outcomes else None,
        "asof": utc_now(),
    }


def _marked(moved: Decision | ProductionPeriod) -> str:
    return moved.mark.lower() if moved.rests_on else "without a decision"


def rebuild_gallery(folder: Path) -> Path:
    """Read all records again, and write the gallery anew; of models it keeps what can be read.

    Parameters
    ----------
    folder : Path
        Of the records.

    Returns
    -------
    Path
        The page.
    """
    _change(folder, lambda held: held.update(records=_all_cards(folder)), heal=True)
    return folder / PAGE


def _change(folder: Path, change: Callable[[_Lines], None], *, heal: bool = False) -> None:
    """Change what the page holds, and write it.

    All of it can be made again, so a page that cannot be read or written is a
    warning and ends no run.
    """
    page = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=_LOCK_SECONDS):
            held = _read(page, heal=heal)
            change(held)
            write_atomic(page, _page(held).encode())
    except UNREADABLE as error:
        logger.warning("the gallery %s cannot be brought up to date: %s (fx records makes it anew)", page, error)


def _read(page: Path, *, heal: bool) -> _Lines:
    """Return what the page holds; nothing where there is none, or none of ours; ``heal`` leaves out what is damaged."""
    text = page.read_text(encoding="utf-8", errors="replace") if page.exists() else ""
    if text and _marks(_BLOCKS[0])[0] not in text:
        msg = "it is a page of somebody else's; move it away"
        raise ValueError(msg)
    lines = {block: _between(text, *_marks(block)).splitlines() for block in _BLOCKS}
    if heal:
        lines = {block: [line for line in found if _is_whole(line)] for block, found in lines.items()}
    damaged = [line for found in lines.values() for line in found if not (_NAME.match(line) and line.endswith("},"))]
    if damaged:
        msg = f"a line of it is damaged: {damaged[0][:60]}"
        raise ValueError(msg)
    return {block: {_NAME.match(line)[1]: line for line in found} for block, found in lines.items()}  # type: ignore[index]


def _key(name: str) -> str:
    """Return a name as it stands in a line."""
    return json.dumps(name)[1:-1].replace("<", "\\u003c")


def _told(line: str) -> dict[str, Any]:
    return dict(json.loads(line.removesuffix(",")))


def _is_whole(line: str) -> bool:
    try:
        return bool(_NAME.match(line) and _told(line))
    except UNREADABLE:
        return False


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


def _marks(block: str) -> tuple[str, str]:
    """Return what stands before and after a block's lines; each line ends with a comma, so the list ends with null."""
    return f'<script type="application/json" id="{block}">[\n', "null]</script>"


def _page(held: _Lines) -> str:
    """Return the page around its lines."""
    text = _frame()
    for block in _BLOCKS:
        start, end = _marks(block)
        lines = "".join(f"{line}\n" for line in held[block].values())
        text = text.replace(f"{start}{end}", f"{start}{lines}{end}", 1)
    return text


@cache
def _frame() -> str:
    """Return the page without any line; its script is the only one that a browser runs, by its digest."""
    script = page_template("gallery.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    blocks = "\n".join("".join(_marks(block)) for block in _BLOCKS)
    return page_template("gallery.html.j2").render(script=script, digest=digest, blocks=blocks)


def _line(told: Mapping[str, Any]) -> str:
    """Return one line of JSON that begins with its name, holds no end of a script, and leaves out what is not known."""
    text = json.dumps(
        {key: value for key, value in told.items() if value not in (None, "", False)}, separators=(",", ":"), allow_nan=False
    )
    return text.replace("<", "\\u003c") + ","


def _all_cards(folder: Path) -> dict[str, str]:
    cards: dict[str, str] = {}
    for record in (record for kept in record_folders(folder) for record in sorted(kept.glob("*.ipynb"))):
        try:
            cards[_key(record_name(record))] = _line(_card(record))
        except UNREADABLE as error:
            logger.warning("%s is left out of the gallery, it cannot be read: %s", record, error)
    return cards


def _card(record: Path) -> dict[str, Any]:
    """Return what the gallery tells of a record."""
    nb = json.loads(record.read_bytes())
    about = nb["metadata"]["fxhelpers"]
    told, summary = about["record"], read_summary(nb) or {}
    text = str(told.get("error") or summary.get("reason") or summary.get("decided") or "")
    if told.get("decisions") and not summary:
        text = f"It had begun a decision (fx history). {text}"
    return {
        "name": record_name(record),
        "symbol": told.get("symbol"),
        "kind": about["notebook"],
        "status": "interrupted" if told["status"] == "running" and not is_running(record, told) else told["status"],
        "started": told["started"][:19],
        "actor": told.get("actor"),
        "mark": promotion_label(summary),
        "unseen": is_unseen(summary),
        **{key: str(summary[key]) for key in _TOLD if summary.get(key)},
        "report": report_path(record).exists(),
        "text": _cut(text),
    }


def _cut(text: str) -> str:
    """Return the beginning of a long reason, and of what it also says: that days are old, or features drifted."""
    if len(text) <= _LONGEST:
        return text
    first, also, rest = text.partition(" Also: ")
    parts = [f"{part[: most - 1]}…" if len(part) > most else part for part, most in ((first, _LONGEST), (rest, _LONGEST // 2))]
    return also.join(parts)
