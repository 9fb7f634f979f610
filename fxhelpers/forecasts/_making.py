"""Forecasts of the next session by what is in Production: each symbol gives a number, or the reason why there is none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from fxhelpers.decisions import serving
from fxhelpers.errors import FxError, NoChampionError, NotComparableError, PriceDataError, RegistryUnavailableError
from fxhelpers.features import LOOK_BACK_DAYS
from fxhelpers.forecasts._log import CHAMPION, PREDECESSOR, Row, in_a_line
from fxhelpers.forecasts._many import each
from fxhelpers.inputs import features_for
from fxhelpers.ledger import Identity, Ledger
from fxhelpers.params import model_name
from fxhelpers.prices import SharePrices, next_session, prices_digest, read_prices
from fxhelpers.registry import ModelVersion, RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import load_found, load_version
from fxhelpers.registry.pipelines import LoadedModel
from fxhelpers.training import recipe_columns

_PASSING = ("gaps", "no_volume", "repeated", "stuck")  # doubts that spoil no feature for long: prices keep their scale,
_RECENT = 5  # so that they count on these days only
TOO_OLD = "prices end on"
"""In the reason why there is no number: prices have to be updated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to forecast of one symbol."""

    symbol: str
    days: Sequence[str]  # last session whose prices are used, YYYY-MM-DD: each forecast is of the session after it
    # who served at its last forecasts on record, the champion and its predecessor, so that its ledger need not be read
    known: tuple[Identity, Identity | None] | None = None
    accept_doubts: bool = False  # forecast on doubtful prices


def make_rows(
    registry: RegistryClient, wanted: Sequence[Wanted], progress: Callable[[int, int], None] | None = None
) -> list[Row]:
    """Forecast by the champions, and by the champions before them, on all cores for many symbols."""
    return [row for rows in each(registry, _rows, wanted, progress) for row in rows]


def _rows(registry: RegistryClient, wanted: Wanted) -> list[Row]:
    """Forecast one symbol; an error is the reason in its rows, unless the registry is away."""
    calendar = registry.params.prices.calendar
    blank = Row(
        session="",
        symbol=wanted.symbol,
        role=CHAMPION,
        forecast=math.nan,
        why="",
        model=model_name(wanted.symbol),
        version=0,
        as_of="",
        bundle_sha256="",
        recipe_sha256="",
        prices_sha256="",
        last_return=math.nan,
    )
    blanks = [blank._replace(session=f"{next_session(calendar, pd.Timestamp(day)):%Y-%m-%d}", as_of=day) for day in wanted.days]
    try:
        found = serving(registry, blank.model)
        if found is None:
            raise NoChampionError(_why_none(wanted.symbol, read_ledger(registry, blank.model)))
        bundle = str(found.identity.bundle or "")
        blanks = [row._replace(version=found.version, bundle_sha256=bundle) for row in blanks]  # also if it cannot be loaded
        champion, predecessor = _models(registry, wanted, found)
        blanks = [row._replace(**_of(champion)) for row in blanks]
        prices = read_prices(wanted.symbol, registry.params.prices, end=wanted.days[-1])
    except RegistryUnavailableError:
        raise
    except FxError as error:
        return [row._replace(why=in_a_line(error)) for row in blanks]
    rows = [_forecast(registry, row, champion, prices, accept_doubts=wanted.accept_doubts) for row in blanks]
    if predecessor is None:
        return rows
    others = [row._replace(role=PREDECESSOR, **_of(predecessor)) for row in rows if not math.isnan(row.forecast)]
    return rows + [_forecast(registry, row, predecessor, prices, accept_doubts=wanted.accept_doubts) for row in others]


def _models(registry: RegistryClient, wanted: Wanted, found: ModelVersion) -> tuple[LoadedModel, LoadedModel | None]:
    """Load the champion, which was found, and its predecessor."""
    name = found.name
    champion = load_found(registry, found)
    if wanted.known and wanted.known[0] == found.identity:
        before = wanted.known[1]
    else:
        tenure = read_ledger(registry, name).tenure
        before = tenure.predecessor if tenure else None
    if before is None:
        return champion, None
    try:
        return champion, load_version(registry, name, before.number)
    except RegistryUnavailableError:
        raise
    except FxError:  # it was deleted, or its files were: there is nothing to compare with
        return champion, None


def _forecast(registry: RegistryClient, row: Row, model: LoadedModel, prices: SharePrices, *, accept_doubts: bool) -> Row:
    """Fill a row: with the forecast, or with the reason why there is none."""
    day = pd.Timestamp(row.as_of)
    frame = prices.frame.loc[:day]
    row = row._replace(prices_sha256=prices_digest(frame))
    try:
        _check(model, frame, prices, day, accept_doubts=accept_doubts)
        extra = recipe_columns(model.recipe, row.symbol, registry.params.folder)
        features = features_for(replace(prices, frame=frame), model, extra=extra, last=1)
        newest = dict(zip(map(str, features.columns), features.iloc[-1], strict=True))
        close = frame["Close"]
        return row._replace(forecast=model.forecast(newest), last_return=float(close.iloc[-1] / close.iloc[-2] - 1), why="")
    except FxError as error:
        return row._replace(forecast=math.nan, why=in_a_line(error))


def _check(model: LoadedModel, frame: pd.DataFrame, prices: SharePrices, day: pd.Timestamp, *, accept_doubts: bool) -> None:
    if len(frame) < LOOK_BACK_DAYS or frame.index[-1] != day:
        last = f"{frame.index[-1]:%Y-%m-%d}" if len(frame) else "nowhere"
        msg = f"{prices.origin}: {TOO_OLD} {last}, with {len(frame)} days, and those of {day:%Y-%m-%d} are needed: update them"
        raise PriceDataError(msg)
    windows = model.facts.get("windows", {})
    known = [windows[name]["last_day"] for name in ("training", "validation") if "last_day" in windows.get(name, {})]
    if known and max(known) >= f"{day:%Y-%m-%d}":
        msg = (
            f"{model.who} was fitted on days up to {max(known)}: what it says of the session after {day:%Y-%m-%d} is no forecast"
        )
        raise NotComparableError(msg)
    firsts = dict.fromkeys(_PASSING, frame.index[-_RECENT])
    whole = frame.index[-LOOK_BACK_DAYS]
    doubts = [
        doubt
        for doubt in prices.doubts
        if not doubt.days or any(firsts.get(doubt.check, whole) <= at <= day for at in doubt.days)
    ]
    if doubts and not accept_doubts:
        more = f" ({len(doubts) - 1} more doubts)" if len(doubts) > 1 else ""
        msg = f"doubtful prices on days of its features: {doubts[0].message}{more}; correct or accept_doubts"
        raise PriceDataError(msg)


def _of(model: LoadedModel) -> dict[str, Any]:
    """Return what a row says of the version that forecasts."""
    recipe = model.recipe.digest if model.recipe.whole else ""
    return {"version": model.version.version, "bundle_sha256": str(model.version.identity.bundle), "recipe_sha256": recipe}


def _why_none(symbol: str, ledger: Ledger) -> str:
    """Return why no version serves: what the last decision that took the champion away says, if one did."""
    last = next((d for d in reversed(ledger.outcomes) if d.moved_at), None)
    if last is None:
        return f"no version is in Production; promote one: fx run promote -p symbol {symbol} -p apply true"
    why = last.intent.facts.reason or last.outcome_facts.reason
    return f"no version is in Production since the {last.kind} of {last.time[:16].replace('T', ' ')}: {why}"
