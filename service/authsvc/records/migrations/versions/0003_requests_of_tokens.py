"""The requests by which a token was issued, used and revoked, and who revoked it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = {"issued_request_id": 64, "used_request_id": 64, "revoked_request_id": 64, "revoked_by": 255}
ORACLE_LOCK_WAIT = "ALTER SESSION SET DDL_LOCK_TIMEOUT = 60"
"""Writers go on meanwhile: without it DDL fails (ORA-00054) when one of them is in the middle of a transaction."""


def upgrade() -> None:
    """Add columns that may be empty, which rewrites no row. On Oracle, where each commits, it may be cut short and repeated."""
    if op.get_context().dialect.name == "oracle":
        op.execute(ORACLE_LOCK_WAIT)
    for name, length in COLUMNS.items():
        if not _is_made(name):
            op.add_column("tokens", sa.Column(name, sa.String(length)))


def _is_made(column: str) -> bool:
    """Whether a run that was cut short made it; the text for people begins from nothing."""
    if op.get_context().as_sql or op.get_context().dialect.name != "oracle":
        return False
    query = f"SELECT 1 FROM user_tab_columns WHERE table_name = 'TOKENS' AND column_name = '{column.upper()}'"  # noqa: S608
    return op.get_bind().exec_driver_sql(query).first() is not None
