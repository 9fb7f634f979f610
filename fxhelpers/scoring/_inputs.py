"""What a version forecasts from, and until when it has seen days."""

import math
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
from fxhelpers.foresightx import TRAINED_SHARE, latest_features, read_features, trained_until
from fxhelpers.params import Params
from fxhelpers.prices import load_prices
from fxhelpers.registry import LoadedModel

RECORDED = "recorded by its training"

_TESTED_SHARE = 0.25
"""ForesightX tests on the last part of its features file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """One version on all days that it can forecast.

    Attributes
    ----------
    model : RegisteredModel
    features : DataFrame
        Its raw features, by date.
    days : DataFrame
        ``target`` and ``forecast``, as fractions of return, by date.
    windows : dict
        ``training``, and ``validation`` where there is one: first and last day.
    last_seen : Timestamp
        Last day that it was trained or chosen on.
    basis : str
        How that is known.
    """

    model: LoadedModel
    features: pd.DataFrame
    days: pd.DataFrame
    windows: dict[str, dict[str, str]]
    last_seen: pd.Timestamp
    basis: str

    def facts(self) -> dict[str, Any]:
        """Return what its training recorded, with its windows and the last day that it has seen."""
        seen = {"last_day": f"{self.last_seen:%Y-%m-%d}", "basis": self.basis, "recorded": self.basis == RECORDED}
        return {**self.model.facts, "windows": self.windows, "seen": seen}

    def replay(self) -> tuple[int, int]:
        """Compare with the forecasts of real days that were stored; return how many came out again, and how many there are.

        Raises
        ------
        PredictionsChangedError
            Another forecast came out.
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
                f"{self.model.who} gives other forecasts of the same days than when it was registered: {count} of {len(off)} "
                f"differ, most that of {day:%Y-%m-%d}: {stored.loc[day]:+.4%} then, {now.loc[day]:+.4%} now. Its bytes and its "
                "arithmetic are the same, so its inputs changed: prices were restated. Nothing is compared on such prices; mend "
                "them at their source, or train and register anew on these"
            )
            raise PredictionsChangedError(msg)
        return int(known.sum()), len(stored)


class VersionInputs:
    """The prices and the features of one symbol, read where a version needs them."""

    def __init__(self, symbol: str, params: Params, *, training_end: str = "") -> None:
        self.symbol, self.params, self.training_end = symbol, params, training_end

    @cached_property
    def ours(self) -> tuple[pd.DataFrame, pd.Series]:
        """Features computed from prices, and the target."""
        prices = load_prices(self.symbol, self.params.prices)
        return build_features(prices), next_day_return(prices)

    @cached_property
    def foresightx(self) -> tuple[pd.DataFrame, pd.Series] | None:
        """Features and target as ForesightX computed them; None without its file."""
        found = latest_features([self.params.paths.features], self.symbol)
        if not found:
            return None
        path = found[0]
        table = read_features(path)
        if TARGET not in table:
            msg = f"{path}: no column {TARGET}; there: {', '.join(map(str, table.columns[:8]))}, …"
            raise NotComparableError(msg)
        return table.drop(columns=TARGET), table[TARGET]

    def score(self, model: LoadedModel) -> Scored:
        """Let a version forecast all days from its own features.

        Raises
        ------
        NotComparableError
            It forecasts something else, or its features are not at hand.
        """
        who = model.who
        if model.facts.get("symbol") != self.symbol:
            msg = f"{who} forecasts {model.facts.get('symbol')}, not {self.symbol}"
            raise NotComparableError(msg)
        own = "feature_schema" in model.facts
        if own:
            _check(model.facts, who)
        source = self.ours if own else self.foresightx
        if source is None:
            msg = (
                f"{who} was trained by ForesightX, and its features cannot be computed from prices: put "
                f"features_{self.symbol}.csv into {self.params.paths.features} (paths.features in params.yaml). Without it the "
                "version can be served, and transition_stage can move it by hand, but it cannot be compared"
            )
            raise NotComparableError(msg)
        features, target = source
        days = forecast_days(model.pipeline, model.facts["feature_names"], features, target)
        if not np.isfinite(days["forecast"]).all():
            msg = f"{who} forecasts {int((~np.isfinite(days['forecast'])).sum())} days as not a finite number"
            raise NotComparableError(msg)
        windows, last_seen, basis = _recorded(model.facts) if own else self._derived(model, days.index, who)
        raw = features[model.facts["feature_names"]]
        return Scored(model=model, features=raw, days=days, windows=windows, last_seen=last_seen, basis=basis)

    def _derived(self, model: LoadedModel, days: pd.Index, who: str) -> tuple[dict[str, dict[str, str]], pd.Timestamp, str]:
        """Find out until when a version that does not say so was trained."""
        trained = read_time(str(model.facts.get("timestamp", "")))
        if self.training_end:
            last, basis = day_of("training_end", self.training_end), "as the parameter training_end says"
        elif trained is None:
            msg = f"{who} does not say when it was trained; give training_end, the last day that it was trained on"
            raise NotComparableError(msg)
        else:
            day = pd.Timestamp(trained.date())
            until = trained_until(pd.DatetimeIndex(days), day)
            if until is not None:
                last = until
                tested = model.probe.days.index if model.probe is not None else days[:0]
                if len(tested):  # of which it had seen the first; the file may have grown at its beginning since
                    overlap = 1 - (1 - TRAINED_SHARE) / _TESTED_SHARE
                    last = max(last, tested.sort_values()[math.ceil(overlap * len(tested)) - 1])
                basis = f"derived: ForesightX trains on the first {TRAINED_SHARE:.0%} of its features file"
            else:
                last, basis = day, "the day of its training: its features file begins later"
        first = f"{min(days[0], last):%Y-%m-%d}"
        return {"training": {"first_day": first, "last_day": f"{last:%Y-%m-%d}"}}, last, basis


def day_of(name: str, text: str) -> pd.Timestamp:
    """Read a day that a user gave; :class:`ParamsError` where it is none."""
    try:
        return pd.Timestamp(pd.to_datetime(text, format="%Y-%m-%d"))
    except ValueError as error:
        msg = f"{name}: a day such as 2012-06-29 is expected, found {text!r}"
        raise ParamsError(msg) from error


def _check(facts: dict[str, Any], who: str) -> None:
    needed = {"target": ("horizon_days", "units"), "windows": ("training", "validation")}
    missing = [f"{key}.{part}" for key, parts in needed.items() for part in parts if part not in facts.get(key, {})]
    if missing:
        msg = f"{who} cannot be compared: it does not say its {', '.join(missing)}"
        raise NotComparableError(msg)
    if facts["feature_schema"]["version"] != SCHEMA_VERSION:
        msg = f"{who} was trained on features of schema {facts['feature_schema']['version']}, computed here are {SCHEMA_VERSION}"
        raise NotComparableError(msg)
    if (facts["target"]["horizon_days"], facts["target"]["units"]) != (HORIZON_DAYS, "fraction"):
        msg = f"{who} forecasts {facts['target']}, here are next-day returns as fractions"
        raise NotComparableError(msg)


def _recorded(facts: dict[str, Any]) -> tuple[dict[str, dict[str, str]], pd.Timestamp, str]:
    windows = {name: facts["windows"][name] for name in ("training", "validation")}
    last = max(pd.Timestamp(window["last_day"]) for window in windows.values())
    return windows, last, RECORDED
