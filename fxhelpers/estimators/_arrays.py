"""Checks of the numbers that compiled code uses as positions, without looking whether they are inside of their arrays.

A crafted tree makes scikit-learn read anywhere in memory, or never end
(https://github.com/scikit-learn/scikit-learn/pull/34558). So every object
with such numbers is checked after it is built, before it forecasts.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor
from sklearn.tree._tree import Tree

from fxhelpers.errors import UntrustedBundleError

_KERNELS = ("linear", "poly", "rbf", "sigmoid")
_CLASSES = 2  # libsvm calls a regression so


def check_arrays(estimator: Any, origin: str) -> None:  # noqa: ANN401 (scikit-learn's estimators have no common base)
    """Raise :class:`UntrustedBundleError` if a tree or a support vector machine in an estimator points outside of its arrays."""
    for part in _parts(estimator):
        for kind, is_sound in _SOUND.items():
            if isinstance(part, kind) and not is_sound(part):
                msg = (
                    f"{origin}: the arrays of its {kind.__name__} do not fit together, so its forecasts could crash this process "
                    "or read outside of them; it was refused. Train or copy the bundle again"
                )
                raise UntrustedBundleError(msg)


def _parts(root: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield everything that an object holds, and itself."""
    waiting, seen = [root], {}
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        yield part
        if isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, np.ndarray):
            waiting += part.ravel().tolist() if part.dtype == object else []
        else:
            waiting += getattr(part, "__dict__", {}).values()


def _is_sound_tree(model: DecisionTreeRegressor) -> bool:
    tree, width = getattr(model, "tree_", None), _width(model)
    if tree is None:  # what a forest was made from
        return True
    if type(tree) is not Tree or not 0 < tree.node_count == tree.capacity:
        return False
    sizes = tree.n_features == width and tree.n_outputs == tree.max_n_classes == 1
    left, right = tree.children_left, tree.children_right
    return sizes and _lead_on(left == -1, left, right, tree.feature, width)


def _is_sound_forest(model: RandomForestRegressor) -> bool:
    width, trees = _width(model), getattr(model, "estimators_", [])
    fitting = (type(tree) is DecisionTreeRegressor and 0 < _width(tree) == width for tree in trees)
    return _is_list(trees) and all(fitting)


def _is_sound_boosting(model: HistGradientBoostingRegressor) -> bool:
    if not hasattr(model, "_predictors"):
        return True
    rounds, mapper, width = model._predictors, model._bin_mapper, _width(model)  # noqa: SLF001
    if model._n_features != width or type(mapper) is not _BinMapper:  # noqa: SLF001
        return False
    if np.any(mapper.is_categorical_) or model._preprocessor is not None:  # noqa: SLF001 (there are no categories here)
        return False
    sound = (
        _is_list(trees) and all(type(tree) is TreePredictor and _is_sound_predictor(tree.nodes, width) for tree in trees)
        for trees in rounds
    )
    return _is_list(rounds) and all(sound)


def _is_sound_predictor(nodes: Any, width: int) -> bool:  # noqa: ANN401
    if type(nodes) is not np.ndarray or nodes.dtype != PREDICTOR_RECORD_DTYPE or nodes.ndim != 1 or not len(nodes):
        return False
    left, right = (nodes[side].astype(np.int64) for side in ("left", "right"))
    return not nodes["is_categorical"].any() and _lead_on(nodes["is_leaf"] != 0, left, right, nodes["feature_idx"], width)


def _is_sound_svr(model: SVR) -> bool:
    if not hasattr(model, "support_vectors_"):
        return True
    width, count = _width(model), len(model.support_vectors_)
    shapes = {
        "support_vectors_": (count, width),
        "support_": (count,),
        "_n_support": (_CLASSES,),
        "_dual_coef_": (1, count),
        "_intercept_": (1,),
        "_probA": (0,),
        "_probB": (0,),
    }
    return (
        width > 0
        and model.kernel in _KERNELS
        and (model._impl, model._sparse) == (SVR._impl, False)  # noqa: SLF001
        and all(type(getattr(model, name, None)) is np.ndarray for name in shapes)
        and all(getattr(model, name).shape == shape for name, shape in shapes.items())
    )


_SOUND: dict[type, Callable[[Any], bool]] = {
    DecisionTreeRegressor: _is_sound_tree,
    RandomForestRegressor: _is_sound_forest,
    HistGradientBoostingRegressor: _is_sound_boosting,
    SVR: _is_sound_svr,
}


def _lead_on(leaf: np.ndarray, left: np.ndarray, right: np.ndarray, feature: np.ndarray, width: int) -> bool:
    """Return whether every node that is no leaf leads to two later nodes, by a feature that there is."""
    here, count = np.arange(len(leaf)), len(leaf)
    inside = (left > here) & (left < count) & (right > here) & (right < count) & (feature >= 0) & (feature < width)
    return bool((inside | leaf).all())


def _width(model: Any) -> int:  # noqa: ANN401
    """Return the number of features that scikit-learn compares the input's with; 0 without one."""
    width = getattr(model, "n_features_in_", 0)
    return int(width) if type(width) in {int, np.int64} else 0


def _is_list(value: object) -> bool:
    return type(value) in {list, tuple}
