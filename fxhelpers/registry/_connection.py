"""Connecting to a registry: its database or server, its features and its clock."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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

from fxhelpers.display import Keyed, rows_html
from fxhelpers.params import Params
from fxhelpers.registry._calls import Calls, UnexpectedResponseError, is_denial
from fxhelpers.system import can_write, gc_paused

_MIGRATING = Lock()
_CHATTY = ("alembic", "mlflow.store.db.utils")
_SQLITE = "sqlite:///"
_CLOCKS = {
    "postgresql": func.clock_timestamp(type_=DateTime(timezone=True)),
    "mysql": func.utc_timestamp(6, type_=DateTime),
}
_ADVISORY_LOCK = 0x66785F73  # any number that no other program's advisory lock has
_NO_MODEL = "fx-probe-of-no-model"


def open_database(uri: str) -> MlflowClient:
    """Connect to a database, and create or migrate its tables under a lock: of six processes at once, five would fail."""
    with gc_paused(), _only_process(uri), _quiet_migrations():
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


@contextmanager
def _only_process(uri: str) -> Iterator[None]:
    file = sqlite_file(uri)
    if file and can_write(file):  # a user who can only read creates no tables
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            yield
    elif uri.startswith("postgresql"):
        with create_engine(uri, poolclass=NullPool).connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _ADVISORY_LOCK})
            yield  # the lock ends with the connection
    else:
        yield


@contextmanager
def _quiet_migrations() -> Iterator[None]:
    """Keep a new database's sixty lines of migrations out of a report."""
    with _MIGRATING:
        levels = {name: logging.getLogger(name).level for name in _CHATTY}
        for name in levels:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Keyed):
    """A registry and its features, found once per connection."""

    uri: str  # without credentials
    server: str  # version of its MLflow; "embedded" if this process opens the database
    aliases: bool  # if False, the champion is a tag of the registered model
    stages: bool  # if False, a stage is a tag of the version
    logged_models: bool  # never needed: a version's files belong to a run, which all servers have

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
    """Find the features of a registry, by calls about a model that does not exist: they change nothing."""
    uri = params.mlflow.tracking_uri
    if not params.is_server:
        return Connection(uri=uri, server=f"{mlflow.__version__}, embedded", aliases=True, stages=True, logged_models=True)
    client.search_registered_models(max_results=1)  # an error if there is no registry at all
    response = _request(params, "GET", "/version")
    version = response.text.strip()
    move = {"name": _NO_MODEL, "version": "1", "stage": "Archived"}
    return Connection(
        uri=uri,
        server=version if response.ok and re.fullmatch(r"\d+\.[\w.+-]{1,30}", version) else "of unknown version",
        aliases=_has(params, "GET", "registered-models/alias", params={"name": _NO_MODEL, "alias": "champion"}),
        stages=_has(params, "POST", "model-versions/transition-stage", json=move),
        logged_models=_has(params, "GET", "logged-models/m-00000000000000000000000000000000"),
    )


def registry_clock(params: Params) -> datetime | None:
    """Return the time by the registry's own clock, UTC; None if it has none.

    A server's is in whole seconds; an SQLite file's is that of its file system, if this user may write there.
    """
    uri = params.registry_uri
    if params.is_server:
        try:
            return parsedate_to_datetime(_request(params, "GET", "/version").headers.get("Date", "")).astimezone(UTC)
        except ValueError:  # the header is optional
            return None
    file, clock = sqlite_file(uri), next((clock for kind, clock in _CLOCKS.items() if uri.startswith(kind)), None)
    if file:
        try:
            with tempfile.TemporaryFile(dir=file.parent) as written:
                return datetime.fromtimestamp(os.fstat(written.fileno()).st_mtime, UTC)
        except OSError:
            return None
    if clock is None:
        return None
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        now = connection.execute(select(clock)).scalar_one()
    return now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)


def _has(settings: Params, method: str, endpoint: str, **values: Any) -> bool:  # noqa: ANN401 (as requests takes them)
    """Return whether a server has an endpoint: if so, it says that there is no such model, or denies the call."""
    response = _request(settings, method, f"/api/2.0/mlflow/{endpoint}", **values)
    try:
        code = response.json().get("error_code")
    except (ValueError, AttributeError, RecursionError):
        code = None
    status = response.status_code
    if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"} or is_denial(status, response.text):
        return True
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return False
    msg = f"failed with error code {status}. Response body: '{response.text}'"
    raise UnexpectedResponseError(msg)


def _request(settings: Params, method: str, path: str, **values: Any) -> requests.Response:  # noqa: ANN401
    """Send a request that MLflow's client has no method for; its http_request uses the same login and certificates."""
    send = lambda: http_request(get_default_host_creds(settings.client_uri), path, method, **values)  # type: ignore[no-untyped-call]  # noqa: E731
    return cast("requests.Response", Calls(SimpleNamespace(send=send), settings).send())
