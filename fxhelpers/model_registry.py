"""``ModelRegistry``: the whole workflow from Python, with the methods that its users know."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhelpers.bundles import Bundle, load_bundle
from fxhelpers.errors import FxError, ParamsError, RegistryUnavailableError, StageError
from fxhelpers.params import STAGES, Params, check_model_name, check_version, load_params, model_name
from fxhelpers.processes import gc_paused

if TYPE_CHECKING:
    import pandas as pd

    from fxhelpers.audit.history import History
    from fxhelpers.audit.overview import Overview
    from fxhelpers.audit.verify import Verification
    from fxhelpers.decisions import Proposal, Registration, Retention
    from fxhelpers.ledger import Decision
    from fxhelpers.registry import Connection, LoadedModel, ModelVersion, RegistryClient
    from fxhelpers.scoring import Selection

logger = logging.getLogger(__name__)


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
        UntrustedBundleError
            A file asks for more than a model needs; nothing was loaded.
        BundleError
            Truncated, contradictory, too big or of a newer format.
        """
        if model_path is None and symbol is None:
            symbol = self.params.default_symbol
        bundle = load_bundle(self.params.paths, symbol=symbol, model_path=model_path, rules=self.params.bundles)
        logger.info("Using model: %s", bundle.model_path)
        return bundle

    def register_model(
        self,
        model_info: Bundle,
        model_name: str | None = None,
        stage: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> "Registration":
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
        with gc_paused():
            from fxhelpers.decisions import register

        name = check_model_name(model_name) if model_name else self.model_name(model_info.symbol)
        text = {str(key): str(value) for key, value in (tags or {}).items()}
        return register(self.client, model_info, name, stage=stage, description=description, tags=text)

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
            Its number; MLflow itself writes it as text.
        stage : {"Staging", "Production", "Archived"}
            Where to.

        Raises
        ------
        StageError
            Another word than these three, or not a version number.
        """
        from fxhelpers.decisions import transition

        if stage not in STAGES[1:]:
            msg = f"Invalid stage {stage!r}. Valid stages: {', '.join(STAGES[1:])}"
            raise StageError(msg)
        try:
            text = isinstance(version, str) and re.fullmatch(r"[0-9]{1,9}", version)
            number = check_version("version", int(version) if text else version)
        except ParamsError as error:
            msg = f"version: a number is expected, 1 or more, found {version!r:.60}"
            raise StageError(msg) from error
        return transition(self.client, model_name, number, stage)

    def get_production_model(self, model_name: str) -> "ModelVersion | None":
        """Return the version that MLflow's alias ``champion`` points to, in one call to the registry; None where there is none.

        Parameters
        ----------
        model_name : str
            Registered model.
        """
        return self.client.champion(model_name)

    def run_registration_pipeline(
        self, symbol: str | None = None, model_path: str | Path | None = None, stage: str | None = None
    ) -> "Registration":
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

    def compare(
        self,
        symbol: str,
        version: int | None = None,
        *,
        champion: int | None = None,
        challengers: Sequence[int] = (),
        start: str = "",
        end: str = "",
        training_end: str = "",
        gates: Sequence[Mapping[str, Any]] = (),
    ) -> "Proposal":
        """Compare a version with the champion and the baselines, and let the policy judge; nothing is changed or written.

        Parameters
        ----------
        symbol : str
            Ticker.
        version : int, optional
            By default the challenger: the version registered last, as long as
            it is neither champion nor archived. With ``challengers`` the best
            of these.
        champion : int, optional
            By default the version in Production.
        challengers : sequence of int
            Versions to test at once; p is adjusted for their number.
        start, end : str
            Evaluation window, YYYY-MM-DD; by default all common days that no
            version has seen.
        training_end : str
            Last training day of versions that do not say it; by default it is
            derived.
        gates : sequence of dict
            Gates to try, as they would stand in ``params.yaml``: each takes
            the place of the one of its id there, or is one more. The verdict
            says so, and ``promote`` refuses it.

        Raises
        ------
        ParamsError
            Gates that ``params.yaml`` could not hold either.
        NotComparableError
            The versions cannot be put on one frame.
        PredictionsChangedError
            A version does not give its stored forecasts again, as after
            prices were restated.
        """
        from fxhelpers.decisions import compare_versions

        chosen = _selection(version, champion, challengers, start=start, end=end, training_end=training_end)
        return compare_versions(self.client, self.model_name(symbol), symbol, chosen, gates)

    def propose(
        self,
        symbol: str,
        version: int | None = None,
        *,
        champion: int | None = None,
        challengers: Sequence[int] = (),
        start: str = "",
        end: str = "",
        training_end: str = "",
        apply: bool = False,
        override: bool = False,
        reason: str = "",
        approved_by: str = "",
        family: Mapping[str, Any] | None = None,
    ) -> "Proposal":
        """Compare a version in order to promote it; with ``apply``, the intent is in the ledger before anything is evaluated.

        Parameters
        ----------
        symbol : str
            Ticker.
        version, champion, challengers, start, end, training_end
            As in ``compare``. A champion that is not in Production can be
            looked at, but not acted on.
        apply : bool
            False: only a look, which ``promote`` will not act on.
        override : bool
            Promote against the verdict; needs a reason, and is marked
            wherever the decision is shown.
        reason : str, optional
            Why now; kept beside the policy's own.
        approved_by : str, optional
            Who agreed.
        family : dict, optional
            Symbols decided about together, as ``fx run promote --fdr`` gives
            it: ``fdr``, ``symbols``, and ``p`` of each symbol.

        Raises
        ------
        NoRecordError
            ``apply`` in a notebook that nobody keeps as a record.
        NotComparableError, PredictionsChangedError
            As in ``compare``. Nothing is compared where
            ``model_registry.compare_metrics`` is false.
        StaleComparisonError
            ``champion`` is not in Production.
        """
        from fxhelpers.decisions import propose
        from fxhelpers.policy import Family

        chosen = _selection(version, champion, challengers, start=start, end=end, training_end=training_end)
        return propose(
            self.client,
            self.model_name(symbol),
            symbol,
            chosen,
            apply=apply,
            compared=self.params.model_registry.compare_metrics,
            reason=reason,
            approved_by=approved_by,
            override=override,
            family=Family.read(family),
        )

    def promote(self, proposal: "Proposal") -> "Decision":
        """Carry out a proposal's verdict: move the champion, or refuse; show what would be done where it was only a look.

        Parameters
        ----------
        proposal : Proposal
            As ``propose`` returned it.

        Raises
        ------
        StaleComparisonError
            The champion changed since the comparison; the ledger says so.
        """
        from fxhelpers.decisions import promote

        return promote(self.client, proposal)

    def rollback(
        self,
        symbol: str,
        version: int | None = None,
        *,
        to: str = "",
        reason: str = "",
        approved_by: str = "",
        apply: bool = False,
    ) -> "Decision":
        """Make the previous champion the champion again, once it loads and forecasts what it did when it was registered.

        Parameters
        ----------
        symbol : str
            Ticker.
        version : int, optional
            Another one than the previous champion.
        to : {"", "none"}
            none: no version serves afterwards; the same again without it
            brings the former champion back.
        reason : str
            Why; needed with ``apply``.
        approved_by : str, optional
            Who agreed; the policy may ask for it for a version that never was
            champion.
        apply : bool
            False: check the version, and say what would be done.

        Raises
        ------
        NoChampionError
            No version was champion before.
        VersionReplacedError
            The champion before is not there any more, or its number stands
            for another version.
        ModelTamperedError, PredictionsChangedError
            The version is not what was registered.
        """
        from fxhelpers.decisions import roll_back

        if to and (not isinstance(to, str) or to.casefold() != "none" or version is not None):
            msg = f"to: none is expected, so that no version serves, and no version beside it, found {to!r:.60}"
            raise ParamsError(msg)
        target = None if version is None else check_version("version", version)
        return roll_back(self.client, symbol, "none" if to else target, apply=apply, reason=reason, approved_by=approved_by)

    def retain(self, symbol: str, *, apply: bool = False, prune: bool = False, reason: str = "") -> "Retention":
        """Archive the Staging versions that are older than ``model_registry.retention_days``.

        Parameters
        ----------
        symbol : str
            Ticker.
        apply : bool
            False: show what would be done.
        prune : bool
            Also delete the files of archived versions, except of those that
            were champion or that a decision names. No version is deleted.
        reason : str, optional
            Kept with the decision.
        """
        from fxhelpers.decisions import retain

        return retain(self.client, self.model_name(symbol), symbol, apply=apply, prune=prune, reason=reason)

    def history(self, symbol: str) -> "History":
        """Return who was in Production when, and every decision about a symbol's model.

        Parameters
        ----------
        symbol : str
            Ticker.
        """
        from fxhelpers.audit.history import read_history

        return read_history(self.client, self.model_name(symbol), symbol)

    def overview(self, latest: int = 15) -> "Overview":
        """Return who is in Production of every symbol, and the latest decisions about all of them.

        Parameters
        ----------
        latest : int
            How many decisions to show.
        """
        from fxhelpers.audit.overview import read_overview

        return read_overview(self.client, latest)

    def verify(self, symbol: str | None = None, *, deep: bool = False, repair: bool = False) -> "Verification":
        """Check registry, ledger and records against each other.

        Parameters
        ----------
        symbol : str, optional
            Ticker; by default all models.
        deep : bool
            Also read the stored forecasts, the copies of records and the
            files of every version.
        repair : bool
            Mend what is safe first: stages, an alias that is gone, decisions
            that were interrupted. What was mended is logged.
        """
        from fxhelpers.audit.repair import repair as mend
        from fxhelpers.audit.verify import known_models, verify

        name = self.model_name(symbol) if symbol else None
        for model in known_models(self.client, name) if repair else ():
            try:
                for what in mend(self.client, model):
                    logger.warning("%s: %s", model, what)
            except RegistryUnavailableError:
                raise
            except FxError as error:  # of this model, which says nothing of others
                if name:
                    raise
                logger.warning("%s: not mended: %s", model, error)
        return verify(self.client, name, deep=deep)

    def load_champion(self, symbol: str) -> "LoadedModel | None":
        """Load the champion's pipeline, its bytes checked; None where there is no champion.

        The champion is the version that the ledger says. Where MLflow's alias
        points to another one, a warning says so.

        Parameters
        ----------
        symbol : str
            Ticker.

        Raises
        ------
        ModelTamperedError
            The stored files are not those that were registered.
        """
        from fxhelpers.decisions import serving
        from fxhelpers.registry import load_version

        champion = serving(self.client, self.model_name(symbol))
        return load_version(self.client, champion.name, champion.version) if champion else None

    def versions_frame(self, symbol: str) -> "pd.DataFrame":
        """Return one row a version of a symbol's model, newest first, for people; times are UTC.

        Parameters
        ----------
        symbol : str
            Ticker.
        """
        import pandas as pd

        from fxhelpers.decisions import DECISION_TAG

        days = self.params.model_registry.retention_days
        rows = [
            {
                "version": v.version,
                "stage": v.stage,
                "registered": f"{v.created:%Y-%m-%d %H:%M}",
                "archive after": f"{due:%Y-%m-%d}" if (due := v.archive_due(days)) else "",
                "trained": v.tags.get("version_timestamp", ""),
                "last decision": v.tags.get(DECISION_TAG, "").partition(";")[0],
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

    @property
    def connection(self) -> "Connection":
        """Where the registry is and what its server can do, asked once."""
        return self.client.connection

    @staticmethod
    def model_name(symbol: str) -> str:
        """Return the registered model of a symbol: ``MLP_Stock_Predictor_{SYMBOL}``."""
        return model_name(symbol)

    @cached_property
    def client(self) -> "RegistryClient":
        """The connection to MLflow."""
        with gc_paused():
            from fxhelpers.registry import RegistryClient

        return RegistryClient(self.params)


def _selection(version: int | None, champion: int | None, challengers: Sequence[int], **days: str) -> "Selection":
    """Return what is to be compared."""
    from fxhelpers.scoring import Selection

    given = tuple(challengers) if isinstance(challengers, Sequence) else (challengers,)
    return Selection(version=version, champion=champion, challengers=given, **days)
