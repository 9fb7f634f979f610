#!/usr/bin/env bash
# A fitted random forest of scikit-learn gives other last digits for the same input, from call to call, if n_jobs is not 1.
#
# With random_state fixed, and one fitted forest in one process, the same forecast can be expected each time. The trees are
# summed by the threads in the order in which they finish, so that the last bits change. Whoever verifies a stored or
# converted model by bit-equal forecasts refuses a forest that nobody changed; with n_jobs=1 all calls agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.ensemble import RandomForestRegressor

rng = np.random.default_rng(0)
days, returns = rng.normal(size=(3000, 45)), 0.01 * rng.normal(size=3000)
forest = RandomForestRegressor(100, max_depth=8, random_state=0).fit(days, returns)
print(f"scikit-learn {sklearn.__version__}; expected: 50 calls of predict on the same 3,000 days agree, whatever n_jobs is")
others = {}
for jobs in (1, 2):
    first = forest.set_params(n_jobs=jobs).predict(days)
    again = [forest.predict(days) for _ in range(50)]
    others[jobs] = sum(not np.array_equal(forecast, first) for forecast in again)
    off = max(float(np.abs(forecast - first).max()) for forecast in again)
    print(f"n_jobs={jobs}: {others[jobs]} of 50 calls differ from the first one, by up to {off:.1e}")
if others[1] or not others[2]:
    raise SystemExit("this finding no longer holds")
PYTHON
