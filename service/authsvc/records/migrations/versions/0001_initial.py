"""The first schema: clients with their sequence and triggers, tokens, and what the store knows of itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.oracle import NUMBER, RAW, TIMESTAMP

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MILLISECONDS = sa.BigInteger().with_variant(NUMBER(15), "oracle")  # type: ignore[no-untyped-call] # SQLAlchemy types it so
CLOCK = sa.BigInteger().with_variant(TIMESTAMP(), "oracle")

SQLITE_SEQUENCE = "INSERT INTO client_sequence (last, drawing) VALUES (0, 0)"


def _raw(length: int) -> sa.types.TypeEngine[bytes]:
    return sa.LargeBinary(length).with_variant(RAW(length), "oracle")


# SQLite has no assignment to NEW, so an AFTER trigger writes what it drew into the row. `drawing` tells that write from
# everyone else's: whether a trigger may fire itself is a setting of each connection, and a DBA's may differ from ours.
SQLITE_TRIGGERS = (
    """
    CREATE TRIGGER clients_keep_id BEFORE UPDATE OF client_id ON clients WHEN NEW.client_id IS NOT OLD.client_id
    BEGIN
        SELECT RAISE(ABORT, 'a client_id does not change: delete the client and add another');
    END
    """,
    """
    CREATE TRIGGER clients_draw_at_update AFTER UPDATE ON clients WHEN (SELECT drawing FROM client_sequence) = 0
    BEGIN
        UPDATE client_sequence SET last = last + 1, drawing = 1;
        UPDATE clients SET
            epoch = CASE WHEN NEW.epoch IS NULL THEN (SELECT last FROM client_sequence) ELSE OLD.epoch END,
            revision = (SELECT last FROM client_sequence)
        WHERE client_id = NEW.client_id;
        UPDATE client_sequence SET drawing = 0;
    END
    """,
    """
    CREATE TRIGGER clients_draw_at_insert AFTER INSERT ON clients
    BEGIN
        DELETE FROM client_tombstones WHERE client_id = NEW.client_id;
        UPDATE clients SET epoch = NULL WHERE client_id = NEW.client_id;
    END
    """,
    """
    CREATE TRIGGER clients_leave_tombstone AFTER DELETE ON clients
    BEGIN
        UPDATE client_sequence SET last = last + 1;
        INSERT INTO client_tombstones (client_id, revision) SELECT OLD.client_id, last FROM client_sequence WHERE true
        ON CONFLICT (client_id) DO UPDATE SET revision = excluded.revision;
    END
    """,
)

SQLITE_IDENTITY = "INSERT INTO store (identity, incarnation) VALUES (lower(hex(randomblob(16))), 0)"


# Oracle has a sequence and assigns to :NEW. ORDER, because instances of a cluster would otherwise draw from ranges of their own.
ORACLE_SEQUENCE = "CREATE SEQUENCE client_sequence ORDER"
ORACLE_TRIGGERS = (
    """
    CREATE OR REPLACE TRIGGER clients_draw_at_insert BEFORE INSERT ON clients FOR EACH ROW
    BEGIN
        :NEW.revision := client_sequence.NEXTVAL;
        :NEW.epoch := :NEW.revision;
    END;
    """,
    """
    CREATE OR REPLACE TRIGGER clients_draw_at_update BEFORE UPDATE ON clients FOR EACH ROW
    BEGIN
        :NEW.revision := client_sequence.NEXTVAL;
        :NEW.epoch := CASE WHEN :NEW.epoch IS NULL THEN :NEW.revision ELSE :OLD.epoch END;
    END;
    """,
    # A client_id does not change: NULL is refused.
    """
    CREATE OR REPLACE TRIGGER clients_keep_id BEFORE UPDATE OF client_id ON clients FOR EACH ROW
    WHEN (NEW.client_id <> OLD.client_id)
    BEGIN
        :NEW.client_id := NULL;
    END;
    """,
    """
    CREATE OR REPLACE TRIGGER clients_drop_tombstone AFTER INSERT ON clients FOR EACH ROW
    BEGIN
        DELETE FROM client_tombstones WHERE client_id = :NEW.client_id;
    END;
    """,
    """
    CREATE OR REPLACE TRIGGER clients_leave_tombstone AFTER DELETE ON clients FOR EACH ROW
    BEGIN
        DELETE FROM client_tombstones WHERE client_id = :OLD.client_id;
        INSERT INTO client_tombstones (client_id, revision) VALUES (:OLD.client_id, client_sequence.NEXTVAL);
    END;
    """,
)
ORACLE_IDENTITY = "INSERT INTO store (identity, incarnation) SELECT LOWER(RAWTOHEX(SYS_GUID())), 0 FROM dual"


def upgrade() -> None:
    """Make everything. The identity is made by the database, so that the same text makes another one elsewhere."""
    oracle = op.get_context().dialect.name == "oracle"
    _create_tables(oracle)
    if oracle:
        for statement in (ORACLE_SEQUENCE, *ORACLE_TRIGGERS):
            # Not text: the colons of :NEW are no binds.
            op.execute(sa.DDL(statement))  # type: ignore[no-untyped-call] # SQLAlchemy types it so
        op.execute(ORACLE_IDENTITY)
        return
    for statement in (SQLITE_SEQUENCE, *SQLITE_TRIGGERS, SQLITE_IDENTITY):
        op.execute(statement)


def _create_tables(oracle: bool) -> None:
    op.create_table(
        "clients",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("scopes", sa.String(2079), nullable=False),
        sa.Column("secret_digest", _raw(32), nullable=False),
        sa.Column("secret_created_at", MILLISECONDS, nullable=False),
        sa.Column("second_secret_digest", _raw(32)),
        sa.Column("second_secret_created_at", MILLISECONDS),
        sa.Column("enabled", sa.SmallInteger, nullable=False),
        sa.Column("access_ttl_seconds", sa.Integer, nullable=False),
        sa.Column("one_time_ttl_seconds", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger),
        sa.Column("revision", sa.BigInteger),
        sa.CheckConstraint("length(client_id) BETWEEN 1 AND 64", name="clients_id_length"),
        sa.CheckConstraint("length(secret_digest) = 32", name="clients_digest_length").ddl_if(dialect="sqlite"),
        sa.CheckConstraint("length(second_secret_digest) = 32", name="clients_second_digest_length").ddl_if(dialect="sqlite"),
        sa.CheckConstraint("LENGTH(RAWTOHEX(secret_digest)) = 64", name="clients_digest_bytes").ddl_if(dialect="oracle"),
        sa.CheckConstraint("LENGTH(RAWTOHEX(second_secret_digest)) = 64", name="clients_second_digest_bytes").ddl_if(dialect="oracle"),
        sa.CheckConstraint(
            "(second_secret_digest IS NULL AND second_secret_created_at IS NULL)"
            " OR (second_secret_digest IS NOT NULL AND second_secret_created_at IS NOT NULL)",
            name="clients_second_secret_whole",
        ),
        sa.CheckConstraint("enabled IN (0, 1)", name="clients_enabled"),
    )
    op.create_table(
        "client_tombstones",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    if not oracle:
        op.create_table(
            "client_sequence",
            sa.Column("last", sa.BigInteger, nullable=False),
            sa.Column("drawing", sa.SmallInteger, nullable=False),
        )
    op.create_table(
        "tokens",
        sa.Column("jti", _raw(20), primary_key=True),
        sa.Column("kind", sa.String(1), nullable=False),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("scope", sa.String(2079), nullable=False),
        sa.Column("issued_at", MILLISECONDS, nullable=False),
        sa.Column("expires_at", MILLISECONDS, nullable=False),
        sa.Column("used_at", MILLISECONDS),
        sa.Column("revoked_at", MILLISECONDS),
        sa.Column("voided_at", MILLISECONDS),
        sa.CheckConstraint("length(jti) = 20", name="tokens_jti_length").ddl_if(dialect="sqlite"),
        sa.CheckConstraint("LENGTH(RAWTOHEX(jti)) = 40", name="tokens_jti_bytes").ddl_if(dialect="oracle"),
        sa.CheckConstraint("kind IN ('a', 'o')", name="tokens_kind"),
        sa.CheckConstraint("length(client_id) BETWEEN 1 AND 64", name="tokens_client_id_length"),
    )
    op.create_index("tokens_by_expiry", "tokens", ["expires_at"])
    op.create_index("tokens_by_client", "tokens", ["client_id", "issued_at", "jti"])
    op.create_table(
        "stream_marks",
        sa.Column("incarnation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.String(64), primary_key=True),
        sa.Column("last_id", sa.String(64), nullable=False),
        sa.Column("entries_added", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "store",
        sa.Column("identity", sa.String(32), primary_key=True),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("expires_at", CLOCK, nullable=False),
    )
