"""The champion in service: by MLflow's own server, and by the service of docs/serving.md."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import uvicorn
from conftest import NAME, ROOT, Project
from proxies import black_hole
from servers import free_port
from test_extra import INDEX, bundle_of, own

from fxhelpers import Champions, ModelRegistry, features_for, load_prices, read_prices
from fxhelpers.errors import FeaturesError, FxError, NoChampionError
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
def service(project: Project) -> Iterator[tuple[str, Champions]]:
    """The service that docs/serving.md shows, as it is written there."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "FastAPI" in block]
    names: dict[str, Any] = {}
    exec(compile(block, "serving.md", "exec"), names)  # noqa: S102 (our own page)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(names["app"], port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/predict", names["champions"]
    server.should_exit = True
    thread.join(10)


def test_the_documented_service_picks_up_a_promotion_without_a_restart(
    service: tuple[str, Champions], registered: Callable[..., int], features: pd.DataFrame
) -> None:
    uri, champions = service
    champions.seconds = 0
    row = features.iloc[-1].to_dict()
    nobody = requests.post(f"{uri}/AAPL", json=row, timeout=30)
    assert (nobody.status_code, "no version of AAPL is in Production" in nobody.text) == (404, True)
    for model in ("original", "regularised"):
        version = registered(model, stage="Production")
        champion = ModelRegistry().load_champion("AAPL")
        assert champion is not None
        told = requests.post(f"{uri}/AAPL", json=row, timeout=30).json()
        assert datetime.now(UTC) - datetime.fromisoformat(told.pop("asked")) < timedelta(seconds=30)
        assert told == {
            "symbol": "AAPL",
            "version": version,
            "next_day_return": champion.pipeline.predict(features.tail(1))[0],
            "registry_away": None,
        }
    shuffled = requests.post(f"{uri}/AAPL", json=dict(reversed(row.items())), timeout=30).json()
    assert shuffled["next_day_return"] == told["next_day_return"]
    wrong = requests.post(f"{uri}/..%5Cx", json=row, timeout=30)
    assert (wrong.status_code, "is not a ticker" in wrong.text) == (400, True)
    for instead, says in [
        ({features.columns[1]: None}, f"are missing: {features.columns[1]}"),
        ({features.columns[0]: float("nan")}, f"{features.columns[0]} is nan, expected -"),
        ({features.columns[0]: float("inf")}, f"{features.columns[0]} is inf, expected -"),
        ({features.columns[0]: -1e6}, f"{features.columns[0]} is -1e+06, expected -"),
    ]:
        asked = {name: value for name, value in {**row, **instead}.items() if value is not None}
        refused = requests.post(f"{uri}/AAPL", data=json.dumps(asked), headers={"Content-Type": "application/json"}, timeout=30)
        assert (refused.status_code, says in refused.json()["error"]) == (422, True), refused.text


def test_the_documented_service_serves_on_while_the_registry_is_away(
    service: tuple[str, Champions], registered: Callable[..., int], features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, champions = service
    row = features.iloc[-1].to_dict()
    registered("regularised", stage="Production")
    here = champions.registry
    first = requests.post(f"{uri}/AAPL", json=row, timeout=30).json()
    with black_hole() as hung:
        for away in (hung, f"http://127.0.0.1:{free_port()}"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
            champions.registry, champions.seconds, champions.patience = ModelRegistry(), 0, 0.1
            start = time.monotonic()
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda _: requests.post(f"{uri}/AAPL", json=row, timeout=30), range(16)))
            assert time.monotonic() - start < 5
            assert [answer.status_code for answer in answers] == [200] * 16
            last = answers[-1].json()
            assert (last["next_day_return"], last["asked"]) == (first["next_day_return"], first["asked"])
            assert "no answer" in last["registry_away"] or "does not answer" in last["registry_away"]
            unknown = requests.post(f"{uri}/MSFT", json=row, timeout=30)
            assert (unknown.status_code, away in unknown.text) == (503, True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    champions.registry, champions.patience = here, 10
    for _ in range(20):  # the last question to the registry that is away may still be open
        again = requests.post(f"{uri}/AAPL", json=row, timeout=30).json()
        if again["registry_away"] is None:
            break
        time.sleep(0.5)
    assert again["registry_away"] is None
    assert again["asked"] > first["asked"]


def test_the_documented_service_forecasts_from_the_symbol_alone(
    service: tuple[str, Champions], registered: Callable[..., int], features: pd.DataFrame
) -> None:
    uri, champions = service
    champions.seconds, uri = 0, uri.replace("/predict", "/forecast")
    nobody = requests.get(f"{uri}/AAPL", timeout=30)
    assert (nobody.status_code, "no version of AAPL is in Production" in nobody.text) == (404, True)
    prices = read_prices("AAPL", ModelRegistry().params.prices)
    for model in ("original", "regularised"):
        version = registered(model, stage="Production")
        champion = ModelRegistry().load_champion("AAPL")
        assert champion is not None
        told = requests.get(f"{uri}/AAPL", timeout=30).json()
        assert datetime.now(UTC) - datetime.fromisoformat(told.pop("asked")) < timedelta(seconds=30)
        assert told == {
            "symbol": "AAPL",
            "version": version,
            "as_of": "2013-03-01",
            "next_day_return": champion.forecast(features_for(prices, champion).iloc[-1].to_dict()),
            "registry_away": None,
        }
    assert told["as_of"] > f"{features.index[-1]:%Y-%m-%d}"  # the newest day, whose target nobody knows
    wrong = requests.get(f"{uri}/..%5Cx", timeout=30)
    assert (wrong.status_code, "is not a ticker" in wrong.text) == (400, True)


@pytest.mark.usefixtures("thorough")
def test_the_documented_service_takes_new_prices_and_columns_of_the_users_own_as_they_come(
    service: tuple[str, Champions], project: Project
) -> None:
    uri, champions = service
    uri = uri.replace("/predict", "/forecast")
    path = own(project, INDEX)
    assert project.registry().register_model(bundle_of(project), stage="Production").stage == "Production"
    champions.seconds = 0
    first = requests.get(f"{uri}/AAPL", timeout=30).json()
    own(project, INDEX.assign(ibm=INDEX["ibm"].mask(INDEX.index == INDEX.index[-1], 0.03)))
    second = requests.get(f"{uri}/AAPL", timeout=30).json()
    assert (first["as_of"], second["as_of"]) == ("2013-03-01", "2013-03-01")
    assert first["next_day_return"] != second["next_day_return"]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    late = requests.get(f"{uri}/AAPL", timeout=30)
    assert (late.status_code, "it ends on 2013-02-28, prices end on 2013-03-01" in late.text) == (422, True)


def test_a_champion_is_asked_for_once_in_some_seconds(
    project: Project, registered: Callable[..., int], features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("regularised", stage="Production")
    champions = Champions(ModelRegistry(), seconds=60)
    first = champions.of("AAPL")
    assert ModelRegistry().rollback("AAPL", to="none", reason="out", apply=True).to_version is None
    with ThreadPoolExecutor(8) as threads:
        assert {served.asked for served in threads.map(champions.of, ["AAPL"] * 16)} == {first.asked}
    champions.seconds = 0
    with pytest.raises(NoChampionError, match="no version of AAPL is in Production"):
        champions.of("AAPL")


def test_a_version_without_ranges_takes_what_its_scaler_can_have_seen(
    project: Project, registered: Callable[..., int], features: pd.DataFrame
) -> None:
    registered("regularised", stage="Production")
    champion = ModelRegistry().load_champion("AAPL")
    assert champion is not None
    older = replace(champion, facts={key: value for key, value in champion.facts.items() if key != "feature_ranges"})
    row = features.iloc[-1].to_dict()
    assert older.forecast(row) == champion.forecast(row)
    (low, high), (lowest, highest) = champion.ranges, older.ranges
    inside, _ = supervised(load_prices("AAPL", ModelRegistry().params.prices))
    seen = inside.loc[champion.facts["windows"]["training"]["first_day"] : champion.facts["windows"]["training"]["last_day"]]
    assert (low < seen.min()).all()
    assert (high > seen.max()).all()
    assert (lowest <= seen.min()).all()
    assert (highest >= seen.max()).all()
    with pytest.raises(FeaturesError, match=r"is 1e\+06, expected"):
        older.forecast({**row, features.columns[3]: 1e6})


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
