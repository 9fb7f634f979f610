"""A ForesightX checkout: its pickles, and the names, places and contents of its files.

A pickle is a program. This process never runs it: ``_child.py`` reads it, in
an isolated interpreter with an empty environment and no privileges, and turns
it into a skops file; only that is used.
"""

import csv
import filecmp
import io
import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fxhelpers.errors import BundleError, UntrustedBundleError
from fxhelpers.params import PathsParams
from fxhelpers.system import dated, latest_first, read_limited

logger = logging.getLogger(__name__)

SECONDS = 60  # time limit, the start of the child included
MEGABYTES = 1024  # memory limit, beyond what the libraries take
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
            f"{path}: requires {result['refused']}, which no scaler or regressor of ours needs; it was not loaded. "
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


OURS = "skops"  # suffix of estimators that fxhelpers wrote
_STAMP = r"\d{8}_\d{6}"
MODEL_NAME = re.compile(
    rf"mlp_model_(?P<symbol>.+?)(?P<stamp>_{_STAMP})?\.(?P<kind>{OURS}|(?:pkl|pickle|joblib)(?:\.(?:gz|z|bz2|xz|lzma))?)"
)
_TRAINED_SHARE, _TESTED_SHARE = 0.85, 0.25  # of its features file, at its beginning and at its end: the two overlap
_MAX_BYTES = 64 * 2**20
_LAST_BYTES = 2**16


def bundled_symbols(paths: PathsParams) -> list[str]:
    return sorted({match["symbol"] for path in paths.models.glob("mlp_model_*") if (match := MODEL_NAME.fullmatch(path.name))})


def bundle_files(folders: Iterable[Path], symbol: str) -> list[Path]:
    """List the files of all bundles of a symbol, in the order of the folders."""
    return _files(folders, "mlp_(?:model|scaler|model_stats)", symbol, "[a-z0-9.]+")


def evaluation_files(folders: Iterable[Path], symbol: str) -> list[Path]:
    """List the evaluations of a symbol's bundles, in the order of the folders."""
    return _files(folders, "evaluation_metrics", symbol, "json")


def features_files(folders: Iterable[Path], symbol: str) -> list[Path]:
    """List ForesightX's features files of a symbol, in the order of the folders."""
    return _files(folders, "features", symbol, "csv")


def _files(folders: Iterable[Path], kind: str, symbol: str, suffix: str) -> list[Path]:
    pattern = re.compile(rf"{kind}_{re.escape(symbol)}(?:_{_STAMP})?\.{suffix}")
    return [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*")) if pattern.fullmatch(path.name)]


def companion_folders(kind: str, models: Path, paths: PathsParams) -> list[Path]:
    """List the folders that may hold ``metadata``, ``results`` or ``features`` of a folder's models, the nearest first."""
    folder = models.absolute()
    folders = [folder, folder.parent / kind, folder.parent / "data" / kind, getattr(paths, kind)]
    distinct: dict[Path, Path] = {}
    for folder in folders:
        distinct.setdefault(folder.resolve(), folder)
    return list(distinct.values())


def stamp_in(path: Path) -> str:
    """Return the time in a file name; "" without one."""
    found = re.search(rf"_({_STAMP})\.", path.name)
    return found[1] if found else ""


def one_of_each(files: list[Path]) -> list[Path]:
    """Keep the first of several files of one name; :class:`BundleError` if they differ, as either may belong to the model."""
    kept: dict[str, Path] = {}
    for path in files:
        first = kept.setdefault(path.name, path)
        if first is not path and not filecmp.cmp(first, path, shallow=False):
            msg = f"{first} and {path} have one name, but differ: which of them belongs to the model? Rename or delete the other"
            raise BundleError(msg)
    return list(kept.values())


def latest_features(folders: list[Path], symbol: str) -> list[Path]:
    """List a symbol's features files, the one with the latest day first; :class:`BundleError` if two of one name differ."""
    files = one_of_each(features_files(folders, symbol))
    if len(files) < 2:  # noqa: PLR2004 (nothing to choose)
        return files
    choice = latest_first(dated(path, stamp_in(path), day=_last_day(path)) for path in files)
    for warning in choice.warnings:
        logger.warning(warning)
    return choice.paths


def _last_day(path: Path) -> str:
    """Return the day in the last row of a table, without reading all of it; "" if there is none."""
    try:
        with path.open("rb") as file:
            column = next(csv.reader([file.readline().decode("utf-8-sig")])).index("Date")
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            last = file.read().decode(errors="replace").splitlines()[-1]
        return date.fromisoformat(next(csv.reader([last]))[column][:10]).isoformat()
    except (OSError, ValueError, IndexError, StopIteration):
        return ""


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a CSV of at most 64 MB; :class:`OSError` or :class:`ValueError` if it cannot be read."""
    return pd.read_csv(io.BytesIO(read_limited(path, _MAX_BYTES)), usecols=columns)


def read_features(path: Path) -> pd.DataFrame:
    """Read a ForesightX features file; index: Date, increasing; values that are not finite numbers become NaN."""
    try:
        table = read_table(path)
        days = pd.to_datetime(table.pop("Date").astype(str).str[:10], format="%Y-%m-%d")
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path}: expected a column Date, written as YYYY-MM-DD, and one column per feature: {error}"
        raise BundleError(msg) from error
    if not days.is_monotonic_increasing or not days.is_unique:
        msg = f"{path}: its dates are repeated or out of order; write it again"
        raise BundleError(msg)
    numbers: pd.DataFrame = table.apply(pd.to_numeric, errors="coerce").astype(float)
    return numbers.replace([np.inf, -np.inf], np.nan).set_axis(pd.DatetimeIndex(days, name="Date"), axis=0)


def features_days(files: list[Path]) -> pd.DatetimeIndex:
    """Return the days of the first of some features files; empty if there is none, or it cannot be read."""
    try:
        return pd.DatetimeIndex(read_table(files[0], ["Date"])["Date"].astype(str).str[:10])
    except (IndexError, OSError, ValueError):
        return pd.DatetimeIndex([])


def trained_until(days: pd.DatetimeIndex, trained: pd.Timestamp) -> pd.Timestamp | None:
    """Return the last training day of a model that ForesightX trained on a day; None if its features file begins later."""
    known = days[days <= trained]
    return pd.Timestamp(known[math.ceil(_TRAINED_SHARE * len(known)) - 1]) if len(known) else None


def derived_end(days: pd.DatetimeIndex, trained: pd.Timestamp, tested: pd.Index) -> tuple[pd.Timestamp, str]:
    """Return the last day that a ForesightX model has seen, and how that is derived; ``tested``: days of its stored forecasts."""
    last = trained_until(days, trained)
    if last is None:
        return trained, "the day of its training: its features file begins later"
    if len(tested):  # it has seen the first of these; the features file may have grown at its beginning since
        overlap = 1 - (1 - _TRAINED_SHARE) / _TESTED_SHARE
        last = max(last, tested.sort_values()[math.ceil(overlap * len(tested)) - 1])
    return last, f"derived: ForesightX trains on the first {_TRAINED_SHARE:.0%} of its features file"


def predictions_file(evaluation_path: Path) -> Path:
    """Return the path of an evaluation's daily forecasts."""
    name = evaluation_path.name.replace("evaluation_metrics_", "predictions_", 1)
    return evaluation_path.with_name(name.replace(".json", ".csv"))


def stored_forecasts(metadata: dict[str, Any], path: Path, evaluation_path: Path | None) -> pd.Series:
    """Return a bundle's forecasts of real days, from its metadata or its evaluation; empty if it has none."""
    stored = metadata.get("forecasts")
    try:
        if stored is None:
            if evaluation_path is None or not (path := predictions_file(evaluation_path)).is_file():
                return pd.Series(dtype=float)
            table = read_table(path, ["Date", "Predicted"])
            stored = {"days": table["Date"].astype(str).str[:10], "values": table["Predicted"]}
        days = pd.DatetimeIndex(pd.to_datetime(pd.Series(stored["days"], dtype=str), format="%Y-%m-%d"))
        values = pd.Series(np.asarray(stored["values"], dtype=float), index=days)
    except (OSError, OverflowError, ValueError, TypeError, KeyError) as error:
        msg = f"{path}: its forecasts cannot be read (expected days and values): {error}; write or copy it again"
        raise BundleError(msg) from error
    if not np.isfinite(values).all() or not days.is_unique or days.hasnans:
        msg = f"{path}: its forecasts hold a day twice, or a value that is not a finite number; write or copy it again"
        raise BundleError(msg)
    return values
