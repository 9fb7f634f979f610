"""``fx server`` after kills: what is left behind is ended, and nobody else's answer is taken for its own."""

import http.server
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from servers import FX

from fxhelpers.cli._server import _check_port, free_port

SAYS = "export MLFLOW_TRACKING_URI="


@contextmanager
def started(folder: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command until it answers; whatever it left is ended afterwards."""
    with log.open("ab") as file:
        server = subprocess.Popen([FX, "server", "--port", str(port), "--folder", str(folder)], stdout=file, stderr=file)
    try:
        end = time.monotonic() + 90
        while SAYS not in log.read_text() and server.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        yield server
    finally:
        server.terminate()
        server.wait(60)


def mlflow_of(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """MLflow's main process, which comes first, and its workers."""
    main = next(p for p in psutil.Process(server.pid).children() if "mlflow" in " ".join(p.cmdline()))
    return [main, *main.children(recursive=True)]


@pytest.mark.usefixtures("thorough")
def test_what_a_killed_server_left_behind_is_ended_by_the_next(tmp_path: Path) -> None:
    folder, port = tmp_path / "s", free_port()
    with started(folder, port, tmp_path / "1") as first:
        family = mlflow_of(first)
        assert len(family) > 1
        family[0].kill()
        assert first.wait(30) == 1  # it tells what happened, and leaves nothing
        assert "MLflow's server ended with status -9" in (tmp_path / "1").read_text()
        psutil.wait_procs(family, 5)
        assert not [p for p in family if p.is_running()]
    with started(folder, port, tmp_path / "2") as second:
        family = mlflow_of(second)
        os.kill(second.pid, signal.SIGKILL)  # it can tell nothing
        family[0].kill()
        second.wait(10)
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
        with started(folder, port, tmp_path / "3") as third:
            assert SAYS in (tmp_path / "3").read_text()
            assert not [p for p in family if p.is_running()]
            assert any(
                connection.laddr.port == port for p in mlflow_of(third) for connection in p.net_connections("tcp")
            )  # who answers is the new one
            again = [FX, "server", "--port", "0", "--folder", str(folder)]
            told = subprocess.run(again, check=False, capture_output=True, text=True)
            assert (told.returncode, told.stdout) == (1, "")
            assert f"is running already, process {third.pid}: use it or end it" in told.stderr
            database = int((folder / "postgresql" / "postmaster.pid").read_text().split()[0])
            assert psutil.pid_exists(database)
    assert not psutil.pid_exists(database)  # also that, which the killed one had started


def test_a_port_of_somebody_elses_is_refused_and_who_has_it_is_told(tmp_path: Path) -> None:
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        told = subprocess.run(
            [FX, "server", "--port", str(port), "--folder", str(tmp_path / "s")], check=False, capture_output=True, text=True
        )
        other.shutdown()
    assert told.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used: process {os.getpid()} " in told.stderr
    assert "listens there; choose another by --port" in told.stderr
    assert told.stderr.count("\n") == 1


def test_a_port_that_connections_only_just_left_can_be_used(tmp_path: Path) -> None:
    """What an earlier server closed stays in the system's tables for a minute."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # who closes first keeps the address
            client.recv(1)
    _check_port(port)
