"""What people see, in a real browser: the report, the gallery and JupyterLab."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, Project, jupyterlab
from playwright.sync_api import Browser, Page, sync_playwright

from fxhelpers.runs import run_notebook

WIDTHS = (400, 800, 1400)
SIDEWAYS = """[...document.querySelectorAll('.output')].filter(box => box.checkVisibility({contentVisibilityAuto: true})
  && box.scrollWidth > box.clientWidth + 1).map(box => box.innerText.slice(0, 200))"""
"""What a reader would have to push sideways."""
TWO_SCREENS = 2_300  # with the sentence about days that a recipe may have been thought up on
"""Pixels of a promotion's report, 940 px wide."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: install Debian's package chromium to test the pages in a browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # CI runs as root
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose console and network are watched: an error or a request ends the test."""
    opened = browser.new_page()
    faults: list[str] = []
    opened.on("console", lambda message: faults.append(message.text) if message.type in {"error", "warning"} else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    yield opened
    opened.close()
    assert faults == []


def accessible(page: Page) -> None:
    """Ask axe-core for everything that it knows, and the page for a scroll bar that it should not need."""
    found = Axe().run(page).response["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def run(name: str, **parameters: Any) -> Path:
    return run_notebook(ROOT / "notebooks" / f"{name}.ipynb", {"symbol": "AAPL", **parameters}, preloaded=True).record


@pytest.mark.usefixtures("thorough")
def test_reports_at_three_widths(project: Project, registered: Callable[..., int], page: Page) -> None:
    failed = run("compare", symbol="IBM")
    registered("regularised", stage="Production")
    registered("lighter")
    records = [failed, run("compare"), run("promote", apply=True), run("history")]
    project.write(prices={"calendar": "XNYS"})
    for name, values in {"forecast": {"as_of": "2013-02-28", "apply": True}, "watch": {}}.items():
        records.append(run_notebook(ROOT / "notebooks" / f"{name}.ipynb", values, preloaded=True).record)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for record in records:
            page.goto(record.with_suffix(".html").as_uri())
            accessible(page)
            assert page.evaluate(SIDEWAYS) == []
            for image in page.locator("img").all():
                assert image.evaluate("image => image.naturalWidth") > 0
    page.goto(records[2].with_suffix(".html").as_uri())
    page.set_viewport_size({"width": 940, "height": 1_000})
    assert page.evaluate("document.documentElement.scrollHeight") <= TWO_SCREENS
    code = page.get_by_text("registry.propose(")
    assert not code.is_visible()
    page.get_by_label("Show the code").check()
    assert code.is_visible()
    page.get_by_text("Contents", exact=True).click()
    page.get_by_role("link", name="How to verify it").click()
    assert page.url.endswith("#verify")
    assert page.get_by_text("sha256sum").is_visible()  # its section opened
    assert page.locator(".badge").first.text_content() == "REFUSED"


@pytest.mark.usefixtures("thorough")
def test_the_gallery_filters_ten_thousand_records(project: Project, registered: Callable[..., int], page: Page) -> None:
    registered("regularised", stage="Production")
    run("promote", apply=True)
    run("compare", symbol="IBM")  # fails
    gallery = project.folder / "outputs" / "records" / "index.html"
    data = gallery.with_name("index.data.html")
    card = next(json.loads(line) for line in data.read_text().splitlines() if line.startswith('{"name"'))
    dated = {n: f"20{n % 20:02d}-01-02T03:04:05" for n in range(9_998)}
    many = [{**card, "name": f"T{n % 500}/{n}.ipynb", "symbol": f"T{n % 500}", "started": day} for n, day in dated.items()]
    data.write_text(data.read_text() + "".join(f"{json.dumps(line)}\n" for line in many) + '{"name":"T1/torn.ipynb","sym')
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(gallery.as_uri())
        page.get_by_text("records, newest first").wait_for()
        accessible(page)
    assert page.locator("#count").text_content() == "10,000 of 10,000 records, newest first"
    assert page.locator("#list tbody tr").count() == 100
    page.get_by_role("button", name="Show more").last.click()
    assert page.locator("#list tbody tr").count() == 200
    page.get_by_label("Symbol").fill("aap")
    assert page.locator("#count").text_content() == "1 of 10,000 records, newest first"
    assert page.locator("#production tbody tr").count() == 1
    assert "symbol=AAP" in page.url
    page.reload()  # the address keeps what was chosen
    page.get_by_text("records, newest first").wait_for()
    assert page.locator("#count").text_content() == "1 of 10,000 records, newest first"
    page.locator("#list a").first.click()
    assert page.locator("h1").text_content() == "Promote: should the challenger serve?"
    page.go_back()
    page.get_by_text("records, newest first").wait_for()
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Verdict or result").select_option("failed")
    assert page.locator("#count").text_content() == "1 of 10,000 records, newest first"
    assert "has no version to compare" in str(page.locator("#list tbody").text_content())
    page.get_by_label("Verdict or result").select_option("")
    page.get_by_label("From (UTC)").fill("2018-01-01")
    page.get_by_label("To (UTC)").fill("2019-12-31")
    page.get_by_label("Kind").select_option("promote")
    assert page.locator("#count").text_content() == "998 of 10,000 records, newest first"


@pytest.mark.usefixtures("thorough")
def test_jupyterlab_runs_promote_and_shows_a_verdict(project: Project, registered: Callable[..., int], browser: Browser) -> None:
    registered("regularised", stage="Production")
    registered("lighter")
    notebooks = project.folder / "notebooks"
    notebooks.unlink()
    shutil.copytree(ROOT / "notebooks", notebooks)  # JupyterLab saves what it runs
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url.partition("://")[2].partition(":")[0]))
    with jupyterlab(project.folder / "home", project.folder) as uri:
        page.goto(uri)
        page.get_by_role("heading", name="Start: what is here").wait_for(timeout=60_000)
        assert not page.get_by_text("Jupyter news").is_visible()
        page.get_by_role("link", name="promote", exact=True).click()
        page.get_by_role("heading", name="Promote: should the challenger serve?").wait_for()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".jp-OutputArea-output", has_text="KEEP").first.wait_for(timeout=90_000, state="attached")
        summary = page.locator(".jp-OutputArea-output", has_text="champion after").last
        summary.wait_for(timeout=60_000, state="attached")
        assert "only shown" in str(summary.text_content())
        figure = page.locator(".jp-RenderedImage img").first
        figure.scroll_into_view_if_needed()
        assert figure.evaluate("image => image.naturalWidth / image.width") >= 2  # sharp on any screen
        page.close()
    assert asked <= {"127.0.0.1", ""}
