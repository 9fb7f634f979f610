"""What the gates and the policy as a whole say, for people and for the ledger."""

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

_LONGEST_REASON = 1200
_COLOURS = {"promote": "#00604d", "keep": "#37474f", "inconclusive": "#7a4f00"}
_MARKS = {"pass": "✓\u00a0pass", "fail": "✗\u00a0fail", "warn": "⚠\u00a0warn", "not evaluated": "? not evaluated"}
_GATE_COLOURS = dict(zip(_MARKS.values(), ("#00604d", "#9c1c1c", "#7a4f00", "#37474f"), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate said.

    Attributes
    ----------
    id : str
        Short name.
    rule : str
        In words.
    value : float
        What was measured: a number of days, a measure, a change as a
        fraction, or p; NaN where it could not be measured.
    shown : str
        The value as people read it.
    bound : str
        What it is held against.
    result : {"pass", "fail", "warn", "not evaluated"}
    said : str
        What was found, as a part of a sentence about the challenger.
    decides : bool
        False for a gate that only warns.
    """

    id: str
    rule: str
    value: float
    shown: str
    bound: str
    result: Result
    message: str
    decides: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what a ledger keeps of it: id, value (None where there is none), bound and result."""
        value = self.value if math.isfinite(self.value) else None
        return {"id": self.id, "value": value, "bound": self.bound, "result": self.result}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the policy says of a challenger.

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
        The how-manieth distinct attempt for the symbol this is; 0 where that
        was not counted.
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
        """All of it in a few sentences."""
        text = f"{self.headline}: {'; '.join(self.because)}." if self.because else f"{self.headline}."
        if self.beside:
            text += f" Also: {'; '.join(self.beside)}."
        text = " ".join(filter(None, (text, self.note, self.deciding)))
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"

    @property
    def mark(self) -> str:
        """What to say with a verdict to promote: that there is no evidence of skill, or that nothing was compared."""
        if self.outcome != "promote" or self.skill:
            return ""
        return NO_SKILL if self.gates else NOT_COMPARED

    @property
    def deciding(self) -> str:
        """Which gates decide, and which only warn, in a sentence; "" where nothing was compared."""
        names = {decides: ", ".join(gate.id for gate in self.gates if gate.decides is decides) for decides in (True, False)}
        warning = f"; {names[False]} only warn{'s' if ',' not in names[False] else ''}" if names[False] else ""
        return f"The gates that decide: {names[True]}{warning}." if names[True] else ""

    @property
    def adjustments(self) -> str:
        """What became of p, in a sentence; "" where it is nobody's but this symbol's."""
        if self.family is None:
            return ""
        told = f"p = {digits(self.p)} as tested, {digits(self.p_attempt)} adjusted for attempt {self.attempt}, p k (k + 1)"
        if self.p_entered > self.p_attempt:
            told += ", and entered as 1, since the policy refuses this challenger by itself"
        if not self.family.p:
            return f"{told}; adjusted for the family once all of its {self.family.symbols} symbols are compared."
        return (
            f"{told}, {digits(self.p_family)} adjusted for {len(self.family.p)} symbols by Benjamini and Hochberg; at most "
            f"{self.family.fdr:g} is asked, so that no more than this share of the promotions is expected to be false."
        )

    def p_values(self) -> dict[str, float | None]:
        """Return every p, None where there is none."""
        values = {"p": self.p, "p_attempt": self.p_attempt, "p_entered": self.p_entered, "p_family": self.p_family}
        return {key: value if math.isfinite(value) else None for key, value in values.items()}

    def _repr_html_(self) -> str:
        words = f"{self.outcome}, {self.mark}" if self.mark else self.outcome
        colour = _COLOURS["inconclusive" if self.mark else self.outcome]
        outcome = f"<p style='font-size:130%; font-weight:bold'>{badge(words.upper(), colour)}</p>"
        points = "".join(f"<li>{html.escape(message)}</li>" for message in self.because)
        beside = "".join(f"<li>{html.escape(message)}</li>" for message in self.beside)
        text = f"<p><b>{html.escape(self.headline)}{':' if points else '.'}</b></p>" + (f"<ul>{points}</ul>" if points else "")
        text += f"<p>Also:</p><ul>{beside}</ul>" if beside else ""
        text += paragraphs(filter(None, (self.note, self.deciding)))
        text = in_card(f"<div style='font-size:110%; max-width:60em'>{text}</div>") + paragraphs(filter(None, [self.adjustments]))
        gates = self.to_frame()
        gates["result"] = [badge(mark, _GATE_COLOURS[mark]) for mark in gates["result"]]
        return outcome + text + (Table(gates, ("result",))._repr_html_() if self.gates else "")

    def to_frame(self) -> pd.DataFrame:
        """Return one row a gate, those that decide first."""
        columns = ["gate", "rule", "value", "bound", "decides", "result"]
        rows = [
            [g.id, g.rule, g.shown, g.bound, "yes" if g.decides else "only warns", _MARKS[g.result]]
            for g in sorted(self.gates, key=lambda gate: not gate.decides)
        ]
        return pd.DataFrame(rows, columns=columns).set_index("gate").rename_axis(index=None, columns="gate")
