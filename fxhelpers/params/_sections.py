"""The sections of ``params.yaml``: every key with its type, default, bounds and description, and the rules between keys."""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fxhelpers.measures import MEASURES, REFUSED
from fxhelpers.params._input import check_name, check_path, check_repository, check_type, nearest
from fxhelpers.params._models import AnyModel, MlpParams, Section

Stage = Literal["None", "Staging", "Production", "Archived"]
STAGES: tuple[Stage, ...] = get_args(Stage)

BUILT_IN = ("forecasts", "replay", "doubts", "days", "stale", "champion", "fresher", "seen", "broken", "size")
"""Gates that every policy has; their ids are reserved."""

Versus = Literal["champion", "zero_return", "mean_training_return"]
_MIN_DAYS = 120
_LATENCY_NOISE = 0.15
_MAX_GATES = 10  # what one ledger entry can hold

_VALUE_KEYS = ("min", "max")
_CHANGE_KEYS = ("min_improvement", "max_regression")
_TEST_KEYS = ("alpha", "resamples", "margin")
GATE_KEYS = {"value": _VALUE_KEYS, "change": _CHANGE_KEYS, "test": _TEST_KEYS}
"""Keys that belong to one kind of gate: a bound on a value, a bound on its change against a rival, or a test."""


def _check_days(days: int) -> int:
    if days < _MIN_DAYS:
        msg = (
            f"at least {_MIN_DAYS} days are required: on fewer, tests reject too often "
            "(at 30 days and a level of 5 %, they reject 10 % of equal forecasts)"
        )
        raise ValueError(msg)
    return days


def _check_metric(metric: str | None) -> str | None:
    if metric in REFUSED:
        msg = f"{metric} is refused: {REFUSED[metric]}"
        raise ValueError(msg)
    if metric is not None and metric not in MEASURES:
        msg = f"unknown metric{nearest(metric, MEASURES)}; expected one of {', '.join(MEASURES)}"
        raise ValueError(msg)
    return metric


Folder = Annotated[Path, AfterValidator(check_path)]
Repository = Annotated[str, AfterValidator(check_repository)]


class BundlesParams(Section):
    """Limits on the content and the size of a bundle's files."""

    trusted_types: Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(map(check_type, names)))] = ()
    """full names of classes that a foreign model may hold besides scikit-learn's scaler, pipeline and the estimators above"""
    max_megabytes: int = Field(default=64, ge=1, le=1024)
    """maximum size of one file of a bundle, compressed and uncompressed"""

    @property
    def max_bytes(self) -> int:
        """Largest size of one file, before and after unpacking, in bytes."""
        return self.max_megabytes * 2**20


class RollingParams(Section):
    """Origins of the rolling-origin forecasts."""

    first_day: int = Field(default=500, ge=250)
    """day, counted from the first that has all features, of the first origin"""
    every_days: int = Field(default=63, ge=5)
    """trading days between origins"""


class TrainingParams(Section):
    """Split of the days, and the models to choose from."""

    validation_size: float = Field(default=0.15, gt=0, lt=0.5)
    """share of days for validation; days are split in order: training, validation, test"""
    test_size: float = Field(default=0.25, gt=0, lt=0.5)
    """share of days for testing, at the end"""
    embargo_days: int = Field(default=1, ge=0)
    """trading days left out between two windows, in addition to the forecast horizon"""
    random_state: int = Field(default=42, ge=0, lt=2**32)
    """seed of the fit"""
    refit: bool = True
    """what serves is fitted on all days to the last, and judged by its recipe's rolling-origin forecasts; false: fitted on the \
training days only, and judged on the days after them"""
    rolling: RollingParams = RollingParams()
    """Origins of the rolling-origin forecasts"""
    model: str = "regularised"
    """model that the notebook train fits by default, one of those below"""
    models: dict[str, AnyModel] = Field(default={"regularised": MlpParams(alpha=100.0)})
    """estimator of each model, its hyperparameters as in scikit-learn, and candidates of them"""

    @model_validator(mode="after")
    def _model_is_defined(self) -> Self:
        if self.model not in self.models:
            msg = f"model: {self.model!r} is not one of models: {', '.join(self.models)}"
            raise ValueError(msg)
        return self


class ModelRegistryParams(Section):
    """What is stored with a version, and how stages are handled."""

    track_experiments: bool = True
    """log parameters and metrics to the version's MLflow run"""
    save_artifacts: bool = True
    """store scaler and metadata next to the model"""
    compare_metrics: bool = True
    """a promotion needs a comparison; false: it does not, and its decision says so"""
    auto_archive: bool = True
    """a promotion archives the version that it replaces; false: moves it back to Staging"""
    retention_days: int = Field(default=90, ge=1)
    """days after which a Staging version is due for archiving by the notebook retain"""
    default_stage: Annotated[Stage, BeforeValidator(lambda stage: "None" if stage is None else stage)] = "Staging"
    """stage of a newly registered version: None, Staging, Production or Archived"""


class MlflowParams(Section):
    """Address of the registry."""

    enabled: bool = True
    """false: no registry; bundles can still be trained and read"""
    tracking_uri: str = ""
    """dagshub, or any MLflow URI; MLFLOW_TRACKING_URI in the environment wins"""
    dagshub_username: Repository = ""
    """owner of the repository on DagsHub; the token is DAGSHUB_TOKEN, from the environment or .env"""
    dagshub_repo: Repository = ""
    """repository on DagsHub"""
    experiment_name: Annotated[str, AfterValidator(check_name)] = Field(
        default="MLP_Stock_Prediction", min_length=1, max_length=500
    )
    """MLflow experiment for the runs of registrations and evaluations"""


class PathsParams(Section):
    """Folders; relative paths start at the folder of ``params.yaml``."""

    models: Folder = Path("outputs/models")
    """estimators and scalers"""
    metadata: Folder = Path("outputs/metadata")
    """metadata of bundles"""
    results: Folder = Path("outputs/results")
    """evaluations of bundles"""
    features: Folder = Path("outputs/features")
    """features files of a ForesightX checkout"""
    records: Folder = Path("outputs/records")
    """executed notebooks and their reports"""
    forecasts: Folder = Path("outputs/forecasts")
    """forecasts of each session, one file a session"""


class ApprovalParams(Section):
    """Approval by a second person."""

    required: bool = False
    """true: a promotion needs approved_by and reason, and manual changes to Production are refused"""
    not_author: bool = True
    """the approver must not be the user who promotes or who registered the version"""


class StageApprovals(Section):
    """Stages that can require an approval."""

    Production: ApprovalParams = ApprovalParams()
    """Approval of promotions to Production"""


class EvaluationParams(Section):
    """Days on which versions are compared, and the cost of trading."""

    min_days: Annotated[int, AfterValidator(_check_days)] = 500
    """minimum trading days to compare on; at least 120, because tests are oversized on fewer"""
    embargo_days: int = Field(default=1, ge=0)
    """trading days left out after the last day that any version has seen, in addition to the forecast horizon"""
    max_stale_days: int | None = Field(default=5, ge=0)
    """maximum number of sessions that ended after the last day compared; null: any age"""
    cost: float = Field(default=0.0005, ge=0, lt=0.1)
    """trading cost of the sign strategy, as a share of the value traded"""


class GateParams(Section):
    """One rule: a measure within bounds, or a test at a level."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")
    """name of the gate, unique in the policy"""
    metric: Annotated[str | None, AfterValidator(_check_metric)] = None
    """measure to bound; see the list of measures in [policy](policy.md#measures)"""
    test: Literal["stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"] | None = None
    """test to run, instead of a bound on a measure"""
    versus: Versus | None = None
    """what to compare with; without it, `min` and `max` bound the value itself"""
    slice: Literal["volatility_tercile"] | None = None
    """bound the worst of the three thirds of the days by volatility; with `metric: rmse`"""
    min: float | None = None
    """smallest value that passes"""
    max: float | None = None
    """largest value that passes"""
    min_improvement: float | None = Field(default=None, ge=0, lt=1)
    """required gain, as a fraction of the absolute value it is compared with"""
    max_regression: float | None = Field(default=None, ge=0)
    """tolerated loss, as a fraction of the absolute value it is compared with"""
    alpha: float | None = Field(default=None, gt=0, le=0.5)
    """level of the test, before it is divided among attempts"""
    resamples: int = Field(default=10_000, ge=1_000, le=1_000_000)
    """bootstrap resamples; more are drawn if the level needs them"""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """non-inferiority margin, as a fraction of the RMSE compared with; with `stationary_bootstrap`"""
    severity: Literal["fail", "warn"] = "fail"
    """`fail` decides; `warn` is only reported"""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        wrong = self._wrong_test() if self.test else self._wrong_bound()
        if wrong:
            msg = f"gate {self.id}: {wrong}"
            raise ValueError(msg)
        return self

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def _wrong_test(self) -> str:
        alien = self._given("metric", "slice", *_VALUE_KEYS, *_CHANGE_KEYS)
        if alien:
            return f"a test takes no {' and no '.join(alien)}; make it a gate of its own"
        if self.alpha is None:
            return "a test needs alpha, such as 0.05"
        if self.test == "pesaran_timmermann" and self.versus:
            return "pesaran_timmermann tests signs against chance: it takes no versus"
        if self.test != "pesaran_timmermann" and not self.versus:
            return "a test needs versus: champion, zero_return or mean_training_return"
        if self.margin and self.test != "stationary_bootstrap":
            return "margin requires test: stationary_bootstrap"
        return ""

    def _wrong_bound(self) -> str:
        if self.metric is None:
            return "metric or test is required"
        measure, alien = MEASURES[self.metric], self._given(*_TEST_KEYS)
        absolute, relative = self._given(*_VALUE_KEYS), self._given(*_CHANGE_KEYS)
        wrong = {
            f"{' and '.join(alien)} belong to a test; this is a bound on {self.metric}": alien,
            "no bound: min, max, min_improvement or max_regression is required": not absolute and not relative,
            "min and max bound the value, min_improvement and max_regression its change; use two gates": absolute and relative,
            "a bound on a change needs versus: champion, zero_return or mean_training_return": relative and not self.versus,
            "min and max bound the value itself: they take no versus": absolute and self.versus,
            "min_improvement requires a gain, max_regression allows a loss; use one of them": len(relative) > 1,
            f"min {self.min} is above max {self.max}: nothing can pass": (
                self.min is not None and self.max is not None and self.min > self.max
            ),
            "two runs of one model differ by 8 % in latency: a max_regression below 0.15 would be decided by noise": (
                self.metric == "latency" and bool(relative) and (self.max_regression or 0) < _LATENCY_NOISE
            ),
            f"{self.metric} is best near 1: bound it by min and max": relative and measure.better == "nearer to 1",
            f"the zero forecast has no {self.metric}": self.versus == "zero_return" and not measure.of_zero,
            f"a forecast without a model has no {self.metric}": measure.of_files and self.versus == "mean_training_return",
            "slice: volatility_tercile requires metric: rmse and min_improvement or max_regression": (
                self.slice and (self.metric != "rmse" or not relative)
            ),
        }
        return next((message for message, applies in wrong.items() if applies), "")


GATES = (
    GateParams(id="naive", metric="rmse", versus="zero_return", max_regression=0.0),
    GateParams(id="mean", metric="rmse", versus="mean_training_return", max_regression=0.0),
    GateParams(id="skill", test="stationary_bootstrap", versus="zero_return", alpha=0.05, severity="warn"),
    GateParams(id="superior", test="stationary_bootstrap", versus="champion", alpha=0.05),
    GateParams(id="gain", metric="rmse", versus="champion", min_improvement=0.005),
    GateParams(id="suspicious", metric="r2", max=0.2),
    GateParams(id="regimes", metric="rmse", versus="champion", slice="volatility_tercile", max_regression=0.05, severity="warn"),
)
"""The gates of a ``params.yaml`` that lists none."""


class TriedGates(Section):
    """Gates to try out, in addition to those of ``params.yaml``."""

    gates: list[GateParams] = Field(max_length=_MAX_GATES)


class PromotionParams(Section):
    """When a challenger may replace the champion."""

    policy: Literal["superiority", "non_inferiority"] = "superiority"
    """superiority, or non_inferiority: a fresher model may replace an equal one, within the margin of a gate"""
    on_no_champion: Literal["baselines_only", "block"] = "baselines_only"
    """baselines_only: the first champion must pass the gates against the baselines; block: no first champion by policy"""
    evaluation: EvaluationParams = EvaluationParams()
    """Days to compare on, and trading cost"""
    gates: tuple[GateParams, ...] = Field(default=GATES, max_length=_MAX_GATES)
    """all gates of severity fail must pass; gates of severity warn are only reported"""
    attempts: Literal["spend", "yearly", "ignore"] = "spend"
    """spend: the k-th distinct recipe is tested at alpha / (k (k + 1)); yearly: those of 365 days count; ignore: at alpha"""
    refresh: Literal["allow", "contest"] = "allow"
    """allow: a fresher refit of the champion's recipe serves without a test; contest: it is tested as another recipe is"""
    approval: StageApprovals = StageApprovals()
    """Approvals by a second person, by stage"""

    @model_validator(mode="after")
    def _gates_agree(self) -> Self:
        wrong = self._wrong_ids() or self._wrong_bounds() or self._wrong_policy()
        if wrong:
            raise ValueError(wrong)
        return self

    def _wrong_ids(self) -> str:
        ids = [gate.id for gate in self.gates]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice:
            return f"gates: the id {twice!r} is there twice; give every gate its own"
        taken = next((name for name in ids if name in BUILT_IN), None)
        return f"gates: the id {taken!r} belongs to a built-in gate; choose another" if taken else ""

    def _wrong_bounds(self) -> str:
        for lower in (gate for gate in self.gates if gate.min is not None and gate.severity == "fail"):
            for upper in (gate for gate in self.gates if gate.max is not None and gate.severity == "fail"):
                if lower.metric == upper.metric and float(lower.min or 0) > float(upper.max or 0):
                    return (
                        f"gates {lower.id} and {upper.id} contradict each other: {lower.metric} cannot be at least "
                        f"{lower.min:g} and at most {upper.max:g}"
                    )
        return ""

    def _wrong_policy(self) -> str:
        against = [gate for gate in self.gates if gate.versus == "champion" and gate.severity == "fail"]
        tests = [gate for gate in against if gate.test]
        if self.policy == "superiority":
            if any(not gate.margin for gate in tests):
                return ""
            return (
                "policy superiority: one gate must test the challenger against the champion, for example "
                "{id: superior, test: stationary_bootstrap, versus: champion, alpha: 0.05}"
            )
        gaining = next((g.id for g in against if g.min_improvement is not None or (g.test and not g.margin)), None)
        if gaining:
            return f"policy non_inferiority lets an equal model pass, but gate {gaining} requires a better one: remove it"
        if not tests:
            return (
                "policy non_inferiority: one gate must test how much worse the challenger may be, for example "
                "{id: not_worse, test: stationary_bootstrap, versus: champion, margin: 0.01, alpha: 0.05}"
            )
        return ""


class WatchParams(Section):
    """When the evidence against what serves is an alarm, and what follows."""

    alpha: float = Field(default=0.05, gt=0, le=0.2)
    """most probability that a version that is no worse than forecasting zero gets an alarm within `years`"""
    years: float = Field(default=5.0, gt=0, le=100)
    """horizon of `alpha`, in years of 252 live days"""
    on_alarm: Literal["warn", "vacate", "rollback"] = "warn"
    """warn: the version serves on; vacate: nobody serves; rollback: the previous champion serves again, if it is in no alarm"""
