"""What has to hold for every input, found by Hypothesis on real prices."""

import itertools

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxhelpers import load_prices
from fxhelpers.features import build_features, next_day_return
from fxhelpers.params import PricesParams, TrainingParams
from fxhelpers.training import split_windows

PRICES = {symbol: load_prices(symbol, PricesParams()) for symbol in ("AAPL", "IBM", "GOOG")}
FEATURES = {symbol: build_features(prices) for symbol, prices in PRICES.items()}
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
    prices[["Open", "High", "Low", "Close"]] *= scale
    prices["Volume"] *= shares
    pd.testing.assert_frame_equal(build_features(prices), FEATURES[symbol], rtol=1e-6, atol=1e-7)
    pd.testing.assert_series_equal(next_day_return(prices), next_day_return(PRICES[symbol]), rtol=1e-9, atol=1e-12)


@some
@given(ratio=st.sampled_from([2, 3, 7, 10]), day=st.integers(600, 2100))
def test_a_split_in_back_adjusted_prices_changes_no_feature_of_earlier_days(ratio: int, day: int) -> None:
    """After a split a vendor divides all earlier prices: an old model must still see the same features."""
    before = PRICES["GOOG"].iloc[:day]
    after = before.copy()
    after[["Open", "High", "Low", "Close"]] /= ratio
    after["Volume"] *= ratio
    pd.testing.assert_frame_equal(build_features(after), build_features(before), rtol=1e-6, atol=1e-7)


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
        assert np.isfinite(features.iloc[200:]).all(axis=None), symbol
        assert (features.iloc[200:].std() > 0).all(), symbol
