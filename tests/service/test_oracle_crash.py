"""A database that dies at a commit, under load: every acknowledged token ends with one row in its right state."""

from __future__ import annotations

import contextlib
import http.client
import signal
from collections.abc import Iterator

import oracledb
import pytest

from authsvc.live.forms import decode_event
from authsvc.live.keys import STREAMS
from authsvc.model import Event
from contract.record_stores import OracleDatabase, OracleFaults
from oracle_server import NEEDS_COMMAND, OracleServer
from servers import ServiceProcess, wait_until
from service.deployment import OracleDeployment

pytestmark = [pytest.mark.oracle, NEEDS_COMMAND, pytest.mark.timeout(240)]
BATCHES_MET = 2
MOST_CRASHES = 10


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleServer]:
    """A stand-in that may be killed; whoever asks the environment for Oracle is led to it."""
    server = OracleServer(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in server.variables.items():
            environment.setenv(name, value)
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture
def service(server: OracleServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleDeployment]:
    """An instance and a writer."""
    folder = tmp_path_factory.mktemp("oracle")
    deployment = OracleDeployment(folder, OracleDatabase(folder))
    try:
        yield deployment.start()
    finally:
        deployment.stop()


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_database_that_dies_at_a_commit_ends_with_one_right_row_for_every_token(
    service: OracleDeployment, server: OracleServer, point: str
) -> None:
    met = 0
    with service.load() as load:
        load.go_on()
        for _ in range(MOST_CRASHES):
            known = len(service.complaints())
            # It may meet a commit, and die, before it has answered.
            with contextlib.suppress(http.client.RemoteDisconnected, ConnectionResetError):
                OracleFaults().ask("fault/crash-at-commit", point=point)
            wait_until(server.is_dead, "the database has died")
            wait_until(lambda: len(service.complaints()) > known, "a batch waits")  # noqa: B023 # asked at once
            load.go_on()
            assert not load.ledger.lost, load.ledger.lost_because.most_common(5)
            with standing_still(service.writer):
                server.start()
                if damage := damage_of(service.database):
                    pytest.skip(f"the stand-in itself came back damaged: {damage}")
                committed = set(service.names(load.ledger.client_id)) & issued_and_waiting(service)
            # A batch pauses for 5 s between attempts, and each may wait for a session as long.
            wait_until(service.writer.ready, "the writer is ready", 60)
            load.go_on()
            # It may have died at another commit of the writer's, with no batch under way.
            cut = "(DPY-4011)" in service.complaints()[known]
            met += cut and bool(committed) == (point == "after")
            if met == BATCHES_MET:
                break
    assert met == BATCHES_MET, "no batch was under way when it died"
    service.assert_kept(load.ledger)


def damage_of(database: OracleDatabase) -> str:
    """What is wrong with rows that nobody uses now: the stand-in's engine does not outlive every kill with its rows whole and free."""
    try:
        database.plain_sql("SELECT jti FROM tokens FOR UPDATE NOWAIT", call_timeout_seconds=20)
    except oracledb.Error as error:
        return str(error).splitlines()[0]
    return ""


@contextlib.contextmanager
def standing_still(process: ServiceProcess) -> Iterator[None]:
    """The process does nothing within the block."""
    process.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.process.send_signal(signal.SIGCONT)


def issued_and_waiting(service: OracleDeployment) -> set[bytes]:
    """The names of all tokens whose issue stands in the streams, not acknowledged."""
    with service.redis_client() as client:
        events = [decode_event(fields[b"e"]) for stream in STREAMS for _, fields in client.xrange(stream)]
    return {event.name for event in events if event.event == Event.ISSUED}
