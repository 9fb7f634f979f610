"""A recipe is what a training does, decided by meaning: names, order and spelling do not matter."""

from typing import Any

import pytest

from fxhelpers.params import TrainingParams
from fxhelpers.recipes import Recipe


def recipe(model: dict[str, Any], **training: Any) -> Recipe:
    params = TrainingParams.model_validate({"model": "a", "models": {"a": model}, **training})
    return Recipe.of(params.models["a"], params)


RIDGE = {"estimator": "Ridge", "candidates": {"alpha": [1.0, 10.0]}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RIDGE, {"estimator": "Ridge", "candidates": {"alpha": [10, 1]}}),
        (RIDGE, {"estimator": "Ridge", "candidates": {"alpha": [1.0, 10.0, 10]}, "fit_intercept": True}),
        ({"estimator": "Ridge", "alpha": 10}, {"estimator": "Ridge", "candidates": {"alpha": ["1e1"]}}),
        ({}, {"estimator": "MLP", "hidden_layer_sizes": [16], "learning_rate": "adaptive", "validation_fraction": 0.3}),
        ({"estimator": "SVR"}, {"estimator": "SVR", "degree": 5, "refit": True}),
    ],
)
def test_the_same_recipe_in_other_words(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert recipe(one).facts == recipe(other).facts
    assert recipe(one).digest == recipe(other).digest


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"estimator": "Ridge", "candidates": {"alpha": [1.0, 10.0, 100.0]}}, {}),
        ({**RIDGE, "standardise_target": False}, {}),
        ({**RIDGE, "refit": False}, {}),
        (RIDGE, {"random_state": 1}),
        (RIDGE, {"embargo_days": 5}),
        (RIDGE, {"validation_size": 0.2}),
        (RIDGE, {"rolling": {"every_days": 21}}),
    ],
)
def test_another_recipe(model: dict[str, Any], training: dict[str, Any]) -> None:
    assert recipe(model, **training).digest != recipe(RIDGE).digest


def test_what_is_not_used_is_no_part_of_it() -> None:
    assert recipe(RIDGE, test_size=0.4).digest == recipe(RIDGE).digest, "a refit has no test days"
    fixed = {"estimator": "Ridge", "alpha": 10.0}
    assert recipe(fixed, validation_size=0.2).digest == recipe(fixed).digest, "nothing is chosen"


def test_a_foreign_bundle_has_a_recipe_as_far_as_it_says() -> None:
    said = {"model_type": "MLP", "architecture": [128], "config": {"solver": "sgd", "iterations": 7}, "feature_names": ["a", "b"]}
    found = Recipe.read(said)
    assert not found.whole
    assert found.digest == Recipe.read({**said, "config": {"solver": "sgd", "iterations": 9}}).digest
    assert found.digest != Recipe.read({**said, "feature_names": ["b", "a"]}).digest
    assert recipe(RIDGE).whole
