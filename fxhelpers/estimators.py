"""Estimators to bytes and back: skops for our own, and one door for foreign pickles.

A pickle is a program. The unpickler here finds exactly the names that a
scaler or an MLP of scikit-learn needs, and refuses everything else before it
is looked up.
"""

import io
import pickle
import zipfile
import zlib
from typing import Any

import skops.io

from fxhelpers.errors import BundleError, UntrustedBundleError

TRUSTED_TYPES = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)
"""Types beyond skops' own defaults that our models are made of."""

_NUMPY = ("numpy._core", "numpy.core")
_PICKLED = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        *((f"{core}.multiarray", "_reconstruct") for core in _NUMPY),
        *((f"{core}.multiarray", "scalar") for core in _NUMPY),
        *((f"{core}.numeric", "_frombuffer") for core in _NUMPY),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random.bit_generator", "SeedSequence"),  # a model without a random_state carries one
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
        ("sklearn.preprocessing._data", "StandardScaler"),
        ("sklearn.neural_network._multilayer_perceptron", "MLPRegressor"),
        ("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer"),
        ("sklearn.neural_network._stochastic_optimizers", "SGDOptimizer"),
    }
)


def dump_estimator(estimator: Any) -> bytes:  # noqa: ANN401 (scikit-learn's estimators have no common base for this)
    """Return an estimator as the bytes of a ``.skops`` file."""
    return bytes(skops.io.dumps(estimator))


def load_estimator(content: bytes, origin: str) -> Any:  # noqa: ANN401
    """Read an estimator from the bytes of a ``.skops`` or a ``.pkl`` file.

    Parameters
    ----------
    content : bytes
        The whole file.
    origin : str
        The file's path, which tells its kind and is named in errors.

    Returns
    -------
    estimator
        A fitted scikit-learn estimator.

    Raises
    ------
    UntrustedBundleError
        The file asks for a type or function that no such model needs.
    BundleError
        Truncated, or of another kind than its name says.
    """
    estimator = _load_skops(content, origin) if origin.endswith(".skops") else _load_pickle(content, origin)
    if not hasattr(estimator, "n_features_in_"):
        msg = f"{origin}: holds {type(estimator).__name__}, not a fitted scaler or model of scikit-learn"
        raise BundleError(msg)
    return estimator


def _load_skops(content: bytes, origin: str) -> Any:  # noqa: ANN401
    try:
        unknown = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES)
        if unknown:
            msg = f"{origin}: holds types that no model of ours is made of: {', '.join(sorted(unknown))}; it was not loaded"
            raise UntrustedBundleError(msg)
        return skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    except (zipfile.BadZipFile, zlib.error, LookupError, ValueError, TypeError, EOFError, RuntimeError, MemoryError) as error:
        msg = f"{origin}: not a whole .skops file ({len(content)} bytes): {error}; train or copy the bundle again"
        raise BundleError(msg) from error


class _Unpickler(pickle.Unpickler):
    """Finds what a scaler and an MLP need, by exact name, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if (module, name) not in _PICKLED:
            msg = f"{module}.{name}"
            raise pickle.UnpicklingError(msg)
        return super().find_class(module, name)


def _load_pickle(content: bytes, origin: str) -> Any:  # noqa: ANN401
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        named = str(error)
        if "." in named and " " not in named:
            msg = f"{origin}: asks for {named}, which neither a StandardScaler nor an MLPRegressor needs; it was not loaded"
            raise UntrustedBundleError(msg) from error
        msg = f"{origin}: not a whole pickle ({len(content)} bytes): {error}; copy the bundle again"
        raise BundleError(msg) from error
    except (EOFError, ValueError, TypeError, AttributeError, ImportError, LookupError, OverflowError, MemoryError) as error:
        msg = f"{origin}: not a whole pickle ({len(content)} bytes): {error}; copy the bundle again"
        raise BundleError(msg) from error
