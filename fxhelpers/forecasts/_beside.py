"""The live records of what serves and of what served before it, shown with a comparison; no gate reads them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np
import pandas as pd

from fxhelpers.display import Keyed, Table, paragraphs
from fxhelpers.errors import FxError, RegistryUnavailableError
from fxhelpers.forecasts._live import earlier_losses, live_record, saved
from fxhelpers.forecasts._log import read_log
from fxhelpers.ledger import Identity, Ledger, Tenure
from fxhelpers.params import WatchParams, model_name
from fxhelpers.prices import SharePrices, read_prices
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import load_version
from fxhelpers.system import utc_now
from fxhelpers.watching import Word, excess_losses, watch

_MOST = 2  # tenures: of the champion, and of the one before


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStanding(Keyed):
    """What the live forecasts of one version's tenure came to."""

    role: str  # champion, predecessor, or predecessor on the champion's days
    version: Identity  # the last one of the tenure
    missed: int  # sessions that do not count: late, without a forecast, a number or a return
    days: int = 0  # live days: forecast before the session opened, and the return is known
    first: str = ""  # first live day, YYYY-MM-DD; "" without one
    last: str = ""  # last live day, YYYY-MM-DD; "" without one
    saved: float = math.nan  # squared error saved against forecasting zero, as a fraction of its own; NaN without a live day
    word: Word = "too early to tell"  # evidence that it is worse than forecasting zero


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStandings(Keyed):
    """The live records of a symbol's champion and of its predecessor."""

    symbol: str
    standings: tuple[LiveStanding, ...] = field(repr=False)  # the champion's first
    why: str  # why there is none, in a sentence; "" if there is one

    @property
    def days(self) -> int:
        """Live days of the champion."""
        return next((one.days for one in self.standings if one.role == "champion"), 0)

    @property
    def saved(self) -> float | None:
        """Squared error that the champion saved against forecasting zero, as a fraction of its own; None without a live day."""
        found = next((one.saved for one in self.standings if one.role == "champion"), math.nan)
        return found if math.isfinite(found) else None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per record, for people."""
        rows = {
            f"{one.role}: {one.version}": {
                "live days": one.days,
                "first": one.first,
                "last": one.last,
                "saved against zero": f"{one.saved:+.2%}" if math.isfinite(one.saved) else "-",
                "evidence": one.word,
                "missed": one.missed,
            }
            for one in self.standings
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        return self.why or repr(Table(self.to_frame()))

    def _repr_html_(self) -> str:
        return paragraphs([self.why]) if self.why else Table(self.to_frame())._repr_html_()


def live_standings(registry: RegistryClient, symbol: str) -> LiveStandings:
    """Return what the live forecasts of a symbol's champion and of its predecessor came to; read only."""
    ledger = read_ledger(registry, model_name(symbol))
    tenures = _tenures(ledger)
    since = min((tenure.since[:10] for tenure, _ in tenures), default="")
    log = read_log(registry, since=since).of(symbol) if tenures else None
    if log is None or log.rows.empty:
        return LiveStandings(symbol=symbol, standings=(), why=_none(symbol))
    try:
        prices = read_prices(symbol, registry.params.prices)
    except FxError as error:
        return LiveStandings(symbol=symbol, standings=(), why=" ".join(f"Not measured: {error}".split())[:300])
    found: list[LiveStanding] = []
    measured = partial(_standing, registry.params.watch, cache(partial(_earlier, registry, prices)))
    for number, (tenure, until) in enumerate(tenures):
        live = live_record(log, symbol, replace(tenure, after=""), prices)  # all of it: an alarm in it stays one
        end = until[:10] or utc_now()[:10]  # what came later is not of this tenure
        missed = sum(day <= end for days in live.gaps.values() for day in days)
        days, serves = live.days.loc[:end], number == 0 and ledger.tenure is not None
        if serves or len(days):
            one = LiveStanding(role="champion" if serves else "predecessor", version=tenure.versions[-1], missed=missed)
            found.append(measured(one, days))
        both = days.dropna()
        if serves and tenure.predecessor is not None and len(both):
            one = LiveStanding(role="predecessor, on the champion's days", version=tenure.predecessor, missed=missed)
            found.append(measured(one, both.assign(forecast=both["predecessor"])))
    return LiveStandings(symbol=symbol, standings=tuple(found), why="" if found else _none(symbol))


def _none(symbol: str) -> str:
    return f"No forecast of a champion of {symbol} is on record: fx forecast {symbol}, every evening, records them."


def _tenures(ledger: Ledger) -> list[tuple[Tenure, str]]:
    """Return the last tenures, the newest first, each with its end: ISO 8601, "" if it goes on."""
    found: list[tuple[Tenure, str]] = []
    until = ""
    while len(found) < _MOST:
        part = replace(ledger, decisions=tuple(d for d in ledger.decisions if not until or d.time < until))
        if (tenure := part.tenure) is not None:
            found.append((tenure, until))
            until = tenure.since
        elif moves := [d.moved_at for d in part.outcomes if d.moved_at]:
            until = max(moves)
        else:
            break
    return found


def _standing(
    rules: WatchParams, earlier: Callable[[Identity], np.ndarray], one: LiveStanding, days: pd.DataFrame
) -> LiveStanding:
    """Fill in what came of these days."""
    excess = excess_losses(days["actual"], days["forecast"])
    found = watch(excess, earlier(one.version) if len(days) else np.empty(0), alpha=rules.alpha, years=rules.years)
    names = [f"{day:%Y-%m-%d}" for day in days.index]
    return replace(
        one,
        days=len(days),
        first=names[0] if names else "",
        last=names[-1] if names else "",
        saved=saved(days),
        word=found.word,
    )


def _earlier(registry: RegistryClient, prices: SharePrices, version: Identity) -> np.ndarray:
    """Return the excess losses of a version's rolling-origin days; none if it does not load, as one that was deleted."""
    try:
        model = load_version(registry, model_name(prices.symbol), version.number)
    except RegistryUnavailableError:
        raise
    except FxError:
        return np.empty(0)
    earlier = earlier_losses(model, prices)
    return excess_losses(earlier["actual"], earlier["forecast"]).to_numpy()
