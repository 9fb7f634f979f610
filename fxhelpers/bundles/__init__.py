"""Bundles: the files of one trained model, found, read, checked and written.

File names and JSON keys are ForesightX's, so that either reads the other's
metadata. Ours hold the estimators as ``.skops``; ForesightX's as ``.pkl``.
"""

from fxhelpers.bundles.bundle import Bundle
from fxhelpers.bundles.reading import load_bundle
from fxhelpers.bundles.tables import TRAINED_SHARE, latest_features, read_features, read_table, trained_until
from fxhelpers.bundles.writing import write_bundle, write_evaluation

__all__ = [
    "TRAINED_SHARE",
    "Bundle",
    "latest_features",
    "load_bundle",
    "read_features",
    "read_table",
    "trained_until",
    "write_bundle",
    "write_evaluation",
]
