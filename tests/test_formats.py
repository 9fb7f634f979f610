"""Each form in which people have a share's prices, written from the same real days: read right, or refused by name."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bokeh_sampledata import stocks

from fxhelpers import describe_prices, load_prices
from fxhelpers.errors import ParamsError, PriceDataError, UnknownSymbolError
from fxhelpers.params import PricesParams
from fxhelpers.prices import COLUMNS, FORMATS, examine_prices, known_symbols, read_prices

PRICES = COLUMNS[:4]


class Share:
    """Real days of one share: as traded, and adjusted for splits, and for splits and dividends."""

    def __init__(self, symbol: str, days: int = 1500, first: int = 0) -> None:
        raw = pd.DataFrame(getattr(stocks, symbol)).iloc[first : first + days]
        raw.index = pd.DatetimeIndex(pd.to_datetime(raw["date"])).as_unit("us").rename("Date")
        self.symbol, self.days = symbol, raw.index
        self.raw = raw[["open", "high", "low", "close", "volume"]].set_axis(COLUMNS, axis=1).astype(float)
        self.factor = raw["adj_close"] / raw["close"] / (raw["adj_close"] / raw["close"]).iloc[-1]
        step = self.factor / self.factor.shift(1)
        self.splits = step.where((step - 2).abs() < 0.01, 1.0).round()
        later = self.splits.iloc[::-1].cumprod().iloc[::-1] / self.splits
        self.split = self.raw.assign(**{name: self.raw[name] / later for name in PRICES}, Volume=self.raw["Volume"] * later)
        self.all = self.split.assign(**{name: self.raw[name] * self.factor for name in PRICES})
        self.dividends = (
            ((1 - self.factor.shift(1) * self.splits / self.factor) * self.raw["Close"].shift(1)).fillna(0.0).round(6)
        )

    def text(self, form: str = "%Y-%m-%d") -> pd.Index:
        return self.days.strftime(form)


def csv(frame: pd.DataFrame, *, index: bool = False, **how: object) -> str:
    return frame.to_csv(index=index, **how)  # type: ignore[call-overload, no-any-return]


def table(share: Share, prices: pd.DataFrame, names: str, form: str = "%Y-%m-%d", **more: object) -> pd.DataFrame:
    """Return the days and the five columns under other names, in the order Date, Open, High, Low, Close, Volume."""
    found = prices.reset_index(drop=True).set_axis(names.split(",")[1:], axis=1)
    found.insert(0, names.split(",", maxsplit=1)[0], share.text(form))
    return found.assign(**{name: np.asarray(value) for name, value in more.items()})


# two splits, and three dividends
AAPL = Share("AAPL", days=3270)
IBM = Share("IBM", days=1500)
PLAIN = table(AAPL, AAPL.all, "Date,Open,High,Low,Close,Volume")
RAW = table(AAPL, AAPL.raw, "Date,Open,High,Low,Close,Volume")
GROUPED = PLAIN.assign(**dict.fromkeys(COLUMNS, "1,234"))  # a decimal comma, or thousands
UNDATED = PLAIN.assign(Date=PLAIN["Date"].str.replace("-", "~"))
Made = tuple[str, str | bytes, pd.DataFrame]
FORMS: dict[str, Callable[[], Made]] = {}


def form(make: Callable[[], Made]) -> Callable[[], Made]:
    FORMS[make.__name__] = make
    return make


@form
def eodhd() -> Made:
    raw = AAPL.raw.assign(Volume=AAPL.split["Volume"])
    made = table(AAPL, raw, "Date,Open,High,Low,Close,Volume", Adjusted_close=AAPL.all["Close"])
    return "AAPL.csv", csv(made), AAPL.all


@form
def tiingo() -> Made:
    made = table(AAPL, AAPL.raw, "date,open,high,low,close,volume")
    made["date"] += "T00:00:00.000Z"
    made[["adjClose", "adjHigh", "adjLow", "adjOpen", "adjVolume"]] = AAPL.all[
        ["Close", "High", "Low", "Open", "Volume"]
    ].to_numpy()
    made["divCash"], made["splitFactor"] = AAPL.dividends.to_numpy(), AAPL.splits.to_numpy()
    return "AAPL.csv", csv(made), AAPL.all


@form
def tiingo_adjusted_close_only() -> Made:
    made = table(AAPL, AAPL.raw, "date,open,high,low,close,volume", adjClose=AAPL.all["Close"])
    return "AAPL.csv", csv(made), AAPL.all


@form
def alpha_vantage() -> Made:
    made = table(AAPL, AAPL.raw, "timestamp,open,high,low,close,volume", adjusted_close=AAPL.all["Close"])
    made["dividend_amount"], made["split_coefficient"] = AAPL.dividends.to_numpy(), AAPL.splits.to_numpy()
    return "AAPL.csv", csv(made.iloc[::-1]), AAPL.all


@form
def adjusted_close_with_a_space() -> Made:
    return (
        "AAPL.csv",
        csv(table(AAPL, AAPL.raw, "Date,Open,High,Low,Close,Volume", **{"Adjusted Close": AAPL.all["Close"]})),
        AAPL.all,
    )


@form
def adjusted_close_with_a_point() -> Made:
    return (
        "AAPL.csv",
        csv(table(AAPL, AAPL.raw, "Date,Open,High,Low,Close,Volume", **{"Adj. Close": AAPL.all["Close"]})),
        AAPL.all,
    )


@form
def yahoo_file() -> Made:
    made = table(AAPL, AAPL.split, "Date,Open,High,Low,Close,Volume", **{"Adj Close": AAPL.all["Close"]})
    return "AAPL.csv", csv(made), AAPL.all


@form
def yahoo_page() -> Made:
    close = "Close Close price adjusted for splits."
    adjusted_close = "Adj Close Adjusted close price adjusted for splits and dividend and/or capital gain distributions."
    lines = [f"Date\tOpen\tHigh\tLow\t{close}\t{adjusted_close}\tVolume"]
    prices, adjusted = AAPL.split[PRICES], AAPL.all["Close"]
    for n in reversed(range(len(AAPL.days))):
        day = f"{AAPL.days[n]:%b} {AAPL.days[n].day}, {AAPL.days[n].year}"
        if AAPL.dividends.iloc[n]:
            lines.append(f"{day}\t{AAPL.dividends.iloc[n]} Dividend")
        if AAPL.splits.iloc[n] != 1:
            lines.append(f"{day}\t2:1 Stock Splits")
        lines.append(
            "\t".join(
                [
                    day,
                    *(f"{value:,.10f}" for value in prices.iloc[n]),
                    f"{adjusted.iloc[n]:,.10f}",
                    f"{AAPL.split['Volume'].iloc[n]:,.0f}",
                ]
            )
        )
    return "AAPL.csv", "\n".join(lines), AAPL.all


@form
def yfinance_history() -> Made:
    made = table(
        AAPL,
        AAPL.all,
        "Date,Open,High,Low,Close,Volume",
        Dividends=AAPL.dividends,
        **{"Stock Splits": AAPL.splits.where(AAPL.splits != 1, 0)},
    )
    made["Date"] = AAPL.days.tz_localize("America/New_York").map(str)
    return "AAPL.csv", csv(made), AAPL.all


@form
def yfinance_not_adjusted() -> Made:
    made = table(
        AAPL, AAPL.split, "Date,Open,High,Low,Close,Volume", **{"Adj Close": AAPL.all["Close"], "Dividends": AAPL.dividends}
    )
    made["Stock Splits"] = AAPL.splits.where(AAPL.splits != 1, 0).to_numpy()
    return "AAPL.csv", csv(made), AAPL.all


def download(*shares: Share, by_ticker: bool = False, adjusted: bool = True) -> pd.DataFrame:
    frames = {}
    for share in shares:
        whole = share.all if adjusted else share.split.assign(**{"Adj Close": share.all["Close"]})
        frames[share.symbol] = whole[["Close", "High", "Low", "Open", "Volume", *([] if adjusted else ["Adj Close"])]]
    found = pd.concat(frames, axis=1, names=["Ticker", "Price"])
    return found if by_ticker else found.swaplevel(axis=1).sort_index(axis=1, level=0, sort_remaining=False)


@form
def yfinance_download_of_one() -> Made:
    return "AAPL.csv", csv(download(AAPL), index=True), AAPL.all


@form
def yfinance_download_not_adjusted() -> Made:
    return "AAPL.csv", csv(download(AAPL, adjusted=False), index=True), AAPL.all


@form
def yfinance_download_of_many() -> Made:
    return "prices.csv", csv(download(AAPL, IBM), index=True), AAPL.all


@form
def yfinance_download_by_ticker() -> Made:
    return "prices.csv", csv(download(IBM, AAPL, by_ticker=True), index=True), AAPL.all


@form
def yfinance_download_two_lines() -> Made:
    return "AAPL.csv", csv(download(AAPL).reset_index()), AAPL.all


@form
def yfinance_download_old_names() -> Made:
    found = download(AAPL, IBM, adjusted=False)
    found.columns.names, found.index.name = [None, None], "Date"
    return "prices.csv", csv(found, index=True), AAPL.all


@form
def stooq_web() -> Made:
    return "aapl_us_d.csv".replace("_us_d", ""), csv(table(AAPL, AAPL.all, "Date,Open,High,Low,Close,Volume")), AAPL.all


@form
def stooq_bulk() -> Made:
    made = table(AAPL, AAPL.all, "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "%Y%m%d")
    made.insert(1, "<TIME>", "000000")
    made.insert(0, "<PER>", "D")
    made.insert(0, "<TICKER>", "AAPL.US")
    made["<OPENINT>"] = 0
    return "aapl.us.txt", csv(made), AAPL.all


@form
def stooq_polish() -> Made:
    return "AAPL.csv", csv(table(AAPL, AAPL.all, "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen")), AAPL.all


@form
def nasdaq() -> Made:
    rounded = AAPL.split[PRICES].round(4)
    made = table(
        AAPL, rounded.assign(Volume=AAPL.split["Volume"].astype(int)), "Date,Open,High,Low,Close/Last,Volume", "%m/%d/%Y"
    )
    for name in ("Open", "High", "Low", "Close/Last"):
        made[name] = "$" + made[name].map("{:,.4f}".format)
    made = made[["Date", "Close/Last", "Volume", "Open", "High", "Low"]]
    return "AAPL.csv", csv(made.iloc[::-1]), rounded.assign(Volume=AAPL.split["Volume"])


def investing_table(days: str, names: str, unit: str = "M") -> tuple[pd.DataFrame, pd.DataFrame]:
    rounded = AAPL.split[PRICES].round(2)
    volume = (AAPL.split["Volume"] / 1e6).round(2)
    made = table(AAPL, rounded.map("{:,.2f}".format).assign(Volume=volume.map("{:.2f}".format) + unit), names, days)
    made["Change %"] = "0.56%"
    return made.iloc[::-1], rounded.assign(Volume=volume * 1e6)


@form
def investing() -> Made:
    made, expected = investing_table("%b %d, %Y", "Date,Open,High,Low,Price,Vol.")
    return "AAPL.csv", "\ufeff" + csv(made[["Date", "Price", "Open", "High", "Low", "Vol.", "Change %"]], quoting=1), expected


@form
def investing_new_dates() -> Made:
    made, expected = investing_table("%m/%d/%Y", "Date,Open,High,Low,Price,Vol.")
    return "AAPL.csv", csv(made[["Date", "Price", "Open", "High", "Low", "Vol.", "Change %"]], quoting=1), expected


@form
def investing_german() -> Made:
    made, expected = investing_table("%d.%m.%Y", "Datum,Eröffn.,Hoch,Tief,Zuletzt,Vol.")
    swap = str.maketrans(",.", ".,")
    for name in ("Eröffn.", "Hoch", "Tief", "Zuletzt", "Vol."):
        made[name] = made[name].map(lambda text: text.translate(swap))
    return "AAPL.csv", csv(made.rename(columns={"Change %": "+/- %"}), quoting=1), expected


@form
def polygon() -> Made:
    made = table(AAPL, AAPL.split, "t,o,h,l,c,v")
    made["t"] = (AAPL.days.tz_localize("America/New_York").tz_convert("UTC").as_unit("ms").astype("int64")).to_numpy()
    made["vw"], made["n"] = made["c"], 1000
    return "AAPL.csv", csv(made[["v", "vw", "o", "c", "h", "l", "t", "n"]]), AAPL.split


@form
def polygon_flat_file() -> Made:
    share = Share("IBM", days=1500)
    made = table(share, share.raw, "window_start,open,high,low,close,volume")
    made["window_start"] = (share.days.tz_localize("America/New_York").as_unit("ns").astype("int64")).to_numpy()
    made.insert(0, "ticker", "IBM")
    made["transactions"] = 1000
    other = made.assign(ticker="XOM", open=made["open"] + 1)
    return "days.csv", csv(pd.concat([made, other]).sort_values(["window_start", "ticker"])), share.raw


@form
def interactive_brokers() -> Made:
    made = table(AAPL, AAPL.split, "date,open,high,low,close,volume", "%Y%m%d", average=AAPL.split["Close"], barCount=100)
    return "AAPL.csv", csv(made, index=True), AAPL.split


@form
def crsp_with_open() -> Made:
    made = table(AAPL, AAPL.raw, "date,OPENPRC,ASKHI,BIDLO,PRC,VOL", "%Y%m%d")
    made["RET"] = AAPL.all["Close"].pct_change().to_numpy()
    made["CFACPR"] = made["CFACSHR"] = (AAPL.raw["Close"] / AAPL.split["Close"]).to_numpy()
    made.insert(0, "PERMNO", 14593)
    made.insert(2, "TICKER", "AAPL")
    return "AAPL.csv", csv(made).replace(",,", ",C,", 1), AAPL.all


@form
def crsp_without_returns() -> Made:
    made = table(AAPL, AAPL.raw, "date,OPENPRC,ASKHI,BIDLO,PRC,VOL", "%Y-%m-%d")
    made["CFACPR"] = made["CFACSHR"] = (AAPL.raw["Close"] / AAPL.split["Close"]).to_numpy()
    return "AAPL.csv", csv(made), AAPL.split


@form
def compustat() -> Made:
    made = table(AAPL, AAPL.raw, "datadate,prcod,prchd,prcld,prccd,cshtrd", "%d/%m/%Y")
    later = AAPL.raw["Close"] / AAPL.split["Close"]
    made["ajexdi"], made["trfd"], made["tic"] = later.to_numpy(), (AAPL.factor * later).to_numpy(), "AAPL"
    return "AAPL.csv", csv(made), AAPL.all


@form
def wiki() -> Made:
    made = table(AAPL, AAPL.raw, "Date,Open,High,Low,Close,Volume", **{"Ex-Dividend": AAPL.dividends, "Split Ratio": AAPL.splits})
    made[[f"Adj. {name}" for name in COLUMNS]] = AAPL.all.to_numpy()
    return "AAPL.csv", csv(made.iloc[::-1]), AAPL.all


@form
def sharadar() -> Made:
    made = table(AAPL, AAPL.split, "date,open,high,low,close,volume", closeadj=AAPL.all["Close"], closeunadj=AAPL.raw["Close"])
    made.insert(0, "ticker", "AAPL")
    return "AAPL.csv", csv(made), AAPL.all


@form
def one_long_file() -> Made:
    both = [table(share, share.split, "date,open,high,low,close,volume", Name=share.symbol) for share in (AAPL, IBM)]
    return "all_stocks_5yr.csv", csv(pd.concat(both)), AAPL.split


@form
def semicolons_and_decimal_commas() -> Made:
    rounded = AAPL.all.assign(Volume=AAPL.all["Volume"].round()).round(4)
    return "AAPL.csv", csv(table(AAPL, rounded, "Date,Open,High,Low,Close,Volume", "%d.%m.%Y"), sep=";", decimal=","), rounded


@form
def a_title_above_the_header() -> Made:
    return "AAPL.csv", "Apple Inc. (AAPL)\n\n" + csv(table(AAPL, AAPL.all, "Date,Open,High,Low,Close,Volume")), AAPL.all


@form
def a_line_below_the_rows() -> Made:
    made = table(AAPL, AAPL.all, "Time,Open,High,Low,Last,Volume", "%m/%d/%Y")
    return "AAPL.csv", csv(made.iloc[::-1]) + '"Downloaded from Barchart.com as of 03-02-2013 07:59am CST"\n', AAPL.all


@form
def packed() -> Made:
    return "AAPL.csv.gz", gzip.compress(csv(table(AAPL, AAPL.all, "Date,Open,High,Low,Close,Volume")).encode()), AAPL.all


@form
def parquet() -> Made:
    buffer = io.BytesIO()
    AAPL.all.to_parquet(buffer)
    return "AAPL.parquet", buffer.getvalue(), AAPL.all


@form
def parquet_of_a_download() -> Made:
    buffer = io.BytesIO()
    download(AAPL, IBM).to_parquet(buffer)
    return "prices.parquet", buffer.getvalue(), AAPL.all


@form
def tabs_and_a_byte_order_mark() -> Made:
    return "AAPL.tsv", csv(table(AAPL, AAPL.all, "Date,Open,High,Low,Close,Volume"), sep="\t").encode("utf-16"), AAPL.all


@form
def eodhd_from_json() -> Made:
    made = table(
        AAPL, AAPL.raw.assign(Volume=AAPL.split["Volume"]), "date,open,high,low,close,volume", adjusted_close=AAPL.all["Close"]
    )
    return "AAPL.csv", csv(made), AAPL.all


@form
def units_below_the_header() -> Made:
    header, *rows = csv(PLAIN).splitlines()
    return "AAPL.csv", "\n".join([header, ",USD,USD,USD,USD,shares", *rows]), AAPL.all


@form
def the_first_row_is_null() -> Made:
    header, *rows = csv(PLAIN).splitlines()
    return "AAPL.csv", "\n".join([header, "2000-02-29,null,null,null,null,null", *rows]), AAPL.all


@form
def a_delimiter_at_the_end_of_rows() -> Made:
    header, *rows = csv(PLAIN).splitlines()
    return "AAPL.csv", "\n".join([header, *(f"{row}," for row in rows)]), AAPL.all


@form
def the_header_again_in_the_middle() -> Made:
    header, *rows = csv(PLAIN).splitlines()
    return "AAPL.csv", "\n".join([header, *rows[:900], header, *rows[900:]]), AAPL.all


@form
def the_number_of_rows_below() -> Made:
    return "AAPL.csv", f"{csv(PLAIN)}3270\n", AAPL.all


@form
def groups_by_space_and_decimal_commas() -> Made:
    rounded = AAPL.all.mul(100).round(2).assign(Volume=AAPL.all["Volume"].round())
    text = rounded[PRICES].map(lambda value: f"{value:,.2f}".translate(str.maketrans(",.", "\u00a0,")))
    volume = rounded["Volume"].map(lambda value: f"{value:,.0f}".replace(",", "."))
    return "AAPL.csv", csv(table(AAPL, text.assign(Volume=volume), "Date,Open,High,Low,Close,Volume"), sep="\t"), rounded


@form
def whole_numbers_in_groups() -> Made:
    rounded = AAPL.all.mul(1000).round().assign(Volume=AAPL.all["Volume"].round())
    text = rounded.map("{:,.0f}".format)
    return "AAPL.csv", csv(table(AAPL, text, "Date,Open,High,Low,Close,Volume"), sep=";"), rounded


@form
def parquet_by_ticker_and_day() -> Made:
    buffer = io.BytesIO()
    pd.concat({"AAPL": AAPL.all, "IBM": IBM.all}, names=["ticker", "date"]).to_parquet(buffer)
    return "prices.parquet", buffer.getvalue(), AAPL.all


@form
def adjusted_prices_alone() -> Made:
    return "AAPL.csv", csv(table(AAPL, AAPL.all, "date,adjOpen,adjHigh,adjLow,adjClose,volume")), AAPL.all


@form
def tickers_with_an_exchange() -> Made:
    both = [table(share, share.all, "date,open,high,low,close,volume", ticker=f"NASDAQ:{share.symbol}") for share in (AAPL, IBM)]
    return "days.csv", csv(pd.concat(both)), AAPL.all


@form
def nothing_said() -> Made:
    return "AAPL.csv", csv(table(AAPL, AAPL.all, "Date,Open,High,Low,Close,Volume")), AAPL.all


def written(folder: Path, name: str, content: str | bytes) -> PricesParams:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return PricesParams(source="csv", folder=folder)


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_every_form_is_read_right(tmp_path: Path, make: Callable[[], Made]) -> None:
    name, content, expected = make()
    symbol = "IBM" if make is polygon_flat_file else "AAPL"
    found = read_prices(symbol, written(tmp_path / "prices", name, content))
    pd.testing.assert_frame_equal(found.frame, expected, rtol=1e-9, check_names=False, check_freq=False, check_index_type=False)
    assert not found.doubts, found.doubts
    assert symbol in (known_symbols(PricesParams(source="csv", folder=tmp_path / "prices")) or ()) or name.startswith("aapl")


def test_every_vendor_has_a_form_here_or_differs_only_by_name() -> None:
    assert len({one.name for one in FORMATS}) == len(FORMATS)
    assert len({(one.columns, one.exact) for one in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "AAPL.csv",
            csv(RAW.assign(Bereinigt=AAPL.all["Close"].to_numpy())),
            r"the column Bereinigt looks like an adjusted price and is not used: in params.yaml, say prices.columns",
        ),
        (
            "AAPL.csv",
            csv(RAW.assign(Close=AAPL.all["Close"].to_numpy())),
            "Close seems to be adjusted, and Open, High and Low are not: give the raw close as Close and the adjusted one as Adj",
        ),
        (
            "AAPL.csv",
            csv(table(AAPL, AAPL.raw, "date,OPENPRC,ASKHI,BIDLO,PRC,VOL").drop(columns="OPENPRC")),
            "no column OPENPRC .the opening price., which features need: add it to the query of CRSP's daily file",
        ),
        ("AAPL.csv", csv(PLAIN.assign(Ticker="MSFT")), "it holds MSFT, not AAPL: another share's file"),
        ("AAPL.csv", csv(PLAIN.assign(Name="MSFT")), "it holds MSFT, not AAPL: another share's file; if not, remove the column"),
        (
            "AAPL.csv",
            csv(RAW.assign(**{"Adj Close": AAPL.all["Close"].to_numpy(), "Stock Splits": 0})),
            "the adjusted close steps like a split of 2 on 2000-06-21, and the column of splits has 1 there",
        ),
        (
            "AAPL.csv",
            csv(RAW.assign(**{"Adj Close": AAPL.all["Close"].shift(-1, fill_value=1.0).to_numpy()})),
            "the ratio of adjusted and raw close changes on .* of 3270 days.*: the adjusted close is not of these rows",
        ),
        (
            "AAPL.csv",
            csv(RAW.assign(**{"Dividends": 0.0, "Stock Splits": AAPL.splits.where(AAPL.splits != 1, 0).to_numpy()})),
            "the column of splits has 2 on 2000-06-21, and the close is not adjusted for it",
        ),
        (
            "AAPL.csv",
            csv(GROUPED, sep="\t"),
            "numbers such as .* have a decimal comma, or groups",
        ),
        (
            "AAPL.csv",
            csv(UNDATED),
            "dates such as '2000~03~01' are in no known form",
        ),
        ("AAPL.csv", csv(PLAIN.drop(columns=["Volume", "Open"])), "no column Open, Volume; there: Date, High, Low, Close"),
        ("AAPL.csv", csv(pd.concat([PLAIN, PLAIN]).sort_values("Date")), "a date that occurs more than once, 3270 times"),
        ("AAPL.csv", csv(PLAIN.iloc[::5]), "weekly bars"),
        (
            "AAPL.csv",
            csv(PLAIN.sample(frac=1, random_state=0)),
            "a date earlier than the one before it, .*; sort the rows by date",
        ),
        ("AAPL.csv", b"PK\x03\x04" + bytes(100), "it is an Excel workbook: save it as CSV"),
        ("AAPL.csv", '{"results": []}', "it is JSON: save its rows as CSV"),
        ("AAPL.csv", "<!DOCTYPE html><p>Sign in</p>", "it is a web page, perhaps that of a login or an error"),
        ("AAPL.csv", "2013-03-01,1,1,1,1,1\n", "no line names columns such as Date, Open, High"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    params = written(tmp_path / "prices", name, content)
    with pytest.raises(PriceDataError, match=message):
        load_prices("AAPL", params)


def test_all_faults_are_in_one_message(tmp_path: Path) -> None:
    broken = PLAIN.astype({"Volume": float})
    broken.loc[10, "Volume"], broken.loc[20, "High"], broken.loc[30, "Date"] = -1.0, 0.1, "2000-04-15"
    params = written(tmp_path / "prices", "AAPL.csv", csv(broken))
    with pytest.raises(PriceDataError) as caught:
        load_prices("AAPL", params)
    for part in ("a negative volume", "High below Low", "a day that was no session of XNYS", "fx prices AAPL shows the file"):
        assert part in str(caught.value)


def test_settings_help_a_file_that_is_not_recognized(tmp_path: Path) -> None:
    odd = csv(RAW.rename(columns={"Close": "Kurs"}).assign(**{"TR adj": AAPL.all["Close"].to_numpy()}))
    params = written(tmp_path / "prices", "AAPL.csv", odd)
    with pytest.raises(PriceDataError, match=r"no column Close; there: .*; name it in prices.columns in params.yaml"):
        load_prices("AAPL", params)
    named = params.model_copy(update={"columns": {"Close": "Kurs", "Adj Close": "TR adj"}})
    pd.testing.assert_frame_equal(load_prices("AAPL", named), AAPL.all, rtol=1e-9, check_names=False, check_freq=False)
    assert read_prices("AAPL", named).adjusted_by == "the column TR adj"
    stated = params.model_copy(update={"columns": {"Close": "Kurs"}, "adjusted": "none"})
    assert read_prices("AAPL", stated).title == "Close, not adjusted"
    for key, value in (("format", "tingo"), ("calendar", "XNYX")):
        with pytest.raises(ParamsError, match=rf"prices.{key}: '{value}' is unknown.*did you mean"):
            load_prices("AAPL", params.model_copy(update={key: value}))
    with pytest.raises(PriceDataError, match=r"no column Schluss .prices.columns in params.yaml names it as Close"):
        load_prices("AAPL", params.model_copy(update={"columns": {"Close": "Schluss"}}))


def test_moments_become_the_day_on_the_exchange(tmp_path: Path) -> None:
    """Midnight in Tokyo is the afternoon of the day before in UTC."""
    from fxhelpers.prices._sessions import sessions_of

    sessions = sessions_of("XTKS", pd.DatetimeIndex(["2005-01-04", "2012-01-04"]))
    assert sessions is not None
    tokyo = AAPL.all.iloc[:1500].set_axis(sessions[:1500].rename("Date"))
    made = tokyo.reset_index()
    made["Date"] = tokyo.index.tz_localize("Asia/Tokyo").tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    params = written(tmp_path / "prices", "AAPL.csv", csv(made)).model_copy(update={"calendar": "XTKS"})
    assert load_prices("AAPL", params).index.equals(tokyo.index)
    wrong = examine_prices("AAPL", params.model_copy(update={"calendar": "XNYS"}))
    assert any("a day that was no session of XNYS" in finding.message for finding in wrong.refused)


def test_rows_without_prices_are_left_out_and_said(tmp_path: Path) -> None:
    lines = csv(PLAIN).splitlines()
    lines[100] = f"{lines[100][:10]},null,null,null,null,null"
    lines.insert(200, ",,,,,")
    found = read_prices("AAPL", written(tmp_path / "prices", "AAPL.csv", "\n".join(lines)))
    assert len(found.frame) == len(AAPL.all) - 1
    assert found.notes[0].message.startswith("2 rows without any price left out, first '2000-07")
    assert [doubt.check for doubt in found.doubts] == ["gaps"]  # the day was a session


def test_a_file_of_many_symbols_lists_them_and_a_name_that_fits_two_is_refused(tmp_path: Path) -> None:
    name, content, _ = one_long_file()
    params = written(tmp_path / "prices", name, content)
    assert known_symbols(params) == ["AAPL", "IBM"]
    with pytest.raises(UnknownSymbolError, match=r"no prices for 'MSFT' .*; there: AAPL, IBM"):
        load_prices("MSFT", params)
    alone = PricesParams(source="csv", folder=tmp_path / "prices" / name)
    assert load_prices("IBM", alone).index.equals(IBM.days)
    written(tmp_path / "prices", "aapl.us.txt", csv(PLAIN))
    written(tmp_path / "prices", "Aapl.csv", csv(PLAIN))
    with pytest.raises(
        ParamsError, match=r"several files could hold the prices of AAPL: Aapl.csv, aapl.us.txt; keep one of them"
    ):
        load_prices("AAPL", params)


def test_prices_that_the_file_does_not_adjust_for_dividends_say_so(tmp_path: Path) -> None:
    name, content, _ = nasdaq()
    found = read_prices("AAPL", written(tmp_path / "prices", name, content))
    assert (found.adjusted, found.title) == ("splits", "Close, not adjusted for dividends")
    assert "Adjusted for splits, not dividends." in found.summary


def test_a_price_without_a_trade_is_doubtful(tmp_path: Path) -> None:
    _, content, _ = crsp_with_open()
    rows = str(content).splitlines()
    cells = rows[500].split(",")
    place = rows[0].split(",").index("PRC")
    cells[place], cells[rows[0].split(",").index("OPENPRC")] = f"-{cells[place]}", ""
    rows[500] = ",".join(cells)
    found = read_prices("AAPL", written(tmp_path / "prices", "AAPL.csv", "\n".join(rows)))
    (doubt,) = (doubt for doubt in found.doubts if doubt.check == "midpoint")
    assert f"{doubt.days[0]:%Y%m%d}" in cells


@pytest.mark.parametrize(
    ("ratio", "dividend", "found", "doubtful"),
    [
        (2.0, 0.0, 2.0, False),
        (1.5, 0.0, 1.5, False),
        (0.1, 0.0, 0.1, False),
        (2.0, 0.01, 2.0, True),  # a split and a dividend on one day
        (1.25, 0.0, 1.25, True),  # or a dividend of 20 %
        (1.0, 0.12, 1.0, False),  # a special dividend
        (1.0, 0.25, 4 / 3, True),
        (1.0, 0.40, 1.0, True),  # larger than dividends are
    ],
)
def test_a_split_is_told_from_a_dividend_by_how_the_adjusted_close_steps(
    tmp_path: Path, ratio: float, dividend: float, found: float, *, doubtful: bool
) -> None:
    day = 700
    later = np.where(np.arange(len(IBM.days)) < day, ratio, 1.0)
    raw = IBM.split.mul(later, axis=0).assign(Volume=IBM.split["Volume"] / later)
    adjusted = IBM.all["Close"] * np.where(np.arange(len(IBM.days)) < day, 1 - dividend, 1.0)
    made = table(IBM, raw, "Date,Open,High,Low,Close,Volume", **{"Adj Close": adjusted})
    prices = examine_prices("IBM", written(tmp_path / "prices", "IBM.csv", csv(made)))
    assert prices.frame["Volume"].iloc[0] / raw["Volume"].iloc[0] == pytest.approx(found)
    assert any(doubt.check == "adjustment" and IBM.days[day] in doubt.days for doubt in prices.doubts) == doubtful


def test_the_special_dividend_of_the_sample_is_no_split() -> None:
    raw = pd.DataFrame(stocks.MSFT)
    assert sorted({*(load_prices("MSFT", PricesParams())["Volume"].to_numpy() / raw["volume"]).round(9)}) == [1, 2]


def test_a_class_of_shares_is_not_another_one(tmp_path: Path) -> None:
    params = written(tmp_path / "prices", "BRK.B.csv", csv(PLAIN))
    with pytest.raises(UnknownSymbolError, match="no prices for 'BRK'"):
        load_prices("BRK", params)
    assert len(load_prices("BRK-B", params)) == len(PLAIN)


def test_a_share_keeps_its_rows_when_its_ticker_changes(tmp_path: Path) -> None:
    made = table(
        AAPL, AAPL.raw, "date,OPENPRC,ASKHI,BIDLO,PRC,VOL", "%Y%m%d", PERMNO=14593, TICKER=["OLD"] * 800 + ["AAPL"] * 2470
    )
    made["CFACPR"] = made["CFACSHR"] = (AAPL.raw["Close"] / AAPL.split["Close"]).to_numpy()
    found = read_prices("AAPL", written(tmp_path / "prices", "AAPL.csv", csv(made)))
    assert len(found.frame) == len(AAPL.days)
    assert found.notes[0].message == "rows under the earlier ticker OLD are used: the same PERMNO"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Close", 0.0, "a price that is not above zero, once on 2008-02-14"),
        ("Adj Close", 0.0, "a price that is not above zero, once on 2008-02-14"),
        ("Adj Close", np.nan, "a missing or infinite value, once on 2008-02-14"),
        ("Close", np.inf, "a missing or infinite value, once on 2008-02-14"),
    ],
)
def test_one_impossible_price_beside_an_adjusted_close_is_named(tmp_path: Path, column: str, value: float, message: str) -> None:
    made = RAW.assign(**{"Adj Close": AAPL.all["Close"].to_numpy()})
    made.loc[AAPL.days == "2008-02-14", column] = value
    for content, found in ((csv(made), message), (csv(made.assign(**{column: value})), message.replace("once", "3270 times"))):
        params = written(tmp_path / "prices", "AAPL.csv", content)
        assert describe_prices(examine_prices("AAPL", params)).loc["refused", "prices"].startswith(found.partition(" on ")[0])
        with pytest.raises(PriceDataError, match=found.partition(" on ")[0]):
            load_prices("AAPL", params)
