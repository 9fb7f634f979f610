"""One call to MLflow: how long it may take, when it is made again, and what its failure means."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from threading import Thread
from typing import Any

import mlflow.exceptions
import requests
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_exponential, wait_random

from fxhelpers.errors import RegistryError, RegistryUnavailableError, VersionNotFoundError
from fxhelpers.params import Params
from fxhelpers.processes import uncollected

PATIENCE_SECONDS = 20.0
"""How long to wait for a server that does not take calls, because it is being restarted say."""

_CODE = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses|^(\d{3}) (?:Client|Server) Error")
_PASSING = {"429", "502", "503", "504"}
_LOGIN = {"401", "403", "407"}
_TRANSFERS = {"log_artifact", "log_artifacts", "download_artifacts"}
"""Made of many requests, each with the limit of a call."""

_TIMEOUT = requests.Timeout | TimeoutError
_PAGE = "Response body: '"
_ONCE = {"create_model_version"}
"""Made again after its answer was lost, this would make a second version."""


class Calls:
    """MLflow's client, or a store of files: each call ends in so many seconds, and is made again where that is harmless."""

    def __init__(self, client: MlflowClient | ArtifactRepository, params: Params, seconds: float) -> None:
        self._client, self._params, self._seconds = client, params, seconds

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (MLflow's methods)
        call = getattr(self._client, name)

        def made(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return self._made(name, lambda: call(*args, **kwargs))

        return made

    def _made(self, name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        end = time.monotonic() + self._seconds

        def once() -> Any:  # noqa: ANN401
            left = max(1, round(end - time.monotonic()))
            with lent_environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": str(left)}):
                return self._understood(call if name in _TRANSFERS or not self._params.is_server else lambda: in_time(call, left))

        attempts = 1 if name in _ONCE else self._params.request_retries + 1
        again = Retrying(
            retry=retry_if_exception(is_passing),
            stop=stop_after_attempt(attempts) | stop_before_delay(min(self._seconds, PATIENCE_SECONDS)),
            wait=wait_exponential(multiplier=0.25, max=4) + wait_random(0, 0.25),
            reraise=True,
        )
        return again(once)

    @staticmethod
    def _understood(call: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Tell an answer that is not MLflow's from one that is: MLflow takes any page of 404 for "not there"."""
        try:
            return call()
        except mlflow.exceptions.MlflowException as error:
            foreign = (
                "error_code" not in error.json if isinstance(error, mlflow.exceptions.RestException) else _PAGE in str(error)
            )
            if foreign:
                raise StrangeAnswerError from error
            raise
        except (requests.RequestException, SQLAlchemyError, OSError, StrangeAnswerError):
            raise
        except Exception as error:
            raise StrangeAnswerError from error


def in_time(call: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401
    """Make a call that ends in time: a server that sends a byte now and then never lets a request time out."""
    done: Future[Any] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    return done.result(seconds + 0.5)  # a request that times out by itself says more


def all_pages(ask: Callable[[str | None], Any]) -> list[Any]:
    """Return what all pages of an answer list; a page that leads to itself is no answer."""
    found, token, seen = [], None, set[str]()
    while True:
        with uncollected():
            page = ask(token)
        found += page
        token = page.token
        if not token:
            return found
        if token in seen:
            msg = "pages without an end"
            raise StrangeAnswerError(msg)
        seen.add(token)


class StrangeAnswerError(Exception):
    """What answered is not MLflow."""


def is_passing(error: BaseException) -> bool:
    """Tell whether a call failed in a way that may be over soon, and did so at once."""
    chain = list(_chain(error))
    if any(isinstance(e, requests.exceptions.SSLError | requests.exceptions.ProxyError | _TIMEOUT) for e in chain):
        return False  # after a timeout there is no time left
    return any(isinstance(e, requests.ConnectionError) for e in chain) or _status(chain) in _PASSING


def meaning(error: BaseException, params: Params) -> str | None:
    """Say what a failed call means and which setting to look at; None where MLflow itself answered, and says it best."""
    chain, uri = list(_chain(error)), params.mlflow.tracking_uri
    status = _status(chain)
    if status and not _is_missing_file(chain, status):
        return _http(status, params)
    if any(isinstance(e, requests.RequestException) for e in chain) or (params.is_server and isinstance(error, TimeoutError)):
        return _network(chain, params)
    if isinstance(error, StrangeAnswerError):
        page = "a web page, as a proxy or a login page does" if "<" in str(chain[-1]) else f"something else ({_kind(chain[-1])})"
        return f"{uri} does not answer as MLflow does, but with {page}; check {params.uri_setting}, and HTTPS_PROXY or HTTP_PROXY"
    return None


def _http(status: str, params: Params) -> str:
    uri = params.mlflow.tracking_uri
    if status in _LOGIN:
        return f"{uri} refuses the login (HTTP {status}); check {params.login_setting}"
    if status == "429":
        return f"{uri} asks for fewer calls (HTTP 429): try again later"
    if status.startswith("5"):
        return f"{uri} fails (HTTP {status}): look at the server's log and at proxies on the way to it, then try again"
    return f"{uri} is there, but not MLflow's registry (HTTP {status}); check {params.uri_setting}"


def _network(chain: list[BaseException], params: Params) -> str:
    uri, limit = params.mlflow.tracking_uri, f"{params.request_seconds:g} s of MLFLOW_HTTP_REQUEST_TIMEOUT"
    means = {
        requests.exceptions.SSLError: (
            f"no trust in the certificate of {uri}; MLFLOW_TRACKING_SERVER_CERT_PATH names one to trust, "
            f"and {params.uri_setting} the server"
        ),
        requests.exceptions.ProxyError: (
            f"no way to {uri} through the proxy that HTTPS_PROXY or HTTP_PROXY names; NO_PROXY lists hosts to reach without"
        ),
        _TIMEOUT: f"no answer from {uri} within the {limit}; check {params.uri_setting}",
        requests.RequestException: f"no answer from {uri}; check {params.uri_setting} ({_kind(chain[-1])})",
    }
    return next(text for kind, text in means.items() if any(isinstance(e, kind) for e in chain))


def translated(error: Exception, what: str, params: Params) -> RegistryError:
    """Return our own error for one of MLflow's, of the network or of the database."""
    means = meaning(error, params)
    if means:
        return RegistryUnavailableError(f"cannot {what}: {means}")
    text = params.without_secrets(" ".join(str(getattr(error, "message", error)).split()))
    if isinstance(error, mlflow.exceptions.MlflowException):
        if error.error_code in {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}:
            return RegistryUnavailableError(
                f"cannot {what}: {params.mlflow.tracking_uri} refuses it: {text:.300}; check {params.login_setting}"
            )
        missing = error.error_code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
        return (VersionNotFoundError if missing else RegistryError)(
            f"cannot {what}: {params.mlflow.tracking_uri} says: {text:.500} (see {params.uri_setting})"
        )
    return RegistryError(f"cannot {what} at {params.mlflow.tracking_uri}: {text:.300}")


def tells_secret(error: BaseException, params: Params) -> bool:
    """Tell whether an error, or one that led to it, holds what must not be told."""
    return any(params.without_secrets(str(e)) != str(e) for e in _chain(error))


@contextmanager
def lent_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the time of a call: MLflow takes credentials and limits from nowhere else."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _status(chain: list[BaseException]) -> str:
    """Return the HTTP status that an error tells of; "" where MLflow itself answered, or nobody."""
    for error in chain:
        response = getattr(error, "response", None)
        if isinstance(error, requests.HTTPError) and response is not None:
            return str(response.status_code)
        found = _CODE.search(str(error))
        if found:
            return next(group for group in found.groups() if group)
    return ""


def _is_missing_file(chain: list[BaseException], status: str) -> bool:
    """Tell a file that is not in the store from an address where no MLflow is."""
    return status == "404" and isinstance(chain[-1], requests.HTTPError)


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
