"""Reports and the gallery: what people read says the truth, whole, and a damaged page costs nothing."""

import hashlib
import html
import json
import logging
import re
import shlex
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from conftest import NAME, ROOT, Project
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from fxhelpers import ModelRegistry
from fxhelpers.records import SUMMARY_MIME, mark_running
from fxhelpers.registry.ledger_store import fetch
from fxhelpers.reports import add_decision, add_record, note_models, rebuild_gallery, standing
from fxhelpers.reports.report import report_of, write_missing_reports
from fxhelpers.runs import RunResult, run_notebook


def run(name: str, **parameters: object) -> RunResult:
    result = run_notebook(ROOT / "notebooks" / f"{name}.ipynb", {"symbol": "AAPL", **parameters}, preloaded=True)
    assert result.error is None
    return result


def page_of(result: RunResult) -> str:
    return result.record.with_suffix(".html").read_text()


class Text(HTMLParser):
    """What a reader sees of a page, and which tags there are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.seen = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def lines(project: Project, block: str) -> list[dict[str, object]]:
    """Lines of the gallery as its page reads them: the last one about a record or a model counts, a torn one does not."""
    data = (project.folder / "outputs" / "records" / "index.data.html").read_text().partition('id="data">\n')[2]
    held: dict[str, dict[str, object]] = {}
    for line in data.splitlines():
        with suppress(ValueError):
            told = json.loads(line)
            held[f"{told.get('name')} {told.get('model')}"] = told
    return [told for told in held.values() if {"records": "name", "models": "model"}[block] in told]


def test_a_promotion_is_understood_from_its_report_alone(project: Project, registered: Callable[..., int]) -> None:
    registered("regularised", stage="Production")
    registered("lighter")
    result = run("promote", apply=True, override=True, reason="a <b>fresher</b> model", approved_by="R. Head")
    page = page_of(result)
    told = Text(page)
    assert "PROMOTED" in told.seen
    assert "AGAINST THE VERDICT" in told.seen
    assert "Version 2 serves now, version 1 did before" in told.seen
    assert '"a <b>fresher</b> model"' in told.seen  # as it was typed
    assert "approved by R. Head" in told.seen
    assert "95 % interval" in told.seen
    assert "fx rollback AAPL --version 1 --reason" in told.seen
    assert hashlib.sha256(result.record.read_bytes()).hexdigest() in told.seen
    images = [attributes for tag, attributes in told.tags if tag == "img"]
    assert images
    assert all("version 2" in str(image["alt"]) for image in images)
    for image in images:
        drawn = Image.open(BytesIO(b64decode(str(image["src"]).partition(",")[2])))
        assert drawn.width == 2 * int(str(image["width"]))  # sharp, on paper too
    assert len(images) == 6  # evidence on two screens, and folded the errors
    assert len(page) < 1_000_000
    assert "script" not in {tag for tag, _ in told.tags}
    assert not [value for _, attributes in told.tags for value in attributes.values() if str(value).startswith("http")]

    registry = ModelRegistry()
    decision = registry.history("AAPL").ledger.decisions[-1]
    assert fetch(registry.client, decision, f"record/{result.record.stem}.html") == page.encode()
    assert not registry.verify().problems
    result.record.with_suffix(".html").write_text(page.replace("AGAINST THE VERDICT", ""))
    (problem,) = registry.verify().problems
    assert "the report" in problem.message
    assert "was edited" in problem.message

    (model,) = lines(project, "models")
    assert (model["champion"], model["record"]) == (2, f"AAPL/{result.record.name}")
    assert [period[0] for period in model["reigns"]] == [1, 2]  # type: ignore[attr-defined]
    assert model["reigns"][1][3] == "against the verdict, no evidence of skill"  # type: ignore[index]
    assert "the report" in model["verified"]["problems"][0]  # type: ignore[index]


def commands(page: str) -> list[str]:
    return [html.unescape(text.strip()) for text in re.findall(r"<pre><code>(fx .*?)</code></pre>", page, re.DOTALL)]


@pytest.mark.usefixtures("thorough")
def test_a_promotion_without_skill_says_so_first_wherever_it_is_shown(project: Project, registered: Callable[..., int]) -> None:
    registered("regularised")
    result = run("promote", apply=True, reason="it's the first; really?")
    page, words = page_of(result), "forecasts a rise on every one of 768 days"
    told = Text(page)
    first = told.seen.partition("Why ")[2].partition(". ")[0]
    assert words in first
    assert "no evidence of skill" in first
    badges = re.findall(r'class="badge (\w+)">([^<]*)', page)
    assert badges == [("doubt", "PROMOTED"), ("doubt", "VERDICT: PROMOTE"), ("doubt", "NO EVIDENCE OF SKILL")]
    assert "no approver is named: the policy alone decided" in told.seen
    assert "prices are a sample to try things out, and old: they end on 2013-02-28" in told.seen
    assert "features drifted since training" in told.seen
    assert told.seen.count(words) == 1  # the reason is in the card alone
    assert told.seen.count("How sure") == 1
    assert told.seen.count("p < 0.05") == 2  # in the reason, and in the table of gates
    assert commands(page) == ["fx run promote -p symbol AAPL -p apply true -p reason 'it'\"'\"'s the first; really?'"]
    assert not re.search(r"<td[^>]*>-</td></tr></table>", page)
    assert not re.search(r"<tr><th[^>]*>[^<]*</th>(<td[^>]*>-</td>)+</tr>", page)
    (card,) = lines(project, "records")
    assert words in str(card["text"]).partition(". ")[0]
    assert (card["mark"], card["unseen"]) == ("no evidence of skill", True)
    (model,) = lines(project, "models")
    assert model["reigns"][0][3] == "no evidence of skill"  # type: ignore[index]
    registry = ModelRegistry()
    history, overview = registry.history("AAPL"), registry.overview()
    for shown in (
        history.to_csv(),
        history._repr_html_(),
        history.production_periods().to_csv(),
        overview.champions._repr_html_(),
        overview.decisions._repr_html_(),
        str(registry.versions_frame("AAPL")["last decision"].iloc[0]),
        history.ledger.decisions[-1].message,
    ):
        assert "no evidence of skill" in shown
    assert registry.verify(deep=True).findings == ()


def test_a_report_shows_the_command_of_its_own_run(project: Project) -> None:
    result = run_notebook(
        ROOT / "notebooks" / "train.ipynb",
        {"symbol": "IBM", "model": "regularised", "overrides": {"max_iter": 5, "activation": "tanh"}},
        preloaded=True,
    )
    (command,) = commands(page_of(result))
    words = shlex.split(command)
    assert words[:7] == ["fx", "run", "train", "-p", "symbol", "IBM", "-p"]
    assert words[7:10] == ["model", "regularised", "-p"]
    assert json.loads(words[11]) == {"max_iter": 5, "activation": "tanh"}
    assert "AAPL" not in command
    plain = run_notebook(ROOT / "notebooks" / "index.ipynb", {"latest": 15}, preloaded=True)
    assert commands(page_of(plain)) == ["fx run index"]
    failed = run_notebook(
        ROOT / "notebooks" / "rollback.ipynb", {"symbol": "IBM", "apply": True, "reason": "a\n`b`"}, preloaded=True
    )
    assert failed.error
    assert [shlex.split(words) for words in commands(page_of(failed))] == [
        ["fx", "run", "rollback", "-p", "symbol", "IBM", "-p", "apply", "true", "-p", "reason", "a\n`b`"]
    ]


def test_a_failed_run_shows_its_error_first_and_the_traceback_behind_it(project: Project) -> None:
    result = run_notebook(ROOT / "notebooks" / "compare.ipynb", {"symbol": "AAPL"}, preloaded=True)
    assert result.error
    page = page_of(result)
    told = Text(page)
    assert "FAILED" in told.seen
    assert told.seen.index("has no version to compare") < told.seen.index("Traceback")
    assert "<details><summary>Traceback" in page
    (card,) = lines(project, "records")
    assert card["status"] == "failed"
    assert "has no version to compare" in str(card["text"])


def make_record(project: Project, name: str, *outputs: nbformat.NotebookNode, symbol: str = "AAPL", **more: object) -> Path:
    told: dict[str, object] = {
        "name": name,
        "symbol": symbol,
        "status": "completed",
        "started": "2026-11-23T10:00:00.000+00:00",
        **more,
    }
    cells = [
        new_markdown_cell("# A title: what?\n\ntext"),
        new_markdown_cell("## One"),
        new_code_cell("x", outputs=list(outputs)),
    ]
    nb = new_notebook(cells=cells, metadata={"fxhelpers": {"notebook": "probe", "record": told}})
    path = project.folder / "outputs" / "records" / symbol / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path


def test_what_a_notebook_prints_cannot_become_a_part_of_the_page(project: Project) -> None:
    attack = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31mred\x1b[0m"
    outputs = [
        new_output("stream", name="stdout", text=attack),
        new_output("display_data", {"text/plain": attack}),
        new_output("error", ename=attack, evalue=attack, traceback=[attack]),
        new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": f'"{attack}'}}),
    ]
    record = make_record(project, f"{attack[:16].replace('/', '-')}.ipynb", *outputs)
    told = Text(report_of(record.name, record.read_bytes()))
    assert [tag for tag, _ in told.tags].count("img") == 1
    assert "script" not in {tag for tag, _ in told.tags}
    assert "<script>alert(1)</script>" in told.seen
    policy = next(a["content"] for tag, a in told.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    safe = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
    assert policy == safe  # also what cells show as HTML runs nothing
    add_record(record)
    (card,) = lines(project, "records")
    assert card["name"] == f"AAPL/{record.name}"


def test_what_is_no_summary_of_ours_ends_no_run(project: Project) -> None:
    odd = {"result": 42, "verdict": float("nan"), "reason": 5, "version": [1]}
    record = make_record(
        project, "20261123T100000Z-probe-1.ipynb", new_output("display_data", {"text/plain": "odd", SUMMARY_MIME: odd})
    )
    assert "42" in Text(report_of(record.name, record.read_bytes())).seen
    for foreign in ("[]", "5", '{"metadata": []}', "{"):
        (record.parent / f"{len(foreign)}.ipynb").write_text(foreign)
    rebuild_gallery(record.parent.parent)
    assert [card["verdict"] for card in lines(project, "records")] == ["nan"]
    assert write_missing_reports(record.parent.parent) == 1


def test_the_card_answers_the_question_of_the_title(project: Project) -> None:
    summary = {"notebook": "train", "answer": "Better than zero return.", "result": "better than zero"}
    record = make_record(
        project, "20261123T100000Z-train-1.ipynb", new_output("display_data", {"text/plain": "-", SUMMARY_MIME: summary})
    )
    assert "Answer Better than zero return. By" in Text(report_of(record.name, record.read_bytes())).seen


def test_a_run_that_failed_after_its_decision_says_so(project: Project) -> None:
    told = {"status": "failed", "error": "boom", "decisions": [[NAME, "run"]]}
    record = make_record(project, "20261123T100000Z-probe-1.ipynb", **told)
    assert "may have moved the champion. See fx history AAPL" in Text(report_of(record.name, record.read_bytes())).seen
    add_record(record)
    assert "had begun a decision" in str(lines(project, "records")[0]["text"])


def test_the_report_of_a_run_that_is_at_work_is_left_to_it(project: Project) -> None:
    record = make_record(project, "20261123T100000Z-probe-1.ipynb", status="running")
    marker = mark_running(record)
    assert write_missing_reports(record.parent.parent) == 0
    marker.remove()


def test_a_decision_that_comes_late_does_not_turn_the_gallery_back(project: Project, registered: Callable[..., int]) -> None:
    registered("regularised", stage="Production")
    registered("lighter", stage="Production")
    registry, folder = ModelRegistry(), project.folder / "outputs" / "records"
    ledger = registry.history("AAPL").ledger
    first, *_, last = ledger.decisions
    for decision in (last, first):
        add_decision(folder, decision)
    old = {**standing(ledger, ledger.former), "decided": first.time, "verified": {"time": "now", "problems": []}}
    note_models(folder, [old])
    (model,) = lines(project, "models")
    assert (model["champion"], model["verified"]) == (2, {"time": "now", "problems": []})


def test_symbols_are_what_the_registry_knows_and_not_what_was_typed(project: Project, registered: Callable[..., int]) -> None:
    registered("regularised", stage="Production")
    folder = project.folder / "outputs" / "records"
    typed = make_record(project, "20261123T100000Z-probe-1.ipynb", symbol="APPL", status="failed", error="no such symbol")
    checkpoint = make_record(project, "20261123T100000Z-probe-2.ipynb", symbol=".ipynb_checkpoints")
    (folder / "backup").mkdir()
    (folder / "backup" / "torn.ipynb").write_text("{")
    lost = make_record(project, "20261123T100000Z-probe-3.ipynb", symbol="GONE", decisions=[["MLP_Stock_Predictor_GONE", "run"]])
    yesterday = {"model": "MLP_Stock_Predictor_APPL", "symbol": "APPL", "verified": {"time": "now", "problems": []}}
    elsewhere = {"model": "MLP_Stock_Predictor_MSFT", "symbol": "MSFT", "champion": 1, "decided": "2026-01-01"}
    note_models(folder, [yesterday, elsewhere])
    rebuild_gallery(folder)
    found = ModelRegistry().verify()
    assert found.models == ("MLP_Stock_Predictor_AAPL", "MLP_Stock_Predictor_GONE")  # its ledger is gone, its record is not
    assert [problem.model for problem in found.problems] == ["MLP_Stock_Predictor_GONE"]
    assert {model["symbol"] for model in lines(project, "models")} == {"AAPL", "GONE", "MSFT"}
    names = {str(record["name"]) for record in lines(project, "records")}
    assert names == {f"APPL/{typed.name}", f"GONE/{lost.name}"}
    assert write_missing_reports(folder) == 2
    assert not checkpoint.with_suffix(".html").exists()


def test_a_page_of_somebody_else_is_left_alone(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    record = make_record(project, "20261123T100000Z-probe-1.ipynb")
    page = record.parent.parent / "index.html"
    page.write_text("my own")
    with caplog.at_level(logging.WARNING):
        add_record(record)
    assert page.read_text() == "my own"
    assert "not a gallery of fxhelpers" in caplog.text


def test_the_same_record_gives_the_same_report_and_missing_ones_are_made(project: Project) -> None:
    record = make_record(project, "20261123T100000Z-probe-1.ipynb")
    assert report_of(record.name, record.read_bytes()) == report_of(record.name, record.read_bytes())
    (record.parent / "torn.ipynb").write_text("{")
    assert write_missing_reports(record.parent.parent) == 1
    assert "A title: what?" in record.with_suffix(".html").read_text()
    assert write_missing_reports(record.parent.parent) == 0


def test_a_damaged_gallery_ends_no_run_and_is_made_anew(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = (make_record(project, f"20261123T10000{n}Z-probe-{n}.ipynb") for n in range(3))
    folder = first.parent.parent
    add_record(first)
    assert len(lines(project, "records")) == 3  # a new gallery gets all that is there
    page, data = folder / "index.html", folder / "index.data.html"
    data.write_text(data.read_text().replace('{"name":"AAPL/20261123T100001', "garbage"))
    assert len(lines(project, "records")) == 2  # the others are shown
    rebuild_gallery(folder)
    assert len(lines(project, "records")) == 3
    data.write_bytes(data.read_bytes()[:-30])  # torn
    assert len(lines(project, "records")) == 2
    add_record(first)
    assert len(lines(project, "records")) == 2
    add_record(third)
    assert len(lines(project, "records")) == 3
    rebuild_gallery(folder)
    assert len(data.read_text().partition('id="data">\n')[2].splitlines()) == 3
    page.unlink()
    page.mkdir()  # cannot be replaced by a file
    with caplog.at_level(logging.WARNING):
        add_record(second)
    assert "fx records makes it anew" in caplog.text
    page.rmdir()
    second.unlink()
    rebuild_gallery(folder)
    assert [card["name"] for card in lines(project, "records")] == [f"AAPL/{first.name}", f"AAPL/{third.name}"]


def test_a_gallery_of_an_earlier_release_is_taken_over(project: Project) -> None:
    """Its page held the lines itself."""
    record = make_record(project, "20261123T100000Z-probe-1.ipynb")
    page = record.parent.parent / "index.html"
    model = '{"model":"MLP_Stock_Predictor_MSFT","symbol":"MSFT","champion":1,"decided":"2026-01-01"},'
    start = '<script type="application/json" id='
    blocks = f'{start}"records">[\nnull]</script>{start}"models">[\n{model}\nnull]</script>'
    page.write_text(f'<p class="kicker">fxhelpers</p>\n<h1>Records</h1>\n{blocks}')
    add_record(record)
    assert [told["symbol"] for told in lines(project, "models")] == ["MSFT"]
    assert [told["name"] for told in lines(project, "records")] == [f"AAPL/{record.name}"]
    assert "index.data.html" in page.read_text()


def test_a_record_is_added_without_reading_or_rewriting_the_others(project: Project) -> None:
    first, second = (make_record(project, f"20261123T10000{n}Z-probe-{n}.ipynb") for n in range(2))
    add_record(first)
    data = first.parent.parent / "index.data.html"
    before, file = data.read_bytes(), data.stat().st_ino
    add_record(second)
    assert data.stat().st_ino == file
    assert data.read_bytes().startswith(before)
    assert data.read_bytes().count(b"\n") == before.count(b"\n") + 1


def test_records_that_end_at_once_are_all_in_the_gallery(project: Project) -> None:
    records = [make_record(project, f"20261123T1000{n:02d}Z-probe-{n}.ipynb", symbol=f"S{n}") for n in range(12)]
    threads = [threading.Thread(target=add_record, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {card["symbol"] for card in lines(project, "records")} == {f"S{n}" for n in range(12)}
    assert NAME not in (project.folder / "outputs" / "records" / "index.html").read_text()
