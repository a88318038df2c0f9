"""What `/metrics` tells equals what a scripted load did: with one worker and several, and through the end of a worker, however it ends."""

from __future__ import annotations

import os
import platform
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from authsvc import __version__
from authsvc.metrics import MULTIPROCESS_DIRECTORY
from authsvc.model import Kind
from servers import ServiceProcess, running, wait_until
from service.one_instance import GRANT, KEYS, OneInstance, basic, bearer, one_instance
from service.wire import Connection, request

ROUNDS = 5


def load(instance: OneInstance) -> Counter[str]:
    """Ask everything in a fixed way; what the counters must have grown by."""
    token = ""
    for _ in range(ROUNDS):
        token, one_time = instance.issue(), instance.issue(target="/ott")
        assert instance.valid(token)
        assert instance.valid(one_time)
        assert not instance.valid(one_time)
        assert instance.post("/introspect", {"token": token}, basic("app")).json["active"]
        assert instance.post("/revoke", {"token": token}, basic("app")).status == 200
        assert instance.ask("POST", "/validate", bearer(token)).status == 401
        assert not instance.valid(KEYS.new(Kind.ACCESS)[0].decode())
        assert instance.ask("GET", "/health").status == 200
        assert instance.ask("GET", "/nowhere").status == 404
        assert instance.ask("GET", "/openapi.json").status == 200
        assert instance.post("/token", GRANT, basic("app", "wrong")).status == 401
    requests = {("token", 200): 1, ("ott", 200): 1, ("validate", 200): 2, ("validate", 401): 3, ("introspect", 200): 1}
    requests |= {("revoke", 200): 1, ("health", 200): 1, ("other", 404): 1, ("other", 200): 1, ("token", 401): 1}
    grown = Counter({f'http_requests_total{{endpoint="{name}",status="{status}"}}': ROUNDS * n for (name, status), n in requests.items()})
    for (name, _), n in requests.items():
        grown[f'http_request_duration_seconds_count{{endpoint="{name}"}}'] += ROUNDS * n
    grown['tokens_issued_total{kind="access"}'] = grown['tokens_issued_total{kind="one_time"}'] = ROUNDS
    grown["tokens_revoked_total"] = grown["tokens_consumed_total"] = ROUNDS
    # Five reads a round: two good validates, two bad ones of tokens that left a tombstone, one introspect.
    grown["token_cache_hits_total"] = 5 * ROUNDS
    # A well-formed token that nobody was given.
    grown["token_cache_misses_total"] = ROUNDS
    return grown


COUNTERS = (
    "http_requests_total",
    "http_request_duration_seconds_count",
    "tokens_",
    "token_cache_hits",
    "token_cache_misses",
    "http_requests_shed",
)


def counters(instance: OneInstance) -> Counter[str]:
    return Counter({name: int(value) for name, value in instance.metrics().items() if name.startswith(COUNTERS) and value})


def assert_counted(instance: OneInstance, expected: Counter[str]) -> None:
    """Another worker than the one that is asked may tell of its last second a second late."""
    wait_until(lambda: sum(counters(instance).values()) >= sum(expected.values()), "everything is counted", 5)
    assert counters(instance) == expected


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("metrics"), workers=request.param, drain_seconds=0) as found:
        yield found


def test_the_sums_are_what_the_load_did(instance: OneInstance) -> None:
    before = counters(instance)
    grown = load(instance)
    assert_counted(instance, before + grown)


def test_gauges_tell_what_is_there(instance: OneInstance) -> None:
    instance.issue()
    found = instance.metrics()
    assert found["redis_up"] == 1
    assert found["http_requests_in_flight"] == 0
    assert found["redis_request_duration_seconds_count"] > 0
    wait_until(lambda: instance.metrics()["token_cache_size"] == instance.on_redis(_expiring), "keys with a lifetime are counted")
    wait_until(lambda: instance.metrics()["record_backlog_entries"] == instance.on_redis(_entries), "the backlog is counted")
    assert instance.metrics()["record_backlog_entries"] > 0
    found = instance.metrics()
    assert found["redis_memory_max_bytes"] > found["redis_memory_used_bytes"] > 0
    assert (found["redis_evicted_keys"], found["redis_connected_replicas"], found["redis_certificate_expiry_timestamp_seconds"]) == (
        0,
        0,
        0,
    )
    assert abs(found["redis_clock_skew_seconds"]) < 60
    assert found["record_backlog_limit_entries"] > 0
    assert found["client_secret_oldest_timestamp_seconds"] == 0.001
    assert found[f'authsvc_build_info{{python="{platform.python_version()}",version="{__version__}"}}'] == 1
    used = found["process_cpu_seconds_total"]
    wait_until(lambda: instance.metrics()["process_cpu_seconds_total"] > used > 0, "its work takes time of the processor")
    age = instance.metrics()["record_backlog_age_seconds"]
    wait_until(lambda: instance.metrics()["record_backlog_age_seconds"] > age, "the backlog gets older")


def test_what_is_no_http_is_counted_too(instance: OneInstance) -> None:
    name = 'http_requests_total{endpoint="other",status="400"}'
    before = instance.metrics()[name]
    assert instance.ask("GET", "no path").status == 400
    wait_until(lambda: instance.metrics()[name] == before + 1, "it is counted", 5)


def test_a_full_backlog_is_told(tmp_path: Path) -> None:
    with one_instance(tmp_path, backlog_limit=1) as limited:
        token = limited.issue()
        wait_until(lambda: limited.post("/token", GRANT, basic("app")).status == 429, "the backlog is noticed", 5)
        assert limited.post("/ott", GRANT, basic("app")).status == 429
        assert limited.metrics()['http_requests_shed_total{reason="backlog"}'] == 2
        assert limited.valid(token)
        assert limited.post("/revoke", {"token": token}, basic("app")).status == 200


# Workers that end


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    """Shared by tests that end workers of it. What is asked of a Redis that stands still is in flight for long."""
    with one_instance(tmp_path_factory.mktemp("two"), workers=2, drain_seconds=0, redis_timeout_ms=20_000) as found:
        yield found


def workers(instance: OneInstance) -> set[psutil.Process]:
    return set(psutil.Process(instance.process.process.pid).children())


def wait_replaced(instance: OneInstance, old: set[psutil.Process]) -> None:
    """Wait until none of these is there, and two are."""
    wait_until(lambda: old.isdisjoint(workers(instance)) and len(workers(instance)) == 2, "the others are there")
    wait_until(instance.process.ready, "they are ready")


def test_sums_survive_a_worker_that_is_replaced(two_workers: OneInstance) -> None:
    before = counters(two_workers)
    grown = load(two_workers)
    old = workers(two_workers)
    assert len(old) == 2
    two_workers.process.process.send_signal(signal.SIGHUP)
    wait_replaced(two_workers, old)
    assert_counted(two_workers, before + grown)
    assert_counted(two_workers, before + grown + load(two_workers))


def test_sums_survive_a_worker_that_is_killed(two_workers: OneInstance) -> None:
    """A killed worker's counters stay as they were at its last tick, and its successor adds to them: they never run back.

    What it had counted after that tick, at most a second's, is not told by anybody; here all is told before.
    """
    before = counters(two_workers)
    grown = load(two_workers)
    assert_counted(two_workers, before + grown)
    for victim in workers(two_workers):
        victim.kill()
        wait_replaced(two_workers, {victim})
        assert_counted(two_workers, before + grown)
        grown += load(two_workers)
        assert_counted(two_workers, before + grown)


def test_requests_in_flight_on_a_worker_that_is_killed_are_not_told_any_more(two_workers: OneInstance) -> None:
    token = two_workers.issue()
    os.kill(two_workers.redis.pid, signal.SIGSTOP)
    try:
        with Connection(two_workers.port) as connection:
            connection.send(request("GET", "/validate", [bearer(token)]))
            wait_until(lambda: two_workers.metrics()["http_requests_in_flight"] == 1, "it is in flight")
            [holder] = [worker for worker in workers(two_workers) if talks_to(worker, connection)]
            holder.kill()
            wait_until(lambda: two_workers.metrics()["http_requests_in_flight"] == 0, "nothing is in flight")
    finally:
        os.kill(two_workers.redis.pid, signal.SIGCONT)
    wait_replaced(two_workers, {holder})


def talks_to(worker: psutil.Process, connection: Connection) -> bool:
    """Whether the connection is this worker's."""
    return connection.socket.getsockname()[1] in {found.raddr.port for found in worker.net_connections() if found.raddr}


# The folder in which several workers keep their numbers


def with_folders(instance: OneInstance, folder: Path, **folders: Path) -> ServiceProcess:
    """Another process with two workers over the same Redis, not started, that is given these folders in its environment."""
    process = ServiceProcess(folder, "serve", redis_url=instance.redis.url, workers=2)
    process.environ |= {name: str(path) for name, path in folders.items()}
    return process


def test_an_operators_folder_is_emptied_at_the_start_and_kept(two_workers: OneInstance, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    process = with_folders(two_workers, tmp_path, **{MULTIPROCESS_DIRECTORY: given})
    watched = OneInstance(two_workers.redis, process)
    with running(process.start().wait_ready()):
        grown = load(watched)
        assert_counted(watched, grown)
        process.kill()
        assert any(given.iterdir()), "what the killed one counted is still there"
        process.start().wait_ready()
        assert counters(watched) == {}
        assert_counted(watched, load(watched))
        assert process.stop() == 0
    assert given.is_dir()


def test_folders_that_killed_masters_left_are_removed_by_the_next_start(two_workers: OneInstance, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    # Ours is a process that goes on.
    others = temporary / f"authsvc-metrics-{os.getpid()}-others"
    others.mkdir(parents=True)
    process = with_folders(two_workers, tmp_path, TMPDIR=temporary)

    def folders() -> set[Path]:
        return set(temporary.glob("authsvc-metrics-*")) - {others}

    with running(process.start().wait_ready()):
        left = folders()
        assert len(left) == 1
        process.kill()
        assert folders() == left, "nobody was there to remove it"
        process.start().wait_ready()
        assert len(folders()) == 1
        assert folders().isdisjoint(left)
        assert process.stop() == 0
    assert not folders()
    assert others.is_dir()


def test_the_writer_tells_of_its_store(tmp_path: Path) -> None:
    with one_instance(tmp_path) as instance:
        settings = {"redis_url": instance.redis.url, "records_url": f"sqlite:///{tmp_path / 'records.db'}", "writer_batch_seconds": 0.2}
        writer = ServiceProcess(tmp_path / "writer", "write", **settings)
        with running(writer.start().wait_ready()):
            watched = OneInstance(instance.redis, instance.process)
            watched.management_port = writer.management_port
            wait_until(lambda: watched.metrics()["db_connections_open"] == 1, "the connection is counted")
            wait_until(lambda: watched.metrics()["db_connections_idle"] == 1, "it is idle at last")


async def _expiring(redis: object) -> int:
    keyspace = await redis.info("keyspace")  # type: ignore[attr-defined]
    return int(keyspace["db0"]["expires"])


async def _entries(redis: object) -> int:
    from authsvc.live.keys import STREAMS

    return sum([await redis.xlen(stream) for stream in STREAMS])  # type: ignore[attr-defined]
