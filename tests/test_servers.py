"""A registry behind a server: today's over PostgreSQL, or with ``--older-mlflow`` an older one; and networks that fail."""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import faults
import psutil
import pytest
from conftest import NAME, ROOT, Project
from proxies import Proxy, black_hole, proxy_to
from servers import FX, Server, free_port

from fxhelpers import ModelRegistry
from fxhelpers.audit.verify import verify
from fxhelpers.bundles import Bundle
from fxhelpers.errors import FxError, RegistryError, RegistryUnavailableError, VersionReplacedError
from fxhelpers.records import SUMMARY_MIME, read_summary
from fxhelpers.registry.models import load_version
from fxhelpers.registry.storage import registered_models
from fxhelpers.runs import run_notebook

STEPS = ("train", "evaluate", "register", "compare", "promote", "rollback", "retain", "history")
FAULTS = ("drop", "lose", "mute", "gone", "twice", "page", "torn", "empty", "503", "nothing", "nobody")
CREATE = "/model-versions/create"
ALIAS = "/registered-models/alias"
POINTS = (CREATE, ALIAS, "/mlflow-artifacts/", "/runs/create", "/runs/log-batch")
WORST = {"lose": (CREATE,), "mute": (ALIAS,), "twice": (CREATE,), "nothing": (ALIAS,)}
"""What `make test` tries; `make test-servers` tries all of these, and `make stress` each request."""


@pytest.fixture
def proxy(team_server: str) -> Iterator[Proxy]:
    with proxy_to(team_server) as found:
        yield found


@pytest.fixture
def remote(project: Project, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModelRegistry]:
    """A registry behind the proxy, new each time: nothing is remembered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    return lambda: ModelRegistry(project.folder / "params.yaml")


def name_of(symbol: str) -> str:
    return ModelRegistry.model_name(symbol)


def at_one_point(fault: str, at: str | int, proxy: Proxy) -> Callable[[int, str, str], str | None]:
    """Let the n-th request from now on fail, or the first change of a kind.

    ``mute``: the answers to all changes of that kind are lost; ``gone``: that
    one is still carried out, and nothing after it.
    """
    hit, start = threading.Event(), len(proxy.seen)

    def failing(number: int, method: str, path: str) -> str | None:
        chosen = number - start == at if isinstance(at, int) else at in path and method != "GET"
        if hit.is_set():
            return "drop" if fault == "gone" else "lose" if fault == "mute" and chosen else None
        if chosen:
            hit.set()
            return "lose" if fault in {"gone", "mute"} else fault
        return None

    return failing


def settled(registry: ModelRegistry, name: str, bundle: Bundle) -> None:
    """One version of this bundle, which is the only champion, and a history without a flaw."""
    versions = registry.get_model_versions(name)
    (ours,) = [v for v in versions if v.tags.get("fx.bundle_sha256") == bundle.digest]
    assert [v.version for v in versions if v.mirror == "Production"] == [ours.version]
    champion = registry.get_production_model(name)
    assert champion is not None
    assert champion.version == ours.version
    load_version(registry.client, name, ours.version)
    assert not verify(registry.client, name, deep=True).problems
    assert f"fx-lock.{name}" not in registered_models(registry.client, "")


def began(record: Path) -> str:
    return str(json.loads(record.read_text())["metadata"]["fxhelpers"]["record"]["started"])


@pytest.mark.usefixtures("thorough")
def test_every_notebook_by_the_uri_alone_and_no_secret_stays_anywhere(
    project: Project, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, team_folder: Path
) -> None:
    planted = {name: f"S3CR3T-{name}-{time.time_ns():x}" for name in ("uri", "DAGSHUB_TOKEN", "dotenv", "AWS_SECRET_ACCESS_KEY")}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri.replace("//", f"//bob:{planted['uri']}@"))
    monkeypatch.setenv("DAGSHUB_TOKEN", planted["DAGSHUB_TOKEN"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", planted["AWS_SECRET_ACCESS_KEY"])
    (project.folder / ".env").write_text(f"MY_API_KEY={planted['dotenv']}\n")
    for name in STEPS:
        values = {"symbol": "MSFT", "apply": True} if name == "promote" else {"symbol": "MSFT"}
        result = run_notebook(ROOT / "notebooks" / f"{name}.ipynb", values, preloaded=True)
        assert result.error is None, (name, result.error)
    assert "Basic " in proxy.headers["Authorization"]
    champion = ModelRegistry().get_production_model(name_of("MSFT"))
    assert ModelRegistry().overview().serving[name_of("MSFT")] == (champion.version if champion else None)
    with monkeypatch.context() as embedded:  # these records are of decisions elsewhere: no ledger was truncated
        embedded.delenv("MLFLOW_TRACKING_URI")
        ModelRegistry().run_registration_pipeline("MSFT")
        (note,) = ModelRegistry().verify("MSFT").findings
    assert (note.level, proxy.uri in note.message) == ("note", True)
    leaky = [FX, "run", "register", "-p", "symbol", "MSFT", "-p", "description", planted["dotenv"]]
    refused = subprocess.run(leaky, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    proxy.fault = lambda _n, _method, _path: "401"
    failed = subprocess.run([FX, "run", "compare", "-p", "symbol", "MSFT"], check=False, capture_output=True, text=True)
    assert "refuses the login (HTTP 401); check the user and the password in MLFLOW_TRACKING_URI" in failed.stderr
    printed = refused.stdout + refused.stderr + failed.stdout + failed.stderr
    records = sorted(project.records("MSFT"), key=began)  # their names tell the second
    assert [record.stem.split("-")[1] for record in records] == [*STEPS, "compare"]
    text = records[STEPS.index("register")].read_text()
    assert proxy.uri in text  # and what it can do
    assert "aliases" in text
    for nb in (json.loads(record.read_text()) for record in records[:-1]):
        outputs = [output for cell in nb["cells"] for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output.get("name") == "stderr"]  # no warning spoils the report
        assert SUMMARY_MIME in outputs[-1]["data"]
    assert len(re.findall('"image/png"', records[STEPS.index("compare")].read_text())) >= 4
    summary = read_summary(json.loads(records[STEPS.index("promote")].read_text()))
    assert summary is not None
    assert (summary["verdict"] == "promote") == (summary["champion_after"] is not None)
    places = [path for folder in (project.folder, team_folder) for path in folder.rglob("*") if path.is_file()]
    assert any(team_folder in path.parents and path.stat().st_size for path in places)  # the server keeps its files where we look
    assert set(records) < set(places)
    for path in set(places) - {project.folder / ".env"}:
        with suppress(FileNotFoundError):  # a database at work deletes files of its own
            content = path.read_bytes()
        found = [name for name, secret in planted.items() if secret.encode() in content]
        assert not found, path
    assert not [name for name, secret in planted.items() if secret in printed + text]


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("fault", FAULTS)
def test_one_failing_answer_leaves_one_version_one_champion_and_no_flaw(
    project: Project, remote: Callable[[], ModelRegistry], proxy: Proxy, *, fault: str, rounds: int, older: str
) -> None:
    points: list[str | int] = [*POINTS, *range(1, 120 if rounds > 2 else 1)] if older or rounds > 2 else [*WORST.get(fault, ())]
    if not points:
        pytest.skip("make test-servers")
    name = f"M-{fault}-{secrets.token_hex(3)}"
    for at in points:
        bundle = project.bundle("IBM", max_iter=2)

        proxy.fault = at_one_point(fault, at, proxy)
        try:
            remote().register_model(bundle, model_name=name, stage="Production")
        except FxError as error:
            assert proxy.uri in str(error) or "interrupted" in str(error), error  # noqa: PT017 (it may also end well)
        proxy.fault = lambda _n, _method, _path: None
        remote().register_model(bundle, model_name=name, stage="Production")
        settled(remote(), name, bundle)


@pytest.mark.usefixtures("thorough")
def test_answers_that_come_twice_or_late_all_along_change_nothing(
    project: Project, remote: Callable[[], ModelRegistry], proxy: Proxy
) -> None:
    bundle, name = project.bundle("IBM", max_iter=2), f"M-{secrets.token_hex(3)}"
    proxy.delay = 0.02
    proxy.fault = lambda number, _method, _path: "twice" if number % 2 else "late"
    remote().register_model(bundle, model_name=name, stage="Production")
    settled(remote(), name, bundle)


@pytest.mark.usefixtures("thorough")
def test_a_server_that_is_restarted_in_the_middle(
    project: Project, tmp_path_factory: pytest.TempPathFactory, postgresql: Callable[..., str], older: str
) -> None:
    server = Server(tmp_path_factory.mktemp("own"), older=older, database="" if older else postgresql()).start()
    project.write(mlflow={"tracking_uri": server.uri})
    first, second = project.bundle(), project.bundle(max_iter=3)
    registry = ModelRegistry()
    registry.register_model(first, stage="Production")
    registry.register_model(second)
    third = project.bundle(max_iter=2)
    children = [
        faults.start(project.folder, "register", str(third.model_path)),
        faults.start(project.folder, "to production", 2),
    ]
    wait_for(server, f"{CREATE}|registered-models/alias", 4)
    server.kill()
    server.start()
    for child in children:
        child.join(120)
    for outcome in [path.read_text() for path in project.folder.glob("result-*")]:
        assert outcome in {"3", "Production"} or re.match(r"(Registry|Locked|LockLost)\w*Error: ", outcome), outcome
    assert ModelRegistry().register_model(third).version == 3
    ModelRegistry().transition_stage(NAME, 2, "Production")
    champion = ModelRegistry().load_champion("AAPL")
    assert champion is not None
    assert champion.version.version == 2
    assert len(ModelRegistry().get_model_versions(NAME)) == 3
    assert not ModelRegistry().verify("AAPL").problems
    server.stop()


def wait_for(server: Server, path: str, times: int) -> None:
    """Wait until the server's log has so many changes of a kind, or some seconds: then it is in the middle of something."""
    end = time.monotonic() + 20
    while len(re.findall(f"POST .*{path}", server.log.read_text())) < times and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.usefixtures("thorough")
def test_a_server_without_aliases_and_stages_takes_the_older_route(
    project: Project, remote: Callable[[], ModelRegistry], proxy: Proxy
) -> None:
    proxy.fault = lambda _n, _method, path: "404" if re.search("alias|transition-stage|logged-models|/version", path) else None
    registry = remote()
    assert not registry.connection.aliases
    assert not registry.connection.stages
    assert "a tag of the registered model" in registry.connection._repr_html_()
    first, second = project.bundle("GOOG", max_iter=2), project.bundle("GOOG", max_iter=3)
    registry.register_model(first, stage="Production")
    registry.register_model(second)
    assert [v.stage for v in remote().get_model_versions(name_of("GOOG"))] == ["Staging", "Production"]
    registry.transition_stage(name_of("GOOG"), 2, "Production")
    registry.transition_stage(name_of("GOOG"), 1, "Archived")
    assert [v.stage for v in remote().get_model_versions(name_of("GOOG"))] == ["Production", "Archived"]
    assert not remote().verify("GOOG").problems
    assert remote().overview().serving[name_of("GOOG")] == 2
    registry.transition_stage(name_of("GOOG"), 2, "Archived")
    assert remote().get_production_model(name_of("GOOG")) is None
    assert remote().overview().serving[name_of("GOOG")] is None
    old = remote().rollback("GOOG", reason="back", apply=True)
    assert (old.to_version, remote().rollback("GOOG", to="none", reason="out", apply=True).to_version) == (2, None)
    with registry.client.session("by hand") as client:
        client.delete_registered_model(name_of("GOOG"))
    registry.register_model(project.bundle("GOOG", max_iter=4))
    registry.register_model(project.bundle("GOOG", max_iter=5))
    with pytest.raises(VersionReplacedError, match="and number 2 given to bundle"):
        remote().rollback("GOOG", reason="back", apply=True)
    assert remote().get_production_model(name_of("GOOG")) is None


def test_what_the_server_can_do_is_asked_once(remote: Callable[[], ModelRegistry], proxy: Proxy, older: bool) -> None:
    registry = remote()
    found = registry.connection
    asked = len(proxy.seen)
    assert (found.aliases, found.stages, found.logged_models) == (True, True, not older)
    assert re.match(r"2\.7\.1|3\.", found.server)
    assert registry.connection is found
    assert len(proxy.seen) == asked


def test_a_server_tells_its_time(remote: Callable[[], ModelRegistry], proxy: Proxy) -> None:
    proxy.date = "Thu, 01 Jan 2026 00:00:00 GMT"
    assert remote().client.server_time() == datetime(2026, 1, 1, tzinfo=UTC)
    proxy.date = ""
    assert remote().client.server_time() is None


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("401", r"refuses the login \(HTTP 401\); check the user and the password in MLFLOW_TRACKING_URI"),
        ("403", r"refuses the login \(HTTP 403\)"),
        ("404", r"answers, but is not MLflow's registry \(HTTP 404\); check MLFLOW_TRACKING_URI"),
        ("429", r"asks for fewer calls \(HTTP 429\)"),
        ("500", r"fails \(HTTP 500\): check the server's log"),
        ("503", r"fails \(HTTP 503\): check the server's log"),
        ("page", r"does not answer as MLflow does, but with a web page.*check MLFLOW_TRACKING_URI.*HTTPS_PROXY"),
        ("empty", r"does not answer as MLflow does"),
        ("slow", r"no answer from .* within the 2 s of MLFLOW_HTTP_REQUEST_TIMEOUT"),
        ("nobody", r"does not answer as MLflow does"),
        ("another", r"does not answer as MLflow does"),
        ("drop", r"no answer from http://127.0.0.1:\d+; check MLFLOW_TRACKING_URI"),
    ],
)
def test_a_failure_says_which_setting_to_look_at_in_time_and_without_the_token(
    project: Project, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    with proxy_to("http://127.0.0.1:9") as proxy:
        proxy.fault = lambda _n, _method, _path: fault
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri.replace("//", "//bob:t0k3n-of-bob@"))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        assert_fails_in(3, says)


def assert_fails_in(seconds: float, says: str) -> None:
    start = time.monotonic()
    for call in (lambda: ModelRegistry().get_production_model(NAME), lambda: ModelRegistry().get_model_versions(NAME)):
        with pytest.raises(RegistryUnavailableError, match=says) as caught:
            call()
        assert "t0k3n" not in str(caught.value)
    assert time.monotonic() - start < 2 * seconds


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (
            "403",
            "Invalid Host header - possible DNS rebinding",
            r"rejects that host name \(HTTP 403: Invalid Host header.*--allowed-hosts",
        ),
        ("403", "Only from the office", r"refuses this \(HTTP 403: Only from the office\)"),
        ("401", "The token has expired", r"refuses the login \(HTTP 401: The token has expired\); check"),
        ("404", "No such tenant", r"answers, but is not MLflow's registry \(HTTP 404: No such tenant\)"),
        ("405", "", r"answers, but is not MLflow's registry \(HTTP 405\)"),
    ],
)
def test_what_a_server_says_is_told(project: Project, monkeypatch: pytest.MonkeyPatch, status: str, text: str, says: str) -> None:
    monkeypatch.setattr("proxies.PAGE", text.encode())
    with proxy_to("http://127.0.0.1:9") as proxy:
        proxy.fault = lambda _n, _method, _path: status
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        assert_fails_in(3, says)


def test_files_that_are_denied_name_the_permission(
    remote: Callable[[], ModelRegistry], proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("proxies.PAGE", b"Permission denied")
    client = remote().client
    run_id = client.log_run("a run", params={}, metrics={}, tags={})
    proxy.fault = lambda _n, _method, path: "403" if "/mlflow-artifacts/" in path else None
    needed = "needs the permission READ on the experiment of this run"
    with pytest.raises(RegistryUnavailableError, match=needed), client.files("read", NAME, run_id) as files:
        files.download_artifacts("model", str(tmp_path))
    (tmp_path / "file").write_text("")
    needed = "needs the permission EDIT on the experiment MLP_Stock_Prediction; an"
    with pytest.raises(RegistryUnavailableError, match=needed), client.session("attach") as calls:
        calls.log_artifact(run_id, str(tmp_path / "file"))


@pytest.mark.parametrize("embedded", [False, True])
def test_a_mistake_of_a_library_is_no_answer_of_a_server(
    remote: Callable[[], ModelRegistry], monkeypatch: pytest.MonkeyPatch, *, embedded: bool
) -> None:
    """It once read: check HTTPS_PROXY."""
    if embedded:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    client = remote().client
    assert client.params.is_server != embedded
    with pytest.raises(TypeError, match="unexpected keyword"), client.session("look") as calls:
        calls.search_registered_models(no_such_option=True)
    missing = r"MLflow 3\.\S+ has no MlflowClient.no_such_call.*it works with mlflow>=3"
    with pytest.raises(RegistryError, match=missing), client.session("look") as calls:
        calls.no_such_call()


def test_silence_ends_within_the_timeout_that_was_set(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with black_hole() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert_fails_in(1.5, r"no answer from .* within the 1 s of MLFLOW_HTTP_REQUEST_TIMEOUT; check MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert_fails_in(1.5, r"no answer from .*; check MLFLOW_TRACKING_URI")


def test_threads_on_a_hung_server_wait_as_long_as_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with black_hole() as uri, ThreadPoolExecutor(5) as threads:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", "//bob:t0k3n-of-bob@"))
        shared = ModelRegistry()
        calls = [
            shared.get_production_model,
            shared.get_model_versions,
            ModelRegistry().get_production_model,
            shared.client.version,
        ]
        calls.append(lambda _name: shared.connection)  # type: ignore[arg-type,return-value]
        before, start = dict(os.environ), time.monotonic()
        waiting = [threads.submit(call, *((NAME, 1) if call == shared.client.version else (NAME,))) for call in calls]
        while any(not future.done() for future in waiting):
            assert dict(os.environ) == before  # a user's own threads read it
            time.sleep(0.05)
        assert time.monotonic() - start < 2.5
        assert all(isinstance(future.exception(), RegistryUnavailableError) for future in waiting)


@pytest.mark.parametrize("fault", ["drop", "lose", "503", "torn"])
def test_a_server_that_does_not_take_a_call_is_asked_again(
    project: Project, remote: Callable[[], ModelRegistry], proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Every request fails once; an operation asks many times."""
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    failed: set[tuple[str, str]] = set()

    def first(_number: int, method: str, path: str) -> str | None:
        new = (method, path.partition("?")[0]) not in failed
        failed.add((method, path.partition("?")[0]))
        return fault if new and "/mlflow-artifacts/" not in path else None

    proxy.fault = first
    client, name = remote().client, f"M-{secrets.token_hex(3)}"
    before = dict(os.environ)
    run_id = client.log_run(name, params={"a": 1}, metrics={"b": 2.0}, tags={"c": name})
    assert client.champion(name) is None
    with client.session("look") as calls:
        found = calls.search_runs([client.experiment_id], f"tags.c = '{name}'")
    assert [run.info.run_id for run in found] == [run_id]
    assert (found[0].data.params, found[0].data.metrics, found[0].info.status) == ({"a": "1"}, {"b": 2.0}, "FINISHED")
    assert len(failed) > 5
    assert dict(os.environ) == before


def test_no_call_is_made_again_where_that_is_chosen(
    project: Project, remote: Callable[[], ModelRegistry], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy.fault = lambda _n, _method, _path: "drop"
    with pytest.raises(RegistryUnavailableError, match="no answer"):
        remote().get_production_model(NAME)
    assert len(proxy.seen) == 1


@pytest.mark.usefixtures("thorough")
def test_a_restart_in_the_middle_of_each_operation_is_waited_for(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: str
) -> None:
    monkeypatch.setattr("fxhelpers.registry._calls.PATIENCE_SECONDS", 60.0)  # a machine at work takes long to start MLflow
    server = Server(tmp_path / "server", older=older, database=f"sqlite:///{tmp_path}/server.db").start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//bob:s3cret-of-bob@"))
    first, second = project.bundle(max_iter=2), project.bundle(max_iter=3)
    registry = ModelRegistry()
    operations: list[Callable[[], object]] = [
        lambda: registry.register_model(first, stage="Production"),
        lambda: registry.register_model(second),
        lambda: registry.transition_stage(NAME, 2, "Production"),
        lambda: registry.load_champion("AAPL"),
        lambda: registry.history("AAPL"),
        lambda: registry.verify("AAPL"),
    ]
    for operation in operations:
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(operation)
            time.sleep(0.15)
            server.kill()
            time.sleep(1)
            server.start()
            running.result(120)
    champion = registry.load_champion("AAPL")
    assert champion is not None
    assert champion.version.version == 2
    assert [v.version for v in registry.get_model_versions(NAME)] == [2, 1]
    assert not registry.verify("AAPL").problems
    server.stop()


def test_a_password_may_have_any_letters(
    project: Project, remote: Callable[[], ModelRegistry], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "p@ss:/wörd%пар"  # noqa: S105 (planted)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri.replace("//", f"//bob:{quote(password, safe='')}@"))
    assert remote().get_production_model(NAME) is None
    assert proxy.headers["Authorization"] == f"Basic {b64encode(f'bob:{password}'.encode()).decode()}"


def test_pages_without_an_end_are_no_answer(remote: Callable[[], ModelRegistry], proxy: Proxy) -> None:
    proxy.fault = lambda _n, _method, path: "for ever" if "search" in path else None
    for call in (lambda: remote().get_model_versions("M"), lambda: registered_models(remote().client)):
        with pytest.raises(RegistryUnavailableError, match="does not answer as MLflow does"):
            call()


def test_a_login_at_dagshub_names_its_token(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSHUB_TOKEN", "t0k3n-of-bob")
    registry = project.registry(mlflow={"tracking_uri": "dagshub", "dagshub_username": "bob", "dagshub_repo": "r"})
    assert registry.params.login_setting.startswith("DAGSHUB_TOKEN in the environment or in .env")
    assert registry.params.without_secrets("a t0k3n-of-bob b Basic Ym9iOnQwazNuLW9mLWJvYg==") == "a [hidden] b Basic [hidden]"


def test_a_server_that_echoes_the_login_is_not_quoted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_to("http://127.0.0.1:9") as proxy:
        monkeypatch.setattr("proxies.PAGE", json.dumps({"error_code": "BAD_REQUEST", "message": "got t0k3n-of-bob"}).encode())
        proxy.fault = lambda _n, _method, _path: "400"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri.replace("//", "//bob:t0k3n-of-bob@"))
        with pytest.raises(RegistryError, match=r"got \[hidden\]") as caught:
            ModelRegistry().get_production_model(NAME)
        assert "t0k3n" not in "".join(traceback.format_exception(caught.value))


def test_a_password_among_the_fields_of_a_uri_is_not_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://127.0.0.1:9/db?user=u&password=pgS3CR3T")
    with pytest.raises(RegistryUnavailableError, match=r"127.0.0.1:9/db\?user=u") as caught:
        ModelRegistry().get_production_model(NAME)
    assert "pgS3CR3T" not in "".join(traceback.format_exception(caught.value))


def test_a_server_starts_by_the_command_and_says_where(tmp_path: Path, older: str) -> None:
    """`make server` is this; it ends with everything that it started."""
    if not older:
        pytest.skip("make test-servers; the server of the other tests was started so too")
    out = tmp_path / "printed"
    with out.open("wb") as file:
        server = subprocess.Popen([FX, "server", "--port", "0", "--folder", str(tmp_path / "s")], stdout=file, stderr=file)
    end = time.monotonic() + 90
    while "export MLFLOW_TRACKING_URI=" not in out.read_text() and time.monotonic() < end and server.poll() is None:
        time.sleep(0.1)
    uri = out.read_text().partition("MLFLOW_TRACKING_URI=")[2].strip()
    script = "from fxhelpers import ModelRegistry; print(ModelRegistry().connection.uri)"
    told = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "MLFLOW_TRACKING_URI": uri}, check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == uri
    server.terminate()
    assert server.wait(60) == 143
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "s") in " ".join(p.info["cmdline"] or [])]
