"""The registry: the only place that knows MLflow."""

from fxhelpers.registry.client import ModelVersion, RegistryClient
from fxhelpers.registry.models import RegisteredModel, create_version, load_version

__all__ = ["ModelVersion", "RegisteredModel", "RegistryClient", "create_version", "load_version"]
