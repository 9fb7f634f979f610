#!/usr/bin/env bash
# arch's test for superior predictive ability answers p = 0 where there is nothing to compare.
#
# A challenger whose losses are the benchmark's own has no advantage at any level, so p should be 1, or an error raised.
# The variance of the difference is 0 there, and the p-value comes out as 0: the strongest evidence there is. One NaN among
# the losses does the same. So losses have to be finite, and their differences to vary, before SPA is asked.
set -euo pipefail
packages="arch==8.0.0 numpy==2.3.5 pandas==3.0.0 scipy==1.16.3 statsmodels==0.15.0"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check $packages 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from arch.bootstrap import SPA

warnings.simplefilter("ignore")
losses = np.random.default_rng(1).standard_normal(500) ** 2
gap = losses[:, None] * 1.1
gap[7] = np.nan


def p(models):
    test = SPA(losses, models, reps=1000, seed=1)
    test.compute()
    return float(test.pvalues["consistent"])


found = {"the same losses": p(losses[:, None]), "worse losses, one of them NaN": p(gap), "worse losses": p(losses[:, None] * 1.1)}
print(f"arch {version('arch')}")
print("expected: p = 1 or an error for each of them")
for case, value in found.items():
    print(f"seen: {case}: p = {value:g}")
assert found["the same losses"] == 0.0
assert found["worse losses, one of them NaN"] == 0.0
assert found["worse losses"] > 0.3
PYTHON
