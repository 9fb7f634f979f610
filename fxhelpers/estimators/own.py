"""Our own estimator files: skops, read by our list of what a model is made of and by nothing that the file says."""

import copy
import io
import json
import zipfile
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from fxhelpers.errors import BundleError, UntrustedBundleError

TRUSTED_TYPES = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)
"""Types beyond skops' own defaults that our models are made of."""

_UNPACKED_BYTES = 64 * 2**20
_SCHEMA_BYTES = 16 * 2**20  # of a version it has 1.5 kB a feature; parsed it takes thirty times as much memory
_OBJECTS = {
    *TRUSTED_TYPES,
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.compose._target.TransformedTargetRegressor",
    "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",  # of a ColumnTransformer that passes columns on
}
_NODES = {
    *(("ObjectNode", name) for name in _OBJECTS),
    *(("NdArrayNode", f"numpy.{name}") for name in ("ndarray", "bool", "bool_", "float32", "float64", "int32", "int64", "str_")),
    ("RandomStateNode", "numpy.random.mtrand.RandomState"),
    ("JsonNode", "builtins.str"),
    ("TypeNode", "builtins.str"),  # the type of a dict's keys
    ("DictNode", "builtins.dict"),
    ("SliceNode", "builtins.slice"),
    ("ListNode", "builtins.list"),
    ("TupleNode", "builtins.tuple"),
}
"""How skops may build what: everything else is refused, also where skops itself would trust it."""


def select_by_name(pipeline: Pipeline, names: Sequence[str]) -> Pipeline:
    """Return a pipeline of scaler and model that takes its features by name, as :class:`ColumnTransformer` does.

    The order of the columns and further ones do not matter. What has no
    names, such as an array of scaled features, raises :class:`ValueError`
    under plain scikit-learn too. A pipeline that selects is left as it is.
    """
    if isinstance(pipeline[0], ColumnTransformer):
        return pipeline
    columns = ColumnTransformer([("features", "passthrough", np.asarray(names))])
    columns.fit(pd.DataFrame(np.zeros((1, len(names))), columns=list(names)))
    scaler, model = (copy.copy(step) for _, step in pipeline.steps)
    for step in (scaler, model):
        vars(step).pop("feature_names_in_", None)  # it gets an array, in this order, and would warn of that
    return Pipeline([("columns", columns), ("scaler", scaler), ("model", model)])


def dump_estimator(estimator: Any) -> bytes:  # noqa: ANN401 (scikit-learn's estimators have no common base for this)
    """Return an estimator as the bytes of a ``.skops`` file."""
    return bytes(skops.io.dumps(estimator))


def load_estimator(content: bytes, origin: str, *, trusted: Collection[str] = (), unpacked: int = _UNPACKED_BYTES) -> Any:  # noqa: ANN401
    """Read a fitted estimator from the bytes of a ``.skops`` file; ``origin`` says in errors where they come from.

    :class:`UntrustedBundleError` where it asks for a type or function that no
    such model needs, and for none of the ``trusted`` classes;
    :class:`BundleError` where it is truncated, or no such file.
    """
    try:
        _check(content, origin, trusted, unpacked)
        estimator = skops.io.loads(content, trusted=[*TRUSTED_TYPES, *trusted])
    except UntrustedBundleError:
        raise
    except Exception as error:  # a crafted file can make zip, JSON, numpy and skops raise anything; it is refused
        msg = f"{origin}: not a whole .skops file ({len(content)} bytes): {str(error)!r:.300}; train or copy the bundle again"
        raise BundleError(msg) from error
    if not hasattr(estimator, "n_features_in_"):
        msg = f"{origin}: holds {type(estimator).__name__}, not a fitted scaler or model of scikit-learn"
        raise BundleError(msg)
    return estimator


def _check(content: bytes, origin: str, trusted: Collection[str], most: int) -> None:
    """Read what a file is going to ask skops for, before skops does."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
        if unpacked > most or file.getinfo("schema.json").file_size > _SCHEMA_BYTES:
            msg = f"{origin}: unpacks to {unpacked // 2**20} MB, more than a model of ours; it was not loaded"
            raise UntrustedBundleError(msg)
        nodes = set(_nodes(json.loads(file.read("schema.json"))))
    unknown = nodes - _NODES - {("ObjectNode", name) for name in trusted}
    if unknown:
        named = ", ".join(sorted(f"{name} (as {loader})" for loader, name in unknown))
        msg = (
            f"{origin}: asks for {named}, which no model of ours is made of; it was not loaded. "
            "A class that you trust: list its full name under bundles: trusted_types in params.yaml (no function can be trusted)"
        )
        raise UntrustedBundleError(msg)


def _nodes(node: object) -> Iterator[tuple[str, str]]:
    """Yield loader and full name of everything that a schema asks skops to build."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                yield str(node["__loader__"]), f"{node.get('__module__')}.{node.get('__class__')}"
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
