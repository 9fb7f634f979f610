"""What one test over many symbols found, as every symbol's decision takes it; and what each symbol's comparison gives to it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import pandas as pd

from fxhelpers.comparison import Comparison, losses
from fxhelpers.errors import ParamsError
from fxhelpers.params import GateParams, PromotionParams

_NUMBERS = ("p", "level", "gain", "low", "high", "detectable")
_CLOSE = 1e-6  # of a gain: restated prices and other processors change the last digits of a loss


class Member(NamedTuple):
    """What a symbol that is pooled gave to the test."""

    days: int  # trading days
    attempt: int  # number of its recipe for this symbol
    gain: float  # its own, a fraction of the champion's RMSE


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """The one test of a recipe over many symbols, which replaces each symbol's own test against its champion.

    It is attempt number ``attempt``, the largest number that the recipe has
    among the symbols: every symbol's level is then at least that of the test,
    so that over all attempts no symbol has more than alpha of false promotions.
    """

    symbols: int  # number of symbols compared
    # symbols that are pooled; empty as long as they are being compared
    members: dict[str, Member] = field(default_factory=dict)
    recipe: str = ""  # SHA-256 of the challengers' recipe
    champion_recipe: str = ""  # SHA-256 of the champions'
    p: float = math.nan  # one-sided; NaN if the test was not made
    level: float = math.nan  # what p has to be below, by the policy and the attempt number
    why: str = ""  # why it was not made; "" if it was
    gain: float = math.nan  # fraction by which the RMSE is below the champions', mean over symbols, and its 95 % interval
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan  # gain that is detected with 80 % power at the level of this attempt
    attempt: int = 0  # 1-based
    days: int = 0  # trading days of the pooled series
    digest: str = ""  # SHA-256 of the pooled symbols' days and losses

    @classmethod
    def read(cls, value: Mapping[str, Any] | None) -> Self | None:
        """Return what a notebook's parameter holds, None if it is empty; :class:`ParamsError` for anything else."""
        if not value:
            return None
        try:
            fields = {**value, **{key: math.nan for key in _NUMBERS if value.get(key, math.nan) is None}}
            fields["members"] = {str(symbol): Member(*found) for symbol, found in dict(value.get("members", {})).items()}
            pooled = cls(**fields)
            wrong = not (pooled.symbols >= max(1, len(pooled.members)) and all(m.days > 0 for m in pooled.members.values()))
            known = math.isfinite(pooled.p)
            wrong |= bool(pooled.members) and (not pooled.recipe or pooled.attempt < 1 or known == bool(pooled.why))
            wrong |= known and not (0 < pooled.p <= 1 and len(pooled.members) > 1 and pooled.digest)
        except (TypeError, ValueError) as error:
            msg = f"pooled: what fx run promote --pooled writes is expected, found {value!r:.150}: {error}"
            raise ParamsError(msg) from error
        if wrong:
            msg = f"pooled: what fx run promote --pooled writes is expected, found {value!r:.200}"
            raise ParamsError(msg)
        return pooled

    @property
    def over(self) -> str:
        """``48 symbols``, for people."""
        return f"{len(self.members)} symbol{'s' * (len(self.members) != 1)}"

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for :meth:`read`; None for missing numbers."""
        members = {symbol: list(member) for symbol, member in self.members.items()}
        return {**self._facts(), "symbols": self.symbols, "members": members}

    def ledger_facts(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        return {**self._facts(), "symbols": len(self.members), "compared": self.symbols}

    def _facts(self) -> dict[str, Any]:
        numbers = {key: value if math.isfinite(value := getattr(self, key)) else None for key in _NUMBERS}
        texts = {key: getattr(self, key) for key in ("why", "recipe", "champion_recipe", "attempt", "days", "digest")}
        return {**numbers, **texts}

    def stale(self, comparison: Comparison, attempt: int) -> str:
        """Return what differs now from what this symbol gave to the test, as a part of a sentence; "" if nothing does."""
        frame, then = comparison.frame, self.members.get(comparison.frame.symbol)
        if then is None:
            return f"{frame.symbol} is none of the {self.over} pooled"
        found = comparison.test_result("stationary_bootstrap", "champion")
        gain = found.gain if found else math.nan
        if frame.kind != "contest" or (frame.recipe, frame.champion_recipe) != (self.recipe, self.champion_recipe):
            return "its recipe or the champion's is another one now"
        if attempt != then.attempt:
            return f"this is attempt {attempt} now, and was {then.attempt}"
        if len(frame.days) != then.days:
            return f"{len(frame.days)} days are compared now, and {then.days} were"
        return "" if abs(gain - then.gain) <= _CLOSE else f"the gain is {gain:.4%} now, and was {then.gain:.4%}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Contribution:
    """What the comparison of one symbol gives to the test of all."""

    symbol: str  # ticker
    kind: str  # refresh, first or contest; "" if the version is the champion
    recipe: str  # SHA-256 of the challenger's; "" if it is not known
    champion_recipe: str  # SHA-256 of the champion's; "" if it is not known, or there is none
    attempt: int  # number of the recipe for this symbol, 1-based; 0 if it is none
    unfit: str  # gate that failed whatever the errors are, and why, as a part of a sentence; "" without one
    gain: float  # its own, a fraction of the champion's RMSE, and its 95 % interval; NaN without a test
    low: float
    high: float
    losses: pd.DataFrame  # ``champion`` and ``challenger``: squared errors by day, in squared fractions; empty unless a contest

    @classmethod
    def of(cls, comparison: Comparison, *, kind: str, attempt: int, unfit: str) -> Self:
        """Return what a comparison gives."""
        frame, found = comparison.frame, comparison.test_result("stationary_bootstrap", "champion")
        gains = [found.gain, found.low, found.high] if found else [math.nan] * 3
        return cls(
            symbol=frame.symbol,
            kind=kind,
            recipe=frame.recipe,
            champion_recipe=frame.champion_recipe,
            attempt=attempt,
            unfit=unfit,
            **dict(zip(("gain", "low", "high"), gains, strict=True)),
            losses=losses(frame) if kind == "contest" else pd.DataFrame(columns=["champion", "challenger"], dtype=float),
        )

    @property
    def gains(self) -> dict[str, float | None]:
        """Its own gain and its interval; None without a test."""
        return {key: value if math.isfinite(value := getattr(self, key)) else None for key in ("gain", "low", "high")}

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with every digit, for :meth:`read`."""
        texts = {key: getattr(self, key) for key in ("symbol", "kind", "recipe", "champion_recipe", "attempt", "unfit")}
        days = [f"{day:%Y-%m-%d}" for day in self.losses.index]
        return {**texts, **self.gains, "days": days, **{who: self.losses[who].tolist() for who in ("champion", "challenger")}}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` returned."""
        fields = dict(stored)
        days = pd.DatetimeIndex(fields.pop("days"))
        table = pd.DataFrame({who: fields.pop(who) for who in ("champion", "challenger")}, index=days, dtype=float)
        fields |= {key: math.nan for key in ("gain", "low", "high") if fields[key] is None}
        return cls(**fields, losses=table)


def pooled_gates(policy: PromotionParams) -> list[GateParams]:
    """Return the gates whose test is made once for all symbols: superiority over the champion by the bootstrap, if it decides."""
    kinds = ((g, (g.test, g.versus, g.severity)) for g in policy.gates if not g.margin)
    return [gate for gate, kind in kinds if kind == ("stationary_bootstrap", "champion", "fail")]
