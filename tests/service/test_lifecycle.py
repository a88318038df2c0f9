"""Starts and stops cost no failed request under load: those of instances, of nginx, of writers, and of half a fleet."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import psutil
import pytest
import redis

from authsvc.credentials import TokenKeys
from authsvc.live.keys import GROUP, STREAMS
from authsvc.records.sqlite import SqliteStore
from servers import TOKEN_KEY, RedisServer, ServiceProcess, free_port, running, runs, wait_until
from service.nginx_fixture import NginxServer
from service.one_instance import FORM, GRANT, basic, client_of, encoded
from service.steady_load import SteadyLoad
from service.wire import Answer, Connection, ask, request

INSTANCES = 4
DRAIN_SECONDS = 0.8
END_SECONDS = 5.0
"""The longest that an instance may take to end after its drain."""
NGINX_IDLE = ("keepalive_timeout 4s", "keepalive_timeout 200ms")
"""nginx lets go of an idle connection before a drain ends: after 4 s of 5 as both are set by default, here in proportion."""
NGINX_RETRY = "max_fails=3 fail_timeout=1s"
"""It asks an instance that is back after 1 s instead of 2."""
PATIENT = {"redis_timeout_ms": 5000, "queue_wait_ms": 10_000}
"""A machine that is busy with other things is not what this is about."""
QUICK_WRITER = {"writer_batch_seconds": 0.4, "writer_call_timeout_seconds": 0.5, "mirror_interval_seconds": 0.5}
APP = basic("app")


def post(path: str, parameters: dict[str, str], *fields: tuple[str, str]) -> bytes:
    return request("POST", path, [("Content-Type", FORM), *fields], encoded(parameters, FORM))


QUESTIONS = {
    "health": (request("GET", "/health"), 200),
    "discovery": (request("GET", "/.well-known/oauth-authorization-server"), 200),
    "token": (post("/token", GRANT, APP), 200),
    "one-time token": (post("/ott", GRANT, APP), 200),
    "validate": (post("/validate", {"token": "none"}), 401),
    "introspect": (post("/introspect", {"token": "none"}, APP), 200),
    "revoke": (post("/revoke", {"token": "none"}, APP), 200),
    "unknown path": (request("GET", "/nothing"), 404),
    "not HTTP": (b"GET /health HTTP/1.1\r\nno field\r\n\r\n", 400),
}
GOOD = [sent for sent, status in QUESTIONS.values() if status == 200]
EXPECTANT = [
    post(path, parameters, APP, ("Expect", "100-continue")) for path, parameters in (("/token", GRANT), ("/revoke", {"token": "none"}))
]


class Fleet:
    """A Redis, a writer and four instances, with `app` for a client; every nginx before them is the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = RedisServer(folder / "redis")
        self.records = folder / "records.db"
        self.writer = self.process("write", **QUICK_WRITER)
        self.instances = [self.process("serve") for _ in range(INSTANCES)]

    def process(self, command: str, **settings: str | int | float) -> ServiceProcess:
        """A further process, not started."""
        settings = {"drain_seconds": DRAIN_SECONDS, **PATIENT, **settings}
        return ServiceProcess(self.folder, command, redis_url=self.redis.url, records_url=f"sqlite:///{self.records}", **settings)

    async def add_client(self) -> None:
        store = SqliteStore(self.records)
        await store.open()
        await store.add_client(client_of("app", "read", "write"))
        await store.close()

    def nginx(self, folder: Path, listener: socket.socket | None = None) -> NginxServer:
        """An nginx before the four instances, not started."""
        port = listener.getsockname()[1] if listener else free_port()
        backends = servers_of(self.instances)
        server = NginxServer(folder / "conf", folder / "run", port, backends, server_options=NGINX_RETRY, listener=listener)
        shared = folder / "conf" / "auth.conf"
        text = shared.read_text()
        assert NGINX_IDLE[0] in text
        shared.write_text(text.replace(*NGINX_IDLE))
        return server

    def drained(self) -> bool:
        """Whether every entry is written."""
        with redis.Redis(port=self.redis.port) as client:
            return not any(client.xlen(stream) for stream in STREAMS)

    def pending(self, writer: ServiceProcess) -> int:
        """Entries that this writer has read and not acknowledged."""
        with redis.Redis(port=self.redis.port) as client:
            holders = [holder for stream in STREAMS for holder in client.xpending(stream, GROUP)["consumers"]]
        return sum(holder["pending"] for holder in holders if b"-%d-" % writer.process.pid in holder["name"])

    def rows(self) -> set[bytes]:
        """The names of all tokens in the record store, one for each row."""
        with contextlib.closing(sqlite3.connect(self.records, timeout=30)) as connection:
            names = [name for (name,) in connection.execute("SELECT jti FROM tokens")]
        assert len(names) == len(set(names))
        return set(names)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of which everything runs; every test leaves it so."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    asyncio.run(fleet.add_client())
    fleet.redis.start()
    with running(fleet.redis):
        processes = [process.start() for process in (fleet.writer, *fleet.instances)]
        with running(*processes):
            for process in processes:
                process.wait_ready()
            yield fleet
            for process in processes:
                # All at once, and without a drain.
                process.process.send_signal(signal.SIGINT)


def servers_of(instances: Sequence[ServiceProcess]) -> list[str]:
    return [f"127.0.0.1:{instance.port}" for instance in instances]


def listens(port: int) -> bool:
    """Whether a new connection is accepted."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except (ConnectionRefusedError, ConnectionResetError, TimeoutError):
        return False
    return True


def says_close(answer: Answer | None, *statuses: int) -> bool:
    """Whether it is an answer of this status that asks for another connection."""
    assert answer is not None, "the server hung up without an answer"
    assert answer.status in (statuses or (200,)), answer
    return answer.header("connection") == "close"


def workers_of(process: ServiceProcess) -> list[psutil.Process]:
    return psutil.Process(process.process.pid).children()


def head_of(sent: bytes) -> bytes:
    return sent[: -len(body_of(sent))]


def body_of(sent: bytes) -> bytes:
    return sent.partition(b"\r\n\r\n")[2]


def interim(connection: Connection) -> int:
    """The status of an interim answer: that the request has begun is certain then."""
    answer = connection.answer()
    assert answer is not None
    return answer.status


# What a drain is, with nothing before the instance


def test_a_drain_accepts_for_its_seconds_and_says_close_on_every_answer(fleet: Fleet) -> None:
    instance = fleet.process("serve", drain_seconds=2.0).start().wait_ready()
    with running(instance), Connection(instance.port) as kept, Connection(instance.port) as late, Connection(instance.port) as begun:
        for connection in (kept, late):
            connection.send(QUESTIONS["health"][0])
            assert not says_close(connection.answer())
        begun.send(head_of(EXPECTANT[0]))
        assert interim(begun) == 100
        stopped = time.monotonic()
        instance.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ask(instance.management_port, "GET", "/ready").status == 503, "ready is red", seconds=1.0)
        kept.send(QUESTIONS["token"][0])
        assert says_close(kept.answer())
        assert kept.answer() is None, "and hangs up"
        begun.send(body_of(EXPECTANT[0]))
        assert says_close(begun.answer()), "though it was asked before the drain"
        for name, (sent, status) in QUESTIONS.items():
            with Connection(instance.port) as fresh:
                fresh.send(sent)
                assert says_close(fresh.answer(), status), name
        wait_until(lambda: not listens(instance.port), "it accepts no more")
        assert time.monotonic() - stopped >= 2.0
        assert late.answer() is None, "an idle connection is closed, and does not keep the instance"
        assert instance.process.wait(END_SECONDS) == 0


@pytest.mark.parametrize(("workers", "newcomers"), [(1, 10), (2, 10), (1, 0)])
def test_what_had_reached_an_instance_when_its_drain_ended_is_answered(fleet: Fleet, workers: int, newcomers: int) -> None:
    """Its workers stand still over the end of the drain, as if very busy: all that happens meanwhile is there at once."""
    instance = fleet.process("serve", drain_seconds=1.5, workers=workers).start().wait_ready()
    with running(instance), contextlib.ExitStack() as connections:

        def connect(count: int) -> list[Connection]:
            return [connections.enter_context(Connection(instance.port, END_SECONDS)) for _ in range(count)]

        kept, in_flight = connect(len(GOOD)), connect(2)
        send_each(kept, GOOD)
        assert not any(says_close(connection.answer()) for connection in kept)
        send_each(in_flight, map(head_of, EXPECTANT))
        assert [interim(connection) for connection in in_flight] == [100, 100]
        over = time.monotonic() + 1.5
        instance.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not instance.ready(), "ready is red")
        for worker in workers_of(instance):
            worker.suspend()
        fresh, half_sent, silent = connect(newcomers), connect(newcomers), connect(newcomers)
        send_each(fresh, cycle(GOOD))
        send_each(kept, GOOD)
        send_each(half_sent, (sent[:30] for sent in cycle(GOOD)))
        assert time.monotonic() < over, "all this was before the end of the drain"
        wait_until(lambda: time.monotonic() > over + 0.2, "the drain is over")
        for worker in workers_of(instance):
            worker.resume()
        assert all(says_close(connection.answer()) for connection in (*fresh, *kept))
        wait_until(lambda: not listens(instance.port), "it accepts no more")
        send_each(half_sent, (sent[30:] for sent in cycle(GOOD)))
        send_each(silent, cycle(GOOD))
        assert all(says_close(connection.answer()) for connection in (*half_sent, *silent))
        send_each(in_flight, map(body_of, EXPECTANT))
        assert all(says_close(connection.answer()) for connection in in_flight)
        assert instance.process.wait(END_SECONDS) == 0


def send_each(connections: Iterable[Connection], messages: Iterable[bytes]) -> None:
    for connection, message in zip(connections, messages, strict=False):
        connection.send(message)


# Instances behind nginx, under load


def test_instances_stop_and_start_under_load_and_no_request_fails(fleet: Fleet, tmp_path: Path) -> None:
    _roll(fleet, tmp_path, restarts=4)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_instances_stop_and_start_hundreds_of_times_under_load_and_no_request_fails(fleet: Fleet, tmp_path: Path) -> None:
    _roll(fleet, tmp_path, restarts=200)


def _roll(fleet: Fleet, folder: Path, restarts: int) -> None:
    """Two lanes of two instances: in each, one stops and starts again while the other serves; what the lanes do overlaps."""
    with fleet.nginx(folder) as nginx, SteadyLoad(nginx.port) as load, ThreadPoolExecutor(2) as lanes:

        def run(lane: Sequence[ServiceProcess]) -> None:
            for number in range(restarts // 2):
                instance = lane[number % 2]
                stop(instance)
                instance.start().wait_ready()
                wait_until(lambda instance=instance: tokens_issued(instance) > 0 or load.failures, "nginx asks it again")
                if load.failures:
                    return

        for done in [lanes.submit(run, fleet.instances[:2]), lanes.submit(run, fleet.instances[2:])]:
            done.result()
    load.assert_all_answered()


def stop(instance: ServiceProcess) -> None:
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(DRAIN_SECONDS + END_SECONDS) == 0


@pytest.mark.parametrize("told", [True, False], ids=["nginx is told", "nginx finds out"])
def test_scale_in_from_four_to_two_and_back_and_no_request_fails(fleet: Fleet, tmp_path: Path, told: bool) -> None:
    with fleet.nginx(tmp_path) as nginx, SteadyLoad(nginx.port) as load:
        load.go_on()
        if told:
            reload(nginx, fleet.instances[:2])
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(stop, fleet.instances[2:]))
        load.go_on()
        for instance in fleet.instances[2:]:
            instance.start()
        for instance in fleet.instances[2:]:
            instance.wait_ready()
        if told:
            reload(nginx, fleet.instances)
        for instance in fleet.instances[2:]:
            wait_until(lambda instance=instance: tokens_issued(instance) > 0 or load.failures, "the new ones are asked")
    load.assert_all_answered()


def reload(nginx: NginxServer, instances: Sequence[ServiceProcess]) -> None:
    """Give nginx other instances, and return when its old workers are gone."""
    servers = "".join(f"server {address} {NGINX_RETRY};\n" for address in servers_of(instances))
    (nginx.configuration.parent / "upstream.conf").write_text(f"least_conn;\n{servers}")
    assert nginx.process is not None
    old = psutil.Process(nginx.process.pid).children()
    nginx.signal(signal.SIGHUP)
    wait_until(lambda: not any(runs(worker) for worker in old), "the old workers are gone")


def tokens_issued(instance: ServiceProcess) -> float:
    lines = ask(instance.management_port, "GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tokens_issued_total{"))


# nginx itself


def test_an_nginx_that_quits_answers_what_is_in_flight(fleet: Fleet, tmp_path: Path) -> None:
    nginx = fleet.nginx(tmp_path)
    for _ in range(3):
        with nginx, contextlib.ExitStack() as connections:
            in_flight = [connections.enter_context(Connection(nginx.port)) for _ in range(20)]
            send_each(in_flight, map(head_of, cycle(EXPECTANT)))
            assert [interim(connection) for connection in in_flight] == [100] * 20
            nginx.signal(signal.SIGQUIT)
            wait_until(lambda: not listens(nginx.port), "nginx accepts no more")
            send_each(in_flight, map(body_of, cycle(EXPECTANT)))
            assert all(says_close(connection.answer()) for connection in in_flight)
            connections.close()
            assert nginx.process is not None
            assert nginx.process.wait(10) == 0


def test_one_nginx_takes_over_from_another_and_no_request_fails(fleet: Fleet, tmp_path: Path) -> None:
    _take_over(fleet, tmp_path, times=6)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_one_nginx_takes_over_from_another_hundreds_of_times_and_no_request_fails(fleet: Fleet, tmp_path: Path) -> None:
    _take_over(fleet, tmp_path, times=200)


def _take_over(fleet: Fleet, folder: Path, times: int) -> None:
    """All have one listening socket. Each reads its configuration again when it serves alone."""
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listener, contextlib.ExitStack() as ended:
        old = ended.enter_context(fleet.nginx(folder / "0", listener))
        with SteadyLoad(old.port) as load:
            for number in range(times):
                new = ended.enter_context(fleet.nginx(folder / f"{number + 1}", listener))
                load.go_on(1)
                old.signal(signal.SIGQUIT)
                assert old.process is not None
                assert old.process.wait(10) == 0
                load.go_on(1)
                reload(new, fleet.instances)
                old = new
        load.assert_all_answered()


# The writer


def test_writers_that_stop_within_batches_lose_nothing(fleet: Fleet) -> None:
    _stop_writers(fleet, stops=3)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_writers_that_stop_within_batches_lose_nothing(fleet: Fleet) -> None:
    _stop_writers(fleet, stops=100)


def _stop_writers(fleet: Fleet, stops: int) -> None:
    wait_until(fleet.drained, "the backlog is drained")
    before = fleet.rows()
    with SteadyLoad(fleet.instances[0].port, callers=2) as load:
        for _ in range(stops):
            assert wait_until(lambda: fleet.pending(fleet.writer), "a batch is at hand")
            fleet.writer.process.send_signal(signal.SIGTERM)
            assert fleet.writer.process.wait(3) == 0
            assert fleet.pending(fleet.writer) == 0, "the batch at hand is finished"
            load.go_on(1)
            fleet.writer.start().wait_ready()
    _assert_written(fleet, load, before)


def test_a_writer_that_stops_while_the_store_is_busy_leaves_its_batch_to_the_next(fleet: Fleet) -> None:
    wait_until(fleet.drained, "the backlog is drained")
    before = fleet.rows()
    with SteadyLoad(fleet.instances[0].port, callers=2) as load:
        with contextlib.closing(sqlite3.connect(fleet.records, timeout=30, isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")
            wait_until(lambda: fleet.pending(fleet.writer), "a batch is at hand")
            fleet.writer.process.send_signal(signal.SIGTERM)
            assert fleet.writer.process.wait(5) == 0
            assert fleet.pending(fleet.writer) > 0
            store.execute("ROLLBACK")
        fleet.writer.start().wait_ready()
        load.go_on()
    _assert_written(fleet, load, before)


def _assert_written(fleet: Fleet, load: SteadyLoad, before: set[bytes]) -> None:
    """Every token that was answered has a row, and there is no other."""
    load.assert_all_answered()
    wait_until(fleet.drained, "the backlog is drained")
    keys = TokenKeys(TOKEN_KEY.encode())
    assert fleet.rows() - before == {keys.name(token.encode()) for token in load.tokens}
