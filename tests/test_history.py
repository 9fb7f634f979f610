"""When: days and moments as people write them, in UTC or by the time here."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from conftest import Project

from fxhelpers import ModelRegistry
from fxhelpers.audit.history import History, _spans
from fxhelpers.errors import ParamsError


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def story(project: Project, registered: Callable[..., int]) -> History:
    """Version 1 in Production, since now."""
    registered("regularised", stage="Production")
    return ModelRegistry().history("AAPL")


@pytest.mark.usefixtures("in_new_york")
def test_a_time_of_two_readings_is_answered_where_both_agree_and_refused_with_both_where_not(story: History) -> None:
    since = datetime.fromisoformat(story.ledger.production_periods()[0].since)
    before = f"{since - timedelta(hours=1):%Y-%m-%dT%H:%M}"  # in UTC nobody was there; by the clock of New York it is to come
    offset = f"{since.astimezone():%z}"
    zone = f"{offset[:3]}:{offset[3:]}"
    with pytest.raises(ParamsError, match=f"at: {before} is ambiguous") as caught:
        story.at(before)
    assert f"write {before}Z for UTC or {before}{zone} for local time" in str(caught.value)
    assert story.at(f"{before}Z") == []
    (period,) = story.at(since.isoformat())
    assert period.version == 1
    assert story.at(since.astimezone().isoformat()) == [period]
    assert story.at("2001-01-01T03:00") == story.at("2001-01-01") == []  # as either


@pytest.mark.usefixtures("in_new_york")
def test_a_day_is_that_of_its_zone_and_as_long_as_it_is_there() -> None:
    def hours(when: str) -> list[tuple[str, float]]:
        return [(f"{start.astimezone(UTC):%dT%H}", (end - start) / timedelta(hours=1)) for start, end in _spans(when)]

    assert hours("2026-07-01") == [("01T00", 24.0), ("01T04", 24.0)]
    assert hours("2026-11-01") == [("01T00", 24.0), ("01T04", 25.0)]
    assert hours("2026-07-01Z") == [("01T00", 24.0)]
    assert hours("2026-07-01+02:00") == [("30T22", 24.0)]
    for wrong in ("2026-02-30", "yesterday", "2026-07-01+99:00", "2026-07-01T25:00", "2026-07-01x"):
        with pytest.raises(ParamsError, match="neither a day such as"):
            hours(wrong)
