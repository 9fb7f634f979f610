"""A bundle, read and checked."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from fxhelpers.display import Keyed, rows_html
from fxhelpers.estimators import describe, model_type, regressor_in
from fxhelpers.prices import unpack_columns
from fxhelpers.recipes import Recipe
from fxhelpers.training import Rolling

FORMAT_VERSION = 1
"""Version of the metadata that this fxhelpers writes; newer versions are refused."""

_LARGEST = 1e300  # that every database can store


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
