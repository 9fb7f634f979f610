"""Recipes: what a training does, without its data. Bundles of one recipe are refits of each other."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sklearn.model_selection import ParameterGrid

from fxhelpers import estimators
from fxhelpers.features import HORIZON_DAYS, SCHEMA_VERSION, SCHEMAS, TARGET
from fxhelpers.params import ESTIMATORS, ModelParams, TrainingParams

_DIGITS = 12
_METADATA = ("model_type", "architecture", "config")
_NO_SETTING = {"iterations", "model"}  # of a bundle's config: what came of the fit, and the name of the model


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training does, as JSON holds it: the same recipe under another name, or in another order, is the same."""

    facts: dict[str, Any]

    @classmethod
    def of(cls, settings: ModelParams, params: TrainingParams, columns: Iterable[str] = ()) -> Self:
        """Return the recipe that a model of ``params.yaml`` is fitted by; ``columns`` are those of the user's own."""
        fixed = settings.hyperparameters
        tried = [estimators.relevant(settings.estimator, {**fixed, **one}) for one in ParameterGrid(settings.candidates)]
        distinct = {_canonical(setting): setting for setting in tried}
        refit = params.refit if settings.refit is None else settings.refit
        extra = {"folder": settings.features.extra, "columns": sorted(columns)} if settings.features.extra else {}
        chosen = {"measure": "rmse", "validation_size": params.validation_size} if len(distinct) > 1 or not refit else {}
        days = (
            {"fit": "all days", "origins": {"first_day": params.rolling.first_day, "every_days": params.rolling.every_days}}
            if refit
            else {"fit": "training days", "test_size": params.test_size}
        )
        facts = {
            "estimator": settings.estimator,
            "settings": [distinct[key] for key in sorted(distinct)],
            "scaler": "StandardScaler",
            "features": {"schema": SCHEMA_VERSION, **({"extra": extra} if extra else {})},
            "target": {"name": TARGET, "horizon_days": HORIZON_DAYS, "units": "fraction"},
            "embargo_days": params.embargo_days,
            "random_state": params.random_state,
            **({"choice": chosen} if chosen else {}),
            **days,
        }
        return cls(facts=json.loads(_canonical(facts)))

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> Self:
        """Return the recipe in a bundle's metadata; of a foreign bundle, what its metadata say of it."""
        if metadata.get("recipe"):
            return cls(facts=dict(metadata["recipe"]))
        known = {key: metadata[key] for key in _METADATA if metadata.get(key)}
        if "config" in known:
            known["config"] = {key: value for key, value in known["config"].items() if key not in _NO_SETTING}
        names = "\n".join(metadata["feature_names"])
        schema = metadata.get("feature_schema", {}).get("version")
        features = {"names_sha256": hashlib.sha256(names.encode()).hexdigest(), **({"schema": schema} if schema else {})}
        return cls(facts={**known, "features": features, "known": "in part"})

    def describes(self, estimator: str, hyperparameters: Mapping[str, Any], random_state: object) -> bool:
        """Return whether a regressor with these hyperparameters, and this seed if it takes one, is one of its candidates."""
        used = estimators.relevant(estimator, hyperparameters)
        one_of = any(all(key in used and used[key] == value for key, value in one.items()) for one in self.settings)
        return one_of and self.facts["estimator"] == estimator and random_state in {None, self.facts["random_state"]}

    @property
    def whole(self) -> bool:
        """Whether all of it is known: bundles of a recipe that is known in part may differ in the rest."""
        return self.facts.get("known") != "in part"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its canonical JSON."""
        return hashlib.sha256(_canonical(self.facts).encode()).hexdigest()

    @property
    def short(self) -> str:
        """``3f2a…``, for people."""
        return self.digest[:_DIGITS]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Complete hyperparameters of each candidate, in the order in which they are tried."""
        return list(self.facts["settings"])

    @property
    def refits(self) -> bool:
        """Whether what serves is fitted on all days, and judged by rolling-origin forecasts."""
        return bool(self.facts.get("fit") == "all days")

    @property
    def gap(self) -> int:
        """Days between the last one of a fit and the first one that it forecasts: the horizon and the embargo."""
        return int(self.facts["target"]["horizon_days"]) + int(self.facts["embargo_days"])

    @property
    def extra(self) -> dict[str, Any]:
        """Folder and columns of the user's own; empty without."""
        return dict(self.facts["features"].get("extra", {}))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Features(_Part):
    number: int = Field(alias="schema")
    extra: dict[str, Any] = {}


class _Origins(_Part):
    first_day: int = Field(ge=1)
    every_days: int = Field(ge=1)


class _Choice(_Part):
    measure: Literal["rmse"]
    validation_size: float = Field(gt=0, lt=0.5)


class RecipeFacts(_Part):
    """What :meth:`Recipe.of` writes: in one form, so that the same recipe has one digest, and nothing that no fit does."""

    estimator: str
    settings: list[dict[str, Any]] = Field(min_length=1)
    scaler: Literal["StandardScaler"]
    features: _Features
    target: dict[str, Any]
    embargo_days: int = Field(ge=0)
    random_state: int = Field(ge=0, lt=2**32)
    choice: _Choice | None = None
    fit: Literal["all days", "training days"]
    origins: _Origins | None = None
    test_size: float | None = Field(default=None, gt=0, lt=0.5)

    @model_validator(mode="after")
    def _is_in_one_form(self) -> Self:
        if self.estimator not in ESTIMATORS:
            msg = f"estimator: expected one of {', '.join(ESTIMATORS)}"
            raise ValueError(msg)
        target = {"name": TARGET, "horizon_days": HORIZON_DAYS, "units": "fraction"}
        nothing = "extra" in self.features.model_fields_set and not self.features.extra
        if self.features.number not in SCHEMAS or self.target != target or nothing:
            msg = f"features or target: expected a schema of {SCHEMAS}, extra only with columns, and the target {target}"
            raise ValueError(msg)
        refits, chosen = self.fit == "all days", len(self.settings) > 1 or self.fit != "all days"
        needed = {"origins": refits, "test_size": not refits, "choice": chosen}
        for name, has in needed.items():
            if has != (getattr(self, name) is not None) or has != (name in self.model_fields_set):
                msg = f"{name}: expected {'one' if has else 'none'} for {len(self.settings)} settings fitted on {self.fit}"
                raise ValueError(msg)
        keys = [_canonical(setting) for setting in self.settings]
        try:
            used = [_canonical(_used(self.estimator, one)) for one in self.settings]
        except (TypeError, AttributeError):  # a list where a text belongs
            used = []
        if keys != sorted(set(keys)) or keys != used:
            msg = "settings: expected distinct ones in order, each with what its fit depends on, and nothing else"
            raise ValueError(msg)
        return self


def _used(estimator: str, setting: dict[str, Any]) -> dict[str, Any]:
    """Return what a fit depends on, of what a setting says: another release of scikit-learn may have more hyperparameters."""
    known = estimators.defaults(estimator)
    return {k: value for k, value in estimators.relevant(estimator, setting).items() if k in setting and k in known}
