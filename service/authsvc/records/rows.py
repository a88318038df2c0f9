"""Rows: the columns of clients and records in the order in which every store's statements name them, to and from our types."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from authsvc.model import Client, Secret, TokenRecord

CLIENT_COLUMNS = (
    "client_id, scopes, secret_digest, secret_created_at, second_secret_digest, second_secret_created_at,"
    " enabled, access_ttl_seconds, one_time_ttl_seconds, epoch, revision"
)
CHANGE_COLUMNS = (
    "change_number, client_id, revision, changed_at, change, changed_by, request_id, scopes, enabled, secrets, access_ttl_seconds,"
    " one_time_ttl_seconds, epoch"
)
"""A ClientChange."""
RECORD_COLUMNS = (
    "jti, kind, incarnation, client_id, epoch, scope, issued_at, expires_at, used_at, revoked_at, voided_at,"
    " issued_request_id, used_request_id, revoked_request_id, revoked_by"
)

record_values = attrgetter(
    *("name", "kind", "incarnation", "client_id", "epoch", "scope", "issued_ms", "expires_ms", "used_ms", "revoked_ms", "voided_ms"),
    *("issued_request_id", "used_request_id", "revoked_request_id", "revoked_by"),
)
"""A TokenRecord as RECORD_COLUMNS."""


def of_earlier(held_time: str, new_time: str, held: str, new: str, lesser: str) -> str:
    """SQL for what is said of the earlier of two times for one event; `lesser` of what is said where the times are the same."""
    return (
        f"CASE WHEN {new_time} IS NULL OR {new_time} > {held_time} THEN {held}"
        f" WHEN {held_time} IS NULL OR {new_time} < {held_time} THEN {new} ELSE {lesser} END"
    )


LAST_NAME = b"\xff" * 20
"""No name is behind it."""


def page_start(issued_since_ms: int, after: TokenRecord | None) -> tuple[int, bytes]:
    """The key (issued, name) behind which a page of one client's records begins."""
    return (issued_since_ms - 1, LAST_NAME) if after is None else (after.issued_ms, after.name)


def as_client(row: Sequence[Any]) -> Client:
    """A client from CLIENT_COLUMNS."""
    client_id, scopes, digest, created_ms, second_digest, second_created_ms, enabled, *numbers = row
    newer = () if second_digest is None else (Secret(second_digest, second_created_ms),)
    return Client(client_id, tuple(scopes.split()), (Secret(digest, created_ms), *newer), bool(enabled), *numbers)


def client_values(client: Client) -> tuple[Any, ...]:
    """What callers may set: CLIENT_COLUMNS without the id, the epoch and the revision."""
    older, *newer = client.secrets
    second = (newer[0].digest, newer[0].created_ms) if newer else (None, None)
    lifetimes = (client.access_ttl_seconds, client.one_time_ttl_seconds)
    return (" ".join(client.scopes), older.digest, older.created_ms, *second, int(client.enabled), *lifetimes)
