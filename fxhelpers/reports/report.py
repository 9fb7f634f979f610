"""The report of a record: one page without code, for people who decide.

A section whose heading has the tag ``fold`` is closed until the reader opens it.
"""

import ast
import html
import json
import logging
import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, Template, TemplateError

from fxhelpers.display import CARD, shown
from fxhelpers.records import (
    SUMMARY_MIME,
    is_running,
    is_unseen,
    promotion_label,
    read_summary,
    record_folders,
    record_name,
    report_path,
)
from fxhelpers.system import UNREADABLE, sha256, write_atomic

if TYPE_CHECKING:
    from nbconvert.exporters.html import HTMLExporter

logger = logging.getLogger(__name__)

_TITLE = re.compile(r"^# (.+)\n?", re.MULTILINE)
_SECTION = re.compile(r'(?=<div class="text[^"]*"><h2>)')
_HEADING = re.compile(r'<div class="text(?P<fold> fold)?"><h2>(?P<name>.*?)</h2>', re.DOTALL)
_COUNTED = ("failed", "promoted", "promote", "keep", "inconclusive")  # of a batch
_COMMAND = re.compile(r"^```[a-z]*\n(?:[^`]*\n)?(?:fx|papermill) [^`]*```$", re.MULTILINE)
_ONE_AT_A_TIME = Lock()  # an exporter keeps state while it works
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
    """Return the answer to a notebook's question, in a sentence; "" if its summary, perhaps of an earlier release, has none."""
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
    if len(text) <= _LONGEST:
        return text
    first, also, rest = text.partition(" Also: ")
    parts = [f"{part[: most - 1]}…" if len(part) > most else part for part, most in ((first, _LONGEST), (rest, _LONGEST // 2))]
    return also.join(parts)


def write_report(record: Path) -> Path:
    """Write the report of a finished record beside it, with the suffix ``.html``, and return its path."""
    page = report_path(record)
    write_atomic(page, report_of(record.name, record.read_bytes()).encode())
    return page


def make_report(record: Path) -> bool:
    """Write a report, and return whether that worked; a failure is a warning, as the record holds all that the report says."""
    import nbformat

    try:
        write_report(record)
    except (*UNREADABLE, nbformat.ValidationError, TemplateError) as error:
        logger.warning("the report of %s cannot be written: %s (fx records makes it anew)", record.name, error)
        return False
    return True


def write_missing_reports(folder: Path) -> int:
    """Write the reports of finished records that have none, such as those of earlier releases, and return how many."""
    import nbformat

    made = 0
    found = (record for kept in record_folders(folder) for record in sorted(kept.glob("*.ipynb")))
    for record in (record for record in found if not report_path(record).exists()):
        try:
            running = is_running(record, json.loads(record.read_bytes())["metadata"]["fxhelpers"]["record"])
        except (*UNREADABLE, nbformat.ValidationError) as error:
            logger.warning("%s gets no report, it cannot be read: %s", record, error)
            continue
        made += not running and make_report(record)
    return made


def report_of(name: str, content: bytes) -> str:
    """Return the report of a record as HTML: one page without network and scripts. The same bytes give the same page."""
    import nbformat

    nb = nbformat.reads(content.decode(), as_version=4)
    facts, kind, summary = nb.metadata["fxhelpers"]["record"], nb.metadata["fxhelpers"]["notebook"], read_summary(nb) or {}
    title = _take_title(nb)
    _leave_to_card(nb, summary)
    with _ONE_AT_A_TIME:
        body, _ = _exporter().from_notebook_node(nb)
    body, contents = _in_sections(body)
    return page_template("report.html.j2").render(
        version=version("fxhelpers"),
        name=name,
        title=title or name,
        kind=kind,
        symbol=facts.get("symbol"),
        started=facts["started"],
        badges=_badges(facts, summary),
        glance=_glance(facts, summary, kind),
        contents=contents,
        body=body,
        provenance=_provenance(nb, facts, summary),
        sha256=sha256(content),
        decides=bool(facts.get("decisions")),
    )


@cache
def _exporter() -> "HTMLExporter":
    from nbconvert.exporters.html import HTMLExporter  # half a second

    folder = str(Path(__file__).parent / "templates")
    return HTMLExporter(template_name="cells", extra_template_basedirs=[folder], exclude_anchor_links=True)


def command_of(nb: Any) -> str:  # noqa: ANN401 (nbformat's nodes have no types)
    """Return the shell command that runs a notebook as this record was: its symbol, and what differs from the defaults."""
    facts, kind = nb.metadata["fxhelpers"]["record"], nb.metadata["fxhelpers"]["notebook"]
    source = facts.get("source") or f"{kind}.ipynb"
    words = ["fx", "run", kind if source == f"{kind}.ipynb" else source]
    defaults = _defaults(nb)
    given = dict(nb.metadata.get("papermill", {}).get("parameters", {}))
    if "symbol" in defaults:
        given = {"symbol": given.pop("symbol", defaults["symbol"]), **given}
    for name, value in given.items():
        if name == "symbol" or name not in defaults or value != defaults[name]:
            words += ["-p", name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)]
    return shlex.join(words)


def _defaults(nb: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the defaults in a notebook's cell of parameters; of one that cannot be read, none."""
    source = next((cell.source for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])), "")
    try:
        body = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign | ast.Assign) and node.value]
        targets = [(node.target if isinstance(node, ast.AnnAssign) else node.targets[0], node.value) for node in body]
        return {to.id: ast.literal_eval(value) for to, value in targets if isinstance(to, ast.Name) and value}
    except (SyntaxError, ValueError):
        return {}


def _take_title(nb: Any) -> str:  # noqa: ANN401
    """Take the first cell's title out of it, which the page has at its top, and put the run's own command into it."""
    import nbformat

    command = command_of(nb)
    if nb.cells[0].cell_type != "markdown":
        nb.cells.insert(0, nbformat.v4.new_markdown_cell())
    first = nb.cells[0]
    found = _TITLE.search(first.source) or [""]
    fence = "`" * (3 + max((len(ticks) for ticks in re.findall("`+", command)), default=0))
    text = _COMMAND.sub("", first.source.replace(found[0], "", 1)).strip()
    first.source = f"{text}\n\n{fence}\n{command}\n{fence}"
    return found[0].removeprefix("# ").strip()


def _leave_to_card(nb: Any, summary: dict[str, Any]) -> None:  # noqa: ANN401
    """Take out of the outputs what the card and the provenance say; a section that is left without output goes, too."""
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if "text/html" in data and (summary.get("reason") or SUMMARY_MIME in data):
            data["text/html"] = CARD.sub("", data["text/html"])


def _in_sections(body: str) -> tuple[str, list[dict[str, str]]]:
    """Give each section an id, close those to fold, put what comes before the first one last, and list them all."""
    contents: list[dict[str, str]] = []
    first, *parts = _SECTION.split(re.sub("<th([^>]*)></th>", r"<td\1></td>", body))  # pandas heads its index with nothing
    made = []
    for part in parts:
        heading = _HEADING.match(part)
        name, there = (heading["name"], heading.end()) if heading else ("", 0)
        anchor = f"section-{len(contents) + 1}"
        contents.append({"id": anchor, "name": html.unescape(re.sub("<.*?>", "", name))})
        rest = f'<div class="text">{part[there:]}'
        folded = heading and heading["fold"] and 'class="error"' not in part
        made.append(_folded(anchor, name, rest) if folded else f'<h2 id="{anchor}">{name}</h2>{rest}')
    if 'class="error"' in first:
        made.insert(0, first)
    else:
        made.append(_folded("command", "Purpose, command and registry", first))
    more = [{"id": "provenance", "name": "Provenance"}, {"id": "verify", "name": "How to verify it"}]
    return "".join(made), contents + more


def _folded(anchor: str, name: str, content: str) -> str:
    """Return a closed section; a link opens it only if its target is in the content."""
    return f'<details><summary><h2>{name}</h2></summary><div id="{anchor}">{content}</div></details>'


def _badges(facts: dict[str, Any], summary: dict[str, Any]) -> list[dict[str, str]]:
    """Return what came of the run, the most important first."""
    result, verdict = (str(summary.get(key) or "").strip() for key in ("result", "verdict"))
    if facts["status"] != "completed":
        return [_badge(facts["status"])]
    badges = [_badge(result)] if result else []
    badges += [_badge(verdict, f"verdict: {verdict}" if result else verdict)] if verdict else []
    mark = promotion_label(summary)
    if mark:
        badges = [{**badge, "look": "doubt" if badge["look"].startswith("promote") else badge["look"]} for badge in badges]
        badges.append(_badge("doubt", mark))
    badges += [_badge("against", "against the verdict")] if summary.get("override") else []
    accepted = str(summary.get("accepted") or "").partition(":")[0]
    badges += [_badge("doubt", f"{accepted} accepted")] if accepted else []
    counts = {word: summary[word] for word in _COUNTED if isinstance(summary.get(word), int) and summary[word]}
    return badges or [_badge(word, f"{count} {word}") for word, count in counts.items()] or [_badge("completed")]


def _badge(look: str, text: str | None = None) -> dict[str, str]:
    return {"text": (text or look).upper(), "look": look.split(maxsplit=1)[0]}


def _glance(facts: dict[str, Any], summary: dict[str, Any], kind: str) -> dict[str, str]:
    decided = str(summary.get("decided") or "")
    if facts.get("decisions") and not summary:
        command = f"fx history {facts['symbol']}" if facts.get("symbol") else "fx verify"
        decided = f"Unknown: the run began a decision, which may have moved the champion. See {command}."
    why, _, also = str(summary.get("reason") or "").partition(" Also: ")
    agreed = f", approved by {summary['approved_by']}" if summary.get("approved_by") else ""
    if is_unseen(summary) and not summary.get("accepted"):
        agreed = " (no approver is named: the policy alone decided)"
    rows = {
        "Error": facts.get("error"),
        "Answer": answer_of(kind, summary),
        "Prices": summary.get("prices"),
        "Decided": decided,
        "Why": why,
        "Also": f"{also[0].upper()}{also[1:]}" if also else "",
        "Accepted": summary.get("accepted"),
        "How sure": summary.get("how_sure"),
        "By": f"{facts.get('actor', 'unknown')}{agreed}, on {facts['started'][:10]} at {facts['started'][11:16]} UTC",
        "To undo it": summary.get("undo"),
    }
    return {name: shown(value) for name, value in rows.items() if value}


def _provenance(nb: Any, facts: dict[str, Any], summary: dict[str, Any]) -> dict[str, str]:  # noqa: ANN401
    """Return what the record was made from, in the order to show it; what it does not say is left out."""
    git, run = facts.get("git"), nb.metadata.get("papermill", {})
    commit = f"{git['commit']}{', with changes that are not committed' if git['dirty'] else ''}" if git else None
    rows = {
        "record": facts["name"],
        "decision": summary.get("decision"),
        "its outcome's SHA-256": summary.get("outcome_sha256"),
        "batch": facts.get("batch"),
        "run by": facts.get("actor"),
        "started": facts["started"],
        "ended": facts.get("ended"),
        "status": facts["status"],
        "parameters given": json.dumps(run["parameters"], default=str) if run.get("parameters") else None,
        "notebook": f"{facts['source']}, SHA-256 {facts['source_sha256']}" if facts.get("source") else None,
        "params.yaml": facts.get("params_sha256"),
        "requirements.lock": facts.get("lock_sha256"),
        "inputs": facts.get("inputs_sha256"),
        "git commit": commit,
        "registry": facts.get("registry"),
        "kernel": facts.get("kernel"),
        "Python": facts.get("python"),
        "packages": ", ".join(f"{name} {number}" for name, number in facts.get("packages", {}).items()) or None,
    }
    return {name: str(value) for name, value in rows.items() if value}
