"""A bundle, and its estimators as skops files."""

import copy
import io
import json
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

from fxhelpers.display import Keyed, rows_html
from fxhelpers.errors import BundleError, UntrustedBundleError

TRUSTED_TYPES = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)
"""Types of our models beyond skops' own defaults."""

FORMAT_VERSION = 1
"""Version of the metadata that this fxhelpers writes; newer versions are refused."""

_LARGEST = 1e300  # that every database can store
_UNPACKED_BYTES = 64 * 2**20
_SCHEMA_BYTES = 16 * 2**20  # a real one has 1.5 kB per feature; parsed, it takes thirty times as much memory
_OBJECTS = {
    *TRUSTED_TYPES,
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.compose._target.TransformedTargetRegressor",
    "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",  # in a ColumnTransformer that passes columns through
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
    return bytes(skops.io.dumps(estimator))


def load_estimator(content: bytes, origin: str, *, trusted: Collection[str] = (), unpacked: int = _UNPACKED_BYTES) -> Any:  # noqa: ANN401
    """Read a fitted estimator from the bytes of a ``.skops`` file; ``origin`` names the source in errors.

    :class:`UntrustedBundleError` if it requires a type or function that neither
    our models need nor ``trusted`` lists; :class:`BundleError` if it is
    truncated, or not a ``.skops`` file.
    """
    try:
        _check(content, origin, trusted, unpacked)
        estimator = skops.io.loads(content, trusted=[*TRUSTED_TYPES, *trusted])
    except UntrustedBundleError:
        raise
    except Exception as error:  # a crafted file can make zip, JSON, numpy and skops raise anything; it is refused
        msg = f"{origin}: not a complete .skops file ({len(content)} bytes): {str(error)!r:.300}; train or copy the bundle again"
        raise BundleError(msg) from error
    if not hasattr(estimator, "n_features_in_"):
        msg = f"{origin}: holds {type(estimator).__name__}, not a fitted scaler or model of scikit-learn"
        raise BundleError(msg)
    return estimator


def _check(content: bytes, origin: str, trusted: Collection[str], most: int) -> None:
    """Check everything that a file would make skops build, before skops reads it."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
        if unpacked > most or file.getinfo("schema.json").file_size > _SCHEMA_BYTES:
            msg = f"{origin}: unpacks to {unpacked // 2**20} MB, more than the limit; it was not loaded"
            raise UntrustedBundleError(msg)
        nodes = set(_nodes(json.loads(file.read("schema.json"))))
    unknown = nodes - _NODES - {("ObjectNode", name) for name in trusted}
    if unknown:
        listed = ", ".join(sorted(f"{name} (as {loader})" for loader, name in unknown))
        msg = (
            f"{origin}: requires {listed}, which no model of ours needs; it was not loaded. "
            "If you trust the class, list its full name under bundles: trusted_types in params.yaml (functions cannot be trusted)"
        )
        raise UntrustedBundleError(msg)


def _nodes(node: object) -> Iterator[tuple[str, str]]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                yield str(node["__loader__"]), f"{node.get('__module__')}.{node.get('__class__')}"
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
    chosen: str = ""  # why it was chosen, unless its model file was given, and implausible times

    @property
    def model_type(self) -> str:
        """Kind of model, such as ``MLP``."""
        return str(self.metadata.get("model_type", "MLP"))

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
        """Units of each hidden layer."""
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
                "model": f"{self.model_type} {self.architecture}",
                "features": self.features_count,
                "evaluation": self.evaluation_path.name if self.evaluation_path else "none yet",
                "model file": self.model_path.name,
                "read": "" if self.is_ours else "converted from a pickle to a skops file in a sandbox",
                "SHA-256": self.digest,
            }
        )
