"""Regressors of scikit-learn: by name, built, fitted and described, and their ``.skops`` files."""

from fxhelpers.estimators._regressors import (
    arguments,
    build,
    canonical,
    defaults,
    describe,
    fit,
    layers,
    model_type,
    regressor_in,
    relevant,
)
from fxhelpers.estimators._skops import TRUSTED_TYPES, check_size, dump_estimator, load_estimator
