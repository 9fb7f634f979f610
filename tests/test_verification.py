"""One story, told by notebooks, and everything that can be done to it behind fxhelpers' back."""

import gc
import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import NAME, ROOT, Project, shared
from filelock import FileLock
from sqlalchemy import Engine
from test_cli import fx

from fxhelpers import ModelRegistry, load_params
from fxhelpers.cli._show import PROBLEMS
from fxhelpers.comparison import EvaluationFrame, measure
from fxhelpers.decisions import begin
from fxhelpers.errors import NoChampionError, VersionNotFoundError
from fxhelpers.ledger import Entry, IntentFacts, entry_name
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.runs import run_notebook
from fxhelpers.system import process_identity

FX = str(Path(sys.executable).with_name("fx"))


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory, trained: dict[str, Path], empty_registry: Path) -> Path:
    """A project in which one version was promoted and another one refused, each by its notebook; a copy for each worker."""
    once, folder = shared(tmp_path_factory) / "told", tmp_path_factory.mktemp("copy") / "told"
    with FileLock(f"{once}.lock"):
        if not once.exists():
            tell(once, trained, empty_registry)
        shutil.copytree(once, folder)
    with sqlite3.connect(folder / "outputs" / "registry" / "mlflow.db") as database:  # it holds absolute paths
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", [once.as_uri(), folder.as_uri()])
    return folder


def tell(folder: Path, trained: dict[str, Path], empty_registry: Path) -> None:
    (folder / "outputs" / "registry").mkdir(parents=True)
    shutil.copy(empty_registry, folder / "outputs" / "registry" / "mlflow.db")
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for model in ("regularised", "lighter"):
            (path,) = load_params(trained[model] / "params.yaml").paths.models.glob("mlp_model_*")
            for kind in ("models", "metadata"):
                shutil.copytree(trained[model] / "outputs" / kind, folder / "outputs" / kind, dirs_exist_ok=True)
            parameters = {
                "register": {"model_path": f"outputs/models/{path.name}"},
                "promote": {"apply": True, "reason": "weekly"},
            }
            for notebook, values in parameters.items():
                assert run_notebook(ROOT / "notebooks" / f"{notebook}.ipynb", values, preloaded=True).error is None


@pytest.fixture
def story(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The story, to be tampered with: it is put back afterwards, to the byte."""
    kept = tmp_path / "kept"
    shutil.copytree(told, kept)
    monkeypatch.chdir(told)
    yield told
    for path in [path for path in told.rglob("*") if path.is_file() and not (kept / path.relative_to(told)).exists()]:
        path.unlink()
    for path in [path for path in kept.rglob("*") if path.is_file()]:
        there = told / path.relative_to(kept)
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists() or there.read_bytes() != path.read_bytes():
            shutil.copyfile(path, there)  # into the same file: MLflow keeps the database open
    for engine in [found for found in gc.get_objects() if isinstance(found, Engine)]:
        engine.dispose()  # and SQLite takes a page that it has read for current while the count of changes is the same


def record_of(kind: str) -> Path:
    return max(Path("outputs/records/AAPL").glob(f"*-{kind}-*.ipynb"))


def sql(*statements: str) -> None:
    with sqlite3.connect("outputs/registry/mlflow.db") as database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement


def tag(decision: int, kind: str) -> str:
    """Return the condition that finds one entry in MLflow's table."""
    run = read_ledger(ModelRegistry().client, NAME).decisions[decision].run_id
    return f"key LIKE 'fx.{kind}.%' AND run_uuid = '{run}'"


def flip(path: Path, place: int = -200) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def artifact(pattern: str) -> Path:
    found = sorted(Path("outputs/registry/artifacts").glob(f"*/artifacts/{pattern}"))
    assert found, pattern
    return found[-1]


def delete_last_decision() -> None:
    run = read_ledger(ModelRegistry().client, NAME).decisions[-1].run_id
    sql(f"DELETE FROM tags WHERE run_uuid = '{run}'", f"DELETE FROM runs WHERE run_uuid = '{run}'")


def put_in_place(old: Entry, new: Entry) -> None:
    """Put an entry in the place of another, with its name and all links."""
    with sqlite3.connect("outputs/registry/mlflow.db") as database:
        names = (entry_name(new), entry_name(old))
        done = database.execute(
            "UPDATE tags SET key = 'fx.' || ?, value = ? WHERE key = 'fx.' || ?", (names[0], new.to_json(), names[1])
        )
        assert done.rowcount == 1
        digests = (old.digest, new.digest) * 2
        database.execute("UPDATE params SET key = replace(key, ?, ?), value = replace(value, ?, ?)", digests)


def rewrite_the_ledger() -> None:
    """Change the last verdict, and compute every digest and link after it anew, as somebody who knows the format can."""
    decision = read_ledger(ModelRegistry().client, NAME).decisions[-1]
    assert decision.outcome is not None
    assert decision.seal is not None
    words = {"ledger": NAME, "decision": decision.id}
    facts = decision.outcome.facts.model_copy(update={"reason": "Version 2 is much better."})
    outcome = Entry.after(decision.intent, now=decision.outcome.time, facts=facts, **words)
    seal = Entry.after(outcome, now=decision.seal.time, facts=decision.seal.facts, **words)
    put_in_place(decision.outcome, outcome)
    put_in_place(decision.seal, seal)


def rename_the_last_decision() -> None:
    """Rewrite the last decision under another id and by another person; its record stays as it was."""
    ledger = read_ledger(ModelRegistry().client, NAME)
    decision, head = ledger.decisions[-1], ledger.decisions[-2].seal
    for entry in decision.entries:
        facts = entry.facts.model_copy(update={"actor": "mallory@vm"} if entry.entry == "intent" else {})
        head = Entry.after(head, ledger=NAME, decision="another", now=entry.time, facts=facts)
        put_in_place(entry, head)
    sql("UPDATE model_version_tags SET value = 'refused; another' WHERE key = 'fx.decision' AND version = 2")


def edit_a_digest_and_register_again() -> None:
    """A repeated registration takes over what is there: it must not make an edited digest right."""
    registry = ModelRegistry()
    registry.client.annotate(NAME, 1, tags={"fx.model_sha256": "0" * 64})
    (path, _) = sorted(Path("outputs/models").glob("mlp_model_*"))
    assert registry.register_model(registry.load_model_info(model_path=path)).version == 1


def delete_the_run_of_a_version() -> None:
    run = ModelRegistry().client.version(NAME, 2).run_id
    for table in ("tags", "params", "latest_metrics", "metrics", "runs"):
        with sqlite3.connect("outputs/registry/mlflow.db") as database:
            database.execute(f"DELETE FROM {table} WHERE run_uuid = '{run}'")


def in_mlflow(action: Callable[[Any], object]) -> Callable[[], None]:
    """Do something with MLflow's own client, as its pages do."""

    def act() -> None:
        with ModelRegistry().client.session("by hand") as client:
            action(client)

    return act


def make_anew(client: Any) -> None:
    client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, source="file:///nowhere")
    client.set_registered_model_alias(NAME, "champion", "1")


TAMPERED: dict[str, tuple[Callable[[], object], str, bool]] = {
    "record edited": (lambda: flip(record_of("promote")), r"the record AAPL/.*-promote-.* was edited", False),
    "record of a registration edited": (lambda: flip(record_of("register")), r"-register-.* was edited", False),
    "record deleted": (lambda: record_of("promote").unlink(), r"the record AAPL/.* was deleted or moved", False),
    "ledger truncated": (delete_last_decision, r"is of a decision that the ledger lacks .* was truncated", False),
    "ledger deleted": (lambda: sql("DELETE FROM tags WHERE key = 'fx.model'"), r"that the ledger lacks", False),
    "first entries deleted": (lambda: sql(f"DELETE FROM tags WHERE {tag(0, 'intent')}"), r"without a readable intent", False),
    "entry deleted": (lambda: sql(f"DELETE FROM tags WHERE {tag(1, 'outcome')}"), r"the chain is broken: entries", False),
    "reason edited": (
        lambda: sql(f"UPDATE tags SET value = replace(value, 'weekly', 'wanted') WHERE {tag(1, 'intent')}"),
        r"entry 4 \(intent\) was edited",
        False,
    ),
    "last verdict edited": (
        lambda: sql(f"UPDATE tags SET value = replace(value, '\"refused\"', '\"promoted\"') WHERE {tag(-1, 'outcome')}"),
        r"entry 11 \(outcome\) was edited",
        False,
    ),
    "last seal edited": (
        lambda: sql(f"UPDATE tags SET value = replace(value, 'completed', 'completes') WHERE {tag(-1, 'seal')}"),
        r"entry 12 \(seal\) was edited",
        False,
    ),
    "last entry deleted": (
        lambda: sql(f"DELETE FROM tags WHERE {tag(-1, 'seal')}"),
        r"the ledger was cut off: what followed entry 11 is gone",
        False,
    ),
    "entry put under its name": (
        lambda: sql(f"UPDATE tags SET value = (SELECT value FROM tags WHERE {tag(1, 'seal')}) WHERE {tag(-1, 'seal')}"),
        r"entry 6 \(seal\) was edited",
        False,
    ),
    "entry that is none": (
        lambda: sql(f"UPDATE tags SET value = '{{\"seq\": NaN' WHERE {tag(1, 'seal')}"),
        r"its seal is not an entry of a ledger",
        False,
    ),
    "run deleted in MLflow for good": (
        lambda: sql(f"DELETE FROM tags WHERE {tag(2, 'intent').split(' AND ')[1]}"),
        r"the chain is broken: entries 7 to 9 are gone",
        False,
    ),
    "champion changed in MLflow": (
        in_mlflow(lambda client: client.set_registered_model_alias(NAME, "champion", "2")),
        r"the champion is version 2, by the ledger it is version 1: it was changed without a decision",
        False,
    ),
    "alias deleted in MLflow": (
        in_mlflow(lambda client: client.delete_registered_model_alias(NAME, "champion")),
        r"there is no champion, by the ledger version 1 is in Production: its alias was deleted",
        False,
    ),
    "champion deleted in MLflow": (
        in_mlflow(lambda client: client.delete_model_version(NAME, "1")),
        r"version 1 was registered, and is not there any more",
        False,
    ),
    "registered model deleted in MLflow": (
        in_mlflow(lambda client: client.delete_registered_model(NAME)),
        r"by the ledger version 1 \(bundle .{12}\) is in Production, .* alias points to no version: it was deleted in MLflow",
        False,
    ),
    "registered model made anew in MLflow": (
        in_mlflow(make_anew),
        r"by the ledger version 1 \(bundle .{12}\) is in Production, .* was deleted in MLflow and made anew, and number 1",
        False,
    ),
    "registered model renamed in MLflow": (
        in_mlflow(lambda client: client.rename_registered_model(NAME, "mine")),
        r"by the ledger version 1 \(bundle .{12}\) is in Production, .*: the registered model was renamed to mine in MLflow",
        False,
    ),
    "bundle of a version edited": (
        in_mlflow(lambda client: client.set_model_version_tag(NAME, "2", "fx.bundle_sha256", "0" * 64)),
        r"version 2 is not as it was registered: its tag fx.bundle_sha256 was edited",
        False,
    ),
    "a second version in Production": (
        in_mlflow(lambda client: client.transition_model_version_stage(NAME, "2", "Production")),
        r"several versions in stage Production: 2, 1",
        False,
    ),
    "champion's stage changed": (
        in_mlflow(lambda client: client.transition_model_version_stage(NAME, "1", "Archived")),
        r"MLflow's stage of version 1 is Archived, by the alias it is Production",
        False,
    ),
    "digest of a version edited": (
        in_mlflow(lambda client: client.set_model_version_tag(NAME, "2", "fx.model_sha256", "0" * 64)),
        r"version 2 is not as it was registered: its tag fx.model_sha256 was edited",
        False,
    ),
    "ledger rewritten with all its digests": (rewrite_the_ledger, r"shows another decision or outcome than the ledger", True),
    "decision under another name": (rename_the_last_decision, r"shows another decision or outcome", True),
    "version pointed to other files": (
        lambda: sql("UPDATE model_versions SET source = (SELECT source FROM model_versions WHERE version = 2) WHERE version = 1"),
        r"version 1 is not as it was registered: its run or its source was edited",
        False,
    ),
    "download pointed to other files": (
        lambda: sql(
            "UPDATE model_versions SET storage_location = (SELECT storage_location FROM model_versions WHERE version = 2) "
            "WHERE version = 1"
        ),
        r"the files of version 1 are whole, but MLflow takes others",
        True,
    ),
    "digest edited and registered again": (edit_a_digest_and_register_again, r"version 1 is not as it was registered", False),
    "run in MLflow's trash": (
        in_mlflow(lambda client: client.delete_run(read_ledger(ModelRegistry().client, NAME).decisions[1].run_id)),
        r"the run of .*-promotion-.* was deleted in MLflow",
        False,
    ),
    "champion's run in MLflow's trash": (
        in_mlflow(lambda client: client.delete_run(client.get_model_version(NAME, "1").run_id)),
        r"the run of version 1 is in MLflow's trash",
        False,
    ),
    "champion's files deleted": (
        in_mlflow(lambda client: shutil.rmtree(artifact(f"../../{client.get_model_version(NAME, '1').run_id}/artifacts/model"))),
        r"the files of version 1 are gone from file://",
        False,
    ),
    "run of a version deleted for good": (delete_the_run_of_a_version, r"the files of version 2 are gone", True),
    "types that no entry has": (
        lambda: sql(f'UPDATE tags SET value = replace(value, \'"version":1\', \'"version":"x"\') WHERE {tag(1, "outcome")}'),
        r"entry 5 \(outcome\) was edited",
        True,
    ),
    "model edited": (lambda: flip(artifact("model/model.skops")), r"the files of version . are not those", True),
    "model's description edited": (lambda: flip(artifact("model/MLmodel"), 20), r"the files of version . are not those", True),
    "kept forecasts edited": (lambda: flip(artifact("model/probe.npz")), r"the files of version . are not those", True),
    "model deleted": (
        lambda: shutil.rmtree(artifact("model")),
        r"the files of version . are gone: no decision deleted them",
        True,
    ),
    "daily forecasts edited": (lambda: flip(artifact("evidence/frame.csv")), r"the stored frame.csv was edited", True),
    "daily forecasts deleted": (lambda: artifact("evidence/frame.csv").unlink(), r"the stored frame.csv is gone", True),
    "measures edited": (lambda: flip(artifact("evidence/comparison.json")), r"the stored comparison.json was edited", True),
    "copy of a record edited": (lambda: flip(artifact("record/*.ipynb")), r"the copy of its record .* was edited", True),
    "copy of a record deleted": (lambda: artifact("record/*.ipynb").unlink(), r"the copy of its record .* is gone", True),
}


def test_the_story_as_it_happened_has_no_finding(story: Path) -> None:
    found = ModelRegistry().verify("AAPL", deep=True)
    assert found.findings == ()
    assert found.decisions == 4
    assert ModelRegistry().verify().models == (NAME,)


def test_a_measure_that_is_younger_than_a_decision_is_no_finding(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(frame: EvaluationFrame, *, cost: float = 0.0) -> pd.DataFrame:
        return measure(frame, cost=cost).assign(invented_since=1.0)

    monkeypatch.setattr("fxhelpers.comparison.measure", newer)
    assert ModelRegistry().verify("AAPL", deep=True).findings == ()
    monkeypatch.setattr("fxhelpers.comparison.measure", lambda frame, cost: newer(frame, cost=cost).assign(rmse=0.5))
    assert "are not those that were judged" in ModelRegistry().verify("AAPL", deep=True).problems[0].message


@pytest.mark.parametrize("case", list(TAMPERED))
def test_what_is_tampered_with_is_found(story: Path, case: str) -> None:
    tamper, expected, deep = TAMPERED[case]
    tamper()
    found = ModelRegistry().verify("AAPL", deep=deep)
    problems = "\n".join(finding.message for finding in found.problems)
    assert found.problems
    assert re.search(expected, problems), problems
    assert all(finding.remedy for finding in found.findings)
    assert list(found.to_frame()["remedy"]) == [finding.remedy for finding in found.findings]
    assert re.match(r"\d+ problems?(, \d+ notes?)?: 1 model, \d+ decisions? checked", found.message)


def test_a_whole_registry_that_is_gone_is_found_by_the_records(story: Path) -> None:
    for table in ("tags", "model_version_tags", "registered_model_aliases", "model_versions", "registered_models", "runs"):
        sql(f"DELETE FROM {table}")
    found = ModelRegistry().verify()
    assert len([f for f in found.problems if "was truncated" in f.message]) == 4


@pytest.mark.usefixtures("thorough")
def test_fx_verify_says_it_on_one_line_each_and_exits_with_four(story: Path) -> None:
    clean = subprocess.run([FX, "verify", "--deep"], check=False, capture_output=True, text=True)
    assert (clean.returncode, clean.stdout) == (0, "OK: 1 model, 4 decisions checked (deep)\n")
    flip(record_of("promote"))
    message = fx("verify", "AAPL", code=PROBLEMS)
    assert message.startswith(f"PROBLEM  {NAME} [")
    assert "What to do: restore the sealed one: a copy is with MLflow's run" in message
    message = fx("verify", "AAPL", "--json", code=PROBLEMS)
    (finding,) = json.loads(message)["findings"]
    assert finding["level"] == "problem"
    assert set(finding) == {"model", "level", "message", "remedy", "decision"}
    assert re.search(r"unknown symbol ZZZ: .*\(known: AAPL\)", fx("verify", "ZZZ", code=1))


@pytest.mark.parametrize("case", ["alias deleted in MLflow", "a second version in Production", "champion's stage changed"])
def test_repair_mends_it_and_records_that_as_a_decision(story: Path, case: str) -> None:
    TAMPERED[case][0]()
    found = ModelRegistry().verify("AAPL", repair=True)
    assert found.problems == []
    last = read_ledger(ModelRegistry().client, NAME).decisions[-1]
    assert (last.kind, last.result, last.to_version) == ("repair", "repaired", 1)
    assert ModelRegistry().verify("AAPL", repair=True).decisions == found.decisions  # nothing more to mend, nothing recorded


def test_repair_touches_nothing_that_was_edited(story: Path) -> None:
    flip(record_of("promote"))
    before = record_of("promote").read_bytes()
    assert len(ModelRegistry().verify("AAPL", repair=True).problems) == 1
    assert record_of("promote").read_bytes() == before


def test_a_champion_changed_in_mlflow_stays_in_the_history_once_it_was_decided_anew(story: Path) -> None:
    TAMPERED["champion changed in MLflow"][0]()
    registry = ModelRegistry()
    assert "By the ledger version 1 is in Production, MLflow's alias points to version 2" in registry.history("AAPL").warnings[0]
    registry.transition_stage(NAME, 2, "Production")
    found = registry.verify("AAPL")
    assert [finding.level for finding in found.findings] == ["note"]
    assert found.findings[0].message.startswith(
        "MLflow's alias pointed to version 2, and was put back to version 1: it was changed without a decision"
    )
    assert [period.version for period in registry.history("AAPL").ledger.production_periods()] == [1, 2]


def test_a_decision_that_is_at_work_is_a_note_and_one_that_died_is_a_problem(story: Path) -> None:
    registry = ModelRegistry()
    decision = begin(registry.client, NAME, IntentFacts(kind="promotion", version=2))
    (note,) = registry.verify("AAPL").findings
    assert (note.level, note.decision) == ("note", decision.id)
    assert "is running: it has no outcome yet" in note.message
    gone = process_identity() | {"started": 1}
    head = read_ledger(registry.client, NAME).decisions[-2].seal
    words = {"ledger": NAME, "decision": decision.id, "now": decision.intent.time}
    facts = decision.intent.facts.model_copy(update={"process": gone})
    put_in_place(decision.intent, Entry.after(head, facts=facts, **words))
    (problem,) = registry.verify("AAPL").problems
    assert problem.decision == decision.id
    assert "was interrupted: it has no outcome" in problem.message
    registry.verify("AAPL", repair=True)
    found = registry.verify("AAPL")
    assert found.problems == []
    assert read_ledger(registry.client, NAME).decisions[-1].result == "interrupted"


def test_a_record_of_another_host_that_is_not_on_this_disk_is_a_note(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path("outputs/records").rglob("*"):
        if path.is_file():
            path.unlink()
    assert len(ModelRegistry().verify("AAPL").problems) == 4  # who wrote them on this host deleted all, the folder's mark too
    monkeypatch.setattr(socket, "gethostname", lambda: "another-machine")
    for mark in (None, "another folder's"):
        if mark:
            Path("outputs/records/.folder").write_text(mark)
        found = ModelRegistry().verify("AAPL", deep=True)
        assert found.problems == []
        (note,) = found.findings
        assert "4 records are not in this folder" in note.message


def test_a_deleted_record_of_this_host_is_a_problem_also_where_its_seal_names_no_folder(story: Path) -> None:
    """Earlier releases sealed an empty id, where two sealed in a new folder at once."""
    registry = ModelRegistry()
    last = read_ledger(registry.client, NAME).decisions[-1]
    facts = last.seal.facts.model_copy(update={"folder": ""})
    seal = Entry.after(last.outcome, ledger=NAME, decision=last.id, now=last.seal.time, facts=facts)
    put_in_place(last.seal, seal)
    assert registry.verify("AAPL").problems == []
    (Path("outputs/records") / str(last.record)).unlink()
    (problem,) = registry.verify("AAPL").problems
    assert "was deleted or moved" in problem.message


def test_of_files_that_cannot_be_read_each_is_one_finding_and_everything_else_is_checked(story: Path) -> None:
    registry = ModelRegistry()
    names = [str(decision.record) for decision in read_ledger(registry.client, NAME).decisions]
    records = Path("outputs/records")
    (records / names[0]).write_text("no JSON")
    (records / names[1]).unlink()
    (records / names[1]).mkdir()
    (records / names[2]).with_suffix(".html").unlink()
    (records / names[2]).with_suffix(".html").mkdir()
    for name, content in (("torn", "{"), ("list", "[]"), ("deep", "[" * 100_000), ("bytes", "\udcff"), ("no", '{"metadata": 1}')):
        (records / "AAPL" / f"{name}.ipynb").write_text(content, errors="surrogateescape")
    (records / "AAPL" / "folder.ipynb").mkdir()
    (records / ".folder").unlink()
    (records / ".folder").mkdir()
    found = [finding.message for finding in registry.verify().problems]
    assert sum("cannot be read" in message for message in found) == 8
    assert sum("was edited" in message for message in found) == 1
    assert len(found) == 9
    assert registry.verify("AAPL", deep=True).problems
    shutil.rmtree(records / names[1])
    shutil.rmtree((records / names[2]).with_suffix(".html"))
    for folder in (records / "AAPL" / "folder.ipynb", records / ".folder"):
        folder.rmdir()


def test_where_the_files_of_one_model_cannot_be_read_others_are_checked_too(story: Path) -> None:
    registry = ModelRegistry()
    registry.register_model(registry.load_model_info(symbol="AAPL"), model_name="mine")
    version = registry.client.version(NAME, 1)
    (files,) = Path("outputs/registry/artifacts").glob(f"**/{version.run_id}/artifacts/model")
    files.rename(files.with_name("kept"))
    files.symlink_to(files)  # which nobody can follow
    found = registry.verify(deep=True)
    assert found.models == (NAME, "mine")
    assert {problem.model for problem in found.problems} == {NAME}
    files.unlink()
    files.with_name("kept").rename(files)


def test_a_version_of_plain_mlflow_is_a_note(story: Path) -> None:
    in_mlflow(lambda client: client.create_model_version(NAME, source="file:///nowhere"))()
    (finding,) = ModelRegistry().verify("AAPL").findings
    assert (finding.level, finding.message) == ("note", "version 3 was not registered by fxhelpers")


def test_the_history_tells_who_was_in_production_on_a_day(story: Path) -> None:
    registry = ModelRegistry()
    history = registry.history("AAPL")
    since = history.ledger.production_periods()[0].since
    assert [period.version for period in history.at(since[:10])] == [1]
    assert [period.version for period in history.at(since)] == [1]
    before = since.replace(since[11:13], f"{(int(since[11:13]) - 1) % 24:02}", 1) if since[11:13] != "00" else "2020-01-01"
    assert history.at(before) == []
    assert history.warnings == []
    assert list(history.to_frame()["result"]) == ["registered", "promoted, no evidence of skill", "registered", "refused"]
    html = history._repr_html_()
    assert html.count("<a href=") == 4
    assert fx("history", "AAPL", "--at", since[:10]).startswith(f"version 1, from {since} to now, put there by ")
    whole = json.loads(fx("history", "AAPL", "--json"))
    assert [decision["outcome"]["facts"]["result"] for decision in whole["decisions"]][-1] == "refused"
    assert len(fx("history", "AAPL", "--csv").splitlines()) == 5
    assert "version 1" in fx("history", "AAPL")
    for wrong, message in (("yesterday", "neither a day"), ("2999-01-01", "in the future")):
        assert message in fx("history", "AAPL", "--at", wrong, code=1)


@pytest.mark.usefixtures("thorough")
def test_a_rollback_and_its_undoing_take_one_command_each(story: Path) -> None:
    registry = ModelRegistry()
    assert registry.rollback("AAPL").reason.startswith(f"{NAME}: no version was in Production before version 1")
    with pytest.raises(NoChampionError, match=r"no version was in Production before version 1"):
        registry.rollback("AAPL", reason="now", apply=True)
    registry.transition_stage(NAME, 2, "Production")
    shutil.copytree(ROOT / "notebooks", "notebooks", dirs_exist_ok=True)
    for expected in (1, 2):
        assert f"champion after  {expected}" in fx("rollback", "AAPL", "--reason", "it drifts")
        champion = registry.get_production_model(NAME)
        assert champion is not None
        assert champion.version == expected
    assert "No version serves now, version 2 did before." in fx("rollback", "AAPL", "--to", "none", "--reason", "a bad feed")
    assert "champion after  2" in fx("rollback", "AAPL", "--reason", "mended")
    assert [period.version for period in registry.history("AAPL").ledger.production_periods()] == [1, 2, 1, 2, None, 2]
    assert registry.verify("AAPL", deep=True).findings == ()


def test_nothing_known_says_how_to_begin(project: Project) -> None:
    with pytest.raises(VersionNotFoundError, match=r"unknown symbol AAPL: .*\(known: none yet\); register one"):
        ModelRegistry().history("AAPL")
    assert ModelRegistry().verify().findings == ()
