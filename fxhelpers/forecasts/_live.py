"""The live record of a symbol: what was forecast before its session opened, by what served, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fxhelpers.comparison import ROUNDING
from fxhelpers.features import next_day_return
from fxhelpers.forecasts._log import CHAMPION, PREDECESSOR, Log, version_of
from fxhelpers.ledger import Tenure
from fxhelpers.prices import SharePrices, sessions_of
from fxhelpers.registry.pipelines import LoadedModel
from fxhelpers.watching import excess_losses

_COLUMNS = ["actual", "forecast", "version", "predecessor"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveRecord:
    """Live forecasts of a tenure, and the returns that came."""

    symbol: str
    tenure: Tenure
    # index: session. ``actual`` return, ``forecast`` and ``predecessor`` (that of the champion before; NaN: none) as fractions,
    # and the ``version`` that forecast
    days: pd.DataFrame = field(repr=False)
    gaps: Mapping[str, tuple[str, ...]] = field(repr=False)  # by why a session of the tenure does not count: its days, YYYY-MM-DD
    pending: pd.DataFrame = field(repr=False)  # live forecasts whose return is not known yet, as in ``Log.counted``
    restated: str  # how far prices of then and of now differ, in a sentence; "" if they do not

    @property
    def missed(self) -> str:
        """How many sessions do not count, and why, in a sentence; "" if all do."""
        parts = [f"{len(days)} {why}, last {days[-1]}" for why, days in self.gaps.items() if days]
        return f"Sessions that do not count: {'; '.join(parts)}." if parts else ""


def live_record(log: Log, symbol: str, tenure: Tenure, prices: SharePrices) -> LiveRecord:
    """Join the live forecasts of a tenure with the returns of one download of prices."""
    log = log.of(symbol)
    every = log.counted(CHAMPION)
    rows = every[(every["made_at"] > tenure.since) & (every["session"] > tenure.after)].set_index("session")
    served = np.array([_served(row, tenure) for row in rows.itertuples()], dtype=bool)
    live = rows[rows["live"] & rows["forecast"].notna() & served]
    close = prices.frame["Close"]
    names = pd.Index([f"{day:%Y-%m-%d}" for day in close.index])
    returns = pd.DataFrame({"as_of_now": [None, *names[:-1]], "actual": close.pct_change().to_numpy()}, index=names)
    traded = _traded(prices.frame)
    last = names[-1] if len(names) else ""
    pending = live[live.index > last]
    known = live[live.index <= last].join(returns)
    counts = (known["as_of"] == known["as_of_now"]) & known.index.isin(names[traded])
    days = known[counts].assign(predecessor=_shadow(log, tenure).reindex(known.index[counts]))
    days.index = pd.DatetimeIndex(days.index, name="session")
    expected = _expected(prices, tenure)
    gaps = {
        "without a return": tuple(known.index[~counts]),
        "late": tuple(rows.index[rows["forecast"].notna() & ~rows["live"]]),
        "without a number": tuple(rows.index[rows["forecast"].isna()]),
        "without a forecast": tuple(expected.difference(pd.Index(every["session"]))),
    }
    return LiveRecord(
        symbol=symbol,
        tenure=tenure,
        days=days[_COLUMNS].astype({"actual": float, "forecast": float, "predecessor": float}),
        gaps=gaps,
        pending=pending,
        restated=_restated(known[counts], returns["actual"], prices),
    )


def earlier_losses(model: LoadedModel, prices: SharePrices) -> pd.DataFrame:
    """Return ``actual`` and ``forecast`` of the rolling-origin days of a version's recipe, by day; empty without any."""
    rolling = model.probe.rolling if model.probe is not None else None
    if rolling is None:
        return pd.DataFrame({"actual": pd.Series(dtype=float), "forecast": pd.Series(dtype=float)})
    target = next_day_return(prices.frame).reindex(rolling.forecasts.index)
    return pd.DataFrame({"actual": target, "forecast": rolling.forecasts}).dropna()


def saved(days: pd.DataFrame) -> float:
    """Return the squared error that live days saved against forecasting zero, as a fraction of its own; NaN without a day."""
    zero = float((days["actual"] ** 2).sum())
    return -float(excess_losses(days["actual"], days["forecast"]).sum()) / zero if zero else np.nan


def _served(row: object, tenure: Tenure) -> bool:
    return any(version.may_be(version_of(row)) for version in tenure.versions)


def _shadow(log: Log, tenure: Tenure) -> pd.Series:
    """Return the live forecasts of the champion before, by session."""
    if tenure.predecessor is None:
        return pd.Series(dtype=float)
    rows = log.counted(PREDECESSOR)
    rows = rows[(rows["made_at"] > tenure.since) & (rows["session"] > tenure.after) & rows["live"]]
    rows = rows[np.array([tenure.predecessor.may_be(version_of(row)) for row in rows.itertuples()], dtype=bool)]
    return rows.set_index("session")["forecast"]


def _traded(frame: pd.DataFrame) -> np.ndarray:
    """Return on which days the share was traded: a halted one has no volume, and its close does not change."""
    halted = (frame["Volume"] == 0) & (frame["Close"].diff() == 0)
    return ~halted.to_numpy() if (frame["Volume"] > 0).any() else np.ones(len(frame), dtype=bool)


def _expected(prices: SharePrices, tenure: Tenure) -> pd.Index:
    """Return the sessions that could have a live forecast: after the day on which the tenure began, up to the last price."""
    days = pd.DatetimeIndex(prices.frame.index)
    sessions = sessions_of(prices.calendar, days)
    sessions = days if sessions is None else sessions[sessions <= days[-1]]
    return pd.Index([f"{day:%Y-%m-%d}" for day in sessions[sessions > pd.Timestamp(max(tenure.since[:10], tenure.after))]])


def _restated(known: pd.DataFrame, returns: pd.Series, prices: SharePrices) -> str:
    """Compare the return of each forecast's last session, by the prices of then, with that of now."""
    now = returns.reindex(known["as_of"]).to_numpy()
    off = np.abs(now - known["last_return"].to_numpy())
    precision = (prices.precision + prices.precision.shift(1)).set_axis(returns.index)
    wrong = off > 2 * precision.reindex(known["as_of"]).to_numpy() + ROUNDING
    if not wrong.any():
        return ""
    most = int(np.nanargmax(off))
    return (
        f"Prices were restated since their forecasts on {int(wrong.sum())} of {len(off)} days: the return of "
        f"{known['as_of'].iloc[most]} was {known['last_return'].iloc[most]:+.3%} then, and is {now[most]:+.3%} now. Returns "
        "here are those of now."
    )
