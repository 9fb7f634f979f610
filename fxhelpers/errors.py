"""The errors of fxhelpers.

Each is an :class:`FxError` and a builtin too, so that ``except LookupError``
works for callers who do not know this package::

    FxError
    ├── ParamsError                   (ValueError)
    ├── PriceDataError                (ValueError)
    │   ├── UnknownSymbolError        (LookupError)
    │   └── TooFewDaysError
    ├── BundleError                   (ValueError)
    │   ├── BundleNotFoundError       (LookupError)
    │   └── UntrustedBundleError
    ├── RegistryError                 (RuntimeError)
    │   ├── RegistryUnavailableError  (ConnectionError)
    │   ├── VersionNotFoundError      (LookupError)
    │   │   └── VersionReplacedError
    │   ├── LockedError               (TimeoutError)
    │   ├── LockLostError
    │   └── ClockError
    ├── StageError                    (ValueError)
    ├── ModelTamperedError            (ValueError)
    ├── FeaturesError                 (ValueError)
    ├── NotComparableError            (ValueError)
    ├── PredictionsChangedError       (ValueError)
    ├── RollingForecastsError         (ValueError)
    ├── NoChampionError               (LookupError)
    ├── StaleComparisonError          (RuntimeError)
    ├── PromotionRefusedError         (PermissionError)
    ├── LedgerError                   (ValueError)
    ├── NoRecordError                 (PermissionError)
    └── RunRefusedError               (ValueError)
"""


class FxError(Exception):
    """Base of all errors of fxhelpers."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the message instead of a long traceback, which ``%debug`` has."""
        return [f"\x1b[31m{type(self).__name__}\x1b[39m: {self}"]


class ParamsError(FxError, ValueError):
    """An invalid value in ``params.yaml``, the environment or a parameter."""


class PriceDataError(FxError, ValueError):
    """Prices are missing, invalid or too few."""


class UnknownSymbolError(PriceDataError, LookupError):
    """The price source does not have the symbol."""


class TooFewDaysError(PriceDataError):
    """The price source has too few days of a symbol, or too few between ``prices.start`` and ``prices.end``."""


class BundleError(FxError, ValueError):
    """A bundle is truncated, inconsistent or written by a newer fxhelpers."""


class BundleNotFoundError(BundleError, LookupError):
    """A bundle or one of its files is missing."""


class UntrustedBundleError(BundleError):
    """A file of a bundle holds more than a model of a supported kind."""


class RegistryError(FxError, RuntimeError):
    """The registry answered with an error."""


class RegistryUnavailableError(RegistryError, ConnectionError):
    """The registry is disabled, lacks its token or cannot be reached."""


class VersionNotFoundError(RegistryError, LookupError):
    """The registry has no such model or version."""


class VersionReplacedError(VersionNotFoundError):
    """A number has another version than in the ledger: it was deleted and reused, renamed, or its tags were edited."""


class LockedError(RegistryError, TimeoutError):
    """Another decision about the same model holds its lock for too long."""


class LockLostError(RegistryError):
    """Another decision about the same model was written first; this one does not count."""


class ClockError(RegistryError):
    """The clocks of this machine and of the registry differ by minutes; nothing was changed."""


class StageError(FxError, ValueError):
    """Not a stage, or not one that the operation accepts."""


class ModelTamperedError(FxError, ValueError):
    """The stored bytes of a version differ from those registered."""


class FeaturesError(FxError, ValueError):
    """Features are missing, not finite, or far outside the range of the training."""


class NotComparableError(FxError, ValueError):
    """Versions have no common evaluation frame."""


class PredictionsChangedError(FxError, ValueError):
    """A version does not reproduce the forecasts stored at its registration."""


class RollingForecastsError(FxError, ValueError):
    """The rolling-origin forecasts of a bundle are not those of its recipe."""


class NoChampionError(FxError, LookupError):
    """No version is in Production, or none was before the current one."""


class StaleComparisonError(FxError, RuntimeError):
    """The champion changed since the comparison."""


class PromotionRefusedError(FxError, PermissionError):
    """An approval or a reason that the policy requires is missing."""


class LedgerError(FxError, ValueError):
    """Not a valid entry of a ledger, or one that is too long to store."""


class NoRecordError(FxError, PermissionError):
    """The action would leave no record; nothing was changed."""


class RunRefusedError(FxError, ValueError):
    """A notebook was not run; nothing was changed."""
