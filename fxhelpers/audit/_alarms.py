"""Checks of alarms: whether the stored live days give the evidence again, and were forecast before their sessions."""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from fxhelpers.audit._records import Finding, problem
from fxhelpers.decisions import EVIDENCE
from fxhelpers.forecasts import EARLIER_FILE, WATCH_FILE, Log
from fxhelpers.ledger import Decision, Ledger
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import fetch
from fxhelpers.system import sha256
from fxhelpers.watching import Watched, excess_losses, watch

_TOLERANCE = 1e-9  # of the evidence: processors differ in their arithmetic
_SAME = 1e-12  # of a forecast
_NAMED = 3  # days in a message
_REMEDY = "do not rely on this alarm; the record shows what it rested on, and the log of forecasts what was forecast"


def alarm_findings(registry: RegistryClient, ledger: Ledger, log: Callable[[], Log]) -> Iterator[Finding]:
    """Compute each alarm again from its stored days, and look for these in the log of forecasts, read by ``log``."""
    for decision in ledger.alarms:
        for message in _alarm(registry, decision, log):
            yield problem(ledger.name, message, _REMEDY, decision.id)


def _alarm(registry: RegistryClient, decision: Decision, log: Callable[[], Log]) -> Iterator[str]:
    kept = decision.outcome_facts.evidence
    if missing := [name for name in (WATCH_FILE, EARLIER_FILE) if name not in kept]:
        yield f"the alarm names no {' and no '.join(missing)}: nothing proves it"
        return
    contents = {name: fetch(registry, decision, f"{EVIDENCE}/{name}") for name in (WATCH_FILE, EARLIER_FILE)}
    if any(content is None or sha256(content) != kept[name] for name, content in contents.items()):
        return  # a finding already: its files are gone or were edited
    facts = decision.outcome_facts.alarm
    try:
        days, earlier = (_table(contents[name] or b"") for name in (WATCH_FILE, EARLIER_FILE))
        found = watch(
            excess_losses(days["actual"], days["forecast"]),
            excess_losses(earlier["actual"], earlier["forecast"]).to_numpy(),
            alpha=facts["alpha"],
            years=facts["years"],
        )
    except (KeyError, TypeError, ValueError) as error:
        yield f"its stored days or its facts cannot be read: {type(error).__name__} {error}"[:250]
        return
    if wrong := _wrong(facts, found):
        yield f"the evidence computed from its stored days is another: {'; '.join(wrong)}"
    if found.first_alarm is None:
        yield "the evidence computed from its stored days reaches no threshold: it is no alarm"
    if absent := _absent(decision, days, log()):
        more = f", … ({len(absent)} in all)" if len(absent) > _NAMED else ""
        yield f"not on record before their sessions, by the log of forecasts: {', '.join(absent[:_NAMED])}{more}"


def _table(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), index_col=0, parse_dates=True)


def _wrong(facts: Mapping[str, Any], found: Watched) -> list[str]:
    """Return which facts of an outcome are not those computed again."""
    if found.days.empty:
        return ["no day"]
    last, names = found.days.iloc[-1], [f"{day:%Y-%m-%d}" for day in found.days.index]
    numbers = {"e_process": float(last["e_process"]), "e_detector": float(last["e_detector"])}
    pairs = [(name, facts.get(name), value) for name, value in numbers.items()]
    thresholds = facts.get("thresholds") or []
    pairs += [("threshold", stated, value) for stated, value in zip(thresholds, found.thresholds, strict=False)]
    wrong = [f"{name} {stated}, computed {value:.6g}" for name, stated, value in pairs if not _close(stated, value)]
    wrong += ["thresholds"] * (len(thresholds) != len(found.thresholds))
    same = {"live_days": len(names), "first_session": names[0], "last_session": names[-1]}
    return wrong + [f"{name} {facts.get(name)}, computed {value}" for name, value in same.items() if facts.get(name) != value]


def _close(stated: object, value: float) -> bool:
    return isinstance(stated, int | float) and math.isclose(stated, value, rel_tol=_TOLERANCE)


def _absent(decision: Decision, days: pd.DataFrame, log: Log) -> list[str]:
    """Return the stored days without the same number by the same version in the log, before the session opened."""
    counted = log.of(decision.symbol).counted()
    counted = counted[counted["live"] & (counted["made_at"] < decision.time)].set_index("session")
    absent = []
    for day, row in days.iterrows():
        name = f"{day:%Y-%m-%d}"
        known = counted.loc[name] if name in counted.index else None
        if known is None or known["version"] != row["version"] or not abs(known["forecast"] - row["forecast"]) <= _SAME:
            absent.append(name)
    return absent
