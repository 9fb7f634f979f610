"""What a failed call means: what the server says, or else what its status, the network or the answer tells."""

import re
import traceback
from collections.abc import Iterator
from http import HTTPStatus

import mlflow
import mlflow.exceptions
import requests
from urllib3.exceptions import NewConnectionError

from fxhelpers.errors import RegistryError, RegistryUnavailableError, VersionNotFoundError
from fxhelpers.params import Params

SUPPORTED_MLFLOW = ">=3.10,<4"
"""As in pyproject.toml."""

_CODE = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses|^(\d{3}) (?:Client|Server) Error")
"""MLflow tells the status of an answer that is not its own in the text of its error, and nowhere else."""

_BODY = re.compile(r"Response (?:body: '(.*)'|text: (.*))$", re.DOTALL)
_PAGE = "Response body: '"
_PASSING = {"429", "502", "503", "504"}
_NOT_TAKEN = {"429"}
_TIMEOUT = requests.Timeout | TimeoutError
_CUT = requests.ConnectionError | requests.exceptions.ChunkedEncodingError
_FOREVER = requests.exceptions.SSLError | requests.exceptions.ProxyError | _TIMEOUT  # after a timeout there is no time left
_LONGEST = 120
_READERS = ("json.", "google.protobuf.", "mlflow.utils.proto_json_utils", "mlflow.store.artifact.http_artifact_repo", "requests.")
_MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}


class UnexpectedResponseError(Exception):
    """What answered is not MLflow."""


class DeniedError(Exception):
    """MLflow's server knows who asks, and does not let them; what it would take is the argument."""


def unsupported(where: str, name: str) -> RegistryError:
    """Return the error for a part of MLflow that is not there."""
    return RegistryError(
        f"MLflow {mlflow.__version__} has no {where}.{name}, which fxhelpers needs; it works with mlflow{SUPPORTED_MLFLOW}: "
        f"pip install 'mlflow{SUPPORTED_MLFLOW}'"
    )


def is_passing(error: BaseException) -> bool:
    """Tell whether a call failed in a way that may be over soon, and did so at once."""
    chain = list(_chain(error))
    if any(isinstance(e, _FOREVER) for e in chain):
        return False
    return any(isinstance(e, _CUT) for e in chain) or _status(chain) in _PASSING


def was_not_taken(error: BaseException) -> bool:
    """Tell whether it is certain that nobody carried a call out: no connection was made, or the server turned it away."""
    chain = list(_chain(error))
    return is_passing(error) and (any(isinstance(e, NewConnectionError) for e in chain) or _status(chain) in _NOT_TAKEN)


def is_missing(error: BaseException) -> bool:
    """Tell whether MLflow itself says that what a call is about is not there."""
    return isinstance(error, mlflow.exceptions.MlflowException) and error.error_code in _MISSING


def is_denied(error: BaseException) -> bool:
    """Tell whether MLflow's own login app denies a call."""
    chain = list(_chain(error))
    return is_denial(int(_status(chain) or 0), _message(chain) or "")


def is_denial(status: int, text: str) -> bool:
    """Tell whether an answer is that of MLflow's own login app to who may not do this; it says so in plain text."""
    return status == HTTPStatus.FORBIDDEN and text.strip().lower().startswith("permission denied")


def is_foreign(error: Exception) -> bool:
    """Tell an answer that is not MLflow's from one that is: MLflow takes any page of 404 for "not there"."""
    if isinstance(error, mlflow.exceptions.RestException):
        return "error_code" not in error.json
    if isinstance(error, mlflow.exceptions.MlflowException):
        return _PAGE in str(error)
    if isinstance(error, requests.RequestException):
        return isinstance(error, requests.exceptions.InvalidJSONError | requests.exceptions.ContentDecodingError)
    names = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(f"{name}.".startswith(_READERS) for name in names)  # it was raised where answers are read


def meaning(error: BaseException, params: Params) -> str | None:
    """Say what a failed call means and which setting to look at; None where MLflow itself answered, and says it best."""
    chain, uri = list(_chain(error)), params.mlflow.tracking_uri
    status = _status(chain)
    if isinstance(error, DeniedError):
        return f"{uri} says {_message(chain)!r}: {params.login_name} {error}; an administrator of MLflow can grant that"
    if status and not _is_missing_file(chain, status):
        return _http(status, _message(chain), params)
    if isinstance(error, UnexpectedResponseError):
        page = "a web page, as a proxy or a login page does" if "<" in str(chain[-1]) else f"something else ({_kind(chain[-1])})"
        return f"{uri} does not answer as MLflow does, but with {page}; check {params.uri_setting}, and HTTPS_PROXY or HTTP_PROXY"
    if any(isinstance(e, requests.RequestException) for e in chain) or (params.is_server and isinstance(error, TimeoutError)):
        return _network(chain, params)
    return None


def _http(status: str, message: str | None, params: Params) -> str:
    uri = params.mlflow.tracking_uri
    words = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    if status in {"401", "407"} or (status == "403" and not message):
        return f"{uri} refuses the login ({words}); check {params.login_setting}"
    if status == "403" and message and re.search(r"\bhost\b", message, re.IGNORECASE):
        return f"{uri} is no name that its server takes ({words}); add it to its --allowed-hosts, or check {params.uri_setting}"
    if status == "403":
        return f"{uri} refuses this ({words}); check {params.login_setting}"
    if status == "429":
        return f"{uri} asks for fewer calls ({words}): try again later"
    if status.startswith("5"):
        return f"{uri} fails ({words}): look at the server's log and at proxies on the way to it, then try again"
    return f"{uri} is there, but not MLflow's registry ({words}); check {params.uri_setting}"


def _network(chain: list[BaseException], params: Params) -> str:
    uri, limit = params.mlflow.tracking_uri, f"{params.request_seconds:g} s of MLFLOW_HTTP_REQUEST_TIMEOUT"
    means = {
        requests.exceptions.SSLError: (
            f"no trust in the certificate of {uri}; MLFLOW_TRACKING_SERVER_CERT_PATH names one to trust, "
            f"and {params.uri_setting} the server"
        ),
        requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL: (
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
        return RegistryUnavailableError(f"cannot {what}: {params.without_secrets(means)}")
    text = params.without_secrets(" ".join(str(getattr(error, "message", error)).split()))
    if isinstance(error, mlflow.exceptions.MlflowException):
        if error.error_code in _DENIED:
            return RegistryUnavailableError(
                f"cannot {what}: {params.mlflow.tracking_uri} refuses it: {text:.300}; check {params.login_setting}"
            )
        return (VersionNotFoundError if error.error_code in _MISSING else RegistryError)(
            f"cannot {what}: {params.mlflow.tracking_uri} says: {text:.200} (see {params.uri_setting})"
        )
    return RegistryError(f"cannot {what} at {params.mlflow.tracking_uri}: {text:.300}")


def tells_secret(error: BaseException, params: Params) -> bool:
    """Tell whether an error, or one that led to it, holds what must not be told."""
    return any(params.without_secrets(str(e)) != str(e) for e in _chain(error))


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


def _message(chain: list[BaseException]) -> str | None:
    """Return what a server says for people to read; None where that is nothing, or a web page."""
    for error in chain:
        found = _BODY.search(str(error))
        text = " ".join(next(filter(None, found.groups()), "").split()) if found else ""
        if text:
            return None if "<" in text else f"{text:.{_LONGEST}}"
    return None


def _is_missing_file(chain: list[BaseException], status: str) -> bool:
    """Tell a file that is not in the store from an address where no MLflow is."""
    return status == "404" and isinstance(chain[-1], requests.HTTPError)


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
