"""Every statement that a running process sends to Oracle, and what is to be known of its binds where NULL may stand."""

from __future__ import annotations

from typing import Any

import oracledb

from authsvc.records.rows import CHANGE_COLUMNS, CLIENT_COLUMNS, RECORD_COLUMNS, of_earlier

NOW = "SYS_EXTRACT_UTC(SYSTIMESTAMP)"
READ_SCHEMA_VERSION = "SELECT version_num FROM alembic_version"
READ_SESSION_LIMIT = "SELECT value FROM v$parameter WHERE name = 'sessions'"
READ_IDENTITY = "SELECT identity FROM store"
RAISE_INCARNATION = "UPDATE store SET incarnation = GREATEST(incarnation, :1) + 1 RETURNING incarnation INTO :2"

READ_CLIENTS = f"SELECT {CLIENT_COLUMNS} FROM clients"  # noqa: S608
READ_ONE_CLIENT = f"{READ_CLIENTS} WHERE client_id = :1"
LOCK_CLIENT = f"{READ_ONE_CLIENT} FOR UPDATE"
READ_CLIENTS_IN_ORDER = f"{READ_CLIENTS} ORDER BY client_id"
# One statement, so that both halves are of the same moment.
READ_NAMED = f"""
    SELECT 1 found, {CLIENT_COLUMNS} FROM clients WHERE client_id IN (%(ids)s)
    UNION ALL
    SELECT 0, client_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, revision FROM client_tombstones WHERE client_id IN (%(ids)s)
"""  # noqa: S608
READ_TOMBSTONE = "SELECT client_id, revision FROM client_tombstones WHERE client_id = :1"
READ_REVISIONS = "SELECT client_id, revision FROM client_tombstones UNION ALL SELECT client_id, revision FROM clients"
INSERT_CLIENT = """
    INSERT INTO clients (scopes, secret_digest, secret_created_at, second_secret_digest, second_secret_created_at,
        enabled, access_ttl_seconds, one_time_ttl_seconds, client_id)
    VALUES (:1, :2, :3, :4, :5, :6, :7, :8, :9)
"""
UPDATE_CLIENT = """
    UPDATE clients SET scopes = :1, secret_digest = :2, secret_created_at = :3, second_secret_digest = :4,
        second_secret_created_at = :5, enabled = :6, access_ttl_seconds = :7, one_time_ttl_seconds = :8, epoch = :9
    WHERE client_id = :10
"""
DELETE_CLIENT = "DELETE FROM clients WHERE client_id = :1"
# The newest, should the sequence have run back.
NAME_CHANGE = """
    UPDATE client_changes SET change = :1, changed_by = :2, request_id = :3
    WHERE change_number = (SELECT MAX(change_number) FROM client_changes WHERE client_id = :4)
"""
READ_ALL_CHANGES = f"""
    SELECT {CHANGE_COLUMNS} FROM client_changes WHERE changed_at >= :1 AND change_number > :2
    ORDER BY change_number FETCH FIRST :3 ROWS ONLY
"""  # noqa: S608
READ_CLIENT_CHANGES = f"""
    SELECT {CHANGE_COLUMNS} FROM client_changes WHERE client_id = :1 AND changed_at >= :2 AND change_number > :3
    ORDER BY change_number FETCH FIRST :4 ROWS ONLY
"""  # noqa: S608


def _earlier(column: str) -> str:
    """Of two values the lesser. LEAST is NULL when either side is, so each side falls back on the other."""
    return f"LEAST(NVL(t.{column}, s.{column}), NVL(s.{column}, t.{column}))"


def _of_earlier(time: str, column: str) -> str:
    return of_earlier(f"t.{time}", f"s.{time}", f"t.{column}", f"s.{column}", _earlier(column))


MERGE_RECORD = f"""
    MERGE INTO tokens t USING (
        SELECT :1 jti, :2 kind, :3 incarnation, :4 client_id, :5 epoch, :6 scope, :7 issued_at, :8 expires_at,
            :9 used_at, :10 revoked_at, :11 voided_at, :12 issued_request_id, :13 used_request_id, :14 revoked_request_id,
            :15 revoked_by FROM dual
    ) s ON (t.jti = s.jti)
    WHEN MATCHED THEN UPDATE SET
        t.used_at = {_earlier("used_at")},
        t.revoked_at = {_earlier("revoked_at")},
        t.voided_at = {_earlier("voided_at")},
        t.issued_request_id = {_earlier("issued_request_id")},
        t.used_request_id = {_of_earlier("used_at", "used_request_id")},
        t.revoked_request_id = {_of_earlier("revoked_at", "revoked_request_id")},
        t.revoked_by = {_of_earlier("revoked_at", "revoked_by")}
    WHEN NOT MATCHED THEN INSERT ({RECORD_COLUMNS})
        VALUES (s.jti, s.kind, s.incarnation, s.client_id, s.epoch, s.scope, s.issued_at, s.expires_at,
            s.used_at, s.revoked_at, s.voided_at, s.issued_request_id, s.used_request_id, s.revoked_request_id, s.revoked_by)
"""  # noqa: S608
READ_RECORD = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE jti = :1"  # noqa: S608
# The first condition is what an index can begin at; the second leaves out what the page before had of the same millisecond.
READ_CLIENT_RECORDS = f"""
    SELECT {RECORD_COLUMNS} FROM tokens WHERE client_id = :1 AND issued_at >= :2 AND (issued_at > :3 OR jti > :4)
    ORDER BY issued_at, jti FETCH FIRST :5 ROWS ONLY
"""  # noqa: S608
READ_RECORDS = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE issued_at >= :1 AND jti > :2 ORDER BY jti FETCH FIRST :3 ROWS ONLY"  # noqa: S608
PURGE_RECORDS = "DELETE FROM tokens WHERE expires_at < :1 AND ROWNUM <= :2"

RENEW_LEASE = f"""
    UPDATE leases SET holder = :1, expires_at = {NOW} + NUMTODSINTERVAL(:2, 'SECOND')
    WHERE name = :3 AND (holder = :4 OR expires_at <= {NOW})
"""  # noqa: S608
HAS_LEASE = "SELECT 1 FROM leases WHERE name = :1"
FIRST_LEASE = f"INSERT INTO leases (name, holder, expires_at) VALUES (:1, :2, {NOW} + NUMTODSINTERVAL(:3, 'SECOND'))"  # noqa: S608
DROP_LEASE = "DELETE FROM leases WHERE name = :1"

DROP_EARLIER_MARKS = "DELETE FROM stream_marks WHERE incarnation < :1"
LATEST_MARKS = "SELECT MAX(incarnation) FROM stream_marks"
MERGE_MARK = """
    MERGE INTO stream_marks t USING (SELECT :1 incarnation, :2 stream, :3 last_id, :4 entries_added FROM dual) s
    ON (t.incarnation = s.incarnation AND t.stream = s.stream)
    WHEN MATCHED THEN UPDATE SET t.last_id = s.last_id, t.entries_added = s.entries_added WHERE s.entries_added > t.entries_added
    WHEN NOT MATCHED THEN INSERT (incarnation, stream, last_id, entries_added)
        VALUES (s.incarnation, s.stream, s.last_id, s.entries_added)
"""
READ_MARKS = "SELECT incarnation, stream, last_id, entries_added FROM stream_marks"

# Without them a column of nothing but NULLs would travel as text.
RECORD_TYPES = (
    *(oracledb.DB_TYPE_RAW, oracledb.DB_TYPE_VARCHAR, oracledb.DB_TYPE_NUMBER, oracledb.DB_TYPE_VARCHAR, oracledb.DB_TYPE_NUMBER),
    *(oracledb.DB_TYPE_VARCHAR, *[oracledb.DB_TYPE_NUMBER] * 5, *[oracledb.DB_TYPE_VARCHAR] * 4),
)
CAUSE_TYPES = (oracledb.DB_TYPE_VARCHAR,) * 3
CLIENT_TYPES = (
    *(oracledb.DB_TYPE_VARCHAR, oracledb.DB_TYPE_RAW, oracledb.DB_TYPE_NUMBER, oracledb.DB_TYPE_RAW),
    *[oracledb.DB_TYPE_NUMBER] * 4,
)
_SCOPE = RECORD_COLUMNS.split(", ").index("scope")


def without_empty_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """For Oracle an empty text is NULL: an empty scope is kept as a space, which is no scope."""
    return row if row[_SCOPE] else (*row[:_SCOPE], " ", *row[_SCOPE + 1 :])


def with_empty_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A record as it was before `without_empty_text`."""
    return row if row[_SCOPE] != " " else (*row[:_SCOPE], "", *row[_SCOPE + 1 :])
