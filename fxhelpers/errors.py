"""Everything that fxhelpers raises.

Each error is an :class:`FxError` and also the builtin that fits, so that
``except LookupError`` works for callers who never heard of this package::

    FxError
    ├── ParamsError                (ValueError)       params.yaml or a parameter is wrong
    ├── PriceDataError             (ValueError)       prices are missing, broken or too few
    │   ├── UnknownSymbolError     (LookupError)      no such symbol in the price source
    │   └── TooFewDaysError                           of a symbol, or in the days to use
    ├── BundleError                (ValueError)       a bundle is truncated or contradicts itself
    │   ├── BundleNotFoundError    (LookupError)      a bundle, or one of its files, is not there
    │   └── UntrustedBundleError                      a file of the bundle holds more than a model
    ├── RegistryError              (RuntimeError)     the registry answered with an error
    │   ├── RegistryUnavailableError (ConnectionError) switched off, no token, or not reachable
    │   ├── VersionNotFoundError   (LookupError)      no such model or version
    │   │   └── VersionReplacedError                  its number stands for another version by now
    │   ├── LockedError            (TimeoutError)     another decision about this model does not end
    │   ├── LockLostError          (RuntimeError)     another decision was written first; this one does not count
    │   └── ClockError             (RuntimeError)     this machine's clock is minutes off; nothing was changed
    ├── StageError                 (ValueError)       not a stage that was asked for
    ├── ModelTamperedError         (ValueError)       stored bytes differ from what was registered
    ├── FeaturesError              (ValueError)       features that no forecast can be made of
    ├── NotComparableError         (ValueError)       two versions cannot be put on one frame
    ├── PredictionsChangedError (ValueError)       a version forecasts something else than when it was registered
    ├── NoChampionError        (LookupError)      no version was in Production, or none before this one
    ├── StaleComparisonError       (RuntimeError)     the champion changed since the comparison
    ├── PromotionRefusedError  (PermissionError)  approval or a reason is missing
    ├── LedgerError            (ValueError)       not an entry of a ledger, or one that cannot be kept
    ├── NoRecordError              (PermissionError)  acting would leave no record
    └── RunRefusedError            (ValueError)       a notebook was not run at all
"""


class FxError(Exception):
    """Root of everything that fxhelpers raises."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: what happened and what to do, not forty lines of traceback; ``%debug`` has these."""
        return [f"\x1b[31m{type(self).__name__}\x1b[39m: {self}"]


class ParamsError(FxError, ValueError):
    """``params.yaml``, the environment or a parameter holds something that cannot be used."""


class PriceDataError(FxError, ValueError):
    """Prices are missing, broken or too few."""


class UnknownSymbolError(PriceDataError, LookupError):
    """The price source does not know the symbol."""


class TooFewDaysError(PriceDataError):
    """The price source has too few days of a symbol for anything, or ``prices.start`` and ``end`` leave too few."""


class BundleError(FxError, ValueError):
    """A bundle is truncated, contradicts itself or was written by a newer fxhelpers."""


class BundleNotFoundError(BundleError, LookupError):
    """A bundle, or one of its files, is not there."""


class UntrustedBundleError(BundleError):
    """A file of a bundle holds something else than a model of a known kind."""


class RegistryError(FxError, RuntimeError):
    """The registry answered with an error."""


class RegistryUnavailableError(RegistryError, ConnectionError):
    """The registry is switched off, lacks its token or cannot be reached."""


class VersionNotFoundError(RegistryError, LookupError):
    """The registry has no such model or version."""


class VersionReplacedError(VersionNotFoundError):
    """A number stands for another version than the ledger says: deleted and made anew, renamed, or its tags were edited."""


class LockedError(RegistryError, TimeoutError):
    """Another decision about the same model holds its lock and does not end."""


class LockLostError(RegistryError, RuntimeError):
    """Another decision about the same model was written first, while this one was held up; this one does not count."""


class ClockError(RegistryError):
    """The clock of this machine and that of the registry differ by minutes; nothing was changed."""


class StageError(FxError, ValueError):
    """Not a stage, or not one that the operation takes."""


class ModelTamperedError(FxError, ValueError):
    """The stored bytes of a version are not the bytes that were registered."""


class FeaturesError(FxError, ValueError):
    """Features that no forecast can be made of: missing, not finite, or far from all that the model was trained on."""


class NotComparableError(FxError, ValueError):
    """Two versions cannot be put on one evaluation frame."""


class PredictionsChangedError(FxError, ValueError):
    """A version does not predict any more what it predicted when it was registered."""


class NoChampionError(FxError, LookupError):
    """No version was in Production, or none before the present one."""


class StaleComparisonError(FxError, RuntimeError):
    """The champion is no longer the one that the comparison was made with."""


class PromotionRefusedError(FxError, PermissionError):
    """The policy asks for an approval or a reason that is not there."""


class LedgerError(FxError, ValueError):
    """Not an entry of a ledger, or one that is too long to be kept."""


class NoRecordError(FxError, PermissionError):
    """Acting here would leave no record, so nothing was done."""


class RunRefusedError(FxError, ValueError):
    """A notebook was not run at all: nothing was executed, nothing was changed."""
