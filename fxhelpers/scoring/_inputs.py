"""Features and target of each version, its forecasts, and the last day it has seen."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.comparison import ROUNDING
from fxhelpers.errors import NotComparableError, ParamsError, PredictionsChangedError
from fxhelpers.evaluation import forecast_days
from fxhelpers.features import HORIZON_DAYS, SCHEMA_VERSION, TARGET, build_features, next_day_return
from fxhelpers.files import read_time
from fxhelpers.foresightx import derived_end, latest_features, read_features
from fxhelpers.params import Params
from fxhelpers.prices import load_prices
from fxhelpers.registry import LoadedModel

RECORDED = "recorded by its training"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """One version on all days that it can forecast."""

    model: LoadedModel
    features: pd.DataFrame  # its raw features, by date
    days: pd.DataFrame  # ``target`` and ``forecast``, as fractions of return, by date
    windows: dict[str, dict[str, str]]  # ``training``, and ``validation`` if it is known: first and last day
    last_seen: pd.Timestamp  # last day that it was trained or chosen on
    basis: str  # source of ``last_seen``

    def facts(self) -> dict[str, Any]:
        """Return what its training recorded, with its windows and the last day that it has seen."""
        seen = {"last_day": f"{self.last_seen:%Y-%m-%d}", "basis": self.basis, "recorded": self.basis == RECORDED}
        return {**self.model.facts, "windows": self.windows, "seen": seen}

    def replay(self) -> tuple[int, int]:
        """Compare with its stored forecasts of real days; return the number reproduced, and the number stored.

        :class:`PredictionsChangedError` if a forecast differs.
        """
        if self.model.probe is None:
            return 0, 0
        self.model.replay()
        stored = self.model.probe.days
        now = self.days["forecast"].reindex(stored.index)
        known = now.notna()
        off = (now - stored)[known].abs()
        if not (off <= ROUNDING).all():
            day, count = pd.Timestamp(str(off.idxmax())), int((~(off <= ROUNDING)).sum())
            msg = (
                f"{self.model.who} no longer reproduces its forecasts: {count} of {len(off)} differ, most on {day:%Y-%m-%d}: "
                f"{stored.loc[day]:+.4%} then, {now.loc[day]:+.4%} now. Its bytes are the same, so prices were restated. "
                "Fix them at their source, or train and register again"
            )
            raise PredictionsChangedError(msg)
        return int(known.sum()), len(stored)


class VersionInputs:
    """The prices and the features of one symbol, read when a version needs them."""

    def __init__(self, symbol: str, params: Params, *, training_end: str = "") -> None:
        self.symbol, self.params, self.training_end = symbol, params, training_end

    @cached_property
    def ours(self) -> tuple[pd.DataFrame, pd.Series]:
        """Features computed from prices, and the target."""
        prices = load_prices(self.symbol, self.params.prices)
        return build_features(prices), next_day_return(prices)

    @cached_property
    def foresightx(self) -> tuple[pd.DataFrame, pd.Series] | None:
        """Features and target from ForesightX's file; None without it."""
        found = latest_features([self.params.paths.features], self.symbol)
        if not found:
            return None
        table = read_features(found[0])
        if TARGET not in table:
            msg = f"{found[0]}: no column {TARGET}; there: {', '.join(map(str, table.columns[:8]))}, …"
            raise NotComparableError(msg)
        return table.drop(columns=TARGET), table[TARGET]

    def score(self, model: LoadedModel) -> Scored:
        """Let a version forecast all days from its own features; :class:`NotComparableError` if they are not available."""
        facts, who = model.facts, model.who
        if facts.get("symbol") != self.symbol:
            msg = f"{who} forecasts {facts.get('symbol')}, not {self.symbol}"
            raise NotComparableError(msg)
        own = "feature_schema" in facts
        if own:
            _check(facts, who)
        source = self.ours if own else self.foresightx
        if source is None:
            msg = (
                f"{who} was trained by ForesightX and cannot be compared without its features: put features_{self.symbol}.csv "
                f"into {self.params.paths.features} (paths.features in params.yaml). It can be served, or moved by hand"
            )
            raise NotComparableError(msg)
        features, target = source
        days = forecast_days(model.pipeline, facts["feature_names"], features, target)
        finite = np.isfinite(days["forecast"])
        if not finite.all():
            msg = f"{who}: its forecasts of {int((~finite).sum())} days are not finite numbers"
            raise NotComparableError(msg)
        if own:
            windows = {name: facts["windows"][name] for name in ("training", "validation")}
            last, basis = max(pd.Timestamp(window["last_day"]) for window in windows.values()), RECORDED
        else:
            last, basis = self._training_end(model, pd.DatetimeIndex(days.index))
            windows = {"training": {"first_day": f"{min(days.index[0], last):%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}}
        raw = features[facts["feature_names"]]
        return Scored(model=model, features=raw, days=days, windows=windows, last_seen=last, basis=basis)

    def _training_end(self, model: LoadedModel, days: pd.DatetimeIndex) -> tuple[pd.Timestamp, str]:
        """Return the last training day of a version that does not record it, and its source."""
        if self.training_end:
            return parse_day("training_end", self.training_end), "as the parameter training_end says"
        trained = read_time(str(model.facts.get("timestamp", "")))
        if trained is None:
            msg = f"{model.who} does not record when it was trained; pass training_end, the last day that it was trained on"
            raise NotComparableError(msg)
        return derived_end(days, pd.Timestamp(trained.date()), model.probe.days.index if model.probe is not None else days[:0])


def parse_day(name: str, text: str) -> pd.Timestamp:
    """Return a day that a user passed; :class:`ParamsError` if it is not one."""
    try:
        return pd.Timestamp(pd.to_datetime(text, format="%Y-%m-%d"))
    except ValueError as error:
        msg = f"{name}: expected a day such as 2012-06-29, found {text!r}"
        raise ParamsError(msg) from error


def _check(facts: dict[str, Any], who: str) -> None:
    needed = {"target": ("horizon_days", "units"), "windows": ("training", "validation")}
    missing = [f"{key}.{part}" for key, parts in needed.items() for part in parts if part not in facts.get(key, {})]
    if missing:
        msg = f"{who} cannot be compared: it does not record its {', '.join(missing)}"
        raise NotComparableError(msg)
    schema, target = facts["feature_schema"]["version"], facts["target"]
    if schema != SCHEMA_VERSION:
        msg = f"{who} was trained on features of schema {schema}; this fxhelpers computes schema {SCHEMA_VERSION}"
        raise NotComparableError(msg)
    if (target["horizon_days"], target["units"]) != (HORIZON_DAYS, "fraction"):
        msg = f"{who} forecasts {target}; only next-day returns as fractions can be compared"
        raise NotComparableError(msg)
