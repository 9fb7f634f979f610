"""Schedules, kills and old data that break no ledger, and make nobody say what is not so."""

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import NAME, Project, as_earlier_releases_kept_it, by_an_earlier_release, half_registered
from sqlalchemy import create_engine, text

from fxhelpers import ModelRegistry
from fxhelpers.errors import StaleComparisonError
from fxhelpers.processes import process_identity
from fxhelpers.promotion import deciding, mirroring
from fxhelpers.promotion.deciding import begin, settle_now
from fxhelpers.registry import ledgers
from fxhelpers.registry.ledgers import LedgerWriter, read_ledger
from fxhelpers.registry.lock import ModelLock, sweep

Register = Callable[..., int]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is stopped loses the lock at once."""
    monkeypatch.setattr("fxhelpers.registry.lock.EXPIRY_SECONDS", 0.2)


def champion(registry: ModelRegistry) -> int | None:
    return registry.client.champion_number(NAME)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def before_call(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, does: Callable[[], Any], when: Callable[..., bool] = lambda *_: True
) -> None:
    """Stop before a call is made for the first time, and let others do something meanwhile."""
    call, todo = getattr(owner, name), [does]

    def made(*args: Any, **kwargs: Any) -> Any:
        if todo and when(*args):
            todo.pop()()
        return call(*args, **kwargs)

    monkeypatch.setattr(owner, name, made)


def test_the_lock_of_a_model_whose_name_goes_on_with_a_dot_is_no_stolen_one(project: Project) -> None:
    registry = ModelRegistry()
    with ModelLock(registry.client, f"{NAME}.NS"):
        sweep(registry.client, NAME)
        with registry.client.session("look") as client:
            assert client.get_registered_model(f"fx-lock.{NAME}.NS").name == f"fx-lock.{NAME}.NS"


def test_an_alias_that_was_set_late_by_one_who_decides_nothing_is_put_back(
    registered: Register, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = ModelRegistry(), ModelRegistry()
    registered("original", stage="Production")
    second = registered("regularised")
    before_call(monkeypatch, mirroring, "_champion_and_alias", lambda: other.transition_stage(NAME, second, "Production"))
    settle_now(registry.client, NAME)
    assert champion(registry) == second
