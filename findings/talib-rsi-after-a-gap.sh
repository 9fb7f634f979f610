#!/usr/bin/env bash
# TA-Lib's RSI reads 0, "oversold", on every bar after a single missing price.
#
# An indicator over a window of 14 bars can be expected to be NaN for as long as the gap is in its window, as pandas' rolling
# functions are, or, since Wilder's average has no end, NaN for good. 0.6.8 gives NaN for good. 0.8.2 gives 0.0 for good,
# which is a value of the indicator, and its strongest one. A series with a gap has to be refused or filled before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for release in 0.6.8 0.8.2; do
  python3 -m venv "$folder/$release"
  "$folder/$release/bin/pip" install --quiet --disable-pip-version-check "TA-Lib==$release" numpy==2.3.5 2> "$folder/pip.log" \
    || { cat "$folder/pip.log"; exit 2; }
  "$folder/$release/bin/python" - <<'PYTHON'
import numpy as np
import talib

prices = 100 + np.cumsum(np.random.default_rng(1).standard_normal(300))
whole = talib.RSI(prices, 14)
prices[100] = np.nan
after = talib.RSI(prices, 14)[101:]
print(f"TA-Lib {talib.__version__}: without the gap the last value is {whole[-1]:.2f}")
print("expected: NaN after the gap, or values again once it left the window")
print(f"seen: {len(after)} bars after the gap, of which NaN {np.isnan(after).sum()}, zero {(after == 0).sum()}")
if talib.__version__ == "0.8.2":
    assert (after == 0).all()
else:
    assert np.isnan(after).all()
PYTHON
done
