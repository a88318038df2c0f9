"""Which record store a URL means."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from authsvc.records.contract import ORACLE_SCHEME, RecordStore
from authsvc.records.sqlite import SqliteStore
from authsvc.records.sqlite_file import sqlite_path
from authsvc.settings import Settings

if TYPE_CHECKING:
    from authsvc.records.oracle_settings import PoolSettings


def store_of(settings: Settings, *, call_timeout_seconds: float | None = None) -> RecordStore:
    """The store that the settings name, not yet open."""
    return connect_store(settings.records_url, call_timeout_seconds or settings.writer_call_timeout_seconds, pool_of(settings))


def pool_of(settings: Settings) -> PoolSettings | None:
    """How Oracle is reached; None for the embedded store."""
    if not settings.records_url.startswith(ORACLE_SCHEME):
        return None
    from authsvc.records.oracle_settings import PoolSettings

    return PoolSettings(
        max=settings.oracle_pool_max,
        min=settings.oracle_pool_min,
        max_lifetime_session=settings.oracle_max_lifetime_session_seconds,
        timeout=settings.oracle_timeout_seconds,
        wait_timeout=settings.oracle_wait_timeout_seconds,
        ping_interval=settings.oracle_ping_interval_seconds,
        stmtcachesize=settings.oracle_statement_cache_size,
        password=None if settings.records_password is None else settings.records_password.get_secret_value(),
        password_file=settings.records_password_file,
        config_dir=settings.oracle_config_dir,
        wallet_password=None if settings.oracle_wallet_password is None else settings.oracle_wallet_password.get_secret_value(),
        session_limit=settings.oracle_session_limit,
        session_reserve=settings.oracle_session_reserve,
        writers=settings.oracle_writers,
        workers=settings.writer_workers,
        thick_mode=settings.oracle_thick_mode,
    )


def connect_store(records_url: str, call_timeout_seconds: float, pool: PoolSettings | None = None) -> RecordStore:
    """The store of this URL, not yet open; OperatorError for a URL of no kind that is known. `pool` is for Oracle alone."""
    if records_url.startswith(ORACLE_SCHEME):
        # The driver takes a while to load, and only Oracle needs it.
        from authsvc.records.oracle import OracleStore
        from authsvc.records.oracle_settings import PoolSettings

        return OracleStore(records_url, replace(pool or PoolSettings(), call_timeout=call_timeout_seconds))
    return SqliteStore(sqlite_path(records_url), call_timeout_seconds)
