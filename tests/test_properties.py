"""What has to hold for every input, found by Hypothesis on real prices."""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxhelpers import load_prices
from fxhelpers.features import LOOK_BACK_DAYS, SCHEMA_VERSION, build_features, next_day_return
from fxhelpers.params import PricesParams, TrainingParams
from fxhelpers.training import split_windows

PRICES = {symbol: load_prices(symbol, PricesParams()) for symbol in ("AAPL", "IBM", "GOOG")}
FEATURES = {symbol: build_features(prices) for symbol, prices in PRICES.items()}
WHOLE = LOOK_BACK_DAYS - 1  # first row with all features
PRICE_COLUMNS = ["Open", "High", "Low", "Close"]
NEUTRAL = {"rsi_14": 0.5, "rsi_21": 0.5, "bollinger_position": 0.5, "williams_r_14": -0.5}  # of what stands still; others are 0
CALENDAR = ["weekday_sin", "weekday_cos", "month_sin", "month_cos"]
some = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@some
@given(symbol=st.sampled_from(sorted(PRICES)), day=st.integers(230, 2000))
def test_no_feature_looks_ahead(symbol: str, day: int) -> None:
    """Cut the prices at day t: row t is what it was."""
    cut = build_features(PRICES[symbol].iloc[: day + 1]).iloc[-1]
    pd.testing.assert_series_equal(cut, FEATURES[symbol].iloc[day], rtol=1e-12)


@some
@given(symbol=st.sampled_from(sorted(PRICES)), scale=st.floats(1e-3, 1e4), shares=st.floats(1e-2, 1e3))
def test_no_feature_depends_on_scale(symbol: str, scale: float, shares: float) -> None:
    """Multiply the prices, or split the share: nothing changes."""
    prices = PRICES[symbol].copy()
    prices[PRICE_COLUMNS] *= scale
    prices["Volume"] *= shares
    pd.testing.assert_frame_equal(build_features(prices), FEATURES[symbol], rtol=1e-6, atol=1e-7)
    pd.testing.assert_series_equal(next_day_return(prices), next_day_return(PRICES[symbol]), rtol=1e-9, atol=1e-12)


@some
@given(ratio=st.sampled_from([2, 3, 7, 10]), day=st.integers(600, 2100))
def test_a_split_in_back_adjusted_prices_changes_no_feature_of_earlier_days(ratio: int, day: int) -> None:
    """After a split a vendor divides all earlier prices: an old model must still see the same features."""
    before = PRICES["GOOG"].iloc[:day]
    after = before.copy()
    after[PRICE_COLUMNS] /= ratio
    after["Volume"] *= ratio
    pd.testing.assert_frame_equal(build_features(after), build_features(before), rtol=1e-6, atol=1e-7)


@some
@given(symbol=st.sampled_from(sorted(PRICES)), dropped=st.integers(1, 1000))
def test_the_first_day_of_a_file_does_not_matter(symbol: str, dropped: int) -> None:
    """Drop the first days: after the warm-up, every feature is what it was."""
    later = build_features(PRICES[symbol].iloc[dropped:])
    pd.testing.assert_frame_equal(later.iloc[WHOLE:], FEATURES[symbol].iloc[dropped + WHOLE :], rtol=0, atol=1e-9)
    assert later.iloc[: WHOLE - 1].isna().any(axis=1).all()


@some
@given(symbol=st.sampled_from(sorted(PRICES)), day=st.integers(1, 1500), factor=st.floats(0.2, 5))
def test_a_day_matters_as_long_as_the_look_back(symbol: str, day: int, factor: float) -> None:
    prices = PRICES[symbol].copy()
    prices.iloc[day] *= factor
    changed = ~np.isclose(build_features(prices), FEATURES[symbol], rtol=0, atol=1e-12, equal_nan=True).all(axis=1)
    assert changed[day] or abs(factor - 1) < 1e-6
    assert not changed[:day].any()
    assert not changed[day + LOOK_BACK_DAYS :].any()


def test_the_look_back_is_no_longer_than_stated_and_no_shorter() -> None:
    prices = PRICES["AAPL"].copy()
    prices.iloc[1000, prices.columns.get_loc("Close")] *= 1.5
    changed = (build_features(prices) != FEATURES["AAPL"]) & FEATURES["AAPL"].notna()
    assert changed.any(axis=1).to_numpy().nonzero()[0].tolist() == list(range(1000, 1000 + LOOK_BACK_DAYS))
    assert changed["close_to_sma_5"].sum() == 5


@some
@given(symbol=st.sampled_from(sorted(PRICES)), first=st.integers(LOOK_BACK_DAYS, 1000), days=st.integers(60, 500))
def test_a_suspension_is_neutral_and_then_forgotten(symbol: str, first: int, days: int) -> None:
    """Prices stand still and no share is traded: no feature is extreme, undefined, or stuck after it."""
    prices = PRICES[symbol].copy()
    prices.iloc[first : first + days] = prices.iloc[first - 1]["Close"]
    prices.iloc[first : first + days, prices.columns.get_loc("Volume")] = 0.0
    features = build_features(prices)
    assert np.isfinite(features.iloc[WHOLE:]).all(axis=None)

    still = features.drop(columns=CALENDAR).iloc[first : first + days]
    neutral = pd.Series({name: NEUTRAL.get(name, 0.0) for name in still})
    assert (still.iloc[LOOK_BACK_DAYS:] == neutral).all(axis=None)
    for name, window in {"bollinger_position": 20, "williams_r_14": 14, "volatility_5": 5, "volume_to_sma_50": 50}.items():
        assert (still[name].iloc[window:] == neutral[name]).all(), name
    assert (still["volume_to_sma_50"].iloc[:49] == -1).all()

    over = first + days
    later = build_features(prices.iloc[over:])
    pd.testing.assert_frame_equal(features.iloc[over + WHOLE :], later.iloc[WHOLE:], rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(features.iloc[over + WHOLE :], FEATURES[symbol].iloc[over + WHOLE :], rtol=0, atol=1e-9)


@some
@given(symbol=st.sampled_from(sorted(PRICES)), day=st.integers(0, 1900), column=st.sampled_from([*PRICE_COLUMNS, "Volume", None]))
def test_a_missing_value_spoils_only_its_own_window(symbol: str, day: int, column: str | None) -> None:
    prices = PRICES[symbol].copy()
    prices.iloc[day, slice(None) if column is None else prices.columns.get_loc(column)] = np.nan
    features, whole = build_features(prices), FEATURES[symbol]
    spoiled = features.isna() & whole.notna()
    assert spoiled.any(axis=None)
    assert not spoiled.drop(features.index[day : day + LOOK_BACK_DAYS]).any(axis=None)
    pd.testing.assert_frame_equal(features, whole.mask(spoiled), rtol=0, atol=1e-9)
    if column in {"Close", None}:
        assert spoiled["close_to_sma_5"].to_numpy().nonzero()[0].tolist() == list(range(max(day, 4), day + 5))


def test_an_index_without_volume_has_finite_features() -> None:
    features = build_features(PRICES["IBM"].assign(Volume=0.0))
    assert np.isfinite(features.iloc[WHOLE:]).all(axis=None)
    volume = [name for name in features if name.startswith("volume_") or name == "close_to_vwap_20"]
    assert len(volume) == 4
    assert (features[volume].iloc[WHOLE:] == 0).all(axis=None)
    others = features.columns.difference(volume)
    pd.testing.assert_frame_equal(features[others], FEATURES["IBM"][others])


def test_a_week_has_seven_different_days() -> None:
    """Crypto trades on all of them, and other exchanges on Saturday or Sunday."""
    days = pd.date_range("2024-01-01", periods=14)
    week = build_features(PRICES["IBM"].iloc[:14].set_axis(days))[["weekday_sin", "weekday_cos"]].to_numpy()
    np.testing.assert_allclose(week[:7], week[7:], rtol=0, atol=1e-12)
    distances = [np.linalg.norm(one - other) for one, other in itertools.combinations(week[:7], 2)]
    assert min(distances) == pytest.approx(2 * np.sin(np.pi / 7))


def test_smoothings_are_what_their_authors_define() -> None:
    """Recursions over all days before, here by pandas, agree but for what the window cuts off."""
    prices, features = PRICES["IBM"].iloc[:2000], FEATURES["IBM"].iloc[1000:2000]
    close = prices["Close"]
    macd = close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean()
    gain, loss = (moved.clip(lower=0).ewm(alpha=1 / 14, adjust=False).mean() for moved in (close.diff(), -close.diff()))
    before = close.shift()
    ranges = pd.concat([prices["High"] - prices["Low"], (prices["High"] - before).abs(), (prices["Low"] - before).abs()], axis=1)
    expected = {
        "close_to_ema_12": close / close.ewm(span=12, adjust=False).mean() - 1,
        "close_to_ema_50": close / close.ewm(span=50, adjust=False).mean() - 1,
        "macd_signal": macd.ewm(span=9, adjust=False).mean() / close,
        "rsi_14": gain / (gain + loss),
        "atr_14": ranges.max(axis=1).ewm(alpha=1 / 14, adjust=False).mean() / close,
    }
    for name, values in expected.items():
        difference = (features[name] - values.loc[features.index]).abs().max() / features[name].std()
        assert difference < 2e-3, (name, difference)


def test_schema_1_computes_what_earlier_releases_computed() -> None:
    """Versions trained on it are still compared and served."""
    features = build_features(PRICES["AAPL"], schema=1)
    assert list(features) == list(FEATURES["AAPL"])
    stored = {
        "2000-12-15": {
            "close_to_ema_50": -0.35893549989921847,
            "rsi_14": 0.29387398802415066,
            "macd_signal": -0.13738963955110356,
            "atr_21": 0.10192527846801343,
            "volume_to_sma_50": -0.11459995500451525,
            "weekday_sin": -0.9510565162951536,
        },
        "2008-10-10": {
            "close_to_ema_50": -0.29094148635034733,
            "rsi_14": 0.3169364830096133,
            "macd_signal": -0.15784849814739457,
            "atr_21": 0.09630831772680117,
            "volume_to_sma_50": 1.1182919010392465,
            "weekday_sin": -0.9510565162951536,
        },
    }
    for day, values in stored.items():
        assert features.loc[day, list(values)].to_dict() == pytest.approx(values, rel=0, abs=1e-12)


def test_schemas_differ_by_little_but_for_the_weekday() -> None:
    for symbol, features in FEATURES.items():
        old = build_features(PRICES[symbol], schema=1)
        assert old.notna().all(axis=1).equals(features.notna().all(axis=1))
        difference = (features - old).iloc[WHOLE:] / old.iloc[WHOLE:].std()
        assert ((difference**2).mean() ** 0.5).drop(CALENDAR[:2]).max() < 1e-3, symbol


@pytest.mark.parametrize("schema", [0, 3])
def test_an_unknown_schema_is_refused(schema: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 or 2, found {schema}"):
        build_features(PRICES["AAPL"], schema=schema)
    assert SCHEMA_VERSION == 2


def test_only_schema_1_needs_talib() -> None:
    program = "import sys, fxhelpers.features; sys.exit('talib' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("days", [0, 1, 3, 150])
def test_few_days_have_the_features_that_need_no_more(days: int) -> None:
    features = build_features(PRICES["AAPL"].iloc[:days])
    assert features.shape == (days, FEATURES["AAPL"].shape[1])
    pd.testing.assert_frame_equal(features, FEATURES["AAPL"].iloc[:days], check_dtype=days > 0)


@some
@given(
    days=st.integers(500, 5000),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
    embargo=st.integers(0, 10),
)
def test_windows_never_touch(days: int, validation: float, test: float, embargo: int) -> None:
    """No label of one window, known a day later, reaches into the next; the embargo lies between."""
    params = TrainingParams(validation_size=validation, test_size=test, embargo_days=embargo)
    windows = split_windows(pd.bdate_range("2000-01-03", periods=days), params)
    ordered = [windows[name] for name in ("training", "validation", "test")]
    assert ordered[0].start == 0
    assert ordered[-1].stop == days
    for earlier, later in itertools.pairwise(ordered):
        assert later.start - earlier.stop == 1 + embargo


def test_there_are_as_many_features_as_promised_and_all_are_finite_after_the_warm_up() -> None:
    for symbol, features in FEATURES.items():
        assert 30 <= features.shape[1] <= 60, symbol
        assert np.isfinite(features.iloc[WHOLE:]).all(axis=None), symbol
        assert (features.iloc[WHOLE:].std() > 0).all(), symbol
