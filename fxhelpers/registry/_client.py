"""MLflow's model registry: versions, aliases, stages, runs and experiments."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy.exc import SQLAlchemyError

from fxhelpers.errors import FxError, RegistryError, RegistryUnavailableError, VersionNotFoundError
from fxhelpers.ledger import Identity
from fxhelpers.params import Params
from fxhelpers.registry._calls import (
    Calls,
    DeniedError,
    InlineExecutor,
    UnexpectedResponseError,
    all_pages,
    holds_secret,
    is_transient,
    point_plain_mlflow,
    translated,
)
from fxhelpers.registry._connection import Connection, connect, open_database, registry_clock, sqlite_file
from fxhelpers.registry._versions import STAGE_TAG, ModelVersion, as_version

logger = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
IS_PROMPT = "mlflow.prompt.is_prompt"
# to a search that does not name its tag of prompts MLflow adds a condition by which older servers find nothing
ANY_MODEL = f"name != '{IS_PROMPT}'"
ALIAS_TAG = "fx.alias."  # prefix of the tag of a registered model that replaces an alias on a server without aliases

LOOK_UP = -1  # in place of the number of the version in Production: it is not known yet

_CALL = "fx.call"  # tag of a run that identifies the call that created it
_PAGE = 5000


class RegistryClient:
    """MLflow's model registry, as far as fxhelpers uses it; the first call connects."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.ledger_root = ""  # the run that names the first entry of every ledger, once found
        self._experiments: dict[str, str] = {}
        self._client: MlflowClient | None = None
        self._connection: Connection | None = None

    @property
    def uri(self) -> str:
        return self.params.mlflow.tracking_uri

    @contextmanager
    def session(self, doing: str, name: str = "") -> Iterator[MlflowClient]:
        """Yield the MLflow client for some calls, whose errors become ours; ``doing`` and ``name`` say what failed."""
        doing = f"{doing} {name}".strip()
        missing = self.params.registry_missing
        if missing:
            msg = f"cannot {doing}: {missing}"
            raise RegistryUnavailableError(msg)
        try:
            yield cast("MlflowClient", Calls(self._open(doing), self.params))
        except FxError:
            raise
        except (MlflowException, UnexpectedResponseError, DeniedError, SQLAlchemyError, OSError) as error:
            raise translated(error, doing, self.params) from (None if holds_secret(error, self.params) else error)

    @contextmanager
    def files(self, doing: str, name: str, run_id: str) -> Iterator[Any]:
        """Yield the artifact store of a run; MLflow's client would search it for logged models, which older servers lack."""
        with self.session(doing, name) as client:
            uri = self.params.client_uri
            store = get_artifact_repository(client.get_run(run_id).info.artifact_uri, tracking_uri=uri, registry_uri=uri)
            if self.params.is_server:
                store.thread_pool = InlineExecutor()
            yield Calls(store, self.params)

    def _open(self, doing: str) -> MlflowClient:
        if self._client is None:
            uri = self.params.client_uri
            try:
                point_plain_mlflow(self.params.registry_uri)
                self._client = MlflowClient(tracking_uri=uri, registry_uri=uri) if self.params.is_server else open_database(uri)
            except (SQLAlchemyError, OSError, ImportError) as error:
                reason = self.params.without_secrets(" ".join(str(error).split()))
                msg = f"cannot {doing}: no answer from {self.uri}; check {self.params.uri_setting} ({reason:.300})"
                raise RegistryUnavailableError(msg) from error
        return self._client

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            with self.session("read the features of the registry") as client:
                self._connection = connect(client, self.params)
        return self._connection

    def server_time(self) -> datetime | None:
        """Return the time by the registry's own clock, UTC, in one small request; None if it has none."""
        with self.session("read the time of", self.uri):
            return registry_clock(self.params)

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a registered model, newest first; none if there is no such model."""
        champion = self.champion_number(name)
        with self.session("list the versions of", name) as client:
            order = ["version_number DESC"]  # no update changes it: else a version may move between pages
            pages = all_pages(lambda token: client.search_model_versions(f"name={quoted(name)}", _PAGE, order, token))
            found = [_checked(name, version) for page in pages for version in page]
        return sorted((as_version(v, champion=champion) for v in found), key=lambda v: -v.version)

    def version(self, name: str, version: int, *, champion: int | None = LOOK_UP) -> ModelVersion:
        """Return one version; :class:`VersionNotFoundError` if there is none of that number.

        ``champion`` is the number of the version in Production, if that is known.
        """
        champion = self.champion_number(name) if champion == LOOK_UP else champion
        with self.session(f"find version {version} of", name) as client:
            found = _checked(name, client.get_model_version(name, str(version)), version)
        return as_version(found, champion=champion)

    def champion(self, name: str) -> ModelVersion | None:
        """Return the version in Production, in one call; None if there is none."""
        return self._by_alias(name, CHAMPION)

    def champion_number(self, name: str) -> int | None:
        """Return the number of the version in Production, in one call; None if there is none."""
        champion = self.champion(name)
        return champion.version if champion else None

    def champion_identity(self, name: str) -> Identity | None:
        """Return the number and bundle of the version in Production, in one call; None if there is none."""
        champion = self.champion(name)
        return champion.identity if champion else None

    def challenger(self, name: str) -> ModelVersion | None:
        """Return the version that wants to be champion, in one call; None if there is none."""
        return self._by_alias(name, CHALLENGER)

    def _by_alias(self, name: str, alias: str) -> ModelVersion | None:
        with self.session(f"look up the {alias} of", name) as client:
            found = None
            with ignoring("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # stores differ
                found = self._aliased(client, name, alias)
            if found is None:
                return None
            number = int(_checked(name, found).version)
        return as_version(found, champion=number if alias == CHAMPION else None)

    def _aliased(self, client: MlflowClient, name: str, alias: str) -> MlflowModelVersion | None:
        try:
            return client.get_model_version_by_alias(name, alias)
        except UnexpectedResponseError:
            if self.connection.aliases:
                raise
        number = client.get_registered_model(name).tags.get(f"{ALIAS_TAG}{alias}")
        return client.get_model_version(name, number) if number else None

    def find_version(self, name: str, tag: str, value: str) -> ModelVersion | None:
        """Return the oldest version whose tag has this value; None if there is none."""
        with self.session("search the versions of", name) as client:
            found = client.search_model_versions(f"name={quoted(name)} and tags.`{tag}` = {quoted(value)}")
            numbers = [int(_checked(name, v).version) for v in found]
        return self.version(name, min(numbers)) if numbers else None

    def elsewhere(self, name: str, run_id: str) -> str | None:
        """Return the other registered model that has the version of a run, if the model was renamed; else None."""
        with self.session("look for the versions of", name) as client:
            found = client.search_model_versions(f"run_id = {quoted(run_id)}")
        return next((str(v.name) for v in found if v.name != name), None)

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
        with self.session(f"set alias {alias} of", name) as client:
            try:
                client.set_registered_model_alias(name, alias, str(version))
            except UnexpectedResponseError:
                if self.connection.aliases:
                    raise
                client.set_registered_model_tag(name, f"{ALIAS_TAG}{alias}", str(version))

    def drop_alias(self, name: str, alias: str) -> None:
        """Remove an alias, if it exists."""
        with self.session(f"drop alias {alias} of", name) as client:
            try:
                client.delete_registered_model_alias(name, alias)
            except DeniedError as denied:  # with MLflow's EDIT a user can set an alias, but not delete it
                if alias == CHAMPION:
                    raise
                logger.warning("%s: its alias %s stays where it is: %s %s", name, alias, self.params.login_name, denied)
            except UnexpectedResponseError:
                if self.connection.aliases:
                    raise
                client.set_registered_model_tag(name, f"{ALIAS_TAG}{alias}", "")

    def check_may_remove_alias(self, name: str) -> None:
        """Raise an error unless this user may remove an alias, which needs more than setting one; no version has this one."""
        if self.connection.aliases:
            with self.session("take the champion away from", name) as client:
                client.delete_registered_model_alias(name, "fx-nobody")

    def delete_version(self, name: str, version: int) -> None:
        """Delete one version; its run and files stay."""
        with self.session(f"delete version {version} of", name) as client:
            client.delete_model_version(name, str(version))

    def annotate(self, name: str, version: int, *, tags: dict[str, str], description: str | None = None) -> None:
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
        """Id of the experiment ``mlflow.experiment_name``; created if missing."""
        return self.experiment(self.params.mlflow.experiment_name)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; created if missing, by this process or by another one at the same time."""
        existing = self.find_experiment(name)
        if existing is not None:
            return existing
        file = sqlite_file(self.params.registry_uri)  # files go beside an embedded database; a server decides itself
        folder = file.parent if file else self.params.folder / "outputs" / "registry"
        location = None if self.params.is_server else (folder / "artifacts").as_uri()
        with self.session("create experiment", name) as client, ignoring("RESOURCE_ALREADY_EXISTS"):
            client.create_experiment(name, artifact_location=location)
        return self.experiment(name)

    def find_experiment(self, name: str) -> str | None:
        """Return the id of an experiment; None if there is none of that name."""
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


def new_run(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> str:
    """Create a run, and return its id; after a lost reply, search for it before another one is created."""
    tags = {**tags, _CALL: secrets.token_hex(8)}
    try:
        run = client.create_run(experiment, run_name=name, tags=tags)
    except (MlflowException, requests.RequestException, UnexpectedResponseError) as error:
        if not is_transient(error):
            raise
        found = client.search_runs([experiment], f"tags.`{_CALL}` = {quoted(tags[_CALL])}", max_results=1)
        run = found[0] if found else client.create_run(experiment, run_name=name, tags=tags)
    if not run.info.run_id:
        msg = "a run without an id"
        raise UnexpectedResponseError(msg)
    return str(run.info.run_id)


def _checked(name: str, found: MlflowModelVersion, version: int | None = None) -> MlflowModelVersion:
    """Return a version, if the response is about the right model and number."""
    if found.name != name or not str(found.version).isdecimal() or (version is not None and int(found.version) != version):
        msg = "a version of another model, or none"
        raise UnexpectedResponseError(msg)
    return found


def log_values(client: MlflowClient, run_id: str, params: dict[str, Any], metrics: dict[str, float]) -> None:
    """Log parameters (as text) and metrics to a run, in one call."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    client.log_batch(
        run_id,
        params=[Param(key, str(value)) for key, value in params.items()],
        metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()],
    )


def quoted(value: str) -> str:
    """Quote a value for MLflow's filter language, which has no escape: use the quote that is not in it."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    msg = f"{value!r}: MLflow cannot look up a name with both kinds of quotes; rename it"
    raise VersionNotFoundError(msg)


@contextmanager
def ignoring(*codes: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise
