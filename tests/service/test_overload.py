"""More than an instance can do: who waits, who is refused and after how long, and who is never in the way of others."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from servers import wait_until
from service.one_instance import OneInstance, assert_refused, basic, bearer, one_instance
from service.wire import Connection, request

pytestmark = pytest.mark.alone

PLACES = 4
HEALTH = request("GET", "/health")


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[OneInstance]:
    """An instance of few places, whose Redis may stand still for long before anyone is answered 503."""
    with one_instance(tmp_path, max_in_flight=PLACES, queue_wait_ms=100, redis_timeout_ms=20000) as instance:
        yield instance


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[OneInstance]:
    """One of few places, where who has to wait for one waits long before it is refused."""
    with one_instance(tmp_path, max_in_flight=PLACES, queue_wait_ms=10000, redis_timeout_ms=20000) as instance:
        yield instance


@contextlib.contextmanager
def every_place_taken(instance: OneInstance) -> Iterator[list[Connection]]:
    """As many validates as there are places, none of which gets its answer from Redis."""
    validate = request("GET", "/validate", [bearer(instance.issue())])
    with contextlib.ExitStack() as stack:
        stack.enter_context(instance.redis.standing_still())
        holders = [stack.enter_context(Connection(instance.port, 30)) for _ in range(PLACES)]
        for holder in holders:
            holder.send(validate)
        # Counted by the tick, once a second.
        wait_until(lambda: in_flight(instance) == PLACES, "all places are taken")
        yield holders


def in_flight(instance: OneInstance) -> float:
    return instance.metrics()["http_requests_in_flight"]


def statuses(connections: Sequence[Connection]) -> list[int | None]:
    answers = [connection.answer() for connection in connections]
    return [answer and answer.status for answer in answers]


def test_who_finds_no_place_in_time_is_refused_and_told_when_to_come_again(narrow: OneInstance) -> None:
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Connection(narrow.port, 10)) for _ in range(20)]
        with every_place_taken(narrow) as holders:
            for connection in waiting:
                connection.send(HEALTH)
            for connection in waiting:
                answer = connection.answer()
                assert answer is not None
                assert_refused(answer, 429, "slow_down")
                assert answer.header("retry-after") == "1"
            # The management port has no places to run out of.
            assert narrow.manage("GET", "/live").status == 200
            wait_until(lambda: narrow.metrics()['http_requests_shed_total{reason="queue_wait"}'] == 20, "all refusals are counted")
            os.kill(narrow.redis.pid, signal.SIGCONT)
            assert statuses(holders) == [200] * PLACES
        for connection in waiting:
            connection.send(HEALTH)
        assert statuses(waiting) == [200] * 20
        wait_until(lambda: in_flight(narrow) == 0, "nobody has a place any more")


def test_while_connections_wait_unread_none_is_accepted(tmp_path: Path) -> None:
    with one_instance(tmp_path, max_in_flight=PLACES, queue_wait_ms=10000, redis_timeout_ms=20000) as instance:
        with every_place_taken(instance), Connection(instance.port, 30) as unread, Connection(instance.port, 30) as outside:
            unread.send(HEALTH)
            wait_until(lambda: reads_no_more(instance.port), "the worker accepts no more")
            probes = accept_queue(instance.port)
            with Connection(instance.port, 30) as outside_too:
                wait_until(lambda: accept_queue(instance.port) > probes, "it waits in the kernel's queue")
                outside_too.send(HEALTH)
                os.kill(instance.redis.pid, signal.SIGCONT)
                assert statuses([unread, outside_too]) == [200, 200]
            outside.send(HEALTH)
            assert statuses([outside]) == [200]
        wait_until(lambda: accept_queue(instance.port) == 0, "all are accepted")


def reads_no_more(port: int) -> bool:
    """Whether a new connection stays in the kernel's queue."""
    with socket.create_connection(("127.0.0.1", port)) as probe:
        probe.settimeout(0.2)
        try:
            wait_until(lambda: accept_queue(port) == 0, "it is taken", seconds=0.2)
        except AssertionError:
            return True
        return False


def accept_queue(port: int) -> int:
    """Connections that the kernel has and nobody has accepted: the receive queue of the listening socket (proc(5))."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == "0A" and int(local.rpartition(":")[2], 16) == port:
            return int(queues.rpartition(":")[2], 16)
    raise AssertionError(f"nobody listens on port {port}")


def test_slow_senders_and_readers_take_no_place(patient: OneInstance) -> None:
    token = patient.issue()
    whole = request("POST", "/validate", [("Content-Type", "application/x-www-form-urlencoded")], f"token={token}".encode())
    introspect = request(
        "POST", "/introspect", [basic("app"), ("Content-Type", "application/x-www-form-urlencoded")], f"token={token}".encode()
    )
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Connection(patient.port, 10)) for _ in range(200)]
        for number, connection in enumerate(slow):
            # Some stop in the head, some in the body.
            connection.send(whole[: 20 if number % 2 else -1])
        for reader in slow[: 4 * PLACES]:
            # They ask for megabytes of answers and read none of them.
            reader.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                reader.socket.sendall(whole[20:] + introspect * 3000)
            reader.socket.settimeout(10)
        wait_until(lambda: in_flight(patient) == 0, "the readers have as many answers as they take")
        for _ in range(10):
            for connection in slow[-20:]:
                # One byte more, of a header that has no end.
                connection.send(b"x")
            assert patient.valid(token)
        wait_until(lambda: in_flight(patient) == 0, "nobody has a place")


def test_open_files_run_out_for_clients_before_they_do_for_the_management_port(narrow: OneInstance) -> None:
    limit = 200
    resource.prlimit(narrow.process.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    [worker] = children(narrow.process.process.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: children(narrow.process.process.pid) not in ([], [worker]), "another worker")
    narrow.process.wait_ready()
    with contextlib.ExitStack() as stack:
        for _ in range(2 * limit):
            stack.enter_context(Connection(narrow.port, 5)).send(HEALTH[:10])
        wait_until(lambda: accept_queue(narrow.port) > 0, "clients wait in the kernel's queue")
        for path in ("/live", "/ready", "/metrics"):
            assert narrow.manage("GET", path).status == 200
        narrow.redis.kill()
        narrow.redis.start()
        narrow.process.wait_ready()
    wait_until(lambda: accept_queue(narrow.port) == 0, "all have gone")
    assert narrow.ask("GET", "/health").status == 200


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
