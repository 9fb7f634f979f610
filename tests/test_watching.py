"""Evidence against what serves: never negative, never from the future, and rarely large without a reason."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import BADS, NULLS, Bad, Null, alarmed, delay, fixed_test_rejects, size_delay, size_warned

from fxhelpers.params import WatchParams
from fxhelpers.watching import (
    LEAST_DAYS,
    LEAST_EARLIER,
    Thresholds,
    Watched,
    allowed_sizes,
    e_bh,
    excess_losses,
    scales,
    size_warning,
    watch,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
USUAL = st.floats(-1e-2, 1e-2)


def series(values: list[float]) -> pd.Series:
    return pd.Series(values, pd.bdate_range("2024-01-01", periods=len(values)), dtype=float)


def random_days(seed: int, days: int = 150, earlier: int = 90) -> tuple[pd.Series, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = 1e-4 * (rng.standard_t(3, days + earlier) + 0.3 * (seed % 3))
    return series(values[earlier:].tolist()), values[:earlier]


def by_the_book(excess: list[float], earlier: list[float]) -> tuple[list[float], list[float], list[float]]:
    """Bets, e-process and e-detector by their definitions: sums over all days, and a product for every day to begin on."""
    bets, wealth, sums = [], [], []
    for day, value in enumerate(excess):
        known = [*earlier, *excess[:day]]
        weights = [0.5 ** ((len(known) - 1 - place) / 60) for place in range(len(known))]
        square = sum(w * u * u for w, u in zip(weights, known, strict=True)) / sum(weights) if len(known) >= 20 else 0.0
        bets.append(max(-1.0, min(1.0, value / (4 * math.sqrt(square)))) if square > 0 else 0.0)
        begun = {
            start: sum(math.prod(1 + fraction * w for w in bets[start:]) for fraction in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)) / 6
            for start in range(day + 1)
        }
        wealth.append(begun[0])
        sums.append(sum(begun.values()))
    return bets, wealth, sums


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("earlier", [0, 7, 90])
def test_the_evidence_is_what_its_definition_says(seed: int, earlier: int) -> None:
    excess, before = random_days(seed, days=60, earlier=earlier)
    days = watch(excess, before).days
    bets, wealth, sums = by_the_book(excess.tolist(), before.tolist())
    for name, expected in (("excess", excess), ("bet", bets), ("e_process", wealth), ("e_detector", sums)):
        np.testing.assert_allclose(days[name], expected, rtol=1e-9, err_msg=name)
    assert days.index.equals(excess.index)
    if earlier >= LEAST_EARLIER:
        assert len(set(bets)) > 50


def test_the_size_of_bets_is_the_weighted_mean_of_pandas() -> None:
    excess, before = random_days(1)
    squares = pd.Series([*before, *excess]) ** 2
    expected = np.sqrt(squares.ewm(halflife=60).mean().shift(1).iloc[len(before) :])
    np.testing.assert_allclose(scales(excess.tolist(), before.tolist()), expected, rtol=1e-12)


@given(st.lists(FINITE, max_size=60), st.lists(FINITE, max_size=60))
def test_wealth_is_a_number_from_zero_on_whatever_happens(excess: list[float], earlier: list[float]) -> None:
    found = watch(series(excess), np.array(earlier))
    evidence = found.days[["e_process", "e_detector"]].to_numpy()
    assert (np.isfinite(evidence) & (evidence >= 0)).all()
    assert found.days["bet"].between(-1, 1).all()
    assert (found.days["bet"].iloc[: max(0, LEAST_EARLIER - len(earlier))] == 0).all()
    assert 0 < len(found.reason) <= 300
    assert 0 <= found.e_value < math.inf


@pytest.mark.parametrize("bet", [1.0, -1.0])
def test_years_of_extreme_days_stay_numbers(bet: float) -> None:
    found = watch(pd.Series(bet * 1e300, pd.bdate_range("2000-01-03", periods=5_000)), np.full(500, 1e-300))
    assert np.isfinite(found.days.to_numpy()).all()
    assert (found.days["e_process"] >= 0).all()
    assert found.word == ("alarm" if bet > 0 else "healthy")
    assert len(found.reason) <= 300


@given(st.data(), st.lists(USUAL, min_size=2, max_size=60), st.lists(USUAL, max_size=40))
def test_bets_never_see_their_own_day_or_later_ones(data: st.DataObject, excess: list[float], earlier: list[float]) -> None:
    day = data.draw(st.integers(0, len(excess) - 1))
    changed = [*excess[:day], data.draw(FINITE), *data.draw(st.lists(FINITE, min_size=0, max_size=5))]
    first, second = (watch(series(values), np.array(earlier)).days.iloc[:day] for values in (excess, changed))
    pd.testing.assert_frame_equal(first, second, check_exact=True, check_freq=False)
    sizes = [scales(values, earlier)[: day + 1] for values in (excess, changed)]
    np.testing.assert_array_equal(*sizes)


@given(st.lists(USUAL, max_size=50), st.lists(USUAL, max_size=40))
def test_one_day_at_a_time_equals_all_at_once(excess: list[float], earlier: list[float]) -> None:
    whole = watch(series(excess), np.array(earlier)).days
    for days in range(len(excess) + 1):
        part = watch(series(excess[:days]), np.array(earlier)).days
        pd.testing.assert_frame_equal(part, whole.iloc[:days], check_exact=True, check_freq=False)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.5, 1.0]), max_size=12), st.lists(USUAL, min_size=20, max_size=40))
def test_fair_bets_gain_nothing_on_average(so_far: list[float], earlier: list[float]) -> None:
    """The mean of the evidence over two equally likely opposite days is what it was before, with one more day to begin on."""
    before = watch(series(so_far), np.array(earlier)).days
    last = before.iloc[-1] if len(before) else pd.Series({"e_process": 1.0, "e_detector": 0.0})
    for move in (1e-9, 1e-3, 1e9):
        after = [watch(series([*so_far, sign * move]), np.array(earlier)).days.iloc[-1] for sign in (1, -1)]
        assert np.mean([day["e_process"] for day in after]) == pytest.approx(last["e_process"], rel=1e-9)
        assert np.mean([day["e_detector"] for day in after]) == pytest.approx(last["e_detector"] + 1, rel=1e-9)


def test_thresholds_are_exact() -> None:
    assert Thresholds.of(0.05, 5) == (40.0, 50_400.0)
    usual = WatchParams()
    assert Thresholds.of(usual.alpha, usual.years) == (40.0, 50_400.0)
    assert Thresholds.of(0.01, 1) == (200.0, 50_400.0)
    for alpha, years in ((0, 5), (1, 5), (math.nan, 5), (0.05, 0), (0.05, math.inf), (0.05, math.nan)):
        with pytest.raises(ValueError, match="alpha between 0 and 1 and years above 0"):
            Thresholds.of(alpha, years)
    excess, before = random_days(0)
    with pytest.raises(ValueError, match="alpha between 0 and 1"):
        watch(excess, before, alpha=2)


def found(e_process: list[float], e_detector: list[float], **fields: object) -> Watched:
    days = pd.DataFrame({"excess": 0.0, "bet": 0.0, "e_process": e_process, "e_detector": e_detector})
    days.index = pd.bdate_range("2024-01-01", periods=len(days))
    return Watched(days=days, thresholds=Thresholds.of(0.05, 5), first_alarm=None, versus="forecasting zero", **fields)


@pytest.mark.parametrize(
    ("days", "e_process", "e_detector", "word"),
    [
        (0, 1.0, 0.0, "too early to tell"),
        (LEAST_DAYS - 1, 1.0, 60.0, "too early to tell"),
        (LEAST_DAYS, 1.0, 60.0, "healthy"),
        (LEAST_DAYS, 9.99, 12_599.0, "healthy"),
        (LEAST_DAYS, 10.0, 60.0, "in doubt"),
        (LEAST_DAYS, 1.0, 12_600.0, "in doubt"),
        (30, 39.9, 60.0, "in doubt"),
    ],
)
def test_one_word_for_the_evidence_of_the_last_day(days: int, e_process: float, e_detector: float, word: str) -> None:
    shown = found([1.0] * (days - 1) + [e_process] * (days > 0), [60.0] * (days - 1) + [e_detector] * (days > 0))
    assert shown.word == word
    assert 0 < len(shown.reason) <= 300


def test_an_alarm_stays_and_names_its_detector_and_day() -> None:
    bad, good = [4e-4] * 20, [-4e-4] * 300
    whole = watch(series(bad + good), np.full(100, 1e-4))
    assert whole.days["e_process"].iloc[-1] < 1
    assert whole.word == "alarm"
    assert whole.first_alarm == whole.days.index[whole.days["e_process"] >= 40][0]
    day, reached = len(whole.days.loc[: whole.first_alarm]), whole.days["e_process"].loc[whole.first_alarm]
    assert whole.e_value == whole.days["e_process"].iloc[-1]
    assert whole.reason == (
        f"Its errors are larger than those of forecasting zero: the e-process reached {reached:.0f} on "
        f"{whole.first_alarm:%Y-%m-%d}, live day {day} (threshold 40)."
    )
    later = watch(series(good + bad * 20), np.full(100, 1e-4), versus="its predecessor")
    assert later.days["e_process"].loc[later.first_alarm] < 1
    assert later.reason.startswith("Its errors are larger than those of its predecessor: the e-detector reached ")


def test_what_is_healthy_or_in_doubt_says_so_with_both_numbers() -> None:
    assert found([], []).reason == "No live day yet, at least 63 are required."
    assert found([2.0], [3.0]).reason == (
        "Only 1 live day, at least 63 are required: e-process 2 (threshold 40), e-detector 3 (50,400)."
    )
    assert found([0.025] * 100, [64.2] * 100).reason == (
        "No evidence in 100 live days that its errors are larger than those of forecasting zero: e-process 0.025 (threshold 40), "
        "e-detector 64 (50,400)."
    )
    assert found([12.0] * 70, [900.0] * 70).reason == (
        "Its errors may be larger than those of forecasting zero, after 70 live days: e-process 12 (threshold 40), "
        "e-detector 900 (50,400)."
    )


def test_without_earlier_days_bets_begin_on_the_21st() -> None:
    shown = watch(series([1e-4] * 30), np.array([]))
    assert (shown.days["bet"] != 0).tolist() == [False] * 20 + [True] * 10
    assert (watch(series([1e-4] * 30), np.full(LEAST_EARLIER, 1e-4)).days["bet"] != 0).all()


def test_if_all_earlier_losses_were_zero_there_is_no_bet_until_one_is_not() -> None:
    shown = watch(series([0.0, 0.0, 1e-4, 1e-4, -1e-4]), np.zeros(500))
    assert shown.days["bet"].iloc[:3].tolist() == [0, 0, 0]
    assert shown.days["bet"].iloc[3] == 1
    assert watch(series([0.0] * 100), np.zeros(500)).word == "healthy"


def test_excess_losses_are_differences_of_squared_errors() -> None:
    rng = np.random.default_rng(0)
    y, f, g = (series((0.01 * rng.standard_normal(50)).tolist()) for _ in range(3))
    np.testing.assert_allclose(excess_losses(y, f), (y - f) ** 2 - y**2, atol=1e-18)
    np.testing.assert_allclose(excess_losses(y, f, g), (y - f) ** 2 - (y - g) ** 2, atol=1e-18)
    assert (excess_losses(y, f, f) == 0).all()
    assert excess_losses(series([1.0]), series([1e-20])).item() == -2e-20  # the difference of squares would be zero


def test_what_is_no_evidence_is_refused() -> None:
    excess, before = random_days(0)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="excess losses must be finite; leave out days without a return"):
            watch(excess.replace(excess.iloc[5], wrong), before)
        with pytest.raises(ValueError, match="earlier excess losses must be finite"):
            watch(excess, np.array([wrong]))
        with pytest.raises(ValueError, match="returns and forecasts must be finite"):
            excess_losses(excess * 0 + wrong, excess)
    for days in (excess.iloc[::-1], pd.concat([excess.iloc[:1], excess])):
        with pytest.raises(ValueError, match="must ascend, each once"):
            watch(days, before)
    with pytest.raises(ValueError, match="on one index"):
        excess_losses(excess, excess.iloc[1:])


@given(st.dictionaries(st.text(max_size=4), st.floats(0, 1e6), max_size=12), st.floats(0.01, 0.5))
def test_e_bh_is_the_largest_set_whose_least_is_large_enough(e_values: dict[str, float], alpha: float) -> None:
    n, ordered = len(e_values), sorted(e_values.values(), reverse=True)
    enough = [k for k in range(1, n + 1) if ordered[k - 1] * k * alpha >= n * (1 + 1e-9)]
    perhaps = [k for k in range(1, n + 1) if ordered[k - 1] * k * alpha >= n * (1 - 1e-9)]
    rejected = e_bh(e_values, alpha)
    assert max(enough, default=0) <= len(rejected) <= max(perhaps, default=0)
    assert [e_values[symbol] for symbol in rejected] == ordered[: len(rejected)]


def test_e_bh_takes_any_evidence_and_refuses_what_is_none() -> None:
    assert e_bh({}, 0.05) == []
    assert e_bh({"A": 20.0}, 0.05) == ["A"]
    assert e_bh({"A": 19.9}, 0.05) == []
    assert e_bh({"A": 0.0, "B": math.inf, "C": 30.0}, 0.05) == ["B", "C"]
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"e-values from 0 on .* found A"):
            e_bh({"A": wrong}, 0.05)
    with pytest.raises(ValueError, match="found alpha 0"):
        e_bh({"A": 1.0}, 0)


def test_of_the_symbols_that_e_bh_lists_few_are_false_though_all_move_together() -> None:
    false = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        common = rng.standard_normal()
        e_values = {f"S{n}": math.exp(2 * common - 2) for n in range(40)}  # all wrong at once: log-normal, with mean 1
        e_values |= {f"T{n}": 1e3 for n in range(10)}
        rejected = e_bh(e_values, 0.1)
        assert len(rejected) >= 10
        false.append(sum(symbol[0] == "S" for symbol in rejected) / len(rejected))
    assert np.mean(false) <= 0.1
    assert max(false) > 0


def test_the_size_of_forecasts_is_judged_by_runs_of_as_many_days() -> None:
    rng = np.random.default_rng(0)
    rolling = pd.Series(0.001 * rng.standard_normal(504))
    usual = pd.Series(0.001 * rng.standard_normal(200))
    assert [day for day in range(201) if size_warning(usual.iloc[:day], rolling)] == []
    runs = [float(np.sqrt(np.mean(rolling.iloc[start : start + 63] ** 2))) for start in range(504 - 62)]
    low, high = allowed_sizes(runs)
    assert (low, high) == (min(runs) / 2, 2 * max(runs))
    for size, fine in ((low * 0.99, False), (low * 1.01, True), (high * 0.99, True), (high * 1.01, False)):
        warning = size_warning(pd.Series(np.r_[rng.standard_normal(40), np.full(63, size)]), rolling)
        assert bool(warning) is not fine
    assert warning == (
        f"Its last 63 live forecasts have a size (RMS) of {100 * size:.3g} %; the rolling-origin forecasts of its recipe allow "
        f"{100 * low:.3g} to {100 * high:.3g} %."
    )
    assert size_warning(pd.Series([0.01]), rolling).startswith("Its live forecast has a size (RMS) of 1 %;")
    assert "inf %" in size_warning(pd.Series([1e200]), rolling)
    assert size_warning(pd.Series([0.0] * 5), rolling) != ""
    assert size_warning(pd.Series([0.0]), pd.Series([0.0] * 63)) == ""
    assert size_warning(usual, rolling.iloc[:62]) == (
        "The size of its forecasts is not judged: 62 rolling-origin days, at least 63 are required."
    )
    for live, earlier in ((usual * math.nan, rolling), (usual, rolling * math.inf)):
        with pytest.raises(ValueError, match="forecasts must be finite"):
            size_warning(live, earlier)


def test_what_is_bad_from_the_start_is_seen_within_two_months() -> None:
    worst = next(bad for bad in BADS if bad.name.startswith("RMSE x 4"))
    assert max(delay(worst, seed) for seed in range(5)) <= 60
    assert max(size_delay(worst, seed) for seed in range(5)) <= 3


@pytest.fixture
def lives(rounds: int) -> int:
    """So many lives: shares and medians of fewer say nothing."""
    if rounds <= 2:
        pytest.skip("make stress: these are shares of many lives")
    return 10 * rounds


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("null", [null for null in NULLS if null.returns != "crashing"], ids=str)  # no bound holds there
def test_false_alarms_are_rare_in_five_years_of_daily_looks(null: Null, lives: int) -> None:
    assert np.mean([alarmed(null, seed) for seed in range(lives)]) <= 0.05
    assert np.mean([fixed_test_rejects(null, seed) for seed in range(lives)]) > 0.15  # or the evidence would be of little use


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize(("bad", "median"), list(zip(BADS[:-1], [23, 43, 75, 170, 79, 137], strict=True)), ids=str)
def test_what_turned_bad_is_seen_in_time(bad: Bad, median: float, lives: int) -> None:
    days = np.array([delay(bad, seed) for seed in range(lives)])
    assert np.isnan(days).mean() <= 0.05  # an alarm before
    assert median / 1.5 <= np.median(days[~np.isnan(days)]) <= 1.5 * median


@pytest.mark.usefixtures("thorough")
def test_a_small_skill_that_was_lost_is_not_seen_in_five_years(lives: int) -> None:
    assert np.mean([delay(BADS[-1], seed) < math.inf for seed in range(lives)]) <= 0.15


@pytest.mark.usefixtures("thorough")
def test_good_forecasts_rarely_have_an_implausible_size(lives: int) -> None:
    assert np.mean([size_warned(seed) for seed in range(lives // 5)]) <= 0.05
