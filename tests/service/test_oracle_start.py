"""Before a writer runs over Oracle: the schema by `authsvc migrate` or by hand, and starts that are refused with a sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import oracledb
import pytest

from authsvc.errors import OperatorError
from authsvc.records import migrate
from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, OURS, OracleDatabase, OracleFaults
from servers import TOKEN_KEY, run_command, service_environ
from service.command_line import CommandLine

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE]

ADD_BY_HAND = (
    "INSERT INTO clients (client_id, scopes, secret_digest, secret_created_at, enabled, access_ttl_seconds, one_time_ttl_seconds)"
    f" VALUES ('by-hand', 'read', HEXTORAW('{'00' * 32}'), 1, 1, 3600, 120)"
)


@pytest.fixture
def database(tmp_path: Path) -> OracleDatabase:
    """An empty schema."""
    return OracleDatabase(tmp_path)


@pytest.fixture
def commands(database: OracleDatabase, tmp_path: Path) -> Iterator[CommandLine]:
    """Commands over the database; nobody needs Redis."""
    command_line = CommandLine(tmp_path, _environ(database))
    yield command_line
    command_line.close()


def _environ(database: OracleDatabase) -> dict[str, str]:
    return {
        "AUTH_TOKEN_KEY": TOKEN_KEY,
        "AUTH_RECORDS_URL": f"oracle://{database.user}@{database.dsn}",
        "AUTH_RECORDS_PASSWORD": database.password,
        "AUTH_REDIS_URL": "redis://127.0.0.1:1/0",
    }


def _refused_start(database: OracleDatabase, **settings: str) -> str:
    """What a writer says that ends at once."""
    done = run_command({**_environ(database), **{f"AUTH_{name.upper()}": value for name, value in settings.items()}}, "write")
    assert (done.returncode, done.stdout) == (1, ""), done
    return done.stderr.rstrip("\n")


# The schema


def test_a_schema_is_made_once_and_left_as_it_is_after_that(database: OracleDatabase, commands: CommandLine) -> None:
    assert commands.good("migrate") == "The schema is up to date.\n"
    made = database.contents()
    assert commands.good("migrate") == "The schema is up to date.\n"
    assert database.contents() == made
    assert len(made["store"]) == 1


@NEEDS_FAULTS
@pytest.mark.parametrize("begun_at", ["nothing", "0001"])
def test_of_several_migrations_at_once_one_makes_the_schema_and_all_succeed(database: OracleDatabase, begun_at: str) -> None:
    if begun_at != "nothing":
        database.run_text(migrate.sql(database.url, to=begun_at))
    environ = {**service_environ(), **_environ(database)}
    command = [sys.executable, "-m", "authsvc", "migrate"]
    # Slow enough for all to be at it together.
    with OracleFaults().on("latency", ms=60):
        migrations = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
        printed = [migration.communicate(timeout=60)[0] for migration in migrations]
    assert printed == ["The schema is up to date.\n"] * 3
    found = database.contents()
    assert (len(found["store"]), len(found["alembic_version"])) == (1, 1)


def test_a_schema_that_is_half_made_is_told_of(database: OracleDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.0)
    database.plain_sql("CREATE TABLE tokens (jti RAW(20))")
    with pytest.raises(OperatorError, match=r"is half made: .* drop it and run `authsvc migrate` again"):
        database.prepare()


def test_the_statements_for_a_dba_make_the_schema_by_themselves(database: OracleDatabase, commands: CommandLine) -> None:
    text = commands.good("migrate", "--sql", without="AUTH_RECORDS_PASSWORD")
    database.run_text(text)
    by_hand = database.contents()
    assert commands.good("migrate") == "The schema is up to date.\n"
    assert database.contents() == by_hand
    database.plain_sql(ADD_BY_HAND)
    assert commands.json("client", "show", "by-hand")["epoch"] > 0


def test_a_migration_that_was_cut_short_is_finished_by_the_next(database: OracleDatabase, commands: CommandLine) -> None:
    database.run_text(migrate.sql(database.url, to="0001"))
    statements = migrate.sql(database.url, since="0001").split("\n/\n")
    for statement in statements[:3]:
        database.plain_sql("\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip())
    database.plain_sql("CREATE INDEX tokens_by_state ON tokens (jti, expires_at, used_at, revoked_at, voided_at)")
    assert commands.good("migrate") == "The schema is up to date.\n"
    assert database.contents()["alembic_version"] == [(migrate.head(),)]
    database.plain_sql(ADD_BY_HAND)
    assert [(change["client_id"], change["change"]) for change in commands.json("client", "changes")] == [("by-hand", "insert")]


def test_a_writer_does_not_make_the_schema(database: OracleDatabase) -> None:
    assert _refused_start(database) == f"There is no record store in {database.user}@{database.dsn}: run `authsvc migrate`."
    for table in OURS:
        with pytest.raises(oracledb.DatabaseError, match="ORA-00942"):
            database.plain_sql(f"SELECT * FROM {table}")


def test_a_database_that_says_nothing_is_not_waited_for_for_ever(commands: CommandLine, database: OracleDatabase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"oracle://{database.user}@127.0.0.1:{silent.getsockname()[1]}/S"
        said = commands.refused("migrate", records_url=url, oracle_wait_timeout_seconds="0.3")
    assert said.endswith(" gave no session of the pool in time (DPY-4005).")


# Starts that are refused


def test_a_writer_whose_pools_do_not_fit_the_limit_does_not_start(database: OracleDatabase) -> None:
    database.prepare()
    said = _refused_start(database, oracle_writers="3", oracle_pool_max="4", oracle_session_reserve="10", oracle_session_limit="21")
    assert said == (
        "3 writers x 4 sessions + 10 in reserve = 22 sessions, but AUTH_ORACLE_SESSION_LIMIT allows 21: lower AUTH_ORACLE_POOL_MAX,"
        " AUTH_ORACLE_WRITERS or AUTH_ORACLE_SESSION_RESERVE, or raise the limit."
    )


def test_a_writer_whose_pools_do_not_fit_the_database_does_not_start(database: OracleDatabase) -> None:
    try:
        [(limit,)] = database.plain_sql("SELECT value FROM v$parameter WHERE name = 'sessions'")
    except oracledb.DatabaseError:
        pytest.skip("this user may not look at the database's own limit")
    database.prepare()
    said = _refused_start(database, oracle_writers="100", oracle_pool_max="1000", oracle_session_limit="1000000")
    assert f"= 100010 sessions, but the database (its parameter sessions) allows {limit}:" in said


def test_a_writer_with_a_wrong_password_does_not_start_and_tells_it_to_nobody(database: OracleDatabase) -> None:
    database.prepare()
    said = _refused_start(database, records_password="a-secret-that-is-wrong")
    assert said.endswith("refuses the user or the password: correct AUTH_RECORDS_URL and AUTH_RECORDS_PASSWORD or its file. (ORA-01017)")
    assert "a-secret-that-is-wrong" not in said
