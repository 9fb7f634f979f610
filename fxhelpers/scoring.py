"""Forecasts of several versions on the same days, which none of them has seen, each from its own features."""

import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fxhelpers.comparison import MEAN, ROUNDING, TARGET, ZERO, EvaluationFrame, column, population_stability
from fxhelpers.errors import NotComparableError, ParamsError, PredictionsChangedError
from fxhelpers.evaluation import forecast_days
from fxhelpers.features import HORIZON_DAYS, SCHEMAS, build_features, next_day_return
from fxhelpers.features import TARGET as TARGET_RETURN
from fxhelpers.foresightx import derived_end, latest_features, read_features
from fxhelpers.params import Params, check_version
from fxhelpers.prices import SharePrices, read_prices, restatement, sessions_since, unpack_prices
from fxhelpers.registry import LoadedModel, RegistryClient, load_version
from fxhelpers.system import read_time

RECORDED = "recorded by its training"
_CODE = 1e-3  # of the forecasts' standard deviation: tolerance where the kept prices, in single precision, are forecast again


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Stored forecasts of real days, forecast again."""

    again: int  # number that came out again
    stored: int  # number stored
    moved: float  # largest difference on the prices of now, in standard deviations of the stored forecasts
    restated: str = ""  # why it is not the same as then, in a sentence; "" if it is


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

    def replay(self, prices: SharePrices | None, *, accept_restated: bool = False) -> Replay:
        """Repeat its stored forecasts of real days.

        A version that keeps the prices of its training forecasts them again, so
        that a difference is one of code; and these prices must be those of now,
        up to one scale and the rounding of their last decimal. Of other
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
            why = self._kept(stored, prices, probe.prices, spread)
        elif count:
            day = pd.Timestamp(str(off.idxmax()))
            then_now = f"{stored.loc[day]:+.4%} then, {now.loc[day]:+.4%} now"
            why = f"{count} of {len(off)} stored forecasts differ, most on {day:%Y-%m-%d}: {then_now}"
        if not why:
            return Replay(again=len(off), stored=len(stored), moved=moved)
        why = f"version {self.model.version.version}: {why}; forecasts move by up to {moved:.2g} standard deviations"
        if accept_restated:
            return Replay(again=len(off) - count, stored=len(stored), moved=moved, restated=why)
        msg = (
            f"{why}. Correct the prices, train again, or compare all versions on the prices as they are now: "
            "-p accept_restated true (and -p reason to promote)"
        )
        raise PredictionsChangedError(msg)

    def _kept(self, stored: pd.Series, prices: SharePrices, text: str, spread: float) -> str:
        """Forecast the kept prices again, and compare them with those of now; return what differs."""
        then = unpack_prices(text)
        features = build_features(then.frame, self.model.facts["feature_schema"]["version"])[self.model.facts["feature_names"]]
        again = self.model.pipeline.predict(features.loc[stored.index])
        off = np.abs(again - stored.to_numpy())
        if wrong := int((~(off <= ROUNDING + _CODE * spread)).sum()):
            msg = (
                f"{self.model.who}: {wrong} of {len(stored)} stored forecasts differ by up to {off.max() / spread:.2g} standard "
                "deviations on the prices of its training, which the bundle keeps: a library that computes its features changed"
            )
            raise PredictionsChangedError(msg)
        found = restatement(then, prices)
        if found is None:
            return ""
        until = f" to {found.last}" if found.last != found.first else ""
        return f"prices changed on {found.days:,} of {found.compared:,} days, {found.first}{until} ({found.message})"


class VersionInputs:
    """The prices and the features of one symbol, read when a version needs them."""

    def __init__(self, symbol: str, params: Params, *, training_end: str = "") -> None:
        self.symbol, self.params, self.training_end = symbol, params, training_end
        self._ours: dict[int, tuple[pd.DataFrame, pd.Series]] = {}

    @cached_property
    def prices(self) -> SharePrices:
        """Prices as they are now."""
        return read_prices(self.symbol, self.params.prices)

    def ours(self, schema: int) -> tuple[pd.DataFrame, pd.Series]:
        """Features computed from prices, by a schema, and the target."""
        if schema not in self._ours:
            prices = self.prices.for_schema(schema)
            self._ours[schema] = build_features(prices, schema), next_day_return(prices)
        return self._ours[schema]

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
        source = self.ours(facts["feature_schema"]["version"]) if own else self.foresightx
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
    if schema not in SCHEMAS:
        msg = f"{who} was trained on features of schema {schema}; this fxhelpers computes {' and '.join(map(str, SCHEMAS))}"
        raise NotComparableError(msg)
    if (target["horizon_days"], target["units"]) != (HORIZON_DAYS, "fraction"):
        msg = f"{who} forecasts {target}; only next-day returns as fractions can be compared"
        raise NotComparableError(msg)


_MAX_CHALLENGERS = 50
_WARM_UPS, _BATCHES, _CALLS = 10, 30, 5
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
) -> EvaluationFrame:
    """Load versions, let each forecast from its own features, and keep the common days that none has seen.

    The first of these comes after the last day that any version was trained or
    chosen on, the forecast horizon and the policy's embargo. ``judged`` is the
    challenger to judge, by default the one with the lowest RMSE.

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
    replays = {version: one.replay(prices, accept_restated=chosen.accept_restated) for version, one in scored.items()}
    embargo = registry.params.promotion.evaluation.embargo_days
    days = _unseen(symbol, scored, chosen, embargo=embargo, rounding=_rounding(prices))
    first = judged if judged is not None else _best(days, challengers)
    best = scored[first]
    mean = best.model.facts.get("target", {}).get("training_mean")
    if mean is None:
        mean = best.days["target"].loc[: best.last_seen].mean()
    days.insert(1, ZERO, 0.0)
    days.insert(2, MEAN, float(mean) if pd.notna(mean) else 0.0)
    training = best.windows["training"]
    before = best.features.loc[training["first_day"] : training["last_day"]].dropna()
    return EvaluationFrame(
        symbol=symbol,
        challenger=first,
        champion=champion,
        others=tuple(version for version in challengers if version != first),
        days=days,
        facts={version: one.facts() for version, one in scored.items()},
        bundles={version: str(one.model.version.identity.bundle) for version, one in scored.items()},
        replayed={version: (replay.again, replay.stored) for version, replay in replays.items()},
        restated={version: replay.restated for version, replay in replays.items() if replay.restated},
        moved={version: replay.moved for version, replay in replays.items() if replay.stored},
        **_about_prices(prices, days.index[-1]),
        drift=population_stability(before, best.features.loc[days.index]),
        footprint=_footprint({column(v): scored[v] for v in (first, champion) if v is not None}, days.index[-1:]),
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


def _unseen(symbol: str, scored: Mapping[int, Scored], chosen: Selection, *, embargo: int, rounding: pd.Series) -> pd.DataFrame:
    """Return target and forecasts of the common days that no version has seen, within the selected ones."""
    common = pd.concat({column(v): one.days["forecast"] for v, one in scored.items()}, axis=1, join="inner")
    common.insert(0, TARGET, _target(symbol, scored, common.index, rounding))
    latest = max(one.last_seen for one in scored.values())
    first = int(common.index.searchsorted(latest, side="right")) + HORIZON_DAYS + embargo
    seen = ", ".join(f"version {v} up to {one.last_seen:%Y-%m-%d} ({one.basis})" for v, one in scored.items())
    if first >= len(common):
        last = f"the common days end on {common.index[-1]:%Y-%m-%d}" if len(common) else "there are no common days"
        msg = f"{symbol}: no unseen day to compare on: {last}; seen: {seen}. Wait for newer prices, or train with more test days"
        raise NotComparableError(msg)
    allowed = common.iloc[first:]
    if chosen.start and pd.Timestamp(chosen.start) < allowed.index[0] and pd.Timestamp(chosen.start) <= latest:
        saw = [f"version {v}" for v, one in scored.items() if one.last_seen >= pd.Timestamp(chosen.start)]
        msg = (
            f"{symbol}: {' and '.join(saw)} saw days from {chosen.start} on; seen: {seen}. The earliest possible start is "
            f"{allowed.index[0]:%Y-%m-%d}, after the forecast horizon and an embargo of {embargo} days"
        )
        raise NotComparableError(msg)
    selected = allowed.loc[chosen.start or None : chosen.end or None]
    if selected.empty:
        msg = (
            f"{symbol}: no day to compare on between {chosen.start or 'the first'} and {chosen.end or 'the last'}: the unseen "
            f"days are {allowed.index[0]:%Y-%m-%d} to {allowed.index[-1]:%Y-%m-%d}; seen: {seen}"
        )
        raise NotComparableError(msg)
    return selected.copy()


def _target(symbol: str, scored: Mapping[int, Scored], days: pd.Index, rounding: pd.Series) -> pd.Series:
    """Return the target, which must be the same for all versions, up to rounding."""
    (version, one), *others = scored.items()
    target = one.days["target"].reindex(days)
    allowed = ROUNDING + rounding.reindex(days).fillna(0.0)
    for other, rival in others:
        off = (rival.days["target"].reindex(days) - target).abs()
        if (off > allowed).any():
            day = pd.Timestamp(str(off.idxmax()))
            msg = (
                f"{symbol}: version {version} and version {other} forecast different returns: they differ by {off.max():.4%} on "
                f"{day:%Y-%m-%d}, and on {int((off > allowed).sum())} of {len(off)} days in all; use prices and a features file "
                "of the same share, adjusted in the same way"
            )
            raise NotComparableError(msg)
    return target


def _best(days: pd.DataFrame, challengers: Sequence[int]) -> int:
    errors = {version: float(((days[TARGET] - days[column(version)]) ** 2).mean()) for version in challengers}
    return min(errors, key=lambda version: (errors[version], version))


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
