"""What a decision holds, and the decisions beside promotion: approval, rollback, retention."""

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import time_machine
from conftest import NAME, Project, as_earlier_releases_kept_it, by_an_earlier_release, half_registered, in_a_notebook
from nbclient.exceptions import CellExecutionError
from sqlalchemy import create_engine, text

from fxhelpers import Champions, ModelRegistry
from fxhelpers.comparison import compare, measure, measures_json
from fxhelpers.decisions import Move, act, begin, frame_in
from fxhelpers.decisions._path import stop_heartbeat
from fxhelpers.errors import (
    ClockError,
    LedgerError,
    LockLostError,
    ModelTamperedError,
    NoChampionError,
    NotComparableError,
    ParamsError,
    PredictionsChangedError,
    PromotionRefusedError,
    StaleComparisonError,
    VersionNotFoundError,
    VersionReplacedError,
)
from fxhelpers.ledger import AGAINST, Decision, IntentFacts, OutcomeFacts, SealFacts
from fxhelpers.policy import judge, required_tests
from fxhelpers.registry import BUNDLE_DIGEST, MODEL_DIGEST
from fxhelpers.registry.ledger_store import LedgerWriter, fetch, read_ledger
from fxhelpers.system import folder_digest, process_identity, utc_now

Register = Callable[..., int]


def last(registry: ModelRegistry) -> Decision:
    return read_ledger(registry.client, NAME).outcomes[-1]


def promoted(registry: ModelRegistry, version: int | None = None, **words: str) -> Decision:
    return registry.promote(registry.propose("AAPL", version, apply=True, **words))


def champion(registry: ModelRegistry) -> int | None:
    found = registry.get_production_model(NAME)
    return found.version if found else None


def reigned(registered: Register, *models: str) -> ModelRegistry:
    """A registry in which each of these was champion, one after the other."""
    for model in models:
        registered(model, stage="Production")
    return ModelRegistry()


def files_of(registry: ModelRegistry, version: int) -> Path:
    run = registry.client.version(NAME, version).run_id
    with registry.client.session("find files") as client:
        return Path(unquote(urlsplit(client.get_run(run).info.artifact_uri).path)) / "model"


def test_a_promotion_holds_who_when_why_and_on_what_evidence(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    registry = ModelRegistry()
    old, new = registered("original", stage="Production"), registered("regularised")
    decision = promoted(registry, new, reason="weekly", approved_by="bob")
    kept = next(d for d in read_ledger(registry.client, NAME).decisions if d.id == decision.id)
    assert (kept.kind, kept.result, kept.version, kept.from_version, kept.to_version) == ("promotion", "promoted", new, old, new)
    assert kept.actor.startswith("ann@")
    assert (kept.approved_by, kept.record) == ("bob", None)
    assert kept.reason.endswith('"weekly"')
    assert kept.outcome is not None
    assert kept.seal is not None
    serves = [new, kept.bundles[str(new)]]
    assert kept.seal.facts.stored() == {"record": None, "status": "taken outside a recorded run", "serves": serves}
    facts = kept.outcome_facts
    assert set(facts.bundles) == {str(old), str(new)}
    assert facts.window.days == 768
    assert {gate.result for gate in facts.gates} <= {"pass", "warn"}
    assert {"superior", "gain", "naive"} <= {gate.id for gate in facts.gates}
    frame, evidence = frame_in({name: fetch(registry.client, kept, f"evidence/{name}") for name in facts.evidence})
    assert frame.digest == facts.frame_sha256
    assert evidence["measures"] == measures_json(measure(frame, cost=0.0005))
    assert evidence["policy"] == registry.params.promotion.model_dump(mode="json")
    again = judge(compare(frame, required_tests(registry.params.promotion, 1), cost=0.0005), registry.params.promotion)
    told = {gate["id"]: gate["value"] for gate in evidence["gates"]}
    assert {g.id: g.value for g in again.gates if g.decides} == {g.id: told[g.id] for g in again.gates if g.decides}
    assert (
        f"promoted (promotion, no evidence of skill), {kept.time[:16].replace('T', ' ')}"
        in registry.client.version(NAME, new).tags["fx.decision"]
    )


def test_the_intent_is_written_before_anything_is_evaluated(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = project.registry(prices={"end": "2010-01-29"})
    with pytest.raises(NotComparableError):
        registry.propose("AAPL", apply=True)
    assert (last(registry).kind, last(registry).result) == ("promotion", "failed")
    assert "no unseen day to compare on" in last(registry).reason
    registry = project.registry(prices={"end": None})
    promoted(registry)
    assert registry.history("AAPL").ledger.attempts == []  # where nothing could be compared, and for a first champion


@pytest.mark.parametrize(
    ("rule", "words", "missing"),
    [
        ({"required": True}, {}, "requires approved_by and reason"),
        ({"required": True}, {"approved_by": "bob"}, "requires reason"),
        ({"required": True}, {"approved_by": " ", "reason": " "}, "requires approved_by and reason"),
        ({"required": True}, {"approved_by": "Ann@corp.example", "reason": "weekly"}, "cannot approve: ann@"),
        ({"required": False}, {"approved_by": "ann"}, "cannot approve: ann@"),
        ({"required": True}, {"approved_by": "bob", "reason": "weekly"}, None),
        ({"required": True, "not_author": False}, {"approved_by": "ann", "reason": "weekly"}, None),
        ({"required": False}, {}, None),
    ],
)
def test_an_approval_that_the_policy_asks_for(
    registered: Register,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rule: dict[str, bool],
    words: dict[str, str],
    missing: str | None,
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    registered("regularised")
    registry = project.registry(promotion={"approval": {"Production": rule}})
    decision = promoted(registry, **words)
    assert (decision.verdict, decision.applied) == ("promote", missing is None)
    assert last(registry).result == ("promoted" if missing is None else "refused")
    assert (missing or "") in last(registry).reason
    assert champion(registry) == (1 if missing is None else None)


def test_who_registered_a_version_is_an_author_too(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "carol")
    registered("regularised")
    monkeypatch.setenv("LOGNAME", "ann")
    decision = promoted(ModelRegistry(), approved_by="carol", reason="weekly")
    assert decision.result == "refused"
    assert "registered version 1" in decision.reason


def test_by_hand_nothing_goes_to_production_where_an_approval_is_needed(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = project.registry(promotion={"approval": {"Production": {"required": True}}})
    with pytest.raises(PromotionRefusedError, match="not a stage set by hand; nothing was changed"):
        registry.transition_stage(NAME, 1, "Production")
    assert (last(registry).kind, last(registry).result) == ("stage change", "refused")
    with pytest.raises(PromotionRefusedError):
        registry.register_model(project.bundle(), stage="Production")
    assert (last(registry).kind, last(registry).result) == ("registration", "refused")
    assert champion(registry) is None


@pytest.mark.parametrize("key", ["requird", "Staging"])
def test_a_mistyped_approval_is_an_error(project: Project, key: str) -> None:
    rule = {"Production": {key: True}} if key != "Staging" else {key: {"required": True}}
    with pytest.raises(ParamsError, match=f"promotion.approval.*{key}: unknown key"):
        project.registry(promotion={"approval": rule})


def test_a_rollback_goes_to_the_previous_champion_and_is_undone_by_another(registered: Register, project: Project) -> None:
    registry = reigned(registered, "original", "regularised", "lighter")
    shown = registry.rollback("AAPL")
    assert (shown.result, shown.version, shown.applied, shown.to_version) == ("only shown", 2, False, 3)
    assert "256 of 256 forecasts came out the same" in shown.reason
    for expected, before in ((2, 3), (3, 2)):
        decision = registry.rollback("AAPL", reason="it drifts", apply=True)
        assert (decision.result, decision.from_version, decision.to_version) == ("rolled back", before, expected)
        assert champion(registry) == expected
    assert registry.rollback("AAPL", 1, reason="further back", apply=True).to_version == 1
    assert registry.rollback("AAPL", 1, reason="further back", apply=True).result == "unchanged"
    assert [v.version for v in registry.get_model_versions(NAME) if v.mirror == "Production"] == [1]


def test_a_rollback_without_a_reason_or_in_an_unrecorded_notebook_changes_nothing(registered: Register, project: Project) -> None:
    registry = reigned(registered, "original", "regularised")
    with pytest.raises(ParamsError, match="reason: a rollback requires one"):
        registry.rollback("AAPL", apply=True, reason="  ")
    with pytest.raises(CellExecutionError, match="fx rollback AAPL --version 1 --reason TEXT"):
        in_a_notebook('rollback("AAPL", apply=True, reason="it drifts")', project.folder)
    assert champion(registry) == 2
    assert len(read_ledger(registry.client, NAME).decisions) == 2


def test_a_rollback_to_other_bytes_is_refused_and_the_champion_stays(registered: Register, project: Project) -> None:
    registry = reigned(registered, "regularised", "lighter")
    model = files_of(registry, 1) / "model.skops"
    content = bytearray(model.read_bytes())
    content[200] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelTamperedError):
        registry.rollback("AAPL", reason="it drifts", apply=True)
    assert (champion(registry), last(registry).result) == (2, "failed")


def test_a_rollback_to_a_version_that_forecasts_otherwise_is_refused(registered: Register, project: Project) -> None:
    """As after a change of libraries: the bytes are right, and what comes out is not."""
    registry = reigned(registered, "regularised", "lighter")
    shutil.copy(files_of(registry, 2) / "model.skops", files_of(registry, 1) / "model.skops")
    registry.client.annotate(NAME, 1, tags={MODEL_DIGEST: folder_digest(files_of(registry, 1))})
    with pytest.raises(PredictionsChangedError, match=r"no longer gives the forecasts .* 256 of 256 .* scikit-learn=="):
        registry.rollback("AAPL", reason="it drifts", apply=True)
    assert champion(registry) == 2


def test_a_rollback_to_a_version_that_is_gone_or_was_never_approved(registered: Register, project: Project) -> None:
    registry = project.registry(promotion={"approval": {"Production": {"required": False}}})
    registered("original", stage="Production")
    registered("regularised", stage="Production")
    registered("lighter")
    strict = project.registry(promotion={"approval": {"Production": {"required": True}}})
    with pytest.raises(PromotionRefusedError, match=r"version 3 was never in Production: promotion\.approval"):
        strict.rollback("AAPL", 3, reason="it drifts", apply=True)
    assert strict.rollback("AAPL", 3, reason="it drifts", approved_by="bob", apply=True).to_version == 3
    assert strict.rollback("AAPL", reason="it drifts", apply=True).to_version == 2  # which was champion: no approval
    with registry.client.session("delete by hand") as client:
        client.delete_model_version(NAME, "3")
    with pytest.raises(VersionNotFoundError):
        strict.rollback("AAPL", reason="it drifts", apply=True)
    assert champion(registry) == 2


def test_a_rollback_decided_on_another_champion_is_stale(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the ledger and the lock somebody else promotes: the rollback would undo what it never saw."""
    registry = reigned(registered, "original", "regularised")
    third = registered("lighter")
    from fxhelpers.decisions import _rollback as rollback

    checked = rollback._checked

    def meanwhile(*arguments: Any) -> str:
        ModelRegistry().transition_stage(NAME, third, "Production")
        return checked(*arguments)

    monkeypatch.setattr(rollback, "_checked", meanwhile)
    with pytest.raises(StaleComparisonError, match="made against version 2, but the champion is version 3 now"):
        registry.rollback("AAPL", reason="it drifts", apply=True)
    assert (champion(registry), last(registry).result) == (third, "stale")


def aged(registry: ModelRegistry, *versions: int) -> None:
    with create_engine(registry.params.registry_uri).begin() as connection:
        for version in versions:
            old = text("UPDATE model_versions SET creation_time = creation_time - :age WHERE version = :version")
            connection.execute(old, {"age": 86_400_000 * 100, "version": version})


def test_versions_past_their_time_are_archived_and_nothing_else(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised", stage="Production")
    registered("original")
    registered("lighter")
    aged(registry, 1, 2)
    shown = registry.retain("AAPL")
    assert (shown.due("archive"), shown.due("prune"), shown.decision) == ([2], [], None)
    assert registry.client.version(NAME, 2).stage == "Staging"
    done = registry.retain("AAPL", apply=True, reason="quarterly")
    assert done.decision is not None
    assert done.decision.reason == 'In Staging for more than 90 days: 1 archived. "quarterly"'
    assert {v.version: v.stage for v in registry.get_model_versions(NAME)} == {1: "Production", 2: "Archived", 3: "Staging"}
    again = registry.retain("AAPL", apply=True)
    assert (again.due("archive"), again.decision) == ([], None)
    assert registry.compare("AAPL").challenger.version == 3


@pytest.mark.usefixtures("thorough")
def test_files_are_pruned_only_where_asked_for_and_of_no_version_that_a_decision_needs(
    registered: Register, project: Project
) -> None:
    registry = project.registry(model_registry={"compare_metrics": False})
    registered("original", stage="Production")
    registered("regularised")
    promoted(registry, 2)  # 1 was champion, and is archived
    registered("lighter")
    unneeded = registry.register_model(project.bundle()).version
    promoted(registry, 3)  # 2 was champion too
    aged(registry, 1, 2, 3, unneeded)
    kept = registry.retain("AAPL", apply=True)
    assert (kept.due("archive"), kept.due("prune"), kept.bytes_pruned) == ([unneeded], [], 0)
    shown = registry.retain("AAPL", prune=True)
    assert shown.due("prune") == [unneeded]
    assert shown.bytes_pruned > 10_000
    assert list(shown.versions["why"]) == ["was in Production", "was in Production", ""]
    assert files_of(registry, unneeded).exists()
    done = registry.retain("AAPL", apply=True, prune=True)
    assert done.decision is not None
    assert not files_of(registry, unneeded).exists()
    assert files_of(registry, 1).exists()
    with pytest.raises(VersionNotFoundError, match=f"were deleted on purpose, by decision {done.decision.id}"):
        registry.rollback("AAPL", unneeded, reason="why not", apply=True)
    with pytest.raises(VersionNotFoundError, match="were deleted on purpose; nothing was changed"):
        registry.transition_stage(NAME, unneeded, "Production")
    assert champion(registry) == 3
    found = registry.verify("AAPL", deep=True)
    assert found.problems == []
    assert any("were deleted on purpose" in finding.message for finding in found.findings)
    assert registry.retain("AAPL", prune=True).due("prune") == []


def sent_again(registry: ModelRegistry, decision: Decision) -> None:
    """Create a decision's run once more, as a network does that doubles a message."""
    with registry.client.session("send again") as client:
        first = client.get_run(decision.run_id)
        names = ("fx.model", "fx.decision", "fx.intent")
        client.create_run(first.info.experiment_id, tags={k: v for k, v in first.data.tags.items() if k.startswith(names)})


def test_a_creation_that_was_sent_twice_is_one_decision(registered: Register, project: Project) -> None:
    """The answer to the first one was lost, so MLflow's client sent it again."""
    registered("regularised", stage="Production")
    registry = ModelRegistry()
    decision = last(registry)
    sent_again(registry, decision)
    assert registry.verify("AAPL").problems == []
    registry.transition_stage(NAME, 1, "Archived")
    found = registry.verify("AAPL")
    assert (found.problems, found.decisions) == ([], 2)


def test_an_open_run_that_somebody_deleted_in_mlflow_is_restored_as_far_as_the_next_decision_needs_it(
    registered: Register, project: Project
) -> None:
    """It keeps the last entry, which takes the link to what follows; a run that keeps another one stays deleted, as a finding."""
    registered("regularised")
    registry = ModelRegistry()
    open_one = begin(registry.client, NAME, IntentFacts(kind="promotion", version=1))
    with registry.client.session("delete by hand") as client:
        client.delete_run(open_one.run_id)
    (fault,) = read_ledger(registry.client, NAME).faults
    assert fault.remedy == f"mlflow runs restore --run-id {open_one.run_id}"
    done = promoted(registry)
    assert (done.result, read_ledger(registry.client, NAME).faults) == ("promoted", ())
    with registry.client.session("delete by hand") as client:
        client.delete_run(open_one.run_id)
    registry.transition_stage(NAME, 1, "Archived")
    assert [fault.decision for fault in read_ledger(registry.client, NAME).faults] == [open_one.id]


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every decision look as if its process had ended."""
    monkeypatch.setattr("fxhelpers.decisions._path.process_identity", lambda _pid=None: process_identity() | {"started": 1})


def test_ending_an_old_run_does_not_hide_the_last_entry_from_the_next_decision(
    registered: Register, project: Project, dead: None
) -> None:
    registry = ModelRegistry()
    registered("regularised", stage="Production")
    first = last(registry)
    registered("lighter")
    sent_again(registry, first)
    with registry.client.session("be killed before a run was ended") as client:
        client.update_run(first.run_id, "RUNNING")
    assert registry.verify("AAPL", repair=True).problems == []
    registry.transition_stage(NAME, 2, "Archived")
    assert read_ledger(registry.client, NAME).faults == ()
    assert registry.verify("AAPL").problems == []


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("thorough")
def test_an_override_that_was_killed_after_its_outcome_is_carried_out_and_keeps_its_mark(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ModelRegistry()
    old, worse = registered("regularised", stage="Production"), registered("original")
    proposal = registry.propose("AAPL", worse, apply=True, override=True, reason="the feed broke")
    assert proposal.decision is not None
    monkeypatch.setattr("fxhelpers.decisions._path.mirror", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.promote(proposal)
    monkeypatch.undo()
    assert (champion(registry), registry.load_champion("AAPL").version.version) == (old, worse)  # type: ignore[union-attr]
    assert any("a late writer set the alias" in finding.message for finding in registry.verify("AAPL").problems)
    assert registry.verify("AAPL", repair=True).problems == []
    assert champion(registry) == worse
    done = next(d for d in read_ledger(registry.client, NAME).outcomes if d.id == proposal.decision.id)
    assert (done.result, done.to_version, done.overridden, done.verdict) == ("promoted", worse, True, "keep")
    assert AGAINST in done.reason


def test_an_outcome_that_is_too_long_moves_nothing(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    decision = begin(registry.client, NAME, IntentFacts(kind="promotion", version=1))
    with pytest.raises(LedgerError, match="can be stored"):
        act(
            registry.client,
            decision,
            facts=OutcomeFacts(result="promoted", reason="x" * 5000),
            move=Move(to=registry.client.version(NAME, 1).identity),
        )
    assert champion(registry) is None


def test_a_run_of_somebody_else_among_the_ledgers_is_left_alone(registered: Register, project: Project, dead: None) -> None:
    registered("regularised")
    registry = ModelRegistry()
    begin(registry.client, NAME, IntentFacts(kind="promotion", version=1))
    with registry.client.session("run by hand") as client:
        client.create_run(registry.client.experiment("fx-ledger"))
    found = registry.verify(repair=True)
    assert (found.models, found.problems) == ((NAME,), [])
    assert read_ledger(registry.client, NAME).decisions[-1].result == "interrupted"


@pytest.mark.parametrize("step", ["intent", "outcome", "seal"])
def test_a_writer_that_was_held_up_forks_nothing(registered: Register, project: Project, step: str) -> None:
    """Stopped right before a write while its lock expires and others decide; then it writes."""
    registered("regularised")
    registry = ModelRegistry()
    late = LedgerWriter(registry.client, NAME)
    decision = Decision(run_id="", intent=late.head)  # type: ignore[arg-type]
    if step != "intent":
        decision = late.begin(IntentFacts(kind="stage change", version=1, actor="ann@desk"), None)
    if step == "seal":
        decision = late.conclude(decision, OutcomeFacts.read({"result": "moved", "from": None, "to": None}))
    registry.transition_stage(NAME, 1, "Production")
    writes = {
        "intent": lambda: late.begin(IntentFacts(kind="stage change", version=1), None),
        "outcome": lambda: late.conclude(decision, OutcomeFacts.read({"result": "moved", "from": None, "to": None})),
        "seal": lambda: late.seal(decision, SealFacts(record=None)),
    }
    with pytest.raises(LockLostError, match="another decision was written while this one was held up"):
        writes[step]()
    registry.transition_stage(NAME, 1, "Archived")
    ledger = read_ledger(registry.client, NAME)
    assert (ledger.faults, ledger.champion, [entry.entry for entry in ledger.late]) == ((), None, [step])
    found = registry.verify("AAPL")
    assert any(f"the {step} of" in f.message and "came too late" in f.message and f.level == "note" for f in found.findings)
    assert [f.message for f in found.problems if "chain" in f.message or "MLflow" in f.message] == []


@pytest.mark.usefixtures("thorough")
def test_a_late_alias_is_put_back_by_whoever_set_it_or_by_the_next_decision(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between its outcome and the alias: others move on meanwhile."""
    registry = reigned(registered, "original", "regularised")
    third = registered("lighter")
    from fxhelpers.decisions import _path as deciding

    mirror = deciding.mirror

    def late(client: Any, name: str, ledger: Any) -> None:
        monkeypatch.setattr(deciding, "mirror", mirror)
        registry.transition_stage(NAME, 1, "Production")  # by somebody else
        mirror(client, name, ledger)

    monkeypatch.setattr(deciding, "mirror", late)
    registry.transition_stage(NAME, third, "Production")
    assert champion(registry) == 1
    assert [f.message for f in registry.verify("AAPL").findings if f.level == "problem"] == []
    registry.client.set_alias(NAME, "champion", 2)  # by one who was killed right after
    assert registry.load_champion("AAPL").version.version == 1  # type: ignore[union-attr]
    assert Champions(registry).of("AAPL").model.version.version == 1
    (problem,) = (f for f in registry.verify("AAPL").problems if "champion is" in f.message)
    assert "by the ledger it is version 1: a late writer set the alias" in problem.message
    assert registry.propose("AAPL").champion.version == 1  # type: ignore[union-attr]
    registry.transition_stage(NAME, third, "Archived")
    assert champion(registry) == 1
    assert registry.verify("AAPL").problems == []
    assert any("and was put back to version 1: a late writer had set it" in f.message for f in registry.verify("AAPL").findings)


def test_two_interrupted_decisions_beside_each_other_leave_history_in_order(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has proposed; another moves the champion and is killed; the first is refused, and only then the other is settled."""
    registry = reigned(registered, "original")
    second = registered("regularised")
    open_one = begin(registry.client, NAME, IntentFacts(kind="promotion", version=second))
    monkeypatch.setattr("fxhelpers.decisions._path.process_identity", lambda _pid=None: process_identity() | {"started": 1})
    monkeypatch.setattr("fxhelpers.decisions._path.mirror", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.transition_stage(NAME, second, "Production")
    monkeypatch.undo()
    act(registry.client, open_one, facts=OutcomeFacts(result="refused"))
    registry.verify("AAPL", repair=True)
    production_periods = read_ledger(registry.client, NAME).production_periods()
    assert [period.version for period in production_periods] == [1, second]
    assert all(period.until is None or period.since <= period.until for period in production_periods)
    moves = [(d.from_version, d.to_version) for d in read_ledger(registry.client, NAME).outcomes if d.applied]
    assert moves == [(None, 1), (1, second)]
    assert registry.verify("AAPL").problems == []


def test_files_that_are_not_ours_are_never_pruned(registered: Register, project: Project) -> None:
    registered("regularised", stage="Production")
    registry = ModelRegistry()
    (project.folder / "weights.txt").write_text("1 2 3")
    with registry.client.session("register by hand") as client:
        run = client.create_run("0")
        client.log_artifact(run.info.run_id, str(project.folder / "weights.txt"), "model")
        client.create_model_version(NAME, source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
        client.transition_model_version_stage(NAME, "2", "Archived")
    shown = registry.retain("AAPL", apply=True, prune=True)
    assert (shown.due("prune"), list(shown.versions["why"])) == ([], ["its files are not ours alone"])


def test_a_rollback_after_a_change_in_mlflow_goes_to_the_champion_before_it(registered: Register, project: Project) -> None:
    registry = reigned(registered, "original", "regularised")
    registered("lighter")
    registry.client.set_alias(NAME, "champion", 3)  # as MLflow's pages do
    assert registry.rollback("AAPL", reason="who was that?", apply=True).to_version == 2


def test_an_unrelated_decision_puts_back_what_was_changed_in_mlflow(registered: Register, project: Project) -> None:
    registry = reigned(registered, "original", "regularised")
    third = registered("lighter")
    in_mlflow(registry, lambda client: client.set_registered_model_alias(NAME, "champion", str(third)))
    assert any("changed without a decision" in finding.message for finding in registry.verify("AAPL").problems)
    registry.transition_stage(NAME, 1, "Archived")
    assert champion(registry) == 2
    found = registry.verify("AAPL")
    assert found.problems == []
    assert any(f"MLflow's alias pointed to version {third}, and was put back to version 2" in f.message for f in found.findings)


def test_repair_sets_a_lost_alias_also_after_another_decision(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised", stage="Production")
    registry.client.drop_alias(NAME, "champion")
    registered("lighter")
    assert registry.verify("AAPL", repair=True).problems == []
    assert champion(registry) == 1
    registry.transition_stage(NAME, 1, "Archived")  # this was decided
    registry.verify("AAPL", repair=True)
    assert champion(registry) is None


def test_a_stage_is_not_set_on_a_version_that_became_champion_meanwhile(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    decision = begin(registry.client, NAME, IntentFacts(kind="stage change", version=1))
    version = registry.transition_stage(NAME, 1, "Production")
    with pytest.raises(StaleComparisonError, match="version 1 became the champion"):
        act(registry.client, decision, facts=OutcomeFacts(result="moved"), stages={version.identity: "Archived"})
    assert registry.client.version(NAME, 1).mirror == "Production"


def test_a_proposal_is_carried_out_once(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = ModelRegistry()
    proposal = registry.propose("AAPL", apply=True)
    registry.promote(proposal)
    with pytest.raises(LockLostError, match="has its outcome already"):
        registry.promote(proposal)
    assert registry.verify("AAPL").problems == []


def test_a_registration_that_is_at_work_is_no_problem(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    bundle = project.bundle()
    begin(registry.client, NAME, IntentFacts(kind="registration", bundle=bundle.digest))
    half_registered(registry, bundle)
    assert [finding.level for finding in registry.verify("AAPL").findings] == ["note"]


def in_mlflow(registry: ModelRegistry, action: Callable[[Any], object]) -> None:
    """Do something with MLflow's own client, as its pages do."""
    with registry.client.session("by hand") as client:
        action(client)


def problems(registry: ModelRegistry) -> str:
    return "\n".join(f"{finding.message}; {finding.remedy}" for finding in registry.verify("AAPL").problems)


@pytest.mark.usefixtures("thorough")
def test_a_number_that_mlflow_gives_again_is_another_version(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    registry = project.registry(promotion={"approval": {"Production": {"required": True}}})
    registered("regularised")
    approved = {"reason": "weekly", "approved_by": "bob"}
    still_open = registry.propose("AAPL", 1, apply=True, **approved)  # type: ignore[arg-type]
    old = str(promoted(registry, 1, **approved).bundles["1"])
    registered("lighter")
    in_mlflow(registry, lambda client: client.delete_registered_model(NAME))
    assert f"by the ledger version 1 (bundle {old[:12]}) is in Production, and MLflow's alias points to no version" in problems(
        registry
    )
    assert ": it was deleted in MLflow; choose the version to serve: fx run promote -p symbol AAPL -p apply true" in problems(
        registry
    )
    assert registered("original") == 1
    assert registered("lighter", stage="Staging") == 2
    new = registry.client.version(NAME, 1).identity
    assert registry.client.version(NAME, 1).stage == "Staging"  # new, though a version 1 had been registered
    with pytest.raises(VersionReplacedError, match=rf"made about version 1 \(bundle {old[:12]}\), but that number belongs to"):
        registry.promote(still_open)
    for version in (None, 1):  # neither as the former champion, nor without the approval that this one never got
        with pytest.raises(VersionReplacedError, match=rf"{old[:12]}.* Nothing was changed") as refused:
            registry.rollback("AAPL", version, reason="now", apply=True)
        assert len(str(refused.value)) <= 300
    found = registry.verify("AAPL", repair=True)
    assert champion(registry) is None
    told = "\n".join(finding.message for finding in found.problems)
    assert f"version 1 (bundle {old[:12]}) was registered, and is not there any more: the registered model was deleted" in told
    assert f"made anew, and number 1 given to bundle {str(new.bundle)[:12]}" in told
    in_mlflow(registry, lambda client: client.set_registered_model_alias(NAME, "champion", "1"))
    assert "the champion is version 1, by the ledger it is no version: it was changed without a decision" in problems(registry)
    assert registry.overview().warnings == ["AAPL"]
    assert registry.overview().champions.frame["since (UTC)"][0] == ""
    assert "By the ledger no version is in Production, MLflow's alias points to version 1" in registry.history("AAPL").warnings[0]
    assert registry.rollback("AAPL", to="none", reason="who was that?", apply=True).to_version is None
    assert "changed without a decision" not in problems(registry)
    production_periods = list(registry.history("AAPL").production_periods()["in Production"])
    assert production_periods == ["version 1", "none"]


@pytest.mark.usefixtures("thorough")
def test_a_registered_model_that_was_renamed_is_found_and_nothing_else_is_taken_for_it(
    registered: Register, project: Project
) -> None:
    registry = reigned(registered, "regularised")
    in_mlflow(registry, lambda client: client.rename_registered_model(NAME, f"{NAME}_old"))
    assert f"the registered model was renamed to {NAME}_old in MLflow" in problems(registry)
    registered("original")
    with pytest.raises(VersionReplacedError, match=f"was renamed to {NAME}_old in MLflow, and number 1 given to bundle"):
        registry.rollback("AAPL", reason="now", apply=True)
    registry.verify("AAPL", repair=True)
    assert champion(registry) is None
    back = f"mlflow.MlflowClient().rename_registered_model('{NAME}_old', '{NAME}')"
    assert back in problems(registry)
    other = "\n".join(f"{f.message}; {f.remedy}" for f in registry.verify("AAPL_old").problems)
    assert (
        f"version 1 was registered as one of {NAME}: that registered model was renamed to {NAME}_old in MLflow; rename" in other
    )
    assert back in other
    assert "truncated" not in other
    in_mlflow(registry, lambda client: client.rename_registered_model(NAME, "elsewhere"))
    in_mlflow(registry, lambda client: client.rename_registered_model(f"{NAME}_old", NAME))
    assert champion(registry) == 1


@pytest.mark.usefixtures("thorough")
def test_a_version_whose_digest_was_edited_gets_nowhere(registered: Register, project: Project) -> None:
    registry = reigned(registered, "regularised", "original")
    lighter = registered("lighter")
    digest = registry.client.version(NAME, 2).tags[BUNDLE_DIGEST]
    in_mlflow(registry, lambda client: client.set_model_version_tag(NAME, "1", BUNDLE_DIGEST, "0" * 64))
    in_mlflow(registry, lambda client: client.set_model_version_tag(NAME, str(lighter), BUNDLE_DIGEST, digest[::-1]))
    acts: dict[str, Callable[[], object]] = {
        "rollback": lambda: registry.rollback("AAPL", reason="now", apply=True),
        "rollback to it": lambda: registry.rollback("AAPL", 1, reason="now", apply=True),
        "promote": lambda: registry.propose("AAPL", lighter, apply=True),
        "by hand": lambda: registry.transition_stage(NAME, lighter, "Production"),
    }
    for message, attempted in acts.items():
        with pytest.raises(VersionReplacedError, match=r"its tag fx\.bundle_sha256 was edited\. Nothing was changed"):
            attempted()
        assert champion(registry) == 2, message
    assert "version 1 is not as it was registered: its tag fx.bundle_sha256 was edited" in problems(registry)
    in_mlflow(registry, lambda client: client.delete_model_version_tag(NAME, "1", BUNDLE_DIGEST))
    with pytest.raises(VersionReplacedError, match=r"its tag fx\.bundle_sha256 was deleted"):
        registry.rollback("AAPL", reason="now", apply=True)


def test_a_decision_that_an_earlier_release_wrote_means_what_had_been_registered_by_then(
    registered: Register, project: Project
) -> None:
    """Its stage changes and repairs named numbers alone."""
    registry = ModelRegistry()
    registered("regularised")
    as_earlier_releases_kept_it(registry, NAME)
    told: dict[str, dict[str, Any]] = {
        "intent": {"kind": "stage change", "version": 1, "symbol": "AAPL", "stage": "Production"},
        "outcome": {"result": "moved", "rests_on": "manual", "from": None, "to": 1, "moved": utc_now()},
        "seal": {"record": None},
    }
    by_an_earlier_release(registry, NAME, "20261101T000000Z-stage-change-0", told)
    registry.client.set_alias(NAME, "champion", 1)
    bundle = registry.client.version(NAME, 1).identity
    assert read_ledger(registry.client, NAME).serving == bundle
    registry.client.drop_alias(NAME, "champion")
    registry.verify("AAPL", repair=True)
    assert champion(registry) == 1
    in_mlflow(registry, lambda client: client.delete_registered_model(NAME))
    other = project.bundle()
    half_registered(registry, other)  # and killed: the same again completes it
    assert (registry.register_model(other).version, registry.client.version(NAME, 1).stage) == (1, "Staging")
    registry.verify("AAPL", repair=True)
    assert champion(registry) is None
    assert bundle in read_ledger(registry.client, NAME).champions


def test_a_rollback_to_none_is_a_decision_and_a_rollback_undoes_it(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    with pytest.raises(
        NoChampionError, match=r"no version was ever in Production, .*: fx run promote -p symbol AAPL -p apply true"
    ):
        registry.rollback("AAPL", reason="now", apply=True)
    assert promoted(registry).undo == "fx rollback AAPL --to none --reason TEXT"
    look = registry.rollback("AAPL", to="none")
    assert (look.result, look.message) == ("only shown", "Preview, nothing was changed: no version would serve.")
    with pytest.raises(ParamsError, match="a rollback requires one: fx rollback AAPL --to none --reason TEXT"):
        registry.rollback("AAPL", to="none", apply=True)
    for wrong in ({"to": "zero"}, {"to": "none", "version": 1}, {"to": 3}):
        with pytest.raises(ParamsError, match="to: must be none"):
            registry.rollback("AAPL", reason="now", apply=True, **wrong)
    done = registry.rollback("AAPL", to="none", reason="the feed broke", apply=True)
    assert (done.kind, done.result, done.version, done.from_version, done.to_version) == ("rollback", "rolled back", 1, 1, None)
    assert done.message == "No version serves now, version 1 did before."
    assert done.undo == "fx rollback AAPL --version 1 --reason TEXT"
    assert (champion(registry), registry.client.version(NAME, 1).mirror) == (None, "Archived")
    assert registry.versions_frame("AAPL").loc[1, "last decision"].startswith("rolled back (rollback)")
    assert list(registry.history("AAPL").production_periods()["in Production"]) == ["version 1", "none"]
    assert registry.overview().champions.frame["in Production"][0] == "none"
    assert registry.rollback("AAPL", to="none", reason="again", apply=True).result == "unchanged"
    assert registry.verify("AAPL", repair=True).problems == []
    assert champion(registry) is None
    assert registry.rollback("AAPL", reason="mended", apply=True).to_version == 1
    with pytest.raises(NoChampionError, match="or let none serve: fx rollback AAPL --to none --reason TEXT"):
        registry.rollback("AAPL", reason="now", apply=True)
    registry.client.drop_alias(NAME, "champion")  # in MLflow, and then somebody decides that it is so
    registry.rollback("AAPL", to="none", reason="right so", apply=True)
    assert registry.verify("AAPL", repair=True).problems == []
    assert champion(registry) is None


def test_a_rollback_to_none_leaves_the_stage_that_auto_archive_says_also_after_a_kill(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = project.registry(model_registry={"auto_archive": False})
    registered("regularised", stage="Production")
    monkeypatch.setattr("fxhelpers.decisions._path.mirror", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.rollback("AAPL", to="none", reason="the feed broke", apply=True)
    monkeypatch.undo()
    assert (champion(registry), registry.load_champion("AAPL")) == (1, None)
    assert registry.verify("AAPL", repair=True).problems == []
    assert champion(registry) is None
    done = next(d for d in read_ledger(registry.client, NAME).decisions if d.kind == "rollback")
    assert (done.result, done.from_version, done.to_version) == ("rolled back", 1, None)
    assert registry.client.version(NAME, 1).mirror == "Staging"
    assert registry.rollback("AAPL", reason="mended", apply=True).to_version == 1


def test_an_unknown_symbol_is_called_one_and_what_is_known_is_named(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = ModelRegistry()
    acts: list[Callable[[], object]] = [
        lambda: registry.rollback("AAPPL"),
        lambda: registry.rollback("AAPPL", reason="now", apply=True),
        lambda: registry.rollback("AAPPL", to="none", reason="now", apply=True),
        lambda: registry.retain("AAPPL"),
        lambda: registry.history("AAPPL"),
    ]
    known = r"unknown symbol AAPPL \(did you mean 'AAPL'\?\): .*\(known: AAPL\); register one: fx run register -p symbol AAPPL"
    for attempted in acts:
        with pytest.raises(VersionNotFoundError, match=known):
            attempted()
    with pytest.raises(VersionNotFoundError, match="known: AAPL"):
        registry.verify("AAPPL")
    assert len(read_ledger(registry.client, NAME).decisions) == 1


@pytest.mark.usefixtures("thorough")
def test_an_open_decision_of_another_host_is_ended_once_its_owner_was_not_seen_for_long(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ModelRegistry()
    registered("regularised")
    elsewhere = process_identity() | {"machine": "elsewhere"}
    monkeypatch.setattr("fxhelpers.decisions._path.process_identity", lambda _pid=None: elsewhere)
    monkeypatch.setattr("fxhelpers.decisions._path._HEARTBEAT_SECONDS", 0.1)
    alive = begin(registry.client, NAME, IntentFacts(kind="promotion", version=1))
    monkeypatch.setattr("fxhelpers.registry.lock.EXPIRY_SECONDS", 0.5)
    for _ in range(3):
        time.sleep(0.5)
        assert [f.level for f in registry.verify("AAPL").findings] == ["note"]
    stop_heartbeat(alive)  # as when its host loses power
    time.sleep(1.5)
    assert any(f"the promotion of version 1 by {alive.actor}" in f.message for f in registry.verify("AAPL").problems)
    registry.transition_stage(NAME, 1, "Archived")
    assert next(d for d in read_ledger(registry.client, NAME).decisions if d.id == alive.id).result == "interrupted"


@pytest.mark.parametrize("seconds", [-7200, -120, 0, 120, 7200])
def test_a_clock_that_is_off_is_told_of_or_refused_and_no_time_comes_from_it(
    registered: Register, project: Project, seconds: int
) -> None:
    registry = ModelRegistry()
    registered("regularised")
    before = utc_now()
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True):
        if abs(seconds) > 600:
            with pytest.raises(ClockError, match=rf"{abs(seconds)} s (ahead|behind); nothing was changed: set this"):
                registry.transition_stage(NAME, 1, "Production")
        else:
            registry.transition_stage(NAME, 1, "Production")
    assert champion(registry) == (1 if abs(seconds) <= 600 else None)
    assert before[:10] <= last(registry).time <= utc_after(minutes=0.1)
    told = last(registry).intent.facts.clock_off_seconds or 0
    assert told == pytest.approx(seconds if abs(seconds) <= 600 else 0, abs=2)


def test_a_ledger_that_a_wrong_clock_set_ahead_goes_on_by_the_right_time(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    ahead = {
        "intent": {"kind": "stage change", "version": 1},
        "outcome": {"result": "moved", "from": None, "to": None},
        "seal": {},
    }
    as_earlier_releases_kept_it(registry, NAME)
    by_an_earlier_release(registry, NAME, "20261101T000000Z-stage-change-1", ahead, now=utc_after(minutes=125))
    registry.transition_stage(NAME, 1, "Production")
    assert last(registry).time < utc_after(minutes=1)
    assert registry.verify("AAPL").problems == []


def utc_after(*, minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


def test_a_bundle_is_one_version_also_where_its_creation_was_held_up(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after it looked and before it created, while somebody else registers the same bundle; or killed right then."""
    registry = ModelRegistry()
    registered("regularised")
    digest = registry.client.version(NAME, 1).tags[BUNDLE_DIGEST]
    find = type(registry.client).find_version
    monkeypatch.setattr(type(registry.client), "find_version", lambda *_: None)  # it had looked before
    assert registered("regularised") == 1
    monkeypatch.setattr(type(registry.client), "find_version", find)
    assert [v.version for v in registry.get_model_versions(NAME)] == [1]
    tags = {BUNDLE_DIGEST: digest, MODEL_DIGEST: "0" * 64}
    in_mlflow(registry, lambda client: client.create_model_version(NAME, "runs:/0/model", tags=tags))
    assert "version 3 is a second one of the same bundle" in problems(registry)
    assert registry.verify("AAPL", repair=True).problems == []
    assert [v.version for v in registry.get_model_versions(NAME)] == [1]


@pytest.mark.parametrize("step", ["mark", "finish"])
def test_a_pruning_that_was_killed_leaves_whole_files_usable_or_gone(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    registry = ModelRegistry()
    registered("regularised", stage="Production")
    other = registered("lighter", stage="Archived")
    from fxhelpers.decisions import _versions as retention

    mark = retention.mark

    def die(client: Any, decision: Decision, *versions: Any) -> None:
        if step == "mark":
            mark(client, decision, *versions)
        raise KeyboardInterrupt

    dead = process_identity() | {"started": 1}
    monkeypatch.setattr("fxhelpers.decisions._path.process_identity", lambda _pid=None: dead)
    monkeypatch.setattr(retention, step, die)
    monkeypatch.setattr("fxhelpers.decisions._path.recording_failure", nullcontext)
    monkeypatch.setattr(retention, "recording_failure", lambda *_: nullcontext())
    with pytest.raises(KeyboardInterrupt):
        registry.retain("AAPL", apply=True, prune=True)
    monkeypatch.undo()
    registry.verify("AAPL", repair=True)
    assert registry.verify("AAPL", deep=True).problems == []
    assert files_of(registry, other).exists() == (step == "mark")
    if step == "mark":
        assert registry.transition_stage(NAME, other, "Production").stage == "Production"
