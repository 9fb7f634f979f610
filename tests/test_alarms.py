"""An alarm is verified like every decision, and the live record that it rests on is shown wherever a champion is judged."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import evenings
import pandas as pd
import pytest
import time_machine
import yaml
from conftest import ROOT

from fxhelpers import errors
from fxhelpers.audit._alarms import alarm_findings
from fxhelpers.forecasts import CHAMPION, PREDECESSOR, Log, read_log
from fxhelpers.forecasts._log import Row, record_rows
from fxhelpers.ledger import Decision, Ledger
from fxhelpers.registry.ledger_store import FORECASTS, fetch, read_ledger
from fxhelpers.reports.gallery import note_live
from fxhelpers.system import sha256

NAME, NIGHTS = "MLP_Stock_Predictor_BAD", 19
BEFORE_IT, MISSED = 2, 5
"""Evenings before the champion served, and the evening that was missed."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[evenings.Desk]:
    """Weeks of live forecasts by a champion that always errs, its predecessor's, and the alarm."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "outputs" / "registry").mkdir(parents=True)
    shutil.copy(empty_registry, folder / "outputs" / "registry" / "mlflow.db")
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in evenings.SETTINGS.items():
        settings[section].update(values)
    write = (folder / "params.yaml").write_text
    days = evenings.sessions(evenings.BEFORE + NIGHTS + 1)
    shares = {"BAD": evenings.prices_of(evenings.returns(len(days), 1), days, 1)}
    with pytest.MonkeyPatch.context() as patch, time_machine.travel(days[0].to_pydatetime()) as clock:
        patch.setattr("fxhelpers.registry._client.registry_clock", lambda _: None)
        patch.chdir(folder)
        made = evenings.Desk(folder, shares, clock)
        write(yaml.safe_dump(settings))
        made.close(evenings.BEFORE)
        made.serve("BAD")
        returns = shares["BAD"]["Close"].pct_change().shift(-1)
        for night in range(NIGHTS):
            number = evenings.BEFORE + night
            if night:
                made.close(number)
            if night == BEFORE_IT:
                settings["training"]["models"]["ridge"]["alpha"] = 50.0
                write(yaml.safe_dump(settings))
                made.serve("BAD")
            if night != MISSED:
                record_rows(made.registry.client, list(_rows(made, number, float(returns.iloc[number]), night >= BEFORE_IT)))
        made.close(evenings.BEFORE + NIGHTS)
        assert made.registry.watch(apply=True)["BAD"].word == "alarm"
        yield made


def _rows(desk: evenings.Desk, number: int, comes: float, second: bool) -> Iterator[Row]:
    """Yield what is said of the next session, whose return is ``comes``: the worst by the champion."""
    versions = sorted(desk.registry.get_model_versions(NAME), key=lambda version: version.version)
    roles = {CHAMPION: versions[-1], PREDECESSOR: versions[0]} if second else {CHAMPION: versions[0]}
    close = desk.shares["BAD"]["Close"]
    for role, version in roles.items():
        yield Row(
            session=f"{desk.sessions[number + 1]:%Y-%m-%d}",
            symbol="BAD",
            role=role,
            forecast=-0.05 * math.copysign(1, comes) if role == CHAMPION and second else 0.5 * comes,
            why="",
            model=NAME,
            version=version.version,
            as_of=f"{desk.sessions[number]:%Y-%m-%d}",
            bundle_sha256=str(version.identity.bundle),
            recipe_sha256="",
            prices_sha256="",
            last_return=float(close.iloc[number] / close.iloc[number - 1] - 1),
        )


def test_an_alarm_that_nobody_touched_is_verified(desk: evenings.Desk) -> None:
    found = desk.registry.verify(deep=True)
    assert found.findings == ()
    assert found.models == (NAME,)
    assert found.message == f"OK: 1 model, 5 decisions and {NIGHTS - 1} forecast batches checked (deep)"
    assert f'"forecast_batches": {NIGHTS - 1}' in found.to_json()
    assert desk.registry.verify("BAD").message == "OK: 1 model, 5 decisions checked"


def alarm_of(desk: evenings.Desk) -> Decision:
    return next(d for d in read_ledger(desk.registry.client, NAME).outcomes if d.kind == "alarm")


def findings(desk: evenings.Desk, decision: Decision, change: Callable[[Log], Log] = lambda log: log) -> list[str]:
    client = desk.registry.client
    log = change(read_log(client))
    return [one.message for one in alarm_findings(client, Ledger(name=NAME, decisions=(decision,)), lambda: log)]


def with_outcome(decision: Decision, **changed: Any) -> Decision:
    assert decision.outcome is not None
    return replace(decision, outcome=replace(decision.outcome, facts=decision.outcome_facts.model_copy(update=changed)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("e_process", 40.5),
        ("e_detector", None),
        ("thresholds", [40.0, 50_000.0]),
        ("thresholds", [40.0]),
        ("live_days", 63),
        ("first_session", "2013-01-02"),
        ("last_session", "2013-01-02"),
    ],
)
def test_a_fact_that_the_stored_days_do_not_give_is_named(desk: evenings.Desk, key: str, value: object) -> None:
    decision = alarm_of(desk)
    assert findings(desk, decision) == []
    (message,) = findings(desk, with_outcome(decision, alarm={**decision.outcome_facts.alarm, key: value}))
    assert message.startswith("the evidence computed from its stored days is another: ")
    assert key.removesuffix("s") in message


def test_an_alarm_that_reaches_no_threshold_is_none(desk: evenings.Desk) -> None:
    decision = alarm_of(desk)
    facts = {**decision.outcome_facts.alarm, "alpha": 1e-6}
    other, none = findings(desk, with_outcome(decision, alarm=facts))
    assert "threshold [" not in other
    assert "reaches no threshold" in none


def test_an_alarm_without_its_days_is_proved_by_nothing(desk: evenings.Desk) -> None:
    decision = alarm_of(desk)
    kept = {name: digest for name, digest in decision.outcome_facts.evidence.items() if name != "watch.csv"}
    assert findings(desk, with_outcome(decision, evidence=kept)) == ["the alarm names no watch.csv: nothing proves it"]
    facts = {name: value for name, value in decision.outcome_facts.alarm.items() if name != "alpha"}
    (message,) = findings(desk, with_outcome(decision, alarm=facts))
    assert message == "its stored days or its facts cannot be read: KeyError 'alpha'"


def test_stored_days_that_were_never_forecast_are_named(desk: evenings.Desk) -> None:
    decision = alarm_of(desk)
    day = str(decision.outcome_facts.alarm["last_session"])

    def edited(**changed: object) -> Callable[[Log], Log]:
        def edit(log: Log) -> Log:
            rows = log.rows.copy()
            rows.loc[(rows["session"] == day) & (rows["role"] == CHAMPION), list(changed)] = list(changed.values())
            return replace(log, rows=rows)

        return edit

    for change in (
        edited(forecast=0.001),
        edited(version=1),
        edited(live=False),
        edited(made_at="2026-01-01T00:00:00.000+00:00"),
        lambda log: replace(log, rows=log.rows[log.rows["session"] != day]),
    ):
        assert findings(desk, decision, change) == [f"not on record before their sessions, by the log of forecasts: {day}"]
    count = decision.outcome_facts.alarm["live_days"]
    (message,) = findings(desk, decision, lambda log: replace(log, rows=log.rows[:0]))
    assert message.endswith(f"… ({count} in all)")


@pytest.mark.parametrize("name", ["watch.csv", "earlier.csv"])
def test_days_and_digest_changed_together_give_other_evidence(desk: evenings.Desk, name: str) -> None:
    decision = alarm_of(desk)
    (path,) = desk.folder.rglob(f"{decision.run_id}/artifacts/evidence/{name}")
    kept = path.read_bytes()
    table = pd.read_csv(path, index_col=0)
    table["forecast"] *= 1.01
    path.write_text(table.to_csv(lineterminator="\n"))
    try:
        digests = {**decision.outcome_facts.evidence, name: sha256(path.read_bytes())}
        found = findings(desk, with_outcome(decision, evidence=digests))
        assert desk.registry.verify(deep=True).problems[0].message == (
            f"the stored {name} was edited: its SHA-256 is not that of the outcome"
        )
    finally:
        path.write_bytes(kept)
    assert found[0].startswith("the evidence computed from its stored days is another: e_process")
    assert len(found) == (2 if name == "watch.csv" else 1)  # the log has other numbers


def test_a_batch_that_was_edited_in_mlflow_takes_its_day_from_the_alarm(desk: evenings.Desk) -> None:
    client = desk.registry.client
    batch = read_ledger(client, FORECASTS).outcomes[-1]
    (path,) = desk.folder.rglob(f"{batch.run_id}/artifacts/evidence/forecasts.csv")
    kept = path.read_bytes()
    copy = desk.folder / "outputs" / "forecasts" / "log" / f"{sha256(kept)}.csv"
    copy.unlink()
    path.write_bytes(kept.replace(b"champion", b"champi0n", 1))
    try:
        found = {finding.model: finding.message for finding in desk.registry.verify(deep=True).problems}
    finally:
        path.write_bytes(kept)
    assert found[FORECASTS] == "the stored forecasts.csv was edited: its SHA-256 is not that of the outcome"
    assert found[NAME].startswith("not on record before their sessions, by the log of forecasts: ")
    assert fetch(client, batch, "evidence/forecasts.csv") == kept


def test_forecasts_are_no_model_anywhere(desk: evenings.Desk) -> None:
    registry = desk.registry
    assert set(registry.overview().models) == {NAME}
    for symbol in (FORECASTS, "FX"):
        with pytest.raises(errors.VersionNotFoundError, match=r"known: BAD\)"):
            registry.history(symbol)
    registry.verify()
    assert FORECASTS not in (desk.folder / "outputs" / "records" / "index.data.html").read_text()
    begin = (
        "import os, fxhelpers as f; from fxhelpers.decisions import begin; from fxhelpers.ledger import IntentFacts; "
        f"begin(f.ModelRegistry().client, '{FORECASTS}', IntentFacts(kind='forecast', sessions=['2013-11-01'])); os._exit(9)"
    )
    clock = "import fxhelpers.registry._client as c; c.registry_clock = lambda params: None; "
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", clock + begin], cwd=desk.folder, env=env, check=False).returncode == 9
    with time_machine.travel(pd.Timestamp.now(tz="UTC").to_pydatetime()):
        assert registry.verify().problems
        assert registry.verify(repair=True).problems == []
    assert read_ledger(registry.client, FORECASTS).decisions[-1].result == "interrupted"


def test_the_live_record_of_champion_and_predecessor(desk: evenings.Desk) -> None:
    came = desk.shares["BAD"]["Close"].pct_change().iloc[evenings.BEFORE + BEFORE_IT + 1 : evenings.BEFORE + NIGHTS + 1]
    came = came.drop(came.index[MISSED - BEFORE_IT])
    live = desk.registry.live_record("BAD")
    served, shadow, before = live.standings
    assert (served.role, served.version.number, served.word) == ("champion", 2, "alarm")
    assert served.days == live.days == NIGHTS - BEFORE_IT - 1
    assert served.missed == 1
    assert served.saved == live.saved == pytest.approx(1 - ((came.abs() + 0.05) ** 2).sum() / (came**2).sum())
    assert (shadow.role, shadow.version.number) == ("predecessor, on the champion's days", 1)
    assert (shadow.days, shadow.saved) == (served.days, pytest.approx(0.75))
    assert (before.role, before.version.number, before.days) == ("predecessor", 1, BEFORE_IT)
    assert "champion: version 2" in repr(live)
    assert f"{live.saved:+.2%}" in live._repr_html_()


def test_without_forecasts_the_live_record_says_so(desk: evenings.Desk) -> None:
    live = desk.registry.live_record("IBM")
    assert (live.days, live.saved, live.standings) == (0, None, ())
    assert repr(live) == "No forecast of a champion of IBM is on record: fx forecast IBM, every evening, records them."


def test_the_gallery_keeps_the_newer_forecast(tmp_path: Path) -> None:
    for session in ("2026-11-30", "2026-10-28"):
        note_live(tmp_path, [{"model": NAME, "symbol": "BAD", "next": [session, 0.01, "live"]}])
    assert '"next":["2026-11-30",0.01,"live"]' in (tmp_path / "index.data.html").read_text()


def test_the_answer_has_the_word_the_evidence_and_what_to_do(desk: evenings.Desk) -> None:
    found = desk.registry.watch(["BAD"])
    answer = found.summary["answer"]
    assert answer.startswith("BAD: in doubt. Its alarm of 2013-")
    assert "What to do: look again" in answer
    assert "fx rollback BAD --reason TEXT" in answer
    assert ">in doubt</span>" in found._repr_html_()
    alarm = replace(found["BAD"], word="alarm", decision=alarm_of(desk))
    assert alarm.advice == "What to do: train and promote another recipe, or fx rollback BAD --reason TEXT."
    assert "puts the alarm on record" in replace(alarm, decision=None).advice
    assert replace(alarm, word="healthy").advice == ""
