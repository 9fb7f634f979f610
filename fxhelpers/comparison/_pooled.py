"""One test of a recipe over many symbols: their daily loss differences as one series."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.stats import norm

from fxhelpers.comparison._frame import TARGET, EvaluationFrame, column
from fxhelpers.comparison._tests import (
    INTERVAL,
    POWER,
    RESAMPLES,
    TestSpec,
    block_length,
    p_values,
    relative_gain,
    resampled_means,
    saved_so_far,
    tail,
    untestable,
)
from fxhelpers.errors import NotComparableError

_COLUMNS = ("difference", "saved", "symbols")
LEAST_SYMBOLS = 2
DOMINATES = 0.5  # share of the pooled difference, or 2 / symbols if that is more, above which one symbol dominates
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PooledResult:
    """Whether a recipe has lower squared errors than the champion's, on average over symbols."""

    symbols: tuple[str, ...]  # those pooled, in order
    left_out: dict[str, str] = field(default_factory=dict)  # symbol to why, in a few words
    # by Date: ``difference``, the series that is tested; ``saved``, the share of the champions' squared error that is saved, mean
    # over symbols; ``symbols``, the number of symbols with this day; empty if nothing is pooled
    days: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(_COLUMNS), dtype=float))
    p: float = math.nan  # one-sided; NaN if the test was not made
    why: str = ""  # why it was not made; "" if it was
    gain: float = math.nan  # fraction by which the RMSE is below the champions', mean over symbols, and its 95 % interval
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan  # gain that is detected with 80 % power at this level, if all symbols have the same
    largest: str = ""  # symbol with the largest part of the pooled difference
    share: float = math.nan  # that part, as a fraction of the whole
    block: int = 0  # mean length of the bootstrap's blocks, in days
    resamples: int = 0  # resamples drawn
    tail: bool = False  # whether these were too few for the level, so that p comes from the tail of Student's distribution
    digest: str = ""  # SHA-256 of symbols, days and losses

    def path(self) -> pd.DataFrame:
        """Return the pooled difference ``saved`` so far, by day, in standard deviations of a symbol's day; rising is better.

        ``low`` and ``high`` enclose 95 % of the paths of days without any
        difference; NaN if these cannot be resampled.
        """
        return saved_so_far(self.days["difference"])

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for :meth:`read`; None for numbers that are missing."""
        whole = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "days"}
        days = {"days": [f"{day:%Y-%m-%d}" for day in self.days.index], **{name: self.days[name].tolist() for name in _COLUMNS}}
        numbers = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in whole.items()}
        return {**numbers, "symbols": list(self.symbols), "series": days}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` returned."""
        whole, series = dict(stored), dict(stored["series"])
        index = pd.DatetimeIndex(series.pop("days"))
        del whole["series"]
        numbers = {key: math.nan for key, value in whole.items() if value is None}
        return cls(**{**whole, **numbers, "symbols": tuple(whole["symbols"])}, days=pd.DataFrame(series, index=index))


def losses(frame: EvaluationFrame) -> pd.DataFrame:
    """Return the squared errors of ``champion`` and ``challenger`` by day, in squared fractions of return.

    :class:`NotComparableError` without a champion.
    """
    if frame.champion is None:
        msg = f"{frame.symbol}: there is no champion whose errors version {frame.challenger} could be compared with"
        raise NotComparableError(msg)
    names = {"champion": column(frame.champion), "challenger": column(frame.challenger)}
    return pd.DataFrame({who: (frame.days[TARGET] - frame.days[name]) ** 2 for who, name in names.items()})


def pool(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    r"""Pool the loss differences of symbols, day by day: positive is better, and correlation between symbols is in the series.

    With d the champion's squared error minus the challenger's, and z = d
    divided by the standard deviation of its symbol's d, ``difference`` of a
    day is the mean of z over the symbols that have the day, times their number
    over its mean. So every z counts the same, and the mean over days is that
    of all z. (Without this factor, days with 3 of 50 symbols would weigh as
    much as any: three symbols with a longer past could decide for all. With
    it, their days weigh 3/50.)

    Parameters
    ----------
    found : mapping of DataFrame
        By symbol: ``champion`` and ``challenger``, squared errors by day, as :func:`losses` returns them.

    Returns
    -------
    DataFrame by day, as in :class:`PooledResult`. The mean of ``saved`` is the mean over symbols of the share of the champion's
    squared error that is saved.

    Examples
    --------
    >>> days = pd.bdate_range("2024-01-01", periods=4)
    >>> long = pd.DataFrame({"champion": [2.0, 1.0, 2.0, 1.0], "challenger": [1.0, 1.0, 1.0, 1.0]}, days)
    >>> pool({"A": long, "B": long.tail(2)})["symbols"].tolist()
    [1, 1, 2, 2]
    """
    differences = pd.DataFrame({symbol: table["champion"] - table["challenger"] for symbol, table in found.items()}).sort_index()
    errors = pd.Series({symbol: float(table["champion"].mean()) for symbol, table in found.items()})
    counts, present = differences.count(), differences.count(axis=1)
    per_symbol = len(differences) / len(counts)  # so that the mean over days is the mean over symbols of their means
    return pd.DataFrame(
        {
            "difference": (differences / differences.std()).sum(axis=1) / present.mean(),
            "saved": (differences / errors / counts).sum(axis=1) * per_symbol,
            "symbols": present,
        }
    )


def pooled_test(
    found: Mapping[str, pd.DataFrame], spec: TestSpec | None = None, left_out: Mapping[str, str] | None = None
) -> PooledResult:
    """Test whether the mean of the pooled difference is above zero, by the stationary bootstrap of a single symbol's test.

    It is not made, so that nothing can be promoted by it, if a loss is not a finite number (to leave its symbol out would be to
    choose by the result), with fewer than two symbols, or if one symbol decides it: if p is below the level, but more than half
    of the pooled difference is that symbol's own (two thirds among three symbols, all among two).

    Parameters
    ----------
    found : mapping of DataFrame
        By symbol, as for :func:`pool`. Symbols whose two forecasts make the same errors, or that have fewer than 30 days, are
        left out.
    spec : TestSpec, optional
        Level and fewest resamples; versus and margin have no effect.
    left_out : mapping of str to str, optional
        Symbols that were left out before, and why.

    Returns
    -------
    The result; its ``left_out`` has those of both.
    """
    spec = spec or TestSpec(test="stationary_bootstrap", versus="champion")
    reasons = {symbol: _unusable(table) for symbol, table in found.items()}
    kept = {symbol: table for symbol, table in found.items() if not reasons[symbol][0]}
    out = {**(left_out or {}), **{symbol: why for symbol, (why, _) in reasons.items() if why}}
    if broken := [f"{symbol}: {why}" for symbol, (why, closes) in reasons.items() if closes]:
        more = f", and {len(broken) - 1} more symbols" if len(broken) > 1 else ""
        return PooledResult(symbols=(), left_out=out, why=f"{broken[0]}{more}")
    if len(kept) < LEAST_SYMBOLS:
        return PooledResult(symbols=tuple(kept), left_out=out, why=f"{len(kept) or 'no'} symbol can be pooled, a test needs two")
    days = pool(kept)
    largest, share = _largest(kept)
    result = PooledResult(symbols=tuple(kept), left_out=out, days=days, largest=largest, share=share, digest=_digest(kept))
    result = replace(result, gain=relative_gain(float(days["saved"].mean()), 1.0))
    if why := untestable(days["difference"]):
        return replace(result, why=why)
    result = _tested(result, kept, spec)
    if result.p < spec.alpha and share > max(DOMINATES, 2 / len(kept)) * (1 + _ROUNDING):
        why = f"{largest} dominates: {100 * share:.0f} % of the pooled difference is its own"
        return replace(result, p=math.nan, why=why)
    return result


def _unusable(table: pd.DataFrame) -> tuple[str, bool]:
    """Return why a symbol cannot be pooled, "" if it can, and whether that forbids to pool the others."""
    values = table[["champion", "challenger"]].to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(values).all() or not np.isfinite(np.sum(values**4)):
            return "losses that are not finite, or too large to be compared", True
    return untestable(table["champion"] - table["challenger"]), False


def _largest(found: Mapping[str, pd.DataFrame]) -> tuple[str, float]:
    """Return the symbol with the largest part of the pooled difference, and that part; NaN unless the whole is positive."""
    differences = {symbol: table["champion"] - table["challenger"] for symbol, table in found.items()}
    parts = pd.Series({symbol: float(d.sum() / d.std()) for symbol, d in differences.items()})
    return str(parts.idxmax()), float(parts.max() / parts.sum()) if parts.sum() > 0 else math.nan


def _tested(result: PooledResult, found: Mapping[str, pd.DataFrame], spec: TestSpec) -> PooledResult:
    difference = result.days["difference"].rename("pooled")
    block = block_length(difference.to_frame())
    means, p, _ = p_values(difference, difference.to_frame() * 0, block, spec, 1)
    by_tail = spec.unresolved(float(p[0]), len(means))
    # the same days are drawn again, for the gain
    drawn = resampled_means(result.days[["saved"]], block, min(len(means), RESAMPLES))
    low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    power = float(norm.ppf(1 - spec.alpha) + norm.ppf(POWER))
    # of an equal share saved by every symbol, this is what one unit adds to the mean difference
    unit = sum(len(t) * float(t["champion"].mean() / (t["champion"] - t["challenger"]).std()) for t in found.values())
    unit /= sum(map(len, found.values()))
    return replace(
        result,
        p=_tail(difference) if by_tail else float(p[0]),
        low=relative_gain(float(low), 1.0),
        high=relative_gain(float(high), 1.0),
        detectable=0.5 * power * float(means.std(ddof=1)) / unit,
        block=block,
        resamples=len(means),
        tail=by_tail,
    )


def _tail(difference: pd.Series) -> float:
    """Return p from the tail of Student's distribution, of a series: of errors whose squares differ by it."""
    zero, rival, forecast = difference * 0, difference.clip(lower=0) ** 0.5, (-difference).clip(lower=0) ** 0.5
    return tail(zero, rival, forecast)


def _digest(found: Mapping[str, pd.DataFrame]) -> str:
    digest = hashlib.sha256()
    for symbol, table in sorted(found.items()):
        days = table.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = np.ascontiguousarray(table[["champion", "challenger"]].to_numpy(), dtype="<f4")  # the last digits may differ
        digest.update(f"{symbol}\n".encode() + days.tobytes() + values.tobytes())
    return digest.hexdigest()
