"""Which record store a URL names."""

from __future__ import annotations

from pathlib import Path

from authsvc.records.contract import RecordStore


def connect_store(records_url: str, call_timeout_seconds: float) -> RecordStore:
    """The store of `sqlite:///PATH`, not opened yet."""
    from authsvc.records.sqlite import SqliteStore

    return SqliteStore(Path(records_url.removeprefix("sqlite:///")))
