"""A backtest sees no later day, serves what a training would have given, and decides and counts as registry and ledger do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NAME, ROOT, Project
from forecasters import forecaster, frame_of, returns
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhelpers import load_params, load_prices, plots, read_prices, run_backtest, train_model, write_bundle
from fxhelpers.backtest import Backtest
from fxhelpers.backtest._policies import policies_of
from fxhelpers.backtest._refits import make_refits, recipes_of
from fxhelpers.errors import ParamsError, TooFewDaysError
from fxhelpers.params import Params, PromotionParams, TrainingParams
from fxhelpers.policy import decide
from fxhelpers.prices import keep_prices
from fxhelpers.prices._finding import PriceFinding
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.runs import run_notebook
from fxhelpers.training import supervised

TRAINING = {
    "rolling": {"first_day": 500, "every_days": 250},
    "model": "loose",
    "models": {
        "loose": {"estimator": "Ridge", "alpha": 10.0},
        "ridge": {"estimator": "Ridge", "alpha": 3000.0},
        "split": {"estimator": "Ridge", "refit": False},
        "ridge_too": {"estimator": "Ridge", "alpha": 3000.0},
    },
}
SUPERIOR = {"id": "superior", "test": "stationary_bootstrap", "versus": "champion", "alpha": 0.05, "resamples": 1_000}
PROMOTION = {"evaluation": {"min_days": 250}, "gates": [SUPERIOR]}
PARAMS = load_params(ROOT / "params.yaml").model_copy(
    update={"training": TrainingParams.model_validate(TRAINING), "promotion": PromotionParams.model_validate(PROMOTION)}
)
PRICES = load_prices("AAPL", PARAMS.prices)
BOTH = ("loose", "ridge")


def run(prices: pd.DataFrame = PRICES, params: Params = PARAMS, **words: Any) -> Backtest:
    return run_backtest("AAPL", prices, params, **{"models": BOTH, "years": 2, "every": 63, **words})


WHOLE = run()


@pytest.mark.usefixtures("thorough")
@settings(max_examples=3)
@given(before=st.integers(2, 500), seed=st.integers(0, 99))
def test_nothing_served_or_decided_sees_a_later_day(before: int, seed: int) -> None:
    """Scramble all prices after a day: what was served and decided until then is the same to the last bit."""
    today = PRICES.index[-before]
    later = PRICES.index > today
    scrambled = PRICES.copy()
    scrambled.loc[later, ["Open", "High", "Low", "Close"]] *= np.random.default_rng(seed).uniform(0.5, 2, (int(later.sum()), 1))
    found = run(scrambled, start=f"{WHOLE.served.index[0]:%Y-%m-%d}")
    served = WHOLE.served.drop(columns="target")
    pd.testing.assert_frame_equal(found.served[served.columns].loc[:today], served.loc[:today], check_exact=True)
    assert not found.served[served.columns].equals(served) or before == 2
    until = [table[table["day"] <= today] for table in (found.decisions, WHOLE.decisions)]
    pd.testing.assert_frame_equal(*until, check_exact=True)


def test_what_serves_is_a_training_by_hand_on_the_retraining_day() -> None:
    """The fit, its size, and the rolling-origin forecasts that are its evidence; a shorter last block may change last bits."""
    features, target = supervised(keep_prices(PRICES).frame)
    recipes = recipes_of(PARAMS.training, list(BOTH))
    retrainings = list(target.index.get_indexer(pd.DatetimeIndex(WHOLE.retrainings)))
    offered = make_refits("AAPL", recipes, features, target, retrainings)
    assert [one.version for refits in offered for one in refits] == list(range(1, 2 * len(retrainings) + 1))
    for number in (0, len(retrainings) // 2):
        day, end = WHOLE.retrainings[number], WHOLE.retrainings[number + 1]
        for refit in offered[number]:
            trained = train_model("AAPL", PRICES.loc[:day], PARAMS.training, model=refit.model)
            assert trained.rolling is not None
            pd.testing.assert_series_equal(
                refit.rolling.forecasts, trained.rolling.forecasts, rtol=1e-9, atol=1e-15, check_freq=False
            )
            assert refit.rolling.origins == trained.rolling.origins
            assert (refit.recipe, refit.fit.size) == (recipes[refit.model].digest, trained.metadata["size"])
            assert refit.evidence(target, refit.known).facts()["windows"] == trained.metadata["windows"] | {
                "training": {k: v for k, v in trained.metadata["windows"]["training"].items() if k != "days"}
            }
            if refit.model == "loose":
                days = WHOLE.served.loc[day:end].index[:-1]
                by_hand = trained.model.predict(trained.scaler.transform(features.loc[days]))
                np.testing.assert_allclose(WHOLE.served.loc[days, "newest"], by_hand, rtol=1e-9, atol=1e-15)
                assert len(days) == 63


def test_what_needs_no_policy() -> None:
    """Newest is always the latest refit of the first model, half is half of it, and never is the first one."""
    features, target = supervised(keep_prices(PRICES).frame)
    retrainings = list(target.index.get_indexer(pd.DatetimeIndex(WHOLE.retrainings)))
    offered = make_refits("AAPL", recipes_of(PARAMS.training, list(BOTH)), features, target, retrainings)
    served, ends = WHOLE.served, [*retrainings[1:], len(target)]
    for (first, second), begin, end in zip(offered, retrainings, ends, strict=True):
        days = target.index[begin:end]
        np.testing.assert_array_equal(served.loc[days, "newest"], first.forecasts[begin:end])
        np.testing.assert_array_equal(served.loc[days, "never"], offered[0][0].forecasts[begin:end])
        np.testing.assert_array_equal(served.loc[days, "newest ridge"], second.forecasts[begin:end])
    np.testing.assert_array_equal(served["half"], served["newest"] / 2)
    assert served.index.equals(target.index[retrainings[0] :])
    assert len(retrainings) == len(WHOLE.retrainings) == 8
    periods = WHOLE.periods[WHOLE.periods["policy"] == "newest"]
    assert list(periods["version"]) == list(range(1, 17, 2))
    assert (periods["trained_to"] < periods["since"]).all()


def test_without_a_policy_nothing_is_decided() -> None:
    found = run(models=["ridge"], policies=["newest", "never"])
    assert found.decisions.empty
    assert [len(table()) for table in (found.outcomes_frame, found.decisions_frame, found.to_frame)] == [0, 0, 2]
    assert "promotions" not in found.answer["answer"]
    assert found.outcome["attempts"] == 0


@pytest.mark.usefixtures("thorough")
def test_decisions_and_attempts_are_those_of_a_registry_and_its_ledger(project: Project) -> None:
    """Train, register and promote by hand on each retraining day."""
    project.settings["training"] = {**TRAINING}
    project.settings["promotion"] = {**PROMOTION}
    backtest = run(policies=["policy"], every=42, start="2012-08-01")
    assert len(backtest.retrainings) == 4
    decided = backtest.decisions.to_dict("records")
    for number, day in enumerate(backtest.retrainings):
        registry = project.registry(prices={"end": day})
        prices = read_prices("AAPL", registry.params.prices)
        for place, model in enumerate(BOTH):
            trained = train_model("AAPL", prices, registry.params.training, model=model)
            bundle = write_bundle(trained.model, trained.scaler, trained.metadata, registry.params.paths)
            version = registry.register_model(bundle).version
            proposal = registry.propose("AAPL", version, apply=True)
            registry.promote(proposal)
            row, verdict = decided[len(BOTH) * number + place], proposal.verdict
            assert (row["version"], row["model"], f"{row['day']:%Y-%m-%d}") == (version, model, day)
            assert (row["kind"], row["verdict"], row["attempt"]) == (verdict.kind, verdict.outcome, verdict.attempt)
            assert row["level"] == verdict.level or verdict.kind != "contest"
            assert row["reason"] == "; ".join(verdict.because) or verdict.outcome == "promote"
    attempts = read_ledger(registry.client, NAME).attempts
    assert [attempt.number for attempt in attempts] == sorted(backtest.decisions["attempt"].unique())[1:]
    assert backtest.summary["attempts"]["policy"] == len(attempts) >= 3
    assert [row["kind"] for row in decided[:4]] == ["first", "contest", "contest", "refresh"]
    assert decided[1]["verdict"] == "promote"
    champion = registry.get_production_model(NAME)
    assert champion is not None
    assert champion.version == backtest.periods["version"].iloc[-1]


def test_the_summary_is_what_the_days_say() -> None:
    target = WHOLE.served["target"]
    for policy, row in WHOLE.summary.iterrows():
        error = ((target - WHOLE.served[str(policy)]) ** 2).mean()
        assert row["gain"] == pytest.approx(1 - error / (target**2).mean(), abs=1e-12)
        assert row["low"] < row["gain"] < row["high"]
        assert WHOLE.loss_saved(str(policy))["saved"].iloc[-1] == pytest.approx(row["gain"], abs=1e-12)
        if policy != "policy":
            first = ((target - WHOLE.served["policy"]) ** 2).mean()
            assert row["more"] == pytest.approx((first - error) / (target**2).mean(), abs=1e-12)
    counts = WHOLE.summary.loc["policy", ["promotions", "refusals", "refreshes", "attempts", "days"]]
    assert counts["promotions"] + counts["refusals"] == len(WHOLE.decisions) == 16
    assert counts["days"] == len(target)
    assert WHOLE.outcomes_frame()["decisions"].sum() == 16
    assert WHOLE.answer["result"] in {"better than zero", "worse than zero", "inconclusive"}
    assert f"policy {100 * WHOLE.summary['gain']['policy']:+.2f} (" in WHOLE.answer["answer"]


def test_without_a_champion_nothing_serves_and_the_forecast_counts_as_zero() -> None:
    gates = [{"id": "naive", "metric": "rmse", "versus": "zero_return", "max_regression": 0.0}]
    found = run(models=["loose"], gates=gates, policies=["tried", "newest"])
    assert (found.served["tried"] == 0).all()
    assert found.summary["days"].tolist() == [0, len(found.served)]
    assert found.summary["gain"]["tried"] == 0
    assert set(found.decisions["against"]) == {"naive"}
    assert set(found.periods["policy"]) == {"newest"}
    assert found.answer["result"] == "inconclusive"
    assert [len(ax.figure.axes) for ax in (draw(found) for draw in (plots.backtest_losses, plots.backtest_periods))] == [1, 1]


def test_doubtful_prices_count_from_their_day_on() -> None:
    prices = read_prices("AAPL", PARAMS.prices)
    day = pd.Timestamp(WHOLE.retrainings[4])
    doubt = PriceFinding(check="jump", severity="doubtful", message="1 gap is implausible", days=(day,))
    doubtful = replace(prices, findings=(doubt,))
    found = run_backtest("AAPL", doubtful, PARAMS, models=["ridge"], policies=["policy"], years=2, every=63)
    refused = found.decisions["against"] == "doubts"
    assert found.decisions["day"][refused].tolist() == [pd.Timestamp(text) for text in WHOLE.retrainings[4:]]
    accepted = run_backtest(
        "AAPL", doubtful, PARAMS, models=["ridge"], policies=["policy"], years=2, every=63, accept_doubts=True
    )
    assert (accepted.decisions["verdict"] == "promote").all()


def test_the_policies_to_try() -> None:
    files = {"id": "small", "metric": "artifact_bytes", "versus": "champion", "max_regression": 0.5}
    written = PromotionParams.model_validate({"gates": [*(gate.model_dump() for gate in PromotionParams().gates), files]})
    rules, notes = policies_of(written, ["policy", "tried", "non_inferiority", "never"], [{**SUPERIOR, "alpha": 0.1}])
    gates = {name: [gate.id for gate in one.gates] for name, one in rules.items() if one is not None}
    assert gates["policy"] == ["naive", "mean", "superior", "gain", "suspicious"]
    assert gates["non_inferiority"] == ["naive", "mean", "suspicious", "not_worse"]
    assert rules["tried"] is not None
    assert next(gate.alpha for gate in rules["tried"].gates if gate.id == "superior") == 0.1
    assert rules["never"] is None
    assert notes == ["Gates on files are left out, as nothing is stored: small."]


@pytest.mark.parametrize("kind", ["contest", "first"])
@pytest.mark.parametrize("skill", [0.0, 0.35])
def test_tests_that_decide_nothing_change_no_outcome(kind: str, skill: float) -> None:
    target = returns(600)
    frame = frame_of(forecaster(target, skill, 1), forecaster(target, 0, 2) if kind == "contest" else None, target)
    outcomes = {decide(frame, PromotionParams(), informative=informative)[1].outcome for informative in (True, False)}
    assert len(outcomes) == 1


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (
            {"years": 11},
            TooFewDaysError,
            "11 years before 2013-02-28 is too early: .* known from 2003-12-10 on. Pass -p start 2003-12-10",
        ),
        ({"start": "2002-01-02"}, TooFewDaysError, "start 2002-01-02 is too early"),
        ({"start": "2013-06-03"}, ParamsError, "start: 2013-06-03 is after 2013-02-28"),
        (
            {"prices": PRICES.iloc[:900]},
            TooFewDaysError,
            "a backtest needs more than 750: 500 before the first .* 250 to compare",
        ),
        ({"models": ["rigde"]}, ParamsError, "'rigde' is not defined .did you mean 'ridge'."),
        ({"models": ["split"]}, ParamsError, "models: split has refit: false"),
        ({"models": ["ridge", "ridge_too"]}, ParamsError, "ridge and ridge_too are the same recipe"),
        ({"policies": ["newset"]}, ParamsError, "policies: 'newset' is unknown"),
        ({"policies": ["newest", "newest"]}, ParamsError, "policies: 'newest' is there twice"),
        ({"policies": ["tried"]}, ParamsError, "the policy tried is the written one with these gates"),
        ({"every": 0}, ParamsError, "every: must be 1 or more, found 0"),
    ],
)
def test_errors_say_what_to_do(words: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(**words)


@pytest.mark.usefixtures("thorough")
def test_the_notebook(project: Project) -> None:
    """On real prices, with the policy as shipped; nothing but its record is written."""
    project.write(training={"refit": True, "rolling": {"first_day": 500, "every_days": 250}})
    before = {path for path in project.folder.rglob("*") if "records" not in path.parts}
    parameters = {"models": ["ridge"], "years": 1, "every": 63}
    result = run_notebook(ROOT / "notebooks" / "backtest.ipynb", parameters, preloaded=True)
    assert {path for path in project.folder.rglob("*") if "records" not in path.parts} == before
    found = result.summary
    assert found is not None
    assert (found["notebook"], found["retrainings"], found["models"]) == ("backtest", 4, ["ridge"])
    assert list(found["saved"]) == ["policy", "newest", "half", "never"]
    assert found["promotions"] + found["refusals"] == 4
    assert (found["first_day"], found["last_day"]) == ("2012-02-28", "2013-02-28")
    page = result.record.with_suffix(".html").read_text()
    assert found["answer"] in page
    assert page.count("<img") == 3
