"""One history, whatever is done to those who write it: clients on hosts of their own, a nemesis, and a witness in the database.

A minute in ``make test-servers``, an hour in ``make stress``. What failed is
made again, as far as chance allows, by the seed that is printed with it.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import hosts
import pytest
from conftest import NAME, Project
from nemesis import Nemesis
from servers import Server
from test_faults import another_bundle, in_production
from witness import Witness

from fxhelpers import ModelRegistry, load_params
from fxhelpers.audit.verify import Finding
from fxhelpers.ledger import Ledger
from fxhelpers.registry.ledger_store import read_ledger

SECONDS = 40.0
DONE = {"promoted", "rolled back", "moved", "registered", "unchanged"}
TAMPERED = re.compile(
    r"forked|broken|edited|truncated|twice|two different|behind MLflow|MLflow's web pages|find out who", re.IGNORECASE
)


@dataclass
class Operation:
    """What a client asked for, and what it was told; nothing where it was killed before."""

    name: str
    kind: str
    asked: float
    told: dict[str, Any] = field(default_factory=dict)
    at: float = float("inf")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        rounds = 1 if metafunc.config.getoption("--seed") else metafunc.config.getoption("--rounds") // 3
        metafunc.parametrize("number", range(max(1, rounds)))


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, project: Project) -> Iterator[Server | None]:
    if request.param == "sqlite":
        yield None
        return
    server = Server(project.folder / "team")
    try:
        yield server.start()
    finally:
        server.kill()
        server.end_postgresql()


@pytest.fixture
def witness(project: Project, server: Server | None, registered: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Witness:
    """See what happens to a registry with three versions, the first of them champion."""
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    hosts.shorten(monkeypatch.setattr)
    project.write(model_registry={"compare_metrics": False})
    for model in ("original", "regularised", "lighter"):
        registered(model)
    ModelRegistry().transition_stage(NAME, 1, "Production")
    return Witness(server.store if server else load_params(project.folder / "params.yaml").registry_uri)


@pytest.fixture
def seed(number: int, rounds: int, request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--seed") or (str(number + 1) if rounds <= 2 else secrets.token_hex(4))


@pytest.mark.usefixtures("thorough")
def test_there_is_one_history_whatever_happens_to_those_who_write_it(
    project: Project, server: Server | None, witness: Witness, trained: dict[str, Path], seed: str
) -> None:
    bundles = [another_bundle(project, trained) for _ in range(4)]
    with Nemesis(seed, project.folder, bundles, server) as nemesis:
        nemesis.rage(SECONDS)
        before = ModelRegistry().verify("AAPL").findings
        after = ModelRegistry().verify("AAPL", repair=True).findings
        operations = read_journals(project.folder / "journals")
        ledger = read_ledger(ModelRegistry().client, NAME)
        faults = [
            *acknowledged(operations, ledger),
            *in_order(operations, ledger),
            *ended(ledger),
            *one_champion(ledger, witness, operations),
            *no_version_twice(),
            *no_lock(),
            *told_as_it_was(before, after),
            *(at_the_right_time(ledger, witness) if server else ()),
        ]
    again = f"again: pytest tests/test_histories.py --servers -k {'postgresql' if server else 'sqlite'} --seed {seed}"
    assert not faults, "\n".join([again, *faults, *diary(nemesis, operations, ledger, witness)])
    assert len([o for o in operations.values() if o.told.get("result") in DONE]) > 0, "\n".join(
        diary(nemesis, operations, ledger, witness)
    )


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_each_check_sees_what_it_is_for(server: None, witness: Witness) -> None:
    ledger = read_ledger(ModelRegistry().client, NAME)
    last = ledger.outcomes[-1]
    assert last.outcome
    never = Operation("nobody", "production", 1.0, {"result": "moved", "to": 3}, 2.0)
    elsewhere = replace(last, outcome=replace(last.outcome, facts=last.outcome.facts.model_copy(update={"from_": 7})))
    with ModelRegistry().client.session("tamper") as client:
        client.set_registered_model_alias(NAME, "champion", "2")
        client.create_registered_model("fx-lock.nobody")
    findings = ModelRegistry().verify("AAPL").findings
    assert list(acknowledged({"nobody": never}, ledger))
    assert list(in_order({}, replace(ledger, decisions=(*ledger.decisions[:-1], elsewhere))))
    assert list(ended(replace(ledger, decisions=(replace(last, outcome=None, seal=None),))))
    assert len(list(one_champion(ledger, witness, {}))) == 2
    assert list(no_lock())
    assert len(list(told_as_it_was(findings, findings))) > 1


def read_journals(folder: Path) -> dict[str, Operation]:
    operations: dict[str, Operation] = {}
    for journal in sorted(folder.glob("*.jsonl")):
        for line in journal.read_text().splitlines():
            told = json.loads(line)
            if "fate" in told:
                operations[f"{journal.stem} {told['at']}"] = Operation(journal.stem, told["fate"], told["at"], told, told["at"])
            elif "kind" in told:
                operations[told["operation"]] = Operation(told["operation"], told["kind"], told["at"])
            elif "operation" in told:
                operations[told["operation"]].told, operations[told["operation"]].at = told, told["at"]
    return operations


def acknowledged(operations: dict[str, Operation], ledger: Ledger) -> Iterator[str]:
    """What returned is in the ledger once, as it said; what said that nothing was changed is not there as done."""
    for operation in operations.values():
        told, result = operation.told, operation.told.get("result")
        found = [d for d in ledger.decisions if d.actor.startswith(f"{operation.name}@")]
        came_to = [(d.result, d.to_version) for d in found]
        if told.get("error") == "traceback":
            yield f"{operation.name} ({operation.kind}) ended in a traceback: {told['message'][-600:]}"
        elif result in DONE:
            right = [d for d in found if d.result == result and told.get("to", d.to_version) == d.to_version]
            if len(found) != 1 or right != found or told.get("decision", found[0].id) != found[0].id:
                yield f"{operation.name} ({operation.kind}) was told {result} {told.get('to')}, the ledger has {came_to}"
        elif "nothing was changed" in told.get("message", "") and any(d.result in DONE for d in found):
            yield f"{operation.name} ({operation.kind}) was refused ({told['message']:.120}), the ledger has {came_to}"


def in_order(operations: dict[str, Operation], ledger: Ledger) -> Iterator[str]:
    """Each outcome begins where the one before ended, times run forward, and what was acknowledged first stands first."""
    for one, next_one in pairwise(ledger.outcomes):
        if one.to_version != next_one.from_version:
            yield f"{next_one.id} began with {next_one.from_version}, {one.id} before it had ended with {one.to_version}"
    for period in ledger.production_periods():
        if period.until is not None and period.until < period.since:
            yield f"version {period.version} served from {period.since} until {period.until}"
    by_actor = {d.actor.partition("@")[0]: place for place, d in enumerate(ledger.outcomes)}
    done = sorted((o for o in operations.values() if o.told.get("result") in DONE and o.name in by_actor), key=lambda o: o.at)
    for i, one in enumerate(done):
        for later in done[i + 1 :]:
            if one.at < later.asked and by_actor[one.name] > by_actor[later.name]:
                yield f"{one.name} had ended before {later.name} began, and comes after it in the ledger"


def ended(ledger: Ledger) -> Iterator[str]:
    """No decision is open: what was killed either was done or is told as interrupted."""
    for decision in ledger.decisions:
        if decision.outcome is None or decision.seal is None:
            yield f"{decision.id} has no {'outcome' if decision.outcome is None else 'seal'}, and was not told as interrupted"


def one_champion(ledger: Ledger, witness: Witness, operations: dict[str, Operation]) -> Iterator[str]:
    """Alias and stage are what the ledger says, and nobody ever served or was read as champion of whom it does not know."""
    champion = ModelRegistry().get_production_model(NAME)
    found = {"alias": [champion.version] if champion else [], "stage": in_production()}
    expected = [ledger.champion] if ledger.champion is not None else []
    yield from (f"{message}: {has}, the ledger says {expected}" for message, has in found.items() if has != expected)
    known = {None} | {version for d in ledger.outcomes for version in (d.from_version, d.to_version)}
    served = {version for _, version in witness.served(NAME)} | {
        o.told.get("to") for o in operations.values() if o.kind == "read"
    }
    if served - known:
        yield f"versions {served - known} served, which the ledger does not know"


def no_version_twice() -> Iterator[str]:
    versions = ModelRegistry().get_model_versions(NAME)
    bundles = [v.tags.get("fx.bundle_sha256") for v in versions]
    for v in versions:
        if bundles.count(v.tags.get("fx.bundle_sha256")) > 1:
            yield f"version {v.version} is of a bundle that has another one"


def no_lock() -> Iterator[str]:
    with ModelRegistry().client.session("list") as client:
        left = [model.name for model in client.search_registered_models(max_results=1000) if model.name.startswith("fx-lock.")]
    if left:
        yield f"locks are left: {left}"


def told_as_it_was(before: tuple[Finding, ...], after: tuple[Finding, ...]) -> Iterator[str]:
    """Nobody tampered, so verify never says so, and after the repair it finds no problem."""
    for finding in before:
        if TAMPERED.search(f"{finding.message} {finding.remedy}"):
            yield f"verify accuses somebody: {finding.message} ({finding.remedy})"
    yield from (
        f"verify after the repair: {finding.message} ({finding.remedy})" for finding in after if finding.level == "problem"
    )


def at_the_right_time(ledger: Ledger, witness: Witness) -> Iterator[str]:
    """Whoever serves does so since the time that the database's clock told, whatever that of the client did."""
    served = witness.served(NAME)
    for decision in ledger.outcomes:
        if decision.moved_at and "x" in decision.actor:
            told = datetime.fromisoformat(decision.moved_at)
            if not any(v == decision.to_version and abs(at - told) < timedelta(minutes=1) for at, v in served):
                yield f"{decision.id} moved to {decision.to_version} at {told}, which the database did not see then"


def diary(nemesis: Nemesis, operations: dict[str, Operation], ledger: Ledger, witness: Witness) -> list[str]:
    """Tell what was done, and what was seen: the last of each."""
    asked = [f"{o.name} {o.kind}: {str(o.told)[:200]}" for o in sorted(operations.values(), key=lambda o: o.at)]
    asked = [line for line in asked if "RegistryUnavailable" not in line]
    moves = [f"{d.id} by {d.actor}: {d.result}, {d.from_version} → {d.to_version} at {d.moved_at}" for d in ledger.outcomes]
    served = [f"{at:%H:%M:%S.%f} {version}" for at, version in witness.served(NAME)]
    parts = {"nemesis": nemesis.did, "operations": asked, "ledger": moves, "alias, by the witness": served}
    return [line for part, lines in parts.items() for line in (f"--- {part}", *lines[-60:])]
