"""What the server at the other end can do: older ones, as DagsHub's, lack some of it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, cast

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from fxhelpers.params import Params
from fxhelpers.registry.calls import Calls
from fxhelpers.registry.causes import StrangeAnswerError, is_denial
from fxhelpers.registry.database import database_clock
from fxhelpers.results import Keyed, rows_html

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
    raise StrangeAnswerError(msg)


def _version(params: Params) -> str:
    answer = _ask(params, "GET", "/version")
    text = answer.text.strip()
    return text if answer.ok and re.fullmatch(r"\d+\.[\w.+-]{1,30}", text) else "of unknown version"


def _ask(registry: Params, method: str, path: str, **asked: Any) -> requests.Response:  # noqa: ANN401
    """Ask what MLflow's client asks in no way of its own; its http_request takes the login and the certificates as it does."""
    plain = SimpleNamespace(ask=lambda: http_request(get_default_host_creds(registry.client_uri), path, method, **asked))  # type: ignore[no-untyped-call]
    return cast("requests.Response", Calls(plain, registry, registry.request_seconds).ask())
