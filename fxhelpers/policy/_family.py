"""Many symbols decided about together: how many of the promotions may be false.

At 5 % each, 500 tickers without any gain give 25 promotions. Here the p of
each symbol, adjusted for its attempts, is adjusted once more for all symbols,
by Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x: of
the promotions at most a share ``fdr`` is expected to be false.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from scipy.stats import false_discovery_control

from fxhelpers.errors import ParamsError

_KEYS = {"fdr", "symbols", "p"}
_HIGHEST_FDR = 0.5


@dataclass(frozen=True, kw_only=True)
class Family:
    """The symbols that are decided about together.

    Attributes
    ----------
    fdr : float
        Share of the promotions that may be expected to be false.
    symbols : int
        How many symbols are decided about.
    p : dict
        Symbol to p, adjusted for the symbol's attempts, of all that a test
        decides about; empty as long as they are being compared.
    """

    fdr: float
    symbols: int
    p: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> Self | None:
        """Return the family that a notebook's parameter describes; None where it describes none.

        :class:`ParamsError` for an unknown key, or a number that cannot be.
        """
        if not told:
            return None
        try:
            p = {str(symbol): float(value) for symbol, value in dict(told.get("p", {})).items()}
            family = cls(fdr=float(told["fdr"]), symbols=int(told["symbols"]), p=p)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"family: a mapping with fdr, symbols and p is expected, as fx run promote --fdr writes it, found {told!r:.200}"
            raise ParamsError(msg) from error
        unknown = set(told) - _KEYS
        wrong = [f"{symbol}: {value}" for symbol, value in p.items() if not 0 < value <= 1]
        if unknown or wrong or not 0 < family.fdr <= _HIGHEST_FDR or family.symbols < max(1, len(p)):
            what = (
                f"unknown {', '.join(sorted(unknown))}" if unknown else f"fdr {family.fdr}, {family.symbols} symbols, p {wrong}"
            )
            msg = f"family: fdr above 0 and at most {_HIGHEST_FDR}, every p above 0 and at most 1 are expected, found {what}"
            raise ParamsError(msg)
        return family

    @property
    def level(self) -> float:
        """What the smallest p of all has to be below: resamples have to be fine enough for this."""
        return self.fdr / self.symbols

    @cached_property
    def adjusted(self) -> dict[str, float]:
        """Symbol to p, adjusted for all symbols."""
        return (
            dict(zip(self.p, map(float, false_discovery_control(list(self.p.values()), method="bh")), strict=True))
            if self.p
            else {}
        )

    def adjusted_of(self, symbol: str) -> float:
        """Return the adjusted p of one symbol; NaN where it has none."""
        return self.adjusted.get(symbol, math.nan)

    def told(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        return {"fdr": self.fdr, "symbols": self.symbols, "tested": len(self.p)}
