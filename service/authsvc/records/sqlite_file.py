"""The file of the embedded record store: how it is opened, which schema it has, and what the driver's errors mean."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from authsvc.errors import OperatorError, RecordRefused, RecordsUnavailable
from authsvc.records.contract import SCHEMA_VERSION, Schema

URL_SCHEME = "sqlite:///"

# FULL makes a commit outlive a power cut. Names are random, so a batch of 1000 rows touches about as many pages of their
# index: a cache that holds the index, and a longer log between checkpoints, keep that from costing twice.
PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA wal_autocheckpoint = 8000",
)
BUSY_PAUSE_SECONDS = 0.01
LEAST_FREE_BYTES = 1 << 20
"""With less room than this a batch fails, though a single row may still fit into what the log had taken before."""

UNAVAILABLE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
REFUSED = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
UNBINDABLE = (OverflowError, UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError)
"""What the driver raises for a value that it cannot hand to the database at all; such errors carry no code."""


def sqlite_path(records_url: str) -> Path:
    """The file that a `sqlite:///PATH` names, a relative one below the working directory."""
    path = records_url.removeprefix(URL_SCHEME)
    if not path or path == records_url:
        raise OperatorError("AUTH_RECORDS_URL must look like sqlite:///PATH.")
    return Path(path).absolute()


def translated(error: BaseException | None, path: Path) -> OperatorError:
    """What an error of the driver, or of the folder it works in, means to a caller of the record store."""
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte tells the kind of an error, the rest its detail.
    kind = None if code is None else code & 0xFF
    if kind == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return RecordsUnavailable(f"The disk of the record store {path} is full.")
    if kind in UNAVAILABLE:
        return RecordsUnavailable(f"The record store {path} is busy or its disk fails: {error}.")
    if kind in REFUSED or (kind is None and isinstance(error, UNBINDABLE)):
        return RecordRefused(f"The record store {path} refuses this row: {error}.")
    return OperatorError(f"The record store {path} cannot be used: {error}.")


@contextlib.contextmanager
def driver_errors(path: Path) -> Iterator[None]:
    """Every call of the driver is made inside this, and nothing of a caller's is."""
    try:
        yield
    except (sqlite3.Error, *UNBINDABLE, OSError) as error:
        raise translated(error, path) from error


def connect_existing(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """Open the file as it is; it is neither made nor switched to a log."""
    with driver_errors(path):
        if not path.exists():
            raise OperatorError(f"There is no record store {path}.")
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_timeout_seconds, isolation_level=None)
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection


def connect(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """Make the folder and the file where they are missing. Transactions begin only where a statement says so."""
    with driver_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=busy_timeout_seconds, isolation_level=None)
        try:
            _use_wal(connection, busy_timeout_seconds)
            for pragma in PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection


def _use_wal(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Of two processes that switch a new file at once SQLite refuses one without making it wait, so it waits here."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)
        else:
            return


def has_current_schema(connection: sqlite3.Connection) -> bool:
    """Whether the schema is exactly this release's, so that there is nothing to migrate."""
    return _schema_version(connection) == SCHEMA_VERSION


def usable_schema(connection: sqlite3.Connection, path: Path) -> Schema:
    """The schema of a file that may be used without a migration: this release's or a later one; OperatorError for others."""
    with driver_errors(path):
        found = _schema_version(connection)
    if found is None:
        raise OperatorError(f"The file {path} holds no record store.")
    if found < SCHEMA_VERSION:
        raise OperatorError(f"The schema of the record store {path} is {found}, older than this release's {SCHEMA_VERSION}.")
    return Schema(found, SCHEMA_VERSION)


def check_room(path: Path) -> None:
    """RecordsUnavailable if the disk is full."""
    with driver_errors(path):
        if shutil.disk_usage(path.parent).free < LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, "no room")


def _schema_version(connection: sqlite3.Connection) -> str | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
