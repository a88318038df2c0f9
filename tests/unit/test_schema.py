"""The schema: migrations end in exactly the tables of records/schema.py, whoever runs them, and the triggers keep their word."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from authsvc.errors import OperatorError
from authsvc.records import migrate
from authsvc.records.schema import METADATA
from authsvc.records.sqlite_sql import READ_CLIENT_RECORDS

PROCESSES = 4
ADD = "INSERT INTO clients (client_id, scopes, secret_digest, secret_created_at, enabled, access_ttl_seconds, one_time_ttl_seconds)"


def add(*client_ids: str, verb: str = "INSERT") -> str:
    """A statement that adds clients, with what a client needs at least."""
    rows = ", ".join(f"('{client_id}', 'read', zeroblob(32), 0, 1, 60, 60)" for client_id in client_ids)
    return f"{ADD.replace('INSERT', verb)} VALUES {rows}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "50%" / "records.db"


def url(path: Path) -> str:
    return f"sqlite:///{path}"


@contextlib.contextmanager
def plain(path: Path | str) -> Iterator[sqlite3.Connection]:
    """A connection as a DBA has it: each statement is its own transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def schema_of(connection: sqlite3.Connection, *kinds: str) -> dict[str, list[str]]:
    """The words of the statement that made each table, index and trigger."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: statement.split() for kind, name, statement in rows if not kinds or kind in kinds}


def belongs_to_sqlite(item: Any, name: str | None, kind: str, is_found: bool, other: Any) -> bool:
    """Whether a part of the schema is not another database's alone."""
    return name != "tokens_by_state"


def test_migrations_end_in_exactly_the_tables_of_the_schema(path: Path) -> None:
    migrate.upgrade(url(path))
    engine = create_engine(url(path).replace("%", "%25"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": belongs_to_sqlite})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_migrations_end_in_the_checks_of_the_schema_too(path: Path, tmp_path: Path) -> None:
    migrate.upgrade(url(path))
    engine = create_engine(url(tmp_path / "made.db"))
    METADATA.create_all(engine)
    engine.dispose()
    with plain(path) as migrated, plain(tmp_path / "made.db") as made:
        tables = schema_of(migrated, "table", "index")
        assert tables.pop("alembic_version")
        assert tables == schema_of(made)


def test_upgrading_twice_changes_nothing(path: Path) -> None:
    migrate.upgrade(url(path))
    with plain(path) as connection:
        connection.execute(add("alpha"))
        before = list(connection.iterdump())
    migrate.upgrade(url(path))
    with plain(path) as connection:
        assert list(connection.iterdump()) == before
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrate.head(),)]


UPGRADE_PROCESS = "import sys; from authsvc.records.migrate import upgrade; print('ready', flush=True); input(); upgrade(sys.argv[1])"


def test_several_processes_at_once_all_succeed(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", UPGRADE_PROCESS, url(path)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            )
            for _ in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        results = [(process.communicate()[1], process.returncode) for process in processes]
    assert results == [("", 0)] * PROCESSES
    with plain(path) as connection:
        assert connection.execute("SELECT count(*) FROM store").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM client_sequence").fetchall() == [(1,)]


def test_a_later_schema_is_left_as_it_is(path: Path) -> None:
    migrate.upgrade(url(path))
    with plain(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        before = list(connection.iterdump())
    migrate.upgrade(url(path))
    with plain(path) as connection:
        assert list(connection.iterdump()) == before


def test_a_migration_that_fails_leaves_nothing_behind(path: Path) -> None:
    path.parent.mkdir()
    with plain(path) as connection:
        connection.execute("CREATE TABLE leases (whose TEXT)")
    with pytest.raises(OperatorError, match="leases"):
        migrate.upgrade(url(path))
    with plain(path) as connection:
        assert list(schema_of(connection)) == ["leases"]
        connection.execute("DROP TABLE leases")
    migrate.upgrade(url(path))


def test_the_text_makes_the_same_schema_and_another_identity(path: Path, tmp_path: Path) -> None:
    migrate.upgrade(url(path))
    text = migrate.sql("sqlite:///records.db")
    with plain(path) as migrated:
        identities = set(migrated.execute("SELECT identity FROM store"))
        for name in ("one.db", "two.db"):
            with plain(tmp_path / name) as by_hand:
                by_hand.executescript(text)
                assert schema_of(by_hand) == schema_of(migrated)
                identities |= set(by_hand.execute("SELECT identity FROM store"))
    assert len(identities) == 3
    with plain(tmp_path / "one.db") as connection:
        before = list(connection.iterdump())
    migrate.upgrade(url(tmp_path / "one.db"))
    with plain(tmp_path / "one.db") as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("call", [migrate.upgrade, migrate.sql])
def test_a_url_of_no_known_kind_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(OperatorError, match="AUTH_RECORDS_URL"):
        call("postgresql://db/records")


def test_a_page_of_a_clients_records_is_read_in_the_order_of_its_index(path: Path) -> None:
    migrate.upgrade(url(path))
    with plain(path) as connection:
        plan = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {READ_CLIENT_RECORDS}", ("orders", 0, b"", 100))]
    assert plan == ["SEARCH tokens USING INDEX tokens_by_client (client_id=? AND (issued_at,jti)>(?,?))"], "one step, which sorts nothing"


def test_a_writer_of_the_schema_before_goes_on_through_the_migration(path: Path) -> None:
    """Two releases share one schema while one takes over from the other: what the older one does is done, and noted."""
    at_first = migrate.sql(url(path), to="0001")
    path.parent.mkdir()
    with plain(path) as older:
        older.executescript(at_first)
        older.execute(add("a", "b"))
        older.execute("DELETE FROM clients WHERE client_id = 'b'")
        statement = "SELECT client_id, epoch, revision FROM clients"
        before = older.execute(statement).fetchall(), tombstones(older)
        migrate.upgrade(url(path))
        assert (older.execute(statement).fetchall(), tombstones(older)) == before
        assert older.execute("SELECT * FROM client_changes").fetchall() == [], "of what was done before nothing is known"
        older.execute("UPDATE clients SET enabled = 0")
        assert numbers(older) == {"a": (1, 4)}
        assert older.execute("SELECT revision, change, changed_by FROM client_changes").fetchall() == [(4, "update", "SQL")]


def test_the_text_from_a_revision_makes_the_same_schema(path: Path, tmp_path: Path) -> None:
    migrate.upgrade(url(path))
    with plain(path) as migrated, plain(tmp_path / "by-hand.db") as by_hand:
        by_hand.executescript(migrate.sql(url(path), to="0001"))
        by_hand.executescript(migrate.sql(url(path), since="0001"))
        assert schema_of(by_hand) == schema_of(migrated)
        assert by_hand.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrate.head(),)]


@pytest.mark.parametrize("since", ["9999", "0", "head", "base", "-1"])
def test_a_revision_that_is_none_is_refused(since: str) -> None:
    with pytest.raises(OperatorError, match="0001, 0002"):
        migrate.sql("sqlite:///records.db", since=since)


# The triggers, under both settings of whether a trigger may fire itself: a DBA's connection may have either.


@pytest.fixture(params=["ON", "OFF"], ids=["recursive triggers", "plain triggers"])
def dba(request: pytest.FixtureRequest, path: Path) -> Iterator[sqlite3.Connection]:
    migrate.upgrade(url(path))
    with plain(path) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {request.param}")
        yield connection
        assert connection.execute("SELECT drawing FROM client_sequence").fetchall() == [(0,)]


def numbers(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """The epoch and revision of each client."""
    return {
        client_id: (epoch, revision) for client_id, epoch, revision in connection.execute("SELECT client_id, epoch, revision FROM clients")
    }


def tombstones(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT client_id, revision FROM client_tombstones"))


def test_an_insert_of_many_rows_draws_for_each(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b", "c"))
    dba.execute(f"{ADD.replace(')', ', epoch, revision)')} VALUES ('d', 'read', zeroblob(32), 0, 1, 60, 60, 900, 900)")
    assert numbers(dba) == {"a": (1, 1), "b": (2, 2), "c": (3, 3), "d": (4, 4)}


def test_an_update_of_many_rows_draws_a_revision_for_each(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b", "c"))
    dba.execute("UPDATE clients SET enabled = 0")
    assert numbers(dba) == {"a": (1, 4), "b": (2, 5), "c": (3, 6)}
    dba.execute("UPDATE clients SET enabled = 1 WHERE client_id <> 'b'")
    assert numbers(dba) == {"a": (1, 7), "b": (2, 5), "c": (3, 8)}


@pytest.mark.parametrize("claimed", ["0", "1", "-7", "1000000", "NULL", "revision", "(SELECT last FROM client_sequence)", "'x'"])
def test_a_revision_that_a_statement_sets_is_ignored(dba: sqlite3.Connection, claimed: str) -> None:
    dba.execute(add("a", "b"))
    dba.execute(f"UPDATE clients SET revision = {claimed}")
    assert numbers(dba) == {"a": (1, 3), "b": (2, 4)}


@pytest.mark.parametrize("claimed", ["0", "1", "1000000", "epoch + 1", "revision", "(SELECT last FROM client_sequence)", "'x'"])
def test_an_epoch_that_a_statement_sets_is_ignored(dba: sqlite3.Connection, claimed: str) -> None:
    dba.execute(add("a", "b"))
    dba.execute(f"UPDATE clients SET epoch = {claimed}, revision = 50")
    assert numbers(dba) == {"a": (1, 3), "b": (2, 4)}


def test_an_epoch_of_null_draws_a_new_one_for_each_row(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b", "c"))
    dba.execute("UPDATE clients SET epoch = NULL WHERE client_id <> 'b'")
    assert numbers(dba) == {"a": (4, 4), "b": (2, 2), "c": (5, 5)}


@pytest.mark.parametrize("verb", ["UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE"])
def test_a_client_id_does_not_change(dba: sqlite3.Connection, verb: str) -> None:
    dba.execute(add("a", "b"))
    with pytest.raises(sqlite3.IntegrityError, match="client_id does not change"):
        dba.execute(f"{verb} clients SET enabled = 0, client_id = 'b' WHERE client_id = 'a'")
    assert numbers(dba) == {"a": (1, 1), "b": (2, 2)}
    dba.execute("UPDATE clients SET client_id = client_id")
    assert numbers(dba) == {"a": (1, 3), "b": (2, 4)}


def test_a_delete_of_many_rows_leaves_a_tombstone_for_each(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b", "c"))
    dba.execute("DELETE FROM clients WHERE client_id <> 'b'")
    assert numbers(dba) == {"b": (2, 2)}
    assert tombstones(dba) == {"a": 4, "c": 5}
    dba.execute("DELETE FROM clients")
    assert tombstones(dba) == {"a": 4, "c": 5, "b": 6}


def test_an_insert_after_a_delete_is_newer_and_takes_the_tombstone_away(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b"))
    dba.execute("DELETE FROM clients")
    dba.execute(add("a"))
    assert numbers(dba) == {"a": (5, 5)}
    assert tombstones(dba) == {"b": 4}
    dba.execute("DELETE FROM clients")
    assert tombstones(dba) == {"a": 6, "b": 4}


def test_replacing_a_row_is_a_new_client_in_its_place(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b"))
    dba.execute(add("a", verb="INSERT OR REPLACE"))
    epoch, revision = numbers(dba)["a"]
    assert min(epoch, revision) > 2
    assert tombstones(dba) == {}


def test_an_upsert_draws_like_an_update(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b"))
    dba.execute(add("a") + " ON CONFLICT (client_id) DO UPDATE SET enabled = 0")
    assert numbers(dba) == {"a": (1, 3), "b": (2, 2)}


def test_a_statement_that_fails_half_way_draws_nothing(dba: sqlite3.Connection) -> None:
    dba.execute(add("a", "b", "c"))
    with pytest.raises(sqlite3.IntegrityError, match="clients_enabled"):
        dba.execute("UPDATE clients SET enabled = CASE client_id WHEN 'c' THEN 2 ELSE 0 END")
    assert numbers(dba) == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}
    dba.execute("UPDATE clients SET enabled = 0")
    assert numbers(dba) == {"a": (1, 4), "b": (2, 5), "c": (3, 6)}


def test_a_transaction_rolled_back_draws_nothing(dba: sqlite3.Connection) -> None:
    dba.execute(add("a"))
    dba.execute("BEGIN")
    dba.execute("DELETE FROM clients")
    dba.execute("ROLLBACK")
    assert numbers(dba) == {"a": (1, 1)}
    assert tombstones(dba) == {}


def test_the_schema_version_that_is_written_down_is_the_newest_migration() -> None:
    from authsvc.records import migrate
    from authsvc.records.contract import SCHEMA_VERSION

    assert migrate.head() == SCHEMA_VERSION
