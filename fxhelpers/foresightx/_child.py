"""Turns foreign pickles into skops files, in a process of its own: started as a file, isolated, with an empty environment.

It imports nothing of fxhelpers. What a pickle may ask for is a table of
objects that were imported before; nothing is looked up by name. After that
table is made the process gives away what the system lets it: network, open
files, new processes, memory, time. Then it reads the first byte of a pickle.
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
_SAID = 300  # characters
_PICKLED = (
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.random._mt19937", "MT19937"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random.bit_generator", "SeedSequence"),  # of a model without a random_state
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    ("sklearn.compose._target", "TransformedTargetRegressor"),
    ("sklearn.neural_network._multilayer_perceptron", "MLPRegressor"),
    ("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer"),
    ("sklearn.neural_network._stochastic_optimizers", "SGDOptimizer"),
    ("sklearn.pipeline", "Pipeline"),
    ("sklearn.preprocessing._data", "StandardScaler"),
)
"""What pickles of a scaler and an MLP ask for: module and name, to the letter."""


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """A pickle asks for something that no model needs."""


class Broken(Exception):  # noqa: N818
    """A pickle that cannot be read, or holds something else than a model."""


def main() -> None:
    """Answer one request: a line of JSON, then files, from standard input; the answer has the same form."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _leave_the_network()
    request = json.loads(sys.stdin.buffer.readline())
    known = known_objects(request["trusted"])
    warm_up(known)
    give_up(request["megabytes"], request["seconds"])
    told: list[dict[str, Any]] = []
    files = []
    for size in request["sizes"]:
        file, answer = answered(sys.stdin.buffer.read(size), known, request)
        told.append(answer)
        files.append(file)
    out.write(json.dumps(told).encode() + b"\n" + b"".join(files))
    out.flush()
    os._exit(0)  # what a pickle left behind is not given another turn


def answered(content: bytes, known: dict[tuple[str, str], Any], request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Convert one file, or say why not."""
    try:
        file, versions = convert(content, known, request["unpacked"], request["trusted"])
    except Refused as error:
        return b"", {"refused": printable(error)}
    except Broken as error:
        return b"", {"broken": printable(error)}
    except MemoryError:
        return b"", {"broken": f"it needs more than {request['megabytes']} MB of memory"}
    except Exception as error:  # noqa: BLE001 (a broken pickle can raise anything; that is told, and the file refused)
        return b"", {"broken": f"{type(error).__name__}: {printable(error)}"}
    return file, {"size": len(file), "versions": versions}


def printable(text: object) -> str:
    """Return what a file made us say as a terminal can show it: short, in one line, without a control character."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:_SAID])


def known_objects(trusted: list[str]) -> dict[tuple[str, str], Any]:
    """Return all that a scaler and an MLP of scikit-learn are pickled with, by exact name, and the classes trusted beyond."""
    known = {(module, name): getattr(importlib.import_module(module), name) for module, name in _PICKLED}
    for (module, name), found in list(known.items()):
        if module.startswith("numpy._core."):
            known[module.replace("numpy._core", "numpy.core"), name] = found  # as numpy 1 calls it
    known["_codecs", "encode"] = _latin1  # protocols 0 to 2 write bytes so
    for reconstructor, base in (("copyreg", "builtins"), ("copy_reg", "__builtin__")):  # protocols 0 and 1 make objects so
        known[reconstructor, "_reconstructor"], known[base, "object"] = _new, object
    for name in trusted:
        module, _, kind = name.rpartition(".")
        try:
            trust = getattr(importlib.import_module(module), kind)
        except (ImportError, AttributeError) as error:
            fail(f"bundles.trusted_types: {name} cannot be imported by an isolated Python, so it has to be installed: {error}")
        if not isinstance(trust, type):
            fail(f"bundles.trusted_types: {name} is a {type(trust).__name__}; only classes can be trusted")
        known[module, kind] = trust
    return known


def convert(content: bytes, known: dict[tuple[str, str], Any], unpacked: int, trusted: list[str]) -> tuple[bytes, list[str]]:
    """Return a pickled estimator as a skops file that gives the same numbers, and what other scikit-learn pickled it."""
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = unpickle(decompress(content, unpacked), known)
        before = numbers(estimator)
        out = bytes(skops.io.dumps(estimator))
        after = numbers(skops.io.loads(out, trusted=[*_optimizers(), *trusted]))
    if before != after:
        msg = "the skops file made of it gives other numbers"
        raise Broken(msg)
    found = [w.message for w in caught if isinstance(w.message, InconsistentVersionWarning)]
    return out, sorted({printable(warning.original_sklearn_version)[:40] for warning in found})[:4]


def decompress(content: bytes, most: int) -> bytes:
    """Return what a file that gzip, zlib, bz2 or xz compressed holds, and any other file as it is."""
    reader: Any
    if content[:2] in {b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"\x1f\x8b"}:
        reader = zlib.decompressobj(47)  # finds out which of the two
    elif content[:3] == b"BZh":
        reader = bz2.BZ2Decompressor()
    elif content[:6] == b"\xfd7zXZ\x00" or content[:3] == b"]\x00\x00":
        reader = lzma.LZMADecompressor(memlimit=most)
    elif content[:4] == b"\x04\x22\x4d\x18":
        msg = "lz4 is not read; compress it with gzip, bz2 or xz, or not at all"
        raise Broken(msg)
    else:
        return content
    out = bytes(reader.decompress(content, most))
    if not reader.eof:
        msg = "it unpacks to more than is read" if len(out) >= most else "its compressed data end too early"
        raise Broken(msg)
    return out


def unpickle(content: bytes, known: dict[tuple[str, str], Any]) -> Any:  # noqa: ANN401 (an estimator has no common base)
    """Return what a pickle, or a file of joblib's, holds, if it asks for known objects only."""
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


def numbers(estimator: Any) -> bytes:  # noqa: ANN401
    """Return what an estimator makes of some rows, to the last bit."""
    import numpy as np

    width = getattr(estimator, "n_features_in_", None)
    act = getattr(estimator, "predict", None) or getattr(estimator, "transform", None)
    if isinstance(estimator, type) or not isinstance(width, int | np.integer) or not 0 < width <= _MOST_FEATURES or act is None:
        msg = f"it holds {type(estimator).__name__}, not a fitted scaler or model of scikit-learn"
        raise Broken(msg)
    rows = np.random.default_rng(0).normal(size=(_ROWS, width)) * np.logspace(-2, 4, _ROWS)[:, None]
    return np.ascontiguousarray(act(rows)).tobytes()


def warm_up(known: dict[tuple[str, str], Any]) -> None:
    """Do once what will be done: what libraries import on the way has to be there before no file can be opened."""
    import pickle

    import numpy as np
    from sklearn.neural_network import MLPRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1, early_stopping=True).fit(np.eye(20, 2), np.arange(20.0))
    for protocol in (0, 4):
        convert(zlib.compress(pickle.dumps(model, protocol)), known, 2**20, [])


def give_up(megabytes: int, seconds: int) -> None:
    """Give away memory, time, processes and every further file and socket; what the system cannot take stays."""
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
    """End with a message that is the user's to mend."""
    sys.stderr.write(message)
    sys.stderr.flush()
    os._exit(2)


def _leave_the_network() -> None:
    """Go where there is no network; containers often forbid it, and the limit on open files keeps sockets away too."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _optimizers() -> list[str]:
    return [f"sklearn.neural_network._stochastic_optimizers.{name}Optimizer" for name in ("Adam", "SGD")]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        msg = f"_codecs.encode to {encoding!r:.40}"
        raise Refused(msg)
    return text.encode("latin1")


def _new(kind: type, base: type, state: object) -> Any:  # noqa: ANN401
    if base is not object or state is not None:
        msg = f"copyreg._reconstructor of {base!r:.40}"
        raise Refused(msg)
    return copyreg._reconstructor(kind, object, None)  # type: ignore[attr-defined]  # noqa: SLF001


if __name__ == "__main__":
    main()
