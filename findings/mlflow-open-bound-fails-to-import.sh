#!/usr/bin/env bash
# MLflow 3.8.1, installed today as it was when it came out, fails on every database.
#
# A release that is pinned, and asks for sqlalchemy>=1.4.0,<3, can be expected to work with what pip finds for it. pip finds
# SQLAlchemy 2.1, and `pip check` has no objection; but that has no FallbackAsyncAdaptedQueuePool any more, which this release
# imports as soon as it is given a database. To pin MLflow alone does not keep a service running: pin SQLAlchemy<2.1 with it.
set -euo pipefail
export MLFLOW_DISABLE_TELEMETRY=true
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() {
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
}
cd "$folder"
cat > ask.py <<'PYTHON'
from importlib.metadata import version

import mlflow

try:
    said = f"{len(mlflow.MlflowClient('sqlite:///m.db').search_experiments())} experiment"
except ImportError as error:
    said = f"ImportError: {str(error).split(' from ')[0]}"
print(f"mlflow {version('mlflow')}, SQLAlchemy {version('SQLAlchemy')}: {said}")
PYTHON
echo "expected: a new database has one experiment, the default, with either SQLAlchemy"
for release in 2.1.9 2.0.45; do
  install mlflow==3.8.1 SQLAlchemy==$release
  venv/bin/pip check --disable-pip-version-check > check.txt
  venv/bin/python ask.py 2> err.txt | sed 's/^/seen: /' | tee $release.txt
done
grep -q "ImportError: cannot import name 'FallbackAsyncAdaptedQueuePool'" 2.1.9.txt
grep -q ": 1 experiment" 2.0.45.txt
