"""``ModelRegistry``: the whole workflow from Python, with the methods that its users know."""

import logging
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhelpers.bundles import Bundle, load_bundle
from fxhelpers.errors import StageError
from fxhelpers.params import STAGES, Params, check_symbol, load_params
from fxhelpers.results import Keyed

if TYPE_CHECKING:
    import pandas as pd

    from fxhelpers.promotion import Decision, Proposal
    from fxhelpers.registry import ModelVersion, RegisteredModel, RegistryClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Keyed):
    """What a registration did.

    Attributes
    ----------
    model_name : str
        Registered model.
    version : int
        Number that the registry gave for this bundle.
    stage : str
        Of the version, afterwards.
    run_id : str
        MLflow run that holds its files.
    symbol : str
        Ticker.
    architecture : list of int
        Units of each hidden layer.
    metrics : dict
        Validation and test metrics.
    timestamp : str
        When the bundle was trained.
    created : bool
        False where the same bundle was registered before: the version is that
        one.
    duration_seconds : float
        From start to end.
    """

    model_name: str
    version: int
    stage: str
    run_id: str
    symbol: str
    architecture: list[int]
    metrics: dict[str, float]
    timestamp: str
    created: bool
    duration_seconds: float


class ModelRegistry:
    """Register, list, compare and promote models.

    An object can always be made and bundles can always be read. A method that
    needs the registry raises :class:`~fxhelpers.errors.RegistryUnavailableError`
    where MLflow is switched off, its token is missing or it does not answer,
    :class:`~fxhelpers.errors.VersionNotFoundError` where it has no such model
    or version, and :class:`~fxhelpers.errors.RegistryError` where it refuses.
    Results are dataclasses whose fields are keys too: ``v["version"]``.

    Parameters
    ----------
    config_path : str or Path, optional
        A ``params.yaml``; by default the nearest one (see
        :func:`fxhelpers.load_params`).
    """

    def __init__(self, config_path: str | Path | None = None) -> None:
        self.params: Params = load_params(config_path)
        missing = self.params.registry_missing
        if missing:
            logger.warning(missing)

    def load_model_info(self, model_path: str | Path | None = None, symbol: str | None = None) -> Bundle:
        """Find and read a bundle, with its latest evaluation: the given one, or the latest of a symbol.

        Parameters
        ----------
        model_path : str or Path, optional
            Path of a model file.
        symbol : str, optional
            Ticker; by default ``default_symbol`` of ``params.yaml``.

        Raises
        ------
        BundleNotFoundError
            No bundle, or one of its files is missing.
        BundleError
            Truncated, contradictory or of a newer format.
        """
        if model_path is None and symbol is None:
            symbol = self.params.default_symbol
        bundle = load_bundle(self.params.paths, symbol=symbol, model_path=model_path)
        logger.info("Using model: %s", bundle.model_path)
        return bundle

    def register_model(
        self,
        model_info: Bundle,
        model_name: str | None = None,
        stage: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> Registration:
        """Store a bundle as a version; the same bundle again gives the version that exists.

        Parameters
        ----------
        model_info : Bundle
            As ``load_model_info`` returned it.
        model_name : str, optional
            Registered model; by default ``MLP_Stock_Predictor_{SYMBOL}``.
        stage : str, optional
            None, Staging, Production or Archived. By default
            ``model_registry.default_stage``, or, for a version that exists,
            the stage that it has. Another word warns, and no stage is set.
            A version that is the champion stays it.
        description : str, optional
            By default a sentence of facts.
        tags : dict, optional
            More tags; names that begin with ``fx.`` are ours.
        """
        from fxhelpers.registry import create_version

        start = time.perf_counter()
        name = model_name or self.model_name(model_info.symbol)
        text = {str(key): str(value) for key, value in (tags or {}).items()}
        version, created = create_version(self.client, model_info, name, description=description, tags=text)
        if not created:
            logger.warning("%s: this bundle is version %d already; no new version was made", name, version.version)
        version = self._enter(version, stage)
        logger.info("Registered %s as version %d, stage %s", name, version.version, version.stage)
        return Registration(
            model_name=name,
            version=version.version,
            stage=version.stage,
            run_id=version.run_id,
            symbol=model_info.symbol,
            architecture=model_info.architecture,
            metrics=model_info.metrics,
            timestamp=model_info.timestamp,
            created=created,
            duration_seconds=time.perf_counter() - start,
        )

    def get_model_versions(self, model_name: str) -> list["ModelVersion"]:
        """Return all versions of a registered model, newest first; none where there is no such model.

        Parameters
        ----------
        model_name : str
            For example ``MLP_Stock_Predictor_AAPL``.
        """
        return self.client.versions(model_name)

    def transition_stage(self, model_name: str, version: int | str, stage: str) -> "ModelVersion":
        """Move a version to a stage by hand, and return it as it is then.

        Production goes the one path that promotions go: there is one champion
        afterwards, and the decision is recorded as manual.

        Parameters
        ----------
        model_name : str
            Registered model.
        version : int or str
            Its number.
        stage : {"Staging", "Production", "Archived"}
            Where to.

        Raises
        ------
        StageError
            Another word than these three, or not a version number.
        """
        from fxhelpers.promotion import transition

        if stage not in STAGES[1:]:
            msg = f"Invalid stage {stage!r}. Valid stages: {', '.join(STAGES[1:])}"
            raise StageError(msg)
        if not str(version).isdecimal():
            msg = f"version: a number is expected, found {version!r}"
            raise StageError(msg)
        return transition(self.client, model_name, int(version), stage)

    def get_production_model(self, model_name: str) -> "ModelVersion | None":
        """Return the champion, in one call to the registry; None where there is none.

        Parameters
        ----------
        model_name : str
            Registered model.
        """
        return self.client.champion(model_name)

    def run_registration_pipeline(
        self, symbol: str | None = None, model_path: str | Path | None = None, stage: str | None = None
    ) -> Registration:
        """Find a bundle and register it, in one call.

        Parameters
        ----------
        symbol : str, optional
            Ticker; by default ``default_symbol`` of ``params.yaml``.
        model_path : str or Path, optional
            Path of a model file.
        stage : str, optional
            As in ``register_model``.
        """
        start = time.perf_counter()
        result = self.register_model(self.load_model_info(model_path=model_path, symbol=symbol), stage=stage)
        return replace(result, duration_seconds=time.perf_counter() - start)

    def compare(self, symbol: str, version: int | None = None, *, required: bool = True) -> "Proposal":
        """Compare a version with the champion and the baselines, and let the policy judge; nothing is changed.

        Parameters
        ----------
        symbol : str
            Ticker.
        version : int, optional
            By default the challenger: the version registered last, as long as
            it is neither champion nor archived.
        required : bool
            False: compare nothing where ``model_registry.compare_metrics`` is
            false, and say so in the verdict.

        Raises
        ------
        NotComparableError
            The versions cannot be put on one frame.
        """
        from fxhelpers.promotion import propose

        compared = required or self.params.model_registry.compare_metrics
        return propose(self.client, self.model_name(symbol), symbol, version, compared=compared)

    def promote(self, proposal: "Proposal", *, apply: bool = False, reason: str = "") -> "Decision":
        """Carry out a proposal's verdict: move the champion, or refuse.

        Parameters
        ----------
        proposal : Proposal
            As ``compare`` returned it.
        apply : bool
            False: say what would be done.
        reason : str, optional
            Added to the policy's own.

        Raises
        ------
        StaleComparisonError
            The champion changed since the comparison.
        NoRecordError
            ``apply`` in a notebook that nobody keeps as a record.
        """
        from fxhelpers.promotion import promote

        return promote(self.client, proposal, apply=apply, reason=reason)

    def load_champion(self, symbol: str) -> "RegisteredModel | None":
        """Load the champion's pipeline, its bytes checked; None where there is no champion.

        Parameters
        ----------
        symbol : str
            Ticker.

        Raises
        ------
        ModelTamperedError
            The stored files are not those that were registered.
        """
        from fxhelpers.registry import load_version

        champion = self.client.champion(self.model_name(symbol))
        return load_version(self.client, champion.name, champion.version) if champion else None

    def versions_frame(self, symbol: str) -> "pd.DataFrame":
        """Return one row a version of a symbol's model, newest first, for people; times are UTC.

        Parameters
        ----------
        symbol : str
            Ticker.
        """
        import pandas as pd

        from fxhelpers.promotion import decision_of

        days = self.params.model_registry.retention_days
        rows = [
            {
                "version": v.version,
                "stage": v.stage,
                "registered": f"{v.created:%Y-%m-%d %H:%M}",
                "archive after": f"{due:%Y-%m-%d}" if (due := v.archive_due(days)) else "",
                "trained": v.tags.get("version_timestamp", ""),
                "last decision": decision_of(v),
            }
            for v in self.client.versions(self.model_name(symbol))
        ]
        table = pd.DataFrame(rows, columns=["version", "stage", "registered", "archive after", "trained", "last decision"])
        return table.set_index("version").rename_axis(index=None, columns="version")

    def log_evaluation(self, bundle: Bundle, metrics: dict[str, Any]) -> str | None:
        """Log an evaluation as an MLflow run, and return the run's id; None where ``mlflow.enabled`` is false.

        Parameters
        ----------
        bundle : Bundle
            What was evaluated.
        metrics : dict
            Its ``test_metrics``.
        """
        if not self.params.mlflow.enabled:
            return None
        numbers = {key: value for key, value in metrics.items() if value is not None}
        params = {"symbol": bundle.symbol, "architecture": bundle.architecture, "timestamp": bundle.timestamp}
        tags = {"model_family": "MLP", "task": "regression", "target": "stock_returns", "symbol": bundle.symbol}
        return self.client.log_run(f"evaluate_{bundle.symbol}_{bundle.timestamp}", params=params, metrics=numbers, tags=tags)

    @staticmethod
    def model_name(symbol: str) -> str:
        """Return the registered model of a symbol: ``MLP_Stock_Predictor_{SYMBOL}``."""
        return f"MLP_Stock_Predictor_{check_symbol(symbol)}"

    @cached_property
    def client(self) -> "RegistryClient":
        """The connection to MLflow."""
        from fxhelpers.registry import RegistryClient

        return RegistryClient(self.params)

    def _enter(self, version: "ModelVersion", stage: str | None) -> "ModelVersion":
        """Bring a registered version to its stage; one that was never brought to any becomes the challenger."""
        from fxhelpers.promotion import transition
        from fxhelpers.registry.client import CHALLENGER, ENTERED

        new = ENTERED not in version.tags  # also one whose registration was killed before it came this far
        if stage is not None and stage not in STAGES:
            logger.warning("Invalid stage '%s'. Using None. Valid stages: %s", stage, ", ".join(STAGES))
            stage = "None" if new else version.stage
        wanted = stage or (self.params.model_registry.default_stage if new else version.stage)
        if version.stage == "Production" and wanted != "Production":
            logger.warning(
                "%s: version %d is the champion and stays it; transition_stage takes it out of Production",
                version.name,
                version.version,
            )
            return version
        if new and wanted in {"None", "Staging"}:
            self.client.set_alias(version.name, CHALLENGER, version.version)
        if wanted != version.stage:
            version = transition(self.client, version.name, version.version, wanted)
        if new:
            self.client.annotate(version.name, version.version, tags={ENTERED: wanted})
        return version
