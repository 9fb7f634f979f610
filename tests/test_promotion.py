"""The one path to Production, on real models of real prices."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NAME, ROOT, Project, as_earlier_releases_kept_it, in_a_notebook, without_ledger
from nbclient.exceptions import CellExecutionError

from fxhelpers import ModelRegistry, load_prices
from fxhelpers import scoring as inputs
from fxhelpers.errors import (
    ParamsError,
    PredictionsChangedError,
    PromotionRefusedError,
    StaleComparisonError,
    VersionNotFoundError,
)
from fxhelpers.ledger import AGAINST, Decision
from fxhelpers.params import PromotionParams, try_gates
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.runs import run_notebook

Register = Callable[..., int]


def stages(registry: ModelRegistry) -> dict[int, str]:
    """Return what MLflow itself has, not what we say of it."""
    with registry.client.session("list") as client:
        return {int(v.version): v.current_stage for v in client.search_model_versions(f"name='{NAME}'")}


def promoted(registry: ModelRegistry, version: int | None = None, **words: Any) -> Decision:
    return registry.promote(registry.propose("AAPL", version, apply=True, **words))


def decisions(registry: ModelRegistry) -> list[tuple[str, str | None, int | None, int | None]]:
    """Return kind, result and champions of all decisions but registrations that moved none."""
    found = read_ledger(registry.client, NAME).decisions
    return [(d.kind, d.result, d.from_version, d.to_version) for d in found if d.kind != "registration" or d.moved_at]


def test_the_originals_settings_are_refused_although_nobody_else_is_there(registered: Register, project: Project) -> None:
    registered("original")
    registry = ModelRegistry()
    decision = promoted(registry)
    assert (decision.verdict, decision.applied, decision.to_version) == ("keep", False, None)
    assert "times that of forecasting zero" in decision.reason
    assert registry.get_production_model(NAME) is None
    assert decisions(registry) == [("promotion", "refused", None, None)]


def test_a_better_model_becomes_champion_and_a_worse_one_does_not(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    good, worse = registered("regularised"), registered("original")
    first = promoted(registry, good, reason="The first of its kind.")
    assert (first.verdict, first.from_version, first.to_version, first.applied) == ("promote", None, good, True)
    assert first.reason.endswith('"The first of its kind."')
    second = promoted(registry, worse)
    assert (second.verdict, second.from_version, second.to_version, second.applied) == ("keep", good, good, False)
    assert stages(registry) == {good: "Production", worse: "Staging"}


def test_without_apply_nothing_changes(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = ModelRegistry()
    decision = registry.promote(registry.compare("AAPL"))
    assert (decision.verdict, decision.applied) == ("promote", False)
    assert registry.get_production_model(NAME) is None
    assert decisions(registry) == []


@pytest.mark.parametrize(("auto_archive", "stage"), [(True, "Archived"), (False, "Staging")])
def test_auto_archive_says_where_the_replaced_version_goes(
    registered: Register, project: Project, *, auto_archive: bool, stage: str
) -> None:
    registry = project.registry(model_registry={"auto_archive": auto_archive})
    old, new = registered("original", stage="Production"), registered("regularised")
    decision = promoted(registry, new)
    assert decision.applied
    assert stages(registry) == {old: stage, new: "Production"}


def test_compare_metrics_off_promotes_without_a_comparison_and_says_so(registered: Register, project: Project) -> None:
    registry = project.registry(model_registry={"compare_metrics": False})
    registered("original")
    decision = promoted(registry)
    assert (decision.rests_on, decision.applied) == ("not compared", True)
    assert read_ledger(registry.client, NAME).decisions[-1].rests_on == "not compared"
    assert registry.compare("AAPL").comparison is not None  # where it is required, it is made all the same


def test_a_manual_promotion_is_recorded_as_manual_and_there_is_one_champion(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    first, second = registered("original", stage="Production"), registered("regularised")
    registry.transition_stage(NAME, second, "Production")
    assert stages(registry) == {first: "Archived", second: "Production"}
    last = read_ledger(registry.client, NAME).decisions[-1]
    assert (last.kind, last.rests_on, last.from_version, last.to_version) == ("stage change", "manual", first, second)


def test_taking_the_champion_out_of_production_leaves_none(
    registered: Register, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ModelRegistry()
    registered("original", stage="Production")
    registry.transition_stage(NAME, 1, "Archived")
    assert registry.get_production_model(NAME) is None
    assert stages(registry) == {1: "Archived"}
    assert "its champion was taken out of Production; now no version serves" in caplog.text


def test_a_champion_that_changed_meanwhile_makes_the_comparison_stale(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("original", stage="Production")
    proposal = registry.propose("AAPL", registered("regularised"), apply=True)
    other = registered("lighter")
    registry.transition_stage(NAME, other, "Production")
    with pytest.raises(StaleComparisonError, match="made against version 1, but the champion is version 3 now"):
        registry.promote(proposal)
    assert stages(registry)[other] == "Production"
    last = read_ledger(registry.client, NAME).outcomes[-1]
    assert (last.kind, last.result, last.to_version) == ("promotion", "stale", other)
    assert "the champion is version 3 now" in last.reason


def test_an_alias_of_plain_mlflow_is_taken_over_by_the_first_decision(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    without_ledger(registry, NAME)
    registry.client.set_alias(NAME, "champion", 1)
    assert stages(registry) == {1: "Staging"}
    assert registry.get_model_versions(NAME)[0].stage == "Production"
    assert registry.load_champion("AAPL").version.version == 1  # type: ignore[union-attr]
    registry.transition_stage(NAME, 1, "Production")
    assert stages(registry) == {1: "Production"}
    assert [period.version for period in read_ledger(registry.client, NAME).production_periods()] == [1]


def test_promoting_again_mends_a_mirror_with_two_in_production(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after the alias moved: MLflow's stage must not go on serving the old version."""
    registry = ModelRegistry()
    old, new = registered("original", stage="Production"), registered("regularised")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fxhelpers.decisions._mirror.mirror_stages", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.transition_stage(NAME, new, "Production")
    monkeypatch.undo()
    assert stages(registry) == {old: "Production", new: "Staging"}
    assert {v.version: v.stage for v in registry.get_model_versions(NAME)} == {old: "Archived", new: "Production"}
    decision = promoted(registry, new)
    assert (decision.verdict, decision.to_version) == ("keep", new)
    assert stages(registry) == {old: "Archived", new: "Production"}
    registry.client.set_stage(NAME, old, "Production")  # as somebody does in MLflow's pages
    registry.transition_stage(NAME, new, "Production")
    assert stages(registry) == {old: "Archived", new: "Production"}


def test_moving_another_version_writes_no_decision_about_the_champion(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    champion, other = registered("regularised", stage="Production"), registered("original")
    registry.client.set_stage(NAME, other, "Production")
    registry.transition_stage(NAME, other, "Archived")
    assert not read_ledger(registry.client, NAME).decisions[-1].applied
    found = registry.get_production_model(NAME)
    assert found is not None
    assert found.version == champion


def test_judging_the_champion_again_moves_nothing(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised")
    promoted(registry)
    promoted(registry)
    assert decisions(registry) == [("promotion", "promoted", None, 1), ("promotion", "unchanged", 1, 1)]
    assert len(read_ledger(registry.client, NAME).production_periods()) == 1


@pytest.mark.usefixtures("thorough")
def test_an_archived_version_is_no_challenger_any_more(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    champion, last = registered("regularised", stage="Production"), registered("lighter")
    assert registry.compare("AAPL").challenger.version == last
    registry.transition_stage(NAME, last, "Archived")
    assert registry.compare("AAPL").challenger.version == champion


def test_a_reason_that_cannot_be_kept_is_refused_before_anything_changes(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = ModelRegistry()
    with pytest.raises(ParamsError, match="reason: at most 1000 printable characters are kept, found 1001"):
        promoted(registry, reason="x" * 1001)
    assert registry.get_production_model(NAME) is None


def test_the_champion_itself_is_compared_with_the_baselines_and_kept(registered: Register, project: Project) -> None:
    registered("regularised", stage="Production")
    registry = ModelRegistry()
    proposal = registry.compare("AAPL")
    assert proposal.verdict.outcome == "keep"
    assert "is the champion already; its RMSE is 0.1" in proposal.verdict.reason
    assert proposal.comparison is not None
    assert proposal.comparison.champion is None


def test_nothing_registered_says_how_to_register(project: Project) -> None:
    with pytest.raises(VersionNotFoundError, match=r"has no version to compare .* fx run register -p symbol AAPL"):
        ModelRegistry().compare("AAPL")


@pytest.mark.usefixtures("thorough")
def test_apply_is_refused_in_a_notebook_that_nobody_keeps_but_not_in_a_script_that_imports_a_kernel(
    registered: Register, project: Project
) -> None:
    registered("regularised")
    registry = ModelRegistry()
    with pytest.raises(CellExecutionError, match="fx run promote -p symbol AAPL -p version 1 -p apply true"):
        in_a_notebook('propose("AAPL", apply=True)', project.folder)
    assert decisions(registry) == []
    assert registry.get_production_model(NAME) is None
    import_module("ipykernel.kernelapp")
    assert registry.propose("AAPL", apply=True).decision is not None


@pytest.mark.usefixtures("thorough")
def test_an_override_promotes_against_the_verdict_and_is_marked_everywhere(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    good, worse = registered("regularised", stage="Production"), registered("original")
    with pytest.raises(ParamsError, match="promoting against the verdict requires a reason"):
        registry.propose("AAPL", worse, apply=True, override=True, reason=" ")
    assert len(decisions(registry)) == 1
    look = registry.promote(registry.propose("AAPL", worse, override=True, reason="the feed broke"))
    assert (look.result, look.rests_on, look.to_version) == ("only shown", "override", good)
    done = promoted(registry, worse, override=True, reason="the feed broke")
    assert (done.result, done.verdict, done.rests_on, done.overridden) == ("promoted", "keep", "override", True)
    history = registry.history("AAPL")
    marked = (
        done.reason,
        done._repr_html_(),
        registry.client.version(NAME, worse).tags["fx.decision"],
        registry.versions_frame("AAPL").loc[worse, "last decision"],
        history.to_csv(),
        history._repr_html_(),
        history.production_periods().to_html(),
        registry.verify("AAPL").message + str(registry.verify("AAPL").findings),
    )
    for place, text in enumerate(marked):
        assert AGAINST in str(text), place
    needless = promoted(registry, good, override=True, reason="back")
    assert (needless.verdict, needless.rests_on, needless.overridden) == ("promote", "compared", False)


def test_an_override_needs_the_approval_that_any_promotion_needs(registered: Register, project: Project) -> None:
    registered("original")
    registry = project.registry(promotion={"approval": {"Production": {"required": True}}})
    decision = promoted(registry, override=True, reason="the feed broke")
    assert (decision.result, decision.overridden, decision.to_version) == ("refused", False, None)
    assert "requires approved_by" in decision.reason


@pytest.mark.usefixtures("thorough")
def test_a_comparison_with_another_version_than_the_champion_can_be_looked_at_but_not_acted_on(
    registered: Register, project: Project
) -> None:
    registry = ModelRegistry()
    old, champion, new = registered("original"), registered("regularised", stage="Production"), registered("lighter")
    look = registry.compare("AAPL", new, champion=old)
    assert look.comparison is not None
    assert (look.comparison.champion, look.verdict.outcome) == (
        f"version {old}",
        "promote" if look.verdict.outcome == "promote" else "keep",
    )
    assert registry.promote(look).to_version == champion
    with pytest.raises(StaleComparisonError, match=r"the champion is version 2, not version 1, .* nothing was changed"):
        registry.propose("AAPL", new, champion=old, apply=True)
    assert registry.propose("AAPL", new, champion=champion).champion == registry.get_production_model(NAME)


@pytest.mark.usefixtures("thorough")
def test_other_gates_can_be_tried_in_a_look_and_never_be_acted_on(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("original", stage="Production")
    challenger, written = registered("regularised"), registry.params.promotion
    asked = {"id": "gain", "metric": "rmse", "versus": "champion", "min_improvement": 0.9}
    look = registry.compare("AAPL", challenger, gates=[asked, {"id": "more", "metric": "hit_rate", "min": 0.1}])
    assert (look.verdict.outcome, look.tried) == ("keep", ("gain", "more"))
    words = "Not by the written policy: other gates than those of params.yaml were tried (gain, more); version 2 "
    assert look.verdict.reason.startswith(words)
    assert words in look.verdict._repr_html_()
    assert [gate.id for gate in look.policy.gates] == [*(gate.id for gate in written.gates), "more"]
    assert look.to_json()["verdict"]["tried"] == ["gain", "more"]
    easy = registry.compare("AAPL", challenger, gates=[{**asked, "min_improvement": 0.001}])
    assert easy.verdict.outcome == "promote"
    for proposal in (easy, replace(easy, decision=read_ledger(registry.client, NAME).decisions[0])):
        with pytest.raises(PromotionRefusedError, match=r"\(gain\), but the written policy decides: .* nothing was changed"):
            registry.promote(proposal)
    assert registry.params.promotion == written
    assert stages(registry)[challenger] == "Staging"


def test_gates_to_try_take_their_places(project: Project) -> None:
    written = PromotionParams()
    assert try_gates(written, []) == try_gates(written, [written.gates[3].model_dump()]) == written


@pytest.mark.parametrize(
    ("gates", "wrong"),
    [
        ([{"id": "gain", "metric": "rsme", "max": 1}], r"^gates\.0\.metric: unknown metric \(did you mean 'rmse'\?\)"),
        ([{"id": "gain", "metrik": "rmse"}], r"^gates\.0\.metrik: unknown key; the nearest known one is 'metric'"),
        ([{"id": "a", "metric": "r2", "max": 1}, {"id": "a", "metric": "r2", "max": 2}], r"^gates: the id 'a' is there twice"),
        ([{"id": "gain", "metric": "r2", "max": 1}] * 2, r"^gates: the id 'gain' is there twice"),
        ([{"id": "days", "metric": "r2", "max": 1}], r"^gates: the id 'days' belongs to a built-in gate"),
        ([{"id": "superior", "metric": "r2", "max": 1}], r"^gates: policy superiority: one gate must test the challenger"),
        ({"id": "gain"}, r"^gates: Input should be a valid list"),
        ("gain", r"^gates: Input should be a valid list, found 'gain'"),
    ],
)
def test_gates_to_try_are_checked_as_params_yaml_is(gates: Any, wrong: str) -> None:
    with pytest.raises(ParamsError, match=wrong):
        try_gates(PromotionParams(), gates)


@pytest.mark.usefixtures("thorough")
def test_several_challengers_are_tested_at_once_and_the_best_is_judged(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("original", stage="Production")
    second, third = registered("lighter"), registered("regularised")
    proposal = registry.propose("AAPL", challengers=[second, third], apply=True)
    assert proposal.comparison is not None
    assert proposal.challenger.version == third
    assert proposal.comparison.frame.challengers == ["version 3", "version 2"]
    decision = registry.promote(proposal)
    assert (decision.result, decision.to_version, decision.outcome_facts.challengers) == ("promoted", third, [third, second])
    with pytest.raises(ParamsError, match="version 3 is the champion, which all others are compared with"):
        registry.compare("AAPL", challengers=[second, third])
    with pytest.raises(ParamsError, match="at most 50 at once, found 51"):
        registry.compare("AAPL", challengers=range(1, 52))
    with pytest.raises(ParamsError, match="version 1 would be compared with itself"):
        registry.compare("AAPL", 1, champion=1)
    with pytest.raises(ParamsError, match="expected a version number, 1 or more; found 'two'"):
        registry.compare("AAPL", challengers=["two"])  # type: ignore[list-item]
    assert registry.verify("AAPL", deep=True).findings == ()


def test_what_is_no_version_number_is_refused_and_never_taken_for_the_newest(project: Project) -> None:
    registry = ModelRegistry()
    acts: list[Callable[[Any], object]] = [
        lambda wrong: registry.compare("AAPL", wrong),
        lambda wrong: registry.propose("AAPL", wrong, apply=True),
        lambda wrong: registry.propose("AAPL", champion=wrong, apply=True),
        lambda wrong: registry.propose("AAPL", challengers=[2, wrong], apply=True),
        lambda wrong: registry.propose("AAPL", challengers=wrong, apply=True),
        lambda wrong: registry.rollback("AAPL", wrong, reason="now", apply=True),
        lambda wrong: registry.rollback("AAPL", wrong),
    ]
    for act in acts:
        for wrong in (0, -1, True, False, 1.0, "1", "x", float("nan"), 10**12):
            with pytest.raises(ParamsError, match=r"(version|champion|challengers): expected a version number, 1 or more"):
                act(wrong)


@pytest.mark.usefixtures("thorough")
def test_a_notebooks_zero_and_numpys_integers_are_numbers_as_before(registered: Register, project: Project) -> None:
    registered("regularised", stage="Production")
    registered("lighter")
    registry = ModelRegistry()
    chosen = registry.compare("AAPL", np.int64(2), champion=np.int32(1))  # type: ignore[arg-type]
    assert (chosen.challenger.version, type(chosen.challenger.version)) == (2, int)
    zeros = {"symbol": "AAPL", "version": 0, "champion": 0, "challengers": []}
    result = run_notebook(ROOT / "notebooks" / "compare.ipynb", zeros, preloaded=True)
    assert (result.summary or {})["version"] == 2


@pytest.mark.usefixtures("thorough")
def test_distinct_attempts_are_counted_and_the_same_one_again_is_none(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("regularised", stage="Production")
    first, second = registered("original"), registered("lighter")

    def attempt(version: int, **days: str) -> int:
        proposal = registry.propose("AAPL", version, apply=True, **days)  # type: ignore[arg-type]
        registry.promote(proposal)
        return proposal.verdict.attempt

    assert registry.compare("AAPL", second).verdict.attempt == 1  # a look is none, and shows what the next one would be
    assert [attempt(first), attempt(second), attempt(first), attempt(second)] == [1, 2, 1, 2]
    assert attempt(second, start="2011-01-03") == 3
    registry.propose("AAPL", first, apply=True, end="2012-12-31")  # abandoned: somebody may have seen the verdict
    assert attempt(second, start="2011-01-04") == 5
    other = project.registry(promotion={"evaluation": {"cost": 0.001}})
    assert other.compare("AAPL", second).verdict.attempt == 6  # by another policy it is another attempt
    outcome = read_ledger(registry.client, NAME).outcomes[-1].outcome
    assert outcome is not None
    assert outcome.facts.attempt == 5
    superior = next(gate for gate in outcome.facts.gates if gate.id == "superior")
    assert superior.bound.endswith("(0.05/(k(k+1)), attempt 5)")


@pytest.mark.usefixtures("thorough")
def test_another_processor_or_prices_downloaded_again_are_no_new_attempt(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices, noise = load_prices("AAPL", ModelRegistry().params.prices), np.random.default_rng(0)
    folder = project.folder / "prices"
    folder.mkdir()

    def attempt(prices: pd.DataFrame, **words: Any) -> tuple[int, str | None]:
        prices.to_csv(folder / "AAPL.csv")
        registry = project.registry(prices={"source": "csv", "folder": "prices"})
        proposal = registry.propose("AAPL", apply=True, **words)
        facts = registry.promote(proposal).outcome_facts
        return facts.attempt, facts.attempt_frame

    registered("regularised", stage="Production")
    registered("original")
    registered("lighter")
    number, same = attempt(prices)
    assert (number, same) == (1, None)
    again = prices * (1 + 1e-8 * noise.standard_normal(prices.shape))
    number, same = attempt(again)
    first = read_ledger(ModelRegistry().client, NAME).decisions[-2].outcome_facts.frame_sha256
    assert (number, same) == (1, first)
    exact = inputs.forecast_days
    with monkeypatch.context() as patch:  # another BLAS adds in another order

        def elsewhere(*arguments: Any) -> pd.DataFrame:
            days = exact(*arguments)
            return days.assign(forecast=days["forecast"] + 1e-13 * noise.standard_normal(len(days)))

        patch.setattr(inputs, "forecast_days", elsewhere)
        assert attempt(prices) == (1, first)
        assert attempt(prices, challengers=[2, 3])[0] == 1  # the best of them has the recipe of the first attempt
        assert attempt(prices, challengers=[3, 2])[0] == 1
    ledger = read_ledger(ModelRegistry().client, NAME)
    assert len({d.outcome_facts.frame_sha256 for d in ledger.decisions if d.kind == "promotion"}) == 5
    assert len(ledger.attempts) == 1
    restated = prices.copy()
    restated.iloc[-1:] *= 1.001  # the last return is another one, though every stored forecast comes out again
    with pytest.raises(PredictionsChangedError, match=r"prices changed on 1 of 3,270 days, 2013-03-01 .Open"):
        attempt(restated)
    assert attempt(restated, accept_restated=True, reason="the vendor corrected its last day")[0] == 1  # the same recipe and days
    restated.iloc[-200:] *= 0.99
    with pytest.raises(PredictionsChangedError):
        attempt(restated)
    assert ModelRegistry(project.folder / "params.yaml").verify("AAPL", deep=True).problems == []


@pytest.mark.usefixtures("thorough")
def test_the_same_comparison_that_an_earlier_release_recorded_is_no_new_attempt(registered: Register, project: Project) -> None:
    """Its entry tells the bundles of two versions, days and policy; what those of others were, and values, is in the registry."""
    registered("regularised", stage="Production")
    registered("original")
    registered("lighter")
    registry = ModelRegistry()
    once = registry.propose("AAPL", challengers=[2, 3], apply=True)
    assert once.comparison is not None
    shaken = replace(once.comparison.frame, days=once.comparison.frame.days + 1e-12)
    shaken.days["zero return"] = 0.0
    registry.promote(replace(once, comparison=replace(once.comparison, frame=shaken)))
    old = read_ledger(registry.client, NAME).decisions[-1]
    assert old.outcome is not None
    kept = {number: digest for number, digest in old.bundles.items() if number in {str(once.challenger.version), "1"}}
    facts = {key: value for key, value in old.outcome.facts.stored().items() if key != "attempt_frame"} | {"bundles": kept}
    as_earlier_releases_kept_it(registry, NAME, {old.id: facts})
    assert read_ledger(registry.client, NAME).faults == ()
    again = registry.compare("AAPL", challengers=[3, 2])
    assert again.comparison is not None
    assert (again.verdict.attempt, again.attempt_frame) == (1, old.outcome_facts.frame_sha256)
    assert again.comparison.frame.digest != old.outcome_facts.frame_sha256
    assert registry.compare("AAPL", 2).verdict.attempt == 2
