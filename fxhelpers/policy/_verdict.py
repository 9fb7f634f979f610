"""Results of the gates and the verdict, for people and for the ledger."""

import html
import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from fxhelpers.ledger import NO_SKILL, NOT_COMPARED
from fxhelpers.policy._family import Family
from fxhelpers.policy._wording import digits
from fxhelpers.results import in_card
from fxhelpers.tables import Table, badge, paragraphs

Result = Literal["pass", "fail", "warn", "not evaluated"]
Outcome = Literal["promote", "keep", "inconclusive"]

_LONGEST_REASON, _LONGEST_SENTENCE = 1200, 300
_COLOURS = {"promote": "#00604d", "keep": "#37474f", "inconclusive": "#7a4f00"}
_MARKS = {"pass": "✓\u00a0pass", "fail": "✗\u00a0fail", "warn": "⚠\u00a0warn", "not evaluated": "? not evaluated"}
_TERMS = {
    "gain in": "gain: how far an error lies below the rival's, in per cent of it; positive is better",
    "p <": "p: probability of a difference at least this large if the two forecasts were equally good",
    "attempt ": "attempt k: k-th distinct comparison for this symbol; the levels 0.05/(k(k+1)) sum to 0.05 over all attempts",
    "bootstrap": "stationary bootstrap: resamples blocks of days, which keeps the dependence between days",
    "by volatility": "regimes: thirds of the days by the volatility of the 20 returns before each",
    "R²": "R² against zero: share of the squared returns that the forecasts explain; 0 for forecasting zero",
}
"""By what a table of gates may hold: a definition."""
_GATE_COLOURS = dict(zip(_MARKS.values(), ("#00604d", "#9c1c1c", "#7a4f00", "#37474f"), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """Result of one gate.

    Attributes
    ----------
    id : str
        Short name.
    rule : str
        For people.
    value : float
        Measured: a number of days, a measure, a change as a fraction, or p;
        NaN if it could not be measured.
    shown : str
        The value for people.
    bound : str
        What is required of the value.
    result : {"pass", "fail", "warn", "not evaluated"}
    said : str
        Finding, as a part of a sentence about the challenger.
    decides : bool
        False for a gate that only warns.
    waits : bool
        Whether the gate would pass, and waits only for the other symbols of
        its family.
    """

    id: str
    rule: str
    value: float
    shown: str
    bound: str
    result: Result
    message: str
    decides: bool = True
    waits: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the ledger's part: id, value (None if there is none), bound and result."""
        value = self.value if math.isfinite(self.value) else None
        return {"id": self.id, "value": value, "bound": self.bound, "result": self.result}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict of the policy on a challenger.

    Attributes
    ----------
    outcome : {"promote", "keep", "inconclusive"}
        The last two leave the champion as it is.
    headline : str
        One sentence for people, or the beginning of one.
    because : tuple of str
        What stands against a promotion, as parts of that sentence.
    beside : tuple of str
        What does not decide, but should be known.
    note : str
        How a challenger that passes stands, or what could have been detected;
        "" where that does not matter.
    gates : tuple of GateResult
        Empty where nothing was compared.
    weak : tuple of str
        What makes the forecasts worth little, as parts of a sentence about
        the version; the headline has it.
    skill : bool or None
        Whether the forecasts are significantly better than no model at all;
        None where nothing was compared.
    attempt : int
        Attempt number for the symbol, 1-based; 0 if it was not counted.
    p : float
        The largest p of the tests that decide, as they gave it; NaN where none
        decides, or one was not made.
    p_attempt : float
        The same, adjusted for the attempts of this symbol.
    p_entered : float
        What enters the adjustment for all symbols: the same again, or 1 where
        the policy refuses the challenger without looking at the others.
    p_family : float
        That, adjusted for all symbols of the family.
    family : Family or None
        The symbols that are decided about together.
    """

    outcome: Outcome
    headline: str
    because: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    note: str = ""
    gates: tuple[GateResult, ...] = ()
    weak: tuple[str, ...] = ()
    skill: bool | None = None
    attempt: int = 0
    p: float = math.nan
    p_attempt: float = math.nan
    p_entered: float = math.nan
    p_family: float = math.nan
    family: Family | None = None

    @property
    def reason(self) -> str:
        """The verdict in a few sentences; what decided it comes first, in about 300 characters."""
        text, named = self.headline, 0
        for found in self.because:
            if named and len(text) + len(found) > _LONGEST_SENTENCE:
                text += f"; and {', '.join(self._against()[named:])} (see the gates)"
                break
            text, named = f"{text}{'; ' if named else ': '}{found}", named + 1
        also = f"Also: {'; '.join(self.beside)}." if self.beside else ""
        text = " ".join(filter(None, (f"{text}.", self.note, also)))
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"

    def _against(self) -> list[str]:
        """Return the gates, by id, that ``because`` is about, in its order."""
        failed = [gate.id for gate in self.gates if gate.result == "fail"]
        return failed + [gate.id for gate in self.gates if gate.result == "not evaluated" and gate.decides]

    @property
    def mark(self) -> str:
        """Label of a verdict to promote: no evidence of skill, or not compared; "" without one."""
        if self.outcome != "promote" or self.skill:
            return ""
        return NO_SKILL if self.gates else NOT_COMPARED

    @property
    def adjustments(self) -> str:
        """How p was adjusted for the family, in a sentence; "" without a family."""
        if self.family is None:
            return ""
        told = f"p = {digits(self.p)} as tested, {digits(self.p_attempt)} adjusted for attempt k = {self.attempt} (p k (k + 1))"
        if self.p_entered > self.p_attempt:
            told += ", entered as 1 because the policy refuses this challenger by itself"
        if not self.family.p:
            return f"{told}; adjusted for the family once all of its {self.family.symbols} symbols are compared."
        return (
            f"{told}, {digits(self.p_family)} adjusted for {len(self.family.p)} symbols (Benjamini and Hochberg). Required: at "
            f"most {self.family.fdr:g}, the share of promotions that may be expected to be false."
        )

    def p_values(self) -> dict[str, float | None]:
        """Return every p; None if it is missing."""
        values = {"p": self.p, "p_attempt": self.p_attempt, "p_entered": self.p_entered, "p_family": self.p_family}
        return {key: value if math.isfinite(value) else None for key, value in values.items()}

    def _repr_html_(self) -> str:
        words = f"{self.outcome}, {self.mark}" if self.mark else self.outcome
        colour = _COLOURS["inconclusive" if self.mark else self.outcome]
        outcome = f"<p style='font-size:130%; font-weight:bold'>{badge(words.upper(), colour)}</p>"
        points = "".join(f"<li>{html.escape(message)}</li>" for message in self.because)
        beside = "".join(f"<li>{html.escape(message)}</li>" for message in self.beside)
        text = f"<p><b>{html.escape(self.headline)}{':' if points else '.'}</b></p>" + (f"<ul>{points}</ul>" if points else "")
        text += paragraphs(filter(None, [self.note])) + (f"<p>Also:</p><ul>{beside}</ul>" if beside else "")
        text = in_card(f"{outcome}<div style='max-width:60em'>{text}</div>")
        gates = self.to_frame()
        gates["result"] = [badge(mark, _GATE_COLOURS[mark]) for mark in gates["result"]]
        names = [f"{gate}{'' if decides == 'yes' else ' (warns)'}" for gate, decides in gates.pop("decides").items()]
        gates = gates.set_axis(pd.Index(names)).rename_axis(columns="gate")
        table = Table(gates, ("result",), notes=self._terms())._repr_html_() if self.gates else ""
        return text + table + paragraphs(filter(None, [self.adjustments]))

    def _terms(self) -> list[str]:
        """Return what the words in the table of gates mean, of those that are in it."""
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
