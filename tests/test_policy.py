"""The policy: what it promotes, what it refuses and why, and how often it errs where the truth is known."""

import html
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from forecasters import forecaster, frame_of, returns
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.tsa.stattools import diebold_mariano_test

from fxhelpers.comparison import MEAN, ZERO, EvaluationFrame, TestSpec, compare
from fxhelpers.comparison._tests import tail
from fxhelpers.errors import NotComparableError, ParamsError
from fxhelpers.ledger import NO_SKILL, Attempt
from fxhelpers.params import GateParams, PromotionParams
from fxhelpers.params._sections import GATE_KEYS, EvaluationParams
from fxhelpers.policy import Family, Verdict, decide, judge, policy_digest, required_tests

ANY_AGE = EvaluationParams(min_days=250, max_stale_days=None)
QUICK = PromotionParams(
    gates=tuple(g.model_copy(update={"resamples": 1_000}) if g.test else g for g in PromotionParams().gates), evaluation=ANY_AGE
)
SUPERIOR = GateParams(id="superior", test="stationary_bootstrap", versus="champion", alpha=0.05, resamples=1_000)


def verdict_on(frame: EvaluationFrame, policy: PromotionParams = QUICK, attempt: int = 1, **words: Any) -> Verdict:
    comparison = compare(frame, required_tests(policy, attempt), cost=policy.evaluation.cost)
    return judge(comparison, policy, attempt=attempt, **words)


def with_gates(*gates: dict[str, Any], **rules: Any) -> PromotionParams:
    """A policy of these gates, beside the one that it needs."""
    return PromotionParams.model_validate(
        {"gates": [SUPERIOR.model_dump(exclude_unset=True), *gates], "evaluation": ANY_AGE, **rules}
    )


def results(verdict: Verdict) -> dict[str, str]:
    return {gate.id: gate.result for gate in verdict.gates}


def found(verdict: Verdict) -> str:
    """What the verdict and each of its gates say."""
    return " ".join([verdict.reason, *(gate.message for gate in verdict.gates)])


def test_a_better_model_is_promoted_and_the_reason_says_by_how_much() -> None:
    target = returns(600)
    verdict = verdict_on(frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target))
    assert verdict.outcome == "promote"
    assert set(results(verdict).values()) == {"pass"}
    assert "passes every gate that decides: its RMSE is" in verdict.reason
    assert "below that of the champion, version 1 (p = 0.001" in verdict.reason
    assert "on the same 600 days" in verdict.reason


def test_a_refusal_says_what_was_asked_and_what_could_have_been_seen() -> None:
    target = returns(600)
    verdict = verdict_on(frame_of(forecaster(target, 0, 1), forecaster(target, 0.3, 2), target), attempt=3)
    assert verdict.outcome == "keep"
    assert results(verdict) == {
        **dict.fromkeys(("forecasts", "days", "mean", "suspicious"), "pass"),
        **dict.fromkeys(("naive", "superior", "gain"), "fail"),
        **dict.fromkeys(("skill", "regimes"), "warn"),
    }
    gates = verdict.to_frame()
    assert gates.loc["superior", "required"] == "p < 0.00417 (0.05/(k(k+1)), attempt 3)"
    assert "(p = 1.0000; required: p < 0.00417)" in found(verdict)
    assert "(required: at least 0.5 % better)" in found(verdict)
    assert gates.loc["gain", "required"] == "at least 0.5 % better"
    assert verdict.note.startswith("80 % power to detect a gain of ")
    assert "% over the champion." in verdict.reason
    assert len(verdict.reason.partition(" (see the gates)")[0]) < 400
    assert "; and superior, gain (see the gates). 80 % power" in verdict.reason


def test_without_a_champion_the_baselines_decide_and_missing_skill_is_said() -> None:
    target = returns(600)
    skilled = verdict_on(frame_of(forecaster(target, 0.3, 1), None, target))
    assert skilled.outcome == "promote"
    assert NO_SKILL not in skilled.reason
    without_gate = with_gates({"id": "naive", "metric": "rmse", "versus": "zero_return", "max_regression": 0.1})
    noise = verdict_on(frame_of(forecaster(target, 0, 4), None, target), without_gate)
    assert noise.outcome == "promote"
    assert noise.headline.startswith("Version 2 passes every gate that decides, with no evidence of skill: it ")


UNSKILLED: dict[str, tuple[Callable[[pd.Series], pd.Series], str]] = {
    "rises only": (lambda t: forecaster(t, 0.3, 1).abs() + 1e-4, "forecasts a rise on every one of 600 days"),
    "falls only": (lambda t: -forecaster(t, 0.3, 1).abs() - 1e-4, "forecasts a fall on every one of 600 days"),
    "never a fall": (lambda t: forecaster(t, 0.3, 1).clip(lower=0), "never forecasts a fall in 600 days"),
    "worse than the mean": (lambda t: forecaster(t, 0, 1) * 3, "is no better than the constant mean training return (gain -"),
    "as good as the mean": (
        lambda t: 0.0004 + 0.01 * forecaster(t, 0, 1) * np.sign(t.corr(forecaster(t, 0, 1))),
        "is not significantly better than the constant mean training return (p = ",
    ),
}


@pytest.mark.parametrize("against", [None, 4.0])
@pytest.mark.parametrize("case", list(UNSKILLED))
def test_what_makes_forecasts_worth_little_is_in_the_first_sentence(case: str, against: float | None) -> None:
    """Whatever the verdict is; and a promotion without skill is called so, in another color."""
    make, words = UNSKILLED[case]
    target = returns(600)
    frame = frame_of(make(target), None if against is None else forecaster(target, 0, 7) * against, target)
    lenient = with_gates()
    for verdict in (verdict_on(frame), verdict_on(frame, lenient), verdict_on(frame, lenient.model_copy(update={"gates": ()}))):
        assert words in verdict.headline
        assert verdict.reason.startswith(verdict.headline)
        assert words in verdict._repr_html_().partition("</b>")[0]
        if verdict.outcome == "promote" and not verdict.skill:
            assert NO_SKILL in verdict.headline
            assert "PROMOTE, NO EVIDENCE OF SKILL" in verdict._repr_html_()
            assert "#00604d" not in verdict._repr_html_().partition("</span>")[0]


def test_a_promotion_with_skill_is_green_and_says_which_gates_decided() -> None:
    target = returns(600)
    verdict = verdict_on(frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target))
    assert (verdict.skill, verdict.mark, verdict.weak) == (True, "", ())
    assert "#00604d" in verdict._repr_html_().partition("</span>")[0]
    decides = verdict.to_frame()["decides"]
    assert list(decides.index) == ["forecasts", "days", "naive", "mean", "superior", "gain", "suspicious", "skill", "regimes"]
    assert list(decides) == ["yes"] * 7 + ["only warns"] * 2


def test_better_than_a_bad_champion_is_no_skill() -> None:
    target = returns(600)
    verdict = verdict_on(frame_of(forecaster(target, 0, 1), forecaster(target, 0, 2) * 20, target), with_gates())
    assert (verdict.outcome, verdict.skill, verdict.mark) == ("promote", False, NO_SKILL)


def test_old_days_and_drift_are_said() -> None:
    target = returns(600)
    drift = pd.DataFrame({"psi": [1.0] * 9 + [0.0] * 31, "threshold": 0.1}, [f"f{n}" for n in range(40)])
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    message = verdict_on(replace(frame, drift=drift), today=date(2026, 1, 2)).reason
    assert f"Also: the compared days end long ago, on {target.index[-1]:%Y-%m-%d}; 9 of 40 features drifted" in message
    calm = replace(frame, drift=drift.assign(psi=[1.0] * 4 + [0.0] * 36))
    assert "Also" not in verdict_on(calm, today=date.fromordinal(target.index[-1].toordinal() + 20)).reason
    stale = QUICK.model_copy(update={"evaluation": EvaluationParams(max_stale_days=10)})
    assert "long ago" not in verdict_on(frame, stale, today=date(2026, 1, 2)).reason  # the gate says it


def test_gains_have_one_sign_everywhere() -> None:
    target = returns(600)
    worse = verdict_on(frame_of(forecaster(target, 0, 1) * 2, forecaster(target, 0.3, 2), target))
    for gate in worse.gates:
        if gate.id in {"naive", "mean", "gain"}:
            assert gate.rule.startswith("gain in RMSE over ")
            assert gate.shown.startswith("-")
            assert gate.value > 0  # as it always was in the ledger


def test_where_days_can_show_nothing_that_is_said() -> None:
    target = returns(600)
    comparison = compare(frame_of(forecaster(target, 0, 1) * 40, forecaster(target, 0, 2), target))
    test_result = comparison.test_result("stationary_bootstrap", "champion")
    assert test_result is not None
    assert test_result.detectable > 1
    verdict = judge(comparison)
    assert (
        "No gain over the champion can be detected: with errors of this size it would have to exceed 100 %, which is impossible"
        in verdict.reason
    )
    tests = comparison.tests_frame()
    assert list(tests["detectable"])[:3] == ["none", "none", "none"]
    assert comparison.gains()["detectable"].isna().all()


def test_on_no_champion_block_promotes_nobody() -> None:
    target = returns(600)
    policy = QUICK.model_copy(update={"on_no_champion": "block"})
    verdict = verdict_on(frame_of(forecaster(target, 0.4, 1), None, target), policy)
    assert verdict.outcome == "keep"
    assert "there is no champion to compare with" in verdict.reason


DEGENERATE: dict[str, tuple[Callable[[pd.Series], EvaluationFrame], str]] = {
    "identical models": (
        lambda t: frame_of(forecaster(t, 0.3, 1), forecaster(t, 0.3, 1), t),
        "its forecasts equal those of the champion, version 1, on every day",
    ),
    "a constant forecast": (
        lambda t: frame_of(t * 0 + t.mean(), forecaster(t, 0, 1) * 5, t),
        "% , on every day",
    ),
    "forecasting zero": (
        lambda t: frame_of(t * 0, forecaster(t, 0, 1) * 5, t),
        "it forecasts the same value, 0.0000%, on every day",
    ),
    "forecasting zero, first": (lambda t: frame_of(t * 0, None, t), "it forecasts the same value, 0.0000%, on every day"),
    "one day": (lambda t: frame_of(t.iloc[:1], -t.iloc[:1], t.iloc[:1]), "only 1 days are unseen"),
    "too few days": (lambda t: frame_of(t.iloc[:249], -t.iloc[:249], t.iloc[:249]), "(required: at least 250)"),
    "the answers themselves": (
        lambda t: frame_of(t, forecaster(t, 0, 1), t),
        "its R² against zero is +1.0000 (required: at most 0.2)",
    ),
    "a share that never moved": (lambda t: frame_of(forecaster(t, 0, 1), None, t * 0), "it has no R² against zero"),
    "a champion without errors": (
        lambda t: frame_of(forecaster(t, 0.3, 1), t, t),
        "the champion, version 1 has no RMSE, or it is 0",
    ),
}


@pytest.mark.parametrize("case", list(DEGENERATE))
def test_degenerate_inputs_are_never_promoted_and_the_reason_is_named(case: str) -> None:
    frame, reason = DEGENERATE[case]
    verdict = verdict_on(frame(returns(400)))
    assert verdict.outcome != "promote"
    assert reason.replace("% ,", "%,") in found(verdict)


@pytest.mark.parametrize("policy", ["superiority", "non_inferiority"])
def test_an_identical_model_is_kept_out_under_any_policy(policy: str) -> None:
    target = returns(400)
    gate = {
        "id": "g",
        "test": "stationary_bootstrap",
        "versus": "champion",
        "alpha": 0.05,
        "margin": 0.02 * (policy != "superiority"),
    }
    rules = PromotionParams.model_validate({"policy": policy, "gates": [gate]})
    same = forecaster(target, 0.2, 1)
    facts: dict[int, object] = {2: {"seen": {"last_day": "2009-06-30"}}, 1: {"seen": {"last_day": "2008-06-30"}}}
    verdict = verdict_on(frame_of(same, same, target, facts=facts), rules)
    assert verdict.outcome == "keep"
    assert results(verdict)["g"] == "not evaluated"


def test_under_non_inferiority_a_fresher_model_that_is_as_good_replaces_an_old_one() -> None:
    target = returns(800)
    champion = forecaster(target, 0.1, 1)
    as_good = champion + 0.0002 * np.random.default_rng(0).standard_normal(800)
    gate = {"id": "not_worse", "test": "stationary_bootstrap", "versus": "champion", "alpha": 0.05, "margin": 0.01}
    rules = PromotionParams.model_validate({"policy": "non_inferiority", "gates": [gate], "evaluation": ANY_AGE})
    ages = {"2008": "2008-06-30", "2009": "2009-06-30"}

    def told(ours: str, theirs: str) -> Verdict:
        facts: dict[int, object] = {2: {"seen": {"last_day": ages[ours]}}, 1: {"seen": {"last_day": ages[theirs]}}}
        return verdict_on(frame_of(as_good, champion, target, facts=facts), rules)

    assert told("2009", "2008").outcome == "promote"
    assert verdict_on(frame_of(as_good, champion, target)).outcome == "keep"  # it is no better
    assert "it is not fresher" in told("2008", "2009").reason
    worse = forecaster(target, 0, 7)
    facts: dict[int, object] = {2: {"seen": {"last_day": "2009-06-30"}}, 1: {"seen": {"last_day": "2008-06-30"}}}
    refused = verdict_on(frame_of(worse * 3, champion, target, facts=facts), rules)
    assert "it may be worse than the champion, version 1 by more than 1.000%" in refused.reason


@pytest.mark.parametrize(
    ("gate", "result", "message"),
    [
        ({"metric": "hit_rate", "min": 0.9}, "fail", "its hit rate is"),
        ({"metric": "hit_rate", "min": 0.4, "max": 0.9}, "pass", ""),
        ({"metric": "sharpe", "versus": "champion", "max_regression": 0.0}, "pass", ""),
        ({"metric": "rmse", "versus": "mean_training_return", "min_improvement": 0.9}, "fail", "required: at least 90 % better"),
        ({"metric": "latency", "max": 0.001}, "not evaluated", "it has no seconds to forecast one day"),
        ({"metric": "latency", "versus": "champion", "max_regression": 0.2}, "not evaluated", "or was not measured"),
        ({"metric": "rmse", "max": 0.0001, "severity": "warn"}, "warn", "Also: its RMSE is"),
        ({"test": "diebold_mariano", "versus": "champion", "alpha": 0.05}, "pass", ""),
        ({"test": "pesaran_timmermann", "alpha": 0.05}, "pass", ""),
        ({"test": "stationary_bootstrap", "versus": "mean_training_return", "alpha": 0.05}, "pass", ""),
    ],
)
def test_gates_of_every_kind(gate: dict[str, Any], result: str, message: str) -> None:
    target = returns(600)
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    verdict = verdict_on(frame, with_gates({"id": "mine", **gate}))
    assert results(verdict)["mine"] == result
    assert message in verdict.reason
    expected = {"pass": "promote", "warn": "promote", "fail": "keep", "not evaluated": "inconclusive"}[result]
    assert verdict.outcome == expected


def test_every_key_of_a_gate_is_of_one_kind_or_of_all() -> None:
    """A key of no kind would be taken, and ignored, on gates that it means nothing to."""
    of_one_kind = [key for keys in GATE_KEYS.values() for key in keys]
    assert sorted([*of_one_kind, "id", "metric", "test", "versus", "slice", "severity"]) == sorted(GateParams.model_fields)


def test_a_change_against_nothing_has_no_size() -> None:
    target = returns(300)
    gate = {"id": "mine", "metric": "rmse", "versus": "champion", "max_regression": 0.5}
    verdict = verdict_on(frame_of(forecaster(target, 0.4, 1), target, target), with_gates(gate))
    assert results(verdict)["mine"] == "not evaluated"
    assert math.isnan(next(g.value for g in verdict.gates if g.id == "mine"))


def test_relative_changes_are_of_the_size_of_the_baseline() -> None:
    """A Sharpe ratio of -0.5 instead of -1 is a gain: the sign of the baseline must not turn it round."""
    target = returns(600)
    frame = frame_of(-forecaster(target, 0.2, 1), -forecaster(target, 0.6, 2), target)
    gate = {"id": "mine", "metric": "sharpe", "versus": "champion", "min_improvement": 0.01}
    verdict = verdict_on(frame, with_gates(gate))
    measures = compare(frame, []).measures["sharpe"]
    assert measures["version 1"] < measures["version 2"] < 0
    assert results(verdict)["mine"] == "pass"


def test_prices_that_are_too_old_decide_nothing() -> None:
    target = returns(600)
    policy = QUICK.model_copy(update={"evaluation": EvaluationParams(max_stale_days=10)})
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    last = target.index[-1].date()
    assert verdict_on(frame, policy, today=last).outcome == "promote"
    assert (
        f"the last day compared is {last}, 11 days ago"
        in verdict_on(frame, policy, today=date.fromordinal(last.toordinal() + 11)).reason
    )
    assert verdict_on(frame, policy).outcome == "inconclusive"


def test_forecasts_that_were_not_stored_are_said_beside_the_verdict() -> None:
    target = returns(600)
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    frame.replayed.update({1: (0, 0), 2: (128, 128)})
    verdict = verdict_on(frame)
    assert (verdict.outcome, results(verdict)["replay"]) == ("promote", "warn")
    assert "too few stored forecasts of version 1 could be reproduced" in verdict.reason


def test_later_attempts_are_judged_by_what_is_left_of_alpha() -> None:
    target = returns(600)
    for seed in range(50):  # a gain that is significant, but not overwhelmingly so
        frame = frame_of(forecaster(target, 0.17, seed), forecaster(target, 0, 2), target)
        p = next(
            a.p for a in compare(frame, [TestSpec(test="stationary_bootstrap", versus="champion", resamples=1_000)]).test_results
        )
        if 0.01 < p < 0.02:
            break
    policy = with_gates()
    assert verdict_on(frame, policy, attempt=1).outcome == "promote"  # below 0.025
    assert verdict_on(frame, policy, attempt=2).outcome == "keep"  # 0.0083
    assert verdict_on(frame, with_gates(attempts="ignore"), attempt=9).outcome == "promote"
    assert (
        sum(
            q.alpha for k in range(1, 2_000) for q in required_tests(policy, k) if q.versus == "champion" and q.resamples == 1_000
        )
        < 0.05
    )


def test_p_far_above_the_level_is_a_refusal_however_fine_the_level_is() -> None:
    target = returns(300)
    frame = frame_of(forecaster(target, 0, 1), forecaster(target, 0, 2), target)
    for attempt in (22, 60, 224, 3_000):
        verdict = verdict_on(frame, attempt=attempt)
        assert (verdict.outcome, results(verdict)["superior"], results(verdict)["skill"]) == ("keep", "fail", "warn")
        assert "it is not significantly better than the champion, version 1 (p = " in found(verdict)
    assert next(a for a in compare(frame, required_tests(QUICK, 3_000)).test_results if a.resamples).resamples == 1_000


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("others", [0, 4])
def test_a_strong_gain_is_promoted_at_any_attempt(others: int) -> None:
    target = returns(800)
    crowd = [forecaster(target, 0, seed) for seed in range(10, 10 + others)]
    frame = frame_of(forecaster(target, 0.4, 1), forecaster(target, 0, 2), target, *crowd)
    more = [{"id": test[:3], "test": test, "alpha": 0.05} for test in ("diebold_mariano", "pesaran_timmermann")]
    more[0]["versus"] = "champion"
    for attempt in (224, 300):
        verdict = verdict_on(frame, with_gates(*more), attempt)
        assert verdict.outcome == "promote", (attempt, verdict.reason)
    comparison = compare(frame, required_tests(with_gates(), 300))
    test_result = comparison.test_result("stationary_bootstrap", "champion")
    assert test_result is not None
    assert (test_result.tail, test_result.resamples) == (True, 1_000)
    assert test_result.p < 0.05 / 300 / 301
    assert "too few for the level: p from Student's tail" in comparison.tests_frame()["resamples"].iloc[0]


def test_too_few_resamples_for_a_level_are_not_evaluated_only_where_p_may_lie_below_it() -> None:
    """As where a comparison that was made for one level is held against another."""
    target = returns(600)
    asked = [TestSpec(test="stationary_bootstrap", versus="champion", resamples=1_000)]
    policy = with_gates()
    for skill, result in ((0.4, "not evaluated"), (0.0, "fail")):
        verdict = judge(
            compare(frame_of(forecaster(target, skill, 1), forecaster(target, 0, 2), target), asked), policy, attempt=300
        )
        assert results(verdict)["superior"] == result
    assert "p may lie below" not in verdict.reason


def test_no_p_is_zero_however_great_the_gain() -> None:
    """A family of symbols, adjusted together, takes p above zero only."""
    target = returns(4_000)
    frame = frame_of(target * 0.999, forecaster(target, 0, 2) * 10, target)
    gates = [{"id": "dm", "test": "diebold_mariano", "versus": "champion", "alpha": 0.05}]
    verdict = in_family(frame, Family(fdr=0.1, symbols=2), with_gates(*gates), attempt=300)
    assert all(
        test_result.p > 0
        for test_result in compare(frame, required_tests(with_gates(*gates), 300)).test_results
        if not test_result.why
    )
    Family.read({"fdr": 0.1, "symbols": 2, "p": {"XYZ": verdict.p_attempt}})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"gates": [{"id": "g", "metric": "rsme", "max": 1}]},
            r"promotion\.gates\.0\.metric: unknown metric \(did you mean 'rmse'\?\)",
        ),
        ({"gates": [{"id": "g", "metric": "mape", "max": 1}]}, "mape is refused: a percentage of a return means nothing"),
        ({"gates": [{"id": "g", "metric": "r2", "min": 0.3, "max": 0.2}]}, "min 0.3 is above max 0.2: nothing can pass"),
        ({"gates": [{"id": "g", "metric": "r2"}]}, "gate g: no bound"),
        ({"gates": [{"id": "g"}]}, "metric or test is required"),
        ({"gates": [{"id": "g", "metric": "rmse", "max_regression": 0.1}]}, "a bound on a change needs versus"),
        ({"gates": [{"id": "g", "metric": "rmse", "max": 0.1, "versus": "champion"}]}, "they take no versus"),
        (
            {"gates": [{"id": "g", "metric": "rmse", "max_regression": 0.1, "min_improvement": 0.1, "versus": "champion"}]},
            "use one of them",
        ),
        ({"gates": [{"id": "g", "metric": "rmse", "max_regression": -0.1, "versus": "champion"}]}, "greater than or equal to 0"),
        (
            {"gates": [{"id": "g", "metric": "hit_rate", "max_regression": 0.1, "versus": "zero_return"}]},
            "the zero forecast has no hit_rate",
        ),
        ({"gates": [{"id": "g", "metric": "rmse", "max": 1, "alpha": 0.05}]}, "alpha belong to a test"),
        ({"gates": [{"id": "g", "metric": "r2", "max": 1, "slice": "volatility_tercile"}]}, "requires metric: rmse"),
        (
            {"gates": [{"id": "g", "test": "t_test", "versus": "champion", "alpha": 0.05}]},
            r"gates\.0\.test: Input should be 'stationary",
        ),
        ({"gates": [{"id": "g", "test": "diebold_mariano", "versus": "champion"}]}, "a test needs alpha"),
        ({"gates": [{"id": "g", "test": "diebold_mariano", "alpha": 0.05}]}, "a test needs versus"),
        ({"gates": [{"id": "g", "test": "diebold_mariano", "versus": "champion", "alpha": 5}]}, r"gates\.0\.alpha"),
        (
            {"gates": [{"id": "g", "test": "diebold_mariano", "versus": "champion", "alpha": 0.05, "max": 1}]},
            "a test takes no max",
        ),
        (
            {"gates": [{"id": "g", "metric": "rmse", "max": 1, "maxx": 1}]},
            r"gates\.0\.maxx: unknown key; the nearest known one is 'max'",
        ),
        ({"gates": [{"id": "days", "metric": "rmse", "max": 1}]}, "belongs to a built-in gate"),
        ({"gates": [{"id": "size", "metric": "rmse", "max": 1}]}, "the id 'size' belongs to a built-in gate; choose another"),
        ({"gates": [{"id": "broken", "metric": "rmse", "max": 1}]}, "the id 'broken' belongs to a built-in gate"),
        (
            {"gates": [{"id": "g", "metric": "rmse", "max": 1}, {"id": "g", "metric": "mae", "max": 1}]},
            "the id 'g' is there twice",
        ),
        (
            {"gates": [{"id": "a", "metric": "r2", "max": 0.1}, {"id": "b", "metric": "r2", "min": 0.2}]},
            "gates b and a contradict",
        ),
        ({"gates": [{"id": "g", "metric": "rmse", "max": 1}]}, "policy superiority: one gate must test the challenger"),
        (
            {"gates": [{"id": "g", "metric": "latency", "versus": "champion", "max_regression": 0.1}]},
            "would be decided by noise",
        ),
        ({"gates": []}, "policy superiority: one gate must test the challenger"),
        ({"policy": "non_inferiority"}, "gate superior requires a better one"),
        (
            {"policy": "non_inferiority", "gates": [{"id": "g", "metric": "rmse", "max": 1}]},
            "how much worse the challenger may be",
        ),
        ({"policy": "best"}, "promotion.policy"),
        ({"attempts": "forget"}, "promotion.attempts"),
        ({"refresh": "never"}, "promotion.refresh"),
        ({"evaluation": {"min_days": 0}}, r"promotion\.evaluation\.min_days"),
        ({"evaluation": {"min_days": 119}}, r"at least 120 days are required: .*reject 10 % of equal forecasts\), found 119"),
        ({"evaluation": {"min_day": 9}}, "the nearest known one is 'min_days'"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_when_it_is_read(project: Project, rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        project.registry(promotion=rules)


def test_a_key_that_a_policy_does_not_use_is_not_part_of_it() -> None:
    """Otherwise a new kind of gate would make every comparison so far another attempt."""

    class Newer(PromotionParams):
        invented_since: float | None = None

    assert policy_digest(Newer()) == policy_digest(PromotionParams())
    assert policy_digest(Newer(invented_since=1.0)) != policy_digest(PromotionParams())


def test_the_policy_of_an_earlier_release_has_the_digest_that_it_had() -> None:
    """Its comparisons would be new attempts otherwise."""
    release = PromotionParams.model_validate({"evaluation": {"min_days": 250}})
    assert policy_digest(release) == "046fcc4397857e23bc71ef62c2ced0baea9d28ac4f6dd91987b534ea5cb44084"
    assert policy_digest(release) != policy_digest(PromotionParams.model_validate({**release.model_dump(), "refresh": "contest"}))


RECIPE, OTHER = "ab" * 32, "cd" * 32


def refresh_of(forecast: pd.Series, target: pd.Series, *, ours: str = "2010-06-30", **fields: Any) -> EvaluationFrame:
    """Version 2, a refit of the recipe of the champion, version 1, on the rolling-origin days of that recipe."""
    facts: dict[int, object] = {2: {"seen": {"last_day": ours}}, 1: {"seen": {"last_day": "2010-03-31"}}}
    known: dict[str, Any] = {"refreshes": 1, "recipes": {1: RECIPE, 2: RECIPE}, "size": 0.1, "sizes": (0.08, 0.12), **fields}
    return replace(frame_of(forecast, None, target, facts=facts), **known)


def contest_of(ours: pd.Series, theirs: pd.Series, target: pd.Series, recipe: str = OTHER) -> EvaluationFrame:
    return replace(frame_of(ours, theirs, target), recipes={1: RECIPE, 2: recipe})


def test_a_refresh_is_promoted_without_a_test_and_spends_nothing() -> None:
    """Even one without skill: what it replaces has the same recipe, and has none either."""
    target = returns(600)
    earlier = [Attempt(key=OTHER, policy="p", number=1, day="2010-01-04", time="2010-01-05")]
    comparison, verdict = decide(refresh_of(forecaster(target, 0, 1), target), QUICK, earlier=earlier)
    assert (verdict.outcome, verdict.kind, verdict.attempt, verdict.skill, verdict.mark) == ("promote", "refresh", 0, None, "")
    assert verdict.headline == (
        "Version 2 is a refresh of the champion, version 1 (same recipe abababab), and passes every gate that decides: "
        "it has seen days up to 2010-06-30, the champion up to 2010-03-31"
    )
    assert set(results(verdict)) == {"forecasts", "fresher", "broken", "size", "suspicious"}
    assert "No test decides. On all 600 rolling-origin days of its recipe, its RMSE is" in verdict.note
    assert "that of forecasting zero (p = " in verdict.note
    assert NO_SKILL not in verdict.reason
    assert verdict.spending == "A refresh is no attempt: nothing is spent. The next attempt would be tested at p < 0.00833."
    assert html.escape(verdict.spending) in verdict._repr_html_()
    assert math.isnan(verdict.level)
    assert {a.spec.versus for a in comparison.test_results} == {"zero_return", "mean_training_return"}


BROKEN: dict[str, tuple[Callable[[pd.Series], EvaluationFrame], str, str]] = {
    "a recipe that broke": (
        lambda t: refresh_of(forecaster(t, 0.2, 1) + (t.index >= t.index[-126]) * forecaster(t, 0, 2) * 8, t),
        "broken",
        "its recipe is broken: its RMSE is",
    ),
    "an older refit": (lambda t: refresh_of(forecaster(t, 0.2, 1), t, ours="2010-03-31"), "fresher", "it is not fresher"),
    "one value": (lambda t: refresh_of(t * 0 + 0.001, t), "forecasts", "it forecasts the same value"),
    "the answers": (lambda t: refresh_of(t, t), "suspicious", "its R² against zero is +1.0000"),
    "doubtful prices": (
        lambda t: refresh_of(forecaster(t, 0.2, 1), t, doubts={"a split": (f"{t.index[5]:%Y-%m-%d}",)}),
        "doubts",
        "1 doubtful day",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_refresh_that_may_be_broken_is_refused(case: str) -> None:
    make, gate, message = BROKEN[case]
    _, verdict = decide(make(returns(600)), QUICK)
    assert (verdict.outcome, results(verdict)[gate]) == ("keep", "fail")
    assert verdict.headline.endswith("(same recipe abababab), and is refused")
    assert message in verdict.reason


@pytest.mark.usefixtures("thorough")
def test_one_broken_fit_is_no_broken_recipe() -> None:
    """The refit after it has to replace it, although its errors are among those of the recipe for a year."""
    target, noise = returns(600), returns(600, 9) * 4
    ages = np.arange(600)[::-1]  # in days, at the end
    for wrong, result in (
        (ages < 63, "pass"),
        ((ages >= 63) & (ages < 126), "pass"),
        (ages < 126, "fail"),
        (ages >= 189, "pass"),
    ):
        verdict = decide(refresh_of(forecaster(target, 0.2, 1) + noise * wrong, target), QUICK)[1]
        assert (results(verdict)["broken"], verdict.outcome) == (result, "promote" if result == "pass" else "keep")
    for scale, result in ((1.03, "pass"), (1.07, "fail")):
        assert results(decide(refresh_of(target * (1 - scale) + 1e-9 * noise, target), QUICK)[1])["broken"] == result


def test_forecasts_of_another_size_warn_and_unknown_days_leave_a_refresh_open() -> None:
    target = returns(600)
    forecast = forecaster(target, 0.2, 1)
    for size, result in ((0.04, "pass"), (0.24, "pass"), (0.039, "warn"), (0.241, "warn"), (math.nan, "not evaluated")):
        verdict = decide(refresh_of(forecast, target, size=size), QUICK)[1]
        assert (verdict.outcome, results(verdict)["size"]) == ("promote", result)
    assert results(decide(refresh_of(forecast, target, sizes=()), QUICK)[1])["size"] == "not evaluated"
    unknown = replace(refresh_of(forecast, target), facts={})
    assert decide(unknown, QUICK)[1].outcome == "inconclusive"
    few = refresh_of(forecast.iloc[:29], target.iloc[:29])
    assert "broken was not evaluated: 29 rolling-origin days" in decide(few, QUICK)[1].reason


def test_a_policy_can_make_every_refresh_a_contest() -> None:
    target = returns(600)
    rules = QUICK.model_copy(update={"refresh": "contest"})
    with pytest.raises(NotComparableError, match=r"would be a refresh, and promotion\.refresh is contest"):
        decide(refresh_of(forecaster(target, 0.2, 1), target), rules)
    _, verdict = decide(contest_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target, RECIPE), rules)
    assert (verdict.outcome, verdict.attempt) == ("promote", 1)
    assert "is a contest (a refit of the champion's recipe, and refresh is contest) and passes" in verdict.headline


@pytest.mark.usefixtures("thorough")
def test_the_same_recipe_within_63_new_days_is_the_same_attempt() -> None:
    target = returns(700)
    ours, theirs = forecaster(target, 0.1, 1), forecaster(target, 0.1, 2)
    attempts: list[Attempt] = []

    def attempt(days: int, recipe: str, rules: PromotionParams = QUICK) -> Verdict:
        frame = contest_of(ours.iloc[:days], theirs.iloc[:days], target.iloc[:days], recipe)
        verdict = decide(frame, rules, earlier=attempts)[1]
        if not verdict.attempt_frame:
            day = f"{target.index[days - 1]:%Y-%m-%d}"
            attempts.append(
                Attempt(key=recipe, policy=policy_digest(rules), number=verdict.attempt, day=day, time=day, frame=frame.digest)
            )
        return verdict

    first = attempt(500, OTHER)
    assert (first.attempt, first.level, first.next_level) == (1, 0.025, pytest.approx(0.05 / 6))
    assert [attempt(days, OTHER).attempt for days in (500, 521, 562)] == [1, 1, 1]
    again = attempt(562, OTHER)
    assert (again.attempt_frame, again.level, again.next_level) == (attempts[0].frame, 0.025, pytest.approx(0.05 / 6))
    assert attempt(563, OTHER).attempt == 2
    assert attempt(563, "ef" * 32).attempt == 3
    assert attempt(600, OTHER).attempt == 2
    strict = QUICK.model_copy(update={"attempts": "ignore"})
    other = attempt(600, OTHER, strict)  # by another policy it is another attempt
    assert (other.attempt, other.level, other.next_level) == (4, 0.05, 0.05)
    yearly = QUICK.model_copy(update={"attempts": "yearly"})
    frame = contest_of(ours, theirs, target)
    assert decide(frame, yearly, earlier=attempts, today=date(2012, 8, 1))[1].attempt == 5
    assert decide(frame, yearly, earlier=attempts, today=date(2013, 2, 1))[1].attempt == 4
    assert decide(frame, yearly, earlier=attempts, today=date(2015, 8, 1))[1].attempt == 1


def test_a_verdict_says_which_attempt_it_was_and_what_is_left() -> None:
    target = returns(600)
    earlier = [Attempt(key=f"{n}", policy="p", number=n, day="2010-01-04", time="2010-01-05") for n in (1, 2)]
    comparison, verdict = decide(contest_of(forecaster(target, 0, 1), forecaster(target, 0, 2), target), QUICK, earlier=earlier)
    assert verdict.headline.startswith("Version 2 is a contest (another recipe than the champion's)")
    result = comparison.test_result("stationary_bootstrap", "champion")
    assert result is not None
    assert (verdict.attempt, verdict.level, verdict.detectable) == (3, 0.05 / 12, result.detectable)
    said = f"Attempt 3 for this symbol, tested at p < 0.00417: a gain of {100 * result.detectable:.3g} % over the champion is"
    assert f"{said} detected with 80 % power. The next attempt would be tested at p < 0.0025." == verdict.spending
    assert html.escape(verdict.spending) in verdict._repr_html_()
    unknown = decide(contest_of(forecaster(target, 0, 1), forecaster(target, 0, 2), target, ""), QUICK)[1]
    assert "is a contest (its recipe is not known)" in unknown.headline


def test_without_a_known_recipe_attempts_are_counted_by_frames() -> None:
    target = returns(600)
    frame = contest_of(forecaster(target, 0, 1), forecaster(target, 0, 2), target, "")
    made = Attempt(
        key=frame.digest, policy=policy_digest(QUICK), number=1, day="2010-01-04", time="2010-01-05", frame=frame.digest
    )
    repeated = decide(frame, QUICK, earlier=[made])[1]
    assert (repeated.attempt, repeated.attempt_frame) == (1, frame.digest)
    assert decide(frame, QUICK, earlier=[made], key="ef" * 32)[1].attempt == 2  # as if it were another comparison
    assert decide(replace(frame, days=frame.days + 1e-9), QUICK, earlier=[made], key=frame.digest)[1].attempt == 1


def test_a_first_champion_is_no_attempt() -> None:
    target = returns(600)
    comparison, verdict = decide(frame_of(forecaster(target, 0.3, 1), None, target), QUICK)
    assert (verdict.outcome, verdict.kind, verdict.attempt) == ("promote", "first", 0)
    assert verdict.spending.startswith("A first champion is no attempt: nothing is spent.")
    assert {a.spec.alpha for a in comparison.test_results} == {0.05}


def test_days_from_before_a_recipe_was_registered_are_shown_apart() -> None:
    target = returns(600)
    frame = replace(contest_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target), since=f"{target.index[400]:%F}")
    comparison, verdict = decide(frame, QUICK)
    gain = comparison.gain_since[1]
    assert verdict.outcome == "promote"
    assert f"400 of 600 days lie before {frame.since}, the first day after its recipe was registered" in verdict.note
    assert f"which nobody can check; since then, 200 days: gain {100 * gain:+.3g} %" in verdict.reason


def test_the_same_comparison_gives_the_same_verdict() -> None:
    target = returns(500)
    frame = frame_of(forecaster(target, 0.2, 1), forecaster(target, 0.1, 2), target)
    assert verdict_on(frame) == verdict_on(frame)


# How often the policy errs. `make stress` repeats these with hundreds of forecasters.


def is_promoted(frame: EvaluationFrame, policy: PromotionParams, attempt: int = 1) -> bool:
    asked = [q for q in required_tests(policy, attempt) if q.versus == "champion" and q.test == "stationary_bootstrap"]
    return judge(compare(frame, asked), policy, attempt=attempt).outcome == "promote"


def promoted_share(times: int, frame: Callable[[int], EvaluationFrame], policy: PromotionParams) -> float:
    return float(np.mean([is_promoted(frame(seed), policy) for seed in range(times)]))


def most(times: int, share: float = 0.05) -> float:
    """What a share of at most 5 % shows in so many trials, but once in a thousand times."""
    return share + 3.1 * math.sqrt(share * (1 - share) / times)


@pytest.mark.usefixtures("thorough")
def test_equal_forecasters_are_rarely_promoted(rounds: int) -> None:
    def frame(seed: int) -> EvaluationFrame:
        target = returns(260, seed)
        return frame_of(forecaster(target, 0.1, seed), forecaster(target, 0.1, seed + 10**6), target)

    times = 50 * rounds
    assert promoted_share(times, frame, with_gates(attempts="ignore")) <= most(times)


@pytest.mark.usefixtures("thorough")
def test_twenty_equal_challengers_are_rarely_promoted(rounds: int) -> None:
    def frame(seed: int) -> EvaluationFrame:
        target = returns(260, seed)
        crowd = [forecaster(target, 0.1, seed * 100 + place) for place in range(21)]
        errors = [float(((target - one) ** 2).mean()) for one in crowd[1:]]
        order = sorted(range(1, 21), key=lambda place: errors[place - 1])  # the best of them is judged
        return frame_of(crowd[order[0]], crowd[0], target, *(crowd[place] for place in order[1:]))

    times = 8 * rounds
    assert promoted_share(times, frame, with_gates(attempts="ignore")) <= most(times)


@pytest.mark.usefixtures("thorough")
def test_twenty_five_looks_at_an_equal_forecaster_rarely_promote_it(rounds: int) -> None:
    """The days grow; each look is a new attempt, and one success would do."""
    policy, times, promoted = with_gates(), 2 * rounds, 0
    for seed in range(times):
        target = returns(860, seed)
        ours, theirs = forecaster(target, 0.1, seed), forecaster(target, 0.1, seed + 10**6)
        promoted += any(
            is_promoted(frame_of(ours.iloc[:n], theirs.iloc[:n], target.iloc[:n]), policy, attempt=k)
            for k, n in enumerate(range(260, 860, 24), 1)
        )
    assert promoted / times <= most(times)


def test_at_levels_of_late_attempts_equal_forecasters_are_promoted_no_more_often_than_those_say(rounds: int) -> None:
    """p from the tail, on as few days as a policy may ask for; `make stress` draws tens of thousands."""
    times, p = 250 * rounds, []
    for seed in range(times):
        target = returns(120, seed)
        p.append(tail(target, forecaster(target, 0.1, seed + 10**6), forecaster(target, 0.1, seed)))
    for level in (0.01, 0.001, 0.0001):
        assert np.mean(np.array(p) < level) <= most(times, level)
    for seed in range(10 * rounds):
        target = returns(260, seed)
        frame = frame_of(forecaster(target, 0.1, seed), forecaster(target, 0.1, seed + 10**6), target)
        assert not is_promoted(frame, with_gates(), attempt=224)


@pytest.mark.usefixtures("thorough")
def test_a_real_gain_is_found_about_as_often_as_by_diebold_and_mariano(rounds: int) -> None:
    found, dm, times = 0, 0, 40 * rounds
    for seed in range(times):
        target = returns(500, seed)
        ours, theirs = forecaster(target, 0.2, seed), forecaster(target, 0, seed + 10**6)
        found += is_promoted(frame_of(ours, theirs, target), with_gates(attempts="ignore"))
        test = diebold_mariano_test(target, theirs, ours, harvey_adj=True)
        dm += test.statistic > 0 and test.pvalue / 2 < 0.05
    assert dm > 0.5 * times
    assert abs(found - dm) <= max(3, 0.06 * times)


def test_baselines_are_no_versions() -> None:
    target = returns(300)
    assert list(compare(frame_of(target * 0.1, None, target), []).to_frame().columns) == [
        "version 2 (challenger)",
        f"{ZERO} (baseline)",
        f"{MEAN} (baseline)",
    ]


@pytest.mark.usefixtures("thorough")
def test_every_test_is_adjusted_for_the_number_of_challengers() -> None:
    """The best of many by RMSE has a small p by Diebold and Mariano too."""
    target = returns(400)
    crowd = [forecaster(target, 0.2, seed) for seed in range(5)]
    comparison = compare(frame_of(crowd[0], forecaster(target, 0, 9), target, *crowd[1:]))
    for test, versus in (("diebold_mariano", "champion"), ("diebold_mariano", "zero_return"), ("pesaran_timmermann", None)):
        test_result = comparison.test_result(test, versus)
        assert test_result is not None
        assert (test_result.challengers, test_result.p) == (5, min(1, 5 * test_result.p_alone))
    alone = compare(frame_of(crowd[0], forecaster(target, 0, 9), target)).test_result("stationary_bootstrap", "champion")
    family = comparison.test_result("stationary_bootstrap", "champion")
    assert alone is not None
    assert family is not None
    assert family.detectable > alone.detectable


def test_forecasts_that_differ_by_nothing_are_no_forecasts() -> None:
    target = returns(400)
    nothing = 1e-12 * pd.Series(np.random.default_rng(0).standard_normal(400), target.index)
    policy = with_gates()
    constant = verdict_on(frame_of(nothing + 0.001, None, target), policy)
    assert "it forecasts the same value, 0.1000%, on every day" in constant.reason
    champion = forecaster(target, 0.1, 1)
    copied = verdict_on(frame_of(champion + nothing * champion, champion, target), policy)
    assert "its forecasts equal those of the champion, version 1" in copied.reason


def test_errors_beyond_all_measure_are_not_tested() -> None:
    target = returns(300)
    verdict = verdict_on(frame_of(forecaster(target, 0.1, 1), forecaster(target, 0, 2) * 1e80, target), with_gates())
    assert "superior was not evaluated: the errors are too large to be compared" in verdict.reason


def in_family(frame: EvaluationFrame, family: Family, policy: PromotionParams = QUICK, attempt: int = 1) -> Verdict:
    comparison = compare(frame, required_tests(policy, attempt, family), cost=policy.evaluation.cost)
    return judge(comparison, policy, attempt=attempt, family=family)


def test_a_symbol_of_a_family_waits_for_the_others_and_is_then_held_against_their_rate() -> None:
    target = returns(600)
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    looking = in_family(frame, Family(fdr=0.1, symbols=40))
    assert looking.outcome == "inconclusive"
    assert "superior was not evaluated: the other symbols are compared first (p = 0.00" in looking.reason
    assert looking.p_entered == looking.p_attempt == 2 * looking.p
    nothing = {f"N{n}": 1.0 for n in range(39)}
    p = looking.p_attempt
    for others in ({}, nothing, dict.fromkeys(nothing, p)):
        verdict = in_family(frame, Family(fdr=0.1, symbols=40, p={**others, "XYZ": p}))
        assert verdict.p_family == pytest.approx(p * (40 if others is nothing else 1))
        assert verdict.outcome == ("promote" if verdict.p_family <= 0.1 else "keep")
        assert f"adjustment for attempts and {len(others) + 1} symbols" in verdict.to_frame().loc["superior", "required"]
    weak = in_family(frame, Family(fdr=0.01, symbols=40, p={**nothing, "XYZ": p}))
    assert weak.outcome == "keep"
    assert "and at most 0.01 after adjustment for attempts and 40 symbols" in weak.reason


def test_a_challenger_that_is_refused_by_itself_lowers_the_bar_for_nobody() -> None:
    """It enters as 1, however small its p is; else every symbol that is dropped later would make room for another."""
    target = returns(600)
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    family = Family(fdr=0.1, symbols=40)
    strict = with_gates({"id": "naive", "metric": "hit_rate", "min": 0.99})
    refused = in_family(frame, family, strict)
    assert refused.outcome == "keep"
    assert refused.p_attempt < 0.01
    assert refused.p_entered == 1
    assert "entered as 1 because the policy refuses this challenger by itself" in refused.adjustments
    some = frame_of(forecaster(target, 0.2, 1), forecaster(target, 0, 2), target)
    late = in_family(
        some, Family(fdr=0.5, symbols=1), attempt=6
    )  # the policy's alpha stays in force, whatever the family's rate is
    assert late.p_attempt < 0.5
    assert (late.outcome, late.p_entered) == ("keep", 1)
    assert in_family(some, Family(fdr=0.5, symbols=1, p={"XYZ": 1e-9}), attempt=6).outcome == "keep"


def test_resamples_are_as_many_as_the_family_needs_where_it_matters() -> None:
    target = returns(600)
    frame = frame_of(forecaster(target, 0.35, 1), forecaster(target, 0, 2), target)
    few, many = (
        compare(frame, required_tests(QUICK, 1, Family(fdr=0.1, symbols=symbols))).test_result("stationary_bootstrap", "champion")
        for symbols in (2, 500)
    )
    assert few is not None
    assert many is not None
    assert (few.resamples, many.resamples) == (1_000, 5 * 500 * 2 / 0.1)
    assert 1 / (many.resamples + 1) * 2 < 0.1 / 500  # the best of 500 can be told apart
    hopeless = frame_of(forecaster(target, 0, 1), forecaster(target, 0.3, 2), target)
    test_result = compare(hopeless, required_tests(QUICK, 1, Family(fdr=0.1, symbols=500))).test_result(
        "stationary_bootstrap", "champion"
    )
    assert test_result is not None
    assert test_result.resamples == 1_000


def test_a_first_champion_is_outside_of_the_family_and_says_so() -> None:
    target = returns(600)
    verdict = in_family(frame_of(forecaster(target, 0.3, 1), None, target), Family(fdr=0.1, symbols=3))
    assert verdict.outcome == "promote"
    assert "no test decides here, so the family's rate of false promotions does not cover it" in verdict.reason
    assert math.isnan(verdict.p_attempt)


@given(st.dictionaries(st.text("ABC", min_size=1, max_size=4), st.floats(1e-9, 1), min_size=1, max_size=30))
def test_adjusted_p_keep_the_order_and_are_never_smaller(p: dict[str, float]) -> None:
    adjusted = Family(fdr=0.1, symbols=len(p), p=p).adjusted
    assert all(p[symbol] <= value * (1 + 1e-9) <= 1 + 1e-9 for symbol, value in adjusted.items())
    by_p, by_adjusted = (sorted(values, key=lambda symbol: (values[symbol], p[symbol])) for values in (p, adjusted))
    assert [p[symbol] for symbol in by_p] == [p[symbol] for symbol in by_adjusted]
    assert max(adjusted, key=adjusted.__getitem__) in {s for s, value in adjusted.items() if value == max(adjusted.values())}
    assert min(adjusted.values()) <= len(p) * min(p.values())


@pytest.mark.parametrize(
    "told",
    [
        {"fdr": 0.1},
        {"fdr": 0.1, "symbols": 1, "p": {"A": 0.1, "B": 0.2}},
        {"fdr": 0.1, "symbols": 2, "p": {"A": 0}},
        {"fdr": 0.1, "symbols": 2, "p": {"A": math.nan}},
        {"fdr": 0, "symbols": 2},
        {"fdr": 0.1, "symbols": 2, "alpha": 1},
        {"fdr": "x", "symbols": 2},
    ],
)
def test_a_family_that_cannot_be_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="family: "):
        Family.read(told)


@pytest.mark.usefixtures("thorough")
def test_of_the_promotions_of_many_symbols_at_most_the_stated_share_is_false(rounds: int) -> None:
    """Families of 30 symbols of which 10 have a real gain; `make stress` draws many."""
    policy = with_gates({"id": "naive", "metric": "rmse", "versus": "zero_return", "max_regression": 10.0})
    shares, found = [], 0
    for number in range(max(1, rounds // 2)):
        comparisons = {}
        for symbol in range(30):
            seed = 1_000 * number + symbol
            target = returns(400, seed)
            frame = frame_of(forecaster(target, 0.35 if symbol < 10 else 0, seed + 1), forecaster(target, 0, seed + 2), target)
            frame = replace(frame, symbol=f"S{symbol}")
            comparisons[frame.symbol] = compare(frame, required_tests(policy, 1, Family(fdr=0.2, symbols=30)))
        looked = {symbol: judge(c, policy, family=Family(fdr=0.2, symbols=30)) for symbol, c in comparisons.items()}
        family = Family(fdr=0.2, symbols=30, p={symbol: verdict.p_entered for symbol, verdict in looked.items()})
        promoted = {int(symbol[1:]) for symbol, c in comparisons.items() if judge(c, policy, family=family).outcome == "promote"}
        found += len([symbol for symbol in promoted if symbol < 10])
        shares.append(len([symbol for symbol in promoted if symbol >= 10]) / max(1, len(promoted)))
    allowed = 0.2 + 3 * 0.2 / len(shares) ** 0.5  # what chance may add to the mean of so few
    assert sum(shares) / len(shares) <= allowed
    assert found >= 0.6 * 10 * len(shares)
