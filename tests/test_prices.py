from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import time_machine
from bokeh_sampledata import stocks
from conftest import Project

from fxhelpers import describe_prices, load_params, load_prices, read_prices
from fxhelpers.errors import PriceDataError, UnknownSymbolError
from fxhelpers.params import PricesParams
from fxhelpers.prices import COLUMNS, SOURCES, prices_digest


@pytest.fixture
def table() -> pd.DataFrame:
    raw = pd.DataFrame(stocks.AAPL).iloc[:600]
    return raw.rename(columns=str.title).drop(columns="Adj_Close")


def from_csv(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "XYZ.csv", index=False)
    return load_prices("XYZ", PricesParams(source="csv", folder=folder))


def test_every_source_that_the_settings_know_can_be_read() -> None:
    assert set(get_args(PricesParams.model_fields["source"].annotation)) == {"csv", *SOURCES}


def test_the_sample_is_adjusted_for_its_split(project: Project) -> None:
    prices = load_prices("AAPL", load_params().prices)
    raw = pd.DataFrame(stocks.AAPL)
    assert raw["close"].pct_change().min() < -0.5  # the shares were split in two on 2005-02-28
    assert prices.loc["2005-02-01":"2005-03-31", "Close"].pct_change().abs().max() < 0.1
    assert (prices["Volume"] / raw["volume"].to_numpy()).loc[["2000-06-20", "2000-06-21", "2005-02-28"]].tolist() == [4, 2, 1]


def test_too_little_history_is_refused_with_the_numbers() -> None:
    with pytest.raises(PriceDataError, match=r"FB \(sample\): 196 days of prices \(2012-05-18 to 2013-03-01\), at least 500"):
        load_prices("FB", PricesParams())


def test_an_unknown_symbol_lists_the_known_ones(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(UnknownSymbolError, match="did you mean 'MSFT'"):
        load_prices("msft", PricesParams())
    with pytest.raises(UnknownSymbolError, match=r"no prices for 'APPL'.*did you mean 'AAPL'.*AAPL, FB, GOOG, IBM, MSFT"):
        load_prices("APPL", PricesParams())
    from_csv(table, tmp_path / "prices")
    with pytest.raises(LookupError, match="there: XYZ"):
        load_prices("ABC", PricesParams(source="csv", folder=tmp_path / "prices"))
    with pytest.raises(UnknownSymbolError, match=r"price \(prices.folder in params.yaml\), as ABC.csv; there: no such folder"):
        load_prices("ABC", PricesParams(source="csv", folder=tmp_path / "price"))


def test_a_csv_reads_as_the_sample_does(tmp_path: Path, table: pd.DataFrame) -> None:
    prices = from_csv(table, tmp_path / "prices")
    assert list(prices.columns) == COLUMNS
    assert prices_digest(prices) == prices_digest(from_csv(table.sample(frac=1, axis=1, random_state=0), tmp_path / "prices"))
    adjusted = from_csv(table.assign(**{"Adj Close": table["Close"] / 2}), tmp_path / "prices")
    np.testing.assert_allclose(adjusted["High"], prices["High"] / 2)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("High", 5, 0.5, "High below Low, once on 2000-03-08"),
        ("Close", 5, np.nan, "a missing or infinite value, once on 2000-03-08"),
        ("Close", 5, -1.0, "a price that is not above zero, once on 2000-03-08"),
        ("Volume", 5, -1.0, "a negative volume, once"),
        ("Date", 5, "2000-03-07", "a date that occurs more than once, once on 2000-03-07"),
        ("Date", 5, "2000-01-03", "a date earlier than the one before it, once on 2000-01-03"),
        ("Date", 5, "08/03/2000", "not a date, written as YYYY-MM-DD like the others, once '08/03/2000' in line 7"),
        ("Low", 5, "cheap", "not a number in column Low once 'cheap' in the row of 2000-03-08"),
        ("Date", 5, None, "1 rows without a date"),
    ],
)
def test_broken_prices_are_refused_by_rule_and_day(  # noqa: PLR0917 (parametrize)
    tmp_path: Path, table: pd.DataFrame, column: str, row: int, value: object, message: str
) -> None:
    broken = table.astype({"Volume": float, "Date": object, column: object})
    broken.loc[row, column] = value
    with pytest.raises(PriceDataError, match=message) as caught:
        from_csv(broken, tmp_path / "prices")
    assert "XYZ.csv" in str(caught.value)


def test_days_are_days_whatever_hour_and_offset_are_written(tmp_path: Path, table: pd.DataFrame) -> None:
    plain = from_csv(table, tmp_path / "prices")
    offsets = pd.Series(["-05:00", "-04:00"] * 300)
    for stamped in (table["Date"].astype(str).str[:10] + " 16:00:00", table["Date"].astype(str).str[:10] + " 00:00:00" + offsets):
        assert prices_digest(from_csv(table.assign(Date=stamped), tmp_path / "prices")) == prices_digest(plain)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(PriceDataError, match="more than one column Close; there: Date, Open"):
        from_csv(table.assign(close=1.0), tmp_path / "prices")


def test_a_missing_column_and_an_empty_file_are_named(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(PriceDataError, match="no column High; there: Date, Open, Low"):
        from_csv(table.drop(columns="High"), tmp_path / "prices")
    (tmp_path / "prices" / "XYZ.csv").write_text("Date;Open\n2000-01-03;1\n")
    with pytest.raises(PriceDataError, match=r"no line names columns such as Date, Open, .*; the first line is 'Date;Open'"):
        load_prices("XYZ", PricesParams(source="csv", folder=tmp_path / "prices"))
    (tmp_path / "prices" / "XYZ.csv").write_text("")
    with pytest.raises(PriceDataError, match="cannot be read as a table"):
        load_prices("XYZ", PricesParams(source="csv", folder=tmp_path / "prices"))


def test_start_and_end_cut_the_history() -> None:
    prices = load_prices("AAPL", PricesParams(start="2005-01-03", end="2010-12-31"))
    assert (prices.index[0], prices.index[-1]) == (pd.Timestamp("2005-01-03"), pd.Timestamp("2010-12-31"))


def test_a_split_that_was_not_adjusted_for_and_a_hole_show_in_the_description(table: pd.DataFrame) -> None:
    frame = table.assign(Date=pd.to_datetime(table["Date"])).set_index("Date")
    frame.loc["2001-03-01":, "Close"] /= 10
    shown = describe_prices(frame.drop(frame.loc["2000-09-01":"2000-12-29"].index))["prices"]
    assert shown["largest daily move"].startswith("-8")
    assert shown["largest daily move"].endswith("on 2001-03-01")
    assert shown["longest gap"] == "124 calendar days up to 2001-01-02"


def test_a_download_without_network_says_so_and_leaves_nothing_on_the_screen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(PriceDataError, match=r"AAPL \(yfinance\): no prices: Yahoo cannot be reached: check the network, or use"):
        load_prices("AAPL", PricesParams(source="yfinance"))
    assert capfd.readouterr() == ("", "")


def test_the_unfinished_session_of_today_is_no_day_and_a_later_one_is_refused() -> None:
    with time_machine.travel("2013-03-01T15:59:00-05:00"):
        trading = read_prices("AAPL", PricesParams())
    with time_machine.travel("2013-03-01T16:00:00-05:00"):
        closed = read_prices("AAPL", PricesParams())
    assert (trading.frame.index[-1], closed.frame.index[-1]) == (pd.Timestamp("2013-02-28"), pd.Timestamp("2013-03-01"))
    assert trading.notes[-1].message == "the row of 2013-03-01 left out: that day's trading has not ended"
    with time_machine.travel("2013-02-27T20:00:00-05:00"), pytest.raises(PriceDataError, match="a date after today, 2 times"):
        load_prices("AAPL", PricesParams())


def test_where_any_day_trades_a_day_ends_at_midnight_utc_and_a_week_has_seven(tmp_path: Path, table: pd.DataFrame) -> None:
    days = pd.date_range("2020-01-01", periods=600)
    crypto = PricesParams(source="csv", folder=tmp_path / "prices", calendar=None)
    with pytest.raises(
        PriceDataError, match=r"a day that was no session of XNYS, .*; set prices.calendar to the share's exchange"
    ):
        from_csv(table.assign(Date=days.strftime("%Y-%m-%d")), tmp_path / "prices")
    assert len(load_prices("XYZ", crypto)) == 600
    with time_machine.travel("2021-08-22T23:59:00Z"):
        assert len(load_prices("XYZ", crypto)) == 599
