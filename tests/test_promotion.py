"""The one path to Production, on real models of real prices."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import NAME, Project

from fxhelpers import ModelRegistry, load_prices
from fxhelpers.comparison import TARGET, ZERO, EvaluationFrame, column, compare
from fxhelpers.errors import NoRecordError, NotComparableError, ParamsError, StaleComparisonError, VersionNotFoundError
from fxhelpers.ledger import Decision
from fxhelpers.policy import judge
from fxhelpers.registry.ledgers import read_ledger
from fxhelpers.scoring import evaluation_frame

Register = Callable[..., int]


def stages(registry: ModelRegistry) -> dict[int, str]:
    """Return what MLflow itself has, not what we say of it."""
    with registry.client.session("list") as client:
        return {int(v.version): v.current_stage for v in client.search_model_versions(f"name='{NAME}'")}


def promoted(registry: ModelRegistry, version: int | None = None, **words: str) -> Decision:
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
    assert "its champion was taken out of Production; now there is none" in caplog.text


def test_a_champion_that_changed_meanwhile_makes_the_comparison_stale(registered: Register, project: Project) -> None:
    registry = ModelRegistry()
    registered("original", stage="Production")
    proposal = registry.propose("AAPL", registered("regularised"), apply=True)
    other = registered("lighter")
    registry.transition_stage(NAME, other, "Production")
    with pytest.raises(StaleComparisonError, match="made against version 1, but the champion is version 3 by now"):
        registry.promote(proposal)
    assert stages(registry)[other] == "Production"
    last = read_ledger(registry.client, NAME).outcomes[-1]
    assert (last.kind, last.result, last.to_version) == ("promotion", "stale", other)
    assert "the champion is version 3 by now" in last.reason


def test_promoting_again_mends_a_mirror_that_lags(registered: Register, project: Project) -> None:
    """Killed between alias and stage, the next run completes it."""
    registry = ModelRegistry()
    registered("regularised")
    registry.client.set_alias(NAME, "champion", 1)
    assert stages(registry) == {1: "Staging"}
    assert registry.get_model_versions(NAME)[0].stage == "Production"  # the alias is the truth
    registry.transition_stage(NAME, 1, "Production")
    assert stages(registry) == {1: "Production"}


def test_promoting_again_mends_a_mirror_with_two_in_production(registered: Register, project: Project) -> None:
    """Killed right after the alias moved: MLflow's stage must not go on serving the old version."""
    registry = ModelRegistry()
    old, new = registered("original", stage="Production"), registered("regularised")
    registry.client.set_alias(NAME, "champion", new)
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
    assert len(read_ledger(registry.client, NAME).reigns()) == 1


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


def test_a_small_difference_is_said_with_digits_enough() -> None:
    target = returns(300)
    verdict = judge(compare(frame_of(target * 0.1, target * 0.1 * (1 + 1e-7), target)))
    assert "1.11e-06 % above that of the champion" in verdict.reason


def test_the_champion_itself_is_compared_with_the_baselines_and_kept(registered: Register, project: Project) -> None:
    registered("regularised", stage="Production")
    registry = ModelRegistry()
    proposal = registry.compare("AAPL")
    assert proposal.verdict.outcome == "keep"
    assert "is the champion already; its RMSE is 0.153 % below that of forecasting zero, on 768 days" in proposal.verdict.reason
    assert proposal.comparison is not None
    assert proposal.comparison.champion is None


def test_nothing_registered_says_how_to_register(project: Project) -> None:
    with pytest.raises(VersionNotFoundError, match=r"has no version to compare .* fx run register -p symbol AAPL"):
        ModelRegistry().compare("AAPL")


def test_only_days_that_no_version_has_seen_are_compared(registered: Register, project: Project) -> None:
    """The later training decides: its last day, the horizon and the embargo are left out."""
    old = registered("regularised")
    newer = project.registry(training={"test_size": 0.1, "embargo_days": 5})
    new = newer.register_model(project.bundle()).version
    prices = load_prices("AAPL", newer.params.prices)
    frame = evaluation_frame(newer.client, NAME, "AAPL", prices, challenger=new, champion=old)
    seen = pd.Timestamp(frame.facts[new]["windows"]["validation"]["last_day"])
    assert seen > pd.Timestamp(frame.facts[old]["windows"]["validation"]["last_day"])
    between = prices.index[(prices.index > seen) & (prices.index < frame.days.index[0])]
    assert len(between) == 1 + 5
    assert frame.days.notna().all(axis=None)
    assert frame.digest == evaluation_frame(newer.client, NAME, "AAPL", prices, challenger=new, champion=old).digest


def test_no_common_day_left_names_who_saw_them(registered: Register, project: Project) -> None:
    registered("regularised")
    registry = project.registry(prices={"end": "2010-01-29"})
    with pytest.raises(NotComparableError, match=r"no day is left .* end on 2010-01-29.*version 1 up to 2010-0"):
        registry.compare("AAPL")


def test_apply_is_refused_in_a_notebook_that_nobody_keeps(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    registered("regularised")
    registry = ModelRegistry()
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", sys)
    with pytest.raises(NoRecordError, match="fx run promote -p symbol AAPL -p version 1 -p apply true"):
        registry.propose("AAPL", apply=True)
    assert decisions(registry) == []
    assert registry.get_production_model(NAME) is None


def frame_of(challenger: pd.Series, champion: pd.Series | None, target: pd.Series) -> EvaluationFrame:
    columns = {TARGET: target, ZERO: target * 0, column(2): challenger}
    if champion is not None:
        columns[column(1)] = champion
    return EvaluationFrame(
        symbol="XYZ", challenger=2, champion=1 if champion is not None else None, days=pd.DataFrame(columns), facts={}
    )


def returns(days: int, seed: int = 0) -> pd.Series:
    return pd.Series(np.random.default_rng(seed).normal(0, 0.02, days), pd.bdate_range("2020-01-01", periods=days))


def test_an_identical_challenger_is_never_promoted() -> None:
    target = returns(300)
    verdict = judge(compare(frame_of(target * 0.1, target * 0.1, target)))
    assert verdict.outcome == "keep"
    assert "exactly that of the champion" in verdict.reason


def test_too_few_days_are_never_enough() -> None:
    target = returns(59)
    verdict = judge(compare(frame_of(target * 0.5, None, target)))
    assert verdict.outcome == "keep"
    assert "only 59 days" in verdict.reason


def test_a_gate_that_cannot_be_evaluated_is_inconclusive_not_passed() -> None:
    target = returns(100) * 0  # a share that never moved: no error to improve on
    verdict = judge(compare(frame_of(target, None, target)))
    assert verdict.outcome == "inconclusive"
    assert [gate.result for gate in verdict.gates] == ["pass", "not evaluated"]


def test_a_forecast_that_is_not_finite_is_refused_by_name() -> None:
    target = returns(100)
    with pytest.raises(ValueError, match="version 2 of XYZ: y_pred: not finite on 1 of 100 days"):
        compare(frame_of(target.where(target.index != target.index[3]), None, target))


def test_measures_are_what_they_say() -> None:
    target = returns(400)
    comparison = compare(frame_of(target * 0.5, target * 0, target))
    ours = comparison.measures.loc["version 2"]
    assert ours["rmse_to_zero"] == pytest.approx(0.5)
    assert ours["r2"] == pytest.approx(0.75)
    assert ours["hit_rate"] == 1.0
    gain = comparison.cumulative_gain(ZERO)
    assert gain.iloc[-1] == pytest.approx(0.75 * float((target**2).sum()))
    assert gain.is_monotonic_increasing
    assert np.allclose(comparison.rolling_rmse_to_zero(60)["version 2"], 0.5)
