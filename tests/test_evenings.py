"""A desk's evenings, one after the other: forecasts and the watch over them, with refits, missed evenings and kills.

Some here; ``make stress`` does 750 (``--rounds``, times 7.5), in which one of five shares breaks.
"""

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import evenings
import numpy as np
import pandas as pd
import pytest
import time_machine
from conftest import Project
from evenings import BEFORE, SETTINGS, Desk

from fxhelpers.forecasts import Log, read_log
from fxhelpers.ledger import Decision
from fxhelpers.params import model_name
from fxhelpers.registry.ledger_store import read_ledger

STEADY, BROKEN = ("CALM", "EVEN", "FIRM", "WEEK"), "TURN"
REFITTED = "WEEK"
WEEK = 5  # evenings
SOON = 220  # evenings: one and a half times the median of docs/watch.md for errors that grow by 20 % after two good years
_WRITES = 18  # to the registry, on an evening of five shares
_MOST = 0.9  # of the evenings have a number
MINUTE = timedelta(minutes=1)


@pytest.fixture
def count(rounds: int) -> int:
    return 15 if rounds <= 2 else int(7.5 * rounds)


@pytest.fixture
def desk(project: Project, monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[Desk]:
    evenings.without_clock(monkeypatch)
    project.write(**SETTINGS, watch={"on_alarm": "vacate"})
    days = evenings.sessions(BEFORE + count + 2)
    shares = {}
    for seed, symbol in enumerate((*STEADY, BROKEN)):
        values = evenings.returns(len(days), seed, flips=BEFORE + Plan.of(count).breaks if symbol == BROKEN else None)
        shares[symbol] = evenings.prices_of(values, days, seed)
    with time_machine.travel(datetime(2013, 1, 1, tzinfo=UTC)) as clock:
        made = Desk(project.folder, shares, clock)
        made.close(BEFORE - 1)
        for symbol in shares:
            made.serve(symbol)
        yield made


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens on which evening."""

    count: int
    missed: frozenset[int]
    killed: dict[int, int]  # after how many writes its first run is killed

    @classmethod
    def of(cls, count: int) -> "Plan":
        some = random.Random(count)  # noqa: S311 (the same evenings every time)
        missed = frozenset(some.sample(range(1, count - 1), count // 15))
        killed = some.sample(sorted(set(range(1, count)) - missed), max(2, count // 25))
        return cls(count=count, missed=missed, killed={number: some.randint(1, _WRITES) for number in killed})

    @property
    def breaks(self) -> int:
        """The evening on which a share's relation changes its sign."""
        return 8 * self.count // 15


@pytest.mark.usefixtures("thorough")
def test_no_forecast_is_lost_or_made_twice_and_only_the_share_that_broke_has_an_alarm(desk: Desk, count: int) -> None:
    plan = Plan.of(count)
    for number in range(count):
        spend(desk, number, plan)
    check(desk, plan)


def spend(desk: Desk, number: int, plan: Plan) -> None:
    """Spend one evening: on Fridays a refit is promoted; then forecast and watch, by a second run if the first was killed."""
    desk.close(BEFORE + number)
    if number in plan.missed:
        return
    if number % WEEK == WEEK - 1:
        registry = desk.registry
        version = registry.register_model(desk.train(REFITTED)).version
        assert registry.promote(registry.propose(REFITTED, version, apply=True)).result == "promoted"
    if number in plan.killed:
        ended = evenings.killed_evening(desk.folder, datetime.now(UTC), plan.killed[number])
        assert ended in {-signal.SIGKILL, 0}  # it writes less if somebody has no champion
        desk.clock.shift(MINUTE)
    started = time.perf_counter()
    desk.registry.forecast(apply=True)
    between = time.perf_counter()
    desk.registry.watch(apply=True)
    print(f"evening {number}: forecast {between - started:.2f} s, watch {time.perf_counter() - between:.2f} s", flush=True)


def check(desk: Desk, plan: Plan) -> None:
    """Check the record, the files, the alarms and the live days of all evenings."""
    log = read_log(desk.registry.client)
    alarm = next(iter(alarms(desk, BROKEN)), None)
    check_record(desk, log, plan, alarm)
    check_files(desk, log)
    assert [alarms(desk, symbol) for symbol in STEADY] == [[]] * len(STEADY)
    if plan.count > plan.breaks + SOON:
        assert alarm is not None
        began, last = (f"{desk.sessions[BEFORE + plan.breaks + days]:%Y-%m-%d}" for days in (0, SOON))
        assert began < alarm.time[:10] <= last
    else:
        assert alarm is None
    check_live_days(desk, log, plan)
    assert desk.registry.verify(deep=True).problems == []


def alarms(desk: Desk, symbol: str) -> list[Decision]:
    return [d for d in read_ledger(desk.registry.client, model_name(symbol)).outcomes if d.kind == "alarm"]


def check_record(desk: Desk, log: Log, plan: Plan, alarm: Decision | None) -> None:
    """Every session has one row of each share: a number, live unless its evening was missed, or a reason why there is none.

    Prices of three years may leave the range of a first training; and a missed evening is not caught up by a later refit.
    """
    assert log.faults == ()
    assert not log.rows.duplicated(["session", "symbol", "role", "forecast", "why"]).any()
    counted = log.counted().set_index(["symbol", "session"])
    assert counted.index.is_unique
    assert counted["revision"].isna().all()
    sessions = [f"{desk.sessions[BEFORE + number + 1]:%Y-%m-%d}" for number in range(plan.count)]
    late = {sessions[number] for number in plan.missed}
    for symbol in (*STEADY, BROKEN):
        rows = counted.loc[symbol]
        assert rows.index.to_list() == sessions
        vacant = (rows["made_at"] > alarm.time if alarm and symbol == BROKEN else rows["version"] < 0).to_numpy()
        numbered = rows["forecast"].notna().to_numpy()
        assert not numbered[vacant].any()
        assert rows["why"][~numbered & ~vacant].str.contains("outside of what version 1 of|fitted on days up to").all()
        assert not (rows["live"] & rows["why"].str.contains("fitted on days up to")).any()
        assert numbered[~vacant].mean() > _MOST
        assert (rows["live"].to_numpy() == ~np.isin(rows.index, list(late))).all()
        assert rows["why"][vacant].str.contains("alarm").all()


def check_files(desk: Desk, log: Log) -> None:
    """Each session's file has what is on record of it."""
    counted = log.counted()
    for path in sorted((desk.folder / "outputs" / "forecasts").glob("*.csv")):
        shown, kept = pd.read_csv(path), counted[counted["session"] == path.stem]
        assert shown["symbol"].to_list() == kept["symbol"].to_list()
        np.testing.assert_array_equal(shown["forecast"], kept["forecast"])
        numbered = kept["forecast"].notna().to_numpy()
        status = np.where(numbered, np.where(kept["live"], "live", "late"), "")
        assert shown["status"].fillna("").to_list() == status.tolist()


def check_live_days(desk: Desk, log: Log, plan: Plan) -> None:
    """All live numbers of a share count, through all its refits, but for the last one, whose return is to come."""
    found, counted = desk.registry.watch(), log.counted()
    made = counted[counted["live"] & counted["forecast"].notna()].groupby("symbol").size()
    for symbol in STEADY:
        live = found[symbol].live
        assert len(live.days) + len(live.pending) == made[symbol] > _MOST * (plan.count - len(plan.missed))
        assert len(live.pending) <= 1
        assert found[symbol].word in {"too early to tell", "healthy", "in doubt"}
