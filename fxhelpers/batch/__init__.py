"""One notebook over many symbols, on this machine's cores or on a cluster, with one record of all of it."""

from fxhelpers.batch._one import Display
from fxhelpers.batch._running import Batch, keep_portfolio, run_family
from fxhelpers.batch._symbols import read_symbols

__all__ = ["Batch", "Display", "keep_portfolio", "read_symbols", "run_family"]
