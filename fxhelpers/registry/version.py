"""One version of a registered model, as we see it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

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
