"""Brings a record store's schema up to date, or writes the statements that would; Alembic without an alembic.ini."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from authsvc.errors import OperatorError
from authsvc.records.contract import ORACLE_SCHEME
from authsvc.records.sqlite_file import connect, sqlite_path, translated

if TYPE_CHECKING:
    from authsvc.records.oracle_settings import PoolSettings

LOCK_SECONDS = 60.0
"""How long one process waits while another migrates."""
POLL_SECONDS = 0.5


def upgrade(records_url: str, pool: PoolSettings | None = None) -> None:
    """Bring the schema to this release's, or leave it if it is that or a later one. May raise as a RecordStore does.

    Of several processes at once one migrates, and the others wait for it. `pool` says how Oracle is reached.
    """
    if records_url.startswith(ORACLE_SCHEME):
        _upgrade_oracle(records_url, pool)
        return
    path = sqlite_path(records_url)
    # Alembic commits and rolls back on this connection, but only the statement below begins: a transaction that first
    # reads the version and then wants to write it would fail when another process came in between.
    engine = create_engine("sqlite://", creator=lambda: connect(path, LOCK_SECONDS), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            _upgrade_if_known(connection)
            connection.commit()
    except DBAPIError as error:
        raise translated(error.orig, path) from error


def sql(records_url: str, since: str | None = None, to: str = "head") -> str:
    """The statements that make the whole schema in an empty database, or bring it up from a version, for people who run them by hand."""
    if since is not None and since not in _known_versions():
        raise OperatorError(f"{since} is no version of the schema; there are: {', '.join(sorted(_known_versions()))}.")
    dialect = "oracle" if records_url.startswith(ORACLE_SCHEME) else "sqlite"
    if dialect == "sqlite":
        sqlite_path(records_url)
    text = io.StringIO()
    command.upgrade(_config(text, dialect=dialect), to if since is None else f"{since}:{to}", sql=True)
    # Rows are no DDL, and not every tool commits at its end.
    return text.getvalue() + ("COMMIT\n\n/\n" if dialect == "oracle" else "")


def head() -> str:
    """The version that this release's schema has."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _upgrade_oracle(records_url: str, pool: PoolSettings | None) -> None:
    """Every statement of DDL commits by itself, so a race with another process ends in a name that is taken: then it is waited for."""
    from authsvc.records import oracle_errors
    from authsvc.records.oracle_pool import try_to_connect
    from authsvc.records.oracle_settings import Address, PoolSettings, connect_once

    settings = pool or PoolSettings()
    # Alembic connects in the driver's other way, which waits for ever.
    asyncio.run(try_to_connect(records_url, settings))
    address = Address.parse(records_url)
    engine = create_engine("oracle+oracledb://", creator=lambda: connect_once(address, settings), poolclass=NullPool)
    where, deadline = f"{address.user}@{address.dsn}", time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with engine.connect() as connection:
                _upgrade_if_known(connection)
                connection.commit()
                return
        except DBAPIError as error:
            taken = error.orig is not None and oracle_errors.code_of(error.orig) in oracle_errors.NAME_TAKEN
            if not taken:
                raise oracle_errors.translated(error.orig or error, where) from error
            if time.monotonic() > deadline:
                raise OperatorError(
                    f"The schema in {where} is half made: a migration was cut short, or the names are taken by others. If nothing"
                    " is needed of what is there, drop it and run `authsvc migrate` again."
                ) from error
        except CommandError as error:
            # Another process wrote the version first, or else it is a fault of ours.
            if "to match one row" not in str(error) or time.monotonic() > deadline:
                raise OperatorError(f"The schema in {where} cannot be brought up to date: {error}.") from error
        time.sleep(POLL_SECONDS)


def _upgrade_if_known(connection: Connection) -> None:
    """A version that this release does not know is a later one: it is left as it is."""
    version = MigrationContext.configure(connection).get_current_revision()
    if version is None or version in _known_versions():
        command.upgrade(_config(connection=connection), "head")


def _known_versions() -> set[str]:
    return {step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config(output: io.StringIO | None = None, **handed: object) -> Config:
    config = Config(output_buffer=output, attributes=handed)
    # A percent sign would begin a reference to another option.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
