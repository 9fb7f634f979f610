"""A model version, and the stored forecasts that identify it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

from fxhelpers.bundles import Bundle
from fxhelpers.ledger import Identity
from fxhelpers.results import Keyed

BUNDLE_DIGEST = "fx.bundle_sha256"

STAGE_TAG = "fx.stage"
"""Tag of a version that is its stage, where a server knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Keyed):
    """One version of a registered model, as the registry has it.

    Attributes
    ----------
    name : str
        Registered model.
    version : int
        Number that the registry gave.
    stage : str
        None, Staging, Production or Archived. Production is the champion's
        stage and nobody else's; another version that MLflow's mirror still
        calls so counts as Archived.
    mirror : str
        The stage that MLflow has.
    status : str
        MLflow's: READY where it can be used.
    run_id : str
        MLflow run that holds its files.
    source : str
        Where MLflow says that they come from.
    creation_timestamp, last_updated_timestamp : int
        Milliseconds since 1970, UTC.
    description : str
        Free text.
    tags : dict
        Of the version.
    """

    name: str
    version: int
    stage: str
    mirror: str
    status: str
    run_id: str
    source: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str
    tags: dict[str, str] = field(repr=False)

    @property
    def identity(self) -> Identity:
        """Which version it is, whatever MLflow gives its number to later: number and bundle."""
        return Identity(self.version, self.tags.get(BUNDLE_DIGEST, ""))

    @property
    def created(self) -> datetime:
        """When it was registered, UTC."""
        return datetime.fromtimestamp(self.creation_timestamp / 1000, UTC)

    @property
    def mirror_lags(self) -> bool:
        """Whether MLflow's stage and the alias disagree about Production."""
        return (self.mirror == "Production") != (self.stage == "Production")

    def archive_due(self, retention_days: int) -> datetime | None:
        """Return when a Staging version is due for archiving, UTC; None for any other stage."""
        return self.created + timedelta(days=retention_days) if self.stage == "Staging" else None


def in_production(versions: Iterable[ModelVersion]) -> ModelVersion | None:
    """Return the champion among versions; None where it is not there."""
    return next((version for version in versions if version.stage == "Production"), None)


def as_version(found: MlflowModelVersion, *, champion: int | None) -> ModelVersion:
    """Translate MLflow's version; ``champion`` is the number that the alias points to."""
    number, stage = int(found.version), found.current_stage or "None"
    mirror = found.tags.get(STAGE_TAG, "None") if stage == "None" else stage
    retired = "Archived" if mirror == "Production" else mirror
    return ModelVersion(
        name=found.name,
        version=number,
        stage="Production" if number == champion else retired,
        mirror=mirror,
        status=found.status,
        run_id=found.run_id or "",
        source=found.source or "",
        creation_timestamp=found.creation_timestamp,
        last_updated_timestamp=found.last_updated_timestamp or found.creation_timestamp,
        description=found.description or "",
        tags=dict(found.tags),
    )


_FILE = "probe.npz"
_PROBED = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What a version forecast when it was registered.

    Attributes
    ----------
    inputs : ndarray of shape (256, n_features)
        Raw features as the scaler saw them in training, drawn anew.
    forecasts : ndarray of shape (256,)
        Of these, as fractions of return.
    days : Series
        Forecasts of real days, by date; empty where the bundle had none.
    """

    inputs: np.ndarray
    forecasts: np.ndarray
    days: pd.Series


def write_probe(bundle: Bundle, pipeline: Any, folder: Path) -> None:  # noqa: ANN401 (scikit-learn's have no common base)
    """Forecast 256 typical days, the same ones for the same bundle, and store that with the bundle's forecasts of real days."""
    drawn = np.random.default_rng(0).standard_normal((_PROBED, bundle.features_count))
    mean, scale = bundle.typical
    inputs = mean + scale * drawn
    forecasts = pipeline.predict(pd.DataFrame(inputs, columns=bundle.feature_names))
    known = bundle.forecasts
    days = known.index.to_numpy().astype("datetime64[D]").astype("<i8")
    np.savez_compressed(folder / _FILE, inputs=inputs, forecasts=forecasts, days=days, real=known.to_numpy(dtype=float))


def read_probe(folder: Path) -> Probe | None:
    """Return what :func:`write_probe` stored; None where there is nothing."""
    path = folder / _FILE
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        days = stored["days"] if "days" in stored else np.empty(0, dtype="<i8")
        real = stored["real"] if "real" in stored else np.empty(0)
        index = pd.DatetimeIndex(days.astype("datetime64[D]"))
        return Probe(inputs=stored["inputs"], forecasts=stored["forecasts"], days=pd.Series(real, index=index))
