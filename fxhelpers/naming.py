"""What a bundle's files are called: ForesightX's names, with and without a time in them."""

import re
from collections.abc import Iterable
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
    """List the symbols that have a bundle, sorted."""
    return sorted({named["symbol"] for path in paths.models.glob("mlp_model_*") if (named := MODEL_NAME.fullmatch(path.name))})


def bundle_files(folders: Iterable[Path], symbol: str) -> list[Path]:
    """List the files of a symbol's bundles, all of them, in the order of the folders."""
    return _files(folders, "mlp_(?:model|scaler|model_stats)", symbol, "[a-z0-9.]+")


def evaluation_files(folders: Iterable[Path], symbol: str) -> list[Path]:
    """List the evaluations of a symbol's bundles, in the order of the folders."""
    return _files(folders, "evaluation_metrics", symbol, "json")


def features_files(folders: Iterable[Path], symbol: str) -> list[Path]:
    """List the features files that ForesightX left for a symbol, in the order of the folders."""
    return _files(folders, "features", symbol, "csv")


def companion_folders(kind: str, models: Path, paths: PathsParams) -> list[Path]:
    """List where ``metadata``, ``results`` or ``features`` of the models in a folder may lie: beside these first."""
    beside = models.absolute()
    folders = [beside, *(beside.parent / name for name in (kind, f"data/{kind}")), getattr(paths, kind)]
    distinct: dict[Path, Path] = {}
    for folder in folders:
        distinct.setdefault(folder.resolve(), folder)
    return list(distinct.values())


def stamp_in(path: Path) -> str:
    """Return the time in a file's name; "" where there is none."""
    found = re.search(rf"_({STAMP})\.", path.name)
    return found[1] if found else ""


def _files(folders: Iterable[Path], kind: str, symbol: str, suffix: str) -> list[Path]:
    pattern = re.compile(rf"{kind}_{re.escape(symbol)}(?:_{STAMP})?\.{suffix}")
    return [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*")) if pattern.fullmatch(path.name)]
