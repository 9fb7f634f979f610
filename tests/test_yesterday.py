"""What an earlier release wrote opens unchanged: registry, ledger, records, bundles and params.yaml.

``release-0.1.0.tar.xz`` is a project in which that release trained and
registered two models of AAPL, promoted one, refused the other and rolled back
twice; ``history.json`` is what its ``fx history AAPL --json`` printed.
``schema-2.tar.xz`` is one of a later day, with features of schema 2 and kept
prices, but without recipes: two models, one promoted and one refused.
"""

import json
import tarfile
from pathlib import Path

import pytest
from conftest import ROOT, Project, moved

from fxhelpers import ModelRegistry, load_params, read_prices, train_model, write_bundle
from fxhelpers.params import TrainingParams
from fxhelpers.policy import policy_digest
from fxhelpers.records import read_summary

RELEASE = ROOT / "tests" / "release-0.1.0.tar.xz"
WRITTEN_IN = "file:///srv/desk"


@pytest.fixture
def before_recipes(project: Project) -> Path:
    """A project that was written before there were recipes, as if in this folder."""
    with tarfile.open(ROOT / "tests" / "schema-2.tar.xz") as archive:
        archive.extractall(project.folder, filter="data")
    moved(project.folder, WRITTEN_IN)
    return project.folder


@pytest.fixture
def release(project: Project) -> Path:
    """The project of an earlier release, as if it had been written in this folder."""
    with tarfile.open(RELEASE) as archive:
        archive.extractall(project.folder, filter="data")
    moved(project.folder, WRITTEN_IN)
    return project.folder


def test_an_earlier_release_is_read_as_it_was_written(release: Path) -> None:
    registry = ModelRegistry()
    before, now = json.loads((release / "history.json").read_text()), json.loads(registry.history("AAPL").to_json())
    assert now.pop("registry") != before.pop("registry")  # the folder is another one
    assert now == before
    found = registry.verify(deep=True)
    assert (found.findings, found.decisions) == ((), 6)


def test_its_policy_and_versions_are_those_that_decided(release: Path) -> None:
    registry = ModelRegistry()
    decisions = json.loads((release / "history.json").read_text())["decisions"]
    policies = {d["outcome"]["facts"]["policy_sha256"] for d in decisions if "policy_sha256" in d["outcome"]["facts"]}
    assert policies == {policy_digest(load_params().promotion)}
    champion = registry.load_champion("AAPL")
    assert champion.version.version == 1
    assert champion.replay() > 0  # it forecasts what it did
    bundle = registry.load_model_info(symbol="AAPL")
    assert registry.register_model(bundle).version == 2  # which that bundle was


def test_its_records_are_read_and_listed(release: Path) -> None:
    from fxhelpers.reports import rebuild_gallery

    records = sorted((release / "outputs" / "records" / "AAPL").glob("*.ipynb"))
    summaries = [read_summary(json.loads(record.read_text())) or {} for record in records]
    assert [summary["notebook"] for summary in summaries] == [
        *("train", "register", "promote"),
        *("train", "register", "promote"),
        *("rollback", "rollback"),
    ]
    page = rebuild_gallery(release / "outputs" / "records")
    listed = "".join(path.read_text() for path in page.parent.glob("index*"))
    assert all(record.name in listed or record.stem in listed for record in records)


def test_its_ledger_goes_on(release: Path) -> None:
    registry = ModelRegistry()
    repeated = registry.propose("AAPL", 2, apply=True)
    assert repeated.verdict.attempt == 2  # the same comparison by the same policy is the same attempt
    registry.promote(repeated)
    decision = registry.rollback("AAPL", reason="the release after", apply=True)
    assert decision.to_version == 2
    assert [finding.level for finding in registry.verify().findings if finding.level == "problem"] == []


@pytest.mark.usefixtures("thorough")
def test_versions_without_a_recipe_serve_and_are_contested(before_recipes: Path) -> None:
    registry = ModelRegistry()
    before, now = (json.loads((before_recipes / "history.json").read_text()), json.loads(registry.history("AAPL").to_json()))
    assert now["decisions"] == before["decisions"]
    assert registry.verify(deep=True).findings == ()
    policies = {d["outcome"]["facts"]["policy_sha256"] for d in before["decisions"] if "verdict" in d["outcome"]["facts"]}
    assert policies == {policy_digest(load_params().promotion)}
    assert registry.load_champion("AAPL").replay() > 0
    again = registry.propose("AAPL", 2)
    assert again.verdict.attempt == 2, "the same comparison is the same attempt, and counts as it was made"
    params = load_params()
    rules = TrainingParams.model_validate({"model": "ridge", "models": {"ridge": {"estimator": "Ridge", "alpha": 3000.0}}})
    made = train_model("AAPL", read_prices("AAPL", params.prices), rules)
    version = registry.register_model(write_bundle(made.model, made.scaler, made.metadata, params.paths)).version
    proposal = registry.propose("AAPL", version, apply=True)
    assert proposal.verdict.kind == "contest"
    assert proposal.verdict.attempt == 3
    assert proposal.comparison.first_day > "2009", "days that the champion has not seen"
    assert registry.promote(proposal).result == "refused"
    assert registry.verify().findings == ()


@pytest.mark.parametrize("project_of", ["release", "before_recipes"])
def test_its_champion_forecasts_and_is_watched(project_of: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(project_of)
    registry = ModelRegistry()
    row = registry.forecast(as_of="2013-02-28", apply=True).rows.iloc[0]
    assert (row["session"], row["status"], row["recipe_sha256"]) == ("2013-03-01", "late", "")
    assert abs(row["forecast"]) < 0.1
    newest = registry.forecast().rows.iloc[0]
    assert "prices end on 2013-03-01" in newest["why"]
    assert registry.watch(apply=True)["AAPL"].word == "too early to tell"
    assert registry.verify(deep=True).findings == ()
