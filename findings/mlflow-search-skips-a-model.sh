#!/usr/bin/env bash
# A reader of MLflow's model registry who turns the page while a model is deleted never sees another one.
#
# The token of the next page can be expected to say where the last page ended. It says how many models to skip, in the order of
# their names. So a model of the first page that is deleted, or renamed to the end, moves the rest up by one: the first of the
# next page is skipped, though nobody touched it. One that is created shows another twice. Runs page likewise. To act on
# what a listing lacks, read it in one page (max_results up to 1000), or ask for the model itself.
set -euo pipefail
export MLFLOW_DISABLE_TELEMETRY=true
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2 SQLAlchemy==2.1.9 2> "$folder/pip.log" \
  || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
"$folder/venv/bin/python" 2> err.txt - <<'PYTHON' || { cat err.txt; exit 1; }
import mlflow

client = mlflow.MlflowClient("sqlite:///registry.db")
for name in "abcdef":
    client.create_registered_model(name)


def read(meanwhile):
    page = client.search_registered_models(max_results=2)
    names = [model.name for model in page]
    meanwhile()
    while page.token:
        page = client.search_registered_models(max_results=2, page_token=page.token)
        names += [model.name for model in page]
    return " ".join(names)


print(f"mlflow {mlflow.__version__}")
print("expected: whatever happens to a model of the first page, c, d, e and f are read, once each")
quiet = read(lambda: None)
deleted = read(lambda: client.delete_registered_model("a"))
created = read(lambda: client.create_registered_model("a"))
renamed = read(lambda: client.rename_registered_model("a", "z"))
print(f"seen: nothing happens: {quiet}")
print(f"seen: a is deleted after the first page: {deleted}")
print(f"seen: a is created after the first page: {created}")
print(f"seen: a is renamed to z after the first page: {renamed}")
assert quiet == "a b c d e f"
assert deleted == "a b d e f"
assert created == "b c c d e f"
assert renamed == "a b d e f z"
PYTHON
