"""Calls to MLflow: with the credentials given, retried, and with errors of ours."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from threading import Thread
from types import MappingProxyType
from typing import Any

import mlflow
import mlflow.exceptions
import requests
from mlflow import environment_variables
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_exponential, wait_random

from fxhelpers.params import Params
from fxhelpers.processes import gc_paused
from fxhelpers.registry._causes import (
    DeniedError,
    UnexpectedResponseError,
    is_denied,
    is_foreign,
    is_missing,
    is_passing,
    unsupported,
    was_not_taken,
)

_GIVEN: ContextVar[Mapping[str, Any]] = ContextVar("fxhelpers_given", default=MappingProxyType({}))
_TIMEOUT, _RETRIES, _URI = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_TRACKING_URI"
_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": False, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True}
"""No bars and addresses in reports, where the user chose nothing."""


@contextmanager
def given(*, seconds: float) -> Iterator[None]:
    """Let the calls of this context end in so many seconds, send each request once, and print nothing.

    MLflow's own repeats are silent for minutes, and send again what must be
    sent once.
    """
    _listen()
    chosen = {name: value for name, value in _QUIET.items() if not getattr(environment_variables, name).defined}
    with _giving({**chosen, _TIMEOUT: seconds, _RETRIES: 0}):
        yield


def point_plain_mlflow(uri: str) -> None:
    """Let plain ``mlflow.…`` calls find the same registry, unless the program chose one.

    MLflow would also set the environment variable, to which the params.yaml
    of another project gives way.
    """
    if not mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]
        _listen()
        with _giving({_URI: uri}):
            mlflow.set_tracking_uri(uri)


@contextmanager
def _giving(values: Mapping[str, Any]) -> Iterator[None]:
    token = _GIVEN.set(values)
    try:
        yield
    finally:
        _GIVEN.reset(token)


@cache
def _listen() -> None:
    """Put what was given to a call before the environment, once for this process."""
    for name in (_TIMEOUT, _RETRIES, _URI, *_QUIET):
        variable: Any = getattr(environment_variables, name, None)
        if not all(hasattr(variable, method) for method in ("get", "set", "defined")):
            raise unsupported(environment_variables.__name__, name)
        variable.get = _first_given(name, variable.get)
        variable.set = _unless_given(name, variable.set)


def _first_given(name: str, otherwise: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: _GIVEN.get()[name] if name in _GIVEN.get() else otherwise()


def _unless_given(name: str, otherwise: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: None if name in _GIVEN.get() else otherwise(value)


PATIENCE_SECONDS = 20.0
"""How long to wait for a server that does not take calls, because it is being restarted say."""

_TRANSFERS = {"log_artifact", "log_artifacts", "download_artifacts"}
"""Made of many requests, each with the limit of a call."""

_ONCE = {"create_model_version", "create_run"}
"""Made again after its answer was lost, this would make a second one: who calls it looks for the first."""

_DEPRECATED = "transition_model_version_stage"
"""Stages are deprecated, and still what users read."""

_READS = ("get_", "search_", "list_", "download_")
_DELETES = ("delete_model_version", "delete_registered_model", "delete_registered_model_alias", "delete_run", "delete_artifacts")


class Calls:
    """MLflow's client, or a store of files: each call ends in so many seconds, and is made again where that is harmless."""

    def __init__(self, client: object, params: Params, seconds: float) -> None:
        self._client, self._params, self._seconds = client, params, seconds

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (MLflow's methods)
        call = getattr(self._client, name, None)
        if call is None:
            raise unsupported(type(self._client).__name__, name)
        if name == _DEPRECATED and hasattr(call, "__wrapped__"):  # warnings are switched off for all threads, or none
            call = call.__wrapped__.__get__(self._client)

        def made(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            try:
                return self._made(name, lambda: call(*args, **kwargs))
            except (UnexpectedResponseError, requests.HTTPError) as error:
                if not is_denied(error):
                    raise
                denied = self._denied(name, str(next(iter((*args, *kwargs.values())), "")))
                raise denied from (error if isinstance(denied, DeniedError) else None)

        return made

    def _made(self, name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        tried = itertools.count()
        patience = min(self._params.request_seconds, PATIENCE_SECONDS)
        end = time.monotonic() + max(patience, self._seconds)

        def once() -> Any:  # noqa: ANN401
            number, left = next(tried), max(0.5, min(self._seconds, end - time.monotonic()))
            with given(seconds=left):
                try:
                    return self._answer(name, call, left)
                except mlflow.exceptions.MlflowException as error:
                    if number and name in _DELETES and is_missing(error):
                        return None  # the first time it was deleted, and the answer lost
                    raise

        again = Retrying(
            retry=retry_if_exception(was_not_taken if name in _ONCE else is_passing),
            stop=stop_after_attempt(self._params.request_retries + 1) | stop_before_delay(patience),
            wait=wait_exponential(multiplier=0.25, max=4) + wait_random(0, 0.25),
            reraise=True,
        )
        return again(once)

    def _answer(self, name: str, call: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401
        if not self._params.is_server:
            return call()
        try:
            return call() if name in _TRANSFERS else in_time(call, seconds)
        except UnexpectedResponseError:
            raise
        except Exception as error:
            if is_foreign(error):
                raise UnexpectedResponseError from error
            raise

    def _denied(self, name: str, about: str) -> Exception:
        """Return the error for what MLflow's login app denied: it also denies what is not there, but to administrators."""
        of_model = "registered_model" in name or "model_version" in name
        if of_model and name != "get_registered_model":
            try:
                self.get_registered_model(about)
            except (mlflow.exceptions.MlflowException, DeniedError) as error:
                return error
        needed = "READ" if name.startswith(_READS) else "MANAGE" if name in _DELETES else "EDIT"
        of = f"registered model {about}" if of_model else f"experiment {self._experiment(name, about)}"
        return DeniedError(f"needs the permission {needed} on the {of}")

    def _experiment(self, name: str, about: str) -> str:
        """Name the experiment of a call on a run, as far as its caller may know."""
        try:
            number = about if name == "create_run" else self._client.get_run(about).info.experiment_id  # type: ignore[attr-defined]
            return str(self._client.get_experiment(number).name)  # type: ignore[attr-defined]
        except (AttributeError, mlflow.exceptions.MlflowException):  # files, or a run that is gone, which nobody is told
            return "of this run, if that is there"


class HereExecutor(Executor):
    """Does at once what it is given: MLflow's pool of threads knows nothing of a call's limits, and makes text of its errors."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """Make a call, and return what it returned."""
        done: Future[Any] = Future()
        done.set_result(call(*args, **kwargs))
        return done


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
        with gc_paused():
            page = ask(token)
        found += page
        token = page.token
        if not token:
            return found
        if token in seen:
            msg = "pages without an end"
            raise UnexpectedResponseError(msg)
        seen.add(token)
