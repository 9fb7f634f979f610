"""What versions take on the store, and deleting it."""

import logging
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from fxhelpers.registry.client import RegistryClient
from fxhelpers.registry.models import FOLDERS
from fxhelpers.registry.version import ModelVersion

logger = logging.getLogger(__name__)


def stored_bytes(registry: RegistryClient, version: ModelVersion) -> int:
    """Return how many bytes a version's files take; 0 where they are gone."""
    with registry.session(f"measure version {version.version} of", version.name) as client:
        return sum(size for folder in FOLDERS for size in _sizes(client, version.run_id, folder))


def delete_files(registry: RegistryClient, version: ModelVersion) -> None:
    """Delete the files that a registration stored; the version, its run and whatever else lies there stay."""
    with registry.session(f"delete the files of version {version.version} of", version.name) as client:
        repository = get_artifact_repository(client.get_run(version.run_id).info.artifact_uri)
        for entry in client.list_artifacts(version.run_id):
            if entry.path in FOLDERS:
                repository.delete_artifacts(entry.path)  # type: ignore[no-untyped-call]


def registered_models(registry: RegistryClient) -> list[str]:
    """Return the names of all registered models; locks, which look like some, are among them."""
    with registry.session("list the registered models") as client:
        names: list[str] = []
        token = None
        while True:
            page = client.search_registered_models(max_results=1000, page_token=token)
            names += [model.name for model in page]
            token = page.token
            if not token:
                return names


def _sizes(client: MlflowClient, run_id: str, folder: str) -> Iterator[int]:
    try:
        entries = client.list_artifacts(run_id, folder)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    for entry in entries:
        if entry.is_dir:
            yield from _sizes(client, run_id, entry.path)
        else:
            yield int(entry.file_size or 0)
