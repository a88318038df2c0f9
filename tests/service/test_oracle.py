"""The writer over Oracle under load: whatever the database does, every acknowledged token ends with one row in its right state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest
import redis

from authsvc.live.keys import POISON, STREAMS
from authsvc.records.rows import record_values
from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, OracleDatabase, OracleFaults
from servers import run_json, running, wait_until
from service.deployment import OracleDeployment
from service.test_writer import add_all, lives, metrics, not_ready_because, refused_by_the_store

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE]
MERGE = "MERGE INTO tokens"
CLIENT_ID = 3
"""Its place in a row."""
REDIS_CONNECTIONS = 12
"""Of a writer at most: it opens as many as it has to ask at once, and keeps them."""
FLAPPING_SECONDS, LONG_FLAPPING_SECONDS = 180, 1800


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleDeployment]:
    """An instance and a writer; ready again after each test."""
    folder = tmp_path_factory.mktemp("oracle")
    deployment = OracleDeployment(folder, OracleDatabase(folder))
    try:
        yield deployment.start()
    finally:
        deployment.stop()


@pytest.fixture
def faults() -> Iterator[OracleFaults]:
    """The database's troubles, over at the end."""
    faults = OracleFaults()
    yield faults
    faults.clear()


# Under load


def test_two_writers_share_the_tokens_of_a_load(service: OracleDeployment) -> None:
    second = service.process("write")
    with running(second.start()), service.load() as load:
        second.wait_ready()
        before = [metrics(writer)["record_writer_rows_total"] for writer in (service.writer, second)]
        for writer, rows in zip((service.writer, second), before, strict=True):
            wait_until(lambda: metrics(writer)["record_writer_rows_total"] > rows + 20, "both have written")  # noqa: B023 # asked at once
        load.go_on()
    service.assert_kept(load.ledger)


def test_events_in_any_order_and_more_than_once_and_bad_rows_are_settled_amid_a_load(service: OracleDeployment) -> None:
    """By two writers, who race on the same tokens."""
    history, bad = lives(600, seed=70), [refused_by_the_store((1 << 150) + number) for number in range(3)]
    second = service.process("write")
    with running(second.start()), redis.Redis(port=service.redis.port) as client:
        second.wait_ready()
        with service.load() as load:
            load.go_on(2)
            add_all(service.redis, history)
            for place, payload in bad:
                client.xadd(STREAMS[place], {"e": payload})
            load.go_on()
        service.assert_kept(load.ledger)
        assert sum(client.xlen(stream) for stream in POISON) == len(bad)
        client.delete(*POISON)
    clients = {row[CLIENT_ID] for row in history.rows.values()}
    found = {name: record_values(record) for client_id in clients for name, record in service.record_state(client_id).items()}
    assert found == history.rows


@NEEDS_FAULTS
@pytest.mark.parametrize("point", ["before", "after"])
def test_a_connection_cut_at_the_commit_loses_nothing_and_writes_nothing_twice(
    service: OracleDeployment, faults: OracleFaults, point: str
) -> None:
    with service.load() as load:
        load.go_on()
        with faults.on("cut-at-commit", point=point, count=1_000_000):
            # By then what was committed before the fault is acknowledged.
            service.wait_for_complaints(4)
            rows, acknowledged = set(service.names(load.ledger.client_id)), service.acknowledged_entries()
            service.wait_for_complaints(4)
            load.go_on()
            assert service.acknowledged_entries() == acknowledged
            # A batch grows while it waits and has room, so more of it is committed each time, if it is committed.
            assert bool(set(service.names(load.ledger.client_id)) - rows) == (point == "after")
        load.go_on()
    service.assert_kept(load.ledger)


@NEEDS_FAULTS
def test_connections_dropped_in_the_middle_of_a_batch_are_made_again(service: OracleDeployment, faults: OracleFaults) -> None:
    with service.load() as load:
        load.go_on()
        for _ in range(3):
            # Slow enough to be met in the middle.
            with faults.on("latency", ms=300):
                known = faults.ask("stats")["executes"]
                wait_until(lambda: faults.ask("stats")["executes"] > known, "the database is at work")  # noqa: B023 # asked at once
                wait_until(lambda: _drop(service, faults), "a batch was under way")
            service.writer.wait_ready()
            load.go_on(2)
    service.assert_kept(load.ledger)


def _drop(service: OracleDeployment, faults: OracleFaults) -> bool:
    """Cut every connection; whether a batch had to wait for that."""
    known = len(service.complaints())
    faults.ask("fault/drop")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if len(service.complaints()) > known:
            return True
    return False


@NEEDS_FAULTS
@pytest.mark.parametrize(
    ("fault", "option", "sentence"),
    [
        ("listener-down", {}, "cannot be reached"),
        ("max-sessions", {"n": 0}, "no session left"),
        ("refuse", {"code": 12516}, "refuses further sessions"),
        ("refuse", {"code": 12519}, "refuses further sessions"),
    ],
    ids=["listener down", "sessions exhausted", "listener refuses", "no handler"],
)
def test_tokens_live_on_while_no_session_can_be_had(
    service: OracleDeployment, faults: OracleFaults, fault: str, option: dict[str, int], sentence: str
) -> None:
    with service.load() as load:
        load.go_on()
        with faults.on(fault, **option):
            faults.ask("fault/drop")
            wait_until(lambda: sentence in not_ready_because(service.writer), f"the writer says: {sentence}")
            waiting = service.waiting_entries()
            load.go_on()
            wait_until(lambda: service.waiting_entries() > waiting + 20, "the backlog grows")
            status = run_json(service.environ, "writer", "status")
            assert status["backlog_entries"] > waiting
            wait_until(lambda: sentence in str(run_json(service.environ, "writer", "status")["errors"]), "the command tells why")
            assert not load.ledger.lost, load.ledger.lost_because.most_common(5)
        service.writer.wait_ready()
        load.go_on()
    service.assert_kept(load.ledger)


@NEEDS_FAULTS
def test_half_a_second_for_each_call_holds_nothing_up(service: OracleDeployment, faults: OracleFaults) -> None:
    with service.load() as load:
        load.go_on()
        with faults.on("latency", ms=500):
            known = len(service.complaints())
            written = metrics(service.writer)["record_writer_rows_total"]
            load.go_on(20)
            wait_until(lambda: metrics(service.writer)["record_writer_rows_total"] > written + 50, "rows are written")
            assert service.writer.ready()
            assert len(service.complaints()) == known
    service.assert_kept(load.ledger)


@NEEDS_FAULTS
def test_a_password_that_becomes_wrong_and_right_again_needs_no_restart(service: OracleDeployment, faults: OracleFaults) -> None:
    """The password that the process holds is refused: it reads the file, which is wrong at first, and after a while mended."""
    service.writer.wait_ready()
    pid = service.writer.process.pid
    try:
        with service.load() as load:
            load.go_on()
            service.password_file.write_text("not-the-password\n")
            # From now on the right one that the process holds is no good either.
            service.proxy.spoils = True
            faults.ask("fault/drop")
            sentence = "refuses the user or the password: correct AUTH_RECORDS_URL and AUTH_RECORDS_PASSWORD or its file. (ORA-01017)"
            service.wait_for_complaints(4, sentence)
            assert sentence in not_ready_because(service.writer)
            # The database takes the right one, but the process has the wrong one.
            service.proxy.spoils = False
            service.wait_for_complaints(2, sentence)
            load.go_on()
            service.password_file.write_text(service.database.password)
            service.writer.wait_ready()
            load.go_on()
        service.assert_kept(load.ledger)
    finally:
        service.proxy.spoils = False
        service.password_file.write_text(service.database.password)
    assert service.writer.process.pid == pid
    assert service.database.password not in service.writer.log_file.read_text().replace(service.database.user, "")


@NEEDS_FAULTS
@pytest.mark.parametrize("code", [60, 1, 8177])
def test_what_another_writer_undid_is_tried_again_at_once(service: OracleDeployment, faults: OracleFaults, code: int) -> None:
    service.writer.wait_ready()
    with service.load() as load:
        load.go_on()
        known, failed = len(service.complaints()), _errors(faults, code)
        for struck in range(2, 7, 2):
            batches = metrics(service.writer)["record_writer_batch_seconds_count"]
            faults.ask("fault/fail", code=code, count=2, like=MERGE)
            wait_until(lambda: _errors(faults, code) == failed + struck, "the fault has struck")  # noqa: B023 # asked at once
            # Else the next one could meet the same batch, which is not tried for ever.
            wait_until(lambda: metrics(service.writer)["record_writer_batch_seconds_count"] > batches + 2, "it is over")  # noqa: B023
            assert service.writer.ready()
        load.go_on()
    service.assert_kept(load.ledger)
    # A session that an earlier test broke may make one wait, but not this.
    assert not [why for why in service.complaints()[known:] if f"ORA-{code:05}" in why]


def _errors(faults: OracleFaults, code: int) -> int:
    """How often the database has answered with this code."""
    return int(faults.ask("stats")["errors"].get(f"ORA-{code:05}", 0))


@NEEDS_FAULTS
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (1653, "has no room for the table: extend the tablespace. (ORA-01653)"),
        (942, "has no such table: run `authsvc migrate`, or correct the user in AUTH_RECORDS_URL. (ORA-00942)"),
        (257, "waits for its archiver (ORA-00257)"),
    ],
)
def test_what_an_operator_must_mend_is_said_and_waited_for(
    service: OracleDeployment, faults: OracleFaults, code: int, sentence: str
) -> None:
    with service.load() as load:
        load.go_on()
        with faults.on("fail", code=code, count=1_000_000, like=MERGE):
            wait_until(lambda: sentence in not_ready_because(service.writer), "the writer says what to do")
            waiting = service.waiting_entries()
            load.go_on()
            wait_until(lambda: service.waiting_entries() > waiting, "the backlog grows")
            assert not load.ledger.lost, load.ledger.lost_because.most_common(5)
        service.writer.wait_ready()
        load.go_on()
    service.assert_kept(load.ledger)
    with redis.Redis(port=service.redis.port) as client:
        assert not any(client.xlen(stream) for stream in POISON), "no row is to blame"


# For a while


@NEEDS_FAULTS
@pytest.mark.timeout(FLAPPING_SECONDS + 220)
def test_a_flapping_database_costs_the_writer_neither_memory_nor_descriptors(service: OracleDeployment, faults: OracleFaults) -> None:
    _flap(service, faults, FLAPPING_SECONDS)


@NEEDS_FAULTS
@pytest.mark.long
@pytest.mark.timeout(LONG_FLAPPING_SECONDS + 600)
def test_a_database_flapping_for_half_an_hour_costs_the_writer_neither_memory_nor_descriptors(
    service: OracleDeployment, faults: OracleFaults
) -> None:
    _flap(service, faults, LONG_FLAPPING_SECONDS)


def _flap(service: OracleDeployment, faults: OracleFaults, seconds: float) -> None:
    writer = psutil.Process(service.writer.process.pid)
    with service.load(callers=2) as load:
        for _ in range(3):
            _outage(service, faults)
        service.writer.wait_ready()
        memory_bytes, before = writer.memory_info().rss, _descriptors(service)
        deadline, outages = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            _outage(service, faults)
            outages += 1
        load.go_on()
    service.assert_kept(load.ledger)
    assert outages >= 5
    wait_until(lambda: _descriptors(service).unknown_sessions <= 0, "every socket to the database is a session of the pool")
    after = _descriptors(service)
    assert after.files <= before.files + 1, (before, after)
    assert after.redis <= REDIS_CONNECTIONS, (before, after)
    # What the driver would keep of the sessions of one outage is three times as much as the second summand.
    assert writer.memory_info().rss - memory_bytes < (4 << 20) + outages * (32 << 10)
    assert metrics(service.writer)["db_connections_open"] <= 4


class _Descriptors(NamedTuple):
    """What the writer holds open."""

    unknown_sessions: int
    """Sockets to the database beside the open sessions of the pool, which wait for their use."""
    redis: int
    files: int
    """All but connections."""


def _descriptors(service: OracleDeployment) -> _Descriptors:
    writer = psutil.Process(service.writer.process.pid)
    connections = writer.net_connections()
    to = Counter(connection.raddr.port for connection in connections if connection.raddr)
    sessions = int(metrics(service.writer)["db_connections_open"])
    return _Descriptors(to[service.proxy.port] - sessions, to[service.redis.port], writer.num_fds() - len(connections))


def _outage(service: OracleDeployment, faults: OracleFaults) -> None:
    """Two kinds of trouble, each until the writer feels it and then until it has got over it."""
    with faults.on("max-sessions", n=0):
        faults.ask("fault/drop")
        service.wait_for_complaints(1)
    service.writer.wait_ready()
    with faults.on("cut-at-commit", point="after", count=1_000_000):
        service.wait_for_complaints(1)
    service.writer.wait_ready()
