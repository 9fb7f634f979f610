"""Schedules, kills and old data that break no ledger, and make nobody say what is not so."""

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import NAME, Project, as_earlier_releases_kept_it, by_an_earlier_release, half_registered
from sqlalchemy import create_engine, text

from fxhelpers import Champions, ModelRegistry
from fxhelpers.decisions import _mirror as mirroring
from fxhelpers.decisions import _path as deciding
from fxhelpers.decisions import _versions as retention
from fxhelpers.decisions import begin, recover_interrupted
from fxhelpers.errors import LockLostError, RegistryError, StaleComparisonError
from fxhelpers.ledger import IntentFacts, OutcomeFacts
from fxhelpers.registry import RegistryClient, _chains
from fxhelpers.registry.ledger_store import LedgerWriter, read_ledger, writing
from fxhelpers.registry.lock import ModelLock, sweep
from fxhelpers.registry.storage import stored_bytes
from fxhelpers.system import process_identity

Register = Callable[..., int]
MOVED = OutcomeFacts.read({"result": "moved", "from": None, "to": None})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is stopped loses the lock at once."""
    monkeypatch.setattr("fxhelpers.registry.lock.EXPIRY_SECONDS", 0.2)


def champion(registry: ModelRegistry) -> int | None:
    return registry.client.champion_number(NAME)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def before_call(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, does: Callable[[], Any], when: Callable[..., bool] = lambda *_: True
) -> None:
    """Stop before a call is made for the first time, and let others do something meanwhile."""
    call, todo = getattr(owner, name), [does]

    def made(*args: Any, **kwargs: Any) -> Any:
        if todo and when(*args):
            todo.pop()()
        return call(*args, **kwargs)

    monkeypatch.setattr(owner, name, made)


def test_the_lock_of_a_model_whose_name_goes_on_with_a_dot_is_no_stolen_one(project: Project) -> None:
    registry = ModelRegistry()
    with ModelLock(registry.client, f"{NAME}.NS"):
        sweep(registry.client, NAME)
        with registry.client.session("look") as client:
            assert client.get_registered_model(f"fx-lock.{NAME}.NS").name == f"fx-lock.{NAME}.NS"


def test_an_alias_that_was_set_late_by_one_who_decides_nothing_is_put_back(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = ModelRegistry(), ModelRegistry()
    registered("original", stage="Production")
    second = registered("regularised")
    before_call(monkeypatch, mirroring, "_champion_and_alias", lambda: other.transition_stage(NAME, second, "Production"))
    recover_interrupted(registry.client, NAME)
    assert champion(registry) == second


def test_a_decision_whose_seal_came_late_is_acknowledged(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registered("original")
    registered("regularised")
    registry, other = ModelRegistry(), ModelRegistry()
    others = lambda: begin(other.client, NAME, IntentFacts(kind="stage change", version=2))  # noqa: E731
    before_call(monkeypatch, LedgerWriter, "_link", others, lambda _, entry, *__: entry.entry == "seal")
    assert registry.transition_stage(NAME, first, "Production").stage == "Production"
    done = read_ledger(registry.client, NAME).outcomes[-1]
    assert (done.to_version, done.seal is not None, champion(registry)) == (first, True, first)


def test_an_entry_that_was_written_while_others_were_read_is_not_taken_for_deleted(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("original")
    registry, other = ModelRegistry(), ModelRegistry()
    decision = begin(other.client, NAME, IntentFacts(kind="stage change", version=1))
    registry.transition_stage(NAME, 1, "Staging")
    conclude = lambda: LedgerWriter(other.client, NAME).conclude(decision, MOVED)  # noqa: E731
    before_call(monkeypatch, _chains, "search_runs", conclude, lambda _, __, condition="": "!=" in condition)
    head = LedgerWriter(registry.client, NAME).head
    assert head is not None
    assert (head.entry, head.intact, head.decision) == ("outcome", True, decision.id)


def test_a_ledger_goes_on_whose_only_intent_was_deleted(registered: Register, project: Project) -> None:
    registered("original")
    registry = ModelRegistry()
    (decision,) = read_ledger(registry.client, NAME).decisions
    with registry.client.session("tamper") as client:
        tags = client.get_run(decision.run_id).data.tags
        client.delete_tag(decision.run_id, next(tag for tag in tags if tag.startswith("fx.intent")))
    registry.transition_stage(NAME, 1, "Production")
    ledger = read_ledger(registry.client, NAME)
    assert (champion(registry), ledger.champion) == (1, 1)
    assert any("a decision without a readable intent" in fault.message for fault in ledger.faults)


def test_ledgers_begin_also_after_the_run_that_names_their_beginnings_was_deleted_for_good(
    registered: Register, project: Project
) -> None:
    registered("original")
    with ModelRegistry().client.session("tamper") as client:
        root = client.get_registered_model("fx-ledger").tags["fx.root"]
        version = client.get_model_version(NAME, "1")
        client.create_registered_model("churn")
        client.create_model_version("churn", str(version.source), version.run_id)
    with create_engine(f"sqlite:///{project.folder}/outputs/registry/mlflow.db").begin() as database:  # as mlflow gc does
        for table in ("tags", "params", "runs"):
            database.execute(text(f"DELETE FROM {table} WHERE run_uuid = '{root}'"))
    registry = ModelRegistry()
    registry.transition_stage("churn", 1, "Staging")
    registry.transition_stage(NAME, 1, "Production")
    assert [read_ledger(registry.client, name).faults for name in ("churn", NAME)] == [(), ()]


def test_a_repair_takes_no_promotion_back(registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody decides between what a repair looks at and its intent."""
    registry, repair = ModelRegistry(), importlib.import_module("fxhelpers.audit.verify")
    registered("original", stage="Production")
    second = registered("regularised")
    registry.client.drop_alias(NAME, "champion")
    before_call(monkeypatch, repair, "begin", lambda: registry.transition_stage(NAME, second, "Production"))
    with pytest.raises(StaleComparisonError, match="the champion is version 2 now"):
        registry.verify("AAPL", repair=True)
    assert champion(registry) == read_ledger(registry.client, NAME).champion == second


@pytest.mark.parametrize("models", [("regularised",), ("original", "regularised")])
def test_who_is_killed_before_the_alias_is_set_accuses_nobody(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch, models: tuple[str, ...]
) -> None:
    registry = ModelRegistry()
    for model in models[:-1]:
        registered(model, stage="Production")
    monkeypatch.setattr(deciding, "mirror", killed)
    with pytest.raises(KeyboardInterrupt):
        registered(models[-1], stage="Production")
    monkeypatch.undo()
    assert any("was stopped before it set" in f.message for f in registry.verify("AAPL").problems)
    registered("lighter")
    found = registry.verify("AAPL")
    assert found.problems == []
    assert any("was stopped before it set it" in f.message for f in found.findings)


def test_a_version_whose_registration_was_killed_is_of_no_other_model(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    half_registered(registry, project.bundle())
    registry.transition_stage(NAME, 1, "Staging")
    (problem,) = registry.verify("AAPL").problems
    assert "has no registration in the ledger" in problem.message


def test_a_move_of_an_earlier_release_that_was_killed_after_the_alias_is_completed(
    registered: Register, project: Project
) -> None:
    registry = ModelRegistry()
    first, second = registered("original", stage="Production"), registered("regularised")
    as_earlier_releases_kept_it(registry, NAME)
    dead = process_identity() | {"started": 1}
    intent = {"kind": "stage change", "version": second, "stage": "Production", "actor": "ann@desk", "process": dead}
    by_an_earlier_release(registry, NAME, "20260101T000000Z-stage-change-0", {"intent": intent})
    ledger = read_ledger(registry.client, NAME)
    moving = {"from": first, "to": second, "time": ledger.decisions[-1].time, "facts": {"version": second, "rests_on": "manual"}}
    with registry.client.session("write as before") as client:
        client.set_tag(ledger.decisions[-1].run_id, "fx.moving", json.dumps(moving))
        client.set_registered_model_alias(NAME, "champion", str(second))
    assert not any("without a decision" in problem.message for problem in registry.verify("AAPL").problems)
    assert registry.verify("AAPL", repair=True).problems == []
    ledger = read_ledger(registry.client, NAME)
    assert [period.version for period in ledger.production_periods()] == [first, second]
    assert (champion(registry), ledger.outcomes[-1].result) == (second, "moved")


def test_an_open_decision_whose_run_was_ended_in_mlflow_is_settled_by_a_repair(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("original")
    registry = ModelRegistry()
    monkeypatch.setattr(deciding, "process_identity", lambda _pid=None: process_identity() | {"started": 1})
    decision = begin(registry.client, NAME, IntentFacts(kind="stage change", version=1))
    with registry.client.session("end it") as client:
        client.set_terminated(decision.run_id, "KILLED")
    registry.transition_stage(NAME, 1, "Staging")
    assert registry.verify("AAPL", repair=True).problems == []
    assert read_ledger(registry.client, NAME).decisions[-2].result == "interrupted"


def test_a_service_serves_whom_the_ledger_says(registered: Register, project: Project) -> None:
    registered("original", stage="Production")
    second = registered("regularised", stage="Production")
    registry = ModelRegistry()
    registry.client.set_alias(NAME, "champion", 1)  # by a late writer
    assert Champions(registry).of("AAPL").model.version.version == second


def test_a_stage_that_was_set_late_is_put_back(registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, other = ModelRegistry(), ModelRegistry()
    first = registered("original")
    late = lambda: other.transition_stage(NAME, first, "Production")  # noqa: E731
    before_call(monkeypatch, RegistryClient, "set_stage", late)
    with pytest.raises(LockLostError, match="no champion was moved"):
        registry.transition_stage(NAME, first, "Archived")
    assert (registry.client.version(NAME, first).mirror, champion(registry)) == ("Production", first)


def test_one_model_that_cannot_be_mended_leaves_the_others_to_be(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("original", stage="Production")
    registry = ModelRegistry()
    registry.client.drop_alias(NAME, "champion")
    with registry.client.session("register by hand") as client:
        client.create_registered_model("MLP_Stock_Predictor_A'\"")
    assert registry.verify(repair=True).models[0] == "MLP_Stock_Predictor_A'\""
    assert champion(registry) == 1


@pytest.mark.parametrize("ends", [KeyboardInterrupt, RegistryError])
def test_files_that_were_to_go_are_gone_once_that_is_decided_whoever_is_killed(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch, ends: type[BaseException]
) -> None:
    registry = ModelRegistry()
    registered("regularised", stage="Production")
    other = registered("lighter", stage="Archived")

    def end(*_: object) -> None:
        raise ends

    monkeypatch.setattr(deciding, "process_identity", lambda _pid=None: process_identity() | {"started": 1})
    if ends is KeyboardInterrupt:
        monkeypatch.setattr(retention, "finish", end)
    else:
        monkeypatch.setattr(RegistryClient, "challenger", lambda *_: registry.client.version(NAME, 1))
        monkeypatch.setattr(RegistryClient, "drop_alias", end)
    with pytest.raises(ends):
        registry.retain("AAPL", apply=True, prune=True)
    monkeypatch.undo()
    registry.verify("AAPL", repair=True)
    assert stored_bytes(registry.client, registry.client.version(NAME, other)) == 0
    assert read_ledger(registry.client, NAME).decisions[-1].seal is not None


def test_a_registration_that_failed_after_it_made_the_version_is_no_problem(project: Project) -> None:
    """Held up until another decision was written, it ends as failed; its version is there."""
    bundle, registry = project.bundle(), ModelRegistry()
    registry.register_model(project.bundle(alpha=7.0))
    decision = begin(registry.client, NAME, IntentFacts(kind="registration", bundle=bundle.digest))
    half_registered(registry, bundle)
    with writing(registry.client, NAME) as ledger:
        ledger.conclude(
            decision, OutcomeFacts.read({"result": "failed", "reason": "another decision was written", "from": None, "to": None})
        )
    found = registry.verify("AAPL", repair=True)
    assert not found.problems
    assert ["failed" in finding.message for finding in found.findings if "no registration" in finding.message] == [True]
    assert registry.register_model(bundle).version == 2
    assert not registry.verify("AAPL").problems
