"""Races and kills, on SQLite and on PostgreSQL: one champion at any instant, and a second run that completes the first.

A few of each here; ``make stress`` does hundreds (``--rounds``, half of them).
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import pandas as pd
import pytest
import sqlalchemy
from conftest import NAME, Project
from sqlalchemy import text

from fxhelpers import ModelRegistry, load_params, write_bundle
from fxhelpers.bundles import load_bundle
from fxhelpers.forecasts import read_log
from fxhelpers.registry.ledger_store import read_ledger

Register = Callable[..., int]
_BACK = ("rollback", "alarm")  # both let the version before serve again
RETENTION = 86_400_000 * 100  # milliseconds: longer ago than any version may stay in Staging


@pytest.fixture(params=["sqlite", "postgresql"])
def arena(request: pytest.FixtureRequest, project: Project, registered: Register, rounds: int, older: str) -> Project:
    """A project with three versions, the first of them champion, in which promotions are quick."""
    if request.param == "postgresql":
        if "killed" in request.node.name and not older and rounds <= 2:
            pytest.skip("make test-servers")
        project.settings["mlflow"]["tracking_uri"] = request.getfixturevalue("postgresql")()
    project.write(model_registry={"compare_metrics": False})
    for model in ("original", "regularised", "lighter"):
        registered(model)
    ModelRegistry().transition_stage(NAME, 1, "Production")
    return project


def champion() -> int | None:
    found = ModelRegistry().get_production_model(NAME)
    return found.version if found else None


def in_production() -> list[int]:
    """Return the versions that MLflow's stage says are in Production."""
    registry = ModelRegistry()
    with registry.client.session("list") as client:
        found = client.search_model_versions(f"name='{NAME}'")
    return [int(v.version) for v in found if v.current_stage == "Production"]


def results(folder: Path) -> list[str]:
    found = sorted(folder.glob("result-*"))
    told = sorted(path.read_text() for path in found)
    for path in found:
        path.unlink()
    return told


def problems() -> list[Any]:
    return ModelRegistry().verify("AAPL").problems


def test_of_two_promotions_at_once_one_wins_and_the_other_is_stale(arena: Project, rounds: int) -> None:
    for number in range(rounds // 2):
        ModelRegistry().transition_stage(NAME, 1, "Production")
        barrier = faults.CONTEXT.Barrier(2)
        children = [faults.start(arena.folder, "promote", version, barrier=barrier) for version in (2, 3)]
        for child in children:
            child.join(120)
            assert child.exitcode == 0
        told = results(arena.folder)
        assert told[1] == "promoted", told
        assert told[0].startswith("StaleComparisonError"), told
        assert [champion()] == in_production(), f"round {number}"
        assert sorted(d.result or "" for d in read_ledger(ModelRegistry().client, NAME).outcomes[-2:]) == ["promoted", "stale"]
    assert problems() == []


def test_registering_the_same_bundle_at_once_makes_one_version(arena: Project, rounds: int) -> None:
    for number in range(rounds // 2):
        path = another_bundle(arena)
        barrier = faults.CONTEXT.Barrier(3)
        children = [faults.start(arena.folder, "register", path, barrier=barrier) for _ in range(3)]
        for child in children:
            child.join(120)
        assert results(arena.folder) == [str(4 + number)] * 3
    assert problems() == []


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_first_start_of_six_processes_on_an_empty_registry_works(
    project: Project, trained: dict[str, Path], request: pytest.FixtureRequest, database: str
) -> None:
    uri = request.getfixturevalue("postgresql")(migrated=False) if database == "postgresql" else "sqlite:///new/mlflow.db"
    project.write(mlflow={"tracking_uri": uri})
    path = another_bundle(project, trained)
    barrier = faults.CONTEXT.Barrier(6)
    children = [faults.start(project.folder, "register", path, barrier=barrier) for _ in range(6)]
    for child in children:
        child.join(180)
    assert results(project.folder) == ["1"] * 6
    assert problems() == []


@pytest.mark.parametrize("operation", ["register", "promote", "rollback", "retain", "forecast", "alarm"])
def test_killed_after_any_commit_the_old_or_the_new_champion_serves_and_a_second_run_completes_it(
    arena: Project, operation: str, rounds: int
) -> None:
    ModelRegistry().transition_stage(NAME, 2, "Production")
    some = random.Random(operation)  # noqa: S311 (the same moments every time)
    total = commits_of(arena, operation)
    moments = sorted(some.sample(range(1, total + 1), min(rounds // 2, total)))
    for moment in moments:
        kill_and_run_again(arena, operation, lambda prepared, n=moment: kill_at_commit(arena, operation, prepared, n))


@pytest.mark.parametrize("operation", ["register", "promote", "rollback", "retain", "forecast", "alarm"])
def test_killed_at_any_moment_too(arena: Project, operation: str, rounds: int) -> None:
    ModelRegistry().transition_stage(NAME, 2, "Production")
    some = random.Random(operation)  # noqa: S311 (the same moments every time)
    for _ in range(max(1, rounds // 2)):
        kill_and_run_again(arena, operation, lambda prepared: kill_in_time(arena, operation, prepared, some.uniform(0.02, 0.8)))


def kill_and_run_again(arena: Project, operation: str, kill: Callable[[Any], None]) -> None:
    before, argument = champion(), prepare(arena, operation)
    former = read_ledger(ModelRegistry().client, NAME).former
    expected = {"promote": argument} | dict.fromkeys(_BACK, former.number if former else None)
    kill(argument)
    results(arena.folder)
    after = champion()
    assert after in {before, expected.get(operation, before)}
    assert after is not None
    opened = [d.id for d in read_ledger(ModelRegistry().client, NAME).decisions if d.seal is None]
    named = {finding.decision for finding in problems()}
    assert set(opened) <= named
    decided = read_ledger(ModelRegistry().client, NAME).champion  # even if MLflow's alias lags behind
    if operation not in _BACK or decided == before:  # a rollback that was done is undone by another one
        faults.do(operation, argument)
    else:
        ModelRegistry().verify("AAPL", repair=True)
    assert champion() == expected.get(operation, before)
    assert in_production() == [champion()]
    assert problems() == []
    if operation == "forecast":
        rows = read_log(ModelRegistry().client).rows
        assert argument in set(rows["as_of"])
        assert not rows.duplicated(["symbol", "session", "role"]).any()
        assert ModelRegistry().verify(deep=True).problems == []


def kill_at_commit(arena: Project, operation: str, argument: Any, commit: int) -> None:
    child = faults.start(arena.folder, operation, argument, commits=commit)
    child.join(120)
    assert child.exitcode in {-9, 0}  # the last commits of a run depend on what was to be mended


def kill_in_time(arena: Project, operation: str, argument: Any, seconds: float) -> None:
    child = faults.start(arena.folder, operation, argument)
    time.sleep(seconds)
    child.kill()
    child.join(120)


def prepare(arena: Project, operation: str) -> Any:
    """Make the operation have something to do, and return its argument."""
    if operation == "register":
        return another_bundle(arena)
    if operation == "promote":
        return 3 if champion() == 2 else 2
    if operation == "forecast":
        return f"{pd.bdate_range('2012-09-04', '2012-10-26')[len(read_log(ModelRegistry().client).rows)]:%Y-%m-%d}"
    if operation == "retain":
        registry = ModelRegistry()
        version = registry.run_registration_pipeline(model_path=another_bundle(arena)).version
        with database(arena).begin() as connection:
            old = text("UPDATE model_versions SET creation_time = creation_time - :age WHERE version = :version")
            connection.execute(old, {"age": RETENTION, "version": version})
    return None


def commits_of(arena: Project, operation: str) -> int:
    """Count the commits of an undisturbed run."""
    argument, seen = prepare(arena, operation), 0

    def count(_session: object) -> None:
        nonlocal seen
        seen += 1

    sqlalchemy.event.listen(sqlalchemy.orm.Session, "after_commit", count)
    try:
        faults.do(operation, argument)
    finally:
        sqlalchemy.event.remove(sqlalchemy.orm.Session, "after_commit", count)
    assert seen > 5
    return seen


def database(arena: Project) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(load_params(arena.folder / "params.yaml").registry_uri)


def another_bundle(arena: Project, trained: dict[str, Path] | None = None) -> Path:
    """Write a bundle that was never registered: the same model, trained at another time."""
    params = load_params(arena.folder / "params.yaml")
    source = load_params(trained["regularised"] / "params.yaml").paths if trained else params.paths
    if not list(source.models.glob("mlp_model_*")):
        return arena.bundle(max_iter=2).model_path
    bundle = load_bundle(source, symbol="AAPL")
    return write_bundle(bundle.model_object, bundle.scaler_object, bundle.metadata, params.paths).model_path


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    before = faults.multiprocessing.active_children()  # such as joblib's workers, which fitted for another test
    yield
    assert [child for child in faults.multiprocessing.active_children() if child.is_alive() and child not in before] == []
