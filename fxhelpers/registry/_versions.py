"""A version: its entry in the registry."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

from fxhelpers.display import Keyed
from fxhelpers.ledger import Identity

BUNDLE_DIGEST = "fx.bundle_sha256"
RECIPE_DIGEST = "fx.recipe_sha256"
STAGE_TAG = "fx.stage"  # tag of a version that replaces its stage on a server without stages


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Keyed):
    """One version of a registered model, as the registry has it."""

    name: str  # registered model
    version: int  # number that the registry gave
    # None, Staging, Production or Archived. Only the champion's is Production; another version that still is so in MLflow's
    # mirror counts as Archived
    stage: str
    mirror: str  # MLflow's stage
    status: str  # MLflow's: READY if it can be used
    run_id: str  # MLflow run that holds its files
    source: str  # address of its files, as MLflow has it
    creation_timestamp: int  # milliseconds since 1970, UTC
    last_updated_timestamp: int
    description: str  # free text
    tags: dict[str, str] = field(repr=False)  # of the version

    @property
    def identity(self) -> Identity:
        """Number and bundle, which identify it even if MLflow gives the number again."""
        return Identity(self.version, self.tags.get(BUNDLE_DIGEST, ""))

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.creation_timestamp / 1000, UTC)

    @property
    def mirror_lags(self) -> bool:
        """Whether MLflow's stage and the alias disagree about Production."""
        return (self.mirror == "Production") != (self.stage == "Production")

    def archive_due(self, retention_days: int) -> datetime | None:
        """Return when a Staging version is due for archiving, UTC; None for any other stage."""
        return self.created + timedelta(days=retention_days) if self.stage == "Staging" else None


def in_production(versions: Iterable[ModelVersion]) -> ModelVersion | None:
    """Return the champion among versions; None if it is not one of them."""
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
