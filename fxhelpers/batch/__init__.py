"""One notebook for many symbols, on this machine or on a Dask cluster, with one record of the batch."""

from fxhelpers.batch._batch import Batch, keep_portfolio, send_message
from fxhelpers.batch._run import display, read_symbols
from fxhelpers.batch._together import run_family, run_pooled
