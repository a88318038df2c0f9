"""Which record store a URL means."""

from __future__ import annotations

from authsvc.records.contract import RecordStore
from authsvc.records.sqlite import SqliteStore
from authsvc.records.sqlite_file import sqlite_path


def connect_store(records_url: str, call_timeout_seconds: float) -> RecordStore:
    """The store of this URL, not yet open; OperatorError for a URL of no kind that is known."""
    return SqliteStore(sqlite_path(records_url), call_timeout_seconds)
