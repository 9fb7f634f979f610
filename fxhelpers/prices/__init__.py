"""Daily prices of one share: read from what vendors write, adjusted for splits and dividends, and checked."""

from fxhelpers.prices._finding import PriceFinding
from fxhelpers.prices._formats import COLUMNS, FORMATS
from fxhelpers.prices._kept import KeptPrices, Restatement, pack_prices, restatement, unpack_prices
from fxhelpers.prices._moves import largest_moves
from fxhelpers.prices._sessions import sessions_since
from fxhelpers.prices._share import (
    ADJUSTED,
    MINIMUM_DAYS,
    SharePrices,
    describe_prices,
    examine_prices,
    load_prices,
    prices_digest,
    read_prices,
)
from fxhelpers.prices._sources import SOURCES, find_file, known_symbols
