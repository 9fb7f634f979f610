"""The schedules that docs/schedule.md offers: their own checkers take them, they run what they say, and after each close."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import exchange_calendars
import pandas as pd
import pytest
from conftest import ROOT, Project
from test_docs import PAGES, check_fx, parameters_of

from fxhelpers import ModelRegistry, read_prices, train_model, write_bundle
from fxhelpers.prices import last_session, next_session, session_open, sessions_of

FOLDER = ROOT / "docs" / "schedule"
SCRIPTS = ("evening.sh", "saturday.sh")
UNITS = sorted(path.name for path in FOLDER.glob("fx-*"))
JOBS = sorted((FOLDER / "jupyter-scheduler").glob("*.json"))
NEW_YORK = ZoneInfo("America/New_York")
PLACE = "/srv/models"
_CLOCK_CHANGES = ((datetime(2026, 3, 4, tzinfo=UTC), 8), (datetime(2026, 10, 28, tzinfo=UTC), 8))  # first day, days
_COMMAND = re.compile(r"^ *(fx .*?)(?: [|]{2} status=[$][?])?$", re.MULTILINE)


def commands(script: str) -> list[str]:
    return _COMMAND.findall((FOLDER / script).read_text())


def setting(unit: str, key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE)
    return str(found)


def is_after_a_close_and_before_the_open(moments: list[datetime]) -> None:
    """Each session's close is followed by one of the moments before the next open, early enough for live forecasts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it and pandas 3.1 are not of one mind about time zones
        schedule = exchange_calendars.get_calendar("XNYS").schedule
        closes, opens = list(schedule["close"]), list(schedule["open"])
    first, last = min(moments), max(moments)
    sessions = [(one, two) for one, two in zip(closes, opens[1:], strict=False) if first < one and two < last]
    assert len(sessions) >= 4
    for close, opened in sessions:
        assert any(close + timedelta(hours=1) < moment < opened - timedelta(hours=8) for moment in moments), close


def test_the_page_names_every_file() -> None:
    linked = set(re.findall(r"\]\(schedule/([^)]+)\)", PAGES["docs/schedule.md"]))
    assert linked == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_one_that_the_shell_knows(script: str) -> None:
    assert os.access(FOLDER / script, os.X_OK)
    done = subprocess.run(["/bin/sh", "-n", FOLDER / script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [command for script in SCRIPTS for command in commands(script)])
def test_every_command_of_a_script_is_one_that_fx_knows(command: str, project: Project) -> None:
    check_fx(shlex.split(command))


def test_the_scripts_are_what_the_page_promises() -> None:
    assert commands("evening.sh") == ["fx forecast", "fx watch"]
    assert [command.split()[:3] for command in commands("saturday.sh")] == [
        ["fx", "run", "train"],
        ["fx", "run", "register"],
        ["fx", "run", "promote"],
    ]


@pytest.mark.usefixtures("thorough")
def test_a_saturday_goes_on_after_a_symbol_that_cannot_be_trained(project: Project) -> None:
    """FB has 196 days of prices: its training fails, and AAPL is trained, registered and promoted all the same."""
    evaluation = {**project.settings["promotion"]["evaluation"], "max_stale_days": None}  # these prices are old
    project.write(promotion={"evaluation": evaluation}, training={"model": "ridge", "refit": True})
    shutil.copy(FOLDER / "saturday.sh", project.folder)
    (project.folder / "tickers.txt").write_text("FB\nAAPL  # and more\n")
    binaries = project.folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "fx").symlink_to(Path(sys.executable).with_name("fx"))
    done = subprocess.run(["./saturday.sh"], check=False, capture_output=True, text=True, cwd=project.folder)
    assert done.returncode == 1, done.stdout
    assert "1 of 2 runs of train completed" in done.stdout
    assert "1 of 2 runs of promote completed" in done.stdout
    assert "at least 500 are required" in done.stdout
    champion = ModelRegistry().load_champion("AAPL")
    assert champion is not None, done.stdout
    assert champion.version.version == 1


@pytest.mark.usefixtures("thorough")
def test_an_evening_fetches_prices_forecasts_and_watches(project: Project) -> None:
    """The sample's prices, on the sessions up to now: the last one comes with ``new-prices``."""
    registry = ModelRegistry()
    sample = read_prices("AAPL", registry.params.prices).frame[-1200:]
    newest = last_session("XNYS", pd.Timestamp.now("UTC"))
    days = sessions_of("XNYS", pd.DatetimeIndex([newest - pd.Timedelta(days=2000), newest]))
    assert days is not None
    shown = sample.set_axis(days[days <= newest][-len(sample) :]).rename_axis("Date")
    for folder, frame in (("prices", shown[:-1]), ("vendor", shown)):
        (project.folder / folder).mkdir()
        frame.to_csv(project.folder / folder / "AAPL.csv")
    project.write(prices={"source": "csv", "folder": "prices", "calendar": "XNYS"}, training={"model": "ridge", "refit": True})
    registry = ModelRegistry()
    trained = train_model("AAPL", read_prices("AAPL", registry.params.prices), registry.params.training)
    bundle = write_bundle(trained.model, trained.scaler, trained.metadata, registry.params.paths)
    registry.register_model(bundle, stage="Production")
    shutil.copy(FOLDER / "evening.sh", project.folder)
    (project.folder / "new-prices").write_text("#!/bin/sh\ncp vendor/*.csv prices/\n")
    (project.folder / "new-prices").chmod(0o755)
    (project.folder / ".venv" / "bin").mkdir(parents=True)
    (project.folder / ".venv" / "bin" / "fx").symlink_to(Path(sys.executable).with_name("fx"))
    done = subprocess.run(["./evening.sh"], check=False, capture_output=True, text=True, cwd=project.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    session = next_session("XNYS", newest)
    row = pd.read_csv(project.folder / "outputs" / "forecasts" / f"{session:%Y-%m-%d}.csv").iloc[0]
    assert (row["symbol"], row["as_of"], row["version"]) == ("AAPL", f"{newest:%Y-%m-%d}", 1)
    assert abs(row["forecast"]) < 0.1
    assert (row["status"] == "live") == (pd.Timestamp.now("UTC") < session_open("XNYS", session))
    assert "AAPL: too early to tell" in done.stdout


@pytest.fixture
def systemd(project: Project) -> Path:
    """The units, as installed in this test's folder; systemd-analyze checks that what they start is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine: systemd's units are not checked here")
    for script in SCRIPTS:
        shutil.copy(FOLDER / script, project.folder)
    for unit in UNITS:
        (project.folder / unit).write_text((FOLDER / unit).read_text().replace(PLACE, str(project.folder)))
    return project.folder


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    return subprocess.run(
        [str(shutil.which("systemd-analyze")), *arguments], check=False, capture_output=True, text=True, env=env
    )


def test_systemd_takes_the_units(systemd: Path) -> None:
    done = analyze("verify", *(str(systemd / unit) for unit in UNITS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [unit for unit in UNITS if setting(unit, "ExecStart" if unit.endswith("service") else "Persistent")] == UNITS
    broken = systemd / "fx-evening.service"
    broken.write_text(broken.read_text().replace("TimeoutStartSec", "TimeoutStartSecs"))
    assert "TimeoutStartSecs" in analyze("verify", str(broken)).stderr


def test_an_alarm_fails_the_unit() -> None:
    """As the page says, and why: SuccessExitStatus would hide it."""
    assert "SuccessExitStatus" not in "".join((FOLDER / unit).read_text() for unit in UNITS)
    assert commands("evening.sh")[-1] == "fx watch", "its status is that of the script"


def elapses(unit: str, count: int) -> list[datetime]:
    """When a timer starts its service from 2026 on, UTC."""
    base = "--base-time=2026-01-01 00:00:00 UTC"
    done = analyze("calendar", base, f"--iterations={count}", setting(unit, "OnCalendar"))
    found = re.findall(r"(?:Next elapse|Iter[.] #\d+): \w{3} (\S+ \S+) UTC", done.stdout)
    assert (done.returncode, len(found)) == (0, count), done.stderr
    return [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in found]


@pytest.mark.usefixtures("systemd")
def test_systemds_evening_is_after_every_close_of_a_year_and_before_the_next_open() -> None:
    evenings = elapses("fx-evening.timer", 261)
    assert {(evening.astimezone(NEW_YORK).strftime("%H:%M"), evening.hour) for evening in evenings} == {
        ("18:30", 22),  # in summer
        ("18:30", 23),
    }
    is_after_a_close_and_before_the_open(evenings)
    saturdays = [moment.astimezone(NEW_YORK) for moment in elapses("fx-saturday.timer", 52)]
    assert {f"{moment:%a %H:%M}" for moment in saturdays} == {"Sat 09:00"}


def cron_lines() -> dict[str, list[str]]:
    """Return the commands of each time of the crontab."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / "crontab").read_text().splitlines():
        if not line.startswith("#"):
            fields = re.fullmatch(r"(@reboot|(?:[\d*]\S* ){4}[\d*]\S*) +(\S.*)", line)
            assert fields, line
            found.setdefault(fields[1], []).append(fields[2])
    return found


def test_cron_starts_the_scripts_and_no_percent_sign_ends_a_command() -> None:
    lines = cron_lines()
    assert {when: len(started) for when, started in lines.items()} == {"30 * * * *": 2, "@reboot": 1}
    for command in (command for started in lines.values() for command in started):
        assert not re.search(r"(?<!\\)%", command), command
        done = subprocess.run(["/bin/sh", "-n", "-c", command.replace("\\%", "%")], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert re.search(r"cd /srv/models && .*flock -n -E 0 outputs/(\w+)[.]lock [.]/\1[.]sh", command), command


def test_cronies_own_checker_takes_the_table() -> None:
    crontab = shutil.which("crontab")
    if crontab is None or "-T" not in subprocess.run([crontab, "-h"], check=False, capture_output=True, text=True).stderr:
        pytest.skip("no crontab with -T, which cronie has: the table is checked field by field only")
    subprocess.run([crontab, "-T", FOLDER / "crontab"], check=True)


@pytest.mark.parametrize("minute", [30, 0], ids=["whole hours from UTC", "half an hour off"])
@pytest.mark.parametrize(("first", "days"), _CLOCK_CHANGES, ids=["to summer", "to winter"])
def test_crons_evening_is_after_every_close_on_a_machine_in_any_zone(first: datetime, days: int, minute: int) -> None:
    """The hourly line, at each hour of the days around a change of the clocks, in a real shell at that time."""
    hours = [first + timedelta(hours=hour, minutes=minute) for hour in range(24 * days)]
    gnu = subprocess.run([str(shutil.which("date")), "-d", "@0"], check=False, capture_output=True).returncode == 0
    at = "-d @" if gnu else "-r "
    evening, saturday = (command.replace("\\%", "%") for command in cron_lines()["30 * * * *"])
    for command, starts, expected in ((evening, "evening", 18), (saturday, "saturday", 9)):
        looked = re.sub(r"cd .*?;;", f"echo {starts} $N;;", command).replace(" date +", f' date {at}"$N" +')
        script = "\n".join(f"N={int(hour.timestamp())}\n{looked}" for hour in hours)
        done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
        lines = [line.split() for line in done.stdout.splitlines()]
        started = [datetime.fromtimestamp(int(second), NEW_YORK) for _, second in lines]
        wanted = [hour.astimezone(NEW_YORK) for hour in hours]
        wanted = [hour for hour in wanted if hour.hour == expected and (hour.isoweekday() == 6) == (starts == "saturday")]
        assert started == [hour for hour in wanted if hour.isoweekday() < 7]
        if starts == "evening":
            is_after_a_close_and_before_the_open([moment.astimezone(UTC) for moment in started])


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock, of util-linux, is not on this machine")
def test_a_second_evening_at_once_is_let_go(tmp_path: Path) -> None:
    lock = ["flock", "-n", "-E", "0", str(tmp_path / "lock")]
    with subprocess.Popen([*lock, "sh", "-c", "echo; exec sleep 30"], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = subprocess.run([*lock, "echo", "started"], check=False, capture_output=True, text=True)
        first.terminate()
    assert (second.returncode, second.stdout) == (0, "")


@pytest.mark.parametrize("file", JOBS, ids=lambda file: str(file.stem))
def test_a_job_of_jupyter_scheduler_runs_a_notebook_with_its_parameters(file: Path) -> None:
    job = json.loads(file.read_text())
    notebook = ROOT / job["input_uri"]
    assert (notebook.is_file(), notebook.stem) == (True, file.stem)
    given = job.get("parameters", {})
    assert set(given) <= parameters_of(file.stem)
    assert all(isinstance(value, str) for value in given.values()), "jupyter-scheduler takes text"
    assert ZoneInfo(job["timezone"]) == NEW_YORK
    days = "6" if file.stem in {"train", "register", "promote"} else "1-5"
    assert re.fullmatch(rf"\d+ \d+ [*] [*] {days}", job["schedule"])


def test_its_evening_is_as_that_of_the_others_and_its_jobs_follow_each_other() -> None:
    when = {file.stem: json.loads(file.read_text())["schedule"].split()[:2] for file in JOBS}
    assert when["forecast"] == ["30", "18"]
    hours = [int(when[name][1]) for name in ("train", "register", "promote")]
    assert hours == sorted(set(hours))
    assert int(when["watch"][1]) > 18
