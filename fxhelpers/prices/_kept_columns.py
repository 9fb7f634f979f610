"""Columns of the user's own that a model was trained on, as its bundle keeps them, and what changed in them since."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.prices._extra import check_columns
from fxhelpers.prices._kept import Restatement
from fxhelpers.prices._packing import as_days, day_bytes, pack, unpack

_LARGEST, _FLOAT = 64 * 2**20, "<f8"
_AGAIN = 1e-9  # relative change that still is the same column, where its forecasts are taken over
_SAME = 1e-6  # and where versions are compared


def keep_columns(columns: pd.DataFrame, folder: str) -> dict[str, Any]:
    """Return columns for a bundle: their names, days and values to the last bit, compressed, and one SHA-256 over all."""
    names, content = [str(name) for name in columns], day_bytes(columns.index, columns.to_numpy(), _FLOAT)
    return {
        "folder": folder,
        "columns": names,
        "first_day": f"{columns.index[0]:%Y-%m-%d}",
        "last_day": f"{columns.index[-1]:%Y-%m-%d}",
        "sha256": _digest(content, names),
        "kept": pack(content),
    }


def unpack_columns(stored: Mapping[str, Any]) -> pd.DataFrame:
    """Read what :func:`keep_columns` returned; :class:`ValueError` if it is anything else, or was edited."""
    try:
        names, digest, span = list(stored["columns"]), stored["sha256"], [stored["first_day"], stored["last_day"]]
        content = unpack(stored["kept"], _LARGEST)
        days, values = as_days(content, len(names), _FLOAT)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"not kept columns: {type(error).__name__}: {error}"
        raise ValueError(msg) from error
    if days.empty or digest != _digest(content, names):
        msg = "the columns of extra do not have the SHA-256 recorded with them: they were edited after the training"
        raise ValueError(msg)
    columns = check_columns(pd.DataFrame(values, days, names), ())
    if list(columns) != names or columns.isna().any(axis=None) or [f"{day:%Y-%m-%d}" for day in days[[0, -1]]] != span:
        msg = "the columns of extra must be in the order of their names, with a finite number for each day, first_day to last_day"
        raise ValueError(msg)
    return columns


def _digest(content: bytes, names: list[str]) -> str:
    return hashlib.sha256(content + json.dumps(names).encode()).hexdigest()


def extend_columns(then: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame | None:
    """Return the columns of an earlier training with the days since; None if they are not the same on all its days.

    The days of then stay as they are, to the last bit.
    """
    same = now.loc[: then.index[-1]]
    if list(then) != list(now) or not same.index.equals(then.index) or _differ(then, same, _AGAIN).any(axis=None):
        return None
    longer: pd.DataFrame = pd.concat([then, now.loc[now.index > then.index[-1]]])
    return longer


def changed_columns(then: pd.DataFrame, now: pd.DataFrame) -> Restatement | None:
    """Compare the columns of a training with those of now, on the days of both; None if they are the same.

    ``now`` is NaN on days before its file begins, and these are not compared.
    """
    known = now[list(then)].dropna()
    days = then.index.intersection(known.index)
    old, new = then.loc[days], known.loc[days]
    wrong = _differ(old, new, _SAME)
    changed = days[wrong.any(axis=1)]
    if changed.empty:
        return None
    first = changed[0]
    name = str(wrong.loc[first].idxmax())
    message = f"{name} {new.loc[first, name]:.9g} now, {old.loc[first, name]:.9g} then"
    span = {"first": f"{first:%Y-%m-%d}", "last": f"{changed[-1]:%Y-%m-%d}"}
    return Restatement(days=len(changed), compared=len(days), message=message, **span)


def _differ(old: pd.DataFrame, new: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return where values differ, relative to themselves or, where they are close to zero, to the median of their column."""
    before, after = np.abs(old.to_numpy()), np.abs(new.to_numpy())
    size = np.maximum(np.maximum(before, after), np.median(before, axis=0)) if len(before) else before
    wrong: pd.DataFrame = (new - old).abs() > tolerance * size
    return wrong
