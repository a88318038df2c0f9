"""Clients in Oracle: what plain SQL, commands or a restored copy make of them is in force on the instance, soon and without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import oracledb
import pytest

from authsvc.credentials import secret_digest
from authsvc.live.directory import Directory
from authsvc.live.mirror import Mirror
from authsvc.live.survey import BEAT_MARK, take_survey
from authsvc.model import StreamMark
from authsvc.reconcile import Reconciler
from authsvc.records.oracle import OracleStore
from authsvc.records.oracle_settings import PoolSettings
from contract.live_parts import connected, redis_client
from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, OracleDatabase, OracleFaults
from servers import DEADLINE_SECONDS, wait_until
from service.command_line import CommandLine
from service.deployment import OracleDeployment, send
from service.one_instance import secret_of
from service.test_writer import not_ready_because
from service.wire import Answer

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE]
IN_FORCE_SECONDS = 10.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleDeployment]:
    """An instance and a writer; each test has clients of its own."""
    folder = tmp_path_factory.mktemp("oracle")
    deployment = OracleDeployment(folder, OracleDatabase(folder), clients=1)
    try:
        yield deployment.start()
    finally:
        deployment.stop()


@pytest.fixture(scope="module")
def commands(service: OracleDeployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Commands with the deployment's settings."""
    command_line = CommandLine(tmp_path_factory.mktemp("commands"), service.environ)
    yield command_line
    command_line.close()


class Dba:
    """Someone who changes clients by plain SQL, and what the instance makes of it."""

    def __init__(self, service: OracleDeployment, client_id: str) -> None:
        self.service = service
        self.client_id = client_id
        service.secrets[client_id] = secret_of(client_id)

    def insert(self) -> None:
        digest = secret_digest(secret_of(self.client_id).encode()).hex()
        self.service.database.plain_sql(
            "INSERT INTO clients (client_id, scopes, secret_digest, secret_created_at, enabled, access_ttl_seconds, one_time_ttl_seconds)"
            f" VALUES ('{self.client_id}', 'read', HEXTORAW('{digest}'), 1, 1, 3600, 120)"
        )

    def update(self, what: str) -> None:
        self.service.database.plain_sql(f"UPDATE clients SET {what} WHERE client_id = '{self.client_id}'")

    def delete(self) -> None:
        self.service.database.plain_sql(f"DELETE FROM clients WHERE client_id = '{self.client_id}'")

    def ask(self) -> Answer:
        """Ask for a token."""
        return send(self.service.doors[0], self.service.issuing("/token", self.client_id))

    def token(self) -> str:
        """A token, as soon as the client gets one."""
        wait_until(lambda: self.ask().status == 200, f"{self.client_id} gets tokens", IN_FORCE_SECONDS)
        return self.service.issue(client_id=self.client_id)

    def wait_for_end(self, token: str) -> None:
        """Wait until the token is refused."""
        wait_until(lambda: self.service.validate(token) == 401, f"a token of {self.client_id} is over", IN_FORCE_SECONDS)


# By plain SQL


def test_a_client_inserted_by_sql_gets_tokens_and_one_changed_or_deleted_loses_them(service: OracleDeployment) -> None:
    dba = Dba(service, "by-hand")
    assert dba.ask().status == 401
    dba.insert()
    token = dba.token()
    dba.update("enabled = 0")
    dba.wait_for_end(token)
    assert dba.ask().status == 401
    dba.update("enabled = 1")
    wait_until(lambda: service.validate(token) == 200, "the token is good again", IN_FORCE_SECONDS)
    dba.update("scopes = 'write'")
    wait_until(lambda: dba.ask().json["scope"] == "write", "the scope has changed", IN_FORCE_SECONDS)
    dba.delete()
    dba.wait_for_end(token)
    assert dba.ask().status == 401
    dba.insert()
    dba.token()
    assert service.validate(token) == 401, "adding the client again revives nothing"


def test_an_epoch_of_null_ends_the_tokens_of_a_client_and_of_no_other(service: OracleDeployment) -> None:
    dba = Dba(service, "revoked-by-sql")
    dba.insert()
    token, other = dba.token(), service.issue()
    dba.update("epoch = NULL")
    dba.wait_for_end(token)
    assert service.validate(dba.token()) == 200
    assert service.validate(other) == 200


def test_a_transaction_that_commits_after_a_later_one_is_in_force_too(service: OracleDeployment) -> None:
    late, early = Dba(service, "late"), Dba(service, "early")
    late.insert()
    early.insert()
    tokens = late.token(), early.token()
    database = service.database
    with oracledb.connect(user=database.user, password=database.password, dsn=database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE clients SET enabled = 0 WHERE client_id = 'late'")
        early.update("enabled = 0")
        early.wait_for_end(tokens[1])
        assert service.validate(tokens[0]) == 200
        connection.commit()
    late.wait_for_end(tokens[0])


def test_a_row_that_no_trigger_saw_is_named_and_nothing_ends(service: OracleDeployment, commands: CommandLine) -> None:
    token, dba, database = service.issue(), Dba(service, "unseen"), service.database
    with oracledb.connect(user=database.user, password=database.password, dsn=database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TRIGGER clients_draw_at_insert DISABLE")
        try:
            dba.insert()
            sentence = "The row of client unseen in"
            wait_until(lambda: sentence in not_ready_because(service.writer), "the writer says which row", IN_FORCE_SECONDS)
            assert "has no revision: a trigger on clients is missing or disabled." in not_ready_because(service.writer)
            assert service.validate(token) == 200
        finally:
            cursor.execute("ALTER TRIGGER clients_draw_at_insert ENABLE")
    dba.update("scopes = scopes")
    service.writer.wait_ready()
    assert service.validate(token) == 200


# Another state of the store


class SlowToRead(OracleStore):
    """A real store that answers how far the streams have come only when another writer has kept that they came further."""

    async def read_marks(self) -> tuple[int, dict[str, StreamMark]]:
        _, before = await super().read_marks()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            number, marks = await super().read_marks()
            if marks[BEAT_MARK].entries_added > before[BEAT_MARK].entries_added:
                return number, marks
            assert time.monotonic() < deadline, "the running writer keeps no marks"
            await asyncio.sleep(0.02)


def test_a_writer_that_starts_beside_another_ends_no_tokens(service: OracleDeployment) -> None:
    """Between its look at Redis and its look at what is kept, the other one goes on: that is no sign of older data."""
    token = service.issue()

    async def start() -> int:
        store = SlowToRead(service.database.url, PoolSettings())
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            await store.open()
            redis = await stack.enter_async_context(redis_client(service.redis.port))
            pipeline = await stack.enter_async_context(connected(service.redis.port))
            directory = Directory(redis)
            stack.push_async_callback(directory.close)
            survey = partial(take_survey, pipeline.masters)
            reconciler = Reconciler(store, Mirror(redis), directory, lambda beats: survey(beats=beats), "another")
            await reconciler.run_once()
        return reconciler.rebuilds

    assert asyncio.run(start()) == 0
    assert service.validate(token) == 200


def _incarnation(commands: CommandLine) -> int:
    version: str = commands.json("writer", "status")["version"]
    return int(version.partition("-")[0])


def _assert_replaced(service: OracleDeployment, commands: CommandLine, token: str, known: int) -> None:
    """A new incarnation is in force: older tokens are over, and there are new ones."""
    wait_until(lambda: service.validate(token) == 401, "the token is over", IN_FORCE_SECONDS)
    assert _incarnation(commands) > known
    assert service.validate(service.issue()) == 200


def test_another_record_store_in_its_place_ends_all_tokens(service: OracleDeployment, commands: CommandLine) -> None:
    token, known = service.issue(), _incarnation(commands)
    service.database.plain_sql("UPDATE store SET identity = LOWER(RAWTOHEX(SYS_GUID()))")
    _assert_replaced(service, commands, token, known)


def test_a_store_restored_to_an_older_state_ends_all_tokens(service: OracleDeployment, commands: CommandLine) -> None:
    """The copy was made before the client was disabled."""
    [(revision,)] = service.database.plain_sql("SELECT revision FROM clients WHERE client_id = 'leaver'")
    commands.good("client", "disable", "leaver")
    token, known = service.issue(), _incarnation(commands)
    service.database.plain_sql("ALTER TRIGGER clients_draw_at_update DISABLE")
    service.database.plain_sql(f"UPDATE clients SET enabled = 1, revision = {revision} WHERE client_id = 'leaver'")
    service.database.plain_sql("ALTER TRIGGER clients_draw_at_update ENABLE")
    _assert_replaced(service, commands, token, known)
    assert service.validate(service.issue(client_id="leaver")) == 200


# By commands


def test_a_client_is_added_rotated_and_disabled_by_commands(service: OracleDeployment, commands: CommandLine) -> None:
    added = commands.json("client", "add", "shop", "--scope", "read write")
    assert added["in_force"] is True
    rotated = commands.json("client", "rotate", "shop")
    secrets = [added["client_secret"], rotated["client_secret"]]
    tokens = []
    for secret in secrets:
        service.secrets["shop"] = secret
        tokens.append(service.issue(client_id="shop"))
    assert "two live secrets" in commands.refused("client", "rotate", "shop")
    assert "exists already" in commands.refused("client", "add", "shop", "--scope", "read")
    commands.good("client", "retire", "shop")
    service.secrets["shop"] = secrets[0]
    assert send(service.doors[0], service.issuing("/token", "shop")).status == 401
    assert service.validate_all(tokens) == {200}
    commands.good("client", "disable", "shop")
    assert service.validate_all(tokens) == {401}
    shown = commands.json("client", "show", "shop")
    assert (shown["enabled"], len(shown["secrets"])) == (False, 1)
    commands.good("client", "delete", "shop")
    assert "no client shop" in commands.refused("client", "show", "shop")


def test_check_finds_the_record_store_well(service: OracleDeployment, commands: CommandLine) -> None:
    found = _records(commands)
    assert found["state"] == "ok", found


def test_a_budget_that_is_too_small_holds_up_writers_and_no_command(commands: CommandLine) -> None:
    """Whoever must disable a client at once is not to be told of sums."""
    commands.good("client", "add", "budget", "--scope", "read", oracle_session_limit="12")
    commands.good("client", "disable", "budget", oracle_session_limit="12")
    found = _records(commands, oracle_session_limit="12")
    assert (found["state"], found["sentence"].startswith("No writer starts: 1 writers x 4 sessions + 10 in reserve")) == ("failure", True)
    assert "12: lower AUTH_ORACLE_POOL_MAX" in commands.refused("write", oracle_session_limit="12")
    sentence = commands.refused("write", writer_workers="16")
    assert sentence.startswith("A writer of 16 workers takes 18 sessions, but AUTH_ORACLE_POOL_MAX is 4")
    commands.good("client", "delete", "budget")


def _records(commands: CommandLine, **settings: str) -> dict[str, str]:
    """What `check` says of the record store."""
    done = commands.run("check", "--json", **settings)
    [found] = [finding for finding in json.loads(done.stdout) if finding["part"] == "records"]
    assert (done.returncode == 0) == (found["state"] == "ok")
    return dict(found)


def test_check_tells_of_a_password_that_is_refused(commands: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("quite another one")
    found = _records(commands, records_password_file=str(file))
    assert found["state"] == "failure"
    assert found["sentence"].endswith("correct AUTH_RECORDS_URL and AUTH_RECORDS_PASSWORD or its file. (ORA-01017)")
    assert "quite another one" not in found["sentence"]


@NEEDS_FAULTS
@pytest.mark.parametrize(
    ("fault", "option", "sentence"),
    [
        ("listener-down", {}, "cannot be reached"),
        ("max-sessions", {"n": 0}, "has no session left"),
        ("fail", {"code": 1653, "count": 100, "like": "INSERT INTO leases"}, "can be read but not written"),
    ],
    ids=["listener down", "sessions exhausted", "no space"],
)
def test_check_tells_of_a_database_in_trouble(
    service: OracleDeployment, commands: CommandLine, fault: str, option: dict[str, str | int], sentence: str
) -> None:
    with OracleFaults().on(fault, **option):
        found = _records(commands)
    assert found["state"] == "failure"
    assert sentence in found["sentence"]
    service.writer.wait_ready()
