"""The registry: the only place that knows MLflow."""

import warnings

from tqdm import TqdmWarning

from fxhelpers.errors import RegistryUnavailableError
from fxhelpers.processes import has_home

if not has_home():
    msg = "MLflow needs a home folder, and nothing names one for this user: set HOME, to a new folder in /tmp say"
    raise RegistryUnavailableError(msg)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # MLflow asks for widgets in a notebook; it gets no bars to draw
    import tqdm.auto  # noqa: F401

from fxhelpers.registry._client import CHALLENGER, CHAMPION, RegistryClient
from fxhelpers.registry._connection import Connection
from fxhelpers.registry._creating import check_tags, create_version, store_bundle
from fxhelpers.registry._models import MODEL_DIGEST, PRUNED, LoadedModel, load_version, misdirected, stored_digest
from fxhelpers.registry._version import BUNDLE_DIGEST, ModelVersion, in_production

__all__ = [
    "BUNDLE_DIGEST",
    "CHALLENGER",
    "CHAMPION",
    "MODEL_DIGEST",
    "PRUNED",
    "Connection",
    "LoadedModel",
    "ModelVersion",
    "RegistryClient",
    "check_tags",
    "create_version",
    "in_production",
    "load_version",
    "misdirected",
    "store_bundle",
    "stored_digest",
]
