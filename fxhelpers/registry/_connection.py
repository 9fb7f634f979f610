"""Connecting to a registry: its database or server, and what it can do."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any, cast

import mlflow
import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import DateTime, NullPool, create_engine, func, select, text

from fxhelpers.files import can_write
from fxhelpers.params import Params
from fxhelpers.processes import gc_paused
from fxhelpers.registry._calls import Calls
from fxhelpers.registry._causes import UnexpectedResponseError, is_denial
from fxhelpers.results import Keyed, rows_html

_COUNTING = Lock()
_OPENING: list[None] = []
_LEVELS: dict[str, int] = {}
_SQLITE = "sqlite:///"
_CLOCKS = {
    "postgresql": func.clock_timestamp(type_=DateTime(timezone=True)),
    "mysql": func.utc_timestamp(6, type_=DateTime),
}
_FIRST_START = 0x66785F73  # any number that nobody else's advisory lock has


def open_database(uri: str) -> MlflowClient:
    """Connect to a database, and make or migrate its tables: of six processes that do so at once, five fail."""
    with gc_paused(), _first_start(uri), _quiet("alembic", "mlflow.store.db.utils"):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for any other."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def database_clock(uri: str) -> datetime | None:
    """Return the time by a database's clock, UTC: for a file that of its file system; None for databases that are not asked."""
    file = sqlite_file(uri)
    if file:
        return _file_clock(file.parent)
    now = next((found for kind, found in _CLOCKS.items() if uri.startswith(kind)), None)
    if now is None:
        return None
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        told = connection.execute(select(now)).scalar_one()
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)


def _file_clock(folder: Path) -> datetime | None:
    """Return the time at which a file system says that something was written now; None where this user may not write."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
    except OSError:
        return None


@contextmanager
def _first_start(uri: str) -> Iterator[None]:
    file = sqlite_file(uri)
    if file:
        with ExitStack() as held:
            if can_write(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(f"{file}.lock"))
            yield  # who may only read makes no tables
    elif uri.startswith("postgresql"):
        engine = create_engine(uri, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _FIRST_START})
            yield  # the lock ends with the connection
    else:
        yield


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Keep a new database's sixty lines of migrations out of a report, as long as any thread makes one."""
    with _COUNTING:
        _OPENING.append(None)
        for name in loggers if len(_OPENING) == 1 else ():
            _LEVELS[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        with _COUNTING:
            _OPENING.pop()
            for name in loggers if not _OPENING else ():
                logging.getLogger(name).setLevel(_LEVELS[name])


_NOBODY = "fx-probe-of-no-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Keyed):
    """A registry and what it can do, as it was found when it was first asked.

    Attributes
    ----------
    uri : str
        Without credentials.
    server : str
        Version of its MLflow, as it says; "embedded" where this process opens
        the database.
    aliases : bool
        Without them the champion is a tag of the registered model.
    stages : bool
        Without them a stage is a tag of the version.
    logged_models : bool
        Never needed: a version's files belong to a run, which all servers
        have.
    """

    uri: str
    server: str
    aliases: bool
    stages: bool
    logged_models: bool

    def _repr_html_(self) -> str:
        instead = {
            "aliases": "the champion is a tag of the registered model",
            "stages": "a stage is a tag of the version",
            "logged_models": "not needed: files belong to runs",
        }
        has = ", ".join(name.replace("_", " ") for name in instead if self[name])
        lacks = "; ".join(f"{name.replace('_', ' ')} ({text})" for name, text in instead.items() if not self[name])
        return rows_html({"registry": self.uri, "MLflow": self.server, "has": has, "lacks": lacks})


def connect(client: MlflowClient, params: Params) -> Connection:
    """Ask a server what it can do; questions about a model that nobody has change nothing."""
    uri = params.mlflow.tracking_uri
    if not params.is_server:
        return Connection(uri=uri, server=f"{mlflow.__version__}, embedded", aliases=True, stages=True, logged_models=True)
    client.search_registered_models(max_results=1)  # is there a registry at all?
    return Connection(
        uri=uri,
        server=_version(params),
        aliases=_knows(params, "GET", "registered-models/alias", params={"name": _NOBODY, "alias": "champion"}),
        stages=_knows(
            params, "POST", "model-versions/transition-stage", json={"name": _NOBODY, "version": "1", "stage": "Archived"}
        ),
        logged_models=_knows(params, "GET", "logged-models/m-00000000000000000000000000000000"),
    )


def server_clock(params: Params) -> datetime | None:
    """Return the time by the registry's own clock, UTC, in whole seconds where a server tells it; None where it has none."""
    if not params.is_server:
        return database_clock(params.registry_uri)
    try:
        told = parsedate_to_datetime(_ask(params, "GET", "/version").headers.get("Date", ""))
    except ValueError:  # a server need not tell it
        return None
    return told.astimezone(UTC)


def _knows(registry: Params, method: str, endpoint: str, **asked: Any) -> bool:  # noqa: ANN401 (as requests takes them)
    """Tell whether a server has an endpoint: one that has it says that there is no such model, or that one may not know."""
    answer = _ask(registry, method, f"/api/2.0/mlflow/{endpoint}", **asked)
    try:
        code = answer.json().get("error_code")
    except (ValueError, AttributeError, RecursionError):
        code = None
    if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"} or is_denial(answer.status_code, answer.text):
        return True
    if answer.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return False
    msg = f"failed with error code {answer.status_code}. Response body: '{answer.text}'"
    raise UnexpectedResponseError(msg)


def _version(params: Params) -> str:
    answer = _ask(params, "GET", "/version")
    text = answer.text.strip()
    return text if answer.ok and re.fullmatch(r"\d+\.[\w.+-]{1,30}", text) else "of unknown version"


def _ask(registry: Params, method: str, path: str, **asked: Any) -> requests.Response:  # noqa: ANN401
    """Ask what MLflow's client asks in no way of its own; its http_request takes the login and the certificates as it does."""
    plain = SimpleNamespace(ask=lambda: http_request(get_default_host_creds(registry.client_uri), path, method, **asked))  # type: ignore[no-untyped-call]
    return cast("requests.Response", Calls(plain, registry, registry.request_seconds).ask())
