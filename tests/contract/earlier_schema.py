"""What a release of an earlier schema sends to the record store: statements as they were, frozen."""

from __future__ import annotations

import pytest

from authsvc.records.oracle_sql import RECORD_TYPES
from authsvc.records.rows import record_values

COLUMNS = "jti, kind, incarnation, client_id, epoch, scope, issued_at, expires_at, used_at, revoked_at, voided_at"
NUMBER_OF_COLUMNS = 11
SQLITE_MERGE = f"""
    INSERT INTO tokens ({COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (jti) DO UPDATE SET
        used_at = min(coalesce(used_at, excluded.used_at), coalesce(excluded.used_at, used_at)),
        revoked_at = min(coalesce(revoked_at, excluded.revoked_at), coalesce(excluded.revoked_at, revoked_at)),
        voided_at = min(coalesce(voided_at, excluded.voided_at), coalesce(excluded.voided_at, voided_at))
"""
ORACLE_MERGE = f"""
    MERGE INTO tokens t USING (
        SELECT :1 jti, :2 kind, :3 incarnation, :4 client_id, :5 epoch, :6 scope, :7 issued_at, :8 expires_at,
            :9 used_at, :10 revoked_at, :11 voided_at FROM dual
    ) s ON (t.jti = s.jti)
    WHEN MATCHED THEN UPDATE SET
        t.used_at = LEAST(NVL(t.used_at, s.used_at), NVL(s.used_at, t.used_at)),
        t.revoked_at = LEAST(NVL(t.revoked_at, s.revoked_at), NVL(s.revoked_at, t.revoked_at)),
        t.voided_at = LEAST(NVL(t.voided_at, s.voided_at), NVL(s.voided_at, t.voided_at))
    WHEN NOT MATCHED THEN INSERT ({COLUMNS})
        VALUES (s.jti, s.kind, s.incarnation, s.client_id, s.epoch, s.scope, s.issued_at, s.expires_at,
            s.used_at, s.revoked_at, s.voided_at)
"""


def run_as_of_schema_0001(patch: pytest.MonkeyPatch) -> None:
    """Open, write and read as the first release did, while the patch lasts."""
    for module in ("oracle", "sqlite_file"):
        patch.setattr(f"authsvc.records.{module}.SCHEMA_VERSION", "0001")
    for module, merge, read in (("sqlite", SQLITE_MERGE, "jti = ?"), ("oracle", ORACLE_MERGE, "jti = :1")):
        patch.setattr(f"authsvc.records.{module}.MERGE_RECORD", merge)
        patch.setattr(f"authsvc.records.{module}.READ_RECORD", f"SELECT {COLUMNS} FROM tokens WHERE {read}")
        patch.setattr(f"authsvc.records.{module}.record_values", lambda record: record_values(record)[:NUMBER_OF_COLUMNS])
    patch.setattr("authsvc.records.oracle.RECORD_TYPES", RECORD_TYPES[:NUMBER_OF_COLUMNS])
