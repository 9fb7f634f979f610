"""From many symbols' comparisons to one test, and from that to each symbol's verdict."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from forecasters import forecaster, frame_of, returns

from fxhelpers.comparison import Comparison, EvaluationFrame
from fxhelpers.errors import ParamsError
from fxhelpers.ledger import Attempt
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.params._sections import EvaluationParams
from fxhelpers.policy import Contribution, Pooled, Verdict, contribution, decide, pool_symbols, pooled_gates

SUPERIOR = GateParams(id="superior", test="stationary_bootstrap", versus="champion", alpha=0.05, resamples=1_000)
NAIVE = GateParams(id="naive", metric="rmse", versus="zero_return", max_regression=0.01)
GAIN = GateParams(id="gain", metric="rmse", versus="champion", min_improvement=0.005)
QUICK = tuple(
    SUPERIOR.model_copy(update={"id": versus, "versus": versus, "severity": "warn"})
    for versus in ("zero_return", "mean_training_return")
)
POLICY = PromotionParams(gates=(SUPERIOR, NAIVE, *QUICK), evaluation=EvaluationParams(max_stale_days=None))
OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
WAITING = Pooled(symbols=8)


def frame(symbol: str, *, skill: float = 0.15, days: int = 600, recipe: str = NEW, rival: str = OLD) -> EvaluationFrame:
    seed = int(symbol[1:])
    target = returns(days, seed)
    made = frame_of(forecaster(target, skill, seed), forecaster(target, 0.02, seed + 100), target)
    return replace(made, symbol=symbol, recipes={2: recipe, 1: rival})


def refused(count: int) -> list[Attempt]:
    """So many other recipes that were tried before."""
    return [Attempt(key=f"{n}" * 64, policy="", number=n, day="2009-01-02", time="2009-01-02") for n in range(1, count + 1)]


def compared(frame: EvaluationFrame, policy: PromotionParams = POLICY, **words: Any) -> tuple[Comparison, Verdict]:
    return decide(frame, policy, pooled=words.pop("pooled", WAITING), **words)


def contributed(*frames: EvaluationFrame, policy: PromotionParams = POLICY, **words: Any) -> dict[str, Contribution]:
    """What each gives, as it comes out of a record."""
    found = {frame.symbol: contribution(*compared(frame, policy, **words)) for frame in frames}
    return {symbol: Contribution.read(json.loads(json.dumps(one.to_json()))) for symbol, one in found.items()}


def results(verdict: Verdict) -> dict[str, str]:
    return {gate.id: gate.result for gate in verdict.gates}


FRAMES = [frame(f"S{n}") for n in range(8)]


def test_while_the_symbols_are_compared_nothing_decides() -> None:
    _, verdict = compared(FRAMES[0])
    assert verdict.outcome == "inconclusive"
    assert results(verdict)["superior"] == "not evaluated"
    assert "all symbols are compared first" in verdict.reason
    assert math.isnan(verdict.p)


def test_a_recipe_that_few_symbols_could_show_alone_is_promoted_on_all_whose_gates_pass() -> None:
    alone = [decide(one, POLICY)[1] for one in FRAMES]
    assert sum(verdict.outcome == "promote" for verdict in alone) <= 4
    pooled, result = pool_symbols(contributed(*FRAMES), POLICY, symbols=8)
    assert pooled.p == result.p < 0.025
    assert list(pooled.members) == [f"S{n}" for n in range(8)]
    assert (pooled.attempt, pooled.days, pooled.digest) == (1, 600, result.digest)
    given = Pooled.read(json.loads(json.dumps(pooled.to_json())))
    assert given is not None
    comparison, verdict = compared(FRAMES[0], pooled=given)
    assert given.stale(comparison, verdict.attempt) == ""
    assert verdict.outcome == "promote"
    assert verdict.p == pooled.p
    assert (verdict.level, verdict.attempt, verdict.detectable) == (0.025, 1, pooled.detectable)
    assert "the mean gain of its recipe over 8 symbols is +" in verdict.reason
    assert "one test over 8 symbols as attempt 1, the largest number among these" in verdict.spending
    gates = verdict.to_frame()
    assert (
        gates.loc["superior", "rule"]
        == "lower squared errors than the champion's recipe, mean over 8 symbols (stationary bootstrap)"
    )
    assert gates.loc["superior", "required"] == "p < 0.025 (0.05/(k(k+1)), attempt 1)"
    kept = given.ledger_facts()
    assert (kept["p"], kept["symbols"], kept["compared"], kept["digest"]) == (pooled.p, 8, 8, pooled.digest)
    strict = POLICY.model_copy(update={"gates": (*POLICY.gates, GateParams(id="hits", metric="hit_rate", min=0.99))})
    assert compared(FRAMES[0], strict, pooled=given)[1].outcome == "keep"


def test_a_recipe_that_is_not_better_is_refused_everywhere_with_the_gain_that_would_have_been_seen() -> None:
    frames = [frame(f"S{n}", skill=0.02) for n in range(8)]
    pooled, _ = pool_symbols(contributed(*frames), POLICY, symbols=8)
    for one in frames:
        _, verdict = compared(one, pooled=pooled)
        assert verdict.outcome == "keep"
        assert "its recipe is not significantly better than the champion's over 8 symbols (p = " in verdict.reason
        assert f"80 % power to detect a mean gain of {100 * pooled.detectable:.3g} %." in verdict.reason


@pytest.mark.usefixtures("thorough")
def test_the_test_is_made_at_the_largest_attempt_number_of_its_recipe() -> None:
    """So no symbol's level is above that of its own attempt; the numbers of those with fewer are kept."""
    few, many = contributed(*FRAMES[:6], earlier=refused(1)), contributed(*FRAMES[6:], earlier=refused(4))
    pooled, _ = pool_symbols({**few, **many}, POLICY, symbols=8)
    assert [one.attempt for one in pooled.members.values()] == [2] * 6 + [5] * 2
    assert pooled.attempt == 5
    first, last = (compared(one, pooled=pooled, earlier=refused(k))[1] for one, k in ((FRAMES[0], 1), (FRAMES[7], 4)))
    assert (first.attempt, last.attempt) == (2, 5)
    assert first.level == last.level == 0.05 / 30 == pytest.approx(0.00167, abs=1e-5)
    assert first.p_attempt == last.p_attempt == min(1.0, pooled.p * 30)
    ignored = POLICY.model_copy(update={"attempts": "ignore"})
    assert compared(FRAMES[0], ignored, pooled=pooled)[1].level == 0.05


def test_who_is_left_out_and_why() -> None:
    target = returns(600, 50)
    first = replace(frame_of(forecaster(target, 0.1, 50), None, target), symbol="S50", recipes={2: NEW})
    same = forecaster(target, 0.1, 51)
    frames = [
        *FRAMES[:4],
        frame("S10", recipe=OTHER),
        frame("S11", rival=OTHER),
        frame("S12", recipe=""),
        frame("S13", rival=""),
        frame("S14", days=200),
        first,
        replace(frame("S15", rival=NEW), champion=None, refreshes=1),
        replace(frame_of(same, same, target), symbol="S16", recipes={2: NEW, 1: OLD}),
        replace(frame("S17"), doubts={"a jump": ("2010-03-01",)}),
    ]
    pooled, result = pool_symbols(contributed(*frames), POLICY, symbols=14, left_out={"S99": "not compared: no version"})
    assert list(pooled.members) == ["S0", "S1", "S2", "S3"]
    assert (pooled.symbols, pooled.recipe, pooled.champion_recipe) == (14, NEW, OLD)
    assert {symbol: why.partition(":")[0] for symbol, why in result.left_out.items()} == {
        "S99": "not compared",
        "S10": "another recipe, cccccccc; most have bbbbbbbb",
        "S11": "its champion has another recipe, cccccccc",
        "S12": "its recipe is not known",
        "S13": "its champion's recipe is not known",
        "S14": "only 200 days are unseen by every compared version (required",
        "S50": "no champion",
        "S15": "a refresh, which needs no test",
        "S16": "its forecasts equal those of the champion, version 1, on every day",
        "S17": "1 doubtful day between 2010-01-04 and 2012-04-20",
    }


def test_a_symbol_whose_errors_are_large_stays_in_the_pool() -> None:
    """Its own gates refuse it; to leave it out would be to choose the pool by its result."""
    policy = POLICY.model_copy(update={"gates": (*POLICY.gates, GAIN)})
    bad = frame("S9", skill=0.0)
    pooled, result = pool_symbols(contributed(*FRAMES, bad, policy=policy), policy, symbols=9)
    assert "S9" in pooled.members
    assert not result.left_out
    verdict = compared(bad, policy, pooled=pooled)[1]
    assert results(verdict) == {**results(verdict), "superior": "pass", "gain": "fail"}
    assert verdict.outcome == "keep"


def test_a_pool_of_one_symbol_decides_nothing() -> None:
    pooled, _ = pool_symbols(contributed(FRAMES[0]), POLICY, symbols=3)
    verdict = compared(FRAMES[0], pooled=Pooled.read(pooled.to_json()))[1]
    assert verdict.outcome == "inconclusive"
    assert "the test over 1 symbol was not made: 1 symbol can be pooled, a test needs two" in verdict.reason
    nothing, _ = pool_symbols({}, POLICY, symbols=3, left_out={"A": "not compared"})
    assert not nothing.members


def test_what_changed_since_is_stale() -> None:
    pooled, _ = pool_symbols(contributed(*FRAMES), POLICY, symbols=8)
    comparison, verdict = compared(FRAMES[0], pooled=pooled)
    changes = {
        "S20 is none of the 8 symbols pooled": compared(frame("S20"))[0],
        "its recipe or the champion's is another one now": compared(frame("S0", recipe=OTHER))[0],
        "601 days are compared now, and 600 were": compared(replace(frame("S0", days=601)))[0],
        "the gain is ": compared(frame("S0", skill=0.16))[0],
    }
    for message, other in changes.items():
        assert pooled.stale(other, 1).startswith(message)
    assert pooled.stale(comparison, 2) == "this is attempt 2 now, and was 1"
    assert pooled.stale(comparison, verdict.attempt) == ""
    rounded = replace(FRAMES[0], days=FRAMES[0].days * (1 + 1e-12))  # another processor
    assert pooled.stale(compared(rounded)[0], 1) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"p": 0},
        {"p": 1.5},
        {"p": "x"},
        {"p": None},
        {"why": "something"},
        {"symbols": 2},
        {"recipe": ""},
        {"attempt": 0},
        {"digest": ""},
        {"members": {"A": [1, 2]}},
        {"members": {"S0": [600, 1, 0.1]}},
        {"unknown": 1},
    ],
)
def test_a_pooled_test_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    pooled, _ = pool_symbols(contributed(*FRAMES[:4]), POLICY, symbols=4)
    with pytest.raises(ParamsError, match="pooled: what fx run promote --pooled writes is expected"):
        Pooled.read({**pooled.to_json(), **change})
    assert Pooled.read({}) is None


def test_only_the_test_of_superiority_over_the_champion_is_replaced() -> None:
    others = [
        SUPERIOR.model_copy(update={"id": "a", "severity": "warn"}),
        SUPERIOR.model_copy(update={"id": "b", "margin": 0.01}),
        SUPERIOR.model_copy(update={"id": "c", "versus": "zero_return"}),
        SUPERIOR.model_copy(update={"id": "d", "test": "diebold_mariano"}),
    ]
    assert pooled_gates(POLICY.model_copy(update={"gates": (SUPERIOR, *others)})) == [SUPERIOR]
    policy = POLICY.model_copy(update={"gates": (SUPERIOR, others[3], *QUICK)})
    pooled, _ = pool_symbols(contributed(*FRAMES, policy=policy), policy, symbols=8)
    verdict = compared(FRAMES[0], policy, pooled=pooled)[1]
    assert verdict.p == max(pooled.p, next(gate.value for gate in verdict.gates if gate.id == "d"))
