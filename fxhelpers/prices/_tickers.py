"""Tickers as people and vendors write them: with an exchange, and with other punctuation."""

import re
from collections.abc import Sequence

from fxhelpers.params import nearest

_MOST_NAMED = 8
_EXCHANGE = re.compile(
    r"[.-](?:US|UK|LN|L|O|OQ|N|K|F|T|DE|PA|AS|MI|SW|TO|HK|AX|NS|BO|SS|SZ|KS|KQ|TW|SA|MX|ST|CO|HE|OL|BR|LS|MC|VI|IR|WA|JK|SI|BK|KL|NZ|JO|"
    r"IS|TA|PK|NASDAQ|NYSE|LSE|XETRA)$"
)


def bare_ticker(text: str) -> str:
    """Return a ticker without the exchange before or after it, as in ``NASDAQ:AAPL`` and ``AAPL US Equity``."""
    return text.rpartition(":")[2].partition(" ")[0]


def without_exchange(text: str) -> str:
    """Return a ticker without the exchange at its end, as in ``AAPL.US``."""
    return _EXCHANGE.sub("", text)


def plain_ticker(text: str) -> str:
    """Return a ticker in capitals and without punctuation, so that ``BRK.B`` and ``BRK-B`` are the same."""
    return re.sub(r"[^A-Z0-9^=]", "", text.upper())


def ticker_forms(text: str) -> set[str]:
    """Return how a ticker may be written elsewhere: without an exchange, and with other punctuation."""
    plain = text.strip().upper()
    bare = bare_ticker(plain)
    bases = {plain, bare, without_exchange(bare), plain.rpartition("/")[2]}
    return set(map(plain_ticker, bases)) - {""}


def which_ticker(symbol: str, tickers: Sequence[str]) -> tuple[str, str]:
    """Return which of a table's tickers a symbol is, and a message if it is none, or several."""
    exact = [ticker for ticker in tickers if ticker.upper() == symbol.upper()]
    plain = plain_ticker(symbol)
    fitting = exact or [ticker for ticker in tickers if plain in ticker_forms(ticker) or ticker.upper() in ticker_forms(symbol)]
    if len(fitting) == 1 or not tickers:
        return (fitting or [""])[0], ""
    if fitting:
        could = ", ".join(fitting[:_MOST_NAMED])
        return "", f"several tickers in it could be {symbol}: {could}; ask for one of them by its whole name"
    held = listed(sorted(tickers), _MOST_NAMED)
    return "", f"it holds {held}, not {symbol}{nearest(symbol, tickers)}: another share's file; if not, remove the column"


def listed(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many there are besides."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
