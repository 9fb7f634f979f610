"""From versions' forecasts to one evaluation frame: the common days that no forecast has seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fxhelpers.comparison import MEAN, ROUNDING, TARGET, ZERO, EvaluationFrame, column
from fxhelpers.errors import NotComparableError
from fxhelpers.features import HORIZON_DAYS
from fxhelpers.params import PromotionParams
from fxhelpers.training import Rolling

RECORDED = "recorded by its training"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """The forecasts of one version, and what is known of its training."""

    about: dict[str, Any]  # what its training recorded
    days: pd.DataFrame  # ``target`` and ``forecast``, as fractions of return, by date: all days that it can forecast
    windows: dict[str, dict[str, str]]  # ``training``, and ``validation`` if it is known: first and last day
    last_seen: pd.Timestamp  # last day that it was trained or chosen on
    basis: str = RECORDED  # source of ``last_seen``
    recipe: str  # SHA-256 of its recipe; "" if it is not wholly known
    rolling: Rolling | None  # the rolling-origin forecasts of its recipe; None if it has none

    def unseen(self, embargo: int) -> pd.Series:
        """Return the forecasts that count: its recipe's rolling-origin ones, and its own of days that it has not seen."""
        own = self.days["forecast"]
        own = own.iloc[int(own.index.searchsorted(self.last_seen, side="right")) + HORIZON_DAYS + embargo :]
        return own if self.rolling is None else pd.concat([self.rolling.forecasts, own])

    def mean(self, days: pd.Index) -> pd.Series:
        """Return the mean return that was known before each day, from its training, or from each origin."""
        known = self.about.get("target", {}).get("training_mean")
        if known is None:
            known = self.days["target"].loc[: self.last_seen].mean()
        constant = pd.Series(float(known) if pd.notna(known) else 0.0, days)
        return constant if self.rolling is None else self.rolling.means.reindex(days).fillna(constant)

    def facts(self) -> dict[str, Any]:
        """Return what its training recorded, with its windows and the last day that it has seen."""
        seen: dict[str, Any] = {"last_day": f"{self.last_seen:%Y-%m-%d}", "basis": self.basis, "recorded": self.basis == RECORDED}
        if self.rolling is not None:
            seen["origins"] = [origin.day for origin in self.rolling.origins]
        return {**self.about, "windows": self.windows, "seen": seen}


def refreshed(
    known: Mapping[int, Evidence], challengers: Sequence[int], champion: int | None, rules: PromotionParams
) -> int | None:
    """Return the champion if the one challenger is a refit of its recipe, with the forecasts that show it; else None."""
    if champion is None or len(challengers) != 1 or rules.refresh != "allow":
        return None
    ours, theirs = known[challengers[0]], known[champion]
    return champion if ours.recipe and ours.recipe == theirs.recipe and ours.rolling is not None else None


def frame_of(
    symbol: str,
    known: Mapping[int, Evidence],
    *,
    challengers: Sequence[int],
    champion: int | None,
    refreshes: int | None,
    embargo: int,
    start: str = "",
    end: str = "",
    judged: int | None = None,
    rounding: pd.Series | None = None,
) -> EvaluationFrame:
    """Return the common days on which no forecast has seen its day, between ``start`` and ``end``.

    ``champion`` is None in a refresh, which measures its challenger alone;
    ``refreshes`` is then the champion. ``judged`` is the challenger to judge,
    by default the one with the lowest RMSE; targets may differ by the
    ``rounding`` of each day.

    :class:`NotComparableError` if there is no such day, or targets differ.
    """
    counted = {version: one for version, one in known.items() if version != refreshes}
    no_rounding = pd.Series(dtype=float)
    days = _unseen(symbol, counted, start, end, embargo=embargo, rounding=no_rounding if rounding is None else rounding)
    first = judged if judged is not None else _best(days, challengers)
    best = known[first]
    days.insert(1, ZERO, 0.0)
    days.insert(2, MEAN, best.mean(days.index))
    return EvaluationFrame(
        symbol=symbol,
        challenger=first,
        champion=champion,
        others=tuple(version for version in challengers if version != first),
        days=days,
        facts={version: one.facts() for version, one in known.items()},
        refreshes=refreshes,
        recipes={version: one.recipe for version, one in known.items()},
        size=float(best.about["size"]) if best.rolling else math.nan,
        sizes=tuple(origin.size for origin in best.rolling.origins) if best.rolling else (),
    )


def _unseen(
    symbol: str, known: Mapping[int, Evidence], start: str, end: str, *, embargo: int, rounding: pd.Series
) -> pd.DataFrame:
    """Return target and forecasts of the common days that no forecast has seen, within the selected ones."""
    evidence = {version: one.unseen(embargo) for version, one in known.items()}
    common = pd.concat([one.days["target"] for one in known.values()], axis=1, join="inner").index
    allowed = pd.concat({column(v): found for v, found in evidence.items()}, axis=1, join="inner")
    allowed = allowed.loc[allowed.index.intersection(common)]
    if len(known) > 1 and len({one.recipe if one.rolling else number for number, one in known.items()}) == 1:
        first_fit = min(one.last_seen for one in known.values())  # until then, the forecasts of one recipe are the same
        allowed = allowed.loc[allowed.index > first_fit]
    seen = ", ".join(_seen(version, one) for version, one in known.items())
    if allowed.empty:
        last = f"the common days end on {common[-1]:%Y-%m-%d}" if len(common) else "there are no common days"
        msg = f"{symbol}: no unseen day to compare on: {last}; seen: {seen}. Wait for newer prices, or train with more test days"
        raise NotComparableError(msg)
    allowed.insert(0, TARGET, _target(symbol, known, allowed.index, rounding))
    if start and pd.Timestamp(start) < allowed.index[0]:
        latest = max(found.index[0] for found in evidence.values())
        saw = [f"version {v}" for v, found in evidence.items() if found.index[0] == latest]
        msg = (
            f"{symbol}: {' and '.join(saw)} saw days from {start} on; seen: {seen}. The earliest possible start is "
            f"{allowed.index[0]:%Y-%m-%d}, after the forecast horizon and an embargo of {embargo} days"
        )
        raise NotComparableError(msg)
    selected = allowed.loc[start or None : end or None]
    if selected.empty:
        msg = (
            f"{symbol}: no day to compare on between {start or 'the first'} and {end or 'the last'}: the unseen "
            f"days are {allowed.index[0]:%Y-%m-%d} to {allowed.index[-1]:%Y-%m-%d}; seen: {seen}"
        )
        raise NotComparableError(msg)
    return selected.copy()


def _seen(version: int, one: Evidence) -> str:
    if one.rolling is not None:
        return f"version {version}'s recipe up to {one.rolling.forecasts.index[0]:%Y-%m-%d}, its first rolling-origin forecast"
    return f"version {version} up to {one.last_seen:%Y-%m-%d} ({one.basis})"


def _target(symbol: str, known: Mapping[int, Evidence], days: pd.Index, rounding: pd.Series) -> pd.Series:
    """Return the target, which must be the same for all versions, up to rounding."""
    (version, one), *others = known.items()
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
