"""Forecasts that are stored with a version, so that anybody can see later whether it still gives them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.bundles import Bundle

_FILE = "probe.npz"
_PROBED = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """What a version forecast when it was registered.

    Attributes
    ----------
    inputs : ndarray of shape (256, n_features)
        Raw features as the scaler saw them in training, drawn anew.
    forecasts : ndarray of shape (256,)
        Of these, as fractions of return.
    days : Series
        Forecasts of real days, by date; empty where the bundle had none.
    """

    inputs: np.ndarray
    forecasts: np.ndarray
    days: pd.Series


def write_probe(bundle: Bundle, pipeline: Any, folder: Path) -> None:  # noqa: ANN401 (scikit-learn's have no common base)
    """Forecast 256 typical days, the same ones for the same bundle, and store that with the bundle's forecasts of real days."""
    drawn = np.random.default_rng(0).standard_normal((_PROBED, bundle.features_count))
    mean, scale = bundle.typical
    inputs = mean + scale * drawn
    forecasts = pipeline.predict(pd.DataFrame(inputs, columns=bundle.feature_names))
    known = bundle.forecasts
    days = known.index.to_numpy().astype("datetime64[D]").astype("<i8")
    np.savez_compressed(folder / _FILE, inputs=inputs, forecasts=forecasts, days=days, real=known.to_numpy(dtype=float))


def read_probe(folder: Path) -> Probe | None:
    """Return what :func:`write_probe` stored; None where there is nothing."""
    path = folder / _FILE
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        days = stored["days"] if "days" in stored else np.empty(0, dtype="<i8")
        real = stored["real"] if "real" in stored else np.empty(0)
        index = pd.DatetimeIndex(days.astype("datetime64[D]"))
        return Probe(inputs=stored["inputs"], forecasts=stored["forecasts"], days=pd.Series(real, index=index))
