"""ForesightX: its pickles and its files, turned into what a bundle is made of."""

from fxhelpers.foresightx._checkout import (
    MODEL_NAME,
    OURS,
    TRAINED_SHARE,
    bundle_files,
    bundled_symbols,
    companion_folders,
    evaluation_files,
    features_files,
    latest_features,
    one_of_each,
    predictions_file,
    read_features,
    read_table,
    stamp_in,
    stored_forecasts,
    trained_until,
)
from fxhelpers.foresightx._pickles import convert

__all__ = [
    "MODEL_NAME",
    "OURS",
    "TRAINED_SHARE",
    "bundle_files",
    "bundled_symbols",
    "companion_folders",
    "convert",
    "evaluation_files",
    "features_files",
    "latest_features",
    "one_of_each",
    "predictions_file",
    "read_features",
    "read_table",
    "stamp_in",
    "stored_forecasts",
    "trained_until",
]
