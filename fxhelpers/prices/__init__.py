"""Daily prices of one share: read from what vendors write, adjusted and checked; and columns of the user's own, by day."""

from fxhelpers.prices._extra import DATE, check_columns, columns_on, read_columns
from fxhelpers.prices._finding import PriceFinding
from fxhelpers.prices._formats import COLUMNS, FORMATS
from fxhelpers.prices._kept import (
    KeptPrices,
    Restatement,
    extend_prices,
    keep_prices,
    pack_prices,
    restatement,
    unpack_prices,
)
from fxhelpers.prices._kept_columns import changed_columns, extend_columns, keep_columns, unpack_columns
from fxhelpers.prices._moves import largest_moves
from fxhelpers.prices._packing import as_days, day_bytes, pack, unpack
from fxhelpers.prices._sessions import last_session, next_session, previous_session, session_open, sessions_of, sessions_since
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
