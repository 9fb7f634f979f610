"""From versions to one evaluation frame, with their latency, size and memory."""

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
from fxhelpers.scoring._inputs import Scored, VersionInputs, day_of

_WARM_UPS, _BATCHES, _CALLS = 10, 30, 5
_LONGEST = 1.5  # seconds


def footprint(models: Mapping[str, LoadedModel], day: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Measure versions beside each other, within two seconds.

    Latency is the median over batches of the mean time of a call for one
    day, in one thread; the versions take turns, so that what else the machine
    does hits all alike. Ratios below 1.15 are noise.

    Parameters
    ----------
    models : dict of str to RegisteredModel
        By column of the evaluation frame.
    day : dict of str to DataFrame of shape (1, n_features)
        Raw features of one day for each.

    Returns
    -------
    DataFrame
        One row a version: ``artifact_bytes``, ``load_memory`` (bytes, at most,
        while it is read) and ``latency`` (seconds).
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    end = time.perf_counter() + _LONGEST
    with threadpool_limits(1):
        for name, model in models.items():
            _call(model, day[name], _WARM_UPS)
        for _ in range(_BATCHES):
            for name, model in models.items():
                times[name].append(_call(model, day[name], _CALLS) / _CALLS)
            if time.perf_counter() > end:
                break
    rows = {
        name: {
            "artifact_bytes": float(len(model.content)),
            "load_memory": float(_memory(model)),
            "latency": float(np.median(times[name])),
        }
        for name, model in models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _call(model: LoadedModel, day: pd.DataFrame, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        model.pipeline.predict(day)
    return time.perf_counter() - start


def _memory(model: LoadedModel) -> int:
    """Return the most bytes that were held at once while an estimator was read."""
    tracemalloc.start()
    try:
        model.load_again()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MOST_CHALLENGERS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is to be compared, and on which days; what is left out is chosen.

    Attributes
    ----------
    version : int or None
        To judge. None: the challenger that was registered last, or, with
        ``challengers``, the best of these.
    champion : int or None
        To compare with. None: the one in Production.
    challengers : tuple of int
        Versions to test at once.
    start, end : str
        First and last day of the evaluation window, YYYY-MM-DD; "": all that
        no version has seen.
    training_end : str
        Last day, YYYY-MM-DD, on which versions were trained that do not say
        so; "": it is derived.
    """

    version: int | None = None
    champion: int | None = None
    challengers: tuple[int, ...] = ()
    start: str = ""
    end: str = ""
    training_end: str = ""

    def __post_init__(self) -> None:
        for name in ("start", "end", "training_end"):
            if getattr(self, name):
                day_of(name, getattr(self, name))
        if self.start and self.end and day_of("start", self.start) > day_of("end", self.end):
            msg = f"start: {self.start} lies after end: {self.end}"
            raise ParamsError(msg)
        if len(self.challengers) > MOST_CHALLENGERS:
            msg = f"challengers: at most {MOST_CHALLENGERS} at once, found {len(self.challengers)}"
            raise ParamsError(msg)
        for name in ("version", "champion"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_version(name, getattr(self, name)))
        object.__setattr__(self, "challengers", tuple(check_version("challengers", number) for number in self.challengers))

    def told(self) -> dict[str, object]:
        """Return what was chosen by hand, as JSON can hold it."""
        chosen = {"champion": self.champion, "challengers": list(self.challengers), "start": self.start, "end": self.end}
        return {key: value for key, value in {**chosen, "training_end": self.training_end}.items() if value}


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
    """Load the versions, let each forecast from its own features, and keep the common days that none has seen.

    The first of these lies more than the forecast's horizon and the policy's
    embargo after the last day that any of the versions was trained or chosen
    on. Judged is the given challenger, or the one with the lowest RMSE.

    :class:`NotComparableError` where a version forecasts something else, its
    features are not at hand, or it saw the days that were asked for, or all
    that there are; :class:`PredictionsChangedError` where one does not give
    its stored forecasts again.
    """
    chosen = selection or Selection()
    inputs = VersionInputs(symbol, registry.params, training_end=chosen.training_end)
    versions = [*challengers, *([champion] if champion is not None else [])]
    scored = {version: inputs.score(load_version(registry, name, version)) for version in versions}
    replayed = {version: one.replay() for version, one in scored.items()}
    days = _unseen(symbol, scored, chosen, embargo=registry.params.promotion.evaluation.embargo_days)
    first = judged if judged is not None else _best(days, challengers)
    others = tuple(version for version in challengers if version != first)
    best = scored[first]
    mean = best.model.facts.get("target", {}).get("training_mean")
    if mean is None:
        mean = best.days["target"].loc[: best.last_seen].mean()
    days.insert(1, ZERO, 0.0)
    days.insert(2, MEAN, float(mean) if pd.notna(mean) else 0.0)
    pair = {column(version): scored[version] for version in (first, champion) if version is not None}
    return EvaluationFrame(
        symbol=symbol,
        challenger=first,
        champion=champion,
        others=others,
        days=days,
        facts={version: one.facts() for version, one in scored.items()},
        bundles={version: str(one.model.version.identity.bundle) for version, one in scored.items()},
        replayed=replayed,
        drift=_drift(best, days.index),
        footprint=footprint(
            {who: one.model for who, one in pair.items()}, {who: one.features.loc[days.index[-1:]] for who, one in pair.items()}
        ),
    )


def _unseen(symbol: str, scored: Mapping[int, Scored], chosen: Selection, *, embargo: int) -> pd.DataFrame:
    """Return target and forecasts of the common days that no version has seen, within those that were asked for."""
    common = pd.concat({column(v): one.days["forecast"] for v, one in scored.items()}, axis=1, join="inner")
    common.insert(0, TARGET, _target(symbol, scored, common.index))
    latest = max(one.last_seen for one in scored.values())
    first = int(common.index.searchsorted(latest, side="right")) + HORIZON_DAYS + embargo
    who = ", ".join(f"version {v} up to {one.last_seen:%Y-%m-%d} ({one.basis})" for v, one in scored.items())
    if first >= len(common):
        last = f"the common days end on {common.index[-1]:%Y-%m-%d}" if len(common) else "there are no common days"
        do = "wait for newer prices, or train with more test days"
        msg = f"{symbol}: no day is left to compare on: {last}, and seen were {who}; {do}"
        raise NotComparableError(msg)
    allowed = common.iloc[first:]
    if chosen.start and pd.Timestamp(chosen.start) < allowed.index[0] and pd.Timestamp(chosen.start) <= latest:
        saw = [f"version {v}" for v, one in scored.items() if one.last_seen >= pd.Timestamp(chosen.start)]
        msg = (
            f"{symbol}: {' and '.join(saw)} saw days from {chosen.start} on: seen were {who}. A comparison may start on "
            f"{allowed.index[0]:%Y-%m-%d}, after the forecast's horizon and an embargo of {embargo} days"
        )
        raise NotComparableError(msg)
    asked = allowed.loc[chosen.start or None : chosen.end or None]
    if asked.empty:
        msg = (
            f"{symbol}: no day to compare on between {chosen.start or 'the first'} and {chosen.end or 'the last'}: those that no "
            f"version has seen reach from {allowed.index[0]:%Y-%m-%d} to {allowed.index[-1]:%Y-%m-%d} (seen were {who})"
        )
        raise NotComparableError(msg)
    return asked.copy()


def _target(symbol: str, scored: Mapping[int, Scored], days: pd.Index) -> pd.Series:
    """Return the target, which all versions have to agree on."""
    (version, one), *others = scored.items()
    target = one.days["target"].reindex(days)
    for other, its in others:
        off = (its.days["target"].reindex(days) - target).abs()
        if (off > ROUNDING).any():
            day = pd.Timestamp(str(off.idxmax()))
            msg = (
                f"{symbol}: version {version} and version {other} are to forecast different returns: on {day:%Y-%m-%d} they "
                f"differ by {off.max():.4%}, and on {int((off > ROUNDING).sum())} of {len(off)} days in all; prices and "
                "features file have to be of the same share, adjusted in the same way"
            )
            raise NotComparableError(msg)
    return target


def _best(days: pd.DataFrame, challengers: Sequence[int]) -> int:
    errors = {version: float(((days[TARGET] - days[column(version)]) ** 2).mean()) for version in challengers}
    return min(errors, key=lambda version: (errors[version], version))


def _drift(one: Scored, days: pd.Index) -> pd.DataFrame:
    training = one.windows["training"]
    before = one.features.loc[training["first_day"] : training["last_day"]].dropna()
    return population_stability(before, one.features.loc[days])
