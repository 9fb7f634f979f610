"""The section ``promotion`` of ``params.yaml``: the policy, written down and checked for contradictions."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fxhelpers.measures import MEASURES, REFUSED
from fxhelpers.params._checks import nearest

BUILT_IN = ("forecasts", "replay", "days", "stale", "champion", "fresher", "seen")
"""Gates that every policy has; their names are taken."""

Versus = Literal["champion", "zero_return", "mean_training_return"]
_LEAST_DAYS = 120
"""Of a policy: on fewer, tests reject more equal forecasts than they say."""

_NOISE = 0.15
_MOST_GATES = 10  # what a ledger's entry can hold

_OF_THE_VALUE = ("min", "max")
_OF_ITS_CHANGE = ("min_improvement", "max_regression")
_OF_A_TEST = ("alpha", "resamples", "margin")
GATE_KEYS = {"value": _OF_THE_VALUE, "change": _OF_ITS_CHANGE, "test": _OF_A_TEST}
"""Keys that belong to one kind of gate: a bound of a value, of its change against a rival, or a test; others refuse them."""


class Section(BaseModel):
    """A part of ``params.yaml``: unknown keys are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ApprovalParams(Section):
    """Whether a second person has to agree."""

    required: bool = False
    not_author: bool = True


class StageApprovals(Section):
    """The stages that can ask for an approval."""

    Production: ApprovalParams = ApprovalParams()


class EvaluationParams(Section):
    """On which days versions are compared, and at what cost of trading."""

    min_days: int = 250
    embargo_days: int = Field(default=1, ge=0)
    max_stale_days: int | None = Field(default=None, ge=0)
    cost: float = Field(default=0.0005, ge=0, lt=0.1)

    @field_validator("min_days")
    @classmethod
    def _days_are_enough_for_a_test(cls, days: int) -> int:
        if days < _LEAST_DAYS:
            msg = (
                f"on so few days tests err more often than they say (of equal forecasts, 30 days reject 10 % at a level of 5 %); "
                f"at least {_LEAST_DAYS} are needed"
            )
            raise ValueError(msg)
        return days


class GateParams(Section):
    """One rule: a measure within bounds, or a test at a level."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")
    metric: str | None = None
    test: Literal["stationary_bootstrap", "diebold_mariano", "pesaran_timmermann"] | None = None
    versus: Versus | None = None
    slice: Literal["volatility_tercile"] | None = None
    min: float | None = None
    max: float | None = None
    min_improvement: float | None = Field(default=None, ge=0, lt=1)
    max_regression: float | None = Field(default=None, ge=0)
    alpha: float | None = Field(default=None, gt=0, le=0.5)
    resamples: int = Field(default=10_000, ge=1_000, le=1_000_000)
    margin: float = Field(default=0.0, ge=0, lt=1)
    severity: Literal["fail", "warn"] = "fail"

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, metric: str | None) -> str | None:
        if metric in REFUSED:
            msg = f"{metric} is refused: {REFUSED[metric]}"
            raise ValueError(msg)
        if metric is not None and metric not in MEASURES:
            msg = f"unknown metric{nearest(metric, MEASURES)}; known are {', '.join(MEASURES)}"
            raise ValueError(msg)
        return metric

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        wrong = self._wrong_as_a_test() if self.test else self._wrong_as_a_bound()
        if wrong:
            msg = f"gate {self.id}: {wrong}"
            raise ValueError(msg)
        return self

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def _wrong_as_a_test(self) -> str:
        alien = self._given("metric", "slice", *_OF_THE_VALUE, *_OF_ITS_CHANGE)
        if alien:
            return f"a test takes no {' and no '.join(alien)}; make it a gate of its own"
        if self.alpha is None:
            return "a test needs alpha, such as 0.05"
        if self.test == "pesaran_timmermann" and self.versus:
            return "pesaran_timmermann tests signs against chance: it takes no versus"
        if self.test != "pesaran_timmermann" and not self.versus:
            return "what is it tested against? versus: champion, zero_return or mean_training_return"
        if self.margin and self.test != "stationary_bootstrap":
            return "a margin goes with test: stationary_bootstrap only"
        return ""

    def _wrong_as_a_bound(self) -> str:
        if self.metric is None:
            return "either metric or test is needed"
        known, alien = MEASURES[self.metric], self._given(*_OF_A_TEST)
        absolute, relative = self._given(*_OF_THE_VALUE), self._given(*_OF_ITS_CHANGE)
        crossed = self.min is not None and self.max is not None and self.min > self.max
        wrong = {
            f"{' and '.join(alien)} belong to a test; this is a bound on {self.metric}": alien,
            "no bound: min, max, min_improvement or max_regression is needed": not absolute and not relative,
            "min and max bound the value, min_improvement and max_regression its change; one gate does one of these": (
                absolute and relative
            ),
            "a change against what? versus: champion, zero_return or mean_training_return": relative and not self.versus,
            "min and max bound the value itself: they take no versus": absolute and self.versus,
            "min_improvement and max_regression contradict each other: one asks for a gain, the other allows a loss": (
                len(relative) > 1
            ),
            f"min {self.min} lies above max {self.max}: nothing can pass": crossed,
            "two runs of one model differ by 8 % in latency: a max_regression below 0.15 would be decided by noise": (
                self.metric == "latency" and bool(relative) and (self.max_regression or 0) < _NOISE
            ),
            f"{self.metric} is best near 1: bound it by min and max": relative and known.better == "nearer to 1",
            f"forecasting zero has no {self.metric}": self.versus == "zero_return" and not known.of_zero,
            f"a forecast without a model has no {self.metric}": known.of_files and self.versus == "mean_training_return",
            "slice: volatility_tercile goes with metric: rmse and a change against another": (
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
    """Gates that somebody tries out, beside those that are written down."""

    gates: list[GateParams] = Field(max_length=_MOST_GATES)


class PromotionParams(Section):
    """When a challenger may replace the champion."""

    policy: Literal["superiority", "non_inferiority"] = "superiority"
    on_no_champion: Literal["baselines_only", "block"] = "baselines_only"
    evaluation: EvaluationParams = EvaluationParams()
    gates: tuple[GateParams, ...] = Field(default=GATES, max_length=_MOST_GATES)
    attempts: Literal["spend", "ignore"] = "spend"
    approval: StageApprovals = StageApprovals()

    @model_validator(mode="after")
    def _gates_agree(self) -> Self:
        wrong = self._wrong_names() or self._wrong_bounds() or self._wrong_policy()
        if wrong:
            raise ValueError(wrong)
        return self

    def _wrong_names(self) -> str:
        names = [gate.id for gate in self.gates]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            return f"gates: the id {twice!r} is there twice; every gate needs its own"
        taken = next((name for name in names if name in BUILT_IN), None)
        return f"gates: the id {taken!r} is that of a gate which is always there; choose another" if taken else ""

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
                "policy superiority: a gate has to test the challenger against the champion, for example "
                "{id: superior, test: stationary_bootstrap, versus: champion, alpha: 0.05}"
            )
        gaining = next((g.id for g in against if g.min_improvement is not None or (g.test and not g.margin)), None)
        if gaining:
            return f"policy non_inferiority lets an equal model pass, but gate {gaining} asks for a better one: take it out"
        if not tests:
            return (
                "policy non_inferiority: a gate has to test how much worse the challenger may be, for example "
                "{id: not_worse, test: stationary_bootstrap, versus: champion, margin: 0.01, alpha: 0.05}"
            )
        return ""
