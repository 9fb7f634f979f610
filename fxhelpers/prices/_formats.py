"""What people's price files look like: names of columns, and vendors with how their prices are adjusted.

A vendor is an entry of ``FORMATS``, recognized by its columns; a file that fits none is read by the names of its columns.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Adjusted = Literal["all", "splits", "none", "unknown"]
"""What prices are adjusted for: splits and dividends, splits only, nothing, or nobody says it."""

COLUMNS = ["Open", "High", "Low", "Close", "Volume"]
ADJUSTED = {name: f"Adj {name}" for name in COLUMNS}
"""Of each column, the one that holds it adjusted."""

_NAMES = {
    "Date": "date day tradedate tradingdate datadate dlycaldt caldt datetime dateandtime timestamp time t gmttime localtime "
    "utctime windowstart opentime bartime quotedate pricedate exchangedate pricingdate dates asofdate asof beginsat unix "
    "ds datum data fecha tarih дата 日期 交易日期 日付 日付け 날짜",
    "Open": "open o openprice openingprice priceopen openprc dlyopen prcod pxopen opening erster eröffnung eröffn eroffn "
    "eröffnungskurs otwarcie ouverture ouv apertura abertura öppning öppningskurs öppen откр 开盘 开盘价 始値 시가",
    "High": "high h highprice pricehigh askhi dlyhigh prchd pxhigh dayhigh highest hoch tageshoch najwyższy najwyzszy plushaut "
    "haut máximo máxima máx massimo högst högsta hoog yüksek макс max 最高 最高价 高値 高 고가",
    "Low": "low l lowprice pricelow bidlo dlylow prcld pxlow daylow lowest tief tagestief najniższy najnizszy plusbas bas "
    "mínimo mínima mín minimo lägst lägsta laag düşük мин min 最低 最低价 安値 低 저가",
    "Close": "close c closeprice closingprice priceclose closelast closeclosepriceadjustedforsplits dlyclose dlyprc prc prccd "
    "pxlast last lastprice tradelast latest price closing settle settlement schlusskurs schluss schlusspreis zuletzt "
    "zamknięcie zamkniecie clôture clot dernier cierre último ultimo chiusura ostatnio laatste "
    "senaste цена 收盘 收盘价 終値 종가",
    "Volume": "volume vol v sharevolume volumeshares totalvolume tradedvolume volumetraded sharestraded dlyvol cshtrd pxvolume "
    "totaltradedquantity tradedquantity ttltradgvol tottrdqty noofshares numberofshares qty stuecke stück wolumen volumen "
    "umsatz hac объём 成交量 交易量 出来高 거래량 tickvol",
    "Adj Open": "adjopen adjustedopen openadj openadjusted adjustedopenprice",
    "Adj High": "adjhigh adjustedhigh highadj highadjusted adjustedhighprice",
    "Adj Low": "adjlow adjustedlow lowadj lowadjusted adjustedlowprice",
    "Adj Close": "adjclose adjustedclose closeadj closeadjusted adjcloseprice adjustedcloseprice adjustedclosingprice adjusted "
    "adj adjcloseadjustedclosepriceadjustedforsplitsanddividendandorcapitalgaindistributions",
    "Adj Volume": "adjvolume adjustedvolume volumeadj volumeadjusted splitadjustedvolume",
    "Split": "stocksplits stocksplit splitfactor splitratio splitcoefficient split splits",
    "Price Divisor": "cfacpr dlycumfacpr ajexdi",
    "Volume Factor": "cfacshr dlycumfacshr",
    "Total Return": "dlyret ret",
    "Return Factor": "trfd",
    "Ticker": "ticker tickers symbol stocksymbol tic ric sym actsymbol tickersymbol tckrsymb tscode 股票代码",
    "Name": "name stock security code instrument company",
    "Security": "permno permaticker",
}
ROLES = {role: tuple(names.split()) for role, names in _NAMES.items()}
"""Names that columns have, by their part; spelled as :func:`spelling` writes them, the best first."""

_NOT_PRICES = ("unadjustedvolume", "closeunadj", "unadjclose", "adjustmentfactor", "adjfactor", "isadjusted", "adjustflag")
_ADJUSTED_WORDS = ("adj", "totalreturn", "bereinigt", "ajust", "rettific", "調整", "复权", "復権")
_ADJUSTED_NAMES = ("tri", "trclose", "closetr", "trprice", "pricetr")

_BY_SPELLING = {spelt: role for role, names in ROLES.items() for spelt in names}


def spelling(name: str) -> str:
    """Return the name of a column in lowercase letters and digits alone, without a number before it or a currency after it.

    Examples
    --------
    >>> spelling("Close/Last"), spelling("<CLOSE>"), spelling("5. adjusted close"), spelling("Open (USD)")
    ('closelast', 'close', 'adjustedclose', 'open')
    """
    return re.sub(r"[\W_]+", "", _AROUND.sub("", name)).lower()


_AROUND = re.compile(r"^\s*\d+\s*[.:)]\s+|[\[(](?!ADJ|RAW)(?:[A-Z]{3}|[$€£¥])[\])]\s*$")


def known(name: str, chosen: Iterable[str] = ()) -> bool:
    """Return whether this is a name that a column of prices can have, or one that was chosen for it."""
    spelt = spelling(name)
    return spelt in _BY_SPELLING or spelt in map(spelling, chosen)


def looks_adjusted(name: str) -> bool:
    """Return whether a column looks like adjusted prices."""
    spelt = spelling(name)
    words = any(word in spelt for word in _ADJUSTED_WORDS) or spelt in _ADJUSTED_NAMES
    return words and spelt not in _NOT_PRICES and not spelt.startswith("unadj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one vendor writes daily prices."""

    name: str
    columns: frozenset[str]  # spelled names of columns that only this vendor has together
    exact: frozenset[str] = frozenset()  # one of these names must be written like this
    # what Open, High, Low and Close are adjusted for, unless another column adjusts them
    adjusted: Adjusted = "unknown"
    # what the volume is adjusted for: splits, none (as traded), or "same": as the prices of the file are
    volume: Literal["splits", "none", "same"] = "same"
    negative_midpoints: bool = False  # whether a price without a trade is written as a negative number
    no_open: str = ""  # what to do about a file without the column of opening prices; "" if it is like any other column
    note: str = ""  # what a user should know
    source: str = ""  # where that is said; "" if nothing was found, and it rests on the files themselves
    seen: str = ""  # day on which that was looked up, YYYY-MM-DD


def _format(name: str, columns: str, source: str, *, exact: str = "", **facts: object) -> Format:
    names = frozenset(map(spelling, columns.split(",")))
    written = frozenset(filter(None, exact.split(",")))
    return Format(name=name, columns=names, exact=written, source=source, seen="2026-11-28", **facts)  # type: ignore[arg-type]


_CRSP_OPEN = "no column OPENPRC (the opening price), which features need: add it to the query of CRSP's daily file"
FORMATS = (
    _format(
        "eodhd",
        "date,open,high,low,close,adjustedclose,volume",
        "https://eodhd.com/financial-apis/api-for-historical-data-and-volumes",
        exact="Adjusted_close,adjusted_close",
        adjusted="none",
        volume="splits",
    ),
    _format(
        "tiingo", "adjclose,adjvolume,divcash,splitfactor", "https://www.tiingo.com/documentation/end-of-day", adjusted="none"
    ),
    _format(
        "alphavantage",
        "timestamp,adjustedclose,dividendamount,splitcoefficient",
        "https://www.alphavantage.co/documentation/",
        adjusted="none",
    ),
    _format(
        "yahoo",
        "date,open,high,low,close,adjclose,volume",
        "https://help.yahoo.com/kb/SLN2311.html",
        exact="Adj Close",
        adjusted="splits",
    ),
    _format(
        "yahoo page",
        "date,open,high,low,closeclosepriceadjustedforsplits,volume",
        "https://help.yahoo.com/kb/SLN2311.html",
        adjusted="splits",
        volume="splits",
    ),
    _format(
        "yfinance",
        "date,open,high,low,close,volume,dividends,stocksplits",
        "https://ranaroussi.github.io/yfinance/advanced/price_adjustment.html",
        adjusted="all",
        volume="splits",
    ),
    _format(
        "yfinance download",
        "open,high,low,close,volume,tickerline",
        "https://ranaroussi.github.io/yfinance/advanced/price_adjustment.html",
        adjusted="all",
        volume="splits",
    ),
    _format("stooq", "ticker,per,date,open,high,low,close,vol,openint", "", note="its volume moves with dividends too"),
    _format(
        "stooq kaggle",
        "date,open,high,low,close,volume,openint",
        "https://www.kaggle.com/datasets/borismarjanovic/price-volume-data-for-all-us-stocks-etfs",
        adjusted="all",
        note="its volume moves with dividends too",
    ),
    _format("kaggle 5yr", "date,open,high,low,close,volume,name", "", note="Kaggle's all_stocks_5yr is adjusted for splits only"),
    _format("nasdaq", "date,closelast,volume,open,high,low", "", adjusted="splits"),
    _format("investing", "date,price,open,high,low,vol,change", "", adjusted="splits", note="its volume is rounded"),
    _format(
        "polygon",
        "v,o,c,h,l,t",
        "https://massive.com/knowledge-base/article/why-doesnt-a-bar-from-the-rest-api-match-the-flat-files",
        adjusted="splits",
    ),
    _format(
        "polygon files",
        "ticker,open,close,high,low,windowstart,transactions",
        "https://massive.com/knowledge-base/article/why-doesnt-a-bar-from-the-rest-api-match-the-flat-files",
        adjusted="none",
    ),
    _format(
        "ibkr",
        "date,open,high,low,close,volume,average,barcount",
        "https://interactivebrokers.github.io/tws-api/historical_bars.html",
        adjusted="splits",
        note="as TRADES; say adjusted: all for ADJUSTED_LAST",
    ),
    _format(
        "crsp",
        "date,prc,bidlo,askhi",
        "https://www.crsp.org/products/documentation/variables-daily",
        adjusted="none",
        negative_midpoints=True,
        no_open=_CRSP_OPEN,
    ),
    _format(
        "crsp ciz",
        "dlycaldt,dlyprc",
        "https://www.crsp.org/wp-content/uploads/appendix/FlagType_MU.html",
        adjusted="none",
        negative_midpoints=True,
        no_open=_CRSP_OPEN.replace("OPENPRC", "DlyOpen"),
    ),
    _format("compustat", "datadate,prccd,ajexdi", "https://mk0417.github.io/financial-database/class06.html", adjusted="none"),
    _format(
        "wiki",
        "adjopen,adjhigh,adjlow,adjclose,adjvolume,exdividend,splitratio",
        "https://gist.github.com/oiami/2d8229ba2d73a8ef507f3345817e03c5",
        adjusted="none",
    ),
    _format("sharadar", "closeadj,closeunadj", "", adjusted="splits", volume="splits"),
    _format("fmp", "adjclose,unadjustedvolume", "", adjusted="splits", volume="splits"),
    _format(
        "marketstack",
        "adjopen,adjhigh,adjlow,adjclose,adjvolume,splitfactor,exchange",
        "https://docs.rs/marketstack/latest/marketstack/types/struct.EodDataItem.html",
        adjusted="none",
    ),
    _format(
        "alpaca",
        "timestamp,tradecount,vwap",
        "https://docs.alpaca.markets/docs/historical-stock-data-1",
        note="adjusted as the request said",
    ),
    _format("barchart", "time,open,high,low,last,chg", ""),
    _format("nse", "series,prevclose,open,high,low,close", "", adjusted="none"),
    _format(
        "tushare",
        "tscode,tradedate,pctchg,vol",
        "https://tushare.pro/wctapi/documents/27.md",
        adjusted="none",
        note="volume in lots",
    ),
    _format("akshare", "日期,开盘,收盘,最高,最低,成交量", "", note="adjusted as the request said"),
    _format("ariva", "datum,erster,hoch,tief,schlusskurs,stuecke", "", note="adjusted as the request said"),
)
"""Vendors, with where each says how its prices are adjusted."""

PLAIN = Format(name="plain", columns=frozenset())


def recognized(header: Sequence[str], *, tickers: bool) -> Format:
    """Return the vendor whose columns a file has, the one with the most if there are several; else ``PLAIN``."""
    spelt = {*map(spelling, header), *(["tickerline"] if tickers else [])}
    fitting = [one for one in FORMATS if one.columns <= spelt and (not one.exact or one.exact & {*header})]
    return max(fitting, key=lambda one: len(one.columns), default=PLAIN)


def roles(header: Sequence[str], chosen: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """Return the place of each part's column, and what is wrong: columns that are there twice, not at all, or for two parts.

    ``chosen`` names columns for parts, as ``prices.columns`` in ``params.yaml`` does.
    """
    spelt, wrong = [spelling(name) for name in header], []
    places: dict[str, int] = {}
    for role, names in ROLES.items():
        wanted: Iterable[str] = [spelling(chosen[role])] if role in chosen else names
        for name in wanted:
            found = [n for n, one in enumerate(spelt) if one == name]
            if len(found) > 1:
                wrong.append(f"more than one column {header[found[0]]}")
            if found:
                places[role] = found[0]
                break
        else:
            if role in chosen:
                wrong.append(f"no column {chosen[role]} (prices.columns in params.yaml names it as {role})")
    if "Date" not in places and spelt and spelt[0] in {"", "unnamed0", "index"}:
        places["Date"] = 0
    if "Close" not in places and all(adjusted in places for name, adjusted in ADJUSTED.items() if name != "Volume"):
        places |= {name: places.pop(adjusted) for name, adjusted in ADJUSTED.items() if name not in places and adjusted in places}
    parts = [role for role in ("Date", *COLUMNS) if role in places]
    twice = next((role for n, role in enumerate(parts) if places[role] in {places[one] for one in parts[:n]}), None)
    if twice:
        wrong.append(f"the column {header[places[twice]]} cannot be {twice} and another part too (prices.columns in params.yaml)")
    return places, wrong
