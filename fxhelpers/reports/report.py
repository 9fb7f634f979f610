"""The report of a record: one page without code, for people who decide."""

import ast
import html
import json
import logging
import re
import shlex
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import nbformat
from jinja2 import TemplateError
from nbconvert.exporters.html import HTMLExporter

from fxhelpers.files import UNREADABLE, sha256, write_atomic
from fxhelpers.records import SUMMARY_MIME, is_running, is_unseen, promotion_label, read_summary, record_folders, report_path
from fxhelpers.reports.pages import page_template
from fxhelpers.results import CARD, shown

logger = logging.getLogger(__name__)

_TITLE = re.compile(r"^# (.+)\n?", re.MULTILINE)
_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)
_GLANCE = {"decided": "Decided", "reason": "Why", "how_sure": "How sure", "undo": "To undo it"}
_COMMAND = re.compile(r"^```[a-z]*\n(?:[^`]*\n)?(?:fx|papermill) [^`]*```$", re.MULTILINE)
_ONE_AT_A_TIME = Lock()  # an exporter keeps state while it works


def write_report(record: Path) -> Path:
    """Write the report of a finished record beside it.

    Parameters
    ----------
    record : Path
        An executed notebook.

    Returns
    -------
    Path
        The page: the same name, with the suffix ``.html``.
    """
    page = report_path(record)
    write_atomic(page, report_of(record.name, record.read_bytes()).encode())
    return page


def make_report(record: Path) -> bool:
    """Write a report where that can be done; where not, that is a warning: all that it says is in the record.

    Parameters
    ----------
    record : Path
        An executed notebook.

    Returns
    -------
    bool
        Whether it was written.
    """
    try:
        write_report(record)
    except (*UNREADABLE, nbformat.ValidationError, TemplateError) as error:
        logger.warning("the report of %s cannot be written: %s (fx records makes it anew)", record.name, error)
        return False
    return True


def write_missing_reports(folder: Path) -> int:
    """Write the reports of records that have none, as those of earlier releases; what runs has its own written when it ends.

    Parameters
    ----------
    folder : Path
        Of the records.

    Returns
    -------
    int
        How many were written.
    """
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
    """Return the report of a record: one page that needs no network and runs no script.

    Parameters
    ----------
    name : str
        File name of the record.
    content : bytes
        The executed notebook.

    Returns
    -------
    str
        HTML. The same bytes give the same page.
    """
    nb = nbformat.reads(content.decode(), as_version=4)
    told, summary = nb.metadata["fxhelpers"]["record"], read_summary(nb) or {}
    title = _take_title(nb)
    _leave_to_card(nb, summary)
    with _ONE_AT_A_TIME:
        body, _ = _exporter().from_notebook_node(nb)
    body, contents = _with_anchors(body)
    return page_template("report.html.j2").render(
        version=version("fxhelpers"),
        name=name,
        title=title or name,
        kind=nb.metadata["fxhelpers"]["notebook"],
        symbol=told.get("symbol"),
        started=told["started"],
        badges=_badges(told, summary),
        glance=_glance(told, summary),
        contents=contents,
        body=body,
        provenance=_provenance(nb, told, summary),
        sha256=sha256(content),
        decides=bool(told.get("decisions")),
    )


@cache
def _exporter() -> HTMLExporter:
    folder = str(Path(__file__).parent / "templates")
    return HTMLExporter(template_name="cells", extra_template_basedirs=[folder], exclude_anchor_links=True)


def command_of(nb: Any) -> str:  # noqa: ANN401 (nbformat's nodes have no types)
    """Return the command that runs a notebook as this one was run: its symbol, and what differs from the notebook's defaults.

    Parameters
    ----------
    nb : NotebookNode
        A record.

    Returns
    -------
    str
        Quoted for a shell.
    """
    told, kind = nb.metadata["fxhelpers"]["record"], nb.metadata["fxhelpers"]["notebook"]
    source = told.get("source") or f"{kind}.ipynb"
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
    """Take out of the outputs what the card and the provenance say."""
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if "text/html" in data and (summary.get("reason") or SUMMARY_MIME in data):
            data["text/html"] = CARD.sub("", data["text/html"])


def _with_anchors(body: str) -> tuple[str, list[dict[str, str]]]:
    """Give each section an id, and return the list of contents."""
    contents: list[dict[str, str]] = []

    def anchored(heading: re.Match[str]) -> str:
        contents.append({"id": f"section-{len(contents) + 1}", "name": html.unescape(re.sub("<.*?>", "", heading[1]))})
        return f'<h2 id="{contents[-1]["id"]}">{heading[1]}</h2>'

    body = _HEADING.sub(anchored, body)
    body = re.sub("<th([^>]*)></th>", r"<td\1></td>", body)  # pandas heads the column of its index with nothing
    more = [{"id": "provenance", "name": "Provenance"}, {"id": "verify", "name": "How to verify it"}]
    return body, contents + more


def _badges(told: dict[str, Any], summary: dict[str, Any]) -> list[dict[str, str]]:
    """Return what came of the run, the most important first."""
    result, verdict = (str(summary.get(key) or "").strip() for key in ("result", "verdict"))
    if told["status"] != "completed":
        return [_badge(told["status"])]
    badges = [_badge(result)] if result else []
    badges += [_badge(verdict, f"verdict: {verdict}" if result else verdict)] if verdict else []
    mark = promotion_label(summary)
    if mark:
        badges = [{**badge, "look": "doubt" if badge["look"].startswith("promote") else badge["look"]} for badge in badges]
        badges.append(_badge("doubt", mark))
    badges += [_badge("against", "against the verdict")] if summary.get("override") else []
    return badges or [_badge("completed")]


def _badge(look: str, text: str | None = None) -> dict[str, str]:
    return {"text": (text or look).upper(), "look": look.split(maxsplit=1)[0]}


def _glance(told: dict[str, Any], summary: dict[str, Any]) -> dict[str, str]:
    """Return what a reader wants to know first."""
    rows = {"It ended in an error": told["error"]} if told.get("error") else {}
    if told.get("decisions") and not summary:
        rows["Decided"] = (
            f"Not known from here: the run had begun a decision, which may have moved the champion. {_ask(told)} tells."
        )
    rows |= {label: shown(summary[key]) for key, label in _GLANCE.items() if summary.get(key)}
    agreed = f", approved by {summary['approved_by']}" if summary.get("approved_by") else ""
    if is_unseen(summary):
        agreed = " (the policy alone decided, and nobody is named who approved it)"
    by = {"By": f"{told.get('actor', 'unknown')}{agreed}, on {told['started'][:10]} at {told['started'][11:16]} UTC"}
    before = {key: rows.pop(key) for key in ("It ended in an error", "Decided", "Why") if key in rows}
    return before | by | rows


def _ask(told: dict[str, Any]) -> str:
    return f"fx history {told['symbol']}" if told.get("symbol") else "fx verify"


def _provenance(nb: Any, told: dict[str, Any], summary: dict[str, Any]) -> dict[str, str]:  # noqa: ANN401
    """Return what the record was made from, in the order to show it; what it does not say is left out."""
    git, run = told.get("git"), nb.metadata.get("papermill", {})
    commit = f"{git['commit']}{', with changes that are not committed' if git['dirty'] else ''}" if git else None
    rows = {
        "record": told["name"],
        "decision": summary.get("decision"),
        "its outcome's SHA-256": summary.get("outcome_sha256"),
        "batch": told.get("batch"),
        "run by": told.get("actor"),
        "started": told["started"],
        "ended": told.get("ended"),
        "status": told["status"],
        "parameters given": json.dumps(run["parameters"], default=str) if run.get("parameters") else None,
        "notebook": _with_digest(told, "source", "source_sha256"),
        "params.yaml": told.get("params_sha256"),
        "requirements.lock": told.get("lock_sha256"),
        "inputs": told.get("inputs_sha256"),
        "git commit": commit,
        "registry": told.get("registry"),
        "kernel": told.get("kernel"),
        "Python": told.get("python"),
        "packages": ", ".join(f"{name} {number}" for name, number in told.get("packages", {}).items()) or None,
    }
    return {name: str(value) for name, value in rows.items() if value}


def _with_digest(told: dict[str, Any], name: str, digest: str) -> str | None:
    return f"{told[name]}, SHA-256 {told[digest]}" if told.get(name) else None
