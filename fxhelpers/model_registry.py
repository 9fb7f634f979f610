"""``ModelRegistry``: the whole workflow from Python."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhelpers.errors import ParamsError, StageError
from fxhelpers.params import STAGES, Params, check_model_name, check_version, load_params, model_name
from fxhelpers.system import gc_paused

if TYPE_CHECKING:
    import pandas as pd

    from fxhelpers.audit.history import History, Overview
    from fxhelpers.audit.verify import Verification
    from fxhelpers.bundles import Bundle
    from fxhelpers.decisions import Proposal, Registration, Retention
    from fxhelpers.forecasts import Forecasts, LiveStandings, Watch
    from fxhelpers.ledger import Decision
    from fxhelpers.registry import Connection, ModelVersion, RegistryClient
    from fxhelpers.registry.pipelines import LoadedModel
    from fxhelpers.scoring import Selection

logger = logging.getLogger(__name__)


class ModelRegistry:
    """Register, list, compare and promote models.

    Creating an object and reading bundles always work. Methods that need the
    registry raise :class:`~fxhelpers.errors.RegistryUnavailableError` if
    MLflow is disabled, its token is missing or it does not answer,
    :class:`~fxhelpers.errors.VersionNotFoundError` for an unknown model or
    version, and :class:`~fxhelpers.errors.RegistryError` if it refuses.
    Results are dataclasses whose fields are keys too: ``v["version"]``.

    Parameters
    ----------
    config_path : str or Path, optional
        A ``params.yaml``; by default the nearest one.
    """

    def __init__(self, config_path: str | Path | None = None) -> None:
        self.params: Params = load_params(config_path)
        if self.params.registry_missing:
            logger.warning(self.params.registry_missing)

    def load_model_info(self, model_path: str | Path | None = None, symbol: str | None = None) -> "Bundle":
        """Read a bundle with its latest evaluation: the given one, or the latest of a symbol.

        Parameters
        ----------
        model_path : str or Path, optional
            Path of a model file.
        symbol : str, optional
            Ticker; by default ``default_symbol`` of ``params.yaml``.

        Raises
        ------
        BundleNotFoundError, UntrustedBundleError, BundleError
            A file is missing, holds more than a model, or is truncated,
            contradictory, too big or of a newer format; nothing was loaded.
        """
        if model_path is None and symbol is None:
            symbol = self.params.default_symbol
        from fxhelpers.bundles import load_bundle

        bundle = load_bundle(self.params.paths, symbol=symbol, model_path=model_path, rules=self.params.bundles)
        logger.info("Using model: %s", bundle.model_path)
        return bundle

    def register_model(
        self,
        model_info: "Bundle",
        model_name: str | None = None,
        stage: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> "Registration":
        """Store a bundle as a version; for a bundle that is registered already, return its version.

        Parameters
        ----------
        model_info : Bundle
            From ``load_model_info``.
        model_name : str, optional
            Registered model; by default ``MLP_Stock_Predictor_{SYMBOL}``.
        stage : str, optional
            None, Staging, Production or Archived; for any other word a
            warning is logged and no stage is set. By default
            ``model_registry.default_stage`` or, for a version that exists,
            its stage. The champion stays champion.
        description : str, optional
            By default a summary of the bundle.
        tags : dict, optional
            More tags; names that begin with ``fx.`` are reserved.
        """
        with gc_paused():
            from fxhelpers.decisions import register

        name = check_model_name(model_name) if model_name else self.model_name(model_info.symbol)
        text = {str(key): str(value) for key, value in (tags or {}).items()}
        return register(self.client, model_info, name, stage=stage, description=description, tags=text)

    def get_model_versions(self, model_name: str) -> list["ModelVersion"]:
        """Return all versions of a registered model such as ``MLP_Stock_Predictor_AAPL``, newest first; empty without."""
        return self.client.versions(model_name)

    def transition_stage(self, model_name: str, version: int | str, stage: str) -> "ModelVersion":
        """Move a version to a stage by hand, and return the changed version.

        A move to Production takes the same path as a promotion: there is one
        champion afterwards, and the decision is recorded as manual.

        Parameters
        ----------
        model_name : str
            Registered model.
        version : int or str
            Its number.
        stage : {"Staging", "Production", "Archived"}
            Another one, or another version number, is a ``StageError``.
        """
        from fxhelpers.decisions import transition

        if stage not in STAGES[1:]:
            msg = f"Invalid stage {stage!r}. Valid stages: {', '.join(STAGES[1:])}"
            raise StageError(msg)
        if not re.fullmatch(r"(?!0+$)[0-9]{1,9}", str(version)):  # MLflow writes numbers as text
            msg = f"version: must be a number, 1 or more, found {version!r:.60}"
            raise StageError(msg)
        return transition(self.client, model_name, int(version), stage)

    def get_production_model(self, model_name: str) -> "ModelVersion | None":
        """Return the version of a registered model that MLflow's alias ``champion`` points to, in one call; None without one."""
        return self.client.champion(model_name)

    def run_registration_pipeline(
        self, symbol: str | None = None, model_path: str | Path | None = None, stage: str | None = None
    ) -> "Registration":
        """Read a bundle and register it, in one call.

        Parameters
        ----------
        symbol, model_path
            As in ``load_model_info``.
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
        accept_restated: bool = False,
        gates: Sequence[Mapping[str, Any]] = (),
    ) -> "Proposal":
        """Compare a version with the champion and the baselines, and apply the policy; nothing is changed or written.

        Parameters
        ----------
        symbol : str
            Ticker.
        version : int, optional
            By default the challenger: the newest version, unless it is
            champion or archived; with ``challengers`` the best of these.
        champion : int, optional
            By default the version in Production.
        challengers : sequence of int
            Versions to test together; p is adjusted for their number.
        start, end : str
            Evaluation window, YYYY-MM-DD; by default all common days that no
            version has seen.
        training_end : str
            Last training day, of versions that do not state it.
        accept_restated : bool
            Compare on the prices as they are now, though a version was trained
            on others; the differences are shown.
        gates : sequence of dict
            Gates to try, as in ``params.yaml``: each replaces the gate of its
            id, or is added. The verdict says so, and ``promote`` refuses it.

        Raises
        ------
        ParamsError
            Invalid gates.
        NotComparableError, PredictionsChangedError
            The versions have no common evaluation frame, or one does not
            reproduce its stored forecasts: prices were restated, say.
        """
        from fxhelpers.decisions import compare_versions

        days = {"start": start, "end": end, "training_end": training_end}
        chosen = _selection(version, champion, challengers, accept_restated=accept_restated, **days)
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
        accept_doubts: bool = False,
        accept_restated: bool = False,
        reason: str = "",
        approved_by: str = "",
        family: Mapping[str, Any] | None = None,
        pooled: Mapping[str, Any] | None = None,
    ) -> "Proposal":
        """Compare a version in order to promote it; nothing is compared if ``model_registry.compare_metrics`` is false.

        Parameters
        ----------
        symbol, version, champion, challengers, start, end, training_end
            As in ``compare``, as are the other errors.
        apply : bool
            Write the intent to the ledger before anything is evaluated; else
            ``promote`` changes nothing.
        override : bool
            Promote against the verdict; requires a reason, and is labeled
            wherever the decision is shown.
        accept_doubts, accept_restated : bool
            Let doubtful prices on the compared days pass, or compare on prices
            that were restated since a training; require a reason, too.
        reason, approved_by : str, optional
            Kept with the decision.
        family : dict, optional
            Symbols decided together, as in ``fx run promote --fdr``: ``fdr``,
            ``symbols``, and ``p`` of each symbol.
        pooled : dict, optional
            One test over many symbols, as ``fx run promote --pooled`` writes it:
            it replaces the symbol's own test against its champion.

        Raises
        ------
        NoRecordError, StaleComparisonError
            ``apply`` in a notebook without a record, or with a ``champion``
            that is not in Production.
        """
        from fxhelpers.decisions import propose
        from fxhelpers.policy import Family, Pooled

        days = {"start": start, "end": end, "training_end": training_end}
        chosen = _selection(version, champion, challengers, accept_restated=accept_restated, **days)
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
            accept_doubts=accept_doubts,
            family=Family.read(family),
            pooled=Pooled.read(pooled),
        )

    def promote(self, proposal: "Proposal") -> "Decision":
        """Carry out a proposal's verdict: move the champion or refuse; without ``apply``, show what would be done.

        :class:`~fxhelpers.errors.StaleComparisonError` if the champion changed
        since the comparison.
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
        """Make the previous champion the champion again, if it loads and reproduces its stored forecasts.

        Parameters
        ----------
        symbol : str
            Ticker.
        version : int, optional
            Instead of the previous champion.
        to : {"", "none"}
            With none, no version serves afterwards; the next rollback brings
            the former champion back.
        reason : str
            Required with ``apply``.
        approved_by : str, optional
            The policy may require it for a version that never was champion.
        apply : bool
            Else check the version and show what would be done.

        Raises
        ------
        NoChampionError, VersionReplacedError
            There is no previous champion, or it was deleted or replaced.
        ModelTamperedError, PredictionsChangedError
            The version is not what was registered.
        """
        from fxhelpers.decisions import roll_back

        if to and (not isinstance(to, str) or to.casefold() != "none" or version is not None):
            msg = f"to: must be none, without a version, found {to!r:.60}"
            raise ParamsError(msg)
        target = None if version is None else check_version("version", version)
        return roll_back(self.client, symbol, "none" if to else target, apply=apply, reason=reason, approved_by=approved_by)

    def retain(self, symbol: str, *, apply: bool = False, prune: bool = False, reason: str = "") -> "Retention":
        """Archive Staging versions older than ``model_registry.retention_days``; without ``apply``, show them.

        ``prune`` also deletes the files of archived versions, unless they were
        champion or a decision names them. No version is deleted.
        """
        from fxhelpers.decisions import retain

        return retain(self.client, self.model_name(symbol), symbol, apply=apply, prune=prune, reason=reason)

    def forecast(
        self, symbols: Sequence[str] = (), *, as_of: str = "", accept_doubts: bool = False, apply: bool = False
    ) -> "Forecasts":
        """Forecast the next session by each champion, and put it on record.

        Parameters
        ----------
        symbols : sequence of str
            Tickers; by default all that have a champion.
        as_of : str
            Last session whose prices are used, YYYY-MM-DD; by default the
            newest one that has ended. Sessions missed since a symbol's last
            forecast are then caught up, at most ten; they are late.
        accept_doubts : bool
            Forecast on doubtful prices.
        apply : bool
            Put the forecasts on record in the registry, and write
            ``outputs/forecasts/SESSION.csv``; else they are only shown.

        Returns
        -------
        Forecasts
            A symbol without a number has the reason: no champion, prices that
            end too early, doubtful prices.
        """
        from fxhelpers.forecasts import forecast

        return forecast(self.client, symbols, as_of=as_of, accept_doubts=accept_doubts, apply=apply)

    def watch(self, symbols: Sequence[str] = (), *, apply: bool = False) -> "Watch":
        """Look whether what serves is still better than forecasting zero, by its live forecasts.

        Parameters
        ----------
        symbols : sequence of str
            Tickers; by default all that have a champion.
        apply : bool
            Put an alarm on record in the ledger, and do what
            ``watch.on_alarm`` says; else it is only shown.
        """
        from fxhelpers.forecasts import watch_symbols

        return watch_symbols(self.client, symbols, apply=apply)

    def live_record(self, symbol: str) -> "LiveStandings":
        """Return what the live forecasts of a symbol's champion and of its predecessor came to; read only.

        Live days, squared error saved against forecasting zero, evidence in a
        word, and sessions missed. Without any forecast on record, ``why`` says
        so, and only the ledger was read.

        Parameters
        ----------
        symbol : str
            Ticker.
        """
        from fxhelpers.forecasts import live_standings

        return live_standings(self.client, symbol)

    def history(self, symbol: str) -> "History":
        """Return the decisions and production periods of a symbol's model."""
        from fxhelpers.audit.history import read_history

        return read_history(self.client, self.model_name(symbol))

    def overview(self, latest: int = 15) -> "Overview":
        """Return the version in Production of every symbol, and the ``latest`` decisions about all of them."""
        from fxhelpers.audit.history import read_overview

        return read_overview(self.client, latest)

    def verify(self, symbol: str | None = None, *, deep: bool = False, repair: bool = False) -> "Verification":
        """Check registry, ledger and records of a symbol, or of all, against each other.

        ``deep`` also reads stored forecasts, copies of records and the files
        of every version. ``repair`` first repairs what is safe (stages, a
        missing alias, interrupted decisions), and logs what it did.
        """
        from fxhelpers.audit import verify as audit

        name = self.model_name(symbol) if symbol else None
        if repair:
            audit.repair(self.client, name)
        return audit.verify(self.client, name, deep=deep)

    def load_champion(self, symbol: str) -> "LoadedModel | None":
        """Load the pipeline of the ledger's champion; None if there is no champion.

        :class:`~fxhelpers.errors.ModelTamperedError` if its bytes differ from
        those registered; a warning if MLflow's alias points elsewhere.
        """
        from fxhelpers.decisions import serving
        from fxhelpers.registry.models import load_version

        champion = serving(self.client, self.model_name(symbol))
        return load_version(self.client, champion.name, champion.version) if champion else None

    def versions_frame(self, symbol: str) -> "pd.DataFrame":
        """Return one row per version of a symbol's model, newest first, for people; times are UTC."""
        from fxhelpers.audit.history import versions_frame

        return versions_frame(self.client, self.model_name(symbol))

    def log_evaluation(self, bundle: "Bundle", metrics: dict[str, Any]) -> str | None:
        """Log a bundle's ``test_metrics`` as an MLflow run, and return the run's id; None if ``mlflow.enabled`` is false."""
        if not self.params.mlflow.enabled:
            return None
        metrics = {key: value for key, value in metrics.items() if value is not None}
        params = {"symbol": bundle.symbol, "architecture": bundle.architecture, "timestamp": bundle.timestamp}
        tags = {"model_family": bundle.model_type, "task": "regression", "target": "stock_returns", "symbol": bundle.symbol}
        return self.client.log_run(f"evaluate_{bundle.symbol}_{bundle.timestamp}", params=params, metrics=metrics, tags=tags)

    @property
    def connection(self) -> "Connection":
        """Address and features of the registry's server, read once."""
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


def _selection(
    version: int | None, champion: int | None, challengers: Sequence[int], *, accept_restated: bool, **days: str
) -> "Selection":
    from fxhelpers.scoring import Selection

    given = tuple(challengers) if isinstance(challengers, Sequence) else (challengers,)
    return Selection(version=version, champion=champion, challengers=given, accept_restated=accept_restated, **days)
