"""Writing bundles and their evaluations: whole, and never over one another."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from fxhelpers.bundles.bundle import FORMAT_VERSION, Bundle
from fxhelpers.bundles.reading import load_bundle
from fxhelpers.estimators import dump_estimator
from fxhelpers.files import create_exclusive, sha256, write_atomic
from fxhelpers.params import PathsParams, check_symbol


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


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
