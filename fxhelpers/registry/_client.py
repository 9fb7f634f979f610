"""A connection to MLflow: one client, its calls limited in time, its errors translated."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import mlflow
import mlflow.exceptions
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy.exc import SQLAlchemyError

from fxhelpers.errors import FxError, RegistryError, RegistryUnavailableError, VersionNotFoundError
from fxhelpers.ledger import Identity
from fxhelpers.params import Params
from fxhelpers.registry._calls import Calls, HereExecutor, all_pages, point_plain_mlflow
from fxhelpers.registry._causes import DeniedError, UnexpectedResponseError, is_passing, tells_secret, translated
from fxhelpers.registry._connection import Connection, connect, open_database, server_clock, sqlite_file
from fxhelpers.registry._version import STAGE_TAG, ModelVersion, as_version

logger = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
IS_PROMPT = "mlflow.prompt.is_prompt"
ANY_MODEL = f"name != '{IS_PROMPT}'"
"""A search that names MLflow's mark of prompts: to any other it adds one for that tag, by which older servers find nothing."""

ALIAS_TAG = "fx.alias."
"""Begins the tag of a registered model that is its alias, where a server knows none."""

_CALL = "fx.call"
"""Tag of a run that tells one creation from all others."""

_PAGE = 5000
"""Versions at once."""

_MISSING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # an alias that is not there is either, by store


class RegistryClient:
    """MLflow's model registry, as far as fxhelpers uses it; making one connects to nothing, the first call does."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self._experiments: dict[str, str] = {}
        self.known: dict[str, str] = {}  # ids that never change, by what they are of
        self._client: MlflowClient | None = None
        self._connection: Connection | None = None

    @property
    def uri(self) -> str:
        """Where the registry is, without credentials."""
        return self.params.mlflow.tracking_uri

    @contextmanager
    def session(self, doing: str, name: str = "") -> Iterator[MlflowClient]:
        """Lend the MLflow client for some calls; its errors become ours.

        ``doing`` and ``name`` say in an error what was tried.
        """
        what = f"{doing} {name}".strip()
        missing = self.params.registry_missing
        if missing:
            msg = f"cannot {what}: {missing}"
            raise RegistryUnavailableError(msg)
        try:
            yield cast("MlflowClient", Calls(self._open(what), self.params, self.params.request_seconds))
        except FxError:
            raise
        except (
            mlflow.exceptions.MlflowException,
            UnexpectedResponseError,
            DeniedError,
            requests.RequestException,
            SQLAlchemyError,
            OSError,
        ) as error:
            raise translated(error, what, self.params) from (None if tells_secret(error, self.params) else error)

    @contextmanager
    def files(self, doing: str, name: str, run_id: str) -> Iterator[Any]:
        """Lend the files of a run; MLflow's client looks for logged models among them, which older servers do not know."""
        with self.session(doing, name) as client:
            uri = self.params.client_uri
            store = get_artifact_repository(client.get_run(run_id).info.artifact_uri, tracking_uri=uri, registry_uri=uri)
            if self.params.is_server:
                store.thread_pool = HereExecutor()
            yield Calls(store, self.params, self.params.request_seconds)

    def _open(self, what: str) -> MlflowClient:
        if self._client is not None:
            return self._client
        uri = self.params.client_uri
        try:
            point_plain_mlflow(self.params.registry_uri)
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri) if self.params.is_server else open_database(uri)
        except (SQLAlchemyError, OSError, ImportError) as error:
            reason = self.params.without_secrets(" ".join(str(error).split()))
            msg = f"cannot {what}: no answer from {self.uri}; check {self.params.uri_setting} ({reason:.300})"
            raise RegistryUnavailableError(msg) from error
        return self._client

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a registered model, newest first; none where there is no such model."""
        champion = self.champion_number(name)
        with self.session("list the versions of", name) as client:
            # in an order that no update changes: else a version may move from one page to another while they are read
            asked: dict[str, Any] = {
                "filter_string": f"name={quoted(name)}",
                "order_by": ["version_number DESC"],
                "max_results": _PAGE,
            }
            found = [_of(name, v) for v in all_pages(lambda token: client.search_model_versions(**asked, page_token=token))]
        return sorted((as_version(v, champion=champion) for v in found), key=lambda v: -v.version)

    def version(self, name: str, version: int) -> ModelVersion:
        """Return one version; :class:`VersionNotFoundError` where there is none of that number."""
        champion = self.champion_number(name)
        with self.session(f"find version {version} of", name) as client:
            found = _of(name, client.get_model_version(name, str(version)), version)
        return as_version(found, champion=champion)

    def champion(self, name: str) -> ModelVersion | None:
        """Return the version in Production, in one call; None where there is none."""
        return self._by_alias(name, CHAMPION)

    def champion_number(self, name: str) -> int | None:
        """Return the number of the version in Production, in one call; None where there is none."""
        champion = self.champion(name)
        return champion.version if champion else None

    def champion_identity(self, name: str) -> Identity | None:
        """Return which version is in Production, in one call; None where there is none."""
        champion = self.champion(name)
        return champion.identity if champion else None

    def elsewhere(self, name: str, run_id: str) -> str | None:
        """Return the registered model that has a run's version, if that is another one than it once was: it was renamed."""
        with self.session("look for the versions of", name) as client:
            found = client.search_model_versions(f"run_id = {quoted(run_id)}")
        return next((str(v.name) for v in found if v.name != name), None)

    def challenger(self, name: str) -> ModelVersion | None:
        """Return the version that wants to be champion, in one call; None where there is none."""
        return self._by_alias(name, CHALLENGER)

    def find_version(self, name: str, tag: str, value: str) -> ModelVersion | None:
        """Return the oldest version that carries a tag with this value; None where none does."""
        with self.session("search the versions of", name) as client:
            found = client.search_model_versions(f"name={quoted(name)} and tags.`{tag}` = {quoted(value)}")
            numbers = [int(_of(name, v).version) for v in found]
        return self.version(name, min(numbers)) if numbers else None

    def set_stage(self, name: str, version: int, stage: str) -> None:
        """Set MLflow's stage of one version; this alone makes no champion."""
        with self.session(f"set version {version} to {stage} in", name) as client:
            try:
                client.transition_model_version_stage(name, str(version), stage, archive_existing_versions=False)
            except UnexpectedResponseError:
                if self.connection.stages:
                    raise
                client.set_model_version_tag(name, str(version), STAGE_TAG, stage)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version."""
        with self.session(f"set alias {alias} of", name) as client:
            try:
                client.set_registered_model_alias(name, alias, str(version))
            except UnexpectedResponseError:
                if self.connection.aliases:
                    raise
                client.set_registered_model_tag(name, f"{ALIAS_TAG}{alias}", str(version))

    def drop_alias(self, name: str, alias: str) -> None:
        """Remove an alias, if it is there."""
        with self.session(f"drop alias {alias} of", name) as client:
            try:
                client.delete_registered_model_alias(name, alias)
            except DeniedError as denied:  # MLflow lets who may edit set an alias, and not delete it
                if alias == CHAMPION:
                    raise
                logger.warning("%s: its alias %s stays where it is: %s %s", name, alias, self.params.login_name, denied)
            except UnexpectedResponseError:
                if self.connection.aliases:
                    raise
                client.set_registered_model_tag(name, f"{ALIAS_TAG}{alias}", "")

    def check_may_remove_alias(self, name: str) -> None:
        """Raise an error where this user may not remove an alias, which needs more than to set one; no version has this one."""
        if self.connection.aliases:
            with self.session("take the champion away from", name) as client:
                client.delete_registered_model_alias(name, "fx-nobody")

    def delete_version(self, name: str, version: int) -> None:
        """Delete one version; its run and files stay."""
        with self.session(f"delete version {version} of", name) as client:
            client.delete_model_version(name, str(version))

    def annotate(self, name: str, version: int, *, tags: dict[str, str], description: str | None = None) -> None:
        """Set tags, and the description where one is given, of a version."""
        with self.session(f"annotate version {version} of", name) as client:
            for key, value in tags.items():
                client.set_model_version_tag(name, str(version), key, value)
            if description is not None:
                client.update_model_version(name, str(version), description=description)

    def log_run(self, run_name: str, *, params: dict[str, Any], metrics: dict[str, float], tags: dict[str, str]) -> str:
        """Log one finished run with parameters, metrics and tags; return its id."""
        with self.session("log run", run_name) as client:
            run_id = new_run(client, self.experiment_id, run_name, tags)
            log_values(client, run_id, params, metrics)
            client.set_terminated(run_id)
        return run_id

    @property
    def experiment_id(self) -> str:
        """The experiment of ``mlflow.experiment_name``; made where it is not there yet."""
        return self.experiment(self.params.mlflow.experiment_name)

    def find_experiment(self, name: str) -> str | None:
        """Return the id of an experiment; None where there is none of that name."""
        if name not in self._experiments:
            with self.session("open experiment", name) as client:
                found = client.get_experiment_by_name(name)
            if found is None:
                return None
            if found.lifecycle_stage != "active":
                msg = f"experiment {name} was deleted at {self.uri}: mlflow experiments restore -x {found.experiment_id}"
                raise RegistryError(msg)
            self._experiments[name] = str(found.experiment_id)
        return self._experiments[name]

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; made where it is not there yet, by us or by somebody at the same time."""
        known = self.find_experiment(name)
        if known is not None:
            return known
        with self.session("create experiment", name) as client, suppress_existing():
            client.create_experiment(name, artifact_location=self._artifacts)
        return self.experiment(name)

    def server_time(self) -> datetime | None:
        """Return the time by the registry's own clock, UTC; None where it tells none.

        A server tells it by HTTP, in whole seconds; PostgreSQL and MySQL to
        the microsecond, for SQLite the file system. One small request each
        time.
        """
        with self.session("ask the time of", self.uri):
            return server_clock(self.params)

    @property
    def connection(self) -> Connection:
        """What the registry can do; asked once."""
        if self._connection is None:
            with self.session("ask what the registry can do") as client:
                self._connection = connect(client, self.params)
        return self._connection

    @property
    def _artifacts(self) -> str | None:
        """Where files go: a server knows; beside an embedded database, and not below whatever folder this runs in."""
        if self.params.is_server:
            return None
        file = sqlite_file(self.params.registry_uri)
        return ((file.parent if file else self.params.folder / "outputs" / "registry") / "artifacts").as_uri()

    def _by_alias(self, name: str, alias: str) -> ModelVersion | None:
        with self.session(f"look up the {alias} of", name) as client:
            try:
                found = self._aliased(client, name, alias)
                if found is None:
                    return None
                found = _of(name, found)
            except mlflow.exceptions.MlflowException as error:
                if error.error_code in _MISSING:
                    return None
                raise
        return as_version(found, champion=int(found.version) if alias == CHAMPION else None)

    def _aliased(self, client: MlflowClient, name: str, alias: str) -> MlflowModelVersion | None:
        try:
            return client.get_model_version_by_alias(name, alias)
        except UnexpectedResponseError:
            if self.connection.aliases:
                raise
        number = client.get_registered_model(name).tags.get(f"{ALIAS_TAG}{alias}")
        return client.get_model_version(name, number) if number else None


def new_run(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> str:
    """Create a run, and return its id; where the answer was lost, it is looked for before another one is made."""
    mark = secrets.token_hex(8)
    try:
        return _created(client, experiment, name, {**tags, _CALL: mark})
    except (mlflow.exceptions.MlflowException, requests.RequestException, UnexpectedResponseError) as error:
        if not is_passing(error):
            raise
        found = client.search_runs([experiment], f"tags.`{_CALL}` = {quoted(mark)}", max_results=1)
    return str(found[0].info.run_id) if found else _created(client, experiment, name, {**tags, _CALL: mark})


def _created(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> str:
    run_id = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id or "")
    if not run_id:
        msg = "a run without an id"
        raise UnexpectedResponseError(msg)
    return run_id


def _of(name: str, found: MlflowModelVersion, version: int | None = None) -> MlflowModelVersion:
    """Return a version that was found, if it is one of the model that was asked for."""
    if found.name != name or not str(found.version).isdecimal() or (version is not None and int(found.version) != version):
        msg = "a version of another model, or none"
        raise UnexpectedResponseError(msg)
    return found


def log_values(client: MlflowClient, run_id: str, params: dict[str, Any], metrics: dict[str, float]) -> None:
    """Log parameters (as text) and metrics to a run, in as few calls as MLflow allows."""
    from mlflow.entities import Metric, Param

    now = int(datetime.now(UTC).timestamp() * 1000)
    client.log_batch(
        run_id,
        params=[Param(key, str(value)) for key, value in params.items()],
        metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()],
    )


def quoted(value: str) -> str:
    """Quote a value for MLflow's filter language, which knows no escape: choose the quote that is not in it."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    msg = f"{value!r}: a name with both kinds of quotes cannot be looked up in MLflow"
    raise VersionNotFoundError(msg)


@contextmanager
def suppress_existing() -> Iterator[None]:
    """Take it as done where what is created is there already."""
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
