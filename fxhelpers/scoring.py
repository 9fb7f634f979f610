"""Forecasts of several versions on the same days, which none of them has seen, each from its own features."""

import json
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fxhelpers.comparison import QUARTER, ROUNDING, EvaluationFrame, came_again, column, population_stability
from fxhelpers.errors import NotComparableError, ParamsError, PredictionsChangedError
from fxhelpers.evaluation import forecast_days
from fxhelpers.features import HORIZON_DAYS, SCHEMAS, build_features, next_day_return
from fxhelpers.features import TARGET as TARGET_RETURN
from fxhelpers.foresightx import derived_end, latest_features, read_features
from fxhelpers.frames import RECORDED, Evidence, frame_of, refreshed
from fxhelpers.params import Params, check_version, parse_day
from fxhelpers.prices import Restatement, SharePrices, changed_columns, read_prices, restatement, sessions_since, unpack_prices
from fxhelpers.recipes import Recipe
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.models import load_version
from fxhelpers.registry.pipelines import LoadedModel, Probe
from fxhelpers.system import read_time
from fxhelpers.training import check_rolling, join_extra, recipe_columns, supervised

_COLUMNS = "columns from"
_AGAIN = 2  # origins that a comparison forecasts again, of each version


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Stored forecasts of real days, forecast again."""

    again: int  # number that came out again
    stored: int  # number stored
    moved: float  # largest difference on the prices of now, in standard deviations of the stored forecasts
    restated: str = ""  # why it is not the same as then, in a sentence; "" if it is


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored(Evidence):
    """One version on all days that it can forecast."""

    model: LoadedModel
    features: pd.DataFrame  # its raw features, by date

    def moved_features(self, days: pd.Index) -> pd.DataFrame:
        """Measure how far the features of these days, or of the latest of them, drifted from those of its training."""
        training = self.windows["training"]
        before, now = self.features.loc[training["first_day"] : training["last_day"]].dropna(), self.features.loc[days]
        if self.rolling is not None:
            now = now.iloc[-QUARTER:]
            before = before.loc[before.index < now.index[0]]
        return population_stability(before, now)

    def check_recipe(self, seed: str) -> None:
        """Make some of its rolling-origin forecasts again; :class:`RollingForecastsError` if its recipe gives others."""
        if self.rolling is None or self.model.probe is None:
            return
        features, target = supervised(unpack_prices(self.model.probe.prices).frame, self.model.probe.extra)
        who = self.model.who
        check_rolling(self.model.recipe, features, target, self.rolling, seed=seed, count=_AGAIN, who=who)

    def replay(self, prices: SharePrices | None, *, accept_restated: bool = False) -> Replay:
        """Repeat its stored forecasts of real days.

        A version that keeps the prices of its training forecasts them again, so
        that a difference is one of code; and these prices must be those of now,
        up to one scale and the rounding of their last decimal, and columns of
        the user's own must be those of now within 1e-6, relative. Of other
        versions, each forecast must be the same within 1e-6.
        :class:`PredictionsChangedError` if not, unless ``accept_restated``.
        """
        probe = self.model.probe
        if probe is None:
            return Replay(again=0, stored=0, moved=0.0)
        self.model.replay()
        stored = probe.days
        now = self.days["forecast"].reindex(stored.index)
        spread = float(stored.std(ddof=0)) or 1.0
        off = (now - stored).abs()[now.notna()]
        moved = float(off.max() / spread) if len(off) else 0.0
        count, why = int((~(off <= ROUNDING)).sum()), ""
        if probe.prices and prices is not None:
            why = self._kept(stored, prices, probe, spread)
        elif count:
            day = pd.Timestamp(str(off.idxmax()))
            then_now = f"{stored.loc[day]:+.4%} then, {now.loc[day]:+.4%} now"
            why = f"{count} of {len(off)} stored forecasts differ, most on {day:%Y-%m-%d}: {then_now}"
        if not why:
            return Replay(again=len(off), stored=len(stored), moved=moved)
        what = "columns" if why.startswith(_COLUMNS) else "prices"
        why = f"version {self.model.version.version}: {why}; forecasts move by up to {moved:.2g} standard deviations"
        if accept_restated:
            return Replay(again=len(off) - count, stored=len(stored), moved=moved, restated=why)
        msg = (
            f"{why}. Correct the {what}, train again, or compare all versions on the {what} as they are now: "
            "-p accept_restated true (and -p reason to promote)"
        )
        raise PredictionsChangedError(msg)

    def _kept(self, stored: pd.Series, prices: SharePrices, probe: Probe, spread: float) -> str:
        """Forecast the kept prices and columns again, and compare them with those of now; return what differs."""
        then = unpack_prices(probe.prices)
        built = build_features(then.frame, self.model.facts["feature_schema"]["version"])
        features = join_extra(built, probe.extra, f"the columns that {self.model.who} keeps")[self.model.facts["feature_names"]]
        again = self.model.pipeline.predict(features.loc[stored.index])
        off = np.abs(again - stored.to_numpy())
        if wrong := int((~came_again(again, stored.to_numpy(), spread)).sum()):
            msg = (
                f"{self.model.who}: {wrong} of {len(stored)} stored forecasts differ by up to {off.max() / spread:.2g} standard "
                "deviations on the prices of its training, which the bundle keeps: a library that computes its features changed"
            )
            raise PredictionsChangedError(msg)
        columns = changed_columns(probe.extra, self.features) if probe.extra is not None else None
        found = {"prices": restatement(then, prices), f"{_COLUMNS} {self.model.recipe.extra.get('folder')}": columns}
        return "; ".join(_restated(what, one) for what, one in found.items() if one is not None)


def _restated(what: str, found: Restatement) -> str:
    until = f" to {found.last}" if found.last != found.first else ""
    return f"{what} changed on {found.days:,} of {found.compared:,} days, {found.first}{until} ({found.message})"


class VersionInputs:
    """The prices and the features of one symbol, read when a version needs them."""

    def __init__(self, symbol: str, params: Params, *, training_end: str = "") -> None:
        self.symbol, self.params, self.training_end = symbol, params, training_end
        self._ours: dict[tuple[int, str], tuple[pd.DataFrame, pd.Series]] = {}

    @cached_property
    def prices(self) -> SharePrices:
        """Prices as they are now."""
        return read_prices(self.symbol, self.params.prices)

    def ours(self, schema: int, recipe: Recipe | None = None) -> tuple[pd.DataFrame, pd.Series]:
        """Features computed from prices, by a schema, with the columns that a recipe takes from its folder, and the target."""
        extra = recipe.extra if recipe is not None else {}
        key = schema, json.dumps(extra)
        if key not in self._ours:
            prices = self.prices.for_schema(schema)
            more = recipe_columns(recipe, self.symbol, self.params.folder) if recipe is not None else None
            features = join_extra(build_features(prices, schema), more, f"{extra.get('folder')}/{self.symbol}.csv")
            self._ours[key] = features, next_day_return(prices)
        return self._ours[key]

    @cached_property
    def foresightx(self) -> tuple[pd.DataFrame, pd.Series] | None:
        """Features and target from ForesightX's file; None without it."""
        found = latest_features([self.params.paths.features], self.symbol)
        if not found:
            return None
        table = read_features(found[0])
        if TARGET_RETURN not in table:
            msg = f"{found[0]}: no column {TARGET_RETURN}; there: {', '.join(map(str, table.columns[:8]))}, …"
            raise NotComparableError(msg)
        return table.drop(columns=TARGET_RETURN), table[TARGET_RETURN]

    def score(self, model: LoadedModel) -> Scored:
        """Let a version forecast all days from its own features; :class:`NotComparableError` if they are not available."""
        facts, who = model.facts, model.who
        if facts.get("symbol") != self.symbol:
            msg = f"{who} forecasts {facts.get('symbol')}, not {self.symbol}"
            raise NotComparableError(msg)
        own = "feature_schema" in facts
        if own:
            _check(facts, who)
        source = self.ours(facts["feature_schema"]["version"], model.recipe) if own else self.foresightx
        if source is None:
            msg = (
                f"{who} was trained by ForesightX and cannot be compared without its features: put features_{self.symbol}.csv "
                f"into {self.params.paths.features} (paths.features in params.yaml). It can be served, or moved by hand"
            )
            raise NotComparableError(msg)
        features, target = source
        days = forecast_days(model.pipeline, facts["feature_names"], features, target)
        if wrong := int((~np.isfinite(days["forecast"])).sum()):
            msg = f"{who}: its forecasts of {wrong} days are not finite numbers"
            raise NotComparableError(msg)
        if own:
            windows = {name: facts["windows"][name] for name in ("training", "validation") if name in facts["windows"]}
            last, basis = max(pd.Timestamp(window["last_day"]) for window in windows.values()), RECORDED
        else:
            last, basis = self._training_end(model, pd.DatetimeIndex(days.index))
            windows = {"training": {"first_day": f"{min(days.index[0], last):%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}}
        return Scored(
            model=model,
            features=features[facts["feature_names"]],
            about=facts,
            days=days,
            windows=windows,
            last_seen=last,
            basis=basis,
            recipe=model.recipe.digest if model.recipe.whole else "",
            rolling=model.probe.rolling if model.probe is not None else None,
        )

    def _training_end(self, model: LoadedModel, days: pd.DatetimeIndex) -> tuple[pd.Timestamp, str]:
        """Return the last training day of a version that does not record it, and its source."""
        if self.training_end:
            return pd.Timestamp(parse_day("training_end", self.training_end)), "as the parameter training_end says"
        trained = read_time(str(model.facts.get("timestamp", "")))
        if trained is None:
            msg = f"{model.who} does not record when it was trained; pass training_end, the last day that it was trained on"
            raise NotComparableError(msg)
        return derived_end(days, pd.Timestamp(trained.date()), model.probe.days.index if model.probe is not None else days[:0])


def _check(facts: dict[str, Any], who: str) -> None:
    needed = {"target": ("horizon_days", "units"), "windows": ("training",)}
    missing = [f"{key}.{part}" for key, parts in needed.items() for part in parts if part not in facts.get(key, {})]
    if missing:
        msg = f"{who} cannot be compared: it does not record its {', '.join(missing)}"
        raise NotComparableError(msg)
    schema, target = facts["feature_schema"]["version"], facts["target"]
    if schema not in SCHEMAS:
        msg = f"{who} was trained on features of schema {schema}; this fxhelpers computes {' and '.join(map(str, SCHEMAS))}"
        raise NotComparableError(msg)
    if (target["horizon_days"], target["units"]) != (HORIZON_DAYS, "fraction"):
        msg = f"{who} forecasts {target}; only next-day returns as fractions can be compared"
        raise NotComparableError(msg)


_MAX_CHALLENGERS = 50
_WARM_UPS, _BATCHES, _CALLS = 10, 10, 5
_MAX_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Versions and days to compare; what is left out is chosen automatically."""

    version: int | None = None  # version to judge. None: the challenger registered last, or the best of ``challengers``
    champion: int | None = None  # version to compare with. None: the one in Production
    challengers: tuple[int, ...] = ()  # versions to test at once
    start: str = ""  # first and last day of the evaluation window, YYYY-MM-DD; "": all that no version has seen
    end: str = ""
    training_end: str = ""  # last training day, YYYY-MM-DD, of versions that do not record it; "": it is derived
    accept_restated: bool = False  # compare on the prices as they are now, though a version was trained on others

    def __post_init__(self) -> None:
        days = {name: parse_day(name, text) for name in ("start", "end", "training_end") if (text := getattr(self, name))}
        if "start" in days and "end" in days and days["start"] > days["end"]:
            msg = f"start: {self.start} is after end: {self.end}"
            raise ParamsError(msg)
        if len(self.challengers) > _MAX_CHALLENGERS:
            msg = f"challengers: at most {_MAX_CHALLENGERS} at once, found {len(self.challengers)}"
            raise ParamsError(msg)
        for name in ("version", "champion"):
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_version(name, number))
        object.__setattr__(self, "challengers", tuple(check_version("challengers", number) for number in self.challengers))

    def to_json(self) -> dict[str, object]:
        """Return everything but ``version`` that was passed, for JSON."""
        passed = {**asdict(self), "challengers": list(self.challengers)}
        return {key: value for key, value in passed.items() if value and key != "version"}


def evaluation_frame(
    registry: RegistryClient,
    name: str,
    symbol: str,
    *,
    challengers: Sequence[int],
    champion: int | None,
    selection: Selection | None = None,
    judged: int | None = None,
    seed: str = "",
) -> EvaluationFrame:
    """Load versions, let each forecast from its own features, and keep the common days on which no forecast has seen its day.

    These are the days of each recipe's rolling-origin forecasts, and those
    after the last day that a version was trained or chosen on, the forecast
    horizon and the policy's embargo. A challenger of the champion's recipe is
    measured alone, if the policy allows a refresh. ``judged`` is the challenger
    to judge, by default the one with the lowest RMSE; ``seed`` chooses the
    origins that are forecast again.

    :class:`NotComparableError` if a version forecasts something else, its
    features are missing, or no selected day is unseen by all;
    :class:`PredictionsChangedError` if one does not reproduce its stored
    forecasts.
    """
    chosen = selection or Selection()
    inputs = VersionInputs(symbol, registry.params, training_end=chosen.training_end)
    versions = [*challengers, *([champion] if champion is not None else [])]
    scored = {version: inputs.score(load_version(registry, name, version)) for version in versions}
    prices = inputs.prices if any("feature_schema" in one.model.facts for one in scored.values()) else None
    rules = registry.params.promotion
    refreshes = refreshed(scored, challengers, champion, rules)
    counted = {version: one for version, one in scored.items() if version != refreshes}
    replays = {version: one.replay(prices, accept_restated=chosen.accept_restated) for version, one in counted.items()}
    for one in counted.values():
        one.check_recipe(f"{seed} {one.model.version.identity.bundle}")
    frame = frame_of(
        symbol,
        scored,
        challengers=challengers,
        champion=champion if refreshes is None else None,
        refreshes=refreshes,
        embargo=rules.evaluation.embargo_days,
        start=chosen.start,
        end=chosen.end,
        judged=judged,
        rounding=_rounding(prices),
    )
    last = frame.days.index[-1:]
    return replace(
        frame,
        bundles={version: str(one.model.version.identity.bundle) for version, one in scored.items()},
        replayed={version: (replay.again, replay.stored) for version, replay in replays.items()},
        restated={version: replay.restated for version, replay in replays.items() if replay.restated},
        moved={version: replay.moved for version, replay in replays.items() if replay.stored},
        **_about_prices(prices, last[0]),
        drift=scored[frame.challenger].moved_features(frame.days.index),
        footprint=_footprint({column(v): scored[v] for v in (frame.challenger, frame.champion) if v is not None}, last),
    )


def _about_prices(prices: SharePrices | None, last: pd.Timestamp) -> dict[str, Any]:
    """Return what a verdict needs to know about the prices: doubts by day, and how old they are."""
    if prices is None:
        return {}
    doubts = {doubt.message: tuple(f"{day:%Y-%m-%d}" for day in doubt.days) for doubt in prices.doubts}
    return {"doubts": doubts, "sample": prices.source == "sample", "sessions_since": sessions_since(prices.calendar, last)}


def _rounding(prices: SharePrices | None) -> pd.Series:
    """Return how far the returns of two downloads may differ because both are rounded, by day."""
    if prices is None:
        return pd.Series(dtype=float)
    return 2 * (prices.precision + prices.precision.shift(-HORIZON_DAYS))


def _footprint(scored: Mapping[str, Scored], day: pd.Index) -> pd.DataFrame:
    """Measure ``artifact_bytes``, ``load_memory`` (peak, bytes) and ``latency`` (seconds per day), within two seconds.

    Latency is the median over batches of the mean time of a call, in one
    thread; the versions take turns, so that other load on the machine affects
    all alike. Ratios below 1.15 are noise.
    """
    rows = {name: one.features.loc[day] for name, one in scored.items()}
    times: dict[str, list[float]] = {name: [] for name in scored}
    end = time.perf_counter() + _MAX_SECONDS
    with threadpool_limits(1):
        for name, one in scored.items():
            _call(one.model, rows[name], _WARM_UPS)
        for _ in range(_BATCHES):
            for name, one in scored.items():
                times[name].append(_call(one.model, rows[name], _CALLS) / _CALLS)
            if time.perf_counter() > end:
                break
    measured = [(float(len(one.model.content)), _load_memory(one.model), np.median(times[name])) for name, one in scored.items()]
    return pd.DataFrame(measured, index=list(scored), columns=["artifact_bytes", "load_memory", "latency"])


def _call(model: LoadedModel, day: pd.DataFrame, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        model.pipeline.predict(day)
    return time.perf_counter() - start


def _load_memory(model: LoadedModel) -> float:
    tracemalloc.start()
    try:
        model.load_again()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
