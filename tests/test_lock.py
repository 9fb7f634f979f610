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
from fxhelpers.errors import LockedError, LockLostError
from fxhelpers.processes import process_identity
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.lock import ModelLock
from fxhelpers.registry.storage import registered_models


@pytest.fixture
def client(project: Project) -> Iterator[RegistryClient]:
    client = ModelRegistry().client
    yield client
    assert [name for name in registered_models(client) if name == "fx-lock.M"] == []


def somebody(client: RegistryClient, **tags: Any) -> None:
    """Lock M as somebody on another machine."""
    told = {
        "fx.token": "theirs",
        "fx.owner": "bob@elsewhere",
        "fx.process": json.dumps(process_identity() | {"machine": "elsewhere"}),
        "fx.expires": str(time.time() + 60),
    }
    with client.session("lock by hand") as mlflow:
        mlflow.create_registered_model("fx-lock.M", tags=told | tags)


def unlock(client: RegistryClient) -> None:
    with client.session("unlock by hand") as mlflow:
        mlflow.delete_registered_model("fx-lock.M")


def test_a_lock_is_released_and_leaves_nothing(client: RegistryClient) -> None:
    for _ in range(2):
        with ModelLock(client, "M") as lock:
            assert "fx-lock.M" in registered_models(client)
            lock.confirm()
    assert registered_models(client) == {}


def test_who_waits_too_long_is_told_who_holds_it(client: RegistryClient) -> None:
    somebody(client)
    with pytest.raises(LockedError, match=r"by bob@elsewhere; waited 0 s, and nothing was changed"):
        ModelLock(client, "M", wait=0.2).__enter__()
    unlock(client)


@pytest.mark.parametrize("clock", [-300, 0, 300])
def test_a_crashed_owners_lock_expires_whatever_its_clock_said(client: RegistryClient, clock: float) -> None:
    """Only a clock that nobody sets counts: that of who waits."""
    somebody(client, **{"fx.expires": str(time.time() + clock)})
    start = time.monotonic()
    with ModelLock(client, "M", expiry=0.5):
        assert 0.5 < time.monotonic() - start < 5


def test_a_lock_that_expired_long_ago_is_taken_at_once(client: RegistryClient) -> None:
    somebody(client, **{"fx.expires": str(time.time() - 3600)})
    start = time.monotonic()
    with ModelLock(client, "M"):
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("tags", [{"fx.process": "{}", "fx.expires": "soon"}, {"fx.process": "no JSON"}])
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


def test_an_owner_that_was_too_slow_changes_nothing_and_releases_nobody_elses_lock(client: RegistryClient) -> None:
    slow = ModelLock(client, "M", hold=0.1, expiry=0.2)
    slow.__enter__()
    time.sleep(0.3)
    with ModelLock(client, "M", wait=20, expiry=2) as other:
        with pytest.raises(LockLostError, match="nothing more was changed"):
            slow.confirm()
        slow.__exit__(None, None, None)
        other.confirm()


def test_a_stolen_lock_is_remembered_so_that_a_late_thief_steals_nothing(client: RegistryClient) -> None:
    """Two see the same expired lock; the slower one must not take away the lock of the faster one."""
    somebody(client, **{"fx.expires": "0"})
    with create_engine(client.params.registry_uri).begin() as connection:  # made two hours ago, as by a host that died then
        connection.execute(text("UPDATE registered_models SET creation_time = creation_time - 7200000"))
    with client.session("read") as mlflow:
        expired = mlflow.get_registered_model("fx-lock.M").tags
    with ModelLock(client, "M") as faster:
        slower = ModelLock(client, "M")
        with client.session("steal late") as mlflow:
            slower._steal(mlflow, expired)
        faster.confirm()


def test_a_very_long_name_has_a_lock_too(client: RegistryClient) -> None:
    with ModelLock(client, "M" * 250) as lock:
        lock.confirm()
    assert registered_models(client) == {}


def test_one_at_a_time_among_processes(project: Project, client: RegistryClient, rounds: int) -> None:
    """Reading, waiting and writing a number: without the lock, most additions get lost."""
    (project.folder / "number").write_text("0")
    times = 5 * rounds
    children = [faults.start(project.folder, "count", times) for _ in range(4)]
    for child in children:
        child.join(300)
        assert child.exitcode == 0
    assert int((project.folder / "number").read_text()) == 4 * times
