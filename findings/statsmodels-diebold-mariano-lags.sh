#!/usr/bin/env bash
# statsmodels' Diebold-Mariano test of one-step forecasts takes ten lags where the textbook takes none.
#
# Errors of an optimal forecast h steps ahead are correlated over h - 1 lags, so Diebold and Mariano (1995) estimate the
# variance of the loss difference with h - 1 autocovariances: with none for h = 1. The default here is the larger of h - 1 and
# the cube root of the number of days, rounded up. On 800 independent days that is 10, and p moves. lags=0 is the textbook's.
set -euo pipefail
packages="statsmodels==0.15.0 numpy==2.3.5 pandas==3.0.0 scipy==1.16.3"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check $packages 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from statsmodels.tsa.stattools import diebold_mariano_test

draw = np.random.default_rng(4)
actual = draw.standard_normal(800)
first, second = actual - draw.standard_normal(800), actual - 1.05 * draw.standard_normal(800)
difference = (actual - first) ** 2 - (actual - second) ** 2
textbook = difference.mean() / np.sqrt(difference.var() / 800)
default = diebold_mariano_test(actual, first, second, horizon=1, harvey_adj=False)
none = diebold_mariano_test(actual, first, second, horizon=1, harvey_adj=False, lags=0)
print(f"statsmodels {version('statsmodels')}")
print(f"expected: statistic {textbook:.4f}, that of the textbook for one step ahead")
print(f"seen: by default {float(default.statistic):.4f}, with lags=0 {float(none.statistic):.4f}")
assert abs(float(none.statistic) - textbook) < 1e-9
assert abs(float(default.statistic) / textbook - 1) > 0.01
PYTHON
