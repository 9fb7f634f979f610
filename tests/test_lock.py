"""The lock of a model: one owner at a time, and none for ever."""

import json
import time
from collections.abc import Iterator
from typing import Any

import faults
import pytest
from conftest import Project
from sqlalchemy import create_engine, text

from fxhelpers import ModelRegistry
from fxhelpers.errors import LockedError
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.lock import ModelLock
from fxhelpers.registry.storage import registered_models
from fxhelpers.system import process_identity


@pytest.fixture
def client(project: Project) -> Iterator[RegistryClient]:
    client = ModelRegistry().client
    yield client
    assert [name for name in registered_models(client, "") if name == "fx-lock.M"] == []


def somebody(client: RegistryClient, **tags: Any) -> None:
    """Lock M as somebody on another machine."""
    told = {
        "fx.token": "theirs",
        "fx.owner": "bob@elsewhere",
        "fx.process": json.dumps(process_identity() | {"machine": "elsewhere"}),
    }
    with client.session("lock by hand") as mlflow:
        mlflow.create_registered_model("fx-lock.M", tags=told | tags)


def unlock(client: RegistryClient) -> None:
    with client.session("unlock by hand") as mlflow:
        mlflow.delete_registered_model("fx-lock.M")


def test_a_lock_is_released_and_leaves_nothing(client: RegistryClient) -> None:
    for _ in range(2):
        with ModelLock(client, "M"):
            assert "fx-lock.M" in registered_models(client, "")
    assert registered_models(client, "") == {}


def test_who_waits_too_long_is_told_who_holds_it(client: RegistryClient) -> None:
    somebody(client)
    with pytest.raises(LockedError, match=r"by bob@elsewhere; waited [01] s, and nothing was changed"):
        ModelLock(client, "M", wait=0.2).__enter__()
    unlock(client)


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_a_crashed_owners_lock_expires_whatever_its_clock_said(client: RegistryClient, hours: int) -> None:
    """Only a clock that nobody sets counts: that of who waits."""
    somebody(client)
    with create_engine(client.params.registry_uri).begin() as connection:
        connection.execute(text(f"UPDATE registered_models SET creation_time = creation_time + {hours * 3_600_000}"))
    start = time.monotonic()
    with ModelLock(client, "M", expiry=0.5):
        assert 0.5 < time.monotonic() - start < 5


@pytest.mark.parametrize("tags", [{"fx.process": "{}"}, {"fx.process": "no JSON"}])
def test_a_lock_made_by_hand_expires_too(client: RegistryClient, tags: dict[str, str]) -> None:
    somebody(client, **tags)
    with ModelLock(client, "M", expiry=0.5, wait=5):
        pass


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(client: RegistryClient, project: Project) -> None:
    child = faults.CONTEXT.Process(target=time.sleep, args=(60,))
    child.start()
    identity = process_identity(child.pid)
    somebody(client, **{"fx.process": json.dumps(identity)})
    with pytest.raises(LockedError):
        ModelLock(client, "M", wait=0.2).__enter__()
    child.kill()
    child.join()
    start = time.monotonic()
    with ModelLock(client, "M"):
        assert time.monotonic() - start < 2


def owner_of(client: RegistryClient) -> str:
    with client.session("read by hand") as mlflow:
        return mlflow.get_registered_model("fx-lock.M").tags["fx.token"]  # type: ignore[no-any-return]


def test_an_owner_that_was_too_slow_releases_nobody_elses_lock(client: RegistryClient) -> None:
    slow = ModelLock(client, "M", expiry=0.2)
    slow.__enter__()
    with ModelLock(client, "M", wait=20, expiry=0.2) as other:
        slow.__exit__(None, None, None)
        assert owner_of(client) == other._token
    assert registered_models(client, "") == {}  # nor is anything left of the one that was stolen


def test_a_late_thief_steals_nothing(client: RegistryClient) -> None:
    """Two see the same expired lock; the slower one must not take away the lock of the faster one."""
    somebody(client)
    with client.session("read") as mlflow:
        expired = mlflow.get_registered_model("fx-lock.M").tags
    with ModelLock(client, "M", expiry=0.2) as faster:
        slower = ModelLock(client, "M")
        with client.session("steal late") as mlflow:
            slower._take_over(mlflow, expired)
        assert owner_of(client) == faster._token


def test_what_a_killed_thief_left_goes_with_the_next_theft(client: RegistryClient) -> None:
    somebody(client)
    with client.session("steal by hand, and be killed") as mlflow:
        mlflow.rename_registered_model("fx-lock.M", "fx-lock.M.theirs")
    somebody(client, **{"fx.token": "another"})
    with ModelLock(client, "M", expiry=0.2):
        pass
    assert registered_models(client, "") == {}


def test_a_very_long_name_has_a_lock_too(client: RegistryClient) -> None:
    with ModelLock(client, "M" * 250):
        pass
    assert registered_models(client, "") == {}


def test_one_at_a_time_among_processes(project: Project, client: RegistryClient, rounds: int) -> None:
    """Reading, waiting and writing a number: without the lock, most additions get lost."""
    (project.folder / "number").write_text("0")
    times = 5 * rounds
    children = [faults.start(project.folder, "count", times) for _ in range(4)]
    for child in children:
        child.join(300)
        assert child.exitcode == 0
    assert int((project.folder / "number").read_text()) == 4 * times
