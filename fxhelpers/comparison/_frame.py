"""The evaluation frame: common days, target, forecasts, one digest; and drift of the features."""

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.stats import chi2

TARGET = "target"
ZERO = "zero return"
MEAN = "mean training return"
_VERSUS = {"zero_return": ZERO, "mean_training_return": MEAN}
"""How a policy names the baselines, and the frame's columns."""


ROUNDING = 1e-6
"""Returns, as fractions: what rounding in restated prices may change in a forecast."""


def column(version: int) -> str:
    """Return the name that a version's forecasts have in an evaluation frame."""
    return f"version {version}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationFrame:
    """The common days, the target and every forecast of it.

    Attributes
    ----------
    symbol : str
        Ticker.
    challenger : int
        Version that wants to be champion.
    champion : int or None
        Version in Production, where there is another one.
    others : tuple of int
        Further challengers, compared at the same time.
    days : DataFrame of shape (n_days, 4 or more)
        Index: Date, increasing. Columns: ``target``, ``zero return``,
        ``mean training return`` (the challenger's) and one ``version N``
        each; next-day returns as fractions.
    facts : dict of int to dict
        What each version's training recorded, with ``seen``: the last day
        that it was trained or chosen on, and how that is known.
    bundles : dict of int to str
        SHA-256 of the bundle of each version, which tells it from another one
        of its number.
    replayed : dict of int to tuple
        Of each version: how many stored forecasts of real days came out
        again, and how many were stored. Those of days without prices could
        not be repeated.
    drift : DataFrame
        By feature of the challenger: ``psi`` and its ``threshold``. Empty
        where it was not measured.
    footprint : DataFrame
        By version: ``artifact_bytes``, ``load_memory`` (bytes) and
        ``latency`` (seconds). Empty where it was not measured.
    """

    symbol: str
    challenger: int
    champion: int | None
    others: tuple[int, ...] = ()
    days: pd.DataFrame
    facts: dict[int, dict[str, Any]]
    bundles: dict[int, str] = field(default_factory=dict)
    replayed: dict[int, tuple[int, int]] = field(default_factory=dict)
    drift: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["psi", "threshold"], dtype=float))
    footprint: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def digest(self) -> str:
        """SHA-256 of roles, days and values: the same comparison, the same digest."""
        days = self.days.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = np.ascontiguousarray(self.days.to_numpy(), dtype="<f8")
        roles = f"{self.symbol} {self.challenger} {self.champion} {self.others}"
        names = "\n".join([roles, *self.days.columns]).encode()
        return hashlib.sha256(names + days.tobytes() + values.tobytes()).hexdigest()

    def is_same(self, other: Self) -> bool:
        """Tell whether another frame is the same comparison: bundles in their roles, days, and values but for rounding.

        Another processor, or prices that were downloaded again, change the
        last digits of some values, and with them :attr:`digest`.
        """
        (roles, values), (others, its) = self._by_roles(), other._by_roles()
        if (self.symbol, roles) != (other.symbol, others) or "" in roles or not self.days.index.equals(other.days.index):
            return False
        return bool((np.abs(values - its) <= ROUNDING).all())

    def _by_roles(self) -> tuple[list[str | None], np.ndarray]:
        """Return the bundles of challenger, champion and further challengers, and all columns in that order."""
        bundles = {number: self.bundles.get(number, "") for number in (self.challenger, self.champion, *self.others) if number}
        others = sorted(self.others, key=lambda number: bundles[number])
        versions = [self.challenger, *([self.champion] if self.champion is not None else []), *others]
        roles = [bundles[self.challenger], bundles[self.champion] if self.champion is not None else None]
        roles += [bundles[number] for number in others]
        return roles, self.days[[TARGET, ZERO, MEAN, *map(column, versions)]].to_numpy()

    @property
    def challengers(self) -> list[str]:
        """Columns of all challengers, the one that is judged first."""
        return [column(version) for version in (self.challenger, *self.others)]

    def rival(self, versus: str | None) -> str | None:
        """Return the column that a policy's ``versus`` names; None where there is none, as without a champion."""
        if versus == "champion":
            return column(self.champion) if self.champion is not None else None
        return _VERSUS.get(str(versus))

    def to_csv(self) -> str:
        """Return the days as CSV with every digit, so that :meth:`from_csv` gives the same frame."""
        return self.days.rename_axis("Date").to_csv(date_format="%Y-%m-%d")

    @classmethod
    def from_csv(cls, text: str, *, symbol: str, challenger: int, champion: int | None, others: tuple[int, ...] = ()) -> Self:
        """Read a frame that was written by :meth:`to_csv`; what is known of the versions beside it is not in it."""
        days = pd.read_csv(io.StringIO(text), dtype=str).set_index("Date").astype(float)  # every digit counts
        days.index = pd.to_datetime(days.index, format="%Y-%m-%d")
        return cls(symbol=symbol, challenger=challenger, champion=champion, others=others, days=days, facts={})


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
