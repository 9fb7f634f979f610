"""Bundles: the files of one trained model, found, read, checked and written.

File names and JSON keys are ForesightX's, so that each can read the other's
metadata. Ours hold estimators as ``.skops``, ForesightX's as ``.pkl``.
"""

from fxhelpers.bundles._bundle import Bundle, select_by_name
from fxhelpers.bundles._files import earlier_trainings, load_bundle, write_bundle, write_evaluation
from fxhelpers.bundles._repeated import check_recipe
