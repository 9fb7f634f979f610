"""Report, gallery, copy and tags never decide how a run ends whose decision was taken; they are made later."""

import json
import sqlite3
from pathlib import Path

import pytest
from conftest import NAME, ROOT, Project
from test_cli import fx
from test_engine import header
from test_reports import lines

from fxhelpers import ModelRegistry
from fxhelpers.decisions import DECISION_TAG
from fxhelpers.registry.ledger_store import fetch
from fxhelpers.runs import run_notebook

NO_TAGS = """
CREATE TRIGGER no_{when} BEFORE {when} ON model_version_tags WHEN NEW.key IN ('fx.record', 'fx.decision')
BEGIN SELECT RAISE(ABORT, 'the disk is full'); END
"""


def promotion_then(project: Project, code: str) -> Path:
    """Write the notebook `promote` with one cell more, after its decision."""
    nb = json.loads((ROOT / "notebooks" / "promote.ipynb").read_text())
    cell = {"cell_type": "code", "id": "more", "metadata": {}, "outputs": [], "execution_count": None, "source": code}
    after = next(i for i, cell in enumerate(nb["cells"]) if "registry.promote(" in "".join(cell["source"]))
    nb["cells"].insert(after + 1, cell)
    path = project.folder / "probe.ipynb"
    path.write_text(json.dumps(nb))
    return path


@pytest.mark.usefixtures("thorough")
def test_what_cannot_be_made_after_a_decision_is_a_warning_and_made_later(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    ModelRegistry().register_model(project.bundle())
    database = project.folder / "outputs" / "registry" / "mlflow.db"
    blocks = (
        "import os, sqlite3\nfrom pathlib import Path\n"
        f"[run] = Path('{database.parent}/artifacts').glob(f'{{decision.run_id}}/artifacts')\n"
        "(run / 'record').write_text('')\n"  # no folder can be made there
        "record = Path(os.environ['FX_RECORD'])\n"
        "record.with_suffix('.html').mkdir()\n(record.parent.parent / 'index.html').mkdir()\n"
        f"with sqlite3.connect('{database}') as db:\n"
        f"    for when in ('INSERT', 'UPDATE'):\n        db.execute({NO_TAGS!r}.format(when=when))"
    )
    notebook = promotion_then(project, blocks)
    result = run_notebook(notebook, {"apply": True, "override": True, "reason": "a drill"}, preloaded=True)
    assert (result.status, result.error) == ("completed", None)
    for word in (
        "is not copied to the registry",
        "is not tagged with its record",
        "the report of",
        "the gallery",
    ):
        assert word in caplog.text
    registry = ModelRegistry()
    decision = registry.history("AAPL").ledger.decisions[-1]
    assert (decision.result, decision.seal is not None) == ("promoted", True)
    assert registry.get_production_model(NAME) is not None
    assert [problem.remedy for problem in registry.verify(deep=True).problems] == ["fx verify --repair stores it"]

    record = result.record
    record.with_suffix(".html").rmdir()
    (record.parent.parent / "index.html").rmdir()
    [run] = (database.parent / "artifacts").glob(f"{decision.run_id}/artifacts")
    (run / "record").unlink()
    with sqlite3.connect(database) as db:
        db.execute("DROP TRIGGER no_INSERT")
        db.execute("DROP TRIGGER no_UPDATE")
    fx("verify", "--repair")
    fx("records", "--no-open")
    assert fetch(registry.client, decision, f"record/{record.name}") == record.read_bytes()
    assert registry.client.version(NAME, 1).tags["fx.record"] == f"AAPL/{record.name}"
    assert record.with_suffix(".html").is_file()
    assert [card["name"] for card in lines(project, "records")] == [f"AAPL/{record.name}"]
    assert registry.verify(deep=True).problems == []
    caplog.clear()
    registry.verify(repair=True)
    assert caplog.text == ""  # once is enough


def test_a_registration_whose_version_cannot_be_tagged_was_taken(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    database = project.folder / "outputs" / "registry" / "mlflow.db"
    with sqlite3.connect(database) as db:
        for when in ("INSERT", "UPDATE"):
            db.execute(NO_TAGS.format(when=when))
    assert ModelRegistry().register_model(project.bundle()).version == 1
    assert "version 1 is not tagged with" in caplog.text
    with sqlite3.connect(database) as db:
        db.execute("DROP TRIGGER no_INSERT")
    registry = ModelRegistry()
    decision = registry.history("AAPL").ledger.decisions[-1]
    registry.verify(repair=True)
    assert registry.client.version(NAME, 1).tags[DECISION_TAG].endswith(decision.id)
    assert registry.verify().findings == ()


@pytest.mark.usefixtures("thorough")
def test_where_the_record_itself_cannot_be_closed_the_next_run_closes_it(project: Project) -> None:
    """The folder of its symbol becomes a file's: nothing can be written there any more."""
    probe = project.probe("import os\nfolder = os.path.dirname(os.environ['FX_RECORD'])\nos.rename(folder, folder + '.away')")
    probe.write_text(probe.read_text().replace("folder + '.away')", "folder + '.away')\\nopen(folder, 'w')"))
    with pytest.raises(Exception, match="the record cannot be written"):
        run_notebook(probe, {}, preloaded=True)
    folder = project.folder / "outputs" / "records"
    (folder / "AAPL").unlink()
    (folder / "AAPL.away").rename(folder / "AAPL")
    (record,) = project.records()
    assert header(record)["status"] == "running"
    run_notebook(project.probe("1"), {"symbol": "IBM"}, preloaded=True)
    assert header(record)["status"] == "interrupted"
