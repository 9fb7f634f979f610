"""Sandboxed conversion of untrusted pickles: a child process turns them into skops files, and only those are used.

A pickle is a program. This process never runs it: ``_child.py`` reads it, in
an isolated interpreter with an empty environment and no privileges.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxhelpers.errors import BundleError, UntrustedBundleError

logger = logging.getLogger(__name__)

SECONDS = 60
"""Time limit, the start of the child included."""

MEGABYTES = 1024
"""Memory limit, beyond what the libraries take."""

_RESPONSE_BYTES = 512 * 2**20
_CHILD = Path(__file__).with_name("_child.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A converted pickle: the ``.skops`` file, and other versions of scikit-learn that pickled parts of it."""

    content: bytes
    versions: tuple[str, ...]


def convert(files: Mapping[Path, bytes], *, trusted: Sequence[str] = (), unpacked: int = 64 * 2**20) -> dict[Path, Foreign]:
    """Turn pickles, including joblib's and compressed ones, into skops files that compute the same numbers to the last bit.

    :class:`UntrustedBundleError` if a pickle requires something that neither a
    model needs nor ``trusted`` lists; :class:`BundleError` if it is broken, not
    a model, too big or too slow to read.
    """
    request = {
        "sizes": [len(content) for content in files.values()],
        "trusted": list(trusted),
        "unpacked": unpacked,
        "megabytes": MEGABYTES,
        "seconds": SECONDS,
    }
    results, body = _run_child(json.dumps(request).encode() + b"\n" + b"".join(files.values()), ", ".join(map(str, files)))
    converted = {}
    for path, result in zip(files, results, strict=True):
        if "size" not in result:
            raise _refusal(path, len(files[path]), result)
        converted[path] = Foreign(content=body[: result["size"]], versions=tuple(result["versions"]))
        body = body[result["size"] :]
    _warn(converted)
    return converted


def _run_child(request: bytes, names: str) -> tuple[list[dict[str, Any]], bytes]:
    """Send a request to a new child; whatever it does, it ends within the time limit, and its output is cut at a limit."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(request)
        stdin.seek(0)
        with tempfile.TemporaryDirectory(prefix="fx-foreign-") as empty:
            child = subprocess.Popen(  # noqa: S603 (our own interpreter, our own file)
                [sys.executable, "-I", str(_CHILD)],
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=empty,
                env={},
                start_new_session=True,
            )
            try:
                status = child.wait(SECONDS)
            except subprocess.TimeoutExpired as error:
                msg = f"{names}: reading took more than {SECONDS} s and was stopped; nothing was loaded"
                raise BundleError(msg) from error
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        out.seek(0)
        line, body = out.readline(2**20), out.read(_RESPONSE_BYTES)
        err.seek(0)
        message = err.read(2**16).decode(errors="replace").strip()
    if status == 0 and line.endswith(b"\n"):
        return json.loads(line), body
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else message.splitlines()[-1] if message else "no output"
    msg = f"{names}: could not be read: {how}; nothing was loaded"
    raise BundleError(msg)


def _refusal(path: Path, size: int, result: dict[str, Any]) -> BundleError:
    if "refused" in result:
        return UntrustedBundleError(
            f"{path}: requires {result['refused']}, which neither a StandardScaler nor an MLPRegressor needs; it was not loaded. "
            "If you trust the class, list its full name under bundles: trusted_types in params.yaml (functions cannot be trusted)"
        )
    return BundleError(f"{path}: not a complete pickle of a model ({size} bytes): {result['broken']}; copy the bundle again")


def _warn(converted: Mapping[Path, Foreign]) -> None:
    from sklearn import __version__ as here

    for path, found in converted.items():
        if found.versions:
            logger.warning(
                "%s was pickled by scikit-learn %s, installed is %s: its numbers were not compared with those of its own version",
                path,
                " and ".join(found.versions),
                here,
            )
