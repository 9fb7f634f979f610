"""Forecasts of the next session by what serves: made, put on record before it opens, and written for a desk."""

from fxhelpers.forecasts._beside import LiveStanding, LiveStandings, live_standings
from fxhelpers.forecasts._evening import FILE_COLUMNS, Forecasts, forecast
from fxhelpers.forecasts._log import CHAMPION, PREDECESSOR, Log, read_log
from fxhelpers.forecasts._watch import EARLIER_FILE, WATCH_FILE, WORDS, Watch, WatchedSymbol, watch_symbols
