"""`authsvc log` and `/log`: another level for a while, for all workers of an instance and for the writer, only for who knows the secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsvc.logs import LogLevel
from servers import ServiceProcess, running, wait_until
from service.command_line import CommandLine
from service.one_instance import OneInstance, authorization, bearer, one_instance
from service.wire import ask

SECRET = "a-secret-of-sixteen"
KNOWN = authorization(f"Bearer {SECRET}")
WORKERS = 3


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("told"), management_secret=SECRET, workers=WORKERS, log_level="warning") as found:
        yield found


@pytest.fixture
def command(instance: OneInstance, tmp_path: Path) -> Iterator[CommandLine]:
    found = CommandLine(tmp_path, {"AUTH_MANAGEMENT_PORT": str(instance.management_port), "AUTH_MANAGEMENT_SECRET": SECRET})
    yield found
    found.close()


def request_lines(instance: OneInstance) -> int:
    return sum(json.loads(line)["event"] == "request" for line in instance.log().splitlines())


def test_at_debug_each_worker_tells_of_each_request_until_it_is_over(instance: OneInstance) -> None:
    assert instance.ask("GET", "/health").status == 200
    assert request_lines(instance) == 0
    assert instance.manage("PUT", "/log?level=debug&seconds=3600", KNOWN).json == {"level": "debug", "seconds": 3600}

    def all_told() -> bool:
        before = request_lines(instance)
        for _ in range(10 * WORKERS):
            assert instance.ask("GET", "/health").status == 200
        return request_lines(instance) - before == 10 * WORKERS

    wait_until(all_told, "every worker follows")
    assert instance.manage("PUT", "/log?level=error&seconds=1", KNOWN).status == 200

    def none_told() -> bool:
        before = request_lines(instance)
        for _ in range(10 * WORKERS):
            assert instance.ask("GET", "/health").status == 200
        return request_lines(instance) == before

    wait_until(none_told, "every worker follows")
    assert "another log level was asked for" in instance.log()
    wait_until(lambda: "the configured log level is in force again" in instance.log(), "it is over by itself")


def test_a_level_ends_by_itself() -> None:
    level = LogLevel("warning")
    level.ask_for("debug", 3600)
    assert level.follow() == "debug"
    level.ask_for("error", 0)
    assert level.follow() == "warning"


def test_the_writer_takes_one_too(instance: OneInstance, tmp_path: Path) -> None:
    writer = ServiceProcess(tmp_path, "write", redis_url=instance.redis.url, management_secret=SECRET, log_level="error").start()
    with running(writer):
        writer.wait_ready()
        assert ask(writer.management_port, "PUT", "/log?level=debug&seconds=60", [KNOWN]).status == 200
        assert ask(writer.management_port, "PUT", "/log?level=debug&seconds=60", [KNOWN]).status == 200
        # The second is told by the level of the first.
        wait_until(lambda: "another log level was asked for" in writer.log_file.read_text(), "it tells of it")


@pytest.mark.parametrize("fields", [(), (bearer("a-secret-of-fifteen"),), (authorization(SECRET),)])
def test_who_does_not_know_the_secret_finds_nothing(instance: OneInstance, fields: tuple[tuple[str, str], ...]) -> None:
    answer = instance.manage("PUT", "/log?level=debug&seconds=1", *fields)
    assert answer.status == 404
    asked = [json.loads(line) for line in instance.log().splitlines() if "does not know the management secret" in line]
    assert [line["path"] for line in asked if line["request_id"] == answer.header("x-request-id")] == ["/log"]
    assert instance.ask("PUT", "/log?level=debug&seconds=1", KNOWN).status == 404


@pytest.mark.parametrize("query", ["level=debug", "level=loud&seconds=1", "seconds=1", "level=debug&seconds=0", "level=debug&seconds=3601"])
def test_what_is_no_level_or_no_time_is_refused(instance: OneInstance, query: str) -> None:
    assert instance.manage("PUT", f"/log?{query}", KNOWN).status == 400
    assert instance.manage("GET", "/log?level=debug&seconds=1", KNOWN).status == 405


def test_the_command_changes_it(command: CommandLine, instance: OneInstance) -> None:
    told = command.good("log", "error", "--seconds", "1")
    assert f"http://127.0.0.1:{instance.management_port} logs from level error for 1 s." in told
    assert "AUTH_MANAGEMENT_SECRET is not set" in command.refused("log", "debug", without="AUTH_MANAGEMENT_SECRET")
    assert "its AUTH_MANAGEMENT_SECRET is another, or not set" in command.refused(
        "log", "debug", management_secret="another-secret-of-ours"
    )
    assert "is it a management address?" in command.refused("log", "debug", "--url", f"http://127.0.0.1:{instance.port}/validate?x=")
    for nowhere in ("http://127.0.0.1:1", "http://[::1", "http://\u00fc..x"):
        assert "cannot be asked" in command.refused("log", "debug", "--url", nowhere)
