"""Rolling-origin forecasts: none sees its day, a refit takes them over, and no others pass for them."""

import copy
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhelpers import load_prices, train_model
from fxhelpers.bundles._checks import check_metadata
from fxhelpers.errors import BundleError, ParamsError, PriceDataError, RollingForecastsError
from fxhelpers.params import PricesParams, TrainingParams
from fxhelpers.prices import keep_prices, unpack_prices
from fxhelpers.recipes import Recipe
from fxhelpers.training import Rolling, TrainedModel, _rolling, check_fit, check_rolling, fit_recipe, roll, supervised

PRICES = load_prices("AAPL", PricesParams())
RULES = TrainingParams.model_validate(
    {
        "rolling": {"first_day": 500, "every_days": 250},
        "model": "ridge",
        "models": {"ridge": {"estimator": "Ridge", "candidates": {"alpha": [10.0, 1000.0, 100000.0]}}},
    }
)
WHOLE = train_model("AAPL", PRICES, RULES)


def rolled(trained: TrainedModel) -> Rolling:
    assert trained.rolling is not None
    return trained.rolling


def check(metadata: dict[str, Any], *, count: int = 99) -> list[str]:
    """Check all origins of a training on the prices that it keeps."""
    features, target = supervised(unpack_prices(metadata["prices"]["kept"]).frame)
    stored = Rolling.read(metadata["rolling"])
    return check_rolling(Recipe.read(metadata), features, target, stored, seed="any", count=count, who="the bundle")


def edited(forecasts: pd.Series | None = None, **origin: Any) -> dict[str, Any]:
    """Metadata with other rolling-origin forecasts, or another first origin, and digests that fit."""
    found = rolled(WHOLE)
    origins = (found.origins[0]._replace(**origin), *found.origins[1:])
    changed = Rolling(forecasts=found.forecasts if forecasts is None else forecasts, origins=origins)
    return {**copy.deepcopy(WHOLE.metadata), "rolling": changed.to_json()}


@settings(max_examples=8)
@given(after=st.integers(800, 3000), seed=st.integers(0, 99))
def test_no_forecast_sees_its_day_or_a_later_one(after: int, seed: int) -> None:
    """Scramble all prices after a day: every forecast that was made until then is the same to the last bit."""
    later = PRICES.index > PRICES.index[after]
    scrambled = PRICES.copy()
    scrambled.loc[later, ["Open", "High", "Low", "Close"]] *= np.random.default_rng(seed).uniform(0.5, 2, (int(later.sum()), 1))
    features, target = supervised(keep_prices(scrambled).frame)
    found, _ = roll(Recipe.read(WHOLE.metadata), features, target)
    made = rolled(WHOLE).forecasts.loc[: PRICES.index[after]]
    pd.testing.assert_series_equal(found.forecasts.loc[: PRICES.index[after]], made, check_exact=True)
    assert len(made) > 50


def test_the_forecasts_are_kept_and_made_again() -> None:
    stored = Rolling.read(WHOLE.metadata["rolling"])
    pd.testing.assert_series_equal(
        stored.forecasts, rolled(WHOLE).forecasts, check_exact=True, check_freq=False, check_names=False
    )
    assert stored.origins == rolled(WHOLE).origins
    assert len(check(WHOLE.metadata)) == len(stored.origins) == 11
    assert len({origin.setting for origin in stored.origins}) > 1, "candidates are chosen at each origin"
    assert len(check(WHOLE.metadata, count=2)) == 2


def test_a_refit_takes_the_forecasts_of_its_recipe_over() -> None:
    earlier = train_model("AAPL", PRICES.iloc[:-100], RULES)
    split = PRICES.assign(**{name: PRICES[name] / 4 for name in ("Open", "High", "Low", "Close")}, Volume=PRICES["Volume"] * 4)
    for prices in (PRICES, split):
        refit = train_model("AAPL", prices, RULES, earlier=[earlier.metadata])
        assert "11 origins of rolling forecasts: 10 taken over, 1 fitted" in refit.cost
        old = rolled(earlier).forecasts
        pd.testing.assert_series_equal(rolled(refit).forecasts.loc[old.index], old, check_exact=True, check_freq=False)
        np.testing.assert_allclose(rolled(refit).forecasts, rolled(WHOLE).forecasts, atol=1e-6)
        check(refit.metadata)
    again = train_model("AAPL", PRICES, RULES, earlier=[WHOLE.metadata])
    assert "11 taken over, 0 fitted" in again.cost
    np.testing.assert_array_equal(again.model.predict(np.ones((1, 45))), WHOLE.model.predict(np.ones((1, 45))))


@pytest.mark.parametrize("most", [2**20, 0])
def test_a_weekly_refit_forecasts_the_new_days_by_the_last_fit(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rolling, "_KEPT_BYTES", most)
    earlier = train_model("AAPL", PRICES.iloc[:-5], RULES).metadata
    assert ("last" in earlier["rolling"]) == bool(most)
    refit = train_model("AAPL", PRICES, RULES, earlier=[earlier])
    assert ("11 taken over, 0 fitted" if most else "10 taken over, 1 fitted") in refit.cost
    np.testing.assert_allclose(rolled(refit).forecasts, rolled(WHOLE).forecasts, atol=1e-12)


def test_an_edited_last_fit_is_refused() -> None:
    stored = dict(WHOLE.metadata["rolling"])
    stored["last"] = stored["last"][::-1]
    with pytest.raises(ValueError, match="edited after the training"):
        Rolling.read(stored)


@pytest.mark.parametrize("what", ["restated", "other recipe", "begins later", "ends earlier"])
def test_nothing_is_taken_over_from_another_training(what: str) -> None:
    earlier = train_model("AAPL", PRICES if what == "ends earlier" else PRICES.iloc[:-100], RULES).metadata
    prices, rules = PRICES, RULES
    if what == "restated":
        prices = PRICES.copy()
        prices.loc[prices.index[1000], "Close"] *= 1.001
    elif what == "begins later":
        prices = PRICES.iloc[1:]
    elif what == "ends earlier":
        prices = PRICES.iloc[:-100]
    else:
        rules = RULES.model_copy(update={"random_state": 1})
    assert "0 taken over" in train_model("AAPL", prices, rules, earlier=[earlier]).cost


def test_edited_forecasts_are_refused_at_once() -> None:
    stored = copy.deepcopy(WHOLE.metadata["rolling"])
    stored["origins"][0][1] = 1 - stored["origins"][0][1]
    with pytest.raises(ValueError, match="they were edited after the training"):
        Rolling.read(stored)


def test_forecasts_that_are_not_of_the_recipe_are_refused() -> None:
    found = rolled(WHOLE).forecasts.copy()
    found.iloc[10] += 3 * float(found.std())
    first = rolled(WHOLE).origins[0]
    with pytest.raises(RollingForecastsError, match=f"the forecasts from {first.day} on are not what its recipe forecasts"):
        check(edited(found))
    with pytest.raises(RollingForecastsError, match="not of this training"):
        check(edited(rolled(WHOLE).forecasts.iloc[:-3]))


@pytest.mark.parametrize("outlier", [1.0, 1e3, 1e90])
def test_one_wild_forecast_hides_no_others(outlier: float) -> None:
    """On a day before those that are compared it costs nothing, and it must not be what all others are measured by."""
    found = 1.5 * rolled(WHOLE).forecasts
    found.iloc[0] = outlier
    with pytest.raises(RollingForecastsError, match=f"the forecasts from {rolled(WHOLE).origins[1].day} on are not"):
        check_after_the_first(edited(found))


def check_after_the_first(metadata: dict[str, Any]) -> None:
    """Check an origin that is not the first one."""
    features, target = supervised(unpack_prices(metadata["prices"]["kept"]).frame)
    recipe, stored = Recipe.read(metadata), Rolling.read(metadata["rolling"])
    for seed in map(str, range(99)):
        chosen = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:16], 16))
        if chosen.permutation(11)[0] == 1:
            check_rolling(recipe, features, target, stored, seed=seed, count=1, who="the bundle")


@pytest.mark.parametrize("edit", [{"mean": math.nan}, {"size": math.nan}, {"size": math.inf}, {"size": -1.0}, {"setting": -1}])
def test_origins_without_finite_numbers_are_refused(edit: dict[str, Any]) -> None:
    """No difference to NaN is too large."""
    with pytest.raises(ValueError, match="each origin of rolling-origin forecasts must have a finite mean"):
        Rolling.read(edited(**edit)["rolling"])


@pytest.mark.parametrize("origins", ["xxxx", [[1]], [["2002-12-12", 0, 10**400, 0.1]], [None]])
def test_origins_that_are_garbage_are_refused(origins: object) -> None:
    with pytest.raises(ValueError, match="not rolling-origin forecasts"):
        Rolling.read({**WHOLE.metadata["rolling"], "origins": origins})


def test_a_recipe_that_peeks_is_refused() -> None:
    """Each block is forecast by a fit on all days, its own among them."""
    features, target = supervised(unpack_prices(WHOLE.metadata["prices"]["kept"]).frame)
    recipe = Recipe.read(WHOLE.metadata)
    fit = fit_recipe(recipe, features.to_numpy(), target.to_numpy())
    days = rolled(WHOLE).forecasts.index
    with pytest.raises(RollingForecastsError, match="fitted on days that they forecast, or chosen by later ones"):
        check(edited(pd.Series(fit.forecast(features.loc[days].to_numpy()), days)))


def test_candidates_that_look_ahead_are_refused() -> None:
    """Of each block, the candidate with the least error on that block itself."""
    features, target = supervised(unpack_prices(WHOLE.metadata["prices"]["kept"]).frame)
    recipe, start, first = Recipe.read(WHOLE.metadata), 500, rolled(WHOLE).origins[0]
    end = start + 250
    x, y = features.to_numpy(), target.to_numpy()
    fits = [fit_recipe(recipe, x[: start - 2], y[: start - 2], setting) for setting in range(3)]
    block = [fit.forecast(x[start:end]) for fit in fits]
    best = min((n for n in range(3) if n != first.setting), key=lambda n: float(((y[start:end] - block[n]) ** 2).mean()))
    found = rolled(WHOLE).forecasts.copy()
    found.iloc[:250] = block[best]
    with pytest.raises(RollingForecastsError, match="its candidate is not the one with the least error on the days before"):
        check(edited(found, setting=best, size=fits[best].size))


def test_what_serves_must_be_the_fit_of_its_recipe() -> None:
    features, target = supervised(unpack_prices(WHOLE.metadata["prices"]["kept"]).frame)
    kept = WHOLE.metadata["forecasts"]
    stored = pd.Series(kept["values"], pd.DatetimeIndex(kept["days"]))
    recipe, size = Recipe.read(WHOLE.metadata), WHOLE.metadata["size"]
    check_fit(recipe, features, target, stored, size, who="the bundle")
    with pytest.raises(RollingForecastsError, match="it is not what its recipe fits on its prices"):
        check_fit(recipe, features, target, 1.1 * stored, size, who="the bundle")


def test_a_fit_that_hangs_on_the_last_digits_is_not_refused_for_them() -> None:
    """A boosted tree may split elsewhere on another processor; features are changed in their last digits here."""
    rolling = RULES.rolling.model_copy(update={"first_day": 1500, "every_days": 800})
    rules = RULES.model_copy(update={"models": {"ridge": _boosting()}, "rolling": rolling})
    trained = train_model("AAPL", PRICES, rules)
    features, target = supervised(unpack_prices(trained.metadata["prices"]["kept"]).frame)
    noise = np.random.default_rng(7).standard_normal(features.shape)
    other, _ = roll(Recipe.read(trained.metadata), features * (1 + 1e-12 * noise), target)
    check({**trained.metadata, "rolling": other.to_json()})


def _boosting() -> Any:
    model = {"estimator": "HistGradientBoosting", "max_iter": 10, "max_leaf_nodes": 6}
    return TrainingParams.model_validate({"model": "b", "models": {"b": model}}).models["b"]


def test_too_few_days_for_an_origin_are_refused() -> None:
    with pytest.raises(PriceDataError, match=r"but the first rolling-origin forecast is made on day 501: use more prices"):
        train_model("AAPL", PRICES.iloc[:690], RULES)


@pytest.mark.parametrize("embargo", [499, 600, 1500])
def test_an_embargo_beyond_the_first_origin_is_refused(embargo: int) -> None:
    """Where it is longer than the days before an origin, counting back would start again from the end of all days."""
    with pytest.raises(PriceDataError, match=r"a fit on -?\d+ days, at least 30 are required: raise training.rolling.first_day"):
        train_model("AAPL", PRICES, RULES.model_copy(update={"embargo_days": embargo}))


SETTING = WHOLE.metadata["recipe"]["settings"][0]


def test_the_metadata_of_a_training_pass() -> None:
    check_metadata({**WHOLE.metadata, "timestamp": "20260102_030405"}, Path("stats.json"), "AAPL")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("estimator", "Lasso", "estimator: expected one of MLPRegressor"),
        ("estimator", None, "recipe.estimator: Input should be a valid string"),
        ("settings", [], "recipe.settings: List should have at least 1 item"),
        ("settings", [SETTING, SETTING], "settings: expected distinct ones in order"),
        ("settings", [{**SETTING, "alpha": 10.0}], "choice: expected none for 1 settings"),
        ("settings", [{**SETTING, "solver": []}, SETTING], "settings: expected distinct ones in order"),
        ("settings", [{**SETTING, "n_jobs": 64}, SETTING], "settings: expected distinct ones in order"),
        ("scaler", "RobustScaler", "recipe.scaler: Input should be 'StandardScaler'"),
        ("features", 5, "recipe.features: Input should be a valid dictionary"),
        ("features", {"schema": 1}, "feature_schema.version is not the schema of the recipe's features"),
        ("features", {"schema": 2, "extra": {}}, "extra only with columns"),
        ("target", {"name": "next_week"}, "features or target: expected a schema"),
        ("embargo_days", -5, "recipe.embargo_days: Input should be greater than or equal to 0"),
        ("embargo_days", 1.0, "recipe.embargo_days: Input should be a valid integer"),
        ("random_state", 10**30, "recipe.random_state: Input should be less than"),
        ("choice", None, "choice: expected one for 3 settings"),
        ("fit", "All days", "recipe.fit: Input should be 'all days' or 'training days'"),
        ("origins", {"first_day": 500, "every_days": 0}, "recipe.origins.every_days: Input should be greater"),
        ("note", "another digest", "recipe.note: unknown key"),
        ("known", "in part", "recipe.known: unknown key"),
    ],
)
def test_a_recipe_in_another_form_is_refused(key: str, value: object, says: str) -> None:
    """The same recipe would have another digest, or none of these is what a fit does."""
    metadata = {**WHOLE.metadata, "timestamp": "20260102_030405", "recipe": {**WHOLE.metadata["recipe"], key: value}}
    with pytest.raises(BundleError, match=says):
        check_metadata(metadata, Path("stats.json"), "AAPL")


def test_a_candidate_that_the_recipe_does_not_have_is_refused() -> None:
    """A training that takes these forecasts over would look for it."""
    metadata = {**edited(setting=3), "timestamp": "20260102_030405"}
    with pytest.raises(BundleError, match="an origin chose a candidate beyond the 3 of its recipe"):
        check_metadata(metadata, Path("stats.json"), "AAPL")


def test_evidence_without_the_size_of_forecasts_is_refused() -> None:
    metadata = {**WHOLE.metadata, "timestamp": "20260102_030405", "size": None}
    with pytest.raises(BundleError, match="needs rolling"):
        check_metadata(metadata, Path("stats.json"), "AAPL")


def test_a_hyperparameter_beyond_all_floats_is_refused() -> None:
    models = TrainingParams.model_validate({"model": "a", "models": {"a": {"estimator": "Ridge", "alpha": 10**400}}})
    with pytest.raises(ParamsError, match="Ridge cannot be fitted with"):
        train_model("AAPL", PRICES, models)
