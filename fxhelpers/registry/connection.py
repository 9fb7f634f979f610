"""What the server at the other end can do: older ones, as DagsHub's, lack some of it."""

import re
from dataclasses import dataclass
from typing import Any

import mlflow
import mlflow.exceptions
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import get_default_host_creds  # type: ignore[attr-defined]
from mlflow.utils.rest_utils import http_request

from fxhelpers.registry.calls import StrangeAnswerError
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
        without = {
            "aliases": "the champion is a tag of the registered model",
            "stages": "a stage is a tag of the version",
            "logged_models": "not needed: files belong to runs",
        }
        found = {name.replace("_", " "): "yes" if self[name] else f"no; {instead}" for name, instead in without.items()}
        return rows_html({"registry": self.uri, "MLflow": self.server, **found})


def connect(client: MlflowClient, uri: str) -> Connection:
    """Ask a server what it can do; questions about a model that nobody has change nothing."""
    if not uri.startswith("http"):
        return Connection(uri=uri, server=f"{mlflow.__version__}, embedded", aliases=True, stages=True, logged_models=True)
    client.search_registered_models(max_results=1)  # is there a registry at all?
    return Connection(
        uri=uri,
        server=_version(uri),
        aliases=_knows(client.get_model_version_by_alias, _NOBODY, "champion"),
        stages=_knows(client.transition_model_version_stage, _NOBODY, "1", "Archived"),
        logged_models=_knows(client.get_logged_model, "m-00000000000000000000000000000000"),
    )


def _knows(call: Any, *arguments: str) -> bool:  # noqa: ANN401 (MLflow's methods)
    """Tell whether a server has an endpoint: one that has it says that there is no such model."""
    try:
        call(*arguments)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
            return True
        if error.error_code in {"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"}:
            return False
        raise
    except StrangeAnswerError as error:
        if getattr(error.__cause__, "error_code", "") != "ENDPOINT_NOT_FOUND":  # which is how MLflow calls a page of 404
            raise
        return False
    return True


def _version(uri: str) -> str:
    answer = http_request(get_default_host_creds(uri), "/version", "GET")  # type: ignore[no-untyped-call]
    text = answer.text.strip()
    return text if answer.ok and re.fullmatch(r"\d+\.[\w.+-]{1,30}", text) else "of unknown version"
