"""The tables of the record store, defined once for every database; the migrations must end in exactly these."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table
from sqlalchemy.dialects.oracle import NUMBER, RAW, TIMESTAMP
from sqlalchemy.types import TypeEngine

from authsvc.model import MAX_SCOPES

NAME_BYTES = 20
DIGEST_BYTES = 32
CLIENT_ID_LENGTH = 64
SCOPES_LENGTH = MAX_SCOPES * 65 - 1
"""The most scopes, of 64 characters each, with a space between them."""

MILLISECONDS = BigInteger().with_variant(NUMBER(15), "oracle")  # type: ignore[no-untyped-call] # SQLAlchemy types it so
"""A time: Unix milliseconds, UTC."""
CLOCK = BigInteger().with_variant(TIMESTAMP(), "oracle")
"""A time that is compared with the database's own clock and nothing else; UTC."""


def _raw(length: int) -> TypeEngine[bytes]:
    """Bytes of this length. Oracle's BLOB can be no key."""
    return LargeBinary(length).with_variant(RAW(length), "oracle")


METADATA = MetaData()

CLIENTS = Table(
    "clients",
    METADATA,
    Column("client_id", String(CLIENT_ID_LENGTH), primary_key=True),
    Column("scopes", String(SCOPES_LENGTH), nullable=False),
    Column("secret_digest", _raw(DIGEST_BYTES), nullable=False),
    Column("secret_created_at", MILLISECONDS, nullable=False),
    Column("second_secret_digest", _raw(DIGEST_BYTES)),
    Column("second_secret_created_at", MILLISECONDS),
    Column("enabled", SmallInteger, nullable=False),
    Column("access_ttl_seconds", Integer, nullable=False),
    Column("one_time_ttl_seconds", Integer, nullable=False),
    # Drawn by triggers, whatever a statement says. NULL stands in them only within a statement: it asks for a new epoch.
    Column("epoch", BigInteger),
    Column("revision", BigInteger),
    CheckConstraint("length(client_id) BETWEEN 1 AND 64", name="clients_id_length"),
    CheckConstraint("length(secret_digest) = 32", name="clients_digest_length").ddl_if(dialect="sqlite"),
    CheckConstraint("length(second_secret_digest) = 32", name="clients_second_digest_length").ddl_if(dialect="sqlite"),
    CheckConstraint("LENGTH(RAWTOHEX(secret_digest)) = 64", name="clients_digest_bytes").ddl_if(dialect="oracle"),
    CheckConstraint("LENGTH(RAWTOHEX(second_secret_digest)) = 64", name="clients_second_digest_bytes").ddl_if(dialect="oracle"),
    CheckConstraint(
        "(second_secret_digest IS NULL AND second_secret_created_at IS NULL)"
        " OR (second_secret_digest IS NOT NULL AND second_secret_created_at IS NOT NULL)",
        name="clients_second_secret_whole",
    ),
    CheckConstraint("enabled IN (0, 1)", name="clients_enabled"),
)
"""`scopes` are joined by spaces; the older of two secrets stands first."""

CLIENT_TOMBSTONES = Table(
    "client_tombstones",
    METADATA,
    Column("client_id", String(CLIENT_ID_LENGTH), primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
"""What a trigger leaves of a deleted client, until a client of that id is added again."""

CLIENT_CHANGES = Table(
    "client_changes",
    METADATA,
    Column("change_number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    Column("revision", BigInteger),
    Column("changed_at", MILLISECONDS, nullable=False),
    Column("change", String(32), nullable=False),
    Column("changed_by", String(255), nullable=False),
    Column("request_id", String(64)),
    Column("scopes", String(SCOPES_LENGTH)),
    Column("enabled", SmallInteger),
    Column("secrets", SmallInteger),
    Column("access_ttl_seconds", Integer),
    Column("one_time_ttl_seconds", Integer),
    Column("epoch", BigInteger),
    Index("client_changes_by_client", "client_id", "change_number"),
)
"""Written by triggers, a row for each change of a client, and never deleted by us. A command puts its name to its own.

`revision` is as it was drawn, whatever that was: nothing that is wrong with a client may keep its change from being noted."""

CLIENT_SEQUENCE = Table(
    "client_sequence",
    METADATA,
    Column("last", BigInteger, nullable=False),
    Column("drawing", SmallInteger, nullable=False),
)
"""SQLite's stand-in for a sequence, one row: the number drawn last. `drawing` is 1 only while a trigger writes what it drew."""

TOKENS = Table(
    "tokens",
    METADATA,
    Column("jti", _raw(NAME_BYTES), primary_key=True),
    Column("kind", String(1), nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("scope", String(SCOPES_LENGTH), nullable=False),
    Column("issued_at", MILLISECONDS, nullable=False),
    Column("expires_at", MILLISECONDS, nullable=False),
    Column("used_at", MILLISECONDS),
    Column("revoked_at", MILLISECONDS),
    Column("voided_at", MILLISECONDS),
    Column("issued_request_id", String(64)),
    Column("used_request_id", String(64)),
    Column("revoked_request_id", String(64)),
    Column("revoked_by", String(255)),
    CheckConstraint("length(jti) = 20", name="tokens_jti_length").ddl_if(dialect="sqlite"),
    CheckConstraint("LENGTH(RAWTOHEX(jti)) = 40", name="tokens_jti_bytes").ddl_if(dialect="oracle"),
    CheckConstraint("kind IN ('a', 'o')", name="tokens_kind"),
    CheckConstraint("length(client_id) BETWEEN 1 AND 64", name="tokens_client_id_length"),
    Index("tokens_by_expiry", "expires_at"),
    Index("tokens_by_client", "client_id", "issued_at", "jti"),
    Index("tokens_by_state", "jti", "expires_at", "used_at", "revoked_at", "voided_at").ddl_if(dialect="oracle"),
)
"""The record of every token. The indexes are for the purge, for reports on one client, page by page, and for the state of one token.

SQLite has the whole row at hand where it finds the JTI, so it needs no index for the last."""

STREAM_MARKS = Table(
    "stream_marks",
    METADATA,
    Column("incarnation", BigInteger, primary_key=True, autoincrement=False),
    Column("stream", String(64), primary_key=True),
    Column("last_id", String(64), nullable=False),
    Column("entries_added", BigInteger, nullable=False),
)

STORE = Table(
    "store",
    METADATA,
    Column("identity", String(32), primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
)
"""One row: who this database is, and the incarnation number given out last."""

LEASES = Table(
    "leases",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("expires_at", CLOCK, nullable=False),
)
