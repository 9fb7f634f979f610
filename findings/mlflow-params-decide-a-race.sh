#!/usr/bin/env bash
# A parameter of an MLflow run can be used to settle, once and for good, which of several processes may go on.
#
# That a parameter cannot be changed is described; that it holds between processes that log it at the same time is not, and
# with a check before a write two of them could both be let through. But the database's primary key decides: one process wins,
# the rest are refused with the winner's value, and nobody can take it away. So log_param with a value of one's own is a
# lock without a server of locks. log_param of the same value again is no error: the values have to differ.
set -euo pipefail
export MLFLOW_DISABLE_TELEMETRY=true
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2 SQLAlchemy==2.1.9 2> "$folder/pip.log" \
  || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat > race.py <<'PYTHON'
import multiprocessing

import mlflow


def race(worker, runs, start, answers):
    client = mlflow.MlflowClient("sqlite:///race.db")
    for run in runs:
        start.wait()
        try:
            client.log_param(run, "owner", worker)
        except mlflow.exceptions.MlflowException as error:
            answers.put((run, str(worker), str(error)))
        else:
            answers.put((run, str(worker), None))


if __name__ == "__main__":
    client = mlflow.MlflowClient("sqlite:///race.db")
    experiment = client.create_experiment("race")
    runs = [client.create_run(experiment).info.run_id for _ in range(10)]
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(6), spawn.Queue()
    processes = [spawn.Process(target=race, args=(worker, runs, start, answers), daemon=True) for worker in range(6)]
    for process in processes:
        process.start()
    told = [answers.get(timeout=120) for _ in range(60)]
    for process in processes:
        process.join()
    winners = [[worker for run, worker, error in told if run == this and error is None] for this in runs]
    errors = [error for _, _, error in told if error is not None]
    print(f"mlflow {mlflow.__version__}")
    print("expected: of six processes at once, now and then more than one is let through")
    print(f"seen: let through in each of ten races: {[len(names) for names in winners]}, refused: {len(errors)}")
    assert winners == [[client.get_run(run).data.params["owner"]] for run in runs]
    assert all("Changing param values is not allowed" in error for error in errors)
PYTHON
venv/bin/python race.py 2> err.txt || { cat err.txt; exit 1; }
