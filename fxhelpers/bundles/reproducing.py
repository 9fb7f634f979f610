"""Whether a foreign model is the one that made the forecasts beside it."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from fxhelpers.bundles.bundle import Bundle
from fxhelpers.bundles.tables import predictions_file, read_features
from fxhelpers.errors import BundleError

logger = logging.getLogger(__name__)

_SAME = 1e-6
"""Returns, or shares of the forecast: what another processor or library may change."""


def check_reproduces(bundle: Bundle, features: list[Path]) -> None:
    """Let a bundle give its stored forecasts again, from any of the features files that are at hand.

    Raises
    ------
    BundleError
        From none of them does it; the message says how the latest differs.
    """
    if bundle.forecasts.empty or bundle.evaluation_path is None:
        return
    stored = predictions_file(bundle.evaluation_path)
    wrong = ""
    for path in features:
        try:
            found = _forecasts(bundle, path)
        except KeyError as error:
            logger.warning("%s does not fit %s: %s", path, bundle.model_path.name, error)
            continue
        if found.empty:
            continue
        expected = bundle.forecasts.loc[found.index]
        off = (found - expected).abs() - _SAME * (1 + expected.abs())
        if (off <= 0).all():
            return
        day = pd.Timestamp(str(off.idxmax()))
        wrong = wrong or (
            f"{bundle.model_path}: forecasts {found.loc[day]:+.6g} for {day:%Y-%m-%d} from {path}, but {stored} has "
            f"{expected.loc[day]:+.6g}; {int((off > 0).sum())} of {len(off)} days differ. Model, scaler, features and "
            "predictions are not of one training, or the features were computed anew from other prices. Evaluate it again where "
            f"it was trained, or put {stored.name} aside if it is known to be of another model"
        )
    if wrong:
        raise BundleError(wrong)
    logger.warning("%s: no features are at hand for the days of %s, so these were not reproduced", bundle.model_path, stored.name)


def _forecasts(bundle: Bundle, path: Path) -> pd.Series:
    """Forecast the days that both a features file and the stored forecasts have."""
    days = read_features(path)[bundle.feature_names].dropna()
    days = days.loc[days.index.intersection(bundle.forecasts.index)]
    values = bundle.pipeline().predict(days) if len(days) else np.empty(0)
    if not np.isfinite(values).all():
        msg = f"{bundle.model_path}: some of its forecasts are not finite numbers"
        raise BundleError(msg)
    return pd.Series(values, index=days.index, dtype=float)
