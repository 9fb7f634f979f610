"""What the report of a record and the gallery share: templates, and a record in a few words."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, Template

from fxhelpers.records import is_running, is_unseen, promotion_label, read_summary, record_name, report_path

_LONGEST = 240  # characters of a reason
_TOLD = ("verdict", "result", "version", "override")


@cache
def page_template(name: str) -> Template:
    """Return a template of this folder; it escapes what is not marked as HTML, and can include the style sheet."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("fxhelpers.reports"), autoescape=True)


def answer_of(kind: str, summary: Mapping[str, Any]) -> str:
    """Return the answer to a notebook's question, in a sentence; "" if its summary has none.

    Parameters
    ----------
    kind : str
        Name of the notebook, such as ``train``.
    summary : dict
        Its summary, also that of an earlier release, which holds no ``answer``.
    """
    ratio, applied = summary.get("rmse_over_zero"), summary.get("applied")
    if summary.get("answer"):
        return str(summary["answer"])
    if kind in {"train", "evaluate"} and isinstance(ratio, float):
        return f"RMSE {summary.get('rmse')}: {ratio:.4f} times that of forecasting zero."
    if kind == "retain":
        counts = {verb: len(summary.get(verb) or []) for verb in ("archive", "prune")}
        facts = [f"{count} {'' if applied else 'to '}{verb}{'d' * bool(applied)}" for verb, count in counts.items() if count]
        return f"Versions: {', '.join(facts)}." if facts else "No version is due."
    if kind == "history":
        versions = [f"version {version}" for version in summary.get("in_production") or [] if version]
        return f"In Production: {', '.join(versions) or 'no version'} ({summary.get('at')})."
    return ""


def card_of(record: Path) -> dict[str, Any]:
    """Return what the gallery shows of a record; :class:`ValueError`, :class:`KeyError`, … if it is not one."""
    nb = json.loads(record.read_bytes())
    about = nb["metadata"]["fxhelpers"]
    facts, summary = about["record"], read_summary(nb) or {}
    kind = about["notebook"]
    text = str(facts.get("error") or summary.get("reason") or answer_of(kind, summary) or summary.get("decided") or "")
    if facts.get("decisions") and not summary:
        text = f"It had begun a decision (fx history). {text}"
    return {
        "name": record_name(record),
        "symbol": facts.get("symbol"),
        "kind": kind,
        "status": "interrupted" if facts["status"] == "running" and not is_running(record, facts) else facts["status"],
        "started": facts["started"][:19],
        "actor": facts.get("actor"),
        "mark": promotion_label(summary),
        "unseen": is_unseen(summary),
        **{key: str(summary[key]) for key in _TOLD if summary.get(key)},
        "report": report_path(record).exists(),
        "text": _cut(text),
    }


def _cut(text: str) -> str:
    """Return the beginning of a long reason, and of what it also says."""
    if len(text) <= _LONGEST:
        return text
    first, also, rest = text.partition(" Also: ")
    parts = [f"{part[: most - 1]}…" if len(part) > most else part for part, most in ((first, _LONGEST), (rest, _LONGEST // 2))]
    return also.join(parts)
