"""The verdict of a policy, the results of its gates, and symbols that are decided together."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import pandas as pd
from scipy.stats import false_discovery_control

from fxhelpers.comparison import Change, Comparison
from fxhelpers.display import Table, badge, in_card, paragraphs
from fxhelpers.errors import ParamsError
from fxhelpers.ledger import NO_SKILL, NOT_COMPARED
from fxhelpers.measures import Measure
from fxhelpers.params import GateParams
from fxhelpers.policy._pooled import Pooled

_KEYS = {"fdr", "symbols", "p"}
_HIGHEST_FDR = 0.5


@dataclass(frozen=True, kw_only=True)
class Family:
    """Symbols that are decided together, so that few of the promotions are false.

    At 5 % each, 500 symbols without any gain give 25 promotions. The p of each
    symbol, adjusted for its attempts, is therefore adjusted for all symbols by
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x: at
    most a share ``fdr`` of the promotions is expected to be false.
    """

    fdr: float  # share of the promotions that may be expected to be false
    symbols: int  # number of symbols decided together
    # symbol to p, adjusted for the symbol's attempts, of those that a test decides; empty as long as they are being compared
    p: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, value: Mapping[str, Any] | None) -> Self | None:
        """Return the family in a notebook's parameter, None if empty; :class:`ParamsError` for unknown keys and bad numbers."""
        if not value:
            return None
        try:
            p = {str(symbol): float(value) for symbol, value in dict(value.get("p", {})).items()}
            family = cls(fdr=float(value["fdr"]), symbols=int(value["symbols"]), p=p)
        except (KeyError, TypeError, ValueError) as error:
            msg = (
                f"family: a mapping with fdr, symbols and p is expected, as fx run promote --fdr writes it, found {value!r:.200}"
            )
            raise ParamsError(msg) from error
        unknown = set(value) - _KEYS
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
        """Bound on the smallest p of all, which the resamples must be able to show."""
        return self.fdr / self.symbols

    @cached_property
    def adjusted(self) -> dict[str, float]:
        """Symbol to p, adjusted for all symbols."""
        adjusted = false_discovery_control(list(self.p.values()), method="bh") if self.p else []
        return dict(zip(self.p, map(float, adjusted), strict=True))

    def adjusted_of(self, symbol: str) -> float:
        """Return the adjusted p of one symbol; NaN without one."""
        return self.adjusted.get(symbol, math.nan)

    def to_json(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        return {"fdr": self.fdr, "symbols": self.symbols, "tested": len(self.p)}


def short(digest: str) -> str:
    """Return the first digits of a recipe's SHA-256, for people."""
    return digest[:8]


def rival_name(comparison: Comparison, versus: str | None) -> str:
    words = {"zero_return": "forecasting zero", "mean_training_return": "forecasting the mean training return"}
    return f"the champion, {comparison.champion}" if versus == "champion" else words.get(str(versus), "chance")


def claimed(gate: GateParams, rival: str) -> str:
    """Return the hypothesis that a test supports."""
    if gate.test == "pesaran_timmermann":
        return "signs are forecast better than by chance"
    return f"not worse than {rival} by {gate.margin:.3%}" if gate.margin else f"lower squared errors than {rival}"


def compared(change: float, known: Measure, rival: str) -> str:
    """Return how a challenger's measure compares with a rival's, as a clause."""
    if change == 0:
        standing = "exactly"
    elif abs(change) < 1 or known.signed:  # a multiple of a negative number would say the contrary
        standing = f"{100 * abs(change):.3g} % {'above' if change > 0 else 'below'}"
    else:
        standing = f"{1 + change:,.4g} times"
    return f"its {known.label} is {standing} that of {rival}"


def joined(parts: list[str]) -> str:
    """Return parts of a sentence as one: ``a, b and c``."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def percent(gain: float) -> str:
    """Return a gain, a fraction, in per cent with its sign; positive is better."""
    value = 100 * gain + 0.0
    return f"{value:+.3g} %" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:+,.0f} %"  # noqa: PLR2004 (no exponents)


def digits(p: float) -> str:
    """Return p with four decimals, or two digits below 0.001."""
    return f"{p:.4f}" if p >= 0.001 else f"{p:.2g}"  # noqa: PLR2004 (below, four digits would say nothing)


Result = Literal["pass", "fail", "warn", "not evaluated"]
Outcome = Literal["promote", "keep", "inconclusive"]

_LONGEST_REASON, _LONGEST_SENTENCE = 1200, 300
_COLOURS = {"promote": "#00604d", "keep": "#37474f", "inconclusive": "#7a4f00"}
_MARKS = {"pass": "✓\u00a0pass", "fail": "✗\u00a0fail", "warn": "⚠\u00a0warn", "not evaluated": "? not evaluated"}
_TERMS = {
    "gain in": "gain: how far an error lies below the rival's, in per cent of it; positive is better",
    "p <": "p: probability of a difference at least this large if the two forecasts were equally good",
    "attempt ": "attempt k: k-th distinct recipe tried for this symbol; the levels 0.05/(k(k+1)) sum to 0.05 over all attempts",
    "of its recipe": "recipe: what a training does, without its data; a refresh is a refit of the champion's, on later days",
    "bootstrap": "stationary bootstrap: resamples blocks of days, which keeps the dependence between days",
    "by volatility": "regimes: thirds of the days by the volatility of the 20 returns before each",
    "R²": "R² against zero: share of the squared returns that the forecasts explain; 0 for forecasting zero",
}
"""By what a table of gates may hold: a definition."""
_GATE_COLOURS = dict(zip(_MARKS.values(), ("#00604d", "#9c1c1c", "#7a4f00", "#37474f"), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    id: str  # short name
    rule: str  # for people
    value: float  # measured: a number of days, a measure, a change as a fraction, or p; NaN if it could not be measured
    shown: str  # the value for people
    bound: str  # what is required of the value
    result: Result
    message: str  # as a part of a sentence about the challenger
    decides: bool = True  # False for a gate that only warns
    waits: bool = False  # whether the gate would pass, and waits only for the other symbols of its family

    def to_json(self) -> dict[str, Any]:
        """Return the ledger's part: id, value (None if there is none), bound and result."""
        value = self.value if math.isfinite(self.value) else None
        return {"id": self.id, "value": value, "bound": self.bound, "result": self.result}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict of the policy on a challenger."""

    outcome: Outcome  # keep and inconclusive leave the champion as it is
    headline: str  # one sentence for people, or the beginning of one
    because: tuple[str, ...] = ()  # reasons against a promotion, as parts of that sentence
    also: tuple[str, ...] = ()  # what does not decide, but should be known
    note: str = ""  # comparison with the champion if it passes, or the detectable gain; may be ""
    gates: tuple[GateResult, ...] = ()  # empty if nothing was compared
    weak: tuple[str, ...] = ()  # what makes the forecasts worth little, as parts of a sentence, which the headline has
    # whether they are significantly better than no model at all; None if nothing was compared, or for a refresh
    skill: bool | None = None
    kind: Change | Literal[""] = ""  # refresh, first or contest; "" if nothing was compared, or it is the champion itself
    attempt: int = 0  # attempt number for the symbol, 1-based; 0 if it was none
    attempt_frame: str = ""  # SHA-256 of the evaluation frame of the earlier attempt that this one repeats; "" if it is new
    level: float = math.nan  # level of the finest test against the champion at this attempt; NaN if none decides
    next_level: float = math.nan  # the same, of the next attempt
    detectable: float = math.nan  # gain over the champion that is detected at this level with 80 % power; NaN if none is
    p: float = math.nan  # the largest p of the tests that decide; NaN if none decides, or one was not made
    p_attempt: float = math.nan  # the same, adjusted for the attempts of this symbol
    p_entered: float = math.nan  # input of the adjustment for all symbols: the same, or 1 if the policy refuses this by itself
    p_family: float = math.nan  # that, adjusted for all symbols of the family
    family: Family | None = None  # the symbols that are decided about together
    pooled: Pooled | None = None  # the one test over many symbols that replaces this one's own against the champion

    @property
    def reason(self) -> str:
        """The verdict in a few sentences; what decided it comes first, in about 300 characters."""
        text = self.headline
        for place, found in enumerate(self.because):
            if place and len(text) + len(found) > _LONGEST_SENTENCE:
                text += f"; and {', '.join(self._against()[place:])} (see the gates)"
                break
            text += f"{'; ' if place else ': '}{found}"
        also = f"Also: {'; '.join(self.also)}." if self.also else ""
        text = " ".join(filter(None, (f"{text}.", self.note, also)))
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"

    def _against(self) -> list[str]:
        """Return the ids of the gates in ``because``, in its order."""
        failed = [gate.id for gate in self.gates if gate.result == "fail"]
        return failed + [gate.id for gate in self.gates if gate.result == "not evaluated" and gate.decides]

    @property
    def mark(self) -> str:
        """Label of a verdict to promote: no evidence of skill, or not compared; "" without one, as for a refresh."""
        if self.outcome != "promote" or self.skill or self.kind == "refresh":
            return ""
        return NO_SKILL if self.gates else NOT_COMPARED

    @property
    def adjustments(self) -> str:
        """How p was adjusted for the family, in a sentence; "" without a family."""
        if self.family is None:
            return ""
        text = f"p = {digits(self.p)} as tested"
        if self.attempt:
            text += f", {digits(self.p_attempt)} adjusted for attempt k = {self.attempt} (p k (k + 1))"
        if self.p_entered > self.p_attempt:
            text += ", entered as 1 because the policy refuses this challenger by itself"
        if not self.family.p:
            return f"{text}; adjusted for the family once all of its {self.family.symbols} symbols are compared."
        return (
            f"{text}, {digits(self.p_family)} adjusted for {len(self.family.p)} symbols (Benjamini and Hochberg). Required: at "
            f"most {self.family.fdr:g}, the share of promotions that may be expected to be false."
        )

    @property
    def spending(self) -> str:
        """What this spends of alpha, and what is left for the next attempt, in sentences; "" if no test of the policy decides."""
        if not self.kind or not math.isfinite(self.next_level):
            return ""
        following = f"The next attempt would be tested at p < {self.next_level:.3g}."
        if self.kind != "contest":
            return f"A {'refresh' if self.kind == 'refresh' else 'first champion'} is no attempt: nothing is spent. {following}"
        power = "no gain over the champion can be detected"
        if math.isfinite(self.detectable):
            what = "a mean gain" if self.pooled else "a gain"
            power = f"{what} of {100 * self.detectable:.3g} % over the champion is detected with 80 % power"
        number = f"Attempt {self.attempt} for this symbol" if self.attempt else "No attempt"
        if self.pooled and self.pooled.members:
            number += f", one test over {self.pooled.over} as attempt {self.pooled.attempt}, the largest number among these"
        return f"{number}, tested at p < {self.level:.3g}: {power}. {following}"

    def p_values(self) -> dict[str, float | None]:
        """Return every p; None if it is missing."""
        values = {"p": self.p, "p_attempt": self.p_attempt, "p_entered": self.p_entered, "p_family": self.p_family}
        return {key: value if math.isfinite(value) else None for key, value in values.items()}

    def _repr_html_(self) -> str:
        words = f"{self.outcome}, {self.mark}" if self.mark else self.outcome
        colour = _COLOURS["inconclusive" if self.mark else self.outcome]
        outcome = f"<p style='font-size:130%; font-weight:bold'>{badge(words.upper(), colour)}</p>"
        points, also = (
            "".join(f"<li>{html.escape(message)}</li>" for message in messages) for messages in (self.because, self.also)
        )
        text = f"<p><b>{html.escape(self.headline)}{':' if points else '.'}</b></p>" + (f"<ul>{points}</ul>" if points else "")
        text += paragraphs(filter(None, [self.note])) + (f"<p>Also:</p><ul>{also}</ul>" if also else "")
        text = in_card(f"{outcome}<div style='max-width:60em'>{text}</div>")
        gates = self.to_frame()
        gates["result"] = [badge(mark, _GATE_COLOURS[mark]) for mark in gates["result"]]
        names = [f"{gate}{'' if decides == 'yes' else ' (warns)'}" for gate, decides in gates.pop("decides").items()]
        gates = gates.set_axis(pd.Index(names)).rename_axis(columns="gate")
        table = Table(gates, ("result",), notes=self._terms())._repr_html_() if self.gates else ""
        return text + table + paragraphs(filter(None, [self.adjustments, self.spending]))

    def _terms(self) -> list[str]:
        shown = " ".join(f"{gate.rule} {gate.bound}" for gate in self.gates)
        return [meaning for word, meaning in _TERMS.items() if word in shown]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per gate, those that decide first."""
        columns = ["gate", "result", "value", "required", "rule", "decides"]
        rows = [
            [g.id, _MARKS[g.result], g.shown, g.bound, g.rule, "yes" if g.decides else "only warns"]
            for g in sorted(self.gates, key=lambda gate: not gate.decides)
        ]
        return pd.DataFrame(rows, columns=columns).set_index("gate").rename_axis(index=None, columns="gate")
