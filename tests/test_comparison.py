"""Measures and tests on days whose truth is known, and against arch and statsmodels called directly."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import MCS, SPA, StationaryBootstrap, StepM, optimal_block_length
from forecasters import forecaster, frame_of, returns
from statsmodels.stats.diagnostic import pesaran_timmermann
from statsmodels.tsa.stattools import diebold_mariano_test

from fxhelpers import metrics
from fxhelpers.comparison import MEAN, SEED, TARGET, ZERO, EvaluationFrame, TestSpec, compare, population_stability
from fxhelpers.comparison._tests import bootstrap_test
from fxhelpers.errors import NotComparableError
from fxhelpers.measures import MEASURES

SUPERIOR = TestSpec(test="stationary_bootstrap", versus="champion", resamples=2_000)


def test_measures_are_what_they_say() -> None:
    target = returns(400)
    comparison = compare(frame_of(target * 0.5, target * 0, target))
    ours = comparison.measures.loc["version 2"]
    assert ours["rmse_to_zero"] == pytest.approx(0.5)
    assert ours["r2"] == pytest.approx(0.75)
    assert ours["hit_rate"] == ours["hit_rate_up"] == ours["hit_rate_down"] == 1.0
    assert ours["information_coefficient"] == pytest.approx(1.0)
    assert ours["mincer_zarnowitz_slope"] == pytest.approx(2.0)
    saved = comparison.loss_difference(ZERO)["saved"]
    assert saved.iloc[-1] == pytest.approx(0.75 * float((target**2).sum()))
    assert saved.is_monotonic_increasing
    ratio, hits = comparison.rolling(60)
    assert len(ratio) == len(hits) == 341
    assert np.allclose(ratio["version 2"], 0.5)
    assert np.allclose(hits["version 2"], 1.0)
    assert np.isnan(comparison.measures.loc[ZERO, "hit_rate"])


def test_every_measure_is_computed_and_says_which_direction_is_better() -> None:
    target = returns(300)
    comparison = compare(frame_of(target * 0.1, target * 0.2, target))
    measured = {name for name, known in MEASURES.items() if not known.of_files}
    assert set(comparison.measures.columns) == measured
    better, worse = comparison.measures.loc["version 1"], comparison.measures.loc["version 2"]
    for name in ("rmse", "mae", "r2", "rmse_to_zero", "rmse_to_mean"):
        assert (better[name] < worse[name]) == (MEASURES[name].better == "lower"), name


def test_the_sign_strategy_pays_for_what_it_trades() -> None:
    target = pd.Series([0.01, -0.02, 0.03, -0.04], pd.bdate_range("2020-01-01", periods=4))
    always_right = metrics.sign_strategy(target, target, cost=0.001)
    assert list(always_right["traded"]) == [1, 2, 2, 2]
    assert list(always_right["net"]) == pytest.approx([0.009, 0.018, 0.028, 0.038])
    held = metrics.sign_strategy(target, target * 0 + 1)
    assert list(held["net"]) == list(target)
    capital = (1 + target).cumprod()
    assert metrics.drawdown(held["net"]).max() == pytest.approx(1 - capital.iloc[3] / capital.iloc[2])
    assert metrics.drawdown(pd.Series([-0.5, 0.1])).iloc[0] == pytest.approx(0.5)  # of what there was before the first day
    flat = metrics.sign_strategy(target, target * 0)
    assert (flat["net"] == 0).all()
    assert math.isnan(metrics.sharpe(flat["net"]))


def test_one_challenger_is_tested_as_arch_and_statsmodels_do() -> None:
    target = returns(600)
    ours, theirs = forecaster(target, 0.15, 3), forecaster(target, 0, 4)
    comparison = compare(frame_of(ours, theirs, target))
    difference = (target - theirs) ** 2 - (target - ours) ** 2
    block = max(5, math.ceil(optimal_block_length(difference)["stationary"].iloc[0]))
    means = StationaryBootstrap(block, difference.to_numpy(), seed=SEED).apply(np.mean, 10_000)[:, 0]
    test_result = comparison.test_result("stationary_bootstrap", "champion")
    assert test_result is not None
    assert test_result.p == (1 + np.sum(means - difference.mean() >= difference.mean())) / 10_001
    assert test_result.block == block
    error = ((target - theirs) ** 2).mean()
    assert test_result.detectable == pytest.approx(0.5 * 2.4865 * means.std(ddof=1) / error, rel=1e-4)
    low, high = np.quantile(means, [0.025, 0.975])
    assert test_result.low == pytest.approx(1 - math.sqrt(1 - low / error))
    assert test_result.high == pytest.approx(1 - math.sqrt(1 - high / error))
    assert test_result.gain == pytest.approx(
        1 - comparison.measures["rmse"]["version 2"] / comparison.measures["rmse"]["version 1"]
    )
    direct = diebold_mariano_test(target, theirs, ours, harvey_adj=True)
    dm = comparison.test_result("diebold_mariano", "champion")
    assert dm is not None
    assert (dm.statistic, dm.p) == (direct.statistic, direct.pvalue / 2)
    signs = comparison.test_result("pesaran_timmermann")
    assert signs is not None
    assert signs.p == pesaran_timmermann(target, ours, "larger").pvalue


@pytest.mark.parametrize("skills", [(0.0,) * 6, (0.3, 0.0, 0.3, 0.0, 0.2, 0.0), (0.4,) * 5 + (0.0,)])
def test_several_challengers_are_tested_as_arch_does(skills: tuple[float, ...]) -> None:
    target = returns(500, seed=5)
    champion, challengers = forecaster(target, 0, 99), [forecaster(target, s, i) for i, s in enumerate(skills)]
    frame = frame_of(challengers[0], champion, target, *challengers[1:])
    comparison = compare(frame, [SUPERIOR])
    losses = (frame.days[frame.challengers].rsub(target, axis=0)) ** 2
    rivals = (target - champion) ** 2
    first = comparison.test_results[0]
    spa = SPA(rivals, losses, block_size=first.block, reps=2_000, seed=SEED)
    spa.compute()
    assert min(a.p for a in comparison.test_results) == pytest.approx((1 + spa.pvalues["consistent"] * 2_000) / 2_001)
    steps = StepM(rivals, losses, size=0.05, block_size=first.block, reps=2_000, seed=SEED)
    steps.compute()
    assert {a.forecast for a in comparison.test_results if a.p < 0.05} == set(steps.superior_models)
    assert all(a.challengers == 6 and a.p >= a.p_alone for a in comparison.test_results)
    every = frame.days[[*frame.challengers, "version 1"]].rsub(target, axis=0) ** 2
    block = max(
        5, math.ceil(optimal_block_length(every.drop(columns="version 2").rsub(every["version 2"], axis=0)).stationary.max())
    )
    mcs = MCS(every, size=0.05, block_size=block, reps=2_000, seed=SEED)
    mcs.compute()
    assert set(comparison.best) == set(mcs.included)


def test_all_challengers_superior_in_steps_is_no_error() -> None:
    """arch's StepM takes the largest of nothing there."""
    target = returns(500, seed=5)
    frame = frame_of(forecaster(target, 0.45, 1), forecaster(target, 0, 9), target, target * 0.001, forecaster(target, 0.3, 2))
    assert all(test_result.p < 0.2 for test_result in compare(frame, [SUPERIOR]).test_results)


@pytest.mark.usefixtures("thorough")
def test_the_same_days_give_the_same_answers() -> None:
    target = returns(300)
    frame = frame_of(forecaster(target, 0.1, 1), forecaster(target, 0, 2), target, forecaster(target, 0, 3))
    assert compare(frame).to_json() == compare(frame).to_json()
    json.dumps(compare(frame).to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("challenger", "days", "why"),
    [
        (lambda t: forecaster(t, 0, 1), 400, "the two make the same errors on every day"),
        (lambda t: t * 0.1, 29, "29 days, a test needs at least 30"),
        (lambda t: t * 0.1, 1, "1 days, a test needs at least 30"),
    ],
)
def test_what_cannot_be_tested_says_why(challenger: object, days: int, why: str) -> None:
    """arch's SPA finds identical forecasts significant: p = 0."""
    target = returns(days)
    champion = forecaster(target, 0, 1)
    comparison = compare(frame_of(challenger(target), champion, target))  # type: ignore[operator]
    for test in ("stationary_bootstrap", "diebold_mariano"):
        test_result = comparison.test_result(test, "champion")
        assert test_result is not None
        assert (test_result.why, math.isnan(test_result.p)) == (why, True)
    assert comparison.tests_frame()["p"].iloc[0] == f"not made: {why}"


def test_identical_challengers_in_a_family_are_not_tested_and_the_others_are() -> None:
    target = returns(400)
    champion = forecaster(target, 0, 1)
    comparison = compare(frame_of(champion, champion, target, forecaster(target, 0.4, 2)), [SUPERIOR])
    same, better = comparison.test_results
    assert same.why == "the two make the same errors on every day"
    assert better.p < 0.05
    assert comparison.best == ["version 3"]  # the two identical ones are out together
    assert compare(frame_of(champion, champion, target, champion), [SUPERIOR]).best == []


def test_a_sign_that_never_changes_is_not_tested() -> None:
    target = returns(300)
    test_result = compare(frame_of(target * 0 + 0.001, None, target)).test_result("pesaran_timmermann")
    assert test_result is not None
    assert test_result.why == "the forecast has the same sign on every day"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_forecast_that_is_not_finite_is_refused_by_name(value: float) -> None:
    target = returns(100)
    broken = target.copy()
    broken.iloc[3] = value
    with pytest.raises(NotComparableError, match="version 2 of XYZ: y_pred: not finite on 1 of 100 days"):
        compare(frame_of(broken, None, target))


def test_so_few_resamples_are_drawn_as_the_level_needs() -> None:
    """At a level that earlier attempts have left almost nothing of, more are needed; but not where they cannot help."""
    target = returns(500)
    champion = forecaster(target, 0, 1)
    level = TestSpec(test="stationary_bootstrap", versus="champion", alpha=0.0001, resamples=1_000)
    (good,) = bootstrap_test(target, champion, forecaster(target, 0.5, 2).to_frame("a"), level)
    assert good.resamples == 50_000
    assert good.p < 0.0001
    (bad,) = bootstrap_test(target, champion, forecaster(target, 0, 2).to_frame("a"), level)
    assert bad.resamples == 1_000
    assert level.stages(1) == [1_000, 10_000, 50_000]  # as many as leave it open, no more
    assert level.stages(20) == [1_000, 10_000, 50_000]
    assert level.stages(21) == replace(level, alpha=4e-6).stages(1) == [1_000]  # a million could not show it: the tail does


def test_p_at_a_level_that_resamples_cannot_show_is_that_of_diebold_and_mariano() -> None:
    target = returns(500)
    champion = forecaster(target, 0, 1)
    crowd = pd.DataFrame({"a": forecaster(target, 0.5, 2), "b": forecaster(target, 0, 3)})
    spec = TestSpec(test="stationary_bootstrap", versus="champion", alpha=1e-6, margin=0.01)
    scaled = target - 1.01 * (target - champion)
    expected = max(diebold_mariano_test(target, scaled, crowd["a"], lags=lags, harvey_adj=True).pvalue / 2 for lags in (0, 8))
    good, bad = bootstrap_test(target, champion, crowd, spec)
    assert (good.tail, good.p_alone, good.p) == (True, expected, 2 * expected)
    assert (bad.tail, bad.resamples) == (False, 10_000)
    assert bad.p > 0.01


def test_a_margin_asks_whether_a_forecast_is_not_worse_by_more() -> None:
    target = returns(800)
    champion = forecaster(target, 0.1, 1)
    as_good = champion + 0.0002 * np.random.default_rng(0).standard_normal(800)
    comparison = compare(
        frame_of(as_good, champion, target),
        [SUPERIOR, TestSpec(test="stationary_bootstrap", versus="champion", margin=0.01)],
    )
    better, not_worse = comparison.test_results
    assert better.p > 0.05
    assert not_worse.p < 0.01
    assert not_worse.gain == pytest.approx(better.gain)


def test_regimes_are_thirds_of_the_days_by_what_was_known() -> None:
    target = returns(620)
    target.iloc[300:500] *= 4
    comparison = compare(frame_of(target * 0.1, target * 0, target))
    table = comparison.regimes
    assert list(table.index) == ["calm", "middle", "wild"]
    assert table["days"].sum() == 600
    assert table.loc["wild", ZERO] > 2 * table.loc["calm", ZERO]
    few = target.iloc[:70]
    assert compare(frame_of(few * 0.1, None, few)).regimes.empty


def test_drift_is_rare_without_drift_and_found_where_there_is_some() -> None:
    rng = np.random.default_rng(0)
    names = [f"f{i}" for i in range(200)]

    def slow(days: int) -> pd.DataFrame:
        shocks = rng.standard_normal((days + 200, 200))
        values = np.zeros_like(shocks)
        for day in range(1, len(shocks)):
            values[day] = 0.6 * values[day - 1] + shocks[day]
        return pd.DataFrame(values[200:], columns=names)

    same = population_stability(slow(1500), slow(500))
    assert (same["psi"] > same["threshold"]).mean() < 0.12
    moved = population_stability(slow(1500), slow(500) + 1)
    assert (moved["psi"] > moved["threshold"]).all()
    assert population_stability(slow(0), slow(10)).empty


def test_a_frame_comes_back_from_its_csv_to_the_last_digit_and_roles_are_in_its_digest() -> None:
    target = returns(50)
    frame = frame_of(target * 0.1, target * 0.2, target, target * 0.3)
    words = {"symbol": "XYZ", "challenger": 2, "champion": 1}
    assert EvaluationFrame.from_csv(frame.to_csv(), others=(3,), **words).digest == frame.digest  # type: ignore[arg-type]
    assert EvaluationFrame.from_csv(frame.to_csv(), **words).digest != frame.digest  # type: ignore[arg-type]


def test_the_digest_of_a_frame_without_new_fields_is_what_it_was() -> None:
    target = pd.Series([0.01, -0.02, 0.005], pd.bdate_range("2020-01-01", periods=3))
    frame = frame_of(target * 0.1, None, target)
    assert frame.digest == "a7d7e791bc973fa5a57fc29347ac5e14794855fe0853ab89e6d13b75c0013957"
    assert replace(frame, recipes={2: "ab"}, since="2020-01-02", size=0.1, sizes=(0.1,)).digest == frame.digest
    assert replace(frame, refreshes=1).digest != frame.digest  # a refresh is another comparison than a first champion


def test_what_is_known_of_recipes_comes_back_from_the_comparison_in_json() -> None:
    target = returns(100)
    frame = frame_of(target * 0.1, None, target)
    assert (frame.kind, frame.origin()) == ("first", {})
    assert not set(replace(frame, since="2020-01-01").origin()) - {*compare(replace(frame, since="2020-01-01"), []).to_json()}
    assert not {"recipes", "since", "size", "sizes", "refreshes", "recent_rmse_to_zero"} & set(compare(frame, []).to_json())
    known = replace(frame, refreshes=1, recipes={1: "ab", 2: "ab"}, since="2010-03-01", size=0.1, sizes=(0.2, 0.3))
    stored = json.loads(json.dumps(compare(known, []).to_json(), allow_nan=False))
    assert stored["recent_rmse_to_zero"] == pytest.approx([0.9])
    again = frame.with_origin(stored)
    assert (again.kind, again.origin(), again.digest) == ("refresh", known.origin(), known.digest)
    assert math.isnan(frame.with_origin({}).size)
    assert frame_of(target * 0.1, target, target).kind == "contest"


def test_errors_before_and_since_a_recipe_was_registered() -> None:
    target = returns(300)
    ours = target * 0.1
    ours.iloc[200:] = target.iloc[200:] * 0.2
    frame = frame_of(ours, target * 0.05, target)
    assert compare(frame, []).since_frame().empty
    assert compare(frame, []).gain_since[0] == 0
    comparison = compare(replace(frame, since=f"{target.index[200]:%Y-%m-%d}"), [])
    table = comparison.since_frame()
    assert list(table["days"]) == ["200", "100"]
    assert list(table["gain"]) == [f"{1 - 0.9 / 0.95:+.3%}", f"{1 - 0.8 / 0.95:+.3%}"]
    assert table["version 2"].iloc[1] == f"{0.8 * (target.iloc[200:] ** 2).mean() ** 0.5:.3%}"
    assert comparison.gain_since == (100, pytest.approx(1 - 0.8 / 0.95))
    future = compare(replace(frame, since="2099-01-01"), []).since_frame()
    assert list(future.iloc[1]) == ["0", "-", "-", "-"]


def test_recent_errors_are_those_of_the_last_three_quarters() -> None:
    target = returns(300)
    ours = target * 0.5
    ours.iloc[-63:] = -0.1 * target.iloc[-63:]
    ours.iloc[-189:-126] = -0.2 * target.iloc[-189:-126]
    assert compare(frame_of(ours, None, target), []).recent == pytest.approx([1.1, 0.5, 1.2])
    last = slice(300 - 125, None)
    assert compare(frame_of(ours.iloc[last], None, target.iloc[last]), []).recent == pytest.approx([1.1])
    assert compare(frame_of(ours.iloc[-5:], None, target.iloc[-5:]), []).recent == pytest.approx([1.1])
    assert all(map(math.isnan, compare(frame_of(ours, None, target * 0), []).recent))


def test_the_figures_can_be_drawn_of_anything() -> None:
    import matplotlib.pyplot as plt

    from fxhelpers import plots

    target = returns(130)
    seen = {
        "windows": {"training": {"first_day": "2005-01-03", "last_day": "2009-06-30"}},
        "seen": {"last_day": "2009-06-30", "basis": ""},
    }
    facts: dict[int, object] = dict.fromkeys((1, 2, 3), seen)
    one_day = target.iloc[:1]
    for frame in (
        frame_of(forecaster(target, 0.2, 1), forecaster(target, 0, 2), target, forecaster(target, 0, 3), facts=facts),
        frame_of(target * 0, None, target, facts={2: seen}),
        frame_of(one_day * 0.1, one_day * 0.2, one_day, facts={1: seen, 2: seen}),
    ):
        comparison = compare(frame)
        for draw in (plots.loss_difference, plots.rolling, plots.gains, plots.calibration, plots.errors, plots.strategies):
            draw(comparison)  # type: ignore[operator]
        plots.windows(comparison)
        plots.drift(comparison)
        for table in (comparison.to_frame(), comparison.tests_frame(), comparison.regimes_frame(), comparison.days_frame()):
            table.to_html()
        plt.close("all")


def test_all_forecasts_are_compared_on_one_frame() -> None:
    target = returns(60)
    comparison = compare(frame_of(target * 0.1, target * 0.2, target))
    assert list(comparison.measures.index) == [ZERO, MEAN, "version 2", "version 1"]
    assert comparison.frame.days.columns[0] == TARGET
