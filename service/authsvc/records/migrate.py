"""Brings a record store's schema up to date, or writes the statements that would; Alembic without an alembic.ini."""

from __future__ import annotations

import io
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from authsvc.records.sqlite_file import connect, sqlite_path, translated

LOCK_SECONDS = 60.0
"""How long one process waits while another migrates."""


def upgrade(records_url: str) -> None:
    """Bring the schema to this release's, or leave it if it is that or a later one, in one transaction.

    Of several processes at once one migrates, and the others wait for it. May raise as a RecordStore does.
    """
    path = sqlite_path(records_url)
    # Alembic commits and rolls back on this connection, but only the statement below begins: a transaction that first
    # reads the version and then wants to write it would fail when another process came in between.
    engine = create_engine("sqlite://", creator=lambda: connect(path, LOCK_SECONDS), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            version = MigrationContext.configure(connection).get_current_revision()
            if version is None or version in _known_versions():
                command.upgrade(_config(connection=connection), "head")
            connection.commit()
    except DBAPIError as error:
        raise translated(error.orig, path) from error


def sql(records_url: str) -> str:
    """The statements that make the whole schema in an empty database, for people who run them by hand."""
    sqlite_path(records_url)
    text = io.StringIO()
    command.upgrade(_config(text, dialect="sqlite"), "head", sql=True)
    return text.getvalue()


def head() -> str:
    """The version that this release's schema has."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _known_versions() -> set[str]:
    return {step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config(output: io.StringIO | None = None, **handed: object) -> Config:
    config = Config(output_buffer=output, attributes=handed)
    # A percent sign would begin a reference to another option.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
