"""One recipe on many symbols, from the command to the ledgers: real notebooks, on shares of resampled days."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import ROOT, Project
from forecasters import contest_losses
from synthetic import write_prices

from fxhelpers import ModelRegistry, load_params, plots, read_portfolio, read_prices, train_model, write_bundle
from fxhelpers.batch import Batch, run_pooled
from fxhelpers.batch._run import RunOutcome
from fxhelpers.cli import cli
from fxhelpers.errors import FxError, ParamsError
from fxhelpers.ledger import Ledger
from fxhelpers.policy import Contribution, digits, pool_symbols
from fxhelpers.registry.ledger_store import read_ledger

RECIPES = {
    "wild": {"estimator": "Ridge", "alpha": 1.0},  # fits noise: far worse than forecasting zero
    "calm": {"estimator": "Ridge", "alpha": 1e5},
    "other": {"estimator": "Ridge", "alpha": 1e4},
}
SUPERIOR = {"id": "superior", "test": "stationary_bootstrap", "versus": "champion", "alpha": 0.05, "resamples": 1_000}
SKILL = {**SUPERIOR, "id": "skill", "versus": "zero_return", "severity": "warn"}


def shares(project: Project, count: int, **promotion: object) -> tuple[ModelRegistry, list[str]]:
    """Prices of so many shares, and a registry that knows three recipes."""
    symbols = write_prices(project.folder / "prices", count)
    project.settings["training"]["models"] = RECIPES
    gates = [SUPERIOR, SKILL, {**SKILL, "id": "mean", "versus": "mean_training_return"}]
    rules = {"gates": gates, "evaluation": {"max_stale_days": None}, **promotion}
    registry = project.registry(
        prices={"source": "csv"}, training={"refit": True, "model": "wild", "rolling": {"every_days": 500}}, promotion=rules
    )
    return registry, symbols


def register(registry: ModelRegistry, symbol: str, recipe: str, **options: str) -> int:
    params = registry.params
    made = train_model(symbol, read_prices(symbol, params.prices), params.training, model=recipe)
    time.sleep(1)  # bundles are named by the second
    bundle = write_bundle(made.model, made.scaler, made.metadata, params.paths)
    return registry.register_model(bundle, **options).version


def ledger_of(registry: ModelRegistry, symbol: str) -> Ledger:
    return read_ledger(registry.client, registry.model_name(symbol))


@pytest.mark.usefixtures("thorough")
def test_a_recipe_is_judged_once_on_all_symbols_that_can_be_pooled(project: Project) -> None:
    registry, symbols = shares(project, 6)
    for symbol in symbols[:5]:
        register(registry, symbol, "wild", stage="Production")
    for symbol in symbols:
        register(registry, symbol, "other" if symbol == "S004" else "calm")
    batch = Batch(ROOT / "notebooks" / "promote.ipynb", registry.params, jobs=3)
    batch.begin(symbols, {"apply": True}, one_test=True)
    phases: list[tuple[str, int]] = []

    def begin(phase: str, total: int) -> Callable[[RunOutcome], None]:
        phases.append((phase, total))
        if phase == "deciding":  # between comparison and decision somebody makes another version champion
            registry.transition_stage(registry.model_name("S005"), 2, "Production")
        return lambda _: None

    outcomes = {outcome.symbol: outcome for outcome in run_pooled(batch, symbols, {"apply": True}, begin)}
    assert phases == [("comparing", 6), ("deciding", 4)]
    assert list(outcomes) == symbols
    assert "StaleComparisonError" in str(outcomes["S005"].error)
    found = read_portfolio(batch.id)
    assert found.one_test is not None
    assert found.one_test.pooled.p < 0.025
    assert list(found.one_test.pooled.members) == ["S001", "S002", "S003", "S005"]
    assert {symbol: why.partition(":")[0] for symbol, why in found.one_test.left_out.items()} == {
        "S004": f"another recipe, {ledger_of(registry, 'S004').decisions[-1].outcome_facts.recipe[:8]}; most have "
        f"{found.one_test.pooled.recipe[:8]}",
        "S006": "no champion",
    }
    for symbol in ("S001", "S002", "S003"):
        summary = outcomes[symbol].summary
        assert summary is not None
        assert (summary["result"], summary["p"], summary["attempt"]) == ("promoted", found.one_test.pooled.p, 1)
        decision = ledger_of(registry, symbol).decisions[-1]
        kept = decision.outcome_facts.pooled
        assert (kept["p"], kept["symbols"], kept["compared"], kept["days"]) == (
            found.one_test.pooled.p,
            4,
            6,
            found.one_test.pooled.days,
        )
        assert kept["digest"] == found.one_test.pooled.digest
        assert (decision.outcome_facts.attempt, decision.outcome_facts.level) == (1, 0.025)
        comparing, deciding = (path.read_text() for path in project.records(symbol))
        assert "all symbols are compared first" in comparing
        assert '"contribution"' in comparing
        assert "mean over 4 symbols (stationary bootstrap)" in deciding
    for symbol in ("S004", "S006"):
        assert ledger_of(registry, symbol).decisions[-1].kind == "registration"
        assert len(project.records(symbol)) == 1
    assert not registry.verify(deep=True).problems
    with pytest.raises(FxError, match="is none of the 4 symbols pooled: versions, prices, policy or attempts changed"):
        registry.propose("S004", 2, pooled=found.one_test.pooled.to_json())
    assert [len(ax.get_lines()) > 0 for ax in plots.pooled(found)] == [True, True]


@pytest.mark.usefixtures("thorough")
def test_a_batch_that_was_stopped_while_it_decided_decides_the_rest_by_the_same_test(project: Project) -> None:
    registry, symbols = shares(project, 3)
    for symbol in symbols:
        register(registry, symbol, "wild", stage="Production")
        register(registry, symbol, "calm")
    phases: list[tuple[str, int]] = []

    def run(*stops: str, resume: bool) -> dict[str, RunOutcome]:
        batch = Batch(ROOT / "notebooks" / "promote.ipynb", registry.params, jobs=1, resume=resume)
        batch.begin(symbols, {"apply": True}, one_test=True)

        def begin(phase: str, total: int) -> Callable[[RunOutcome], None]:
            phases.append((phase, total))
            return lambda _: batch.stop() if phase in stops else None

        return {outcome.symbol: outcome for outcome in run_pooled(batch, symbols, {"apply": True}, begin)}

    def champions() -> list[int | None]:
        return [ledger_of(registry, symbol).champion for symbol in symbols]

    run("deciding", resume=False)
    assert champions() == [2, 1, 1]
    first = read_portfolio().one_test
    assert first is not None
    run("deciding", resume=True)
    assert champions() == [2, 2, 1]
    outcomes = run(resume=True)
    assert champions() == [2, 2, 2]
    assert phases == [("comparing", 3), ("deciding", 3), ("deciding", 2), ("deciding", 1)]
    assert [outcomes[symbol].error for symbol in symbols] == [None] * 3
    kept = [ledger_of(registry, symbol).decisions[-1].outcome_facts.pooled for symbol in symbols]
    assert [facts["digest"] for facts in kept] == [first.pooled.digest] * 3
    assert list(read_portfolio().runs["result"]) == ["promoted"] * 3
    assert not registry.verify(deep=True).problems


@pytest.mark.usefixtures("thorough")
def test_the_command_sums_it_up_and_refusals_spend_an_attempt_of_every_symbol(project: Project) -> None:
    """The better recipe serves, the worse one is refused everywhere; another look at it costs nothing more."""
    registry, symbols = shares(project, 3)
    for symbol in symbols:
        register(registry, symbol, "calm", stage="Production")
        register(registry, symbol, "wild")
    command = ["run", "promote", "--symbols", "all", "--pooled", "-p", "apply", "true", "--jobs", "3", "--quiet"]
    for _ in range(2):  # another look is the same attempt
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0, done.output
        assert "3 of 3 runs of promote completed" in done.output
        assert "One test over 3 symbols (0 left out): mean gain -" in " ".join(done.output.split())
        for symbol in symbols:
            ledger = ledger_of(registry, symbol)
            assert (ledger.champion, len(ledger.attempts)) == (1, 1)
            assert ledger.decisions[-1].outcome_facts.pooled["attempt"] == 1
            assert "its recipe is not significantly better than the champion's over 3 symbols" in str(ledger.decisions[-1].reason)
    (page, _) = sorted((project.folder / "outputs" / "records" / "_portfolio").glob("*.ipynb"))
    text = page.read_text()
    assert "image/png" in text
    assert "left out" in text


def test_the_page_shows_the_gain_over_time_every_symbol_and_who_was_left_out(project: Project) -> None:
    found = {
        symbol: Contribution(
            symbol=symbol,
            kind="first" if symbol == "S3" else "contest",
            recipe="b" * 64,
            champion_recipe="a" * 64,
            attempt=1 + (symbol == "S0"),
            unfit="",
            gain=0.01 * (int(symbol[1:]) - 2),
            low=-0.01,
            high=math.nan,
            losses=table,
        )
        for symbol, table in contest_losses(700, 12, 1, champion=0.005, challenger=0.04).items()
    }
    pooled, result = pool_symbols(found, load_params().promotion, symbols=13, left_out={"BAD": "not compared: no version"})
    journal = project.folder / "outputs" / "records" / "_portfolio" / "20261123T030000Z-promote-1a2b.jsonl"
    journal.parent.mkdir(parents=True)
    time_, symbols = {"time": "2026-11-23T03:00:00+00:00"}, [*found, "BAD"]
    about = {"batch": journal.stem, "notebook": "promote", "symbols": symbols, "actor": "a@b", "parameters": {}, "cluster": None}
    test = {"pooled": pooled.to_json(), "result": result.to_json(), "gains": {s: found[s].gains for s in pooled.members}}
    lines = [{**time_, **about}, {**time_, **test}]
    for symbol in found:
        ended = {"verdict": "inconclusive", "result": "only shown"}
        summary = {"version": 2, **(ended if symbol == "S3" else {"verdict": "promote", "result": "promoted"})}
        lines.append({**time_, "symbol": symbol, "status": "completed", "error": None, "seconds": 1.0, "summary": summary})
    lines.append({**time_, "symbol": "BAD", "status": "failed", "error": "no version", "seconds": 1.0})
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    shown = read_portfolio()
    assert shown.one_test is not None
    pd.testing.assert_frame_equal(shown.one_test.result.days, result.days, check_freq=False, check_index_type=False)
    gain, low, high = (f"+{100 * value:.3g} %" for value in (pooled.gain, pooled.low, pooled.high))
    assert shown.one_test.answer == (
        f"One test over 11 symbols (2 left out): mean gain {gain} (95 % interval {low} to {high}; "
        f"p = {digits(pooled.p)}, required: p < 0.00833 at attempt 2)."
    )
    assert shown.one_test.answer in shown.answer
    assert dict(shown.counts) == {"promoted": 11, "left out": 1, "failed": 1}
    page = shown.one_test._repr_html_()
    assert "no champion: the first one is promoted by fx run promote without --pooled" in page
    assert "not compared: no version" in page
    summary = shown.summary()
    assert (summary["symbols_pooled"], summary["pooled_p"], summary["pooled_digest"]) == (11, pooled.p, pooled.digest)
    path, dots = plots.pooled(shown)
    (line,) = (line for line in path.get_lines() if line.get_label() == "mean over 11 symbols")
    assert line.get_ydata()[-1] == pytest.approx(result.days["difference"].sum())  # type: ignore[index]
    (own,) = (line for line in dots.get_lines() if line.get_label() == "own gain")
    assert list(own.get_xdata()) == sorted(found[symbol].gain for symbol in pooled.members)  # type: ignore[arg-type]
    assert next(tick.get_text() for tick in dots.get_yticklabels()) == "S0"
    assert plots.pooled(replace(shown, one_test=None)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "--pooled"], "--pooled: only together with --symbols"),
        (["promote", "--symbols", "AAPL,IBM", "--pooled", "--fdr", "0.1"], "give one of them"),
        (["register", "--symbols", "AAPL,IBM", "--pooled"], "--pooled is for promote, which decides; register does not"),
        (["promote", "--symbols", "AAPL", "--pooled"], "judges one recipe on many symbols, found 1"),
        (["promote", "--symbols", "AAPL,IBM", "--pooled", "-p", "version", "1"], "remove -p version"),
        (["promote", "--symbols", "AAPL,IBM", "--pooled", "-p", "pooled", "{symbols: 2}"], "remove -p pooled"),
    ],
)
def test_bad_use_is_one_line_and_runs_nothing(project: Project, arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(cli, ["run", *arguments])
    assert found.exit_code in {1, 2}
    assert message in " ".join(found.output.split())
    assert not list((project.folder / "outputs").glob("records/[A-Z]*"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model_registry": {"compare_metrics": False}}, "compare_metrics is false in params"),
        (
            {
                "promotion": {
                    "gates": [
                        {**SUPERIOR, "severity": "warn"},
                        {"id": "dm", "test": "diebold_mariano", "versus": "champion", "alpha": 0.05},
                    ]
                }
            },
            "no gate in params.yaml that decides has test stationary",
        ),
        ({"promotion": {"approval": {"Production": {"required": True}}}}, "requires approved_by and reason"),
    ],
)
def test_a_policy_without_a_test_to_pool_is_refused(
    project: Project, sections: dict[str, dict[str, object]], message: str
) -> None:
    batch = Batch(ROOT / "notebooks" / "promote.ipynb", project.registry(**sections).params, jobs=1)
    with pytest.raises(ParamsError, match=f"--pooled.*{message}"):
        run_pooled(batch, ["AAPL", "IBM"], {"apply": True}, lambda *_: lambda _: None)


def test_a_record_that_changed_since_the_comparison_decides_nothing(project: Project) -> None:
    from fxhelpers.batch._together import _contribution

    batch = Batch(ROOT / "notebooks" / "promote.ipynb", load_params(), jobs=1)
    path = batch.params.paths.records / "AAPL" / "x.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"cells": []}))
    outcome = RunOutcome(symbol="AAPL", status="completed", record="AAPL/x.ipynb", sha256="0" * 64, summary={})
    with pytest.raises(ParamsError, match="is gone, or was changed since AAPL was compared"):
        _contribution(batch, outcome)
    Path(path).unlink()
    with pytest.raises(ParamsError, match="is gone, or was changed"):
        _contribution(batch, outcome)
