"""The registry: the only package that knows MLflow."""

import warnings

from tqdm import TqdmWarning

from fxhelpers.errors import RegistryUnavailableError
from fxhelpers.system import has_home

if not has_home():
    msg = "MLflow needs a home folder, and this user has none: set HOME, for example to a new folder in /tmp"
    raise RegistryUnavailableError(msg)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # MLflow imports it, and it misses widgets that no report shows
    import tqdm.auto

from fxhelpers.registry._client import CHALLENGER, CHAMPION, LOOK_UP, RegistryClient
from fxhelpers.registry._connection import Connection
from fxhelpers.registry._versions import BUNDLE_DIGEST, RECIPE_DIGEST, ModelVersion, in_production
from fxhelpers.registry.storage import MODEL_DIGEST, PRUNED
