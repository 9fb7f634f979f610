"""The champion in service: by MLflow's own server, and by the service of the README."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import uvicorn
from conftest import NAME, ROOT, Project
from servers import free_port

from fxhelpers import ModelRegistry, load_prices
from fxhelpers.errors import FxError
from fxhelpers.training import supervised


@pytest.fixture
def features(project: Project) -> pd.DataFrame:
    return supervised(load_prices("AAPL", ModelRegistry().params.prices))[0].tail(3)


@pytest.mark.usefixtures("thorough")
def test_mlflows_own_server_answers_with_the_champions_forecasts(
    project: Project, registered: Callable[..., int], features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("regularised", stage="Production")
    champion = ModelRegistry().load_champion("AAPL")
    assert champion is not None
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ModelRegistry().params.mlflow.tracking_uri)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # as in an activated environment
    command = ["models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local", "--port", str(port)]
    with (project.folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *command], stdout=log, stderr=log)
    try:
        answer = ask(f"http://127.0.0.1:{port}", features, server)
        unnamed = {"inputs": features.to_numpy().tolist()}
        refused = requests.post(f"http://127.0.0.1:{port}/invocations", json=unnamed, timeout=30)
    finally:
        server.terminate()
        server.wait(30)
    np.testing.assert_array_equal(answer, champion.pipeline.predict(features))
    assert (refused.status_code, "missing inputs" in refused.text) == (400, True)


def ask(uri: str, features: pd.DataFrame, server: subprocess.Popen[bytes]) -> list[float]:
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            answer = requests.post(
                f"{uri}/invocations", json={"dataframe_split": features.reset_index(drop=True).to_dict("split")}, timeout=10
            )
        except requests.ConnectionError:
            time.sleep(0.2)
            continue
        assert answer.ok, answer.text
        return [float(value) for value in answer.json()["predictions"]]
    raise AssertionError(server.returncode)


@pytest.fixture
def service(project: Project) -> Iterator[str]:
    """The service that the README shows, as it is written there."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "FastAPI" in block]
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 (our own page)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(names["app"], port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/predict"
    server.should_exit = True
    thread.join(10)


def test_the_readmes_service_picks_up_a_promotion_without_a_restart(
    service: str, registered: Callable[..., int], features: pd.DataFrame
) -> None:
    row = features.iloc[-1].to_dict()
    nobody = requests.post(f"{service}/AAPL", json=row, timeout=30)
    assert (nobody.status_code, "no version of AAPL is in Production" in nobody.text) == (404, True)
    for model in ("original", "regularised"):
        version = registered(model, stage="Production")
        champion = ModelRegistry().load_champion("AAPL")
        assert champion is not None
        told = requests.post(f"{service}/AAPL", json=row, timeout=30).json()
        assert told == {"symbol": "AAPL", "version": version, "next_day_return": champion.pipeline.predict(features.tail(1))[0]}
    shuffled = requests.post(f"{service}/AAPL", json=dict(reversed(row.items())), timeout=30).json()
    assert shuffled == told
    incomplete = requests.post(f"{service}/AAPL", json={features.columns[0]: 0.0}, timeout=30)
    assert (incomplete.status_code, features.columns[1] in incomplete.text) == (422, True)
    wrong = requests.post(f"{service}/..%5Cx", json=row, timeout=30)
    assert (wrong.status_code, "is not a ticker" in wrong.text) == (400, True)


def test_a_service_may_ask_from_many_threads(
    project: Project, registered: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials are lent to the environment of the whole process: threads once took each other's away."""
    registered("regularised", stage="Production")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    remote, local = ModelRegistry(), ModelRegistry
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    here = local()

    def look(number: int) -> bool:
        try:
            return (remote if number % 4 == 0 else here).get_production_model(NAME) is not None
        except FxError:
            return False

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(look, range(16)))
    assert found == [number % 4 != 0 for number in range(16)]
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
