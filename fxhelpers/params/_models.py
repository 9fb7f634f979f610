"""The models of ``params.yaml``: an estimator of scikit-learn each, its hyperparameters, and the candidates to try."""

import math
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from fxhelpers.params._input import nearest, unknown_key

MLP = "MLPRegressor"
_Other = Literal["Ridge", "ElasticNet", "HistGradientBoostingRegressor", "RandomForestRegressor", "SVR", "KNeighborsRegressor"]
ESTIMATORS: tuple[str, ...] = (MLP, *get_args(_Other))
"""Regressors of scikit-learn that a model may name."""

HYPERPARAMETERS: dict[str, tuple[str, ...]] = {
    name: tuple(known.split())
    for name, known in {
        MLP: "activation alpha batch_size beta_1 beta_2 early_stopping epsilon hidden_layer_sizes learning_rate "
        "learning_rate_init loss max_fun max_iter momentum n_iter_no_change nesterovs_momentum power_t shuffle solver tol "
        "validation_fraction",
        "Ridge": "alpha fit_intercept max_iter positive solver tol",
        "ElasticNet": "alpha fit_intercept l1_ratio max_iter positive precompute selection tol",
        "HistGradientBoostingRegressor": "early_stopping interaction_cst l2_regularization learning_rate loss max_bins "
        "max_depth max_features max_iter max_leaf_nodes min_samples_leaf monotonic_cst n_iter_no_change quantile tol "
        "validation_fraction",
        "RandomForestRegressor": "bootstrap ccp_alpha criterion max_depth max_features max_leaf_nodes max_samples "
        "min_impurity_decrease min_samples_leaf min_samples_split min_weight_fraction_leaf monotonic_cst n_estimators",
        "SVR": "C coef0 degree epsilon gamma kernel max_iter shrinking tol",
        "KNeighborsRegressor": "metric metric_params n_neighbors p weights",
    }.items()
}
"""Hyperparameters of each, as in scikit-learn's signature, without those in :data:`LEFT_OUT`; of the MLP also rarer ones."""

LOSSES = ("HalfSquaredError", "AbsoluteError", "PinballLoss")  # of gradient boosting: squared, absolute, quantile
_BOOSTING = "sklearn.ensemble._hist_gradient_boosting"
MODEL_PARTS = {
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.compose._target.TransformedTargetRegressor",
    "sklearn.ensemble._forest.RandomForestRegressor",
    f"{_BOOSTING}.binning._BinMapper",
    f"{_BOOSTING}.gradient_boosting.HistGradientBoostingRegressor",
    f"{_BOOSTING}.predictor.TreePredictor",
    "sklearn.linear_model._coordinate_descent.ElasticNet",
    "sklearn.linear_model._ridge.Ridge",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    *(f"sklearn._loss.loss.{loss}" for loss in LOSSES),
    "sklearn.neighbors._regression.KNeighborsRegressor",
    "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",  # in a ColumnTransformer that passes columns through
    "sklearn.svm._classes.SVR",
    "sklearn.tree._classes.DecisionTreeRegressor",  # in a forest
}
"""Classes of scikit-learn that fitted models are made of."""

LEFT_OUT = {
    "random_state": "training.random_state is the seed of every fit",
    "n_jobs": "one core is used, so that forecasts do not depend on their number",
    "verbose": "nothing is printed",
    "warm_start": "every fit starts anew",
    "copy_X": "it does not change the fit",
    "cache_size": "it does not change the fit",
    "oob_score": "it does not change the fit",
    "algorithm": "neighbors are searched by brute force: with this many features trees are no faster, and find the same ones",
    "leaf_size": "neighbors are searched by brute force",
    "categorical_features": "all features are numbers",
    "scoring": "early stopping looks at the loss",
}
"""Arguments of scikit-learn that are no hyperparameters here, and why."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class Section(BaseModel):
    """A part of ``params.yaml``: unknown keys are errors, and values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def estimator_name(name: object) -> str:
    """Return the full name of an estimator, such as ``HistGradientBoostingRegressor`` for ``HistGradientBoosting``."""
    full = f"{name}" if name in ESTIMATORS else f"{name}Regressor"
    if full not in ESTIMATORS:
        msg = f"unknown estimator{nearest(str(name), ESTIMATORS)}; expected one of {', '.join(ESTIMATORS)}"
        raise ValueError(msg)
    return full


def _check_layers(sizes: list[int]) -> list[int]:
    if not sizes or min(sizes) < 1:
        msg = f"every hidden layer needs at least one unit, found {sizes}"
        raise ValueError(msg)
    return sizes


def extra_folder(text: str) -> str:
    """Return a folder below that of ``params.yaml`` in one spelling; :class:`ValueError` if it is elsewhere."""
    path = PurePosixPath(text)
    if text and (path.is_absolute() or ".." in path.parts or not path.parts or not text.isprintable()):
        msg = "expected a folder below that of params.yaml, such as signals"
        raise ValueError(msg)
    return str(path) if text else ""


class FeaturesParams(Section):
    """More features than the built-in ones."""

    extra: Annotated[str, AfterValidator(extra_folder)] = ""
    """folder with SYMBOL.csv of more columns by Date, each value known at that day's close; empty: none"""


class ModelParams(Section):
    """What every model has, whatever its estimator."""

    estimator: str
    """regressor of scikit-learn; the suffix Regressor may be left out"""
    standardise_target: bool = True
    """scale returns to mean 0 and variance 1 for the fit; forecasts are scaled back"""
    candidates: dict[str, list[Any]] = {}
    """values to try per hyperparameter; the best RMSE on the validation days wins"""
    refit: bool | None = None
    """as `training.refit`, for this model; null: as there"""
    features: FeaturesParams = FeaturesParams()
    """More features than the built-in ones"""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What a fit depends on, besides candidates: the estimator's own hyperparameters and ``standardise_target``."""
        return {name: value for name, value in self if name not in _NOT_HYPER}

    @classmethod
    def known(cls, estimator: str) -> set[str]:
        """Return the names of all hyperparameters of an estimator that may be set."""
        return {name for name in (*cls.model_fields, *HYPERPARAMETERS[estimator]) if name not in _NOT_HYPER}

    @model_validator(mode="after")
    def _candidates_are_hyperparameters(self) -> Self:
        known = self.known(self.estimator)
        for name, values in self.candidates.items():
            if name not in known:
                msg = f"candidates: {_unknown(name, known)}"
                raise ValueError(msg)
            if not values:
                msg = f"candidates: {name} lists no value"
                raise ValueError(msg)
            # each candidate is parsed as the key itself would be: YAML reads 1e-4, say, as text
            parsed = (type(self).model_validate({"estimator": self.estimator, name: value}) for value in values)
            self.candidates[name] = [getattr(one, name) for one in parsed]
        return self


_NOT_HYPER = set(ModelParams.model_fields) - {"standardise_target"}


class MlpParams(ModelParams):
    """Hyperparameters of one model, named as in scikit-learn's ``MLPRegressor``."""

    estimator: Literal["MLPRegressor"] = "MLPRegressor"
    """MLPRegressor; what a model without this key is"""
    hidden_layer_sizes: Annotated[list[int], AfterValidator(_check_layers)] = [16]
    """units per hidden layer"""
    activation: Literal["identity", "logistic", "tanh", "relu"] = "relu"
    """activation of the hidden layers"""
    solver: Literal["adam", "sgd", "lbfgs"] = "adam"
    """optimizer"""
    alpha: float = Field(default=1e-4, ge=0)
    """L2 penalty"""
    learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant"
    """learning-rate schedule; with `solver: sgd`"""
    learning_rate_init: float = Field(default=1e-3, gt=0)
    """initial learning rate; with `sgd` and `adam`"""
    max_iter: int = Field(default=200, ge=1)
    """maximum number of epochs"""
    early_stopping: bool = False
    """stop when the score on a part of the training days no longer improves"""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """fraction of the training days held out for that; with `early_stopping`"""
    n_iter_no_change: int = Field(default=10, ge=1)
    """epochs without improvement before training stops"""

    @classmethod
    def known(cls, estimator: str) -> set[str]:
        """Return the names of all hyperparameters that may be set: the fields above."""
        del estimator  # there is one
        return set(cls.model_fields) - _NOT_HYPER


class RegressorParams(ModelParams):
    """One model of another estimator; other keys are its hyperparameters, named as in scikit-learn."""

    model_config = ConfigDict(extra="allow")

    estimator: _Other
    """regressor of scikit-learn; the suffix Regressor may be left out"""

    @model_validator(mode="before")
    @classmethod
    def _hyperparameters_are_known(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """Refuse unknown keys and values that no file can hold; scikit-learn refuses others, at the fit."""
        known = {*cls.model_fields, *HYPERPARAMETERS.get(str(raw.get("estimator")), ())}
        read, wrong = dict(raw), []
        for name in [key for key in raw if key not in cls.model_fields]:
            if name not in known:
                wrong.append(_wrong(name, _unknown(str(name), known), {}))  # an empty mapping is not shown
                continue
            try:
                read[name] = _value(raw[name])
            except ValueError as error:
                wrong.append(_wrong(name, str(error), raw[name]))
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return read


def _wrong(name: str, text: str, found: object) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("model", "{text}", {"text": text}), loc=(name,), input=found)


def _unknown(name: str, known: set[str]) -> str:
    return f"is no setting: {LEFT_OUT[name]}; remove it" if name in LEFT_OUT else unknown_key(name, known)


def _value(value: object) -> object:
    """Return a value as JSON holds it, and as a number where it is written as one: YAML reads 1e-4 as text."""
    if isinstance(value, str):
        return (float(value) if set(value) & set(".eE") else int(value)) if _NUMBER.fullmatch(value) else value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, list | tuple):
        return [_value(part) for part in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _value(part) for key, part in value.items()}
    msg = "expected a finite number, a text, true, false, null, or a list or mapping of these"
    raise ValueError(msg)


def read_model(raw: Mapping[str, Any]) -> "MlpParams | RegressorParams":
    """Return a model by its ``estimator``, an MLP without one; :class:`pydantic.ValidationError` for what it does not have."""
    name = raw.get("estimator", MLP)
    try:
        full = estimator_name(name)
    except ValueError as error:
        raise ValidationError.from_exception_data(MLP, [_wrong("estimator", str(error), name)]) from error
    kind = MlpParams if full == MLP else RegressorParams
    return kind.model_validate({**raw, "estimator": full})


def _discriminated(raw: object) -> object:
    if isinstance(raw, ModelParams):
        return raw
    if not isinstance(raw, Mapping):
        msg = "expected a model's settings, such as {estimator: Ridge, alpha: 10}"
        raise ValueError(msg)  # noqa: TRY004 (pydantic reports these)
    return read_model(raw)


AnyModel = Annotated[MlpParams | RegressorParams, BeforeValidator(_discriminated)]
"""A model: ``estimator`` chooses the kind."""
