#!/bin/sh
# Every Saturday: train, register, promote the symbols of tickers.txt. Keep both next to params.yaml.
# One that fails does not stop the next. Exit status: that of the last one that failed.
cd "$(dirname "$0")" || exit
PATH="$PWD/.venv/bin:$PATH"
status=0

fx run train --symbols @tickers.txt || status=$?
fx run register --symbols @tickers.txt || status=$?
fx run promote --symbols @tickers.txt -p apply true || status=$?

exit "$status"
