"""ForesightX: its pickles, file names, features files and training ends; nothing else in the package knows these.

It lies below ``bundles``: one folder holds bundles of both kinds, and choosing
the latest takes both into account.
"""

from fxhelpers.foresightx._checkout import (
    MODEL_NAME,
    OURS,
    bundle_files,
    bundled_symbols,
    companion_folders,
    convert,
    derived_end,
    evaluation_files,
    features_days,
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
