"""What a bundle's files are called: ForesightX's names, with and without a time in them."""

import re
from pathlib import Path

from fxhelpers.params import PathsParams

STAMP = r"\d{8}_\d{6}"
"""A time in a file's name."""

OURS = "skops"
"""Suffix of estimators that were written here."""

MODEL_NAME = re.compile(
    rf"mlp_model_(?P<symbol>.+?)(?P<stamp>_{STAMP})?\.(?P<kind>{OURS}|(?:pkl|pickle|joblib)(?:\.(?:gz|z|bz2|xz|lzma))?)"
)


def bundled_symbols(paths: PathsParams) -> list[str]:
    """List the symbols that have a bundle, sorted.

    Parameters
    ----------
    paths : PathsParams
        The ``paths`` section of ``params.yaml``.

    Returns
    -------
    list of str
    """
    return sorted({named["symbol"] for path in paths.models.glob("mlp_model_*") if (named := MODEL_NAME.fullmatch(path.name))})


def bundle_files(paths: PathsParams, symbol: str) -> list[Path]:
    """List the files of a symbol's bundles, all of them, in no order.

    Parameters
    ----------
    paths : PathsParams
        The ``paths`` section of ``params.yaml``.
    symbol : str
        Ticker.

    Returns
    -------
    list of Path
    """
    pattern = re.compile(rf"mlp_(model|scaler|model_stats)_{re.escape(symbol)}(_{STAMP})?\.[a-z0-9.]+")
    return [path for folder in {paths.models, paths.metadata} for path in folder.glob("mlp_*") if pattern.fullmatch(path.name)]


def evaluation_files(paths: PathsParams, symbol: str) -> list[Path]:
    """List the evaluations of a symbol's bundles, in no order.

    Parameters
    ----------
    paths : PathsParams
        The ``paths`` section of ``params.yaml``.
    symbol : str
        Ticker.

    Returns
    -------
    list of Path
    """
    return [path for path in paths.results.glob("evaluation_metrics_*.json") if evaluates(path, symbol)]


def evaluates(path: Path, symbol: str) -> bool:
    """Tell whether a file's name is that of an evaluation of a symbol's bundle.

    Parameters
    ----------
    path : Path
        A file.
    symbol : str
        Ticker.

    Returns
    -------
    bool
    """
    return bool(re.fullmatch(rf"evaluation_metrics_{re.escape(symbol)}(?:_{STAMP})?\.json", path.name))
