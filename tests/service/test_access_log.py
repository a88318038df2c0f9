"""The access log: every refusal with its reason, the share of the others that was asked for, and never a token or a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authsvc.http.access_log import AccessLog
from servers import wait_until
from service.one_instance import GRANT, OneInstance, basic, bearer, client_of, one_instance
from service.wire import Answer, Connection, Field

MALFORMED = "not-of-our-making"


@pytest.fixture(scope="module", params=["lane", "asgi"])
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    """One that tells of everything."""
    settings = {"access_log": 1, "access_log_success_share": 1, "fast_lane": int(request.param == "lane")}
    with one_instance(tmp_path_factory.mktemp("told"), **settings) as running:
        yield running


def requests_of(instance: OneInstance) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in instance.log().splitlines())
    return [line for line in lines if line["event"] == "request"]


def told(instance: OneInstance, answer: Answer) -> dict[str, Any]:
    """The one line of an answer."""
    request_id = answer.header("x-request-id")

    def found() -> list[dict[str, Any]]:
        return [line for line in requests_of(instance) if line["request_id"] == request_id]

    wait_until(found, "the request is logged")
    [line] = found()
    assert line["level"] == "info"
    assert line["client"] == "127.0.0.1"
    assert 0 <= line["seconds"] < 60
    return {name: line.get(name) for name in ("endpoint", "status", "client_id", "error", "reason")}


def line(endpoint: str, status: int, client_id: str | None = None, error: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"endpoint": endpoint, "status": status, "client_id": client_id, "error": error, "reason": reason}


def test_an_answer_is_told_with_the_client_whose_it_is(instance: OneInstance) -> None:
    issued = instance.post("/token", GRANT, basic("app"))
    token = issued.json["access_token"]
    assert told(instance, issued) == line("token", 200, "app")
    assert told(instance, instance.ask("GET", "/validate", bearer(token))) == line("validate", 200, "app")
    assert told(instance, instance.post("/introspect", {"token": token}, basic("other"))) == line("introspect", 200, "other")
    twice = "Two tokens are given."
    assert told(instance, instance.post("/revoke", {"token": token}, bearer(token))) == line(
        "revoke", 400, error="invalid_request", reason=twice
    )
    assert told(instance, instance.ask("POST", "/revoke", bearer(token))) == line("revoke", 200)
    assert told(instance, instance.ask("GET", "/health")) == line("health", 200)
    assert told(instance, instance.ask("GET", "/docs")) == line("other", 200)


@pytest.mark.parametrize(
    ("field", "client_id", "reason"),
    [
        (basic("app", "wrong"), "app", "The client presents a secret that is not its own."),
        (basic("off"), "off", "The client is disabled."),
        (basic("off", "wrong"), "off", "The client presents a secret that is not its own."),
        # Perhaps a secret in the wrong place: who is not one of ours is not named.
        (basic("nobody", "wrong"), None, "The client is unknown."),
        (("Accept", "*/*"), None, "Client authentication is missing."),
    ],
)
@pytest.mark.parametrize("endpoint", ["token", "ott", "introspect", "revoke"])
def test_a_client_that_is_refused_is_told_with_a_reason_that_it_does_not_learn(
    instance: OneInstance, endpoint: str, field: Field, client_id: str | None, reason: str
) -> None:
    answer = instance.post(f"/{endpoint}", {**GRANT, "token": MALFORMED}, field)
    assert told(instance, answer) == line(endpoint, 401, client_id, "invalid_client", reason)
    assert reason not in answer.body.decode() or client_id is None


def test_a_token_that_is_refused_is_told_with_what_became_of_it(instance: OneInstance) -> None:
    def refused(token: str, client_id: str | None = None) -> tuple[str, str]:
        answer = instance.ask("GET", "/validate", bearer(token))
        found = told(instance, answer)
        assert (found["status"], found["error"], found["client_id"]) == (401, "invalid_token", client_id)
        return found["reason"], answer.json["error_description"]

    assert refused(MALFORMED) == ("The token is malformed.",) * 2
    one_time = instance.issue(target="/ott")
    assert instance.valid(one_time)
    assert refused(one_time, "app") == ("The token was used.",) * 2
    instance.put(client_of("fading", "read", revision=100))
    token = instance.issue("fading")
    instance.put(client_of("fading", "read", revision=101, enabled=False))
    unknown = "The token is unknown or has expired."
    assert refused(token, "fading") == ("The token has ended: its client is disabled.", unknown)
    narrow = instance.issue("other")
    answer = instance.ask("GET", "/validate?scope=write", bearer(narrow))
    lacking = "The token does not carry every scope that was asked for."
    assert told(instance, answer) == line("validate", 403, "other", "insufficient_scope", lacking)


def test_what_is_no_request_of_ours_is_told(instance: OneInstance) -> None:
    assert told(instance, instance.ask("GET", "/nowhere")) == line("other", 404, error="not_found", reason="There is nothing at this path.")
    assert told(instance, instance.ask("GET", "/token")) == line(
        "token", 405, error="method_not_allowed", reason="The path does not take this method."
    )
    assert told(instance, instance.ask("OPTIONS", "/token")) == line("token", 204)
    with Connection(instance.port) as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\nbroken line\r\n\r\n")
        answer = connection.answer()
    assert answer is not None
    assert told(instance, answer) == line("other", 400, error="invalid_request", reason="This is not a valid HTTP request.")


def test_a_token_in_the_place_of_a_request_id_is_not_told(instance: OneInstance) -> None:
    token = instance.issue()
    assert instance.ask("GET", "/health", ("X-Request-Id", token)).header("x-request-id") == token
    wait_until(lambda: any(line["request_id"] == "a token" for line in requests_of(instance)), "the request is logged")
    assert token not in instance.log()


def test_while_lines_of_its_level_are_not_written_requests_take_the_short_way() -> None:
    told_of = AccessLog(True, 1, lambda client_id: True)
    for level, on in (("debug", True), ("info", True), ("warning", False), ("error", False), ("info", True)):
        told_of.follow(level)
        assert told_of.on is on
    quiet = AccessLog(False, 1, lambda client_id: True)
    assert not quiet.on
    quiet.follow("debug")
    assert quiet.on


def test_only_a_share_of_the_successes_is_told_and_every_refusal(tmp_path: Path) -> None:
    with one_instance(tmp_path, access_log=1, access_log_success_share=0.5) as sampled:
        for _ in range(200):
            assert sampled.ask("GET", "/health").status == 200
        last = sampled.ask("GET", "/nowhere")
        told(sampled, last)
        successes = [line for line in requests_of(sampled) if line["status"] == 200]
        # Further off than that: once in 10^15 runs.
        assert 40 <= len(successes) <= 160
        for _ in range(50):
            last = sampled.ask("GET", "/nowhere")
        told(sampled, last)
        assert len([line for line in requests_of(sampled) if line["status"] == 404]) == 51
