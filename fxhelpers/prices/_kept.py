"""The prices that a model was trained on, as its bundle keeps them, and what a vendor restated since.

A vendor who adjusts for a later split or dividend multiplies all earlier
prices by one number, and may round them anew. These are the same prices.
Anything else is a restatement.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fxhelpers.prices._formats import COLUMNS
from fxhelpers.prices._packing import as_days, day_bytes, pack, unpack
from fxhelpers.prices._share import SharePrices

_SINGLE = 2e-7  # relative: prices are kept in single precision
_REVISED = 0.01  # of the volume, and of the days: vendors revise volumes for some days
_ANEW = 0.1  # share of prices that do not fit a mere multiplication
_LARGEST = 64 * 2**20
_FIELDS, _FLOAT = len(COLUMNS) + 1, "<f4"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptPrices:
    """Prices at the time of a training."""

    frame: pd.DataFrame  # as ``SharePrices.frame``, in single precision
    precision: pd.Series  # largest relative error of a day's prices by their rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Restatement:
    """How prices differ from those of a training."""

    days: int  # days that differ by more than rounding explains
    compared: int  # days compared
    first: str  # the first of them, YYYY-MM-DD
    last: str  # the last of them, YYYY-MM-DD
    message: str  # what differs on that day, for people


def keep_prices(prices: SharePrices | pd.DataFrame) -> KeptPrices:
    """Return prices as a bundle keeps them, in single precision; those of a plain frame count as exact."""
    frame = prices.frame if isinstance(prices, SharePrices) else prices
    precision = prices.precision if isinstance(prices, SharePrices) else pd.Series(0.0, frame.index)
    single = frame[COLUMNS].astype("f4").astype(float)
    return KeptPrices(frame=single, precision=precision.astype("f4").astype(float))


def extend_prices(then: KeptPrices, now: SharePrices | pd.DataFrame) -> KeptPrices | None:
    """Return the prices of an earlier training with the days since, on its scale; None if they are not the same prices.

    The days of then stay as they are, to the last bit, so that what was
    computed from them is computed again. The same prices begin on the same
    day, end on the same or a later one, and are not a :func:`restatement`.
    """
    later = keep_prices(now)
    old, new = then.frame, later.frame
    if new.empty or old.index[0] != new.index[0] or old.index[-1] > new.index[-1] or restatement(then, later) is not None:
        return None
    days, added = old.index, new.index[new.index > old.index[-1]]
    last = (then.precision * old["Close"], later.precision.loc[days] * new.loc[days, "Close"])
    prices = COLUMNS[:4]
    scales = dict.fromkeys(prices, _scale(old[prices], new.loc[days, prices], last))
    scales["Volume"] = _volume_scale(old["Volume"], new.loc[days, "Volume"])
    more = (new.loc[added] / pd.Series(scales)).astype("f4").astype(float)
    precision = pd.concat([then.precision, later.precision.loc[added]])
    return KeptPrices(frame=pd.concat([old, more[old.columns]]), precision=precision)


def pack_prices(prices: KeptPrices) -> str:
    """Return prices as text for a bundle: days and, in single precision, five columns and the precision, compressed."""
    values = np.column_stack([prices.frame[COLUMNS].to_numpy(), prices.precision.to_numpy()])
    return pack(day_bytes(prices.frame.index, values, _FLOAT))


def unpack_prices(text: str) -> KeptPrices:
    """Read what :func:`pack_prices` wrote; :class:`ValueError` if it is anything else."""
    try:
        index, values = as_days(unpack(text, _LARGEST), _FIELDS, _FLOAT)
    except ValueError as error:
        msg = f"not kept prices: {error}"
        raise ValueError(msg) from error
    return KeptPrices(frame=pd.DataFrame(values[:, :-1], index, COLUMNS), precision=pd.Series(values[:, -1], index))


def restatement(then: KeptPrices, now: SharePrices | KeptPrices) -> Restatement | None:
    """Compare the prices of a training with those of now; None if they are the same prices.

    The same prices may have another scale, one for all days, and differ by
    what their last decimals carry, if they were rounded anew. Only days
    between the first and the last of both are compared. A volume counts as restated if it
    changed by more than 1 % on more than 1 % of the days.
    """
    if now.frame.empty:
        return None
    span = slice(max(then.frame.index[0], now.frame.index[0]), min(then.frame.index[-1], now.frame.index[-1]))
    old, new = then.frame.loc[span], now.frame.loc[span]
    days = old.index.intersection(new.index)
    if days.empty:
        return None
    lost, added = old.index.difference(days), new.index.difference(days)
    old, new = old.loc[days], new.loc[days]
    prices = COLUMNS[:4]
    last = (then.precision.loc[days] * old["Close"], now.precision.loc[days] * new["Close"])
    scale = _scale(old[prices], new[prices], last)
    off, allowed = (new[prices] - scale * old[prices]).abs(), new[prices] * _SINGLE
    if ((off > allowed).mean() > _ANEW).any():  # they were rounded anew, and not only multiplied
        allowed = allowed.add(last[0] * scale + last[1], axis=0)
    wrong = off > allowed
    volume = _volume_changed(old["Volume"], new["Volume"])
    changed = wrong.any(axis=1) | volume
    count = int(changed.sum()) + len(lost) + len(added)
    if not count:
        return None
    first = min([*days[changed][:1], *lost[:1], *added[:1]])
    latest = max([*days[changed][-1:], *lost[-1:], *added[-1:]])
    if first in lost or first in added:
        message = f"{first:%Y-%m-%d} is {'missing now' if first in lost else 'new'}"
    else:
        name = str(wrong.loc[first].idxmax()) if wrong.loc[first].any() else "Volume"
        before = float(old.loc[first, name]) * (scale if name in prices else 1.0)
        form = "{:.7g}" if name in prices else "{:,.0f}"
        message = f"{name} {form.format(float(new.loc[first, name]))} now, {form.format(before)} then"
    compared = len(days) + len(lost) + len(added)
    return Restatement(days=count, compared=compared, first=f"{first:%Y-%m-%d}", last=f"{latest:%Y-%m-%d}", message=message)


def _scale(old: pd.DataFrame, new: pd.DataFrame, last: tuple[pd.Series, pd.Series]) -> float:
    """Return by what old prices are multiplied: least squares, over those that rounding explains; high prices say most."""
    scale = float((new["Close"] / old["Close"]).median())
    off = (new - scale * old).abs()
    fits = off.le(new * _SINGLE * 10, axis=0) | off.le(2 * (last[0] * scale + last[1]), axis=0)
    old, new = old.where(fits), new.where(fits)
    return float((old * new).sum().sum() / (old * old).sum().sum()) if fits.any(axis=None) else scale


def _volume_scale(old: pd.Series, new: pd.Series) -> float:
    traded = (old > 0) & (new > 0)
    return float((new[traded] / old[traded]).median()) if traded.any() else 1.0


def _volume_changed(old: pd.Series, new: pd.Series) -> pd.Series:
    """Return the days on which the volume changed, if these are more than a few."""
    scale = _volume_scale(old, new)
    off = (new - scale * old).abs() > _REVISED * scale * old
    return off & (off.mean() > _REVISED)
