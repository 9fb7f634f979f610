"""The registry: the only place that knows MLflow."""

import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # MLflow asks for widgets in a notebook; it gets no bars to draw
    import tqdm.auto  # noqa: F401

from fxhelpers.registry.client import RegistryClient
from fxhelpers.registry.models import RegisteredModel, create_version, load_version
from fxhelpers.registry.version import ModelVersion

__all__ = ["ModelVersion", "RegisteredModel", "RegistryClient", "create_version", "load_version"]
