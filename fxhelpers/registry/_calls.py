"""Calls to MLflow: each ends in time, is repeated if that is harmless, and fails with an error that says what to check."""

import itertools
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from http import HTTPStatus
from threading import Thread
from types import MappingProxyType
from typing import Any

import mlflow
import requests
from mlflow import environment_variables
from mlflow.exceptions import MlflowException, RestException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_exponential, wait_random
from urllib3.exceptions import NewConnectionError

from fxhelpers.errors import RegistryError, RegistryUnavailableError, VersionNotFoundError
from fxhelpers.params import Params
from fxhelpers.system import gc_paused

SUPPORTED_MLFLOW = ">=3.10,<4"  # as in pyproject.toml
PATIENCE_SECONDS = 20.0  # how long to retry while a server does not take calls, for example during a restart

_TRANSFERS = {"log_artifact", "log_artifacts", "download_artifacts"}  # the time limit applies to each of their requests
_ONCE = {"create_model_version", "create_run"}  # after a lost reply, the caller searches for what it created
_READS = ("get_", "search_", "list_", "download_")
_DELETES = ("delete_model_version", "delete_registered_model", "delete_registered_model_alias", "delete_run", "delete_artifacts")

_TIMEOUT, _RETRIES, _URI = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_TRACKING_URI"
_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": False, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True}  # unless set
_OVERRIDES: ContextVar[Mapping[str, Any]] = ContextVar("fxhelpers_overrides", default=MappingProxyType({}))

# MLflow reports the status of a response that is not its own only in the text of its error
_STATUS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses|^(\d{3}) (?:Client|Server) Error")
_BODY = re.compile(r"Response (?:body: '(.*)'|text: (.*))$", re.DOTALL)
_LONGEST_BODY = 120
_TRANSIENT_STATUS = {"429", "502", "503", "504"}
_TIMEOUTS = requests.Timeout | TimeoutError
_CUT = requests.ConnectionError | requests.exceptions.ChunkedEncodingError
_PERMANENT = requests.exceptions.SSLError | requests.exceptions.ProxyError | _TIMEOUTS  # after a timeout no time is left
_PARSERS = ("json.", "google.protobuf.", "mlflow.utils.proto_json_utils", "mlflow.store.artifact.http_artifact_repo", "requests.")
_MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}


class UnexpectedResponseError(Exception):
    """The response does not come from MLflow."""


class DeniedError(Exception):
    """MLflow's server knows the user and denies the call; the argument names the missing permission."""


class Calls:
    """MLflow's client, or an artifact store: each call has a time limit, and is repeated if that is harmless."""

    def __init__(self, client: object, params: Params) -> None:
        _patch_variables()
        self._client, self._params = client, params

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (MLflow's methods)
        call = getattr(self._client, name, None)
        if call is None:
            raise _unsupported(type(self._client).__name__, name)
        if name == "transition_model_version_stage" and hasattr(call, "__wrapped__"):  # deprecated, and its warning with it
            call = call.__wrapped__.__get__(self._client)

        def checked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            try:
                return self._repeated(name, lambda: call(*args, **kwargs))
            except (UnexpectedResponseError, requests.HTTPError) as error:
                chain = list(_chain(error))
                if not is_denial(int(_status(chain) or 0), _body(chain) or ""):
                    raise
                denied = self._denied(name, str(next(iter((*args, *kwargs.values())), "")))
                raise denied from (error if isinstance(denied, DeniedError) else None)

        return checked

    def _repeated(self, name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        attempts, seconds = itertools.count(), self._params.request_seconds
        patience = min(seconds, PATIENCE_SECONDS)
        end = time.monotonic() + max(patience, seconds)
        own = {key: value for key, value in _QUIET.items() if not getattr(environment_variables, key).defined}

        def once() -> Any:  # noqa: ANN401
            attempt, left = next(attempts), max(0.5, min(seconds, end - time.monotonic()))
            # MLflow's own retries are silent for minutes, and repeat what must be sent once
            with _environment({**own, _TIMEOUT: left, _RETRIES: 0}):
                try:
                    return self._response(name, call, left)
                except MlflowException as error:
                    if attempt and name in _DELETES and error.error_code in _MISSING:
                        return None  # the first attempt deleted it, and the reply was lost
                    raise

        retrying = Retrying(
            retry=retry_if_exception(_was_not_processed if name in _ONCE else is_transient),
            stop=stop_after_attempt(self._params.request_retries + 1) | stop_before_delay(patience),
            wait=wait_exponential(multiplier=0.25, max=4) + wait_random(0, 0.25),
            reraise=True,
        )
        return retrying(once)

    def _response(self, name: str, call: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401
        if not self._params.is_server:
            return call()
        try:
            return call() if name in _TRANSFERS else _in_time(call, seconds)
        except UnexpectedResponseError:
            raise
        except Exception as error:
            if _is_foreign(error):
                raise UnexpectedResponseError from error
            raise

    def _denied(self, name: str, about: str) -> Exception:
        """Return the error for a denied call; MLflow's login app also denies access to what does not exist, except to admins."""
        of_model = "registered_model" in name or "model_version" in name
        if of_model and name != "get_registered_model":
            try:
                self.get_registered_model(about)
            except (MlflowException, DeniedError) as error:
                return error
        permission = "READ" if name.startswith(_READS) else "MANAGE" if name in _DELETES else "EDIT"
        resource = f"registered model {about}" if of_model else f"experiment {self._experiment(name, about)}"
        return DeniedError(f"needs the permission {permission} on the {resource}")

    def _experiment(self, name: str, about: str) -> str:
        """Return the name of the experiment of a call about a run, if the caller may know it."""
        try:
            number = about if name == "create_run" else self._client.get_run(about).info.experiment_id  # type: ignore[attr-defined]
            return str(self._client.get_experiment(number).name)  # type: ignore[attr-defined]
        except (AttributeError, MlflowException):  # an artifact store, or a run that is missing or denied
            return "of this run, if it exists"


class InlineExecutor(Executor):
    """Runs each call at once: MLflow's pool of threads ignores the limits of a call, and turns its errors into text."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        done: Future[Any] = Future()
        done.set_result(call(*args, **kwargs))
        return done


def all_pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the pages of a search; one that links to an earlier one is an unexpected response."""
    token, seen = None, set[str | None]()
    while token not in seen:
        seen.add(token)
        with gc_paused():
            page = search(token)
        yield page
        token = page.token
        if not token:
            return
    msg = "pages without an end"
    raise UnexpectedResponseError(msg)


def point_plain_mlflow(uri: str) -> None:
    """Let plain ``mlflow.…`` calls find this registry, unless the program chose one; no environment variable is set."""
    if not mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]
        _patch_variables()
        with _environment({_URI: uri}):
            mlflow.set_tracking_uri(uri)


@contextmanager
def _environment(values: Mapping[str, Any]) -> Iterator[None]:
    """Let MLflow read these values of environment variables in this context only; other threads see the real ones."""
    token = _OVERRIDES.set(values)
    try:
        yield
    finally:
        _OVERRIDES.reset(token)


@cache
def _patch_variables() -> None:
    def patch(name: str, variable: Any) -> None:  # noqa: ANN401 (MLflow's)
        if not all(hasattr(variable, method) for method in ("get", "set", "defined")):
            raise _unsupported(environment_variables.__name__, name)
        read, write = variable.get, variable.set
        variable.get = lambda: _OVERRIDES.get()[name] if name in _OVERRIDES.get() else read()
        variable.set = lambda value: None if name in _OVERRIDES.get() else write(value)

    for name in (_TIMEOUT, _RETRIES, _URI, *_QUIET):
        patch(name, getattr(environment_variables, name, None))


def _in_time(call: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401
    """Make a call that ends in time: a server that sends a byte now and then never lets a request time out."""
    done: Future[Any] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 (raised in the waiting thread)
            if error.__cause__ is None and not error.__suppress_context__:
                error.__cause__ = error.__context__  # raised again in an except block, it would lose its context
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    return done.result(seconds + 0.5)  # the error of a request that times out by itself says more


def is_transient(error: BaseException) -> bool:
    """Return whether a call failed at once, and for a reason that may pass soon."""
    chain = list(_chain(error))
    passing = _status(chain) in _TRANSIENT_STATUS or any(isinstance(e, _CUT) for e in chain)
    return passing and not any(isinstance(e, _PERMANENT) for e in chain)


def _was_not_processed(error: BaseException) -> bool:
    """Return whether a call certainly had no effect: no connection was made, or the server turned it away."""
    chain = list(_chain(error))
    return is_transient(error) and (any(isinstance(e, NewConnectionError) for e in chain) or _status(chain) == "429")


def is_denial(status: int, text: str) -> bool:
    """Return whether a response is the plain text by which MLflow's own login app denies a call."""
    return status == HTTPStatus.FORBIDDEN and text.strip().lower().startswith("permission denied")


def _is_foreign(error: Exception) -> bool:
    """Return whether an error comes from a response that is not MLflow's: MLflow takes any 404 page for "does not exist"."""
    if isinstance(error, RestException):
        return "error_code" not in error.json
    if isinstance(error, MlflowException):
        return "Response body: '" in str(error)
    if isinstance(error, requests.RequestException):
        return isinstance(error, requests.exceptions.InvalidJSONError | requests.exceptions.ContentDecodingError)
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(f"{module}.".startswith(_PARSERS) for module in modules)  # raised while a response was parsed


def _unsupported(owner: str, name: str) -> RegistryError:
    return RegistryError(
        f"MLflow {mlflow.__version__} has no {owner}.{name}, which fxhelpers needs; it works with mlflow{SUPPORTED_MLFLOW}: "
        f"pip install 'mlflow{SUPPORTED_MLFLOW}'"
    )


def translated(error: Exception, doing: str, params: Params) -> RegistryError:
    """Return our own error for one of MLflow's, of the network or of the database."""
    uri, cause = params.mlflow.tracking_uri, _cause(error, params)
    if cause:
        return RegistryUnavailableError(f"cannot {doing}: {params.without_secrets(cause)}")
    text = params.without_secrets(" ".join(str(getattr(error, "message", error)).split()))
    if not isinstance(error, MlflowException):
        return RegistryError(f"cannot {doing} at {uri}: {text:.300}")
    if error.error_code in _DENIED:
        return RegistryUnavailableError(f"cannot {doing}: {uri} refuses it: {text:.300}; check {params.login_setting}")
    kind = VersionNotFoundError if error.error_code in _MISSING else RegistryError
    return kind(f"cannot {doing}: {uri} says: {text:.200} (see {params.uri_setting})")


def holds_secret(error: BaseException, params: Params) -> bool:
    """Return whether an error, or one that caused it, shows a password or a token."""
    return any(params.without_secrets(str(e)) != str(e) for e in _chain(error))


def _cause(error: BaseException, params: Params) -> str | None:
    """Say why a call failed and which setting to check; None if MLflow itself answered, whose message says it best."""
    chain, uri = list(_chain(error)), params.mlflow.tracking_uri
    status, body = _status(chain), _body(chain)
    missing_file = status == "404" and isinstance(chain[-1], requests.HTTPError)
    if isinstance(error, DeniedError):
        return f"{uri} says {body!r}: {params.login_name} {error}; an MLflow administrator can grant it"
    if status and not missing_file:
        return _http(status, body, params)
    if isinstance(error, UnexpectedResponseError):
        page = (
            "a web page, as a proxy or a login page does"
            if "<" in str(chain[-1])
            else f"something else ({type(chain[-1]).__name__})"
        )
        return f"{uri} does not answer as MLflow does, but with {page}; check {params.uri_setting}, and HTTPS_PROXY or HTTP_PROXY"
    if any(isinstance(e, requests.RequestException) for e in chain) or (params.is_server and isinstance(error, TimeoutError)):
        return _network(chain, params)
    return None


def _http(status: str, body: str | None, params: Params) -> str:
    uri = params.mlflow.tracking_uri
    reply = f"HTTP {status}: {body}" if body else f"HTTP {status}"
    if status in {"401", "407"} or (status == "403" and not body):
        return f"{uri} refuses the login ({reply}); check {params.login_setting}"
    if status == "403" and body and re.search(r"\bhost\b", body, re.IGNORECASE):
        return f"the server at {uri} rejects that host name ({reply}); add it to --allowed-hosts, or check {params.uri_setting}"
    if status == "403":
        return f"{uri} refuses this ({reply}); check {params.login_setting}"
    if status == "429":
        return f"{uri} asks for fewer calls ({reply}): try again later"
    if status.startswith("5"):
        return f"{uri} fails ({reply}): check the server's log and proxies on the way to it, then try again"
    return f"{uri} answers, but is not MLflow's registry ({reply}); check {params.uri_setting}"


def _network(chain: list[BaseException], params: Params) -> str:
    uri, limit = params.mlflow.tracking_uri, f"{params.request_seconds:g} s of {_TIMEOUT}"
    causes = {
        requests.exceptions.SSLError: (
            f"the certificate of {uri} is not trusted; set MLFLOW_TRACKING_SERVER_CERT_PATH to one to trust, "
            f"or check {params.uri_setting}"
        ),
        requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL: (
            f"cannot reach {uri} through the proxy in HTTPS_PROXY or HTTP_PROXY; list hosts to reach without it in NO_PROXY"
        ),
        _TIMEOUTS: f"no answer from {uri} within the {limit}; check {params.uri_setting}",
        requests.RequestException: f"no answer from {uri}; check {params.uri_setting} ({type(chain[-1]).__name__})",
    }
    return next(text for kind, text in causes.items() if any(isinstance(e, kind) for e in chain))


def _status(chain: list[BaseException]) -> str:
    """Return the HTTP status in an error; "" if MLflow itself answered, or there was no response."""
    for error in chain:
        response = getattr(error, "response", None)
        if isinstance(error, requests.HTTPError) and response is not None:
            return str(response.status_code)
        match = _STATUS.search(str(error))
        if match:
            return str(next(filter(None, match.groups())))
    return ""


def _body(chain: list[BaseException]) -> str | None:
    """Return the text that a server sent for people to read; None if there is none, or it is a web page."""
    for error in chain:
        match = _BODY.search(str(error))
        text = " ".join(next(filter(None, match.groups()), "").split()) if match else ""
        if text:
            return None if "<" in text else f"{text:.{_LONGEST_BODY}}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
