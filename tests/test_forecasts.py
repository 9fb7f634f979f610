"""Forecasts on record and the watch over them: evenings of a desk, wrong clocks, edited files and broken prices."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import evenings
import faults
import numpy as np
import pandas as pd
import pytest
import time_machine
import yaml
from conftest import ROOT, Project, moved
from evenings import Desk
from test_notify import Receiver

from fxhelpers import features_for, read_prices
from fxhelpers.cli._run import ALARM, _symbols
from fxhelpers.errors import ClockError, ParamsError
from fxhelpers.forecasts import CHAMPION, FILE_COLUMNS, PREDECESSOR, read_log
from fxhelpers.forecasts._live import LiveRecord, live_record
from fxhelpers.forecasts._log import Row, record_rows
from fxhelpers.ledger import Decision, Identity
from fxhelpers.params import model_name
from fxhelpers.registry.ledger_store import FORECASTS, read_ledger

START = 700  # the session after whose close the first champions serve
SYMBOLS = ("AAA", "BBB")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Path:
    """A desk after its first evening: AAA has a champion and another recipe's version 2, BBB a champion."""
    folder = tmp_path_factory.mktemp("desk")
    database = folder / "outputs" / "registry" / "mlflow.db"
    database.parent.mkdir(parents=True)
    shutil.copy(empty_registry, database)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in evenings.SETTINGS.items():
        settings[section].update(values)
    file = folder / "params.yaml"
    with pytest.MonkeyPatch.context() as patch, time_machine.travel(0) as clock:
        patch.setattr("fxhelpers.registry._client.registry_clock", lambda _: None)
        patch.chdir(folder)
        desk = Desk(folder, shares(), clock)
        desk.close(START)
        file.write_text(yaml.safe_dump(settings))
        for symbol in SYMBOLS:
            desk.serve(symbol)
        settings["training"]["models"]["ridge"]["alpha"] = 10.0
        file.write_text(yaml.safe_dump(settings))
        desk.registry.register_model(desk.train("AAA"))
    return folder


def shares() -> dict[str, pd.DataFrame]:
    days = evenings.sessions(900)
    return {symbol: evenings.prices_of(evenings.returns(900, n), days, n) for n, symbol in enumerate(SYMBOLS)}


@pytest.fixture
def desk(project: Project, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A copy of that desk, whose registry has no clock of its own, two hours after the close of the next session."""
    shutil.copytree(template, project.folder, dirs_exist_ok=True)
    moved(project.folder, template.as_uri())
    project.settings = yaml.safe_load((project.folder / "params.yaml").read_text())
    monkeypatch.setattr("fxhelpers.registry._client.registry_clock", lambda _: None)
    with time_machine.travel(0) as clock:
        one = Desk(project.folder, shares(), clock)
        one.close(START + 1)
        yield one


def day(desk: Desk, number: int) -> str:
    return f"{desk.sessions[number]:%Y-%m-%d}"


def identity(desk: Desk, symbol: str, version: int) -> Identity:
    return desk.registry.client.version(model_name(symbol), version).identity


def rows_of(
    desk: Desk,
    days: range,
    forecast: float = 0.001,
    *,
    symbol: str = "AAA",
    version: int = 1,
    role: str = CHAMPION,
    prices: pd.DataFrame | None = None,
) -> list[Row]:
    """Return forecasts of the sessions of these places, each made after the one before it."""
    close = (desk.shares[symbol] if prices is None else prices)["Close"]
    who = identity(desk, symbol, version)
    return [
        Row(
            session=day(desk, n),
            symbol=symbol,
            role=role,
            forecast=forecast,
            why="",
            model=model_name(symbol),
            version=version,
            as_of=day(desk, n - 1),
            bundle_sha256=str(who.bundle),
            recipe_sha256="",
            prices_sha256="",
            last_return=float(close.iloc[n - 1] / close.iloc[n - 2] - 1),
        )
        for n in days
    ]


def record(desk: Desk, *rows: list[Row]) -> Decision:
    return record_rows(desk.registry.client, [row for some in rows for row in some])


def live(desk: Desk, symbol: str = "AAA") -> LiveRecord:
    registry = desk.registry.client
    tenure = read_ledger(registry, model_name(symbol)).tenure
    assert tenure is not None
    return live_record(read_log(registry), symbol, tenure, read_prices(symbol, registry.params.prices))


def problems(desk: Desk) -> list[str]:
    return [finding.message for finding in desk.registry.verify(deep=True).problems]


def change_bytes(desk: Desk, symbol: str) -> None:
    """Change the stored models of version 1 behind MLflow's back."""
    run = desk.registry.client.version(model_name(symbol), 1).run_id
    files = list(desk.folder.glob(f"outputs/registry/artifacts/{run}/**/*.skops"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes() + b" ")


def stored_file(desk: Desk, batch: Decision) -> Path:
    (found,) = (desk.folder / "outputs" / "registry" / "artifacts").glob(f"{batch.run_id}/artifacts/evidence/forecasts.csv")
    return found


# ---------------------------------------------------------------------------------------------------------------- an evening


def test_an_evening_is_a_file_for_the_desk_and_again_it_is_the_same(desk: Desk) -> None:
    made = desk.registry.forecast(apply=True)
    session = day(desk, START + 2)
    assert (made.session, made.as_of, made.summary["result"], made.summary["live"]) == (
        session,
        day(desk, START + 1),
        "recorded",
        2,
    )
    folder = desk.folder / "outputs" / "forecasts"
    files = [folder / f"{session}.csv", folder / f"{session}.parquet"]
    assert made.path == files[0]
    table = pd.read_csv(files[0])
    documented = (ROOT / "docs" / "forecasts.md").read_text().partition("| column |")[2].partition("\n\n")[0]
    assert [name for name in FILE_COLUMNS if f"`{name}`" not in documented] == []
    assert list(table) == list(FILE_COLUMNS) == list(pd.read_parquet(files[1]))
    assert table["symbol"].tolist() == ["AAA", "BBB"]
    assert table["status"].tolist() == ["live", "live"]
    assert table[["why", "revision", "record"]].isna().all(axis=None)
    model = desk.registry.load_champion("AAA")
    assert model is not None
    features = features_for(read_prices("AAA", desk.registry.params.prices), model, last=1)
    by_hand = model.forecast({str(name): value for name, value in features.iloc[-1].items()})
    assert table["forecast"][0] == by_hand == pd.read_parquet(files[1])["forecast"][0]
    assert table["bundle_sha256"][0] == identity(desk, "AAA", 1).bundle
    before, entries = [file.read_bytes() for file in files], len(read_ledger(desk.registry.client, FORECASTS).decisions)
    again = desk.registry.forecast(apply=True)
    assert (again.summary["result"], again.recorded) == ("unchanged", None)
    assert [file.read_bytes() for file in files] == before
    assert len(read_ledger(desk.registry.client, FORECASTS).decisions) == entries == 1
    assert problems(desk) == []


def test_another_champion_the_same_evening_is_a_revision_and_the_first_number_stays(desk: Desk) -> None:
    first = desk.registry.forecast(["AAA"], apply=True).rows["forecast"][0]
    desk.registry.transition_stage(model_name("AAA"), 2, "Production")
    row = desk.registry.forecast(["AAA"], apply=True).rows.iloc[0]
    assert (row["forecast"], row["version"], row["status"]) == (first, 1, "live")
    assert math.isfinite(row["revision"])
    assert row["revision"] != first
    rows = read_log(desk.registry.client).rows
    assert rows[["role", "version"]].to_numpy().tolist() == [[CHAMPION, 1], [CHAMPION, 2], [PREDECESSOR, 1]]
    desk.close(START + 2)
    assert live(desk).days.empty  # the first number was not of what serves now
    assert live(desk).missed == ""


def test_only_shown_is_not_on_record(desk: Desk) -> None:
    shown = desk.registry.forecast()
    assert shown.summary["result"] == "only shown"
    assert shown.rows["status"].tolist() == ["live", "live"]
    assert not (desk.folder / "outputs" / "forecasts").exists()
    assert read_ledger(desk.registry.client, FORECASTS).decisions == ()
    desk.registry.forecast(apply=True)
    desk.close(START + 4)
    shown = desk.registry.forecast()
    assert shown.caught_up == (day(desk, START + 3), day(desk, START + 4))
    assert "Caught up" not in shown.summary["answer"]


def test_missed_evenings_are_caught_up_late_and_never_count_as_live(desk: Desk) -> None:
    desk.registry.forecast(["AAA"], apply=True)
    desk.close(START + 6)
    made = desk.registry.forecast(["AAA"], apply=True)
    late = tuple(day(desk, n) for n in range(START + 3, START + 7))
    assert made.caught_up == late
    assert made.rows["status"].tolist() == ["live"]
    files = desk.folder / "outputs" / "forecasts"
    assert {session: pd.read_csv(files / f"{session}.csv")["status"][0] for session in late} == dict.fromkeys(late, "late")
    opens = desk.calendar.session_open(desk.sessions[START + 7])
    desk.clock.move_to((opens + timedelta(seconds=1)).to_pydatetime())
    assert desk.registry.forecast(["BBB"], apply=True).rows["status"].tolist() == ["late"]
    desk.close(START + 7)
    found = live(desk)
    assert [f"{one:%Y-%m-%d}" for one in found.days.index] == [day(desk, START + 2), day(desk, START + 7)]
    assert found.gaps["late"] == late
    close = desk.shares["AAA"]["Close"]
    assert found.days["actual"].iloc[0] == pytest.approx(close.iloc[START + 2] / close.iloc[START + 1] - 1, abs=1e-12)
    assert live(desk, "BBB").days.empty


# ---------------------------------------------------------------------------------------------------------------- no number


def test_one_symbols_trouble_is_its_reason_and_the_others_have_numbers(desk: Desk, project: Project) -> None:
    registry = desk.registry
    with registry.client.session("make a model of plain MLflow") as client:
        for name in (model_name("DDD"), f"{model_name('E')} E"):
            client.create_registered_model(name)
            client.create_model_version(name, (desk.folder / "prices").as_uri())
            client.set_registered_model_alias(name, "champion", "1")
    rows = registry.forecast(["AAA", "CCC", "DDD", "AAA"], apply=True).rows.set_index("symbol")
    assert rows.index.tolist() == ["AAA", "CCC", "DDD"]
    assert math.isfinite(rows["forecast"]["AAA"])
    assert rows["why"]["CCC"].startswith("no version is in Production; promote one: ")
    assert (rows["version"]["CCC"], rows["version"]["DDD"]) == (0, 1)
    assert rows["why"]["DDD"]
    desk.close(START + 2, symbols=["AAA"])
    rows = desk.registry.forecast(apply=True).rows.set_index("symbol")
    assert rows.index.tolist() == ["AAA", "BBB", "DDD"]  # a symbol without a model is not on record every evening
    assert "prices end on" in rows["why"]["BBB"]
    assert day(desk, START + 2) in rows["why"]["BBB"]
    desk.close(START + 3)
    change_bytes(desk, "BBB")
    rows = desk.registry.forecast(apply=True).rows.set_index("symbol")
    assert math.isfinite(rows["forecast"]["AAA"])
    assert math.isnan(rows["forecast"]["BBB"])
    assert "version 1 of MLP_Stock_Predictor_BBB: the stored" in rows["why"]["BBB"]
    assert (rows["version"]["BBB"], rows["bundle_sha256"]["BBB"]) == (1, identity(desk, "BBB", 1).bundle)
    words = {one.symbol: one.word for one in desk.registry.watch().symbols}
    assert words == {"AAA": "too early to tell", "BBB": "not watched", "DDD": "not watched"}


def test_evidence_that_ended_weeks_ago_is_not_health(desk: Desk) -> None:
    desk.registry.forecast(apply=True)
    desk.close(START + 2)
    assert desk.registry.watch()["AAA"].word == "too early to tell"
    desk.close(START + 2 + 20)  # nobody forecast in the meantime, nor on the first evening
    found = desk.registry.watch()["AAA"]
    assert found.word == "not watched"
    assert found.reason.startswith(f"The last live day was {day(desk, START + 2)}: ")
    assert f"21 without a forecast, last {day(desk, START + 22)}" in found.reason
    assert desk.registry.watch().summary["result"] == "not watched"


def test_a_record_of_forecasts_that_are_in_no_ledger_is_named(desk: Desk) -> None:
    folder = desk.folder / "outputs" / "records" / "_forecasts"
    folder.mkdir(parents=True)
    header = {"decisions": [[FORECASTS, "a-run-that-is-gone"]], "registry": None}
    record = {"cells": [], "metadata": {"fxhelpers": {"record": header}}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "evening.ipynb").write_text(json.dumps(record, indent=1, sort_keys=True))
    (problem,) = desk.registry.verify().problems
    assert "_forecasts/evening.ipynb is of a decision that the ledger lacks (run a-run-that-is-gone)" in problem.message
    desk.registry.forecast(apply=True)
    assert [found.message for found in desk.registry.verify().problems] == [problem.message]


def test_a_vacant_symbol_says_since_when_and_why(desk: Desk) -> None:
    desk.registry.forecast(apply=True)
    desk.registry.rollback("AAA", to="none", reason="merger on Friday", apply=True)
    desk.close(START + 2)
    rows = desk.registry.forecast(apply=True).rows.set_index("symbol")
    assert rows["why"]["AAA"].startswith("no version is in Production since the rollback of 2013-10-16")
    assert "merger on Friday" in rows["why"]["AAA"]
    assert math.isfinite(rows["forecast"]["BBB"])
    assert desk.registry.watch()["AAA"].word == "not watched"


@pytest.mark.parametrize(("what", "ago", "doubtful"), [("missing", 3, True), ("missing", 150, False), ("jump", 150, True)])
def test_doubtful_prices_give_no_number_unless_they_are_accepted(desk: Desk, what: str, ago: int, *, doubtful: bool) -> None:
    prices = desk.shares["AAA"].iloc[: START + 2].copy()
    day = prices.index[START - ago]
    if what == "missing":
        prices = prices.drop(day)
    else:
        prices.loc[day, ["Open", "High", "Low", "Close"]] *= 1.3
    prices.to_csv(desk.folder / "prices" / "AAA.csv")
    rows = desk.registry.forecast(apply=True).rows.set_index("symbol")
    assert rows["why"]["AAA"].startswith("doubtful prices on days of its features: ") == doubtful
    assert math.isfinite(rows["forecast"]["AAA"]) != doubtful
    assert math.isfinite(rows["forecast"]["BBB"])
    accepted = desk.registry.forecast(["AAA"], accept_doubts=True, apply=True).rows.iloc[0]
    assert (accepted["status"], accepted["why"]) == ("live", "")


@pytest.mark.parametrize(
    ("as_of", "message"),
    [
        ("2013-10-17", "has not ended yet; the newest session that has is 2013-10-16"),
        ("2013-10-13", "is no session of XNYS; the last one before it is 2013-10-11"),
        ("next week", "expected a day such as"),
        ("0001-01-01", "as_of|calendar"),
    ],
)
def test_a_day_that_is_no_finished_session_is_refused(desk: Desk, as_of: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        desk.registry.forecast(as_of=as_of)


def test_what_a_version_was_fitted_on_is_no_forecast(desk: Desk) -> None:
    row = desk.registry.forecast(["AAA"], as_of=day(desk, START - 5), apply=True).rows.iloc[0]
    assert "was fitted on days up to" in row["why"]
    assert (row["status"], row["version"]) == ("", 1)


def test_symbols_are_lists(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for look in (desk.registry.forecast, desk.registry.watch):
        with pytest.raises(ParamsError, match="expected a list"):
            look("AAA")
        with pytest.raises(ParamsError, match="is not a ticker"):
            look(["../AAA"])
    Path("list.txt").write_text("BBB, AAA # both\nAAA\n")
    assert _symbols(("@list.txt",)) == ["BBB", "AAA"]
    assert _symbols(("AAA,BBB", "AAA")) == ["AAA", "BBB"]
    with pytest.raises(ParamsError, match=r"SYMBOLS @none\.txt"):
        _symbols(("@none.txt",))


def test_a_registry_without_any_champion_has_an_empty_evening(desk: Desk) -> None:
    for symbol in SYMBOLS:
        desk.registry.rollback(symbol, to="none", reason="nobody", apply=True)
    made = desk.registry.forecast(apply=True)
    assert made.summary["answer"].endswith("no symbol. Nothing is new: all of it was on record already.")
    assert pd.read_csv(made.path or "")["symbol"].tolist() == []
    assert desk.registry.watch(apply=True).summary["result"] == "nothing watched"


# -------------------------------------------------------------------------------------------------------------------- clocks


def test_a_clock_behind_the_last_entry_records_nothing(desk: Desk) -> None:
    record(desk, rows_of(desk, range(START + 2, START + 3)))
    desk.clock.shift(-timedelta(minutes=11))
    with pytest.raises(ClockError, match="behind"):
        record(desk, rows_of(desk, range(START + 2, START + 3), symbol="BBB"))
    desk.clock.shift(timedelta(minutes=10))  # one minute behind
    before = read_ledger(desk.registry.client, FORECASTS).decisions[-1]
    made = record(desk, rows_of(desk, range(START + 2, START + 3), symbol="BBB"))
    assert made.time >= before.time
    assert made.intent.facts.clock_off_seconds is not None
    assert set(read_log(desk.registry.client).rows["symbol"]) == {"AAA", "BBB"}


def test_the_registrys_clock_decides_what_is_late(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = desk.calendar.session_open(desk.sessions[START + 2]).to_pydatetime()

    def clock(ahead: timedelta) -> Callable[[Any], datetime]:
        return lambda _: datetime.now(UTC) + ahead

    monkeypatch.setattr("fxhelpers.registry._client.registry_clock", clock(timedelta(minutes=5)))
    desk.clock.move_to(opens - timedelta(minutes=3))  # of this machine, which is five minutes behind
    assert desk.registry.forecast(["AAA"], apply=True).rows["status"].tolist() == ["late"]
    monkeypatch.setattr("fxhelpers.registry._client.registry_clock", clock(-timedelta(minutes=5)))
    desk.clock.move_to(opens + timedelta(minutes=15))
    assert desk.registry.forecast(["BBB"]).rows["status"].tolist() == ["late"]
    monkeypatch.setattr("fxhelpers.registry._client.registry_clock", clock(-timedelta(minutes=30)))
    with pytest.raises(ClockError, match="ahead"):
        desk.registry.forecast(["BBB"], apply=True)


# -------------------------------------------------------------------------------------------------------- edited behind our back


@pytest.mark.parametrize("what", ["edited", "gone"])
def test_a_file_that_is_not_as_it_was_recorded_does_not_count(desk: Desk, what: str, caplog: pytest.LogCaptureFixture) -> None:
    first = record(desk, rows_of(desk, range(START + 2, START + 4)))
    record(desk, rows_of(desk, range(START + 4, START + 6)))
    file, kept = stored_file(desk, first), desk.folder / "outputs" / "forecasts" / "log"
    content = file.read_text()
    copy = next(path for path in kept.iterdir() if path.read_text() == content)
    copy.write_text(content.replace("0.001", "0.002"))
    assert read_log(desk.registry.client).rows["forecast"].tolist() == [0.001] * 4  # an edited copy is made again
    assert copy.read_text() == content
    file.write_text(content.replace("0.001", "0.002")) if what == "edited" else file.unlink()
    assert len(read_log(desk.registry.client).rows) == 4  # the copy here is as recorded
    assert [message for message in problems(desk) if "forecasts.csv" in message and what in message] != []
    copy.unlink()
    desk.close(START + 5)
    log = read_log(desk.registry.client)
    assert log.rows["session"].tolist() == [day(desk, START + 4), day(desk, START + 5)]
    assert len(log.faults) == 1
    assert len(live(desk).days) == 2
    assert desk.registry.watch(apply=True)["AAA"].word == "too early to tell"
    made = desk.registry.forecast(["AAA"], apply=True)
    assert made.rows["status"].tolist() == ["live"]
    assert "its forecasts do not count. Restore the file from a backup; details: fx verify --deep" in caplog.text


def test_an_edited_entry_does_not_count_and_is_named(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    first = record(desk, rows_of(desk, range(START + 2, START + 4)))
    record(desk, rows_of(desk, range(START + 4, START + 6)))
    with desk.registry.client.session("edit") as client:
        tags = client.get_run(first.run_id).data.tags
        (name,) = (name for name in tags if name.startswith("fx.outcome"))
        client.set_tag(first.run_id, name, tags[name].replace("2013-10-1", "2013-10-0"))
    log = read_log(desk.registry.client)
    assert log.rows["session"].tolist() == [day(desk, START + 4), day(desk, START + 5)]
    assert any("was edited" in fault for fault in log.faults)
    assert "was edited: its digest is another" in caplog.text
    assert any("was edited" in message for message in problems(desk))
    assert desk.registry.forecast(["AAA"], apply=True).rows["status"].tolist() == ["live"]


def test_two_that_put_the_same_on_record_count_once(desk: Desk) -> None:
    """As two processes do that both read before either wrote."""
    rows = rows_of(desk, range(START + 2, START + 4))
    record(desk, rows)
    record(desk, rows)
    record(desk, rows_of(desk, range(START + 2, START + 4), 0.002))
    counted = read_log(desk.registry.client).counted()
    assert counted["forecast"].tolist() == [0.001, 0.001]
    assert counted["revision"].tolist() == [0.002, 0.002]
    desk.close(START + 3)
    assert len(live(desk).days) == 2


# ------------------------------------------------------------------------------------------------------------ realized returns


def test_splits_dividends_and_restated_prices_are_those_of_one_download(desk: Desk) -> None:
    record(desk, rows_of(desk, range(START + 2, START + 8)))
    right = desk.shares["AAA"].copy()
    split = right.copy()
    split.iloc[:, :4] = (right.iloc[:, :4] / 4).round(6)
    split["Volume"] *= 4
    desk.shares["AAA"] = split
    desk.close(START + 7)
    found = live(desk)
    returns = right["Close"].pct_change().iloc[START + 2 : START + 8]
    assert np.allclose(found.days["actual"], returns, atol=1e-6)
    assert found.restated == ""
    restated = right.copy()
    restated.iloc[: START + 4, :4] *= 0.97  # a dividend that was not known then
    desk.shares["AAA"] = restated
    desk.close(START + 7)
    found = live(desk)
    assert found.days["actual"].iloc[2] == pytest.approx((1 + returns.iloc[2]) / 0.97 - 1, abs=1e-9)
    assert found.restated.startswith("Prices were restated since their forecasts on 1 of 6 days: the return of ")
    assert f"return of {day(desk, START + 4)} was {returns.iloc[2]:+.3%} then" in found.restated


def test_days_without_a_return_are_left_out_and_named(desk: Desk) -> None:
    record(desk, rows_of(desk, range(START + 2, START + 8)))
    right = desk.shares["AAA"]
    halted = right.copy()
    halted.iloc[START + 3, :4] = right["Close"].iloc[START + 2]
    halted.iloc[START + 3, 4] = 0
    desk.shares["AAA"] = halted
    desk.close(START + 7)
    found = live(desk)
    assert found.gaps["without a return"] == (day(desk, START + 3),)
    assert len(found.days) == 5
    assert f"1 without a return, last {day(desk, START + 3)}" in found.missed
    desk.close(START + 7)
    file = desk.folder / "prices" / "AAA.csv"
    cancelled = right.iloc[: START + 8].drop(right.index[START + 3])
    cancelled.to_csv(file)
    found = live(desk)  # neither the session nor the one that was forecast from it
    assert found.gaps["without a return"] == (day(desk, START + 3), day(desk, START + 4))
    assert len(found.days) == 4


def test_a_session_that_the_calendar_does_not_know_stops_nothing(desk: Desk, project: Project) -> None:
    saturday = rows_of(desk, range(START + 2, START + 3))[0]._replace(session="2013-10-19", as_of="2013-10-18")
    record(desk, rows_of(desk, range(START + 2, START + 5)), [saturday])
    log = read_log(desk.registry.client)
    assert log.rows["live"].tolist() == [True] * 4
    desk.clock.move_to(datetime(2013, 10, 19, 4, 1, tzinfo=UTC))  # a minute after midnight in New York
    record(desk, [saturday._replace(symbol="BBB")])
    assert not read_log(desk.registry.client).of("BBB").rows["live"].any()
    desk.close(START + 4)
    assert [f"{one:%Y-%m-%d}" for one in live(desk).days.index] == [day(desk, n) for n in range(START + 2, START + 5)]
    assert math.isfinite(desk.registry.forecast(["AAA"], apply=True).rows["forecast"][0])


# ---------------------------------------------------------------------------------------------------------- tenure and alarms


def serve(desk: Desk, version: int) -> None:
    """Make a version of AAA champion a minute later."""
    desk.clock.shift(timedelta(minutes=1))
    desk.registry.transition_stage(model_name("AAA"), version, "Production")


def bad_days(desk: Desk, first: int, count: int = 20, *, symbol: str = "AAA", version: int = 1) -> None:
    """Put forecasts of four times a return's size on record, and move on to their last session."""
    desk.clock.shift(timedelta(minutes=1))
    record(desk, rows_of(desk, range(first, first + count), 0.04, symbol=symbol, version=version))
    desk.close(first + count - 1)


def settings(project: Project, **values: Any) -> None:
    project.write(watch=values)


def test_a_tenure_is_of_a_recipe_and_begins_anew_with_another_one(desk: Desk) -> None:
    def tenure() -> tuple[list[int], int | None, bool]:
        found = read_ledger(desk.registry.client, model_name("AAA")).tenure
        assert found is not None
        return [v.number for v in found.versions], found.predecessor and found.predecessor.number, found.alarm is not None

    assert tenure() == ([1], None, False)
    serve(desk, 2)
    assert tenure() == ([2], 1, False)
    desk.clock.shift(timedelta(minutes=1))
    desk.registry.rollback("AAA", reason="back", apply=True)
    assert tenure() == ([1], 2, False)
    record(
        desk,
        rows_of(desk, range(START + 2, START + 4)),
        rows_of(desk, range(START + 2, START + 4), 0.0, version=2, role=PREDECESSOR),
    )
    desk.close(START + 3)
    assert live(desk).days["predecessor"].tolist() == [0.0, 0.0]
    serve(desk, 2)
    assert live(desk).days.empty


def test_the_champion_before_forecasts_on_after_an_evening_without_its_number(desk: Desk) -> None:
    serve(desk, 2)
    first = range(START + 2, START + 3)
    record(desk, rows_of(desk, first, version=2), rows_of(desk, first, math.nan, role=PREDECESSOR))
    record(desk, rows_of(desk, first, 0.002, version=2))  # a revision, in a batch of its own
    desk.close(START + 2)
    desk.registry.forecast(["AAA"], apply=True)
    rows = read_log(desk.registry.client).rows.tail(2)
    assert rows[["role", "version", "session"]].to_numpy().tolist() == [
        [CHAMPION, 2, day(desk, START + 3)],
        [PREDECESSOR, 1, day(desk, START + 3)],
    ]
    assert rows["forecast"].notna().all()


def test_an_alarm_warns_once_and_begins_the_evidence_anew(desk: Desk, project: Project) -> None:
    bad_days(desk, START + 2)
    shown = desk.registry.watch()
    assert (shown["AAA"].word, shown["AAA"].decision) == ("alarm", None)
    found = desk.registry.watch(apply=True)
    assert found.summary["result"] == "alarm"
    decision = found["AAA"].decision
    assert decision is not None
    assert (decision.kind, decision.result, decision.moved_at) == ("alarm", "alarm", None)
    assert decision.outcome_facts.alarm["last_session"] == day(desk, START + 21)
    again = desk.registry.watch(apply=True)
    assert (again["AAA"].word, again["AAA"].decision, again.summary["alarm"]) == ("in doubt", None, 0)
    assert desk.registry.overview().status_frame().set_index("symbol")["watch"]["AAA"].startswith("in doubt, ")
    assert "the e-process reached" in desk.registry.history("AAA").to_frame().to_string()
    bad_days(desk, START + 22)
    second = desk.registry.watch(apply=True)["AAA"]
    assert second.decision is not None
    assert second.decision.outcome_facts.alarm["first_session"] == day(desk, START + 22)
    assert problems(desk) == []


def test_two_watches_at_once_record_one_alarm(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_days(desk, START + 2)
    from fxhelpers.forecasts import _watch

    raise_alarm, others = _watch.raise_alarm, []

    def second(*args: Any, **kwargs: Any) -> Decision:
        if not others:
            others.append(None)
            desk.registry.watch(apply=True)  # another one is faster, on the same evidence
        return raise_alarm(*args, **kwargs)

    monkeypatch.setattr(_watch, "raise_alarm", second)
    assert desk.registry.watch(apply=True)["AAA"].decision is None
    ledger = read_ledger(desk.registry.client, model_name("AAA"))
    assert [d.result for d in ledger.outcomes if d.kind == "alarm"] == ["alarm", "stale"]
    assert len(ledger.alarms) == 1


def test_an_alarm_that_vacates_stops_the_forecasts(desk: Desk, project: Project) -> None:
    settings(project, on_alarm="vacate")
    bad_days(desk, START + 2)
    found = desk.registry.watch(apply=True)
    assert found["AAA"].decision is not None
    assert desk.registry.get_production_model(model_name("AAA")) is None
    row = desk.registry.forecast(apply=True).rows.set_index("symbol").loc["AAA"]
    assert row["why"].startswith("no version is in Production since the alarm of ")
    assert "Its errors are larger than those of" in row["why"]
    desk.registry.rollback("AAA", reason="it was the data", apply=True)
    assert live(desk).tenure.alarm is None
    assert live(desk).days.empty
    assert problems(desk) == []


def test_an_alarm_rolls_back_to_a_predecessor_that_is_in_none(desk: Desk, project: Project) -> None:
    settings(project, on_alarm="rollback")
    serve(desk, 2)
    bad_days(desk, START + 2, version=2)
    found = desk.registry.watch(apply=True)["AAA"]
    champion = desk.registry.get_production_model(model_name("AAA"))
    assert champion is not None
    assert champion.version == 1
    assert found.decision is not None
    assert "version 1 serves again" in str(found.decision.outcome_facts.reason)
    tenure = live(desk).tenure
    assert (tenure.alarm, tenure.predecessor) == (None, identity(desk, "AAA", 2))  # the alarm was about version 2
    assert desk.registry.watch(apply=True)["AAA"].word == "too early to tell"
    bad_days(desk, START + 22, version=1)
    found = desk.registry.watch(apply=True)["AAA"]  # version 2 was in alarm itself
    assert desk.registry.get_production_model(model_name("AAA")) is None
    assert found.decision is not None
    assert "there is no predecessor that is in no alarm itself" in str(found.decision.outcome_facts.reason)
    assert problems(desk) == []


@pytest.mark.parametrize("what", ["second alarm", "own forecasts", "deleted", "tampered"])
def test_the_predecessor_serves_again_only_if_nothing_is_known_against_it(desk: Desk, project: Project, what: str) -> None:
    serve(desk, 2)
    first = START + 2
    if what == "second alarm":  # about the champion, which says nothing of the predecessor
        bad_days(desk, first, version=2)
        assert desk.registry.watch(apply=True)["AAA"].decision is not None
        first += 20
    settings(project, on_alarm="rollback")
    desk.clock.shift(timedelta(minutes=1))
    shadow = 0.05 if what == "own forecasts" else 0.0
    both = range(first, first + 45)
    record(desk, rows_of(desk, both, 0.04, version=2), rows_of(desk, both, shadow, version=1, role=PREDECESSOR))
    desk.close(first + 44)
    if what == "deleted":
        with desk.registry.client.session("delete") as client:
            client.delete_model_version(model_name("AAA"), "1")
    if what == "tampered":
        change_bytes(desk, "AAA")
    found = desk.registry.watch(apply=True)["AAA"]
    assert found.decision is not None
    champion = desk.registry.get_production_model(model_name("AAA"))
    assert (champion.version if champion else None) == (1 if what == "second alarm" else None)
    assert "No version serves now: " in str(found.decision.outcome_facts.reason) or what == "second alarm"


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("rule", ["baselines_only", "block"])
def test_after_an_alarm_the_next_version_is_judged_as_a_first_champion(desk: Desk, project: Project, rule: str) -> None:
    evaluation = project.settings["promotion"]["evaluation"] | {"min_days": 120}
    project.write(promotion={"on_no_champion": rule, "evaluation": evaluation})
    bad_days(desk, START + 2, 70)
    alarm = desk.registry.watch(apply=True)["AAA"].decision
    assert alarm is not None
    proposal = desk.registry.propose("AAA", 2, apply=True)
    first = rule == "baselines_only"
    assert proposal.comparison is not None
    assert (proposal.comparison.champion is None) == first
    assert proposal.verdict.kind == ("first" if first else "contest")
    assert (f"version 1 is in alarm since {alarm.time[:10]}" in proposal.verdict.reason) == first
    decision = desk.registry.promote(proposal)
    assert (decision.result, decision.from_version) == ("promoted" if first else "refused", 1), decision.outcome_facts.reason
    tenure = live(desk).tenure
    assert [version.number for version in tenure.versions] == [2 if first else 1]
    assert (tenure.alarm is None, tenure.predecessor is None) == (first, not first)
    assert problems(desk) == []


# -------------------------------------------------------------------------------------------------------------- two processes


@pytest.mark.usefixtures("thorough")
def test_two_processes_at_once_put_one_number_on_record(desk: Desk, project: Project) -> None:
    barrier = faults.CONTEXT.Barrier(2)
    children = [faults.start(desk.folder, "forecast", day(desk, START + 1), barrier=barrier) for _ in range(2)]
    for child in children:
        child.join(120)
    results = sorted(path.read_text() for path in desk.folder.glob("result-*"))
    assert set(results) <= {"recorded", "unchanged"}
    assert len(results) == 2
    counted = read_log(desk.registry.client).counted()
    assert counted["symbol"].tolist() == ["AAA", "BBB"]
    assert counted["revision"].isna().all()
    assert not counted["live"].any()  # the children's clock is that of the machine
    assert not read_ledger(desk.registry.client, FORECASTS).faults


@pytest.mark.usefixtures("thorough")
def test_the_commands_record_and_exit_by_what_was_found(desk: Desk, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    monkeypatch.setenv("FX_NOTIFY_URL", receiver.url)
    project.write(notify={"to": ["env:FX_NOTIFY_URL"]})
    bad_days(desk, START + 2)
    bad_days(desk, START + 2 + 20, symbol="BBB")
    fx = str(Path(sys.executable).with_name("fx"))
    words = ["forecast", "AAA", "BBB", "--as-of", day(desk, START + 1)]
    made = subprocess.run([fx, *words], check=False, capture_output=True, text=True, cwd=desk.folder)
    assert made.returncode == 0, made.stderr
    assert "1 live, 1 late, 1 revised" in made.stdout
    alarm = subprocess.run([fx, "watch"], check=False, capture_output=True, text=True, cwd=desk.folder)
    assert alarm.returncode == ALARM, alarm.stderr
    assert "Alarms: BBB, AAA." in alarm.stdout
    (message,) = receiver.messages
    assert (message["title"], message["type"]) == ("watch alarm", "failure")
    assert "Alarms: BBB, AAA." in message["message"]
    assert {one.symbol: one.word for one in desk.registry.watch().symbols} == {"AAA": "in doubt", "BBB": "in doubt"}
    assert problems(desk) == []
    sealed = read_ledger(desk.registry.client, FORECASTS).decisions[-1].seal_facts.record
    counted = read_log(desk.registry.client).counted()
    assert sealed is not None
    assert sealed in set(counted["record"])
