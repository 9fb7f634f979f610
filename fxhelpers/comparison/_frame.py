"""The evaluation frame: common days, target, forecasts, one digest."""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

TARGET = "target"
ZERO = "zero return"
MEAN = "mean training return"
_VERSUS = {"zero_return": ZERO, "mean_training_return": MEAN}  # columns of the baselines, by their names in a policy
MOVED = 1e-4  # standard deviations of a version's forecasts: smaller differences are not mentioned
_KEPT = 1e-3
ROUNDING = 1e-6  # tolerance for forecasts, as fractions of return: restated prices are rounded anew

Change = Literal["refresh", "first", "contest"]


def came_again(again: np.ndarray, stored: np.ndarray, spread: float) -> np.ndarray:
    """Return which stored forecasts came out again on the same prices; ``spread`` is the standard deviation of all forecasts.

    Prices are kept in single precision, so that a thousandth of the spread is allowed.
    """
    return np.asarray(np.abs(again - stored) <= ROUNDING + _KEPT * spread)


def column(version: int) -> str:
    """Return the column of a version's forecasts in an evaluation frame."""
    return f"version {version}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationFrame:
    """The common days, the target and every forecast of it."""

    symbol: str  # ticker
    challenger: int  # version to judge
    champion: int | None  # version in Production, if there is another one
    others: tuple[int, ...] = ()  # further challengers, compared at the same time
    # index: Date, increasing; columns: ``target``, ``zero return``, ``mean training return`` (the challenger's) and one
    # ``version N`` each; next-day returns as fractions
    days: pd.DataFrame
    # what each version's training recorded, with ``seen``: the last day that it was trained or chosen on, and how that is known
    facts: dict[int, dict[str, Any]]
    bundles: dict[int, str] = field(default_factory=dict)  # SHA-256 of each version's bundle, as numbers can be reused
    # number of stored forecasts that each version reproduces, and number stored; those of days without prices cannot be repeated
    replayed: dict[int, tuple[int, int]] = field(default_factory=dict)
    # by version: what its prices restated since the training, in a sentence, if the comparison was made in spite of it
    restated: dict[int, str] = field(default_factory=dict)
    # by version: largest difference of a stored forecast and one on these prices, in standard deviations of the stored ones
    moved: dict[int, float] = field(default_factory=dict)
    doubts: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what is doubtful about the prices, and on which days
    sample: bool = False  # whether the prices are those of a sample, which are old
    sessions_since: int | None = None  # sessions that ended after the last day; None if the exchange is not known
    # by feature of the challenger: ``psi`` and its ``threshold``; may be empty
    drift: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["psi", "threshold"], dtype=float))
    # by version: ``artifact_bytes``, ``load_memory`` (bytes) and ``latency`` (seconds); may be empty
    footprint: pd.DataFrame = field(default_factory=pd.DataFrame)
    # version of the champion that the challenger, a refit of its recipe, refreshes; then ``champion`` is None, and has no column
    refreshes: int | None = None
    recipes: dict[int, str] = field(default_factory=dict)  # by version: SHA-256 of its recipe; "" if it is not known
    since: str = ""  # first day, YYYY-MM-DD, after the challenger's recipe was first registered; "" if it is not known
    # RMS of the challenger's forecasts over RMS of the returns, both on the last 63 days that it was fitted on, and the same for
    # each earlier origin of its recipe
    size: float = math.nan
    sizes: tuple[float, ...] = ()

    @property
    def kind(self) -> Change:
        """``refresh``, ``first`` (there is no champion) or ``contest``."""
        if self.refreshes is not None:
            return "refresh"
        return "first" if self.champion is None else "contest"

    @property
    def recipe(self) -> str:
        """SHA-256 of the challenger's recipe; "" if it is not known."""
        return self.recipes.get(self.challenger, "")

    @property
    def champion_recipe(self) -> str:
        """SHA-256 of the recipe of the champion, also of one that is refreshed; "" if there is none, or it is not known."""
        champion = self.refreshes if self.refreshes is not None else self.champion
        return self.recipes.get(champion, "") if champion is not None else ""

    @property
    def digest(self) -> str:
        """SHA-256 of roles, days and values."""
        days = self.days.index.to_numpy().astype("datetime64[D]").astype("<i8")
        values = np.ascontiguousarray(self.days.to_numpy(), dtype="<f8")
        roles = f"{self.symbol} {self.challenger} {self.champion} {self.others}"
        if self.refreshes is not None:  # older frames have no such role
            roles += f" {self.refreshes}"
        names = "\n".join([roles, *self.days.columns]).encode()
        return hashlib.sha256(names + days.tobytes() + values.tobytes()).hexdigest()

    def is_same(self, other: Self) -> bool:
        """Return whether another frame is the same comparison: same bundles in the same roles, days, and values up to rounding.

        Another processor, or prices that were downloaded again, change the
        last digits of some values, and with them :attr:`digest`.
        """
        (roles, values), (other_roles, other_values) = self._by_roles(), other._by_roles()
        if (self.symbol, roles) != (other.symbol, other_roles) or "" in roles or not self.days.index.equals(other.days.index):
            return False
        return bool((np.abs(values - other_values) <= ROUNDING).all())

    def _by_roles(self) -> tuple[list[str | None], np.ndarray]:
        """Return the bundles of challenger, champion and further challengers, and all columns in that order."""
        others = sorted(self.others, key=lambda number: self.bundles.get(number, ""))
        order = [self.challenger, self.champion, *others]
        roles = [self.bundles.get(number, "") if number is not None else None for number in order]
        versions = [column(number) for number in order if number is not None]
        return roles, self.days[[TARGET, ZERO, MEAN, *versions]].to_numpy()

    @property
    def challengers(self) -> list[str]:
        """Columns of all challengers; the one to judge comes first."""
        return [column(version) for version in (self.challenger, *self.others)]

    def rival(self, versus: str | None) -> str | None:
        """Return the column that a policy's ``versus`` names; None without one, as without a champion."""
        if versus == "champion":
            return column(self.champion) if self.champion is not None else None
        return _VERSUS.get(str(versus))

    def origin(self) -> dict[str, Any]:
        """Return what is known of recipes and of a refresh, for JSON and :meth:`with_origin`; only what is set."""
        known: dict[str, Any] = {
            "refreshes": self.refreshes,
            "recipes": {str(version): digest for version, digest in self.recipes.items()},
            "since": self.since,
            "size": self.size if math.isfinite(self.size) else None,
            "sizes": list(self.sizes),
        }
        return {key: value for key, value in known.items() if value not in (None, "", {}, [])}

    def with_origin(self, stored: Mapping[str, Any]) -> Self:
        """Return this frame with what :meth:`origin` returned of it; nothing of that is in the CSV."""
        return replace(
            self,
            refreshes=stored.get("refreshes"),
            recipes={int(version): str(digest) for version, digest in stored.get("recipes", {}).items()},
            since=str(stored.get("since", "")),
            size=float(stored.get("size", math.nan)),
            sizes=tuple(map(float, stored.get("sizes", ()))),
        )

    def to_csv(self) -> str:
        """Return the days as CSV with every digit, for :meth:`from_csv`."""
        return self.days.rename_axis("Date").to_csv(date_format="%Y-%m-%d")

    @classmethod
    def from_csv(cls, text: str, *, symbol: str, challenger: int, champion: int | None, others: tuple[int, ...] = ()) -> Self:
        """Read a frame written by :meth:`to_csv`, which holds no facts about the versions."""
        days = pd.read_csv(io.StringIO(text), dtype=str).set_index("Date").astype(float)  # every digit counts
        days.index = pd.to_datetime(days.index, format="%Y-%m-%d")
        return cls(symbol=symbol, challenger=challenger, champion=champion, others=others, days=days, facts={})
