"""The gallery: one page of all records, the versions in Production, and the findings of the last verification.

The page is written once. Its data lie beside it, one line of JSON per record
or model, and a later line replaces earlier ones about the same. A run appends
its line, so that adding a record reads and rewrites no other. A browser shows
the page without a server: the data are a page too, in a frame, which hands its
text over. Its last line may be torn; the page leaves it out.

:func:`rebuild_gallery` makes all of it anew.
"""

import base64
import hashlib
import json
import logging
import mmap
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from fxhelpers.ledger import Decision, Identity, Ledger, ProductionPeriod, same
from fxhelpers.records import (
    left_records,
    record_folders,
    record_name,
    report_path,
)
from fxhelpers.reports.report import card_of, make_report, page_template
from fxhelpers.system import UNREADABLE, can_write, utc_now, write_atomic

logger = logging.getLogger(__name__)


PAGE, DATA = "index.html", "index.data.html"  # names of the gallery and of its data in the folder of records

_LOCK, _LOCK_SECONDS = ".index.lock", 60
_MOST_PERIODS = 50
_OURS = b'<p class="kicker">fxhelpers</p>'
_NAME = re.compile(r'\{"(name|model)":"((?:[^"\\]|\\.)*)"')
_Lines = dict[tuple[str, str], str]  # lines of JSON by ("name", record) or ("model", registered model)


def add_record(record: Path) -> None:
    """Add a finished record to its gallery; a gallery that does not exist yet gets all records."""
    _append(record.parent.parent, lambda _: _line(card_of(record)))


def add_decision(folder: Path, decision: Decision) -> None:
    """Add a decision that has its outcome to the gallery: the champion by it, and since when."""

    def changed(facts: dict[str, Any]) -> str:
        if decision.outcome is None or facts.get("decided", "") > decision.time:
            return ""  # a later one is known already
        facts |= {"symbol": decision.symbol, "decided": decision.time, "asof": utc_now()}
        to, bundle = decision.to_version, decision.bundles.get(str(decision.to_version))
        if not decision.moved_at and (facts.get("champion"), facts.get("bundle") or bundle) != (to, bundle):
            facts |= {"champion": to, "since": None, "record": None}
        facts["bundle"] = bundle
        if decision.moved_at:
            periods = [[*period[:2], period[2] or decision.moved_at, *period[3:]] for period in facts.get("reigns", [])]
            periods.append([to, decision.moved_at, None, _marked(decision)])
            facts |= {"champion": to, "since": decision.moved_at, "record": decision.record, "reigns": periods[-_MOST_PERIODS:]}
        return _line({"model": decision.model_name, **facts})

    _append(folder, changed, model=decision.model_name)


def note_models(folder: Path, models: Iterable[Mapping[str, Any]], *, all_there_are: bool = False) -> None:
    """Add what is known of some models to the gallery: champion, production periods, findings of a verification.

    Each mapping names its registered model as ``model``; a missing key keeps its value. With ``all_there_are``, other models
    about which no registry ever decided are removed. The gallery of a user who may only read the records stays as it is.
    """
    models = list(models)
    if not can_write(folder / _LOCK):
        return

    def note(held: _Lines) -> None:
        if all_there_are:
            there = {_key("model", facts["model"]) for facts in models}
            for key in [key for key in held if key[0] == "model" and key not in there]:
                if not json.loads(held[key]).get("decided"):
                    del held[key]
        for facts in models:
            key = _key("model", facts["model"])
            before = json.loads(held.get(key, "{}"))
            older = before.get("decided", "") > (facts.get("decided") or "")  # decided after it was read
            whole = {**facts, **before, "verified": facts.get("verified")} if older else {**before, **facts}
            held[key] = _line({"model": facts["model"], **whole})

    _locked(folder, lambda: _write(folder, note))


def note_live(folder: Path, models: Iterable[Mapping[str, Any]]) -> None:
    """Add the next forecast or the last watch of some models to the gallery, by ``model``; the rest of what it knows stays.

    A forecast of an earlier session than the one there is left out.
    """
    models = list(models)
    if not models or not can_write(folder / _LOCK):
        return

    def note(held: _Lines) -> None:
        for facts in models:
            key = _key("model", facts["model"])
            before = json.loads(held.get(key, "{}"))
            if not ("next" in facts and before.get("next", [""])[0] > facts["next"][0]):
                held[key] = _line({**before, **facts})

    _locked(folder, lambda: _write(folder, note))


def standing(ledger: Ledger, champion: Identity | None) -> dict[str, Any]:
    """Return a model's line for :func:`note_models`: the version in Production by the registry, and those before it."""
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
    """Read all records again, write page and data anew, and return the page; of models it keeps what can be read."""
    _locked(folder, lambda: _write(folder, partial(_take_all, folder)))
    return folder / PAGE


def end_records(folder: Path) -> list[Path]:
    """Close the records whose process is gone as interrupted, each with its report and its line in the gallery; return them.

    Of the folder of records, only those marked as running are read.
    """
    with left_records(folder) as left:
        for record in left:
            if not report_path(record).exists():
                make_report(record)
            add_record(record)
    return left


def _append(folder: Path, line: Callable[[dict[str, Any]], str], *, model: str = "") -> None:
    """Append a line, made from the last one of a model, if any; a new gallery gets all records first."""

    def append() -> None:
        if not (folder / DATA).exists():
            _write(folder, partial(_take_all, folder))
        _write_page(folder / PAGE)
        with (folder / DATA).open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            added = line(_last(data, model) if model else {})
            if added:  # after a torn line on a new one
                file.seek(0, os.SEEK_END)
                file.write(("" if data[-1:] == b"\n" else "\n").encode() + f"{added}\n".encode())

    _locked(folder, append)


def _last(data: mmap.mmap, model: str) -> dict[str, Any]:
    """Return the last whole line about a model; empty without one."""
    start, end = f'\n{{"model":{json.dumps(model)},'.replace("<", "\\u003c").encode(), len(data)
    while (end := data.rfind(start, 0, end)) >= 0:
        stop = data.find(b"\n", end + 1)
        with suppress(ValueError):  # a torn line
            return dict(json.loads(data[end + 1 : stop if stop > 0 else len(data)]))
    return {}


def _locked(folder: Path, work: Callable[[], None]) -> None:
    """Work on the gallery alone; what cannot be read or written is a warning, since all of it can be made anew."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=_LOCK_SECONDS):
            work()
    except UNREADABLE as error:
        logger.warning("the gallery %s cannot be updated: %s (fx records makes it anew)", folder / PAGE, error)


def _write(folder: Path, change: Callable[[_Lines], None]) -> None:
    held = _read(folder)
    change(held)
    _write_page(folder / PAGE)
    models_last = sorted(held.items(), key=lambda item: item[0][0] == "model")  # whose lines are looked for from the end
    lines = "".join(f"{line}\n" for _, line in models_last)
    write_atomic(folder / DATA, f"{_data_page()}\n{lines}".encode())


def _write_page(page: Path) -> None:
    """Write the page, if it is not this one already; :class:`ValueError` if it is not a gallery."""
    there = page.read_bytes() if page.exists() else b""
    if there and _OURS not in there:
        msg = "it is not a gallery of fxhelpers; move it away"
        raise ValueError(msg)
    if there != _page():
        write_atomic(page, _page())


def _read(folder: Path) -> _Lines:
    """Return the whole lines of the data, or of a page of an earlier release, which held them itself."""
    source = next((path for path in (folder / DATA, folder / PAGE) if path.is_file()), None)
    held: _Lines = {}
    for line in source.read_text(encoding="utf-8", errors="replace").splitlines() if source else []:
        named, whole = _NAME.match(line), line.removesuffix(",")
        with suppress(ValueError):  # a torn line
            if named and json.loads(whole):
                held[named[1], named[2]] = whole
    return held


def _take_all(folder: Path, held: _Lines) -> None:
    for key in [key for key in held if key[0] == "name"]:
        del held[key]
    for record in (record for kept in record_folders(folder) for record in sorted(kept.glob("*.ipynb"))):
        try:
            held[_key("name", record_name(record))] = _line(card_of(record))
        except UNREADABLE as error:
            logger.warning("%s is left out of the gallery, it cannot be read: %s", record, error)


@cache
def _page() -> bytes:
    """Return the page; its script is the only one that a browser runs, by its digest."""
    return _with_script("gallery.html.j2", page_template("gallery.js").render(data=DATA)).encode()


@cache
def _data_page() -> str:
    """Return what comes before the data: a page that hands its text to the gallery around it; the browser closes its end."""
    script = (
        'addEventListener("DOMContentLoaded", () => parent.postMessage(document.getElementById("data").textContent, '
        'location.protocol === "file:" ? "*" : location.origin));'
    )
    return _with_script("gallery.data.html.j2", script)


def _with_script(template: str, script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page_template(template).render(script=script, digest=digest, data=DATA, page=PAGE)


def _key(kind: str, name: str) -> tuple[str, str]:
    """Return what a line is about, with the name as it stands in the line."""
    return kind, json.dumps(name)[1:-1].replace("<", "\\u003c")


def _line(facts: Mapping[str, Any]) -> str:
    """Return one line of JSON that begins with its name, cannot end a script, and leaves out what is not known."""
    known = {key: value for key, value in facts.items() if value not in (None, "", False)}
    return json.dumps(known, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
