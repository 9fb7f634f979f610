"""What one trained model is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from fxhelpers.estimators import select_by_name
from fxhelpers.results import Keyed, rows_html

_LARGEST = 1e300

FORMAT_VERSION = 1
"""Version of the metadata that this fxhelpers writes; newer ones are refused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle(Keyed):
    """One trained model, read and checked.

    Attributes
    ----------
    symbol : str
        Ticker.
    model_path, scaler_path, metadata_path : Path
        Its files.
    evaluation_path : Path or None
        The latest evaluation that belongs to it.
    features_path : Path or None
        The symbol's latest features file, where ForesightX left one.
    model_object, scaler_object : estimator
        As fitted; the scaler has to be applied first.
    scaler_content : bytes
        The scaler as a ``.skops`` file.
    metadata : dict
        The whole metadata file.
    test_metrics : dict
        The evaluation's ``test_metrics``; empty without an evaluation.
    forecasts : Series
        What it forecast for real days, by date, as fractions of return: as
        the training stored it, else as the evaluation did; may be empty.
    digest : str
        SHA-256 over model, scaler and metadata: the identity of the bundle.
    chosen : str
        Why it was taken, where nobody named its model file, and which times
        cannot be right.
    """

    symbol: str
    model_path: Path
    scaler_path: Path
    metadata_path: Path
    evaluation_path: Path | None
    features_path: Path | None
    model_object: Any = field(repr=False)
    scaler_object: Any = field(repr=False)
    scaler_content: bytes = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)
    test_metrics: dict[str, Any] = field(repr=False)
    forecasts: pd.Series = field(repr=False)
    digest: str
    chosen: str = ""

    @property
    def model_type(self) -> str:
        """Kind of model, for example ``MLP``."""
        return str(self.metadata.get("model_type", "MLP"))

    @property
    def is_ours(self) -> bool:
        """Whether its estimators came as skops files, and not as pickles."""
        return self.model_path.suffix == ".skops"

    @property
    def name(self) -> str:
        """What its files are named by: ``AAPL_20251220_034123``, or the symbol alone."""
        return self.metadata_path.stem.removeprefix("mlp_model_stats_")

    @property
    def architecture(self) -> list[int]:
        """Units of each hidden layer."""
        return list(self.metadata.get("architecture", []))

    @property
    def features_count(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of the columns."""
        return list(self.metadata["feature_names"])

    @property
    def timestamp(self) -> str:
        """When it was trained, as the metadata writes it."""
        return str(self.metadata["timestamp"])

    @property
    def config(self) -> dict[str, Any]:
        """Hyperparameters."""
        return dict(self.metadata.get("config", {}))

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the training and test metrics of the evaluation, those that are numbers."""
        merged = {**self.metadata.get("metrics", {}), **self.test_metrics}
        numbers = {k: v for k, v in merged.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        return {k: v for k, v in numbers.items() if abs(v) < _LARGEST}  # neither NaN nor what no database holds

    @property
    def typical(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each raw feature in training, as the scaler has them."""
        scaler, ones = self.scaler_object, np.ones(self.features_count)
        mean, scale = getattr(scaler, "mean_", None), getattr(scaler, "scale_", None)  # of another scaler: unknown
        return (ones * 0 if mean is None else mean), (ones if scale is None else scale)

    def typical_days(self) -> pd.DataFrame:
        """Return raw features of two days: an average one, and one above it in everything."""
        mean, scale = self.typical
        return pd.DataFrame(np.asarray([mean, mean + scale], dtype=float), columns=self.feature_names)

    def pipeline(self) -> Pipeline:
        """Return scaler and model as one estimator that predicts from raw features, which it takes by name."""
        return select_by_name(Pipeline([("scaler", self.scaler_object), ("model", self.model_object)]), self.feature_names)

    def _repr_html_(self) -> str:
        return rows_html(
            {
                "symbol": self.symbol,
                "trained": self.timestamp,
                **({"chosen": self.chosen} if self.chosen else {}),
                "model": f"{self.model_type} {self.architecture}",
                "features": self.features_count,
                "evaluation": self.evaluation_path.name if self.evaluation_path else "none yet",
                "model file": self.model_path.name,
                **({} if self.is_ours else {"read": "by a process of its own, which made a skops file of it; only that is used"}),
                "SHA-256": self.digest,
            }
        )
