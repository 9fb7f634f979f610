"""Watching what serves: live forecasts against what came, an alarm on record if they are worse than none, a word for each."""

import html
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.decisions import raise_alarm, serving
from fxhelpers.display import Keyed, Table, badge, progress_bar
from fxhelpers.errors import FxError, NoRecordError, RegistryError, RegistryUnavailableError, StaleComparisonError
from fxhelpers.forecasts._evening import chosen_symbols
from fxhelpers.forecasts._live import LiveRecord, earlier_losses, live_record, saved
from fxhelpers.forecasts._log import Log, in_a_line, read_log
from fxhelpers.forecasts._many import each
from fxhelpers.ledger import Decision, Identity, Ledger
from fxhelpers.params import WatchParams, model_name
from fxhelpers.prices import read_prices
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import load_found
from fxhelpers.registry.storage import note_watch, registered_models
from fxhelpers.reports.gallery import note_live
from fxhelpers.system import utc_now
from fxhelpers.watching import Watched, e_bh, excess_losses, size_warning, watch

logger = logging.getLogger(__name__)

WORDS = ("alarm", "in doubt", "not watched", "too early to tell", "healthy")
"""What can be found of a symbol, the worst first."""

WATCH_FILE, EARLIER_FILE = "watch.csv", "earlier.csv"  # evidence of an alarm: its live days, and the rolling-origin days
_BARS = "▁▂▃▄▅▆▇█"
_SPARK = 20  # characters of a sparkline
_LOWEST, _MOST = 0.01, 99.99  # share of an alarm that the lowest bar shows, and the greatest that is written
_COLORS = {"alarm": "#9b1c1c", "in doubt": "#7a4f00"}
_SILENT = pd.Timedelta(days=21)  # without a live day, after which evidence says nothing of what serves now
_DRAWN, _SHOWN_DAYS = 4, 25  # symbols with figures; days in a table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WatchedSymbol(Keyed):
    """What was found of one symbol."""

    symbol: str
    word: str  # one of WORDS
    reason: str  # why, in a sentence
    champion: Identity | None = None
    live: LiveRecord | None = field(default=None, repr=False)
    versus_zero: Watched | None = field(default=None, repr=False)  # does it lose against forecasting zero?
    versus_predecessor: Watched | None = field(
        default=None, repr=False
    )  # against the champion before? None: no live days of both
    warnings: tuple[str, ...] = ()  # they decide nothing
    decision: Decision | None = field(default=None, repr=False)  # the alarm, once it is on record
    earlier: pd.DataFrame | None = field(default=None, repr=False)  # actual and forecast of the recipe's rolling-origin days
    fallback: Identity | None = None  # the champion before, if it is in no alarm itself

    @property
    def tomorrow(self) -> float:
        """The live forecast of the next session, as a fraction; NaN without one."""
        pending = self.live.pending["forecast"] if self.live else pd.Series(dtype=float)
        return float(pending.iloc[-1]) if len(pending) and pending.index[-1] >= utc_now()[:10] else np.nan

    @property
    def next_words(self) -> str:
        """The live forecast of the next session, in a sentence; "" without one."""
        if self.live is None or np.isnan(self.tomorrow):
            return ""
        return f"Its forecast of {self.live.pending.index[-1]} is {self.tomorrow:+.3%}."

    @property
    def advice(self) -> str:
        """What to do about it, in a sentence; "" if nothing is."""
        former = self.live.tenure.predecessor if self.live else None
        back = f", or fx rollback {self.symbol} --reason TEXT" if former else ""
        if self.word == "in doubt":
            return f"What to do: look again after each session; train and promote a better recipe{back} to end the doubt."
        if self.word != "alarm":
            return ""
        if self.decision is None:
            return f"What to do: fx watch {self.symbol} puts the alarm on record, and does what watch.on_alarm says."
        serves = self.champion is not None and self.decision.to_version == self.champion.number
        return f"What to do: train and promote another recipe{back if serves else ''}."

    @property
    def share(self) -> float:
        """Evidence of the last live day as a share of its threshold; 0 without one."""
        return float(self.versus_zero.share.iloc[-1]) if self.versus_zero and len(self.versus_zero.days) else 0.0

    @property
    def gain(self) -> float:
        """Squared errors saved against forecasting zero, as a fraction of its own; NaN without a live day."""
        return saved(self.live.days) if self.live else np.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watch(Keyed):
    """What was found of many symbols, the worst first."""

    symbols: tuple[WatchedSymbol, ...]
    among_all: tuple[str, ...]  # symbols whose evidence is large enough among so many, at the false discovery rate ``alpha``
    alpha: float
    shown_only: bool  # alarms were only shown

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        return next((one for one in self.symbols if one.symbol == name), None) or Keyed.__getitem__(self, name)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per symbol, for people, the worst first."""
        rows = {
            one.symbol: {
                "found": one.word,
                "live days": len(one.live.days) if one.live else 0,
                "evidence against it": sparkline(one.versus_zero) if one.versus_zero else "",
                "share of an alarm": f"{min(one.share, _MOST):,.0%}",
                "saved against zero": f"{one.gain:+.2%}" if np.isfinite(one.gain) else "",
                "next forecast": f"{one.tomorrow:+.3%}" if np.isfinite(one.tomorrow) else "",
                "why": one.reason,
            }
            for one in self.symbols
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="symbol")

    def _repr_html_(self) -> str:
        table = self.to_frame().drop(columns="why")
        table["found"] = [badge(word, _COLORS[word]) if word in _COLORS else html.escape(word) for word in table["found"]]
        table = table.loc[:, lambda shown: (shown != "").any()].replace("", "-")
        reasons = [(one.symbol, f"{one.reason} {one.advice}") for one in self.symbols if one.word in {*_COLORS, "not watched"}]
        why = Table(pd.DataFrame(reasons, columns=["symbol", "why, and what to do"]).set_index("symbol"))
        more = f"<br>{why._repr_html_()}" if reasons and len(self.symbols) > 1 else ""  # of one symbol, the answer says it
        return Table(table, ("found",))._repr_html_() + more

    @property
    def worst(self) -> tuple[WatchedSymbol, ...]:
        """The symbols whose figures are drawn: those in alarm or in doubt, or else the first one; at most four."""
        found = tuple(one for one in self.symbols if one.word in _COLORS and one.live is not None and len(one.live.days))
        return (found or self.symbols[:1])[:_DRAWN]

    def warnings_frame(self) -> pd.DataFrame:
        """Return what was noticed, a line each, and decides nothing."""
        lines = [(one.symbol, warning) for one in self.symbols for warning in one.warnings]
        return pd.DataFrame(lines, columns=["symbol", "noticed"])

    def days_frame(self) -> pd.DataFrame:
        """Return the last live days of the worst symbol, for people: in per cent, with the evidence."""
        one = next(iter(self.symbols), None)
        if one is None or one.live is None or one.versus_zero is None:
            return pd.DataFrame(columns=["forecast", "actual"])
        days = one.live.days.join(one.versus_zero.days).tail(_SHOWN_DAYS)
        shown = {
            "forecast": [f"{value:+.3%}" for value in days["forecast"]],
            "actual": [f"{value:+.3%}" for value in days["actual"]],
            "version": days["version"].astype(str).to_list(),
            "e-process": [f"{value:.3g}" for value in days["e_process"]],
            "e-detector": [f"{value:.3g}" for value in days["e_detector"]],
        }
        index = [f"{day:%Y-%m-%d}" for day in days.index]
        return pd.DataFrame(shown, index=index).rename_axis(columns=f"{one.symbol}, the last {len(days)} live days")

    @property
    def alarms(self) -> list[str]:
        """Symbols with an alarm."""
        return [one.symbol for one in self.symbols if one.word == "alarm"]

    @property
    def summary(self) -> dict[str, Any]:
        """Result, answer and counts, for the summary of the notebook."""
        counts = {word: sum(one.word == word for one in self.symbols) for word in WORDS}
        named = [f"{count} {word}" for word, count in counts.items() if count]
        worst = next(iter(self.symbols), None)
        alone = worst is not None and len(self.symbols) == 1
        text = f"{worst.symbol}: {worst.word}." if worst and alone else f"{', '.join(named) or 'No symbol is watched'}."
        if worst is not None and (alone or worst.word in {"alarm", "in doubt"}):
            reason = worst.decision.outcome_facts.reason if worst.decision else worst.reason
            text += f"{'' if alone else f' {worst.symbol}:'} {reason} {worst.advice}".rstrip()
            text += f" {worst.next_words}" if alone and worst.next_words else ""
        if not alone and self.among_all:
            text += f" Beyond chance among all {len(self.symbols)}, at a false discovery rate of {self.alpha:.0%}: "
            text += f"{', '.join(self.among_all)}."
        if len(self.alarms) > 1:
            text = f"Alarms: {', '.join(self.alarms)}. {text}"
        result = next((word for word, count in counts.items() if count), "nothing watched")
        return {"result": result, "answer": text, **{word.replace(" ", "_"): count for word, count in counts.items()}}


def sparkline(found: Watched, width: int = _SPARK) -> str:
    """Return the evidence of the last days as text, on a log scale from 1 % of an alarm to an alarm."""
    share = found.share.to_numpy()
    if not len(share):
        return ""
    parts = [part.max() for part in np.array_split(share, min(width, len(share)))]
    heights = [1 - np.log(max(part, _LOWEST)) / np.log(_LOWEST) for part in parts]
    return "".join(_BARS[min(int(height * (len(_BARS) - 1)), len(_BARS) - 1)] for height in heights)


def watch_symbols(registry: RegistryClient, symbols: Collection[str] = (), *, apply: bool = False) -> Watch:
    """Watch symbols, or all champions; with ``apply``, put each alarm on record, and do what ``watch.on_alarm`` says."""
    log = read_log(registry)
    parts, nothing = log.by_symbol(), replace(log, rows=log.rows.iloc[:0])
    chosen = [(symbol, parts.get(symbol, nothing)) for symbol in chosen_symbols(registry, symbols, log)]
    with progress_bar("watch") as progress:
        found = each(registry, _watched, chosen, progress)
    if apply:
        found = [_alarmed(registry, one, log) if one.word == "alarm" else one for one in found]
        _note(registry, found)
    found.sort(key=lambda one: (WORDS.index(one.word), -one.share, one.symbol))
    alpha = registry.params.watch.alpha
    e_values = {one.symbol: one.versus_zero.e_value for one in found if one.versus_zero}
    return Watch(symbols=tuple(found), among_all=tuple(e_bh(e_values, alpha)), alpha=alpha, shown_only=not apply)


def _note(registry: RegistryClient, found: Sequence[WatchedSymbol]) -> None:
    """Show what was found in the registry's list of models and in the gallery; neither is evidence."""
    day = utc_now()[:10]
    there = registered_models(registry)
    for one in found:
        if (name := model_name(one.symbol)) in there:
            try:
                note_watch(registry, name, f"{one.word}, {day}")
            except RegistryError as error:
                logger.warning("%s is not tagged with %s: %s", name, one.word, error)
    lines = ({"model": model_name(one.symbol), "symbol": one.symbol, "watch": [one.word, day, one.reason]} for one in found)
    note_live(registry.params.paths.records, lines)


def _watched(registry: RegistryClient, wanted: tuple[str, Log]) -> WatchedSymbol:
    """Watch one symbol, by its part of the record; an error is the reason why it is not watched, unless the registry is away."""
    symbol, log = wanted
    try:
        name = model_name(symbol)
        ledger, champion = read_ledger(registry, name), serving(registry, name)
        if champion is None or (tenure := ledger.tenure) is None:
            return WatchedSymbol(symbol=symbol, word="not watched", reason="No version is in Production.")
        prices = read_prices(symbol, registry.params.prices)
        model = load_found(registry, champion)
        live = live_record(log, symbol, tenure, prices)
        earlier = earlier_losses(model, prices)
    except RegistryUnavailableError:
        raise
    except FxError as error:
        return WatchedSymbol(symbol=symbol, word="not watched", reason=in_a_line(error))
    rules = registry.params.watch
    budget: dict[str, Any] = {"alpha": rules.alpha, "years": rules.years}
    before = excess_losses(earlier["actual"], earlier["forecast"]).to_numpy()
    against_zero = watch(excess_losses(live.days["actual"], live.days["forecast"]), before, **budget)
    both = live.days.dropna()
    shadow = None
    if len(both):
        losses = excess_losses(both["actual"], both["forecast"], both["predecessor"])
        shadow = watch(losses, np.empty(0), versus="the champion before", **budget)
    warnings = [live.restated, live.missed]
    every = pd.concat([live.days["forecast"], live.pending["forecast"]])
    warnings.append(size_warning(every.reset_index(drop=True), earlier["forecast"]))
    if shadow is not None and shadow.word in {"alarm", "in doubt"}:
        warnings.append(shadow.reason)
    word, reason = _word(against_zero, live)
    return WatchedSymbol(
        symbol=symbol,
        word=word,
        reason=reason,
        champion=champion.identity,
        live=live,
        versus_zero=against_zero,
        versus_predecessor=shadow,
        warnings=tuple(filter(None, warnings)),
        earlier=earlier,
        fallback=_fallback(ledger, live, before, rules),
    )


def _word(found: Watched, live: LiveRecord) -> tuple[str, str]:
    """Return the word of a champion, and why: while it serves on after an alarm, it is in doubt at least."""
    tenure = live.tenure
    if tenure.alarm is not None and found.word != "alarm":
        text = f"Its alarm of {tenure.alarm.time[:10]} is on record, and it serves on; the evidence began anew then."
        return "in doubt", f"{text} {found.reason}"
    last = f"{live.days.index[-1]:%Y-%m-%d}" if len(live.days) else tenure.since[:10]
    if found.word in {"alarm", "in doubt"} or pd.Timestamp(utc_now()[:10]) - pd.Timestamp(last) <= _SILENT:
        return found.word, found.reason
    what = "The last live day was" if len(live.days) else "It has served without a live day since"
    text = f"{what} {last}: its forecasts are not recorded in time, or its prices end too early."
    return "not watched", f"{text} {live.missed}".rstrip()


def _alarmed(registry: RegistryClient, one: WatchedSymbol, log: Log) -> WatchedSymbol:
    """Put an alarm on record; another process that was faster is a warning, and the next watch finds what it did."""
    if one.champion is None or one.live is None or one.versus_zero is None or one.earlier is None:
        return one
    rules, days = registry.params.watch, one.versus_zero.days
    last = days.iloc[-1]
    facts = {
        "e_process": float(last["e_process"]),
        "e_detector": float(last["e_detector"]),
        "thresholds": list(one.versus_zero.thresholds),
        "alpha": rules.alpha,
        "years": rules.years,
        "live_days": len(days),
        "first_session": f"{days.index[0]:%Y-%m-%d}",
        "last_session": f"{days.index[-1]:%Y-%m-%d}",
        "forecasts": log.head,
    }
    evidence = {
        WATCH_FILE: one.live.days.join(days).to_csv(lineterminator="\n").encode(),
        EARLIER_FILE: one.earlier.rename_axis(index="day").to_csv(lineterminator="\n").encode(),
    }
    try:
        done = raise_alarm(
            registry,
            one.symbol,
            one.champion,
            last=one.live.tenure.alarm,
            on_alarm=rules.on_alarm,
            predecessor=one.fallback,
            reason=one.reason,
            facts=facts,
            evidence=evidence,
        )
    except StaleComparisonError as error:
        logger.warning("%s", error)
        return one
    except (RegistryUnavailableError, NoRecordError):
        raise
    except FxError as error:  # the others are watched
        text = f"The alarm is not on record: {' '.join(str(error).split())}"[:300]
        logger.warning("%s: %s", one.symbol, text)
        return replace(one, warnings=(text, *one.warnings))
    return replace(one, decision=done)


def _fallback(ledger: Ledger, live: LiveRecord, earlier: np.ndarray, rules: WatchParams) -> Identity | None:
    """Return the predecessor, unless it is in alarm itself: on its own forecasts of these days, or when it served.

    Its first bets take their size from the ``earlier`` excess losses of the champion.
    """
    before = live.tenure.predecessor
    if before is None or any(d.version == before.number and d.identity(before.number).may_be(before) for d in ledger.alarms):
        return None
    days = live.days.dropna()
    found = watch(excess_losses(days["actual"], days["predecessor"]), earlier, alpha=rules.alpha, years=rules.years)
    return None if found.word == "alarm" else before
