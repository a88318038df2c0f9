"""Every statement that a running process sends to SQLite."""

from __future__ import annotations

from authsvc.records.rows import CHANGE_COLUMNS, CLIENT_COLUMNS, RECORD_COLUMNS, of_earlier

# The clock of the machine that holds the file, in ms: 2440587.5 is the Julian day of 1970-01-01.
NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

READ_IDENTITY = "SELECT identity FROM store"
RAISE_INCARNATION = "UPDATE store SET incarnation = max(incarnation, ?) + 1"
READ_INCARNATION = "SELECT incarnation FROM store"

READ_CLIENTS = f"SELECT {CLIENT_COLUMNS} FROM clients"  # noqa: S608
READ_ONE_CLIENT = READ_CLIENTS + " WHERE client_id = ?"
READ_CLIENTS_NAMED = READ_CLIENTS + " WHERE client_id IN (SELECT value FROM json_each(?))"  # noqa: S608
READ_CLIENTS_IN_ORDER = READ_CLIENTS + " ORDER BY client_id"
READ_TOMBSTONE = "SELECT client_id, revision FROM client_tombstones WHERE client_id = ?"
READ_TOMBSTONES_NAMED = "SELECT client_id, revision FROM client_tombstones WHERE client_id IN (SELECT value FROM json_each(?))"
READ_REVISIONS = "SELECT client_id, revision FROM client_tombstones UNION ALL SELECT client_id, revision FROM clients"
INSERT_CLIENT = """
    INSERT INTO clients (scopes, secret_digest, secret_created_at, second_secret_digest, second_secret_created_at,
        enabled, access_ttl_seconds, one_time_ttl_seconds, client_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id) DO NOTHING
"""
UPDATE_CLIENT = """
    UPDATE clients SET scopes = ?, secret_digest = ?, secret_created_at = ?, second_secret_digest = ?, second_secret_created_at = ?,
        enabled = ?, access_ttl_seconds = ?, one_time_ttl_seconds = ?, epoch = ?
    WHERE client_id = ?
"""
DELETE_CLIENT = "DELETE FROM clients WHERE client_id = ?"
# The newest, should the sequence have run back.
NAME_CHANGE = """
    UPDATE client_changes SET change = ?, changed_by = ?, request_id = ?
    WHERE change_number = (SELECT max(change_number) FROM client_changes WHERE client_id = ?)
"""
READ_CHANGES = f"SELECT {CHANGE_COLUMNS} FROM client_changes WHERE changed_at >= ? AND change_number > ?"  # noqa: S608
READ_CLIENT_CHANGES = f"{READ_CHANGES} AND client_id = ? ORDER BY change_number LIMIT ?"
READ_ALL_CHANGES = f"{READ_CHANGES} ORDER BY change_number LIMIT ?"


def _earlier(column: str) -> str:
    """Of two values the lesser. min() of SQLite is NULL when either side is, so each side falls back on the other."""
    return f"min(coalesce({column}, excluded.{column}), coalesce(excluded.{column}, {column}))"


def _of_earlier(time: str, column: str) -> str:
    return of_earlier(time, f"excluded.{time}", column, f"excluded.{column}", _earlier(column))


MERGE_RECORD = f"""
    INSERT INTO tokens ({RECORD_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (jti) DO UPDATE SET
        used_at = {_earlier("used_at")},
        revoked_at = {_earlier("revoked_at")},
        voided_at = {_earlier("voided_at")},
        issued_request_id = {_earlier("issued_request_id")},
        used_request_id = {_of_earlier("used_at", "used_request_id")},
        revoked_request_id = {_of_earlier("revoked_at", "revoked_request_id")},
        revoked_by = {_of_earlier("revoked_at", "revoked_by")}
"""  # noqa: S608
READ_RECORD = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE jti = ?"  # noqa: S608
READ_CLIENT_RECORDS = f"""
    SELECT {RECORD_COLUMNS} FROM tokens WHERE client_id = ? AND (issued_at, jti) > (?, ?) ORDER BY issued_at, jti LIMIT ?
"""  # noqa: S608
READ_RECORDS = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE issued_at >= ? AND jti > ? ORDER BY jti LIMIT ?"  # noqa: S608
PURGE_RECORDS = """
    DELETE FROM tokens WHERE jti IN (SELECT jti FROM tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?)
"""

TAKE_LEASE = f"""
    INSERT INTO leases (name, holder, expires_at) VALUES (?, ?, {NOW_MS} + ?)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE leases.holder = excluded.holder OR leases.expires_at <= {NOW_MS}
"""  # noqa: S608
DROP_LEASE = "DELETE FROM leases WHERE name = ?"

DROP_EARLIER_MARKS = "DELETE FROM stream_marks WHERE incarnation < ?"
HAS_LATER_MARKS = "SELECT 1 FROM stream_marks WHERE incarnation > ? LIMIT 1"
WRITE_MARK = """
    INSERT INTO stream_marks (incarnation, stream, last_id, entries_added) VALUES (?, ?, ?, ?)
    ON CONFLICT (incarnation, stream) DO UPDATE SET last_id = excluded.last_id, entries_added = excluded.entries_added
    WHERE excluded.entries_added > stream_marks.entries_added
"""
READ_MARKS = "SELECT incarnation, stream, last_id, entries_added FROM stream_marks"
