#!/usr/bin/env bash
# MLflow with basic-auth forbids a reader to look at a model that does not exist, but tells that it does not exist.
#
# A user with the default permission READ may read every model, and is told 404 for an unknown one. Its versions, their URIs and
# its aliases can be expected to be 404 too, as they are for an admin. They are 403 "Permission denied". So a client that asks
# for an alias and takes 403 for a lack of rights sends its user to the admin because of a typing error, and one that
# creates what is missing on 404 never does. Ask registered-models/get first: it hides nothing.
set -euo pipefail
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_AUTH_ADMIN_PASSWORD=admin-long-enough MLFLOW_FLASK_SERVER_SECRET_KEY=key
packages="mlflow==3.17.2 SQLAlchemy==2.1.9 Flask-WTF==1.3.0"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check $packages 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
port=$(python3 -c 'import socket; free = socket.socket(); free.bind(("127.0.0.1", 0)); print(free.getsockname()[1])')
venv/bin/python -m mlflow server --app-name basic-auth --backend-store-uri sqlite:///m.db --workers 1 --port "$port" > server.log 2>&1 &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$folder"' EXIT
ask() {  # USER PATH [what else curl takes]: the status
  curl --silent --noproxy '*' --output answer.txt --write-out '%{http_code}' --user "$1:$1-long-enough" "${@:3}" \
    "http://127.0.0.1:$port/$2" || true
}
for _ in $(seq 360); do
  [ "$(ask admin health)" = 200 ] && break
  kill -0 $server || { cat server.log; exit 2; }
  sleep 0.5
done
api=api/2.0/mlflow
reader='{"username": "reader", "password": "reader-long-enough"}'
[ "$(ask admin $api/users/create --header 'Content-Type: application/json' --data "$reader")" = 200 ]
echo "mlflow $(venv/bin/python -c 'from importlib.metadata import version; print(version("mlflow"))')"
echo "expected: 404 for whatever is asked of a model that does not exist"
for user in admin reader; do
  model=$(ask $user "$api/registered-models/get?name=missing")
  number=$(ask $user "$api/model-versions/get?name=missing&version=1")
  alias=$(ask $user "$api/registered-models/alias?name=missing&alias=champion")
  echo "seen: $user: the model $model, its version $number, its alias $alias ($(head -c 60 answer.txt))"
  [ "$model $number $alias" = "$([ $user = admin ] && echo 404 404 404 || echo 404 403 403)" ]
done
