"""One notebook over many symbols, on this machine's cores or on a cluster, with one record of all of it."""

from fxhelpers.batch.family import run_family
from fxhelpers.batch.one import Outcome
from fxhelpers.batch.progress import Display
from fxhelpers.batch.running import Batch, keep_portfolio
from fxhelpers.batch.symbols import read_symbols

__all__ = ["Batch", "Display", "Outcome", "keep_portfolio", "read_symbols", "run_family"]
