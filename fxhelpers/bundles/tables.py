"""Tables that lie beside a bundle: ForesightX's features, and forecasts of real days."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.errors import BundleError
from fxhelpers.files import read_limited

_MOST_BYTES = 64 * 2**20


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a CSV of at most 64 MB; :class:`OSError` or :class:`ValueError` where it is none."""
    return pd.read_csv(io.BytesIO(read_limited(path, _MOST_BYTES)), usecols=columns)


def read_features(path: Path) -> pd.DataFrame:
    """Read a features file of ForesightX's.

    Its index is Date, increasing; what is not a finite number is NaN.
    """
    try:
        table = read_table(path)
        days = pd.to_datetime(table.pop("Date").astype(str).str[:10], format="%Y-%m-%d")
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path}: a column Date, written as YYYY-MM-DD, and one column a feature are expected: {error}"
        raise BundleError(msg) from error
    if not days.is_monotonic_increasing or not days.is_unique:
        msg = f"{path}: its dates are repeated or out of order; write it again"
        raise BundleError(msg)
    numbers: pd.DataFrame = table.apply(pd.to_numeric, errors="coerce").astype(float)
    return numbers.replace([np.inf, -np.inf], np.nan).set_axis(pd.DatetimeIndex(days, name="Date"), axis=0)


def predictions_file(evaluation_path: Path) -> Path:
    """Return the path of the daily predictions that go with an evaluation."""
    return evaluation_path.with_name(
        evaluation_path.name.replace("evaluation_metrics_", "predictions_", 1).replace(".json", ".csv")
    )


def stored_forecasts(metadata: dict[str, Any], path: Path, evaluation_path: Path | None) -> pd.Series:
    """Return the forecasts of real days that came with a bundle."""
    stored = metadata.get("forecasts")
    if stored is None and evaluation_path is not None:
        path = predictions_file(evaluation_path)
    try:
        if stored is None:
            if evaluation_path is None or not path.is_file():
                return pd.Series(dtype=float)
            table = read_table(path, ["Date", "Predicted"])
            stored = {"days": table["Date"].astype(str).str[:10], "values": table["Predicted"]}
        days = pd.DatetimeIndex(pd.to_datetime(pd.Series(stored["days"], dtype=str), format="%Y-%m-%d"))
        values = pd.Series(np.asarray(stored["values"], dtype=float), index=days)
    except (OSError, OverflowError, ValueError, TypeError, KeyError) as error:
        msg = f"{path}: its forecasts cannot be read (days and values are expected): {error}; write or copy it again"
        raise BundleError(msg) from error
    if not np.isfinite(values).all() or not days.is_unique or days.hasnans:
        msg = f"{path}: among its forecasts is a day twice, or a value that is not a finite number; write or copy it again"
        raise BundleError(msg)
    return values
