"""Drift: whether features still look as they did in training."""

import numpy as np
import pandas as pd
from scipy.stats import chi2

BINS = 10
_LEVEL = 0.95


def population_stability(training: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """Measure how far each feature's distribution has moved: the population stability index; lower is better.

    The bins are tenths of the training days. There is no fixed value that is
    too much: by chance alone the index is about chi-squared with bins - 1
    degrees of freedom, times (1/n + 1/m); see Yurdakul and Naranjo (2020),
    doi:10.21314/JRMV.2020.227. Days are not independent of each other, so
    both numbers of days are reduced by each feature's autocorrelation.

    Parameters
    ----------
    training : DataFrame of shape (n_training_days, n_features)
        Raw features.
    now : DataFrame of shape (n_days, n_features)
        The same features on the days compared.

    Returns
    -------
    DataFrame of shape (n_features, 2)
        ``psi`` and the ``threshold`` that 5 % of features would exceed
        without any drift; the one that exceeds it by most first. Empty
        without training days.
    """
    rows = {name: _one(training[name].to_numpy(), now[name].to_numpy()) for name in training} if len(training) else {}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["psi", "threshold"]).astype(float)
    return table.loc[(table["psi"] / table["threshold"]).sort_values(ascending=False, kind="stable").index]


def _one(training: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    edges = np.unique(np.quantile(training, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = len(edges) + 1
    before, after = (
        (np.bincount(np.searchsorted(edges, values), minlength=bins) + 0.5) / (len(values) + 0.5 * bins)
        for values in (training, now)
    )
    psi = float(np.sum((after - before) * np.log(after / before)))
    spread = 1 / _independent(training) + 1 / _independent(now)
    return psi, float(chi2.ppf(_LEVEL, max(1, bins - 1)) * spread)


def _independent(values: np.ndarray) -> float:
    """Return how many independent days tell as much: n (1 - r) / (1 + r), r being the correlation of a day with the next."""
    centred = values - values.mean()
    total = float(centred @ centred)
    r = float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0
    return len(values) * (1 - min(0.999, max(0.0, r))) / (1 + max(0.0, r))
