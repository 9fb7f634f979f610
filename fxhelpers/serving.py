"""Champions for a service: the last known one keeps serving while the registry is unavailable."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock, Thread

from fxhelpers.decisions import serving
from fxhelpers.errors import NoChampionError, RegistryUnavailableError
from fxhelpers.model_registry import ModelRegistry
from fxhelpers.registry.models import load_version
from fxhelpers.registry.pipelines import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """The version that serves a symbol."""

    model: LoadedModel  # the champion, its bytes checked; ``model.forecast`` takes features
    asked: datetime  # last answer of the registry, UTC
    away: str | None  # why it has not answered since; None if it does


@dataclass(slots=True)
class _Known:
    lock: Lock
    model: LoadedModel | None = None
    asked: datetime | None = None
    failed: BaseException | None = None
    tried: float = float("-inf")
    asking: Future[None] | None = None


class Champions:
    """Champions of symbols, for a service with many threads.

    Parameters
    ----------
    registry : ModelRegistry
        Registry of the champions.
    seconds : float, default 5
        Time for which a champion is served before the registry is read again.
    patience : float, default 1
        Seconds that a request waits for the registry if a champion is known.

    Examples
    --------
    >>> champions = Champions(ModelRegistry())  # doctest: +SKIP
    >>> champions.of("AAPL").model.forecast({"rsi_14": 55.0, …})  # doctest: +SKIP
    """

    def __init__(self, registry: ModelRegistry, *, seconds: float = 5.0, patience: float = 1.0) -> None:
        self.registry, self.seconds, self.patience = registry, seconds, patience
        self._known: dict[str, _Known] = {}

    def of(self, symbol: str) -> Served:
        """Return the champion of a symbol.

        Parameters
        ----------
        symbol : str
            Ticker.

        Returns
        -------
        Served
            The registry's champion, or the last known one.

        Raises
        ------
        NoChampionError
            No version of the symbol is in Production.
        RegistryUnavailableError
            The registry is unavailable, and no champion is known yet.
        """
        name = self.registry.model_name(symbol)
        known = self._known.setdefault(symbol, _Known(Lock()))
        with known.lock:
            if known.asking is None and time.monotonic() - known.tried >= self.seconds:
                known.asking, known.tried = Future(), time.monotonic()
                Thread(target=self._ask, args=(name, known, known.asking), daemon=True).start()
            asking, model = known.asking, known.model
        late = None
        if asking is not None:
            try:
                asking.result(None if model is None else self.patience)
            except TimeoutError:
                late = f"{self.registry.client.uri} does not answer at once"
        with known.lock:
            return _served(symbol, known, late)

    def _ask(self, name: str, known: _Known, asking: Future[None]) -> None:
        """Read the champion, and load it if it is another version than before: MLflow reuses numbers."""
        model, asked, failed = known.model, known.asked, None
        try:
            found = serving(self.registry.client, name)
            if found is None or model is None or found.identity != model.version.identity:
                model = load_version(self.registry.client, name, found.version) if found else None
            asked = datetime.now(UTC)
        except BaseException as error:  # noqa: BLE001 (requests for this champion raise it)
            failed = error
        with known.lock:
            known.model, known.asked, known.failed, known.asking = model, asked, failed, None
        asking.set_result(None)


def _served(symbol: str, known: _Known, late: str | None) -> Served:
    away = isinstance(known.failed, RegistryUnavailableError) and known.model is not None
    if known.failed is not None and not away:
        raise known.failed
    if known.model is None or known.asked is None:
        msg = f"no version of {symbol} is in Production; promote one: fx run promote -p symbol {symbol} -p apply true"
        raise NoChampionError(msg)
    return Served(model=known.model, asked=known.asked, away=str(known.failed) if away else late)
