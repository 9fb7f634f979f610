"""Adjustment of prices for splits and dividends, and of volume for splits, by what a file holds."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fxhelpers.prices._finding import PriceFinding
from fxhelpers.prices._formats import COLUMNS, Adjusted, Format
from fxhelpers.prices._splits import split_factor, without_adjustment

_PRICES = COLUMNS[:4]
_POSITIVE = (*_PRICES, "Adj Open", "Adj High", "Adj Low", "Adj Close", "Price Divisor", "Return Factor")
_MOST_DECIMALS = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adjustment:
    """Prices of one share after adjustment."""

    frame: pd.DataFrame  # Open, High, Low, Close and Volume, by Date
    adjusted: Adjusted  # for what the prices are adjusted now
    by: str  # what says so, or did it, for people; with the parts of columns in braces
    # the volume as schema 1 of the features needs it: divided by the adjustment for dividends too
    volume_1: pd.Series
    rounding: pd.Series  # largest rounding error of a price within its day, relative
    precision: pd.Series  # largest rounding error of a price and of its adjustment, relative, by day
    findings: tuple[PriceFinding, ...] = ()


def adjust(values: pd.DataFrame, form: Format, stated: Adjusted | None) -> Adjustment:
    """Adjust what was read.

    Parameters
    ----------
    values : DataFrame
        By day: Open, High, Low, Close, Volume, and any of Adj Open, Adj High,
        Adj Low, Adj Close, Adj Volume, Split, Price Divisor, Volume Factor,
        Total Return and Return Factor.
    form : Format
        The file's format.
    stated : {"all", "splits", "none"} or None
        What Open, High, Low and Close are adjusted for, as ``prices.adjusted``
        in ``params.yaml`` says; then no other column adjusts them for it.

    Rows with a price or a factor that cannot be are not adjusted: of each, all
    prices become the least of these, or NaN, which the checks refuse.
    """
    traded, findings = _as_traded(values, form)
    values = values.assign(**{name: traded[name] for name in COLUMNS})
    used = values[[name for name in values if name in _POSITIVE]]
    finite = pd.Series(np.isfinite(used.to_numpy(dtype=float)).all(axis=1), used.index)
    sound = (finite & (used > 0).all(axis=1)).to_numpy()
    if sound.all():
        return _adjusted(values, form, stated, findings)
    made = _adjusted(values[sound], form, stated, findings) if sound.any() else None
    worst = used.min(axis=1, skipna=False).where(finite)
    frame = pd.DataFrame(dict.fromkeys(_PRICES, worst)).assign(Volume=values["Volume"]).astype(float)
    volume_1, rounding, precision = values["Volume"].astype(float), worst * 0.0, worst * 0.0
    if made is None:
        by = "no row has all prices"
        return Adjustment(frame=frame, adjusted="unknown", by=by, volume_1=volume_1, rounding=rounding, precision=precision)
    rows = np.flatnonzero(sound)
    frame.iloc[rows] = made.frame[COLUMNS].to_numpy()
    volume_1.iloc[rows], rounding.iloc[rows], precision.iloc[rows] = made.volume_1, made.rounding, made.precision
    return replace(made, frame=frame, volume_1=volume_1, rounding=rounding, precision=precision)


def _adjusted(values: pd.DataFrame, form: Format, stated: Adjusted | None, findings: tuple[PriceFinding, ...]) -> Adjustment:
    raw = values[COLUMNS]
    rounding = half_step(raw[_PRICES]) / raw["Close"]
    if stated == "all" or not _adjusting(values):
        adjusted: Adjusted = stated or form.adjusted
        by = "prices.adjusted in params.yaml" if stated else _said_by(form)
        volume = values["Adj Volume"] if "Adj Volume" in values else values["Volume"]
        frame = raw.assign(Volume=volume)
        findings += () if stated else tuple(without_adjustment(values))
        volume_1 = values["Volume"]
        return Adjustment(
            frame=frame, adjusted=adjusted, by=by, volume_1=volume_1, rounding=rounding, precision=rounding, findings=findings
        )
    factor, adjusted, by = _factor(values, raw)
    precision = rounding + _half_of_adjusted(values)
    if all(f"Adj {name}" in values for name in _PRICES):
        frame = values[[f"Adj {name}" for name in _PRICES]].set_axis(_PRICES, axis=1)
        rounding = precision = half_step(frame) / frame["Close"]
        by = "the columns {Adj Open}, {Adj High}, {Adj Low} and {Adj Close}"
    else:
        frame = raw[_PRICES].mul(factor, axis=0)
    if "Adj Volume" in values:
        volume = values["Adj Volume"]
    elif "Volume Factor" in values:
        volume = values["Volume"] * values["Volume Factor"]
    elif "Price Divisor" in values:
        volume = values["Volume"] * values["Price Divisor"]
    else:
        later, wrong = split_factor(values, factor, precision)
        volume = values["Volume"] * (1.0 if "splits" in {form.volume, stated} else later)
        findings += tuple(fault for fault in wrong if fault.severity == "refused" or "splits" not in {form.volume, stated})
    frame = frame.assign(Volume=volume)
    volume_1 = values["Volume"] / factor
    return Adjustment(
        frame=frame, adjusted=adjusted, by=by, volume_1=volume_1, rounding=rounding, precision=precision, findings=findings
    )


def _as_traded(values: pd.DataFrame, form: Format) -> tuple[pd.DataFrame, tuple[PriceFinding, ...]]:
    """Return the five columns; CRSP writes a price without a trade, the midpoint of bid and ask, as a negative one."""
    raw = values.reindex(columns=COLUMNS)
    if not form.negative_midpoints:
        return raw, ()
    quoted = raw["Close"] < 0
    raw[_PRICES] = raw[_PRICES].abs()
    # without a trade there is no opening price either
    raw["Open"] = raw["Open"].where(~(quoted & (raw["Open"].isna() | (raw["Open"] == 0))), raw["Close"])
    raw["Volume"] = raw["Volume"].where(~(quoted & raw["Volume"].isna()), 0.0)
    if not quoted.any():
        return raw, ()
    days = tuple(values.index[quoted])
    message = (
        f"{len(days)} days without a trade, first {days[0]:%Y-%m-%d}: a negative price is the midpoint of bid and ask; no "
        "return on these days could have been traded"
    )
    return raw, (PriceFinding(check="midpoint", severity="doubtful", message=message, days=days),)


def _adjusting(values: pd.DataFrame) -> bool:
    return bool({"Adj Close", "Price Divisor", "Total Return"} & set(values))


def _said_by(form: Format) -> str:
    if form.adjusted == "unknown":
        return "nothing in the file says it; prices.adjusted in params.yaml can"
    return f"the format, {form.name}" + (f" ({form.note})" if form.note else "")


def _factor(values: pd.DataFrame, raw: pd.DataFrame) -> tuple[pd.Series, Adjusted, str]:
    """Return by what all prices of a day are multiplied, what that adjusts for, and by which column."""
    close = raw["Close"]
    if "Adj Close" in values:
        return values["Adj Close"] / close, "all", "the column {Adj Close}"
    split = close * 0 + 1.0
    if "Price Divisor" in values:
        split = 1 / values["Price Divisor"]
    if "Return Factor" in values:
        return (
            split * values["Return Factor"] / values["Return Factor"].iloc[-1],
            "all",
            "the columns {Price Divisor} and {Return Factor}",
        )
    if "Total Return" in values:
        by_splits = (close * split).pct_change()
        total = values["Total Return"].fillna(by_splits)
        growth = (1 + total.iloc[1:]).cumprod()
        adjusted = pd.concat([pd.Series(1.0, close.index[:1]), growth])
        return adjusted * (close.iloc[-1] * split.iloc[-1] / adjusted.iloc[-1]) / close, "all", "the column {Total Return}"
    return split, "splits", "the column {Price Divisor}"


def _half_of_adjusted(values: pd.DataFrame) -> "pd.Series | float":
    """Return the largest rounding error of the adjusted close, relative."""
    return half_step(values[["Adj Close"]]) / values["Adj Close"] if "Adj Close" in values else 0.0


def half_step(values: pd.DataFrame) -> float:
    """Return half of the last decimal of prices, in their unit; 0 if they have all digits."""
    prices = values.to_numpy(dtype=float)
    for decimals in range(_MOST_DECIMALS):
        scaled = prices * 10.0**decimals
        if np.nanmax(np.abs(scaled - np.round(scaled)), initial=0.0) < 1e-9 * max(1.0, np.nanmax(np.abs(scaled), initial=0.0)):
            return float(0.5 * 10.0**-decimals)
    return 0.0
