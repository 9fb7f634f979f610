"""The evaluation frame of some versions, with their latency, size and memory."""

import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fxhelpers.comparison import MEAN, ROUNDING, TARGET, ZERO, EvaluationFrame, column, population_stability
from fxhelpers.errors import NotComparableError, ParamsError
from fxhelpers.features import HORIZON_DAYS
from fxhelpers.params import check_version
from fxhelpers.registry import LoadedModel, RegistryClient, load_version
from fxhelpers.scoring._inputs import Scored, VersionInputs, parse_day

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

    def __post_init__(self) -> None:
        days = {name: parse_day(name, text) for name in ("start", "end", "training_end") if (text := getattr(self, name))}
        if "start" in days and "end" in days and days["start"] > days["end"]:
            msg = f"start: {self.start} is after end: {self.end}"
            raise ParamsError(msg)
        if len(self.challengers) > _MAX_CHALLENGERS:
            msg = f"challengers: at most {_MAX_CHALLENGERS} at once, found {len(self.challengers)}"
            raise ParamsError(msg)
        for name in ("version", "champion"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_version(name, getattr(self, name)))
        object.__setattr__(self, "challengers", tuple(check_version("challengers", number) for number in self.challengers))

    def to_json(self) -> dict[str, object]:
        """Return everything but ``version`` that was passed, for JSON."""
        passed = {"champion": self.champion, "challengers": list(self.challengers), "start": self.start, "end": self.end}
        return {key: value for key, value in {**passed, "training_end": self.training_end}.items() if value}


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
    replayed = {version: one.replay() for version, one in scored.items()}
    days = _unseen(symbol, scored, chosen, embargo=registry.params.promotion.evaluation.embargo_days)
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
        replayed=replayed,
        drift=population_stability(before, best.features.loc[days.index]),
        footprint=_footprint({column(v): scored[v] for v in (first, champion) if v is not None}, days.index[-1:]),
    )


def _unseen(symbol: str, scored: Mapping[int, Scored], chosen: Selection, *, embargo: int) -> pd.DataFrame:
    """Return target and forecasts of the common days that no version has seen, within the selected ones."""
    common = pd.concat({column(v): one.days["forecast"] for v, one in scored.items()}, axis=1, join="inner")
    common.insert(0, TARGET, _target(symbol, scored, common.index))
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


def _target(symbol: str, scored: Mapping[int, Scored], days: pd.Index) -> pd.Series:
    """Return the target, which must be the same for all versions."""
    (version, one), *others = scored.items()
    target = one.days["target"].reindex(days)
    for other, rival in others:
        off = (rival.days["target"].reindex(days) - target).abs()
        if (off > ROUNDING).any():
            day = pd.Timestamp(str(off.idxmax()))
            msg = (
                f"{symbol}: version {version} and version {other} forecast different returns: they differ by {off.max():.4%} on "
                f"{day:%Y-%m-%d}, and on {int((off > ROUNDING).sum())} of {len(off)} days in all; use prices and a features file "
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
    measured = {
        name: {
            "artifact_bytes": float(len(one.model.content)),
            "load_memory": _load_memory(one.model),
            "latency": float(np.median(times[name])),
        }
        for name, one in scored.items()
    }
    return pd.DataFrame.from_dict(measured, orient="index")


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
