"""What MLflow takes from the environment alone, given to single calls instead.

MLflow's client passes no limit on to a request. It asks the objects of
``mlflow.environment_variables`` each time, and these ask the environment,
which all threads share. So each of them is made to look at what was given to
the call first; the environment is not written to, and calls of others find
there what they always did.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import MappingProxyType
from typing import Any

import mlflow
from mlflow import environment_variables

from fxhelpers.registry.causes import unsupported

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
