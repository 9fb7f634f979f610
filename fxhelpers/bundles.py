"""Bundles: the files of one trained model, found, read, checked and written.

File names and JSON keys are ForesightX's, so that either reads the other's
metadata. Ours hold the estimators as ``.skops``; ForesightX's as ``.pkl``.
"""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from fxhelpers.errors import BundleError, BundleNotFoundError
from fxhelpers.estimators import dump_estimator, load_estimator
from fxhelpers.files import create_exclusive, sha256, write_atomic
from fxhelpers.params import PathsParams, check_symbol
from fxhelpers.results import Keyed, rows_html

FORMAT_VERSION = 1
"""Version of the metadata that this fxhelpers writes; newer ones are refused."""

_STAMP = r"\d{8}_\d{6}"
_MODEL_NAME = re.compile(rf"mlp_model_(?P<symbol>.+?)(?:_(?P<stamp>{_STAMP}))?\.(?P<kind>skops|pkl)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle(Keyed):
    """One trained model, read and checked.

    Attributes
    ----------
    symbol : str
        Ticker.
    model_path, scaler_path, metadata_path : Path
        Its files.
    evaluation_path : Path or None
        The latest evaluation that belongs to it.
    features_path : Path or None
        The symbol's latest features file, where ForesightX left one.
    model_object, scaler_object : estimator
        As fitted; the scaler has to be applied first.
    metadata : dict
        The whole metadata file.
    test_metrics : dict
        The evaluation's ``test_metrics``; empty without an evaluation.
    digest : str
        SHA-256 over model, scaler and metadata: the identity of the bundle.
    """

    symbol: str
    model_path: Path
    scaler_path: Path
    metadata_path: Path
    evaluation_path: Path | None
    features_path: Path | None
    model_object: Any
    scaler_object: Any
    metadata: dict[str, Any]
    test_metrics: dict[str, Any]
    digest: str

    @property
    def model_type(self) -> str:
        """Kind of model, for example ``MLP``."""
        return str(self.metadata.get("model_type", "MLP"))

    @property
    def architecture(self) -> list[int]:
        """Units of each hidden layer."""
        return list(self.metadata.get("architecture", []))

    @property
    def features_count(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of the columns."""
        return list(self.metadata["feature_names"])

    @property
    def timestamp(self) -> str:
        """When it was trained, as the metadata writes it."""
        return str(self.metadata["timestamp"])

    @property
    def config(self) -> dict[str, Any]:
        """Hyperparameters."""
        return dict(self.metadata.get("config", {}))

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the training and test metrics of the evaluation, those that are numbers."""
        merged = {**self.metadata.get("metrics", {}), **self.test_metrics}
        return {k: v for k, v in merged.items() if isinstance(v, int | float) and not isinstance(v, bool)}

    def pipeline(self) -> Pipeline:
        """Return scaler and model as one estimator that predicts from raw features, named and in order."""
        scaler = copy.copy(self.scaler_object)
        scaler.feature_names_in_ = np.asarray(self.feature_names, dtype=object)
        return Pipeline([("scaler", scaler), ("model", self.model_object)])

    def _repr_html_(self) -> str:
        return rows_html(
            {
                "symbol": self.symbol,
                "trained": self.timestamp,
                "model": f"{self.model_type} {self.architecture}",
                "features": self.features_count,
                "evaluation": self.evaluation_path.name if self.evaluation_path else "none yet",
                "model file": self.model_path.name,
                "SHA-256": self.digest,
            }
        )


def load_bundle(paths: PathsParams, *, symbol: str | None = None, model_path: str | Path | None = None) -> Bundle:
    """Find, read and check a bundle.

    Parameters
    ----------
    paths : PathsParams
        The ``paths`` section of ``params.yaml``.
    symbol : str, optional
        Take its latest bundle.
    model_path : str or Path, optional
        Take this one: the path of its model file. Scaler and metadata are
        found from its name.

    Returns
    -------
    Bundle
        With the latest evaluation that belongs to it.

    Raises
    ------
    BundleNotFoundError
        No bundle, or one of its files is missing.
    BundleError
        Truncated, contradictory or of a newer format.
    """
    model = Path(model_path) if model_path else _latest_model(paths, check_symbol(symbol))
    named = _MODEL_NAME.fullmatch(model.name)
    if not named:
        msg = f"{model}: a model file is named mlp_model_SYMBOL[_YYYYMMDD_HHMMSS].skops or .pkl"
        raise BundleError(msg)
    if symbol is not None and named["symbol"] != symbol:
        msg = f"{model}: a bundle of {named['symbol']}, but symbol is {symbol}; give one of the two alone"
        raise BundleError(msg)
    scaler = model.with_name(model.name.replace("mlp_model_", "mlp_scaler_", 1))
    stats = model.with_suffix(".json").name.replace("mlp_model_", "mlp_model_stats_", 1)
    folders = [paths.metadata, model.parent.parent / "metadata", model.parent]
    metadata_path = next((f / stats for f in folders if (f / stats).is_file()), paths.metadata / stats)
    contents = {path: _read(path, model) for path in (model, scaler, metadata_path)}
    metadata = _read_json(contents[metadata_path], metadata_path)
    _check_metadata(metadata, metadata_path, named["symbol"])
    for path in (model, scaler):
        recorded = metadata.get("files", {}).get(path.name)
        if recorded and recorded != sha256(contents[path]):
            msg = f"{path}: its bytes are not those that {metadata_path.name} records; the file changed after training"
            raise BundleError(msg)
    model_object = load_estimator(contents[model], str(model))
    scaler_object = load_estimator(contents[scaler], str(scaler))
    _check_widths(metadata, metadata_path, {model: model_object, scaler: scaler_object})
    evaluation_path, test_metrics = _latest_evaluation([paths.results, model.parent.parent / "results"], metadata)
    return Bundle(
        symbol=named["symbol"],
        model_path=model,
        scaler_path=scaler,
        metadata_path=metadata_path,
        evaluation_path=evaluation_path,
        features_path=_latest_features(paths.features, named["symbol"]),
        model_object=model_object,
        scaler_object=scaler_object,
        metadata=metadata,
        test_metrics=test_metrics,
        digest=sha256("".join(sha256(content) for content in contents.values()).encode()),
    )


def write_bundle(model: Any, scaler: Any, metadata: dict[str, Any], paths: PathsParams) -> Bundle:  # noqa: ANN401
    """Write a bundle: the model file last, so that a bundle which can be found is whole.

    Parameters
    ----------
    model, scaler : estimator
        As fitted.
    metadata : dict
        ForesightX's keys and ours, but for timestamp and file names.
    paths : PathsParams
        Where to.

    Returns
    -------
    Bundle
        As read back from the files.
    """
    symbol = check_symbol(metadata["symbol"])
    model_bytes, scaler_bytes = dump_estimator(model), dump_estimator(scaler)
    stamp = _claim(paths.models, f"mlp_scaler_{symbol}_{{}}.skops", scaler_bytes)
    model_path = paths.models / f"mlp_model_{symbol}_{stamp}.skops"
    scaler_path = paths.models / f"mlp_scaler_{symbol}_{stamp}.skops"
    whole = {
        **metadata,
        "timestamp": stamp,
        "format_version": FORMAT_VERSION,
        "model_file": model_path.name,
        "scaler_file": scaler_path.name,
        "files": {model_path.name: sha256(model_bytes), scaler_path.name: sha256(scaler_bytes)},
    }
    write_atomic(paths.metadata / f"mlp_model_stats_{symbol}_{stamp}.json", _json_bytes(whole))
    write_atomic(model_path, model_bytes)
    return load_bundle(paths, model_path=model_path)


def write_evaluation(bundle: Bundle, metrics: dict[str, Any], predictions: pd.DataFrame, paths: PathsParams) -> Path:
    """Write an evaluation in ForesightX's form: a JSON of metrics, and a CSV of daily predictions beside it.

    Parameters
    ----------
    bundle : Bundle
        What was evaluated.
    metrics : dict
        ``test_metrics``.
    predictions : DataFrame
        Columns Date, Actual, Predicted, Error, Abs_Error, Direction_Correct.
    paths : PathsParams
        Where to.

    Returns
    -------
    Path
        Of the JSON.
    """
    table = predictions.to_csv(index=False).encode()
    stamp = _claim(paths.results, f"predictions_{bundle.symbol}_{{}}.csv", table)
    whole = {
        "symbol": bundle.symbol,
        "evaluation_timestamp": stamp,
        "model_info": {
            "model_type": bundle.model_type,
            "architecture": bundle.architecture,
            "features_count": bundle.features_count,
            "training_timestamp": bundle.timestamp,
        },
        "test_metrics": metrics,
        "training_metrics": bundle.metadata.get("metrics", {}),
    }
    path = paths.results / f"evaluation_metrics_{bundle.symbol}_{stamp}.json"
    write_atomic(path, _json_bytes(whole))
    return path


def _claim(folder: Path, name: str, content: bytes) -> str:
    """Write a file under the first free second from now on; return that second, which is then nobody else's."""
    now = datetime.now(UTC)
    stamps = (f"{now + timedelta(seconds=n):%Y%m%d_%H%M%S}" for n in range(3600))
    return next(stamp for stamp in stamps if create_exclusive(folder / name.format(stamp), content))


def _latest_model(paths: PathsParams, symbol: str) -> Path:
    found = list(_models_of(paths, symbol))
    if not found:
        msg = (
            f"No model files found for {symbol} in {paths.models}. Train a model first: fx run train -p symbol {symbol}; "
            "or let paths in params.yaml name the folders that hold it."
        )
        raise BundleNotFoundError(msg)
    return max(found)[1]


def _models_of(paths: PathsParams, symbol: str) -> Iterator[tuple[str, Path]]:
    for path in paths.models.glob("mlp_model_*"):
        named = _MODEL_NAME.fullmatch(path.name)
        if named and named["symbol"] == symbol:
            stats = paths.metadata / f"mlp_model_stats_{symbol}.json"
            yield named["stamp"] or _stamp_in(stats), path


def _stamp_in(stats: Path) -> str:
    """Return the training time that a metadata file names, in the form of file names; "" where it names none."""
    written = str(_read_json(stats.read_bytes(), stats).get("timestamp", "")) if stats.is_file() else ""
    if re.fullmatch(_STAMP, written):
        return written
    try:
        return f"{datetime.fromisoformat(written):%Y%m%d_%H%M%S}"
    except ValueError:
        return ""


def _read(path: Path, model: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{path}: missing; a bundle is a model, a scaler and a metadata file, this one is {model}"
        raise BundleNotFoundError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise BundleError(msg) from error


def _read_json(content: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        msg = f"{path}: not a whole JSON file ({len(content)} bytes): {error}; write or copy it again"
        raise BundleError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path}: an object with keys is expected, found {type(value).__name__}"
        raise BundleError(msg)
    return value


def _check_metadata(metadata: dict[str, Any], path: Path, symbol: str) -> None:
    version = metadata.get("format_version", 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        msg = f"{path}: format_version {version}, this fxhelpers reads up to {FORMAT_VERSION}; install a newer fxhelpers"
        raise BundleError(msg)
    missing = [key for key in ("symbol", "timestamp", "feature_names") if not metadata.get(key)]
    if missing:
        msg = f"{path}: no {', '.join(missing)}; found the keys {', '.join(metadata)}"
        raise BundleError(msg)
    if metadata["symbol"] != symbol:
        msg = f"{path}: metadata of {metadata['symbol']}, but the model file is {symbol}'s"
        raise BundleError(msg)


def _check_widths(metadata: dict[str, Any], path: Path, estimators: dict[Path, Any]) -> None:
    names = metadata["feature_names"]
    count = metadata.get("features_count", len(names))
    if count != len(names):
        msg = f"{path}: features_count is {count}, but feature_names lists {len(names)}"
        raise BundleError(msg)
    for file, estimator in estimators.items():
        if estimator.n_features_in_ != count:
            msg = f"{file}: made for {estimator.n_features_in_} features, but {path.name} lists {count}"
            raise BundleError(msg)
        if list(getattr(estimator, "feature_names_in_", names)) != list(names):
            msg = f"{file}: made for other features, or another order, than {path.name} lists"
            raise BundleError(msg)


def _latest_evaluation(folders: list[Path], metadata: dict[str, Any]) -> tuple[Path | None, dict[str, Any]]:
    pattern = re.compile(rf"evaluation_metrics_{re.escape(metadata['symbol'])}(?:_{_STAMP})?\.json")
    found = []
    for path in {path for folder in folders for path in folder.glob("evaluation_metrics_*.json")}:
        if not pattern.fullmatch(path.name):
            continue
        value = _read_json(path.read_bytes(), path)
        if value.get("model_info", {}).get("training_timestamp") == metadata["timestamp"]:
            found.append((str(value.get("evaluation_timestamp", "")), path, value.get("test_metrics", {})))
    return max(found, key=lambda item: item[:2])[1:] if found else (None, {})


def _latest_features(folder: Path, symbol: str) -> Path | None:
    pattern = re.compile(rf"features_{re.escape(symbol)}(?:_{_STAMP})?\.csv")
    return max((path for path in folder.glob("features_*.csv") if pattern.fullmatch(path.name)), default=None)


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
