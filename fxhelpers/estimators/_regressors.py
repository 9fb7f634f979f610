"""Regressors of scikit-learn by name: built, fitted, compared by what their fit depends on, and described."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fxhelpers.errors import ParamsError
from fxhelpers.params import HYPERPARAMETERS

_MODULES = {
    "MLPRegressor": "neural_network",
    "Ridge": "linear_model",
    "ElasticNet": "linear_model",
    "HistGradientBoostingRegressor": "ensemble",
    "RandomForestRegressor": "ensemble",
    "SVR": "svm",
    "KNeighborsRegressor": "neighbors",
}
_WRAPPING = "standardise_target"  # the one hyperparameter that is no argument of the regressor
_EXACT = 2.0**53  # from here on, floats are whole numbers anyway


def build(estimator: str, hyperparameters: Mapping[str, Any], *, random_state: int) -> Any:  # noqa: ANN401 (scikit-learn's have no common base)
    """Return an unfitted regressor.

    Parameters
    ----------
    estimator : str
        Its full name, one of ``fxhelpers.params.ESTIMATORS``.
    hyperparameters : mapping
        Arguments of scikit-learn, and ``standardise_target`` (default: true):
        scale the target to mean 0 and variance 1 for the fit.
    random_state : int
        Seed of the fit, where the regressor takes one.

    Returns
    -------
    regressor
        Within a ``TransformedTargetRegressor`` if the target is standardized.
        It uses one process and one thread, and searches neighbors by brute
        force, so forecasts do not depend on the number of cores.

    Raises
    ------
    ParamsError
        The installed scikit-learn has no such hyperparameter.
    """
    given = {name: value for name, value in hyperparameters.items() if name != _WRAPPING}
    known = arguments(estimator)
    unknown = [name for name in given if name not in known]
    if unknown:
        msg = f"{estimator} of scikit-learn {version('scikit-learn')} has no {', '.join(unknown)}; remove it, or install another"
        raise ParamsError(msg)
    own = {"random_state": random_state, "n_jobs": 1, "algorithm": "brute"}
    regressor = _class(estimator)(**given, **{name: value for name, value in own.items() if name in known})
    if not hyperparameters.get(_WRAPPING, True):
        return regressor
    return TransformedTargetRegressor(regressor=regressor, transformer=StandardScaler())


def fit(model: Any, features: np.ndarray, target: np.ndarray) -> Any:  # noqa: ANN401
    """Fit what :func:`build` built, on one core; return it.

    Parameters
    ----------
    model : regressor
        From :func:`build`.
    features : array of shape (n_days, n_features)
        Scaled features.
    target : array of shape (n_days,)
        Next-day simple returns, as fractions.

    Returns
    -------
    regressor
        The same, fitted. A fit that ends at its limit of iterations is one.

    Raises
    ------
    ParamsError
        scikit-learn refuses a hyperparameter, or the fit diverges.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # iterations and their limit are both in the metadata
            model.fit(features, target)
            finite = np.isfinite(model.predict(features[:1])).all()  # neighbors are refused here at the earliest
    except (ValueError, OverflowError, TypeError) as error:  # scikit-learn checks most values, but not all of them
        raise ParamsError(_unfit(model, str(error))) from error
    if not finite:
        raise ParamsError(_unfit(model, "it diverges: its forecasts are not finite"))
    return model


def _unfit(model: Any, why: str) -> str:  # noqa: ANN401
    regressor = regressor_in(model)
    usual = defaults(type(regressor).__name__)
    own = {name: value for name, value in regressor.get_params(deep=False).items() if name in usual and value != usual[name]}
    return f"{type(regressor).__name__} cannot be fitted with {own!r:.120}: {' '.join(why.split()):.150}"


def regressor_in(model: Any) -> Any:  # noqa: ANN401
    """Return the regressor in a pipeline, or behind a transformed target: the fitted one if there is one."""
    while True:
        if isinstance(model, Pipeline):
            model = model[-1]
        elif isinstance(model, TransformedTargetRegressor):
            model = getattr(model, "regressor_", getattr(model, "regressor", None))
        else:
            return model


def describe(model: Any) -> str:  # noqa: ANN401
    """Return the short name of a model for people: ``MLP [16]``, ``Ridge``.

    Parameters
    ----------
    model : regressor
        Fitted or not, also in a pipeline or behind a transformed target.

    Returns
    -------
    str
    """
    regressor = regressor_in(model)
    kind = model_type(type(regressor).__name__)
    return f"{kind} {layers(regressor)}" if kind == "MLP" else kind


def layers(regressor: Any) -> list[int]:  # noqa: ANN401
    """Return the units of each hidden layer of an MLP: of its weights if it is fitted."""
    if hasattr(regressor, "intercepts_"):
        return [len(biases) for biases in regressor.intercepts_[:-1]]
    return [int(units) for units in np.atleast_1d(regressor.hidden_layer_sizes)]


def model_type(estimator: str) -> str:
    """Return ``MLP`` for an MLPRegressor, as ForesightX writes it, and the class's name for every other."""
    return "MLP" if estimator == "MLPRegressor" else estimator


def defaults(estimator: str) -> dict[str, Any]:
    """Return all hyperparameters of an estimator with their defaults: scikit-learn's, and a standardized target.

    Parameters
    ----------
    estimator : str
        Its full name, one of ``fxhelpers.params.ESTIMATORS``.

    Returns
    -------
    dict
        Those of ``fxhelpers.params.HYPERPARAMETERS`` that the installed
        scikit-learn has, and ``standardise_target``.
    """
    known = arguments(estimator)
    return {_WRAPPING: True} | {name: known[name] for name in HYPERPARAMETERS[estimator] if name in known}


def relevant(estimator: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fit depends on, in one form: two settings with equal results here give the same fit.

    It builds the same regressor, too. Whole numbers are ints: ``1.0`` becomes
    ``1``, but where scikit-learn takes an int for a count and a float for a
    share.

    Parameters
    ----------
    estimator : str
        Its full name, one of ``fxhelpers.params.ESTIMATORS``.
    hyperparameters : mapping
        As for :func:`build`.

    Returns
    -------
    dict
        JSON's types only, sorted by name. Defaults are filled in, and what
        cannot influence the fit is left out, such as ``power_t`` of an MLP
        without ``solver: sgd``.
    """
    whole = {**defaults(estimator), **hyperparameters}
    if estimator in _SAME:
        whole = _SAME[estimator](whole)
    unused = _UNUSED[estimator](whole) if estimator in _UNUSED else set()
    return {name: whole[name] if name in _SHARES else canonical(whole[name]) for name in sorted(whole) if name not in unused}


_SHARES = {"max_features", "max_samples", "min_samples_leaf", "min_samples_split"}
"""Where 1 is one day or feature, and 1.0 is all of them."""


def canonical(value: Any) -> Any:  # noqa: ANN401
    """Return a value in one form, of JSON's types: 10 for 10.0, a list for a tuple or an array."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float):  # numpy's too
        return int(value) if value.is_integer() and abs(value) < _EXACT else float(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [canonical(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value)}
    return value


def _same_mlp(given: dict[str, Any]) -> dict[str, Any]:
    sizes = given["hidden_layer_sizes"]
    return {**given, "hidden_layer_sizes": list(sizes) if isinstance(sizes, list | tuple) else [sizes]}


def _same_ridge(given: dict[str, Any]) -> dict[str, Any]:
    if given["solver"] != "auto":
        return given
    return {**given, "solver": "lbfgs" if given["positive"] else "cholesky"}


def _same_forest(given: dict[str, Any]) -> dict[str, Any]:
    """1 is one feature or day, 1.0 is all of them, as null is."""
    shares = ("max_features", "max_samples")
    return {**given, **{name: None for name in shares if isinstance(given[name], float) and given[name] == 1}}


def _same_neighbors(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "weights": given["weights"] or "uniform"}


_SAME: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "MLPRegressor": _same_mlp,
    "Ridge": _same_ridge,
    "RandomForestRegressor": _same_forest,
    "KNeighborsRegressor": _same_neighbors,
}
"""Values of one meaning, made one, by estimator."""

_SGD = {"learning_rate", "power_t", "momentum", "nesterovs_momentum"}
_ADAM = {"beta_1", "beta_2", "epsilon"}
_EARLY = {"early_stopping", "validation_fraction"}


def _unused_mlp(given: dict[str, Any]) -> set[str]:
    if given["solver"] == "lbfgs":
        return _SGD | _ADAM | _EARLY | {"learning_rate_init", "batch_size", "shuffle", "n_iter_no_change"}
    unused = {"max_fun"} | (_ADAM if given["solver"] == "sgd" else _SGD)
    if given["learning_rate"] != "invscaling":
        unused.add("power_t")
    if given["momentum"] == 0:
        unused.add("nesterovs_momentum")
    if not given["early_stopping"]:
        unused.add("validation_fraction")
    return unused


def _unused_ridge(given: dict[str, Any]) -> set[str]:
    return {"max_iter", "tol"} if given["solver"] in {"cholesky", "svd"} else set()


def _unused_boosting(given: dict[str, Any]) -> set[str]:
    unused = set() if given["loss"] == "quantile" else {"quantile"}
    if given["early_stopping"] is False:  # "auto" decides by the number of days
        unused |= {"validation_fraction", "n_iter_no_change", "tol"}
    return unused


def _unused_forest(given: dict[str, Any]) -> set[str]:
    return set() if given["bootstrap"] else {"max_samples"}


_KERNELS = {"linear": {"gamma", "coef0", "degree"}, "rbf": {"coef0", "degree"}, "sigmoid": {"degree"}}


def _unused_svr(given: dict[str, Any]) -> set[str]:
    return _KERNELS.get(given["kernel"], set())


def _unused_neighbors(given: dict[str, Any]) -> set[str]:
    return set() if given["metric"] == "minkowski" else {"p"}


_UNUSED: dict[str, Callable[[dict[str, Any]], set[str]]] = {
    "MLPRegressor": _unused_mlp,
    "Ridge": _unused_ridge,
    "HistGradientBoostingRegressor": _unused_boosting,
    "RandomForestRegressor": _unused_forest,
    "SVR": _unused_svr,
    "KNeighborsRegressor": _unused_neighbors,
}
"""Hyperparameters that cannot influence the fit, by estimator, given the others."""


@cache
def _class(estimator: str) -> Any:  # noqa: ANN401
    return getattr(import_module(f"sklearn.{_MODULES[estimator]}"), estimator)


@cache
def arguments(estimator: str) -> dict[str, Any]:
    """Return all arguments of an estimator, by scikit-learn's signature, with their defaults."""
    return {name: one.default for name, one in inspect.signature(_class(estimator)).parameters.items()}
