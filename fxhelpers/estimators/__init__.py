"""Estimators to bytes and back: skops for our own, and one door for foreign pickles.

``own`` writes and reads ``.skops`` files by our list of types. ``foreign``
lets ``child``, a process with nothing in its hands, turn a pickle into one.
"""

from fxhelpers.estimators.foreign import Foreign, convert
from fxhelpers.estimators.own import TRUSTED_TYPES, dump_estimator, load_estimator, select_by_name

__all__ = ["TRUSTED_TYPES", "Foreign", "convert", "dump_estimator", "load_estimator", "select_by_name"]
