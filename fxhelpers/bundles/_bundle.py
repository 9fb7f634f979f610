"""A bundle, and its estimators as skops files."""

import copy
import io
import json
import math
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from fxhelpers.bundles._arrays import check_arrays
from fxhelpers.display import Keyed, rows_html
from fxhelpers.errors import BundleError, UntrustedBundleError
from fxhelpers.estimators import describe, model_type, regressor_in
from fxhelpers.prices import unpack_columns
from fxhelpers.recipes import Recipe
from fxhelpers.training import Rolling

TRUSTED_TYPES = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types of our models beyond skops' own defaults; :mod:`fxhelpers.bundles._arrays` checks what trees hold."""

FORMAT_VERSION = 1
"""Version of the metadata that this fxhelpers writes; newer versions are refused."""

_LARGEST = 1e300  # that every database can store
_UNPACKED_BYTES = 64 * 2**20
_SCHEMA_BYTES = 16 * 2**20  # a real one has 1.5 kB per feature; parsed, it takes thirty times as much memory
_BOOSTING = "sklearn.ensemble._hist_gradient_boosting"
_LOSSES = ("HalfSquaredError", "AbsoluteError", "PinballLoss")  # of gradient boosting: squared, absolute, quantile
PARTS = {
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
    *(f"sklearn._loss.loss.{loss}" for loss in _LOSSES),
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
"""Classes that models of ours are made of."""
_ARRAYS = ("ndarray", "bool", "bool_", "float32", "float64", "int32", "int64", "uint64", "str_")
_NODES = {
    *(("ObjectNode", name) for name in PARTS),
    *(("NdArrayNode", f"numpy.{name}") for name in _ARRAYS),
    *(("LossNode", f"sklearn._loss._loss.Cy{loss}") for loss in _LOSSES),
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


def select_by_name(pipeline: Pipeline, names: Sequence[str]) -> Pipeline:
    """Return a pipeline of scaler and model that takes its features by name, in any order, among any others.

    Input without names, such as an array of scaled features, raises
    :class:`ValueError`, in plain scikit-learn too. A pipeline that already
    selects by name is returned unchanged.
    """
    if isinstance(pipeline[0], ColumnTransformer):
        return pipeline
    columns = ColumnTransformer([("features", "passthrough", np.asarray(names))])
    columns.fit(pd.DataFrame(np.zeros((1, len(names))), columns=list(names)))
    scaler, model = (copy.copy(step) for _, step in pipeline.steps)
    for step in (scaler, model):
        vars(step).pop("feature_names_in_", None)  # its input is an array, and it would warn about that
    return Pipeline([("columns", columns), ("scaler", scaler), ("model", model)])


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle(Keyed):
    """One trained model, read and checked."""

    symbol: str
    model_path: Path
    scaler_path: Path
    metadata_path: Path
    evaluation_path: Path | None  # the latest evaluation that belongs to it
    features_path: Path | None  # the symbol's latest ForesightX features file, if any
    model_object: Any = field(repr=False)  # as fitted; the model takes scaled features
    scaler_object: Any = field(repr=False)
    scaler_content: bytes = field(repr=False)  # the scaler as a ``.skops`` file
    metadata: dict[str, Any] = field(repr=False)  # the whole metadata file
    test_metrics: dict[str, Any] = field(repr=False)  # the evaluation's ``test_metrics``; empty without an evaluation
    # its forecasts of real days, by date, as fractions of return, as stored by the training, else by the evaluation; may be empty
    forecasts: pd.Series = field(repr=False)
    digest: str  # SHA-256 over model, scaler and metadata: the identity of the bundle
    rolling: Rolling | None = field(default=None, repr=False)  # rolling-origin forecasts of its recipe, if it makes them
    chosen: str = ""  # why it was chosen, unless its model file was given, and implausible times

    @property
    def model_type(self) -> str:
        """Kind of model: ``MLP``, or the class of another estimator, such as ``Ridge``."""
        return str(self.metadata.get("model_type") or model_type(type(regressor_in(self.model_object)).__name__))

    @property
    def recipe(self) -> Recipe:
        """What its training did; of a foreign bundle, what its metadata say."""
        return Recipe.read(self.metadata)

    @property
    def extra(self) -> pd.DataFrame | None:
        """Columns of the user's own that it was trained on, by day; None if its recipe has none."""
        return unpack_columns(self.metadata["extra"]) if self.metadata.get("extra") else None

    @property
    def is_ours(self) -> bool:
        """Whether its estimators are skops files, not pickles."""
        return self.model_path.suffix == ".skops"

    @property
    def name(self) -> str:
        """Common part of its file names: ``AAPL_20251220_034123``, or the symbol alone."""
        return self.metadata_path.stem.removeprefix("mlp_model_stats_")

    @property
    def architecture(self) -> list[int]:
        """Units of each hidden layer of an MLP; empty for other models."""
        return list(self.metadata.get("architecture", []))

    @property
    def features_count(self) -> int:
        return len(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of the model's columns."""
        return list(self.metadata["feature_names"])

    @property
    def timestamp(self) -> str:
        """Time of the training, as the metadata states it."""
        return str(self.metadata["timestamp"])

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.metadata.get("config", {}))

    @property
    def metrics(self) -> dict[str, float]:
        """Numeric validation metrics of the training and test metrics of the evaluation."""
        merged = {**self.metadata.get("metrics", {}), **self.test_metrics}
        return {k: v for k, v in merged.items() if type(v) in (int, float) and abs(v) < _LARGEST}  # NaN fails this too

    @property
    def typical(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each raw feature in training, from the scaler."""
        scaler, ones = self.scaler_object, np.ones(self.features_count)
        mean, scale = getattr(scaler, "mean_", None), getattr(scaler, "scale_", None)  # another kind of scaler may have neither
        return (ones * 0 if mean is None else mean), (ones if scale is None else scale)

    def typical_days(self) -> pd.DataFrame:
        """Return raw features of two days: the mean, and one standard deviation above it."""
        mean, scale = self.typical
        return pd.DataFrame(np.asarray([mean, mean + scale], dtype=float), columns=self.feature_names)

    def pipeline(self) -> Pipeline:
        """Return scaler and model as one estimator that predicts from raw features, selected by name."""
        return select_by_name(Pipeline([("scaler", self.scaler_object), ("model", self.model_object)]), self.feature_names)

    def _repr_html_(self) -> str:
        return rows_html(
            {
                "symbol": self.symbol,
                "trained": self.timestamp,
                "chosen": self.chosen,
                "model": describe(self.model_object),
                "recipe": f"{self.recipe.short}{'' if self.recipe.whole else ', known in part'}",
                "features": self.features_count,
                "evaluation": self.evaluation_path.name if self.evaluation_path else "none yet",
                "model file": self.model_path.name,
                "read": "" if self.is_ours else "converted from a pickle to a skops file in a sandbox",
                "SHA-256": self.digest,
            }
        )
