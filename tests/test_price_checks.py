"""Damage planted at random places of real prices is found there; real prices and resampled ones are not doubted."""

import time
import warnings
from collections.abc import Callable

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from bokeh_sampledata import stocks
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhelpers import load_prices
from fxhelpers.params import PricesParams
from fxhelpers.params._prices import PriceChecksParams
from fxhelpers.prices._checks import check_prices
from fxhelpers.prices._finding import PriceFinding

PRICES = ["Open", "High", "Low", "Close"]
SHARES = {symbol: load_prices(symbol, PricesParams()) for symbol in ("AAPL", "GOOG", "IBM", "MSFT")}


def sessions_of(calendar: str) -> pd.DatetimeIndex:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars uses what pandas deprecates
        return exchange_calendars.get_calendar(calendar, start="1999-01-01", end="2014-12-31").sessions.rename(calendar)


SESSIONS = sessions_of("XNYS")
TODAY = pd.Timestamp("2014-12-31")

symbols = st.sampled_from(sorted(SHARES))
places = st.floats(0.02, 0.98)
some = settings(max_examples=20, derandomize=True)


def check(frame: pd.DataFrame, **changes: object) -> list[PriceFinding]:
    given_ = {"sessions": SESSIONS, "bounds": PriceChecksParams(), "now_day": TODAY} | changes
    found = check_prices(frame, **given_)
    assert all(len(finding.message) <= 300 for finding in found)
    assert all(list(finding.days) == sorted(set(finding.days)) for finding in found)
    return found


def doubts(frame: pd.DataFrame, **changes: object) -> list[PriceFinding]:
    return [finding for finding in check(frame, **changes) if finding.severity != "note"]


def named(frame: pd.DataFrame, name: str, **changes: object) -> PriceFinding:
    found = [finding for finding in check(frame, **changes) if finding.check == name]
    assert found, f"no finding {name}"
    return found[0]


def share(symbol: str) -> pd.DataFrame:
    return SHARES[symbol].copy()


def adjusted_for_splits(symbol: str) -> pd.DataFrame:
    raw = pd.DataFrame(getattr(stocks, symbol)).rename(columns=str.title)
    raw = raw.set_index(pd.DatetimeIndex(raw.pop("Date"), name="Date")).astype(float)
    factor = raw.pop("Adj_Close") / raw["Close"]
    steps = (factor / factor.shift()).fillna(1.0)
    splits = steps.where((steps - 1).abs() > 0.5, 1.0).cumprod()
    splits /= splits.iloc[-1]
    raw[PRICES] = raw[PRICES].mul(splits, axis=0)
    return raw.assign(Volume=raw["Volume"] / splits)


def resampled(symbol: str, block: int, seed: int) -> pd.DataFrame:
    """Draw days in blocks of a mean length; a day keeps its prices relative to the close before, and its volume."""
    frame, rng = SHARES[symbol], np.random.default_rng(seed)
    before = frame["Close"].shift()
    relative = np.log(frame[PRICES].div(before, axis=0)).to_numpy()[1:]
    n = len(relative)
    starts, new = rng.integers(0, n, n), rng.random(n) < 1 / block
    new[0] = True
    first = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    rows = (starts[first] + np.arange(n) - first) % n
    closes = np.cumsum(relative[rows, 3])
    values = np.exp(relative[rows] + np.r_[0.0, closes[:-1]][:, None]) * frame["Close"].iloc[0]
    drawn = pd.DataFrame(values, columns=PRICES, index=frame.index[1:])
    return drawn.assign(Volume=frame["Volume"].to_numpy()[1:][rows])


@pytest.mark.parametrize("symbol", sorted(SHARES))
def test_real_prices_are_not_doubted(symbol: str) -> None:
    for frame in (SHARES[symbol], adjusted_for_splits(symbol)):
        assert check(frame) == []
        rounded = frame.assign(**{name: frame[name].round(2) for name in PRICES})
        assert check(rounded, rounding=0.005 / rounded["Close"]) == []
        for first in range(0, len(frame) - 500, 300):
            assert check(frame.iloc[first : first + 500]) == []


@pytest.mark.parametrize("level", [1, 2, 3, 5])
@pytest.mark.parametrize("symbol", sorted(SHARES))
def test_low_prices_in_whole_cents_are_not_doubted(symbol: str, level: float) -> None:
    frame = share(symbol)
    frame[PRICES] = (frame[PRICES] * (level / frame["Close"].median())).round(2)
    assert check(frame, rounding=0.005 / frame["Low"]) == []


@pytest.mark.parametrize("block", [1, 20, 250])
def test_of_a_hundred_resampled_shares_at_most_one_is_doubted(block: int) -> None:
    assert sum(bool(doubts(resampled(symbol, block, seed))) for symbol in SHARES for seed in range(25)) <= 1


def test_a_crash_on_news_is_no_split() -> None:
    frame = adjusted_for_splits("AAPL")
    assert frame["Close"].pct_change()[pd.Timestamp("2000-09-29")] < -0.5
    assert check(frame) == []


def test_whatever_is_wrong_is_said_at_once() -> None:
    frame = share("AAPL")
    day = frame.index
    frame.loc[day[5], ["High", "Low"]] = frame.loc[day[5], ["Low", "High"]].to_numpy()
    frame.loc[day[50], "Close"] = np.nan
    frame.loc[day[60], "Open"] = 0.0
    frame.loc[day[70], "Volume"] = -1.0
    frame.loc[day[1000], PRICES] *= 100
    frame = pd.concat([frame, frame.iloc[[900]]]).sort_index()
    found = {finding.check: finding for finding in check(frame)}
    assert set(found) == {"crossed", "missing", "zero", "negative_volume", "spike", "duplicates"}
    assert {finding.severity for finding in found.values()} == {"refused"}
    assert found["crossed"].message.startswith(f"High below Low, once on {day[5]:%Y-%m-%d}")
    assert "a missing or infinite value, once" in found["missing"].message
    assert "a price that is not above zero, once" in found["zero"].message
    assert "a negative volume, once" in found["negative_volume"].message
    assert "a date that occurs more than once, once" in found["duplicates"].message
    assert found["spike"].days == (day[1000], day[1001])


def test_intraday_bars_and_weekly_bars_are_named() -> None:
    frame = share("IBM")
    assert "intraday bars" in named(frame.iloc[np.repeat(np.arange(600), 7)], "duplicates").message
    bars = {"Open": "first", "High": "max", "Low": "min", "Close": "last", "Volume": "sum"}
    for rule, what in (("W-FRI", "weekly"), ("MS", "monthly")):
        for sessions in (SESSIONS, None):
            found = check(frame.resample(rule).agg(bars), sessions=sessions)
            assert [(finding.check, finding.severity) for finding in found] == [("weekly", "refused")]
            assert f"{what} bars" in found[0].message


def test_days_of_another_exchange_are_refused_and_the_setting_is_named() -> None:
    frame = share("MSFT")
    tokyo = sessions_of("XTKS")
    found = {finding.check: finding for finding in check(frame.set_axis(tokyo[-len(frame) :]))}
    assert found["no_session"].severity == found["gaps"].severity == "refused"
    assert "no session of XNYS" in found["no_session"].message
    assert "set prices.calendar" in found["no_session"].message
    assert check(frame.set_axis(tokyo[-len(frame) :]), sessions=None) == []


@some
@given(symbol=symbols, place=places, length=st.integers(1, 40))
def test_missing_sessions_are_doubtful_each_of_them(symbol: str, place: float, length: int) -> None:
    frame = share(symbol)
    at = int(place * (len(frame) - length))
    gone = frame.index[at : at + length]
    found = named(frame.drop(gone), "gaps")
    assert (found.severity, found.days) == ("doubtful", tuple(gone))
    thinned = frame.drop(frame.index[5::12])
    assert named(thinned, "gaps").severity == "refused"


def test_where_any_day_trades_only_long_holes_are_doubtful() -> None:
    frame = share("MSFT")
    assert check(frame.drop(frame.index[100:105]), sessions=None) == []
    found = named(frame.drop(frame.index[100:115]), "gaps", sessions=None)
    assert (found.severity, found.days) == ("doubtful", (frame.index[115],))


def test_dates_after_today_are_refused() -> None:
    frame = share("MSFT")
    found = doubts(frame, now_day=frame.index[-3])
    assert [(finding.check, finding.severity, finding.days) for finding in found] == [
        ("future", "refused", tuple(frame.index[-2:]))
    ]


@some
@given(symbol=symbols, place=places, column=st.sampled_from(["Open", "Close"]), by=st.floats(0.002, 0.5), above=st.booleans())
def test_a_close_or_open_outside_the_range_is_doubtful(symbol: str, place: float, column: str, *, by: float, above: bool) -> None:
    frame = share(symbol)
    day = frame.index[int(place * len(frame))]
    frame.loc[day, column] = frame.loc[day, "High"] * (1 + by) if above else frame.loc[day, "Low"] / (1 + by)
    found = named(frame, "outside")
    assert (found.severity, found.days) == ("doubtful", (day,))
    assert "outside" not in {finding.check for finding in check(frame, rounding=pd.Series(by / 1.9, frame.index))}


@pytest.mark.parametrize("symbol", ["IBM", "MSFT"])
def test_an_adjusted_close_beside_raw_prices_is_explained(symbol: str) -> None:
    raw = adjusted_for_splits(symbol)
    found = named(raw.assign(Close=SHARES[symbol]["Close"]), "outside")
    assert found.severity == "refused"
    assert "Adj Close" in found.message


@some
@given(symbol=symbols, place=places, length=st.integers(5, 40))
def test_equal_closes_repeated_rows_and_no_volume_are_doubtful(symbol: str, place: float, length: int) -> None:
    at = int(place * (len(SHARES[symbol]) - length))
    days = SHARES[symbol].index[at : at + length]
    stuck, silent, repeated = share(symbol), share(symbol), share(symbol)
    stuck.loc[days, PRICES] = stuck.loc[days[0], "Close"]
    silent.loc[days, "Volume"] = 0.0
    repeated.loc[days[1]] = repeated.loc[days[0]]
    assert set(named(stuck, "stuck").days) >= set(days)
    assert named(silent, "no_volume").days == tuple(days)
    assert named(repeated, "repeated").days == (days[1],)


def test_an_index_without_volume_is_a_note() -> None:
    found = check(share("IBM").assign(Volume=0.0))
    assert [(finding.check, finding.severity) for finding in found] == [("no_volume", "note")]


@some
@given(
    symbol=symbols,
    place=places,
    ratio=st.sampled_from([2, 3, 4, 5, 7, 10, 20, 1 / 2, 1 / 5, 1 / 10, 1 / 50]),
    volume_too=st.booleans(),
)
def test_a_split_that_was_adjusted_nowhere_is_doubtful(symbol: str, place: float, *, ratio: float, volume_too: bool) -> None:
    frame = share(symbol)
    at = int(place * len(frame))
    before = frame.index[:at]
    frame.loc[before, PRICES] *= ratio
    frame.loc[before, "Volume"] /= ratio if volume_too else 1
    assert frame.index[at] in {day for finding in check(frame) for day in finding.days if finding.check in {"split", "splice"}}


@some
@given(
    symbol=symbols,
    place=places,
    columns=st.sampled_from([["Open"], ["High"], ["Low"], ["Close"], PRICES]),
    factor=st.sampled_from([0.01, 0.1, 10, 100]),
    length=st.integers(1, 4),
)
def test_a_wrong_decimal_point_is_found(symbol: str, place: float, columns: list[str], factor: float, length: int) -> None:
    frame = share(symbol)
    days = frame.index[int(place * (len(frame) - length)) :][:length]
    frame.loc[days, columns] *= factor
    found = [finding for finding in doubts(frame) if finding.check in {"spike", "crossed", "outside"}]
    assert set(days) <= {day for finding in found for day in finding.days}
    if columns == PRICES and factor in {0.01, 100}:
        assert named(frame, "spike").severity == "refused"


@some
@given(symbol=symbols, seed=st.integers(0, 99), share_of_days=st.floats(0.001, 0.5), length=st.integers(1, 400))
def test_pence_and_pounds_mixed_are_refused(symbol: str, seed: int, share_of_days: float, length: int) -> None:
    rng = np.random.default_rng(seed)
    scattered, stretch = share(symbol), share(symbol)
    scattered.loc[(rng.random(len(scattered)) < share_of_days) | (np.arange(len(scattered)) == 700), PRICES] *= 100
    assert named(scattered, "spike").severity == "refused"
    at = int(rng.integers(1, len(stretch) - length))
    stretch.loc[stretch.index[at : at + length], PRICES] /= 100
    found = named(stretch, "spike")
    assert (found.severity, set(found.days) >= set(stretch.index[at : at + length])) == ("refused", True)


@some
@given(symbol=symbols, place=places, ranges=st.floats(9.0, 20.0), sign=st.sampled_from([-1, 1]))
def test_a_spike_that_is_undone_the_next_day_is_doubtful(symbol: str, place: float, ranges: float, sign: int) -> None:
    """Of some daily ranges: smaller ones are like what is printed on other days."""
    frame = share(symbol)
    at = int(place * (len(frame) - 2))
    near = frame.iloc[max(at - 20, 0) : at + 20]
    frame.loc[frame.index[at], PRICES] *= np.exp(sign * ranges * np.log(near["High"] / near["Low"]).median())
    assert set(frame.index[at : at + 2]) & {day for finding in doubts(frame) for day in finding.days}


def rows_of(donor: str, host: str, where: Callable[[int], slice]) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    days = SHARES[host].index.intersection(SHARES[donor].index)
    frame, some_days = SHARES[host].loc[days], days[where(len(days))]
    frame.loc[some_days] = SHARES[donor].loc[some_days]
    return frame, some_days


@pytest.mark.parametrize("length", [1, 2, 5, 20, 100, 400])
@pytest.mark.parametrize(("host", "donor"), [(host, donor) for host in SHARES for donor in SHARES if host != donor])
def test_rows_of_another_share_are_found(host: str, donor: str, length: int) -> None:
    """Of six places, all; one may escape if the levels are near each other."""
    caught = []
    for place in (0.11, 0.31, 0.47, 0.53, 0.71, 0.89):
        frame, days = rows_of(
            donor, host, lambda n, place=place: slice(int(place * (n - length)), int(place * (n - length)) + length)
        )
        caught.append(bool(set(days) & {day for finding in doubts(frame) for day in finding.days}))
    assert sum(caught) >= (5 if {host, donor} == {"AAPL", "MSFT"} else 6)


@pytest.mark.parametrize(("host", "donor"), [("IBM", "MSFT"), ("GOOG", "MSFT"), ("AAPL", "IBM"), ("MSFT", "GOOG")])
def test_rows_of_another_share_at_either_end_are_all_concerned(host: str, donor: str) -> None:
    for where in (slice(-20, None), slice(None, 20), slice(-400, None)):
        frame, days = rows_of(donor, host, lambda _, where=where: where)
        found = [finding for finding in doubts(frame) if finding.check in {"splice", "split"}]
        assert found
        assert any(set(days) <= set(finding.days) for finding in found if finding.check == "splice") or found[0].check == "split"


def test_few_rows_and_odd_ones_are_no_error() -> None:
    frame = share("IBM")
    assert check_prices(frame.iloc[:0], sessions=SESSIONS, bounds=PriceChecksParams(), now_day=TODAY) == []
    assert check(frame.iloc[:5]) == []
    assert check(frame.astype({"Volume": "int64"})) == []
    flat = frame.assign(**dict.fromkeys(PRICES, 7.0), Volume=0.0)
    assert {finding.check for finding in check(flat)} == {"no_volume", "stuck"}
    assert {finding.check for finding in check(frame * np.nan)} == {"missing"}


def test_ten_thousand_days_take_no_time() -> None:
    days = pd.bdate_range("1975-01-01", periods=10_000, name="Date")
    frame = pd.concat([resampled("IBM", 250, seed) for seed in range(4)]).iloc[:10_000].set_axis(days)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        check_prices(frame, sessions=days, bounds=PriceChecksParams(), now_day=days[-1])
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.06 * 3  # on a busy machine
