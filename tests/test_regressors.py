"""Estimators by name: what params.yaml may say of them, what a fit depends on, and that it depends on nothing else."""

import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from threadpoolctl import threadpool_limits

from fxhelpers import ModelRegistry, estimators, evaluate_bundle, load_params, train_model, write_bundle, write_evaluation
from fxhelpers.bundles import Bundle, load_bundle
from fxhelpers.errors import BundleError, ParamsError, UntrustedBundleError
from fxhelpers.estimators import build, defaults, describe, fit, relevant
from fxhelpers.params import (
    ESTIMATORS,
    HYPERPARAMETERS,
    LEFT_OUT,
    BundlesParams,
    MlpParams,
    PathsParams,
    PricesParams,
    RegressorParams,
    TrainingParams,
    with_overrides,
)
from fxhelpers.prices import load_prices

_RNG = np.random.default_rng(0)
ROWS = _RNG.normal(size=(90, 4))
TARGET = 0.01 * (ROWS[:, 0] - ROWS[:, 1] * ROWS[:, 2] + _RNG.normal(size=90))

CHOICES: dict[str, dict[str, list[Any]]] = {
    "MLPRegressor": {
        "hidden_layer_sizes": [[3], (3,), 3, [2, 2]],
        "solver": ["adam", "sgd", "lbfgs"],
        "alpha": [0.1, 1, 1.0],
        "learning_rate": ["constant", "invscaling", "adaptive"],
        "learning_rate_init": [0.001, 0.01],
        "power_t": [0.5, 0.3],
        "momentum": [0.9, 0.0],
        "nesterovs_momentum": [True, False],
        "beta_1": [0.9, 0.8],
        "beta_2": [0.999, 0.9],
        "epsilon": [1e-8, 1e-2],
        "early_stopping": [False, True],
        "validation_fraction": [0.1, 0.3],
        "n_iter_no_change": [1, 10],
        "tol": [1e-4, 1e-1],
        "max_iter": [20, 21],
        "max_fun": [15000, 5],
        "batch_size": ["auto", 30],
        "shuffle": [True, False],
        "standardise_target": [True, False],
    },
    "Ridge": {
        "alpha": [1, 1.0, 10],
        "solver": ["auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga", "lbfgs"],
        "max_iter": [None, 3],
        "tol": [1e-4, 1e-1],
        "positive": [False, True],
        "fit_intercept": [True, False],
    },
    "ElasticNet": {
        "alpha": [0.01, 1, 1.0],
        "l1_ratio": [0.5, 1],
        "max_iter": [1000, 2],
        "tol": [1e-4, 1e-1],
        "selection": ["cyclic", "random"],
        "precompute": [False, True],
        "positive": [False, True],
    },
    "HistGradientBoostingRegressor": {
        "loss": ["squared_error", "absolute_error", "quantile"],
        "quantile": [0.5, 0.3],
        "early_stopping": ["auto", False, True],
        "validation_fraction": [0.1, 0.3, None, 20],
        "n_iter_no_change": [1, 10],
        "tol": [1e-7, 1e-1],
        "max_iter": [5],
        "max_features": [1.0, 0.5],
        "max_leaf_nodes": [31, 3],
        "l2_regularization": [0, 0.0, 1.0],
    },
    "RandomForestRegressor": {
        "n_estimators": [3],
        "bootstrap": [True, False],
        "max_samples": [None, 1.0, 0.5],
        "max_features": [1.0, None, 1, 0.5, "sqrt"],
        "max_leaf_nodes": [None, 5],
        "min_samples_split": [2, 1.0],
        "min_samples_leaf": [1, 3],
    },
    "SVR": {
        "kernel": ["linear", "poly", "rbf", "sigmoid"],
        "degree": [3, 2],
        "gamma": ["scale", "auto", 0.1],
        "coef0": [0.0, 1.0],
        "C": [1, 1.0, 0.1],
        "epsilon": [0.1, 0.2],
        "shrinking": [True, False],
        "max_iter": [-1, 10],
    },
    "KNeighborsRegressor": {
        "n_neighbors": [5, 3],
        "weights": ["uniform", None, "distance"],
        "metric": ["minkowski", "euclidean", "manhattan", "chebyshev", "cosine"],
        "p": [2, 1, 3],
    },
}


def forecasts(estimator: str, hyperparameters: dict[str, Any], seed: int = 0) -> np.ndarray | None:
    """Return the forecasts of a small data set; None if scikit-learn refuses the setting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = fit(build(estimator, hyperparameters, random_state=seed), ROWS, TARGET)
        except ParamsError:
            return None
        return np.asarray(model.predict(ROWS))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_table_of_hyperparameters_is_scikit_learns_signature(estimator: str) -> None:
    assert set(HYPERPARAMETERS[estimator]) == estimators.arguments(estimator).keys() - set(LEFT_OUT)
    assert set(MlpParams.model_fields) <= {*HYPERPARAMETERS["MLPRegressor"], *RegressorParams.model_fields}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_settings_with_the_same_relevant_part_forecast_the_same_to_the_last_bit(estimator: str, data: st.DataObject) -> None:
    choices = CHOICES[estimator]
    one = {name: data.draw(st.sampled_from(values), name) for name, values in choices.items()}
    two = dict(one)
    for name in data.draw(st.permutations(sorted(choices))):
        for value in data.draw(st.permutations(choices[name])):
            changed = {**two, name: value}
            if relevant(estimator, changed) == relevant(estimator, one) and repr(value) != repr(two[name]):
                two = changed
                break
    first, second = forecasts(estimator, one), forecasts(estimator, two)
    if first is not None and second is not None:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_is_relevant_changes_forecasts(estimator: str) -> None:
    """Else the test above could not fail: a setting left out by mistake would make two different fits the same."""
    choices = CHOICES[estimator]
    usual = {name: values[0] for name, values in choices.items()}
    before = forecasts(estimator, usual)
    assert before is not None
    assert np.array_equal(before, forecasts(estimator, usual))
    seen = 0
    for name in relevant(estimator, usual).keys() & choices.keys():
        changed = [forecasts(estimator, {**usual, name: value}) for value in choices[name]]
        seen += any(found is not None and not np.array_equal(before, found) for found in changed)
    assert seen >= len(relevant(estimator, usual).keys() & choices.keys()) // 2


def test_numbers_have_one_form_and_shares_are_no_counts() -> None:
    assert json.dumps(relevant("Ridge", {"alpha": 10})) == json.dumps(relevant("Ridge", {"alpha": 10.0}))
    assert json.dumps(relevant("MLPRegressor", {"hidden_layer_sizes": (4,)})) == json.dumps(
        relevant("MLPRegressor", {"hidden_layer_sizes": [4]})
    )
    one, all_ = (relevant("RandomForestRegressor", {"max_features": value}) for value in (1, 1.0))
    assert one != all_
    assert relevant("RandomForestRegressor", {}) == all_


@pytest.mark.parametrize(("estimator", "standardise"), list(product(ESTIMATORS, [True, False])))
def test_each_is_built_as_it_is_described(estimator: str, standardise: bool) -> None:
    model = build(estimator, {"standardise_target": standardise}, random_state=7)
    assert isinstance(model, TransformedTargetRegressor) == standardise
    regressor = estimators.regressor_in(model)
    assert type(regressor).__name__ == estimator
    own = {"random_state": 7, "n_jobs": 1, "algorithm": "brute"}
    assert {name: value for name, value in regressor.get_params().items() if name in own}.items() <= own.items()
    usual = defaults(estimator)
    assert {name: regressor.get_params()[name] for name in usual if name != "standardise_target"} | {
        "standardise_target": True
    } == usual
    assert describe(model) == {"MLPRegressor": "MLP [100]"}.get(estimator, estimator)
    assert describe(fit(build("MLPRegressor", {"hidden_layer_sizes": [3, 2], "max_iter": 2}, random_state=0), ROWS, TARGET)) == (
        "MLP [3, 2]"
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_number_of_cores_changes_no_forecast(estimator: str) -> None:
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(forecasts(estimator, {name: values[0] for name, values in CHOICES[estimator].items()}))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("estimator", "hyperparameters", "message"),
    [
        ("Ridge", {"alpha": -1}, r"Ridge cannot be fitted with {'alpha': -1}: The 'alpha' parameter of Ridge must be"),
        ("SVR", {"kernel": "precomputed"}, "Precomputed matrix must be a square matrix"),
        ("HistGradientBoostingRegressor", {"loss": "gamma"}, "strictly positive y"),
        ("KNeighborsRegressor", {"n_neighbors": 91}, "n_neighbors <= n_samples_fit"),
        ("KNeighborsRegressor", {"metric": "haversine"}, "[Hh]aversine"),
        ("RandomForestRegressor", {"bootstrap": False, "max_samples": 5}, "`max_sample` cannot be set if `bootstrap=False`"),
        ("MLPRegressor", {"solver": "sgd", "learning_rate_init": 1e30}, "non-finite"),
        ("Ridge", {"beta": 1}, r"Ridge of scikit-learn [\d.]+ has no beta"),
    ],
)
def test_what_scikit_learn_refuses_is_refused_with_its_words(estimator: str, hyperparameters: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message) as caught:
        fit(build(estimator, {**hyperparameters, "standardise_target": False}, random_state=0), ROWS, TARGET)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{estimator: Rigde}", r"estimator: unknown estimator \(did you mean 'Ridge'\?\); expected one of MLPRegressor, Ridge"),
        ("{estimator: [1]}", "estimator: unknown estimator; expected one of"),
        ("{estimator: LinearRegression}", "unknown estimator"),
        ("{estimator: Ridge, alfa: 1}", "a.alfa: unknown key; the nearest known one is 'alpha'"),
        ("{estimator: SVR, c: 1}", "a.c: unknown key; the nearest known one is 'C'"),
        ("{estimator: Ridge, l1_ratio: 1}", "a.l1_ratio: unknown key"),
        ("{estimator: MLP, l1_ratio: 1}", "a.l1_ratio: unknown key"),
        ("{estimator: Ridge, candidates: {alfa: [1]}}", "candidates: unknown key; the nearest known one is 'alpha'"),
        ("{estimator: Ridge, candidates: {estimator: [SVR]}}", "candidates: unknown key"),
        ("{estimator: Ridge, candidates: {alpha: []}}", "candidates: alpha lists no value"),
        ("{estimator: RandomForest, n_jobs: 2}", "a.n_jobs: is no setting: one core is used"),
        ("{estimator: KNeighbors, algorithm: kd_tree}", "a.algorithm: is no setting: neighbors are searched by brute force"),
        ("{estimator: Ridge, alpha: .nan}", "a.alpha: expected a finite number.*found nan"),
        ("{estimator: Ridge, candidates: {alpha: [.inf]}}", "a.alpha: expected a finite number.*found inf"),
        ("{estimator: KNeighbors, metric_params: {1: 2}}", "a.metric_params: expected"),
        ("{estimator: Ridge, features: {extr: x}}", "a.features.extr: unknown key; the nearest known one is 'extra'"),
        ("{estimator: Ridge, refit: 7}", "a.refit: "),
        ("7", "a: expected a model's settings, such as {estimator: Ridge"),
    ],
)
def test_a_wrong_model_is_refused_by_name_when_params_yaml_is_read(project: Project, text: str, message: str) -> None:
    path = project.folder / "wrong.yaml"
    path.write_text(f"training: {{model: a, models: {{a: {text}}}}}")
    with pytest.raises(ParamsError, match=message):
        load_params(path)


def test_values_are_read_as_they_are_meant(project: Project) -> None:
    path = project.folder / "some.yaml"
    path.write_text("""
training:
  model: a
  refit: false
  models:
    a: {estimator: HistGradientBoosting, learning_rate: 1e-2, max_iter: "50", max_depth: null, refit: true, candidates:
        {learning_rate: [1e-2, .5, 1], standardise_target: [yes, no], interaction_cst: [[[0, 1]]]}}
    b: {alpha: 1}
    c: {estimator: MLP, features: {extra: more}}
""")
    training = load_params(path).training
    a, b, c = (training.models[name] for name in "abc")
    assert a.estimator == "HistGradientBoostingRegressor"
    assert a.hyperparameters == {"standardise_target": True, "learning_rate": 0.01, "max_iter": 50, "max_depth": None}
    assert a.candidates == {
        "learning_rate": [0.01, 0.5, 1],
        "standardise_target": [True, False],
        "interaction_cst": [[[0, 1]]],
    }
    assert (training.refit, a.refit, b.refit) == (False, True, None)
    assert (b.estimator, b.features.extra, c.estimator, c.features.extra) == ("MLPRegressor", "", "MLPRegressor", "more")
    assert b.hyperparameters == {**MlpParams().hyperparameters, "alpha": 1.0}


def test_the_first_origin_needs_a_year_of_days(project: Project) -> None:
    with pytest.raises(ParamsError, match=r"training.rolling.first_day: .*greater than or equal to 250, found 99"):
        load_params(project.write(training={"rolling": {"first_day": 99}}))
    assert load_params(project.write(training={"rolling": {"every_days": 21}})).training.rolling.first_day == 500


def test_overrides_replace_hyperparameters_and_another_estimator_begins_anew() -> None:
    ridge = RegressorParams.model_validate({"estimator": "Ridge", "alpha": 3, "refit": False, "candidates": {"alpha": [1, 2]}})
    assert with_overrides(ridge, {}) == ridge
    assert with_overrides(ridge, {"alpha": "1e-3"}).hyperparameters["alpha"] == 1e-3
    assert with_overrides(ridge, {"alpha": 5}).candidates == {}
    other = with_overrides(ridge, {"estimator": "SVR", "C": 2})
    assert (other.estimator, other.hyperparameters, other.candidates, other.refit) == (
        "SVR",
        {"standardise_target": True, "C": 2},
        {},
        False,
    )
    for overrides, message in (
        ({"l1_ratio": 1}, "overrides: l1_ratio: unknown key"),
        ({"estimator": "Rdige"}, "overrides: estimator: unknown estimator .did you mean 'Ridge'"),
        ({"alpha": lambda: 1}, "overrides: alpha: expected a finite number"),
        ({"candidates": {"alfa": [1]}}, "overrides: candidates: unknown key"),
    ):
        with pytest.raises(ParamsError, match=message):
            with_overrides(ridge, overrides)


def quick(estimator: str) -> dict[str, Any]:
    return {
        "MLPRegressor": {"hidden_layer_sizes": [4], "max_iter": 5},
        "HistGradientBoostingRegressor": {"max_iter": 5},
        "RandomForestRegressor": {"n_estimators": 5, "max_depth": 3},
        "SVR": {"C": 0.01},
    }.get(estimator, {})


@pytest.fixture(scope="module")
def trained_models() -> Iterator[dict[str, Any]]:
    prices = load_prices("AAPL", PricesParams())
    training = TrainingParams(refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield {name: train_model("AAPL", prices, training, overrides={"estimator": name, **quick(name)}) for name in ESTIMATORS}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_is_trained_by_its_name(trained_models: dict[str, Any], estimator: str) -> None:
    made = trained_models[estimator]
    config = made.metadata["config"]
    assert config["estimator"] == estimator
    assert quick(estimator).items() <= config.items()
    assert made.metadata["model_type"] == {"MLPRegressor": "MLP"}.get(estimator, estimator)
    assert ("architecture" in made.metadata) == (estimator == "MLPRegressor")
    assert 0.9 < made.metadata["metrics"]["val_rmse"] / made.metadata["metrics"]["val_rmse_zero"] < 1.5


def written(made: Any) -> Bundle:
    return write_bundle(made.model, made.scaler, made.metadata, load_params().paths)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_bundle_of_it_is_read_and_says_what_it_is(trained_models: dict[str, Any], project: Project, estimator: str) -> None:
    made = trained_models[estimator]
    bundle = written(made)
    days = bundle.typical_days()
    np.testing.assert_array_equal(bundle.pipeline().predict(days), made.model.predict(made.scaler.transform(days)))
    assert bundle.model_type == {"MLPRegressor": "MLP"}.get(estimator, estimator)
    assert bundle.architecture == ([4] if estimator == "MLPRegressor" else [])
    assert describe(bundle.model_object) in bundle._repr_html_()
    wrong = "SVR" if estimator != "SVR" else "Ridge"
    hyper = {name: value for name, value in made.metadata["config"].items() if name in HYPERPARAMETERS[estimator]}
    name = min(hyper) if hyper else "random_state"
    own = {"KNeighborsRegressor": {"p": 3}, "Ridge": {"alpha": 7}, "ElasticNet": {"alpha": 7}}.get(estimator, {name: 17})
    for changes in (
        {"model_type": wrong},
        {"estimator": wrong},
        {"architecture": [128]},
        {"config": {"estimator": wrong}},
        {"config": {"standardise_target": False}},
        {"config": own},
    ):
        whole = bundle.metadata_path.read_text()
        edit(bundle.metadata_path, **changes)
        with pytest.raises(BundleError, match=r"these metadata describe another model"):
            load_bundle(load_params().paths, symbol="AAPL")
        bundle.metadata_path.write_text(whole)
    edit(bundle.metadata_path, model_type=estimator, estimator=estimator)
    assert load_bundle(load_params().paths, symbol="AAPL").model_type == estimator


def test_a_part_of_a_model_is_no_model(trained_models: dict[str, Any], project: Project) -> None:
    made = trained_models["RandomForestRegressor"]
    tree = estimators.regressor_in(made.model).estimators_[0]
    with pytest.raises(BundleError, match=r"holds a DecisionTreeRegressor, which is no model here; expected one of MLPRegressor"):
        write_bundle(tree, made.scaler, {**made.metadata, "config": {}}, load_params().paths)


def test_an_evaluation_of_another_kind_of_model_is_refused(trained_models: dict[str, Any], project: Project) -> None:
    bundle = written(trained_models["Ridge"])
    evaluation = evaluate_bundle(bundle, load_prices("AAPL", PricesParams()))
    path = write_evaluation(bundle, evaluation.metrics, evaluation.predictions, load_params().paths)
    assert load_bundle(load_params().paths, symbol="AAPL").test_metrics
    edit(path, model_info={**json.loads(path.read_text())["model_info"], "model_type": "SVR"})
    with pytest.raises(BundleError, match=r"it evaluates a model with model_type 'SVR', but the one trained at .* has 'Ridge'"):
        load_bundle(load_params().paths, symbol="AAPL")


@pytest.mark.parametrize("estimator", ["Ridge", "HistGradientBoostingRegressor", "RandomForestRegressor"])
def test_a_version_of_it_says_what_it_is_and_forecasts_the_same(
    trained_models: dict[str, Any], project: Project, estimator: str
) -> None:
    bundle, registry = written(trained_models[estimator]), ModelRegistry()
    registry.register_model(bundle, stage="Production")
    champion = registry.load_champion("AAPL")
    assert champion is not None
    found = champion.version
    assert found.tags["model_family"] == estimator
    assert found.description.startswith(f"{estimator} forecasting the next day's return of AAPL: 45 features, validation RMSE")
    days = bundle.typical_days()
    np.testing.assert_array_equal(champion.pipeline.predict(days), bundle.pipeline().predict(days))
    assert champion.replay() > 100
    with registry.client.session("read", found.name) as client:
        params = client.get_run(found.run_id).data.params
    assert params["model_type"] == params["config_estimator"] == estimator
    assert "architecture" not in params


def test_a_pipeline_too_big_to_be_read_again_is_not_registered(
    trained_models: dict[str, Any], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model alone is just within the limit."""
    bundle, registry = written(trained_models["KNeighborsRegressor"]), ModelRegistry()
    limit = bundle.model_path.stat().st_size + 1000
    monkeypatch.setattr(BundlesParams, "max_bytes", limit)
    assert load_bundle(load_params().paths, symbol="AAPL").model_type == "KNeighborsRegressor"
    with pytest.raises(UntrustedBundleError, match=r"mlp_model_AAPL_.*: the pipeline to register: it unpacks to"):
        registry.register_model(bundle)
    with pytest.raises(LookupError):
        registry.client.version(registry.model_name("AAPL"), 1)


def test_a_foreign_forest_is_converted_and_registered(project: Project, foresightx: Callable[..., Path]) -> None:
    path = foresightx()
    rng = np.random.default_rng(0)
    forest = RandomForestRegressor(5, n_jobs=-1, random_state=1).fit(rng.normal(size=(200, 8)), rng.normal(0, 0.02, 200))
    path.write_bytes(pickle.dumps(forest))
    stats = path.parent.parent / "metadata" / "mlp_model_stats_TATAMOTORS.BO.json"
    with pytest.raises(BundleError, match=r"architecture is \[8, 4\], but mlp_model_TATAMOTORS.BO.pkl has \[\]"):
        load_bundle(PathsParams(), model_path=path)
    edit(stats, architecture=[], model_type="RandomForestRegressor", config={"n_estimators": 5})
    (path.parent.parent / "results" / "evaluation_metrics_TATAMOTORS.BO.json").unlink()
    bundle = load_bundle(PathsParams(), model_path=path)
    assert bundle.model_object.n_jobs == 1
    rows = rng.normal(size=(50, 8))
    np.testing.assert_array_equal(bundle.model_object.predict(rows), forest.set_params(n_jobs=1).predict(rows))
    registry = ModelRegistry()
    registry.register_model(bundle)
    assert registry.client.version(registry.model_name("TATAMOTORS.BO"), 1).tags["model_family"] == "RandomForestRegressor"
