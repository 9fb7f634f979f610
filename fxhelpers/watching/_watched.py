"""What was found: thresholds, evidence by day, one word and a reason; and symbols among many."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd
from statsmodels.stats.multitest import multipletests

from fxhelpers.metrics import TRADING_DAYS

LEAST_DAYS = 63
"""Live days before which nothing is called healthy."""

Word = Literal["alarm", "in doubt", "healthy", "too early to tell"]

DOUBT = 0.25
"""Share of a threshold from which on it is in doubt."""

_WHOLE, _LARGE = 10, 1e6  # evidence shown without decimals, and by its power of ten


class Thresholds(NamedTuple):
    """Evidence at which there is an alarm."""

    e_process: float  # wealth, as a multiple of the first stake
    e_detector: float  # the same, summed over all days on which it may have turned bad

    @classmethod
    def of(cls, alpha: float, years: float) -> "Thresholds":
        """Return the thresholds of two detectors that have half of ``alpha`` each, in so many years of 252 days."""
        if not (0 < alpha < 1 and 0 < years < math.inf):
            msg = f"alpha between 0 and 1 and years above 0 are required, found alpha {alpha:g} and years {years:g}"
            raise ValueError(msg)
        return cls(2 / alpha, 2 * TRADING_DAYS * years / alpha)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """Evidence against what serves, by live day."""

    days: pd.DataFrame  # by live day: excess (squared return), bet (-1 to 1), e_process and e_detector (from 0 on)
    thresholds: Thresholds
    first_alarm: pd.Timestamp | None  # first live day on which a threshold was reached
    versus: str  # what it is compared with, in words

    @property
    def word(self) -> Word:
        """The evidence in one word: the first that applies.

        ``alarm``: a threshold was reached, on any day so far. ``in doubt``: on
        the last day, the e-process or the e-detector is at least a quarter of
        its threshold. ``too early to tell``: fewer than 63 live days.
        ``healthy``: none of these, which does not prove any skill.
        """
        if self.first_alarm is not None:
            return "alarm"
        if len(self.days) and self.share.iloc[-1] >= DOUBT:
            return "in doubt"
        return "healthy" if len(self.days) >= LEAST_DAYS else "too early to tell"

    @property
    def reason(self) -> str:
        """Why it has this word, in a sentence for reports."""
        count = f"{len(self.days)} live day{'s' * (len(self.days) != 1)}"
        if self.first_alarm is not None:
            passed = self.days.loc[: self.first_alarm]
            name = "e_process" if passed["e_process"].iloc[-1] >= self.thresholds.e_process else "e_detector"
            value, bound = _shown(passed[name].iloc[-1]), _shown(getattr(self.thresholds, name))
            found = f"the {name.replace('_', '-')} reached {value} on {self.first_alarm:%Y-%m-%d}, live day {len(passed)}"
            return f"Its errors are larger than those of {self.versus}: {found} (threshold {bound})."
        if not len(self.days):
            return f"No live day yet, at least {LEAST_DAYS} are required."
        last, bounds = self.days.iloc[-1], self.thresholds
        now = f"e-process {_shown(last['e_process'])} (threshold {_shown(bounds.e_process)}), "
        now += f"e-detector {_shown(last['e_detector'])} ({_shown(bounds.e_detector)})"
        start = {
            "in doubt": f"Its errors may be larger than those of {self.versus}, after {count}",
            "healthy": f"No evidence in {count} that its errors are larger than those of {self.versus}",
            "too early to tell": f"Only {count}, at least {LEAST_DAYS} are required",
        }[self.word]
        return f"{start}: {now}."

    @property
    def e_value(self) -> float:
        """The e-process of the last day, for :func:`e_bh`; 1 without a live day. Its maximum over days would be no e-value."""
        return float(self.days["e_process"].iloc[-1]) if len(self.days) else 1.0

    @property
    def share(self) -> pd.Series:
        """Evidence of each live day as a share of its threshold, of the detector that is nearer to it; 1 and more is an alarm."""
        shares = self.days[list(Thresholds._fields)] / [*self.thresholds]
        return shares.max(axis=1).rename("share")


def e_bh(e_values: Mapping[str, float], alpha: float) -> list[str]:
    """Symbols whose evidence is large enough among so many, the largest first.

    The expected share of false ones is at most ``alpha``: e-BH, by Wang and Ramdas
    (2022), doi:10.1111/rssb.12489. It is the procedure of Benjamini and Hochberg,
    here by statsmodels, on ``1 / e``. With e-values it needs no independence:
    symbols may move together in any way.

    Parameters
    ----------
    e_values : mapping of str to float
        Evidence by symbol, from 0 on: :attr:`Watched.e_value`.
    alpha : float
        False discovery rate, in (0, 1).

    Returns
    -------
    list of str
        With the k-th largest of n e-values at least ``n / (k * alpha)``, for
        the greatest such k, the symbols of the k largest.

    Raises
    ------
    ValueError
        An e-value that is negative or NaN, or ``alpha`` out of bounds.

    Examples
    --------
    >>> e_bh({"AAPL": 1.2, "IBM": 70.0, "MSFT": 31.0}, 0.05)
    ['IBM', 'MSFT']
    """
    wrong = [f"{symbol} {value:g}" for symbol, value in e_values.items() if not value >= 0]
    if wrong or not 0 < alpha < 1:
        msg = f"e-values from 0 on and alpha between 0 and 1 are required, found {', '.join(wrong[:5]) or f'alpha {alpha:g}'}"
        raise ValueError(msg)
    if not e_values:
        return []
    ordered = sorted(e_values, key=lambda symbol: e_values[symbol], reverse=True)
    rejected = multipletests([1 / max(e_values[symbol], 1.0) for symbol in ordered], alpha, method="fdr_bh")[0]
    return [symbol for symbol, out in zip(ordered, rejected, strict=True) if out]


def _shown(evidence: float) -> str:
    """Return evidence as text: 0.031, 8.5, 50,400, 3e+12."""
    if evidence >= _LARGE:
        return f"{evidence:.0e}"
    return f"{evidence:,.0f}" if evidence >= _WHOLE else f"{evidence:.2g}"
