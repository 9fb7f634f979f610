"""Splits, found by how the ratio of adjusted and raw close steps, or by a column that has them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fxhelpers.prices._finding import PriceFinding

_LARGE = 1.45  # from this step on it is a split, if it fits one; below, a dividend, unless it fits one exactly
_GOOGLE = 1.998  # its split of 2014
_LARGE_SPLITS = np.array([1.5, _GOOGLE, *range(2, 21), 2.5, 3.5, *range(25, 101, 5), *range(125, 1001, 25)])
_SMALL_SPLITS = np.array([21 / 20, 11 / 10, 6 / 5, 5 / 4, 4 / 3, 7 / 5])
_SMALLEST = 1.02
_UNUSUAL = 1.15  # dividends above 13 % are rare
_COARSE = 1e-3
_EXACT = 2e-4  # relative, besides rounding
_WITH_DIVIDEND = 1.06  # a split and a dividend on one day
_NEAR = 0.15  # how far a step may be from the ratio that a column has, for a dividend on the same day
_WINDOW = 5  # days before and after a step whose medians have to step as well
_OFTEN = 0.1  # share of days
_EVENTS = 20  # more ratios than this are no splits


def split_factor(values: pd.DataFrame, factor: pd.Series, rounding: pd.Series) -> tuple[pd.Series, list[PriceFinding]]:
    """Return by what the volume of each day is multiplied, the ratios of all later splits, and what is wrong.

    ``factor`` is adjusted over raw close, ``rounding`` the largest relative error of it. Where ``values`` have a column Split,
    it says which steps are splits, and a large step that it lacks is refused.
    """
    steps = factor / factor.shift(1)
    error = _EXACT + 2 * rounding.rolling(2, min_periods=1).max()
    moved = (steps - 1).abs() > error
    if moved.mean() > _OFTEN:
        message = (
            f"the ratio of adjusted and raw close changes on {int(moved.sum())} of {len(moved)} days, as no splits and dividends "
            "change it: the adjusted close is not of these rows"
        )
        return factor * 0 + 1.0, [PriceFinding(check="adjustment", severity="refused", message=message)]
    before = factor.rolling(_WINDOW, min_periods=1).median().shift(1)
    after = factor.iloc[::-1].rolling(_WINDOW, min_periods=1).median().iloc[::-1]
    size = _size(steps)
    lasts = _size(after / before) > size**0.5
    steps = steps.where(moved & lasts & (size > _SMALLEST), 1.0)
    splits, findings = _listed(values["Split"], steps) if "Split" in values else _fitted(steps, error)
    found = splits[splits != 1]
    if len(found):
        listed = ", ".join(f"{ratio:.4g} on {day:%Y-%m-%d}" for day, ratio in found.items())
        findings.append(PriceFinding(check="splits", severity="note", message=f"volume is adjusted for splits: {listed}"))
    return (splits.iloc[::-1].cumprod().iloc[::-1] / splits).astype(float), findings


def _listed(given: pd.Series, steps: pd.Series) -> tuple[pd.Series, list[PriceFinding]]:
    """Return the splits that a column has and that the ratio shows."""
    named = given[given != 1]
    if len(named) > _EVENTS:
        message = (
            f"the column of splits has a number on {len(named)} days; it must have the ratio of a split on its first day, else 1"
        )
        return steps * 0 + 1.0, [PriceFinding(check="adjustment", severity="refused", message=message)]
    splits = given.where((given != 1) & ((steps / given - 1).abs() < _NEAR), 1.0)
    unnamed = steps[(_size(steps) > _LARGE) & (splits == 1)]
    findings = [
        PriceFinding(
            check="adjustment",
            severity="refused",
            message=(
                f"the adjusted close steps like a split of {steps[day]:.4g} on {day:%Y-%m-%d}, and the column of splits has "
                f"{given[day]:.4g} there: correct either"
            ),
            days=(day,),
        )
        for day in unnamed.index[:1]
    ]
    return splits, findings


def _fitted(steps: pd.Series, error: pd.Series) -> tuple[pd.Series, list[PriceFinding]]:
    """Return the ratio of a split for each step that fits one, and doubts about steps that fit none, or more than a split."""
    splits, findings = steps * 0 + 1.0, []
    for day in steps.index[steps != 1]:
        ratio, doubt = _split(float(steps[day]), float(error[day]))
        splits[day] = ratio
        if doubt:
            message = f"{doubt} on {day:%Y-%m-%d}; a column of splits would say it"
            findings.append(PriceFinding(check="adjustment", severity="doubtful", message=message, days=(day,)))
    return splits, findings


def _split(step: float, error: float) -> tuple[float, str]:
    size = max(step, 1 / step)
    if size < _LARGE:
        fits = _SMALL_SPLITS[np.abs(size / _SMALL_SPLITS - 1) <= min(error, _COARSE)]
        if len(fits):
            return _signed(float(fits[0]), step), f"a split of {fits[0]:.4g}, or a dividend of {1 - 1 / size:.1%},"
        doubt = f"a dividend of {1 - 1 / size:.1%}, or a split," if size > _UNUSUAL else ""
        return 1.0, doubt
    usual = _LARGE_SPLITS if error < _COARSE else _LARGE_SPLITS[_LARGE_SPLITS != _GOOGLE]
    nearest = float(usual[np.argmin(np.abs(size / usual - 1))])
    if abs(size / nearest - 1) <= error:
        return _signed(nearest, step), ""
    more = size / _LARGE_SPLITS if step > 1 else _LARGE_SPLITS / size
    fits = _LARGE_SPLITS[(more > 1) & (more <= _WITH_DIVIDEND)]
    if not len(fits):
        return 1.0, f"the adjusted close steps by {size:.4g} against the raw one, which fits no split; volume is left as it is,"
    found = float(fits[np.argmin(np.abs(size / fits - 1))])
    return _signed(
        found, step
    ), f"the adjusted close steps by {size:.4g} against the raw one: a split of {found:g} and a dividend"


def _size(ratio: pd.Series) -> pd.Series:
    """Return how many times something rose or fell."""
    return ratio.where(ratio > 1, 1 / ratio)


def _signed(ratio: float, step: float) -> float:
    return ratio if step > 1 else 1 / ratio


def without_adjustment(values: pd.DataFrame) -> Iterator[PriceFinding]:
    """Yield a finding if a column has splits that the closes beside it are not adjusted for."""
    close, given = values["Close"], values.get("Split")
    if given is None:
        return
    moves = close / close.shift(1)
    split = (given != 1) & ((moves * given - 1).abs() < 2 * _NEAR) & (_size(given) > _LARGE)
    if split.any():
        day = values.index[int(np.argmax(split))]
        message = (
            f"the column of splits has {given[day]:.4g} on {day:%Y-%m-%d}, and the close is not adjusted for it "
            f"({moves[day] - 1:+.0%} that day): download adjusted prices, or with an adjusted close"
        )
        yield PriceFinding(check="adjustment", severity="refused", message=message, days=(day,))
