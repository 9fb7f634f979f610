"""The one door for foreign pickles: a child process turns them into skops files, and only those come in.

A pickle is a program. It is never run here: ``_child.py`` reads it, with an
isolated interpreter, an empty environment and nothing in its hands.
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
"""A pickle may take so long, the start of the child included."""

MEGABYTES = 1024
"""Memory that it may take, beyond what the libraries take."""

_ANSWER_BYTES = 512 * 2**20
_CHILD = Path(__file__).with_name("_child.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A foreign pickle, converted.

    Attributes
    ----------
    content : bytes
        The ``.skops`` file that was made of it.
    versions : tuple of str
        Other versions of scikit-learn that pickled parts of it.
    """

    content: bytes
    versions: tuple[str, ...]


def convert(files: Mapping[Path, bytes], *, trusted: Sequence[str] = (), unpacked: int = 64 * 2**20) -> dict[Path, Foreign]:
    """Turn pickles, also joblib's and compressed ones, into skops files that give the same numbers to the last bit.

    :class:`UntrustedBundleError` where a pickle asks for something that no
    model needs, and for none of the ``trusted`` classes; :class:`BundleError`
    where it is broken, no model, or too big or slow to read.
    """
    request = {
        "sizes": [len(content) for content in files.values()],
        "trusted": list(trusted),
        "unpacked": unpacked,
        "megabytes": MEGABYTES,
        "seconds": SECONDS,
    }
    told, body = _ask(json.dumps(request).encode() + b"\n" + b"".join(files.values()), ", ".join(map(str, files)))
    converted = {}
    for path, found in zip(files, told, strict=True):
        if "size" not in found:
            raise _refusal(path, len(files[path]), found)
        converted[path] = Foreign(content=body[: found["size"]], versions=tuple(found["versions"]))
        body = body[found["size"] :]
    _warn(converted)
    return converted


def _ask(request: bytes, names: str) -> tuple[list[dict[str, Any]], bytes]:
    """Let a child answer; whatever it does, it ends, and is heard up to a limit."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        asked.write(request)
        asked.seek(0)
        with tempfile.TemporaryDirectory(prefix="fx-foreign-") as nowhere:
            child = subprocess.Popen(  # noqa: S603 (our own interpreter, our own file)
                [sys.executable, "-I", str(_CHILD)],
                stdin=asked,
                stdout=out,
                stderr=err,
                cwd=nowhere,
                env={},
                start_new_session=True,
            )
            try:
                status = child.wait(SECONDS)
            except subprocess.TimeoutExpired as error:
                msg = f"{names}: reading took more than {SECONDS} s and was ended; nothing was loaded"
                raise BundleError(msg) from error
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        out.seek(0)
        line, body = out.readline(2**20), out.read(_ANSWER_BYTES)
        err.seek(0)
        message = err.read(2**16).decode(errors="replace").strip()
    if status == 0 and line.endswith(b"\n"):
        return json.loads(line), body
    how = f"ended by signal {signal.Signals(-status).name}" if status < 0 else message.splitlines()[-1] if message else "ended"
    msg = f"{names}: could not be read: {how}; nothing was loaded"
    raise BundleError(msg)


def _refusal(path: Path, size: int, told: dict[str, Any]) -> BundleError:
    if "refused" in told:
        return UntrustedBundleError(
            f"{path}: asks for {told['refused']}, which neither a StandardScaler nor an MLPRegressor needs; it was not loaded. "
            "A class that you trust: list its full name under bundles: trusted_types in params.yaml (no function can be trusted)"
        )
    return BundleError(f"{path}: not a whole pickle of a model ({size} bytes): {told['broken']}; copy the bundle again")


def _warn(converted: Mapping[Path, Foreign]) -> None:
    from sklearn import __version__ as here

    for path, found in converted.items():
        if found.versions:
            logger.warning(
                "%s was pickled by scikit-learn %s, here is %s: its numbers were not compared with those of its own version",
                path,
                " and ".join(found.versions),
                here,
            )
