"""The record of changes of clients, written by triggers, and Oracle's index that covers the state of one token."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.oracle import NUMBER

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MILLISECONDS = sa.BigInteger().with_variant(NUMBER(15), "oracle")  # type: ignore[no-untyped-call] # SQLAlchemy types it so

COLUMNS = "client_id, revision, changed_at, change, changed_by, scopes, enabled, secrets, access_ttl_seconds, one_time_ttl_seconds, epoch"
SQLITE_NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

# `drawing` is 1 only while a trigger writes what it drew: then the row is as it will stay.
SQLITE_TRIGGERS = (
    f"""
    CREATE TRIGGER clients_note_change AFTER UPDATE OF revision ON clients WHEN (SELECT drawing FROM client_sequence) = 1
    BEGIN
        INSERT INTO client_changes ({COLUMNS})
        VALUES (NEW.client_id, NEW.revision, {SQLITE_NOW}, 'update', 'SQL', NEW.scopes, NEW.enabled,
            1 + (NEW.second_secret_digest IS NOT NULL), NEW.access_ttl_seconds, NEW.one_time_ttl_seconds, NEW.epoch);
    END
    """,  # noqa: S608
    "DROP TRIGGER clients_draw_at_insert",
    """
    CREATE TRIGGER clients_draw_at_insert AFTER INSERT ON clients
    BEGIN
        DELETE FROM client_tombstones WHERE client_id = NEW.client_id;
        UPDATE clients SET epoch = NULL WHERE client_id = NEW.client_id;
        UPDATE client_changes SET change = 'insert' WHERE change_number = (SELECT max(change_number) FROM client_changes);
    END
    """,
    "DROP TRIGGER clients_leave_tombstone",
    f"""
    CREATE TRIGGER clients_leave_tombstone AFTER DELETE ON clients
    BEGIN
        UPDATE client_sequence SET last = last + 1;
        INSERT INTO client_tombstones (client_id, revision) SELECT OLD.client_id, last FROM client_sequence WHERE true
        ON CONFLICT (client_id) DO UPDATE SET revision = excluded.revision;
        INSERT INTO client_changes (client_id, revision, changed_at, change, changed_by)
        SELECT OLD.client_id, last, {SQLITE_NOW}, 'delete', 'SQL' FROM client_sequence;
    END
    """,  # noqa: S608
)

# The day by Julian's count, in which 1970-01-01 is 2440588, the second of the day, and thousandths of it.
ORACLE_UTC = "SYS_EXTRACT_UTC(SYSTIMESTAMP)"
ORACLE_NOW = (
    f"(TO_NUMBER(TO_CHAR({ORACLE_UTC}, 'J')) - 2440588) * 86400000 + TO_NUMBER(TO_CHAR({ORACLE_UTC}, 'SSSSS')) * 1000"
    f" + TO_NUMBER(TO_CHAR({ORACLE_UTC}, 'FF3'))"
)
# Whom a tool named, else the user of the machine that the session came from, beside the database's own.
ORACLE_WHO = (
    "SUBSTR(SYS_CONTEXT('USERENV', 'SESSION_USER') || ' '"
    " || NVL(SYS_CONTEXT('USERENV', 'CLIENT_IDENTIFIER'), SYS_CONTEXT('USERENV', 'OS_USER') || '@' || SYS_CONTEXT('USERENV', 'HOST')),"
    " 1, 255)"
)
ORACLE_SEQUENCE = "CREATE SEQUENCE client_change_sequence ORDER"
ORACLE_TRIGGERS = (
    f"""
    CREATE OR REPLACE TRIGGER clients_note_change AFTER INSERT OR UPDATE ON clients FOR EACH ROW
    BEGIN
        INSERT INTO client_changes (change_number, {COLUMNS})
        VALUES (client_change_sequence.NEXTVAL, :NEW.client_id, :NEW.revision, {ORACLE_NOW},
            CASE WHEN :OLD.client_id IS NULL THEN 'insert' ELSE 'update' END, {ORACLE_WHO},
            :NEW.scopes, :NEW.enabled, CASE WHEN :NEW.second_secret_digest IS NULL THEN 1 ELSE 2 END,
            :NEW.access_ttl_seconds, :NEW.one_time_ttl_seconds, :NEW.epoch);
    END;
    """,  # noqa: S608
    f"""
    CREATE OR REPLACE TRIGGER clients_leave_tombstone AFTER DELETE ON clients FOR EACH ROW
    BEGIN
        DELETE FROM client_tombstones WHERE client_id = :OLD.client_id;
        INSERT INTO client_tombstones (client_id, revision) VALUES (:OLD.client_id, client_sequence.NEXTVAL);
        INSERT INTO client_changes (change_number, client_id, revision, changed_at, change, changed_by)
        SELECT client_change_sequence.NEXTVAL, client_id, revision, {ORACLE_NOW}, 'delete', {ORACLE_WHO}
        FROM client_tombstones WHERE client_id = :OLD.client_id;
    END;
    """,  # noqa: S608
)


ORACLE_LOCK_WAIT = "ALTER SESSION SET DDL_LOCK_TIMEOUT = 60"
"""Writers go on meanwhile: without it DDL fails (ORA-00054) when one of them is in the middle of a transaction."""


def upgrade() -> None:
    """Add; what an earlier release reads and writes is as it was. On Oracle, where each step commits, it may be cut short and repeated."""
    if op.get_context().dialect.name != "oracle":
        _create_table()
        op.create_index("client_changes_by_client", "client_changes", ["client_id", "change_number"])
        for statement in SQLITE_TRIGGERS:
            op.execute(statement)
        return
    op.execute(ORACLE_LOCK_WAIT)
    if not _is_made("user_tables", "table_name", "CLIENT_CHANGES"):
        _create_table()
    if not _is_made("user_indexes", "index_name", "CLIENT_CHANGES_BY_CLIENT"):
        op.create_index("client_changes_by_client", "client_changes", ["client_id", "change_number"])
    if not _is_made("user_sequences", "sequence_name", "CLIENT_CHANGE_SEQUENCE"):
        op.execute(ORACLE_SEQUENCE)
    for statement in ORACLE_TRIGGERS:
        # Not text: the colons of :NEW are no binds.
        op.execute(sa.DDL(statement))  # type: ignore[no-untyped-call] # SQLAlchemy types it so
    # Last, for it takes long over many tokens; a DBA may have made it before, ONLINE.
    if not _is_made("user_indexes", "index_name", "TOKENS_BY_STATE"):
        op.create_index("tokens_by_state", "tokens", ["jti", "expires_at", "used_at", "revoked_at", "voided_at"])


def _is_made(view: str, column: str, name: str) -> bool:
    """Whether a run that was cut short made it; the text for people begins from nothing."""
    if op.get_context().as_sql:
        return False
    return op.get_bind().exec_driver_sql(f"SELECT 1 FROM {view} WHERE {column} = '{name}'").first() is not None  # noqa: S608


def _create_table() -> None:
    op.create_table(
        "client_changes",
        sa.Column("change_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger),
        sa.Column("changed_at", MILLISECONDS, nullable=False),
        sa.Column("change", sa.String(32), nullable=False),
        sa.Column("changed_by", sa.String(255), nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("scopes", sa.String(2079)),
        sa.Column("enabled", sa.SmallInteger),
        sa.Column("secrets", sa.SmallInteger),
        sa.Column("access_ttl_seconds", sa.Integer),
        sa.Column("one_time_ttl_seconds", sa.Integer),
        sa.Column("epoch", sa.BigInteger),
    )
