"""Refits and contests from the bundle to the ledger: what is refreshed without a test, what is tested, and what is refused."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project

from fxhelpers import ModelRegistry, evaluate_bundle, load_params, read_prices, train_model, write_bundle
from fxhelpers.bundles import Bundle, earlier_trainings
from fxhelpers.errors import BundleError, NotComparableError, RollingForecastsError
from fxhelpers.registry import RECIPE_DIGEST
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import load_version
from fxhelpers.scoring import VersionInputs
from fxhelpers.training import Rolling

SYMBOL, NAME = "MSFT", "MLP_Stock_Predictor_MSFT"
EARLIER = "2012-11-30"
MODELS: dict[str, Any] = {
    "calm": {"estimator": "Ridge", "alpha": 3000.0},
    "calm_again": {"estimator": "Ridge", "candidates": {"alpha": [3000]}, "fit_intercept": True},
    "wild": {"estimator": "Ridge", "alpha": 10.0},
}


@pytest.fixture
def refits(project: Project) -> Project:
    """A project whose models are refitted, and whose symbol has some skill to find."""
    project.write(training={"refit": True, "model": "calm", "models": MODELS, "rolling": {"first_day": 500, "every_days": 250}})
    return project


def trained(project: Project, model: str, end: str = "", **edits: Any) -> Bundle:
    params = load_params(project.folder / "params.yaml")
    prices = read_prices(SYMBOL, params.prices, end=end)
    made = train_model(SYMBOL, prices, params.training, model=model, earlier=earlier_trainings(SYMBOL, params.paths))
    return write_bundle(made.model, made.scaler, {**made.metadata, **edits}, params.paths)


def serve(registry: ModelRegistry, bundle: Bundle) -> int:
    """Register a bundle and promote it by the policy."""
    version = registry.register_model(bundle).version
    assert registry.promote(registry.propose(SYMBOL, version, apply=True)).result == "promoted"
    return version


def test_a_refit_of_the_champions_recipe_is_a_refresh_that_spends_nothing(refits: Project) -> None:
    registry = refits.registry()
    first = serve(registry, trained(refits, "calm", EARLIER))
    bundle = trained(refits, "calm")
    assert bundle.rolling is not None
    second = registry.register_model(bundle).version
    proposal = registry.propose(SYMBOL, second, apply=True)
    assert proposal.verdict.headline.startswith(f"Version {second} is a refresh of the champion, version {first} (same recipe ")
    assert {gate.id for gate in proposal.verdict.gates} >= {
        "forecasts",
        "replay",
        "stale",
        "fresher",
        "size",
        "broken",
        "suspicious",
    }
    assert registry.promote(proposal).result == "promoted"
    ledger = read_ledger(registry.client, NAME)
    assert [d.outcome_facts.change for d in ledger.decisions if d.kind == "promotion"] == ["first", "refresh"]
    assert ledger.attempts == []
    assert {d.outcome_facts.recipe for d in ledger.decisions} == {bundle.recipe.digest}
    assert registry.client.version(NAME, second).tags[RECIPE_DIGEST] == bundle.recipe.digest
    assert registry.verify(SYMBOL, deep=True).message.startswith("OK")


@pytest.mark.usefixtures("thorough")
def test_another_recipe_is_a_contest_on_the_rolling_days_of_both(refits: Project) -> None:
    registry = refits.registry()
    champion = serve(registry, trained(refits, "calm", EARLIER))
    bundle = trained(refits, "wild")
    challenger = registry.register_model(bundle).version
    proposal = registry.propose(SYMBOL, challenger, apply=True)
    assert proposal.verdict.kind == "contest"
    assert "another recipe than the champion's" in proposal.verdict.headline
    comparison = proposal.comparison
    assert comparison is not None
    assert comparison.frame.champion == champion
    assert bundle.rolling is not None
    days = comparison.frame.days
    np.testing.assert_array_equal(days[f"version {challenger}"], bundle.rolling.forecasts.loc[days.index])
    assert comparison.last_day > EARLIER, "after its training the champion itself forecast"
    decision = registry.promote(proposal)
    assert decision.result == "refused"
    (attempt,) = read_ledger(registry.client, NAME).attempts
    facts = decision.outcome_facts
    assert (attempt.number, attempt.key) == (facts.attempt, facts.recipe) == (1, bundle.recipe.digest)
    assert facts.champion_recipe not in {None, facts.recipe}
    assert (facts.level, facts.next_level) == (0.025, pytest.approx(0.05 / 6))
    again = registry.propose(SYMBOL, challenger, apply=True)
    assert again.verdict.attempt == 1, "the same recipe, without 63 new days"
    registry.promote(again)
    assert len(read_ledger(registry.client, NAME).attempts) == 1
    other = registry.propose(SYMBOL, challenger, start="2008-01-02")
    assert other.verdict.attempt == 2, "a window that was searched for"


@pytest.mark.usefixtures("thorough")
def test_the_same_recipe_under_another_name_is_no_contest(refits: Project) -> None:
    registry = refits.registry()
    serve(registry, trained(refits, "calm"))
    copy = registry.register_model(trained(refits, "calm_again")).version
    proposal = registry.propose(SYMBOL, copy, apply=True)
    assert proposal.verdict.kind == "refresh"
    assert "it is not fresher" in proposal.verdict.reason
    assert registry.promote(proposal).result == "refused"
    assert read_ledger(registry.client, NAME).attempts == []


@pytest.mark.usefixtures("thorough")
def test_a_policy_may_forbid_refreshes(refits: Project) -> None:
    registry = refits.registry(promotion={"refresh": "contest"})
    serve(registry, trained(refits, "calm", EARLIER))
    refit = registry.register_model(trained(refits, "calm")).version
    proposal = registry.propose(SYMBOL, refit)
    assert proposal.verdict.kind == "contest"
    assert proposal.comparison is not None
    assert proposal.comparison.first_day > EARLIER, "before, the two forecast the same"
    assert proposal.verdict.outcome == "keep"
    same = registry.register_model(trained(refits, "calm_again")).version
    with pytest.raises(NotComparableError, match="no unseen day to compare on"):
        registry.propose(SYMBOL, same, champion=refit)


def peeking(bundle: Bundle) -> dict[str, Any]:
    """Rolling-origin forecasts by the model that serves, which has seen all these days."""
    assert bundle.rolling is not None
    params = load_params()
    days = bundle.rolling.forecasts.index
    features, _ = VersionInputs(SYMBOL, params).ours(2)
    forecasts = pd.Series(bundle.pipeline().predict(features.loc[days]), days)
    return Rolling(forecasts=forecasts, origins=bundle.rolling.origins).to_json()


def test_a_recipe_that_peeks_is_not_registered(refits: Project) -> None:
    registry, honest = refits.registry(), trained(refits, "calm")
    bundle = trained(refits, "calm", rolling=peeking(honest))
    with pytest.raises(RollingForecastsError, match="are not what its recipe forecasts from the days before"):
        registry.register_model(bundle)
    assert registry.get_model_versions(NAME) == []
    assert [d.result for d in read_ledger(registry.client, NAME).decisions] == ["failed"]


def test_metadata_of_another_fit_are_not_registered(refits: Project) -> None:
    """A later window would be fresher than it is; an earlier one would let the model that saw all days forecast them."""
    registry, bundle = refits.registry(), trained(refits, "calm")
    window, kept = bundle.metadata["windows"]["training"], bundle.metadata["forecasts"]
    edits: list[tuple[dict[str, Any], str]] = [
        ({"windows": {"training": {**window, "last_day": "2030-01-04"}}}, "windows are not those of a fit on all days"),
        ({"windows": {"training": {**window, "last_day": "2009-01-05"}}}, "windows are not those of a fit on all days"),
        ({"windows": {"training": window, "validation": {**window, "last_day": "2030-01-04"}}}, "windows are not those"),
        ({"target": {**bundle.metadata["target"], "training_mean": 0.5}}, "target.training_mean are not those"),
        ({"forecasts": {"days": [], "values": []}}, "0 of the 0 stored forecasts"),
        ({"forecasts": {"days": ["2011-01-01"], "values": [0.0]}}, "1 of the 1 stored forecasts"),
        ({"forecasts": {**kept, "values": [0.0] * len(kept["days"])}}, f"{len(kept['days'])} of the {len(kept['days'])} stored"),
    ]
    for edit, says in edits:
        with pytest.raises(RollingForecastsError, match=says):
            registry.register_model(trained(refits, "calm", **edit))
    assert registry.get_model_versions(NAME) == []


def test_a_fit_on_all_days_does_not_pass_for_one_on_the_training_days(refits: Project) -> None:
    registry, whole = refits.registry(), trained(refits, "calm")
    refits.write(training={"refit": False})
    split = trained(refits, "calm")
    assert registry.register_model(split).created
    windows = split.metadata["windows"]
    earlier: dict[str, Any] = {"windows": {**windows, "training": {**windows["training"], "last_day": "2004-01-05"}}}
    with pytest.raises(RollingForecastsError, match="windows are not those of a fit on training days"):
        registry.register_model(trained(refits, "calm", **earlier))
    kept = {name: split.metadata[name] for name in split.metadata.keys() - {"files"}}
    with pytest.raises(RollingForecastsError, match="the scaler's means are not those of a fit on training days"):
        registry.register_model(write_bundle(whole.model_object, whole.scaler_object, kept, registry.params.paths))


def test_a_model_that_is_not_the_fit_of_its_recipe_is_not_registered(refits: Project) -> None:
    registry, params = refits.registry(), load_params(refits.folder / "params.yaml")
    made = train_model(SYMBOL, read_prices(SYMBOL, params.prices), params.training)
    features, _ = VersionInputs(SYMBOL, params).ours(2)
    model = copy.deepcopy(made.model)
    model.regressor_.coef_ *= 3
    with pytest.raises(RollingForecastsError, match="stored forecasts are not those of"):
        registry.register_model(write_bundle(model, made.scaler, made.metadata, params.paths))
    days = made.metadata["forecasts"]["days"]
    values = model.predict(made.scaler.transform(features.loc[pd.DatetimeIndex(days)])).tolist()
    edited = {**made.metadata, "forecasts": {"days": days, "values": values}}
    with pytest.raises(RollingForecastsError, match="it is not what its recipe fits on its prices"):
        registry.register_model(write_bundle(model, made.scaler, edited, params.paths))


@pytest.mark.parametrize("edit", [{"settings": "alpha"}, {"random_state": 7}])
@pytest.mark.parametrize("refit", [True, False])
def test_a_recipe_of_another_model_is_refused(refits: Project, edit: dict[str, Any], refit: bool) -> None:
    """Else distinct models would pass for one recipe, which is one attempt."""
    refits.write(training={"refit": refit})
    facts = trained(refits, "calm").recipe.facts
    edited = {"settings": [{**facts["settings"][0], "alpha": 10}]} if "settings" in edit else edit
    with pytest.raises(BundleError, match="its recipe trains another model than mlp_model_MSFT"):
        trained(refits, "calm", recipe={**facts, **edited})


def test_forecasts_that_registration_missed_are_found_by_a_comparison(refits: Project) -> None:
    registry, bundle = refits.registry(), trained(refits, "calm")
    version = registry.register_model(bundle).version
    scored = VersionInputs(SYMBOL, registry.params).score(load_version(registry.client, NAME, version))
    scored.check_recipe("any seed")
    forged = replace(scored, rolling=Rolling.read(peeking(bundle)))
    with pytest.raises(RollingForecastsError, match=f"version {version} of {NAME}: the forecasts from"):
        forged.check_recipe("any seed")


def test_a_refit_is_evaluated_on_its_recipes_rolling_days(refits: Project, tmp_path: Path) -> None:
    bundle = trained(refits, "calm")
    evaluation = evaluate_bundle(bundle, read_prices(SYMBOL, load_params(tmp_path / "params.yaml").prices))
    assert evaluation.days == "rolling-origin"
    assert bundle.rolling is not None
    assert len(evaluation.predictions) == len(bundle.rolling.forecasts)
    assert evaluation.metrics["test_rmse"] == pytest.approx(bundle.metadata["metrics"]["val_rmse"], rel=1e-6)
    assert evaluation.same_prices
