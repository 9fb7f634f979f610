"""Sandboxed conversion of untrusted pickles into skops files: run as a script in an isolated process, with an empty environment.

It is independent of fxhelpers. A pickle can only use a fixed table of
objects imported in advance; nothing is looked up by name. Once the table is
complete, the process drops what the system lets it drop: network, open files,
new processes, memory, time. Only then does it read the first byte of a pickle.
"""

import bz2
import copyreg
import ctypes
import importlib
import io
import json
import lzma
import os
import resource
import sys
import warnings
import zlib
from contextlib import suppress
from typing import Any, NoReturn

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_MOST_FEATURES = 100_000
_ROWS = 256
_MAX_MESSAGE = 300  # characters
_BOOSTING = "sklearn.ensemble._hist_gradient_boosting"
_PICKLED = (
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.random._mt19937", "MT19937"),
    ("numpy.random._pcg64", "PCG64"),  # of gradient boosting
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random.bit_generator", "SeedSequence"),  # of a model without a random_state
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    ("sklearn._loss._loss", "CyAbsoluteError"),
    ("sklearn._loss._loss", "CyHalfSquaredError"),
    ("sklearn._loss._loss", "CyPinballLoss"),
    ("sklearn._loss.link", "IdentityLink"),
    ("sklearn._loss.link", "Interval"),
    ("sklearn._loss.loss", "AbsoluteError"),
    ("sklearn._loss.loss", "HalfSquaredError"),
    ("sklearn._loss.loss", "PinballLoss"),
    ("sklearn.compose._target", "TransformedTargetRegressor"),
    ("sklearn.ensemble._forest", "RandomForestRegressor"),
    (f"{_BOOSTING}.binning", "_BinMapper"),
    (f"{_BOOSTING}.gradient_boosting", "HistGradientBoostingRegressor"),
    (f"{_BOOSTING}.predictor", "TreePredictor"),
    ("sklearn.linear_model._coordinate_descent", "ElasticNet"),
    ("sklearn.linear_model._ridge", "Ridge"),
    ("sklearn.neighbors._regression", "KNeighborsRegressor"),
    ("sklearn.neural_network._multilayer_perceptron", "MLPRegressor"),
    ("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer"),
    ("sklearn.neural_network._stochastic_optimizers", "SGDOptimizer"),
    ("sklearn.pipeline", "Pipeline"),
    ("sklearn.preprocessing._data", "StandardScaler"),
    ("sklearn.svm._classes", "SVR"),
    ("sklearn.tree._classes", "DecisionTreeRegressor"),
    ("sklearn.tree._tree", "Tree"),
)
"""What pickles of a scaler and of the regressors require: exact module and name."""

_TRUSTED = (
    f"{_BOOSTING}.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types among them that skops does not trust by itself."""


class Refused(Exception):  # noqa: N818 (a result, not a fault)
    """A pickle requires something that no model needs."""


class Broken(Exception):  # noqa: N818
    """A pickle cannot be read, or holds something other than a model."""


def main() -> None:
    """Serve one request: a line of JSON, then files, on standard input; the response has the same form."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not part of the response
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # new threads are forbidden below
    _drop_network()
    request = json.loads(sys.stdin.buffer.readline())
    known = known_objects(request["trusted"])
    warm_up(known)
    drop_privileges(request["megabytes"], request["seconds"])
    results: list[dict[str, Any]] = []
    files = []
    for size in request["sizes"]:
        file, result = convert_file(sys.stdin.buffer.read(size), known, request)
        results.append(result)
        files.append(file)
    out.write(json.dumps(results).encode() + b"\n" + b"".join(files))
    out.flush()
    os._exit(0)  # what a pickle left behind does not run again


def convert_file(content: bytes, known: dict[tuple[str, str], Any], request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Convert one file, or return the reason why not."""
    try:
        file, versions = convert(content, known, request["unpacked"], request["trusted"])
    except Refused as error:
        return b"", {"refused": printable(error)}
    except Broken as error:
        return b"", {"broken": printable(error)}
    except MemoryError:
        return b"", {"broken": f"it needs more than {request['megabytes']} MB of memory"}
    except Exception as error:  # noqa: BLE001 (a broken pickle can raise anything; it is reported, and the file refused)
        return b"", {"broken": f"{type(error).__name__}: {printable(error)}"}
    return file, {"size": len(file), "versions": versions}


def printable(text: object) -> str:
    """Return a text for a terminal: short, on one line, without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:_MAX_MESSAGE])


def known_objects(trusted: list[str]) -> dict[tuple[str, str], Any]:
    """Return everything that scikit-learn's scaler and regressors are pickled with, by exact name, and the trusted classes."""
    known = {(module, name): getattr(importlib.import_module(module), name) for module, name in _PICKLED}
    for (module, name), found in list(known.items()):
        if module.startswith("numpy._core."):
            known[module.replace("numpy._core", "numpy.core"), name] = found  # as numpy 1 calls it
    known["_codecs", "encode"] = _latin1  # protocols 0 to 2 write bytes so
    for reconstructor, base in (("copyreg", "builtins"), ("copy_reg", "__builtin__")):  # protocols 0 and 1 make objects so
        known[reconstructor, "_reconstructor"], known[base, "object"], known[base, "bytes"] = _new, object, _no_bytes
    for name in trusted:
        module, _, kind = name.rpartition(".")
        try:
            trust = getattr(importlib.import_module(module), kind)
        except (ImportError, AttributeError) as error:
            fail(f"bundles.trusted_types: {name} cannot be imported by an isolated Python; install its package: {error}")
        if not isinstance(trust, type):
            fail(f"bundles.trusted_types: {name} is a {type(trust).__name__}; only classes can be trusted")
        known[module, kind] = trust
    return known


def convert(content: bytes, known: dict[tuple[str, str], Any], unpacked: int, trusted: list[str]) -> tuple[bytes, list[str]]:
    """Return a pickled estimator as a skops file that computes the same numbers, and the other scikit-learn that pickled it."""
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = unpickle(decompress(content, unpacked), known)
        settle(estimator)
        before = numbers(estimator)
        out = bytes(skops.io.dumps(estimator))
        after = numbers(skops.io.loads(out, trusted=[*_TRUSTED, *trusted]))
    if before != after:
        msg = "the skops file made from it computes other numbers"
        raise Broken(msg)
    found = [w.message for w in caught if isinstance(w.message, InconsistentVersionWarning)]
    return out, sorted({printable(warning.original_sklearn_version)[:40] for warning in found})[:4]


def decompress(content: bytes, most: int) -> bytes:
    """Return the content of a gzip, zlib, bz2 or xz file, and any other file unchanged."""
    reader: Any
    if content[:2] in {b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"\x1f\x8b"}:
        reader = zlib.decompressobj(47)  # finds out which of the two
    elif content[:3] == b"BZh":
        reader = bz2.BZ2Decompressor()
    elif content[:6] == b"\xfd7zXZ\x00" or content[:3] == b"]\x00\x00":
        reader = lzma.LZMADecompressor(memlimit=most)
    elif content[:4] == b"\x04\x22\x4d\x18":
        msg = "lz4 is not supported; compress it with gzip, bz2 or xz, or not at all"
        raise Broken(msg)
    else:
        return content
    out = bytes(reader.decompress(content, most))
    if not reader.eof:
        msg = "it unpacks to more than the limit" if len(out) >= most else "its compressed data end too early"
        raise Broken(msg)
    return out


def unpickle(content: bytes, known: dict[tuple[str, str], Any]) -> Any:  # noqa: ANN401 (an estimator has no common base)
    """Return the content of a pickle or joblib file, if it requires known objects only."""
    from joblib.numpy_pickle import NumpyUnpickler

    class Exact(NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
        def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
            if (module, name) not in known:
                msg = f"{module}.{name}"
                raise Refused(msg)
            return known[module, name]

    file = io.BytesIO(content)
    estimator = Exact("", file, ensure_native_byte_order=True).load()
    if file.read(1):
        msg = "something follows its end"
        raise Broken(msg)
    return estimator


def settle(estimator: Any) -> None:  # noqa: ANN401
    """Remove from a regressor what another fit would need, and its use of more than one process."""
    for _ in range(3):  # in a pipeline, behind a transformed target
        state = getattr(estimator, "__dict__", None)
        if not isinstance(state, dict):  # a class has another mapping
            return
        if "n_jobs" in state:
            state["n_jobs"] = 1
        state.pop("_feature_subsample_rng", None)
        inner, steps = state.get("regressor_"), state.get("steps")
        estimator = steps[-1][-1] if inner is None and steps else inner


def numbers(estimator: Any) -> bytes:  # noqa: ANN401
    """Return an estimator's output on random rows, to the last bit."""
    import numpy as np

    width = getattr(estimator, "n_features_in_", None)
    act = getattr(estimator, "predict", None) or getattr(estimator, "transform", None)
    if isinstance(estimator, type) or not isinstance(width, int | np.integer) or not 0 < width <= _MOST_FEATURES or act is None:
        msg = f"it holds {type(estimator).__name__}, not a fitted scaler or model of scikit-learn"
        raise Broken(msg)
    rows = np.random.default_rng(0).normal(size=(_ROWS, width)) * np.logspace(-2, 4, _ROWS)[:, None]
    return np.ascontiguousarray(act(rows)).tobytes()


def warm_up(known: dict[tuple[str, str], Any]) -> None:
    """Convert a model once, so that lazy imports happen while files can still be opened."""
    import pickle

    import numpy as np
    from sklearn.neural_network import MLPRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1, early_stopping=True).fit(np.eye(20, 2), np.arange(20.0))
    for protocol in (0, 4):
        convert(zlib.compress(pickle.dumps(model, protocol)), known, 2**20, [])


def drop_privileges(megabytes: int, seconds: int) -> None:
    """Limit memory and time, and forbid new processes, files and sockets, as far as the system supports it."""
    pages = 0
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    limits = [(resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_NOFILE, 0)]
    if pages:
        limits.append((resource.RLIMIT_AS, pages * resource.getpagesize() + megabytes * 2**20))
    for limit, value in limits:
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def fail(message: str) -> NoReturn:
    """Exit with a message about something the user can fix."""
    sys.stderr.write(message)
    sys.stderr.flush()
    os._exit(2)


def _drop_network() -> None:
    """Enter a namespace without network; containers often forbid it, but the limit on open files forbids sockets too."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        msg = f"_codecs.encode to {encoding!r:.40}"
        raise Refused(msg)
    return text.encode("latin1")


def _no_bytes(*arguments: object) -> bytes:
    """Make the empty bytes of protocols 0 to 2."""
    if arguments:
        msg = "builtins.bytes of something"
        raise Refused(msg)
    return b""


def _new(kind: type, base: type, state: object) -> Any:  # noqa: ANN401
    if base is not object or state is not None:
        msg = f"copyreg._reconstructor of {base!r:.40}"
        raise Refused(msg)
    return copyreg._reconstructor(kind, object, None)  # type: ignore[attr-defined]  # noqa: SLF001


if __name__ == "__main__":
    main()
