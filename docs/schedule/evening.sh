#!/bin/sh
# Every evening after the close: new prices, forecast, watch. Keep it next to params.yaml.
# One that fails does not stop the next. Exit status: that of the last one that failed; 5 is an alarm of fx watch.
cd "$(dirname "$0")" || exit
PATH="$PWD/.venv/bin:$PATH"
status=0

if [ -x ./new-prices ]; then  # your program that fetches price files, with prices.source: csv
    ./new-prices || status=1
fi
fx forecast || status=$?
fx watch || status=$?

exit "$status"
