"""Fitted estimators as ``.skops`` files: only what models of ours are made of is built, and only if its arrays fit together."""

import io
import json
import math
import zipfile
from collections.abc import Collection, Iterator
from typing import Any

import skops.io

from fxhelpers.errors import BundleError, UntrustedBundleError
from fxhelpers.estimators._arrays import check_arrays
from fxhelpers.estimators._regressors import regressor_in
from fxhelpers.params import LOSSES, MODEL_PARTS

TRUSTED_TYPES = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types of our models beyond skops' own defaults; :mod:`fxhelpers.estimators._arrays` checks what trees hold."""

_UNPACKED_BYTES = 64 * 2**20
_SCHEMA_BYTES = 16 * 2**20  # a real one has 1.5 kB per feature; parsed, it takes thirty times as much memory
_ARRAYS = ("ndarray", "bool", "bool_", "float32", "float64", "int32", "int64", "uint64", "str_")
_NODES = {
    *(("ObjectNode", name) for name in MODEL_PARTS),
    *(("NdArrayNode", f"numpy.{name}") for name in _ARRAYS),
    *(("LossNode", f"sklearn._loss._loss.Cy{loss}") for loss in LOSSES),
    ("TreeNode", "sklearn.tree._tree.Tree"),
    ("RandomStateNode", "numpy.random.mtrand.RandomState"),
    ("JsonNode", "builtins.str"),
    ("TypeNode", "builtins.str"),  # the type of a dict's keys
    ("DictNode", "builtins.dict"),
    ("SliceNode", "builtins.slice"),
    ("ListNode", "builtins.list"),
    ("TupleNode", "builtins.tuple"),
}
"""Loader and type of all that skops may build: everything else is refused, even if skops itself trusts it."""


def dump_estimator(estimator: Any) -> bytes:  # noqa: ANN401 (scikit-learn's estimators have no common base for this)
    """Return a fitted estimator as a ``.skops`` file, without what only another fit would need."""
    vars(regressor_in(estimator)).pop("_feature_subsample_rng", None)  # of gradient boosting: a type more to trust
    return bytes(skops.io.dumps(estimator))


def load_estimator(content: bytes, origin: str, *, trusted: Collection[str] = (), unpacked: int = _UNPACKED_BYTES) -> Any:  # noqa: ANN401
    """Read a fitted estimator from the bytes of a ``.skops`` file; ``origin`` names the source in errors.

    :class:`UntrustedBundleError` if it requires a type or function that neither
    our models need nor ``trusted`` lists, or if its arrays do not fit together;
    :class:`BundleError` if it is too big, truncated, or not a ``.skops`` file.
    """
    try:
        check_size(content, origin, unpacked)
        _check(content, origin, trusted)
        estimator = skops.io.loads(content, trusted=[*TRUSTED_TYPES, *trusted])
        check_arrays(estimator, origin)
    except UntrustedBundleError:
        raise
    except Exception as error:  # a crafted file can make zip, JSON, numpy and skops raise anything; it is refused
        msg = f"{origin}: not a complete .skops file ({len(content)} bytes): {str(error)!r:.300}; train or copy the bundle again"
        raise BundleError(msg) from error
    if not hasattr(estimator, "n_features_in_"):
        msg = f"{origin}: holds {type(estimator).__name__}, not a fitted scaler or model of scikit-learn"
        raise BundleError(msg)
    return estimator


def check_size(content: bytes, origin: str, most: int = _UNPACKED_BYTES) -> None:
    """Raise :class:`UntrustedBundleError` for a ``.skops`` file that is bigger than the limit, or has too many parts to read."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
        parts = file.getinfo("schema.json").file_size
    if unpacked > most:
        what, limit = f"it unpacks to {_megabytes(unpacked)} MB", f"{most // 2**20} MB, the limit of bundles.max_megabytes"
    elif parts > _SCHEMA_BYTES:
        what, limit = f"the list of its parts has {_megabytes(parts)} MB", f"the limit of {_SCHEMA_BYTES // 2**20} MB"
    else:
        return
    msg = f"{origin}: {what}, more than {limit}; it is refused. A forest or boosting gets smaller with fewer or shallower trees"
    raise UntrustedBundleError(msg)


def _megabytes(size: int) -> int:
    return math.ceil(size / 2**20)


def _check(content: bytes, origin: str, trusted: Collection[str]) -> None:
    """Check everything that a file would make skops build, before skops reads it."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        whole = list(_nodes(json.loads(file.read("schema.json"))))
    nodes = {(str(node["__loader__"]), f"{node.get('__module__')}.{node.get('__class__')}") for node in whole}
    unknown = nodes - _NODES - {("ObjectNode", name) for name in trusted}
    if unknown:
        listed = ", ".join(sorted(f"{name} (as {loader})" for loader, name in unknown))
        msg = (
            f"{origin}: requires {listed}, which no model of ours needs; it was not loaded. "
            "If you trust the class, list its full name under bundles: trusted_types in params.yaml (functions cannot be trusted)"
        )
        raise UntrustedBundleError(msg)
    if not _is_one_output(whole):
        msg = f"{origin}: holds something else than a tree of one output, so that its constructor was not called; train it again"
        raise UntrustedBundleError(msg)


def _is_one_output(nodes: list[dict[str, Any]]) -> bool:
    """Return whether every tree would be made for one output: its constructor reads so many numbers without looking for an end.

    skops takes what has the same id from the first place of it, so all places count.
    """
    places: dict[object, list[dict[str, Any]]] = {}
    for node in nodes:
        places.setdefault(node.get("__id__"), []).append(node)

    def everywhere(node: dict[str, Any]) -> list[dict[str, Any]]:
        return places[node["__id__"]] if node.get("__id__") else [node]

    arguments = [node["__reduce__"]["args"] for node in nodes if node["__loader__"] == "TreeNode"]
    outputs = [same["content"][2] for one in arguments for same in everywhere(one)]
    numbers = [same for one in outputs for same in everywhere(one)]
    return all((one["__loader__"], one["content"]) == ("JsonNode", "1") for one in numbers)


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
