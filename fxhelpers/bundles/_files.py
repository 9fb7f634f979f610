"""Finding, reading and writing of bundles."""

import errno
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers.bundles._bundle import FORMAT_VERSION, Bundle
from fxhelpers.bundles._checks import (
    check_description,
    check_digests,
    check_estimators,
    check_evaluated,
    check_forecasts,
    check_metadata,
    check_reproduces,
    last_seen,
)
from fxhelpers.errors import BundleError, BundleNotFoundError, ParamsError
from fxhelpers.estimators import check_size, dump_estimator, load_estimator
from fxhelpers.foresightx import (
    MODEL_NAME,
    OURS,
    bundled_symbols,
    companion_folders,
    convert,
    evaluation_files,
    features_days,
    latest_features,
    one_of_each,
    stamp_in,
    stored_forecasts,
    trained_until,
)
from fxhelpers.params import BundlesParams, PathsParams, check_symbol, nearest
from fxhelpers.system import (
    LOCAL_SLACK,
    UTC_SLACK,
    Choice,
    create_exclusive,
    dated,
    latest_first,
    read_limited,
    sha256,
    write_atomic,
)
from fxhelpers.training import Rolling

logger = logging.getLogger(__name__)

_MAX_DEPTH = 20


def load_bundle(
    paths: PathsParams,
    *,
    symbol: str | None = None,
    model_path: str | Path | None = None,
    rules: BundlesParams | None = None,
) -> Bundle:
    """Find, read and check a bundle, given by its model file, or the latest of a symbol; with its latest evaluation.

    The latest is the one trained on the latest days, then the one written
    last. Scaler, metadata, evaluation and features files are found by the
    name of the model file: first in its folder, then in those of ``paths``.
    Pickles are converted in a sandbox. Metadata must be true of the weights,
    and a foreign model must reproduce its stored forecasts if its features
    file is available.

    :class:`BundleNotFoundError` if a file is missing,
    :class:`UntrustedBundleError` if one requires more than a model needs,
    other :class:`BundleError` if one is truncated, contradictory, ambiguous,
    too big or of a newer format.
    """
    rules = rules or BundlesParams()
    models = [Path(model_path)] if model_path else _models(paths, check_symbol(symbol))
    features = latest_features(companion_folders("features", models[0].parent, paths), _parse_name(models[0], symbol)["symbol"])
    choice = latest_bundle(models, features, paths, rules)
    for warning in choice.warnings:
        logger.warning(warning)
    chosen = "; ".join(["" if model_path else choice.why, *choice.warnings]).strip("; ")
    bundle = replace(_read_bundle(choice.paths[0], features, paths, rules), chosen=chosen)
    check_forecasts(bundle)
    check_description(bundle)
    if not bundle.is_ours:
        check_reproduces(bundle, features)
    return bundle


def _read_bundle(model: Path, features: list[Path], paths: PathsParams, rules: BundlesParams) -> Bundle:
    name = _parse_name(model, None)
    scaler = model.with_name(model.name.replace("mlp_model_", "mlp_scaler_", 1))
    metadata_path = _metadata_file(model, name, paths)
    contents = {path: _read(path, model, rules) for path in (model, scaler, metadata_path)}
    metadata = _read_json(contents[metadata_path], metadata_path)
    check_metadata(metadata, metadata_path, name["symbol"])
    fitted = {path: contents[path] for path in (model, scaler)}
    check_digests(metadata, metadata_path, fitted)
    limits: dict[str, Any] = {"trusted": rules.trusted_types, "unpacked": rules.max_bytes}
    if name["kind"] != OURS:
        fitted = {path: converted.content for path, converted in convert(fitted, **limits).items()}
    estimators = {path: load_estimator(content, str(path), **limits) for path, content in fitted.items()}
    check_estimators(metadata, metadata_path, estimators)
    evaluation_path, test_metrics = _latest_evaluation(model, metadata, paths, rules)
    return Bundle(
        symbol=name["symbol"],
        model_path=model,
        scaler_path=scaler,
        metadata_path=metadata_path,
        evaluation_path=evaluation_path,
        features_path=features[0] if features else None,
        model_object=estimators[model],
        scaler_object=estimators[scaler],
        scaler_content=fitted[scaler],
        metadata=metadata,
        test_metrics=test_metrics,
        forecasts=stored_forecasts(metadata, metadata_path, evaluation_path),
        digest=sha256("".join(sha256(content) for content in contents.values()).encode()),
        rolling=Rolling.read(metadata["rolling"]) if metadata.get("rolling") else None,
    )


def _models(paths: PathsParams, symbol: str) -> list[Path]:
    files = paths.models.glob("mlp_model_*")
    found = [path for path in files if (name := MODEL_NAME.fullmatch(path.name)) and name["symbol"] == symbol]
    if not found:
        msg = (
            f"No model files found for {symbol} in {paths.models}{nearest(symbol, bundled_symbols(paths), most=3)}. "
            f"Train a model first: fx run train -p symbol {symbol}; or set paths in params.yaml to the folders that hold it."
        )
        raise BundleNotFoundError(msg)
    return found


def latest_bundle(models: list[Path], features: list[Path], paths: PathsParams, rules: BundlesParams) -> Choice:
    """Order bundles by their metadata alone; unreadable metadata count as empty here, and are an error once chosen."""
    found = []
    days = features_days(features) if len(models) > 1 else pd.DatetimeIndex([])
    for model in models:
        name = _parse_name(model, None)
        try:
            path = _metadata_file(model, name, paths)
            metadata = _read_json(_read(path, model, rules), path)
        except BundleError:
            metadata = {}
        slack = UTC_SLACK if name["kind"] == OURS else LOCAL_SLACK
        one = dated(model, stamp_in(model), str(metadata.get("timestamp", "")), day=last_seen(metadata), slack=slack)
        if name["kind"] != OURS and not one.day:
            until = trained_until(days, pd.Timestamp(one.written.date()))
            one = replace(one, day=f"{until:%Y-%m-%d}" if until is not None else "")
        found.append(one)
    return latest_first(found)


def earlier_trainings(symbol: str, paths: PathsParams) -> Iterator[dict[str, Any]]:
    """Yield the metadata of a symbol's bundles that have rolling-origin forecasts, the one with the latest prices first.

    What cannot be read is left out, with a warning: a training only takes
    forecasts over from it.

    Parameters
    ----------
    symbol : str
        Ticker.
    paths : PathsParams
        Where bundles are, as ``load_params().paths``.

    Yields
    ------
    dict
        Content of the bundle's metadata file.
    """
    found = []
    for path in paths.metadata.glob(f"mlp_model_stats_{check_symbol(symbol)}_*.json"):
        try:
            metadata = _read_json(path.read_bytes(), path)
            check_metadata(metadata, path, symbol)
        except (BundleError, OSError) as error:
            logger.warning("no forecasts are taken over from it: %s", error)
            continue
        if metadata.get("rolling"):
            found.append(metadata)
    yield from sorted(found, key=lambda one: (one["prices"]["last_day"], one["timestamp"]), reverse=True)


def _metadata_file(model: Path, name: re.Match[str], paths: PathsParams) -> Path:
    stats = f"mlp_model_stats_{name['symbol']}{name['stamp'] or ''}.json"
    folders = companion_folders("metadata", model.parent, paths)
    found = one_of_each([folder / stats for folder in folders if (folder / stats).is_file()])
    return found[0] if found else paths.metadata / stats


def _parse_name(model: Path, symbol: str | None) -> re.Match[str]:
    """Parse the name of a model file; the file must exist, and be of the symbol, if one is given."""
    if not os.path.isfile(model):  # noqa: PTH113 (Path.is_file raises for a name that no system takes)
        msg = f"{str(model)[:300]}: no such file; pass an existing model file, or a symbol to take its latest bundle"
        raise BundleNotFoundError(msg)
    name = MODEL_NAME.fullmatch(model.name)
    if not name:
        msg = f"{model}: a model file is named mlp_model_SYMBOL[_YYYYMMDD_HHMMSS].skops, .pkl or .joblib (also .gz, .bz2, .xz)"
        raise BundleError(msg)
    if symbol is not None and name["symbol"] != symbol:
        msg = f"{model}: a bundle of {name['symbol']}, but symbol is {symbol}; the two must agree"
        raise BundleError(msg)
    try:
        check_symbol(name["symbol"])
    except ParamsError as error:
        msg = f"{model}: {error}"
        raise BundleError(msg) from error
    return name


def _read(path: Path, model: Path, rules: BundlesParams) -> bytes:
    try:
        return read_limited(path, rules.max_bytes)
    except FileNotFoundError as error:
        msg = f"{path}: missing; the bundle of {model} needs a model, a scaler and a metadata file"
        raise BundleNotFoundError(msg) from error
    except OSError as error:
        limit = ", the limit of bundles.max_megabytes in params.yaml" if error.errno == errno.EFBIG else ""
        msg = f"{path}: {error.strerror}{limit}; it was not read"
        raise BundleError(msg) from error


def _read_json(content: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not a complete JSON file ({len(content)} bytes): {error}; write or copy it again"
        raise BundleError(msg) from error
    if _too_deep(value):
        msg = f"{path}: lists and objects are nested more than {_MAX_DEPTH} deep"
        raise BundleError(msg)
    if not isinstance(value, dict):
        msg = f"{path}: expected an object with keys, found {type(value).__name__}"
        raise BundleError(msg)
    return value


def _too_deep(value: object, left: int = _MAX_DEPTH) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left < 0 or any(_too_deep(part, left - 1) for part in inner)


def _latest_evaluation(
    model: Path, metadata: dict[str, Any], paths: PathsParams, rules: BundlesParams
) -> tuple[Path | None, dict[str, Any]]:
    """Return the latest evaluation of this training, and its metrics."""
    found: dict[Path, Any] = {}
    for path in evaluation_files(companion_folders("results", model.parent, paths), metadata["symbol"]):
        value = _read_json(_read(path, path, rules), path)
        info = value.get("model_info")
        if not isinstance(info, dict) or not isinstance(value.get("test_metrics"), dict):
            msg = f"{path}: model_info and test_metrics must be objects with keys; write or copy it again, or delete it"
            raise BundleError(msg)
        if info.get("training_timestamp") == metadata["timestamp"]:
            check_evaluated(info, path, metadata)
            found[path] = value
    if not found:
        return None, {}
    slack = UTC_SLACK if model.suffix == f".{OURS}" else LOCAL_SLACK
    times = {path: str(found[path].get("evaluation_timestamp", "")) for path in one_of_each(list(found))}
    choice = latest_first(dated(path, stamp_in(path), time, slack=slack) for path, time in times.items())
    for warning in choice.warnings:
        logger.warning(warning)
    return choice.paths[0], found[choice.paths[0]]["test_metrics"]


def write_bundle(
    model: Any,  # noqa: ANN401 (scikit-learn's estimators have no common base)
    scaler: Any,  # noqa: ANN401
    metadata: dict[str, Any],
    paths: PathsParams,
    *,
    rules: BundlesParams | None = None,
) -> Bundle:
    """Write a bundle, the model file last, so that a bundle that can be found is complete; return it as read back.

    Parameters
    ----------
    model, scaler : estimator
        As fitted; the scaler is applied first.
    metadata : dict
        ForesightX's keys and ours, without timestamp and file names.
    paths : PathsParams
        Where to write, as ``load_params().paths``.
    rules : BundlesParams, optional
        Its limit of size, as ``load_params().bundles``. Nothing is written of
        a model that could not be read again: :class:`UntrustedBundleError`.
    """
    symbol, rules = check_symbol(metadata["symbol"]), rules or BundlesParams()
    model_bytes, scaler_bytes = dump_estimator(model), dump_estimator(scaler)
    check_size(model_bytes, f"the model of {symbol}", rules.max_bytes)
    stamp = _claim(paths.models, f"mlp_scaler_{symbol}_{{}}.skops", scaler_bytes)
    model_name, scaler_name = (f"mlp_{kind}_{symbol}_{stamp}.skops" for kind in ("model", "scaler"))
    whole = {
        **metadata,
        "timestamp": stamp,
        "format_version": FORMAT_VERSION,
        "model_file": model_name,
        "scaler_file": scaler_name,
        "files": {model_name: sha256(model_bytes), scaler_name: sha256(scaler_bytes)},
    }
    write_atomic(paths.metadata / f"mlp_model_stats_{symbol}_{stamp}.json", _json_bytes(whole))
    write_atomic(paths.models / model_name, model_bytes)
    return load_bundle(paths, model_path=paths.models / model_name, rules=rules)


def write_evaluation(bundle: Bundle, metrics: dict[str, Any], predictions: pd.DataFrame, paths: PathsParams) -> Path:
    """Write an evaluation in ForesightX's form: a CSV of daily forecasts, and a JSON of metrics; return the latter's path.

    Parameters
    ----------
    bundle : Bundle
        The bundle that was evaluated.
    metrics : dict
        Its ``test_metrics``.
    predictions : DataFrame
        Columns Date, Actual, Predicted, Error, Abs_Error, Direction_Correct.
    paths : PathsParams
        Where to write, as ``load_params().paths``.
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
    """Write a file under the first free second from now on; return that second, which no other writer gets."""
    now = datetime.now(UTC)
    stamps = (f"{now + timedelta(seconds=n):%Y%m%d_%H%M%S}" for n in range(3600))
    return next(stamp for stamp in stamps if create_exclusive(folder / name.format(stamp), content))


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
