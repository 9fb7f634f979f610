"""An MLflow database of our own: opened by one process at a time as long as its tables are being made."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from filelock import FileLock
from mlflow import MlflowClient
from sqlalchemy import DateTime, NullPool, create_engine, func, select, text

from fxhelpers.files import can_write
from fxhelpers.processes import uncollected

_COUNTING = Lock()
_OPENING: list[None] = []
_LEVELS: dict[str, int] = {}
_SQLITE = "sqlite:///"
_CLOCKS = {
    "postgresql": func.clock_timestamp(type_=DateTime(timezone=True)),
    "mysql": func.utc_timestamp(6, type_=DateTime),
}
_FIRST_START = 0x66785F73  # any number that nobody else's advisory lock has


def open_database(uri: str) -> MlflowClient:
    """Connect to a database, and make or migrate its tables: of six processes that do so at once, five fail."""
    with uncollected(), _first_start(uri), _quiet("alembic", "mlflow.store.db.utils"):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for any other."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def database_clock(uri: str) -> datetime | None:
    """Return the time by a database's clock, UTC: for a file that of its file system; None for databases that are not asked."""
    file = sqlite_file(uri)
    if file:
        return _file_clock(file.parent)
    now = next((found for kind, found in _CLOCKS.items() if uri.startswith(kind)), None)
    if now is None:
        return None
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        told = connection.execute(select(now)).scalar_one()
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)


def _file_clock(folder: Path) -> datetime | None:
    """Return the time at which a file system says that something was written now; None where this user may not write."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
    except OSError:
        return None


@contextmanager
def _first_start(uri: str) -> Iterator[None]:
    file = sqlite_file(uri)
    if file:
        with ExitStack() as held:
            if can_write(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(f"{file}.lock"))
            yield  # who may only read makes no tables
    elif uri.startswith("postgresql"):
        engine = create_engine(uri, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _FIRST_START})
            yield  # the lock ends with the connection
    else:
        yield


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Keep a new database's sixty lines of migrations out of a report, as long as any thread makes one."""
    with _COUNTING:
        _OPENING.append(None)
        for name in loggers if len(_OPENING) == 1 else ():
            _LEVELS[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        with _COUNTING:
            _OPENING.pop()
            for name in loggers if not _OPENING else ():
                logging.getLogger(name).setLevel(_LEVELS[name])
