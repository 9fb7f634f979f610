"""What a backtest found: served forecasts, decisions, production periods, and one row per policy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fxhelpers.comparison import TestResult, TestSpec, bootstrap_test, loss_saved
from fxhelpers.display import Table, rows_html, shown_as
from fxhelpers.policy import digits

_SPEC = TestSpec(test="stationary_bootstrap", versus="zero_return")
_LONG = 200  # characters of a reason
_KINDS = {"first": "first champion", "refresh": "refresh", "contest": "contest"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backtest:
    """What each policy would have served on one symbol, and how it decided."""

    symbol: str  # ticker
    models: tuple[str, ...]  # keys of ``training.models``, in the order in which they are offered
    meanings: dict[str, str]  # policy to what it is, in words; in their order
    retrainings: tuple[str, ...]  # days, YYYY-MM-DD
    every: int  # trading days from one retraining to the next
    # index: Date; columns: ``target`` and, by policy, the forecast served: next-day returns as fractions; 0 without a champion
    served: pd.DataFrame = field(repr=False)
    # one row per policy and challenger: policy, day, version, model, champion (version compared with; NA without one), kind
    # (refresh, first or contest), verdict, attempt (0: none), level (of its test; NaN without one), against (gates against it, by
    # id), reason
    decisions: pd.DataFrame = field(repr=False)
    # one row per time that one refit served: policy, version, model, trained_to, since, until (first day after it)
    periods: pd.DataFrame = field(repr=False)
    # one row per policy. ``gain``, ``low``, ``high``: squared error saved against forecasting zero, as a fraction of that of
    # zero, with its 95 % interval; ``p``, one-sided; ``more``, ``more_low``, ``more_high``: the same against the first policy;
    # ``detectable``: gain that is found with 80 % power; number of ``days`` on which a champion served, ``promotions``,
    # ``refreshes`` (promotions too), ``attempts``, ``refusals``
    summary: pd.DataFrame
    notes: tuple[str, ...] = ()  # what a reader should know, in sentences
    seconds: float = 0.0  # of all of it

    @property
    def policies(self) -> list[str]:
        """Their names; the others are compared with the first."""
        return list(self.meanings)

    def loss_saved(self, policy: str) -> pd.DataFrame:
        """Return the squared error ``saved`` so far against forecasting zero, by day, as a fraction of that of all days.

        ``low`` and ``high`` enclose 95 % of the paths of forecasts that are as
        good as zero; NaN if these cannot be resampled.
        """
        target = self.served["target"]
        return loss_saved(target, target * 0.0, self.served[policy]) / float((target**2).sum())

    @property
    def first_day(self) -> str:
        """First day served, YYYY-MM-DD."""
        return f"{self.served.index[0]:%Y-%m-%d}"

    @property
    def last_day(self) -> str:
        """Last day served, YYYY-MM-DD."""
        return f"{self.served.index[-1]:%Y-%m-%d}"

    @property
    def outcome(self) -> dict[str, Any]:
        """By policy, the gain over forecasting zero and its interval, as fractions, and counts: part of the summary."""
        counts = ("promotions", "refreshes", "attempts", "refusals")
        return {
            "saved": {name: round(float(gain), 6) for name, gain in self.summary["gain"].items() if math.isfinite(gain)},
            "interval": {
                str(name): [round(float(row[key]), 6) for key in ("low", "high")]
                for name, row in self.summary.iterrows()
                if math.isfinite(row["low"])
            },
            **{key: int(self.summary[key].iloc[0]) for key in counts},
        }

    @property
    def answer(self) -> dict[str, Any]:
        """Result and answer for the summary: whether what the first policy served was better than forecasting zero."""
        first = self.policies[0]
        row = self._row(first)
        shown = "inconclusive"
        if row["low"] * row["high"] > 0:
            shown = "better than zero" if row["gain"] > 0 else "worse than zero"
        saved = ", ".join(f"{name} {self._saved_by(name)}" for name in self.policies)
        saved = f"Squared error saved, in % of that of forecasting zero, with 95 % intervals: {saved}."
        if not row["days"]:
            counted = self.decisions.loc[self.decisions["policy"] == first, "against"].str.split(", ").explode().value_counts()
            gates = ", ".join(f"{gate} {count}" for gate, count in counted.items())
            text = f"{first} would have served nothing: it refused all {row['refusals']:.0f} challengers (by gate: {gates})."
            return {"result": shown, "answer": f"{text} {saved}"}
        words = {"inconclusive": "Not shown: the interval contains zero"}.get(shown, f"{shown.capitalize()} return")
        counts = (
            f" {first}: {row['promotions']:.0f} promotions ({row['refreshes']:.0f} refreshes), {row['refusals']:.0f} refusals, "
            f"{row['attempts']:.0f} attempts."
        )
        return {"result": shown, "answer": f"{words}. {saved}{counts if first in set(self.decisions['policy']) else ''}"}

    def _saved_by(self, policy: str) -> str:
        return _interval(self._row(policy), "gain", "low", "high", "nothing")

    def _row(self, policy: str) -> dict[str, float]:
        return {str(key): float(self.summary[key][policy]) for key in self.summary}

    @property
    def how_sure(self) -> str:
        """The gain that these days would show, in a sentence."""
        first = self.policies[0]
        power = float(self.summary["detectable"][first])
        days = f"{len(self.served):,} days, {self.first_day} to {self.last_day}"
        if not math.isfinite(power):
            return f"{days}. {first} was not tested against zero."
        chance = digits(float(self.summary["p"][first]))
        return f"{days}. {first}: p = {chance}; a true gain of {100 * power:.2f} % is detected with 80 % power."

    def to_frame(self) -> pd.DataFrame:
        """Return one row per policy, for people; gains are in per cent of the squared error of forecasting zero."""
        rows = {}
        for name in self.policies:
            row = self._row(name)
            counted = row["promotions"] + row["refusals"] > 0
            rows[name] = {
                "saved, %": _interval(row, "gain", "low", "high", "0"),
                f"over {self.policies[0]}, %": _interval(row, "more", "more_low", "more_high", "the same"),
                "promoted": f"{row['promotions']:.0f}" if counted else "-",
                "refreshes": f"{row['refreshes']:.0f}" if counted else "-",
                "attempts": f"{row['attempts']:.0f}" if counted else "-",
                "refused": f"{row['refusals']:.0f}" if counted else "-",
                "served": f"{row['days'] / len(self.served):.0%}",
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="policy")

    def meanings_frame(self) -> pd.DataFrame:
        """Return what each policy serves, for people."""
        return pd.DataFrame({"serves": self.meanings}).rename_axis(columns="policy")

    def outcomes_frame(self) -> pd.DataFrame:
        """Return how often each kind of decision came out how, and which gates were against it, for people."""
        table = self.decisions.assign(kind=self.decisions["kind"].map(_KINDS))
        groups = table.groupby(["policy", "kind", "model", "verdict", "against"], sort=False)
        found = groups.agg(decisions=("day", "size"), first=("day", "min"), last=("day", "max")).reset_index()
        found["first"], found["last"] = (found[name].map("{:%Y-%m-%d}".format) for name in ("first", "last"))
        order = {name: place for place, name in enumerate(self.policies)}
        found = found.sort_values(
            ["policy", "decisions"], key=lambda values: values.map(order) if values.name == "policy" else -values
        )
        found["against"] = found["against"].replace("", "none")
        return found.rename(columns={"against": "gates against it"}).reset_index(drop=True)

    def decisions_frame(self) -> pd.DataFrame:
        """Return each decision in order, without the refreshes that passed, for people."""
        kept = self.decisions[(self.decisions["kind"] != "refresh") | (self.decisions["verdict"] != "promote")]
        shown = kept.assign(
            day=kept["day"].map("{:%Y-%m-%d}".format),
            kind=kept["kind"].map(_KINDS),
            attempt=kept["attempt"].map(lambda number: str(number) if number else "-"),
            level=kept["level"].map(lambda level: shown_as(level, "{:.3g}")),
            reason=kept["reason"].map(lambda text: text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"),
        )
        return shown.drop(columns=["champion", "against"]).reset_index(drop=True)

    def periods_frame(self) -> pd.DataFrame:
        """Return each production period, for people."""
        days = {name: self.periods[name].map("{:%Y-%m-%d}".format) for name in ("trained_to", "since", "until")}
        return self.periods.assign(**days).rename(columns={"trained_to": "trained to"})

    def terms(self) -> dict[str, str]:
        """Return definitions of the labels in these tables, for tooltips."""
        return {
            "saved, %": "squared error below that of forecasting zero, as a share of it, with the 95 % interval of a "
            "bootstrap of blocks of days; positive is better",
            f"over {self.policies[0]}, %": "the same, of the difference of the two policies on the same days",
            "refreshes": "those promoted that were refits of the champion's recipe, which spend nothing",
            "attempts": "distinct recipes that contested the champion; the same one is an attempt again after 63 new days",
            "refused": "challengers that were offered and not promoted",
            "served": "share of the days on which a champion served; on the others, the forecast counts as zero",
            "level": "p below which the contest would have passed: alpha / (k (k + 1)) at attempt k",
            **self.meanings,
        }

    def _repr_html_(self) -> str:
        table = Table(self.to_frame(), terms=self.terms())._repr_html_()
        rows = {
            "retrained": f"{len(self.retrainings)} times, every {self.every} trading days from {self.retrainings[0]} on",
            "models": ", ".join(self.models),
            "notes": " ".join(self.notes),
            "took": f"{self.seconds:.0f} s",
        }
        return table + rows_html(rows)


def summarize(served: pd.DataFrame, decisions: pd.DataFrame, days: Mapping[str, int]) -> pd.DataFrame:
    """Return one row per policy, with the columns of ``Backtest.summary``; ``days`` are those on which a champion served."""
    target, names = served["target"], list(days)
    zero, first = target * 0.0, served[names[0]]
    rows = {}
    for name in names:
        gain, low, high, found = _saved(target, zero, served[name])
        more, more_low, more_high, _ = _saved(target, first, served[name]) if name != names[0] else (math.nan,) * 3 + (None,)
        own = decisions[decisions["policy"] == name]
        promoted, contests = own[own["verdict"] == "promote"], own[own["attempt"] > 0]
        rows[name] = {
            "gain": gain,
            "low": low,
            "high": high,
            "p": found.p,
            "detectable": 1 - (1 - found.shows) ** 2,
            "more": more,
            "more_low": more_low,
            "more_high": more_high,
            "days": days[name],
            "promotions": len(promoted),
            "refreshes": int((promoted["kind"] == "refresh").sum()),
            "attempts": contests["attempt"].nunique(),
            "refusals": len(own) - len(promoted),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _saved(target: pd.Series, rival: pd.Series, forecast: pd.Series) -> tuple[float, float, float, TestResult]:
    """Return the squared error saved against a rival and its interval, as fractions of that of zero, and the test."""
    (found,) = bootstrap_test(target, rival, forecast.to_frame("forecast"), _SPEC)
    scale = float(((target - rival) ** 2).sum() / (target**2).sum())
    gain, low, high = ((1 - (1 - value) ** 2) * scale for value in (found.gain, found.low, found.high))
    if not found.why:
        return gain, low, high, found
    same = bool((rival == forecast).all())
    return (0.0 if same else math.nan), math.nan, math.nan, found


def _interval(row: Mapping[str, float], value: str, low: str, high: str, none: str) -> str:
    if not math.isfinite(row[low]):
        return none if row[value] == 0 else "-"
    return f"{_percent(row[value])} ({_percent(row[low])} to {_percent(row[high])})"


def _percent(value: float) -> str:
    return shown_as(100 * value + 0.0, "{:+.2f}")
