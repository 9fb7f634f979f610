"""One notebook for many symbols, on this machine or on a Dask cluster, with one record of the batch."""

from fxhelpers.batch._batch import Batch, keep_portfolio, run_family
from fxhelpers.batch._run import display, read_symbols
