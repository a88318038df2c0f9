"""`authsvc trial`: it passes where the service does what it should, and names the step, the URL and what came where it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.command_line import CommandLine
from service.one_instance import OneInstance, one_instance, secret_of

STEPS = 11


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path_factory.mktemp("commands"), {})
    yield made
    made.close()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("instance")) as running:
        yield running


@pytest.fixture
def as_app(tmp_path: Path) -> list[str]:
    file = tmp_path / "secret"
    file.write_text(secret_of("app") + "\n")
    return ["--client-id", "app", "--secret-file", str(file)]


@contextmanager
def saying(answers: Mapping[str, tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """A server that says the same to every request for a path, and to all others 200 with all that any step looks for."""

    class Liar(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            everything = {"status": "ok", "access_token": "at_x", "token_type": "Bearer", "active": True}
            status, members = answers.get(self.path, (200, everything))
            body = json.dumps(members).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the base class names them

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_each_url_passes_every_step(command: CommandLine, instance: OneInstance, as_app: list[str]) -> None:
    url = f"http://127.0.0.1:{instance.process.port}"
    lines = command.good("trial", url, f"{url}/", *as_app).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [url, f"{url}/"]
    assert len(lines) == 2 * (1 + STEPS)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"/health": (500, {"error": "server_error"})}, "health: wanted 200, status 'ok', and 500 server_error came."),
        ({"/token": (401, {"error": "invalid_client"})}, "issue: wanted 200, token_type 'Bearer', and 401 invalid_client came."),
        ({}, "validate what was revoked: wanted 401, error 'invalid_token', and 200 came."),
        ({"/introspect": (200, {"active": False})}, "introspect: wanted 200, active True, and 200 came."),
    ],
    ids=["health", "issue", "nothing is ever revoked", "introspect"],
)
def test_a_wrong_answer_is_named(
    command: CommandLine, as_app: list[str], answers: Mapping[str, tuple[int, dict[str, Any]]], sentence: str
) -> None:
    with saying(answers) as url:
        done = command.run("trial", url, *as_app)
    assert (done.returncode, done.stderr) == (1, f"{url}: {sentence}\n")


def test_a_url_that_does_not_answer(command: CommandLine, as_app: list[str]) -> None:
    done = command.run("trial", "http://127.0.0.1:1", "--wait-seconds", "0", *as_app)
    assert done.returncode == 1
    assert done.stderr.startswith("http://127.0.0.1:1: not ready in 0 s (")


def test_one_that_is_not_ready(command: CommandLine, as_app: list[str]) -> None:
    with saying({"/introspect": (503, {})}) as url:
        done = command.run("trial", url, "--wait-seconds", "0", *as_app)
    assert (done.returncode, done.stderr) == (1, f"{url}: not ready in 0 s (status 503).\n")


@pytest.mark.parametrize(
    "words",
    [["ftp://x", "--client-id", "a", "--secret-file", "b"], ["http://x"], ["http://x", "--client-id", "a"]],
    ids=["no http", "no client", "no secret"],
)
def test_wrong_usage(command: CommandLine, words: list[str]) -> None:
    assert command.run("trial", *words).returncode == 2


def test_a_secret_that_is_not_there(command: CommandLine) -> None:
    assert "nowhere cannot be read" in command.refused("trial", "http://127.0.0.1:1", "--client-id", "a", "--secret-file", "nowhere")
