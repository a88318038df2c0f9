"""`authsvc profile` and `/profile`: only for who knows the secret, one at a time, of an instance that goes on answering."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from servers import wait_until
from service.command_line import CommandLine
from service.one_instance import OneInstance, authorization, bearer, one_instance
from service.wire import Answer

SECRET = "a-secret-of-sixteen"
KNOWN = authorization(f"Bearer {SECRET}")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("profiled"), management_secret=SECRET, drain_seconds=0) as found:
        yield found


@pytest.fixture
def command(instance: OneInstance, tmp_path: Path) -> Iterator[CommandLine]:
    settings = {"AUTH_MANAGEMENT_PORT": str(instance.management_port), "AUTH_MANAGEMENT_SECRET": SECRET}
    found = CommandLine(tmp_path, settings)
    yield found
    found.close()


@pytest.fixture
def busy(instance: OneInstance) -> Iterator[None]:
    """Somebody validates all the time."""
    token, over = instance.issue(), threading.Event()

    def validate() -> None:
        while not over.is_set():
            assert instance.valid(token)

    asking = threading.Thread(target=validate)
    asking.start()
    yield
    over.set()
    asking.join()


def amounts(answer: Answer) -> dict[str, int]:
    assert answer.status == 200, answer
    return {stack: int(amount) for stack, _, amount in (line.rpartition(" ") for line in answer.body.decode().splitlines())}


@pytest.mark.usefixtures("busy")
def test_cpu_time_is_told_by_stack_while_requests_are_answered(instance: OneInstance) -> None:
    stacks = amounts(instance.manage("GET", "/profile?seconds=2", KNOWN))
    assert any("authsvc.http.protocol." in stack or "authsvc.http.lane." in stack for stack in stacks)
    assert 0 < sum(stacks.values()) < 60_000_000
    assert not any("authsvc.profiling" in stack for stack in stacks), "the sampler is another thread"


@pytest.mark.usefixtures("busy")
def test_memory_that_is_held_is_told_by_stack(instance: OneInstance) -> None:
    stacks = amounts(instance.manage("GET", "/profile?kind=memory&seconds=2", KNOWN))
    assert any(".py:" in stack for stack in stacks)
    assert all(size > 0 for size in stacks.values())


@pytest.mark.parametrize("fields", [(), (bearer("a-secret-of-fifteen"),), (authorization(SECRET),)])
def test_who_does_not_know_the_secret_finds_nothing(instance: OneInstance, fields: tuple[tuple[str, str], ...]) -> None:
    assert instance.manage("GET", "/profile?seconds=1", *fields).status == 404


def test_the_public_port_has_no_profile(instance: OneInstance) -> None:
    assert instance.ask("GET", "/profile?seconds=1", KNOWN).status == 404


@pytest.mark.parametrize(
    "query", ["seconds=0", "seconds=61", f"seconds={'9' * 5000}", "seconds=%C2%B2", "seconds=1.5", "seconds=x", "kind=heap"]
)
def test_what_cannot_be_watched_is_refused(instance: OneInstance, query: str) -> None:
    assert instance.manage("GET", f"/profile?{query}", KNOWN).status == 400
    assert instance.manage("POST", "/profile", KNOWN).status == 405


def test_one_profile_at_a_time(instance: OneInstance) -> None:
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(instance.manage("GET", "/profile?seconds=3", KNOWN).status)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 429, 429]


@pytest.mark.usefixtures("busy")
def test_the_command_lists_and_draws(command: CommandLine, tmp_path: Path) -> None:
    assert "%" in command.good("profile", "--seconds", "1")
    picture, stacks = tmp_path / "flame.svg", tmp_path / "stacks.txt"
    command.good("profile", "--seconds", "1", "--output", str(picture))
    drawn = ElementTree.parse(picture).getroot()
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}title")) > 3
    command.good("profile", "--seconds", "1", "--kind", "memory", "--output", str(stacks))
    assert all(line.rpartition(" ")[2].isdigit() for line in stacks.read_text().splitlines())
    printed = command.good("profile", "--seconds", "1", "--output", "-")
    assert all(line.rpartition(" ")[2].isdigit() for line in printed.splitlines())
    assert "cannot be written" in command.refused("profile", "--seconds", "1", "--output", str(tmp_path / "missing" / "flame.svg"))


def test_what_the_command_cannot_have_it_says(command: CommandLine) -> None:
    watch = ("profile", "--seconds", "1")
    assert "AUTH_MANAGEMENT_SECRET is not set" in command.refused(*watch, without="AUTH_MANAGEMENT_SECRET")
    assert "knows nothing of this" in command.refused(*watch, management_secret="another-secret-of-ours")
    assert "cannot be asked" in command.refused(*watch, "--url", "http://127.0.0.1:1")
    assert "is no http:// or https:// address" in command.refused(*watch, "--url", "file:///etc/passwd")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK", "answers what is no profile"),
        (b"HTTP/1.1 502 Bad Gateway", "answers 502"),
        (b"HTTP/1.1 302 Found\r\nLocation: /", "302"),
    ],
)
def test_another_server_is_told_from_an_instance(command: CommandLine, answer: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def say() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer + b"\r\nContent-Length: 7\r\n\r\n<html/>")

        speaking = threading.Thread(target=say)
        speaking.start()
        assert said in command.refused("profile", "--seconds", "1", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}")
        speaking.join()


def test_the_secret_goes_through_no_proxy(command: CommandLine) -> None:
    command.environ["http_proxy"] = "http://127.0.0.1:1"
    assert "%" in command.good("profile", "--seconds", "1")


@pytest.mark.parametrize(("kind", "drain_seconds"), [("cpu", 0), ("memory", 0.2)])
def test_an_instance_that_is_to_stop_ends_its_profile(tmp_path: Path, kind: str, drain_seconds: float) -> None:
    with one_instance(tmp_path, management_secret=SECRET, drain_seconds=drain_seconds) as found:
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(found.manage("GET", f"/profile?kind={kind}&seconds=60", KNOWN)))
        asking.start()
        wait_until(lambda: "a profile is taken" in found.process.log_file.read_text(), "it is being taken")
        assert found.process.stop() == 0
        asking.join()
        assert answers[0].status == 200


def test_an_instance_without_a_secret_gives_none(tmp_path: Path) -> None:
    with one_instance(tmp_path) as plain:
        assert plain.manage("GET", "/profile?seconds=1", KNOWN).status == 404
        assert plain.manage("GET", "/profile?seconds=1", authorization("Bearer ")).status == 404
