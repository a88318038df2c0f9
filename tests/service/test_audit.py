"""Which request made each change of a token, and who: from the header of a request to the record, and out again by the commands."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.credentials import jti
from authsvc.model import Kind
from servers import run_command, run_json, wait_until
from service.deployment import Deployment, form, name_of, send
from service.one_instance import bearer
from service.wire import Answer, Field

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module", params=[1, 0], ids=["lane", "asgi"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(tmp_path_factory.mktemp("audit"), fast_lane=request.param).start()
    try:
        yield started
    finally:
        started.stop()


def ask(service: Deployment, target: str, parameters: dict[str, str], *fields: Field, request_id: str | None = None) -> Answer:
    named = [("X-Request-Id", request_id)] if request_id else []
    answer = send(service.instances[0].port, form(target, parameters, *fields, *named))
    assert answer.status == 200
    return answer


def issue(service: Deployment, target: str = "/token", request_id: str | None = None) -> tuple[str, Answer]:
    answer = ask(service, target, GRANT, service.authorization("app"), request_id=request_id)
    return answer.json["access_token"], answer


def recorded(service: Deployment, token: str, event: str = "issued") -> dict[str, Any]:
    """The record, once the writer has written that event."""

    def shown() -> dict[str, Any] | None:
        found = run_json(service.environ, "token", "show", jti(name_of(token)))
        return found if found["record"] == "written" and found[event] is not None else None

    found: dict[str, Any] = wait_until(shown, f"the token is recorded as {event}")
    return found


def test_the_request_that_issued_is_recorded_as_it_was_answered(service: Deployment) -> None:
    for target in ("/token", "/ott"):
        token, _ = issue(service, target, "issue.1_of-2")
        assert recorded(service, token)["issued_request_id"] == "issue.1_of-2"
        token, answer = issue(service, target)
        shown = recorded(service, token)
        assert shown["issued_request_id"] == answer.header("x-request-id")
        assert [shown[member] for member in ("used_request_id", "revoked_request_id", "revoked_by")] == [None, None, None]


def test_the_request_that_used_a_one_time_token_is_recorded(service: Deployment) -> None:
    token, _ = issue(service, "/ott", "made")
    ask(service, "/validate", {"token": token}, request_id="use-1")
    again = send(service.instances[0].port, form("/validate", {"token": token}, ("X-Request-Id", "use-2")))
    assert again.status == 401
    shown = recorded(service, token, "used")
    assert (shown["kind"], shown["issued_request_id"], shown["used_request_id"]) == (Kind.ONE_TIME.name.lower(), "made", "use-1")


def test_who_revoked_is_recorded(service: Deployment) -> None:
    by_client, by_holder, by_operator = (issue(service)[0] for _ in range(3))
    ask(service, "/revoke", {"token": by_client}, service.authorization("app"), request_id="end-1")
    ask(service, "/revoke", {}, bearer(by_holder), request_id="end-2")
    environ = service.environ | {"AUTH_OPERATOR": "alice"}
    assert run_command(environ, "token", "revoke", by_operator).returncode == 0
    found = [recorded(service, token, "revoked") for token in (by_client, by_holder, by_operator)]
    assert [shown["revoked_by"] for shown in found] == ["app", None, "alice"]
    assert [shown["revoked_request_id"] for shown in found[:2]] == ["end-1", "end-2"]
    assert found[2]["revoked_request_id"]
    [shown] = [each for each in run_json(service.environ, "token", "search", "--client", "app") if each["jti"] == found[0]["jti"]]
    assert {member: shown[member] for member in found[0] if member in shown} == {
        member: value for member, value in found[0].items() if member in shown
    }


def test_an_operator_without_a_name_is_his_user_and_machine(service: Deployment) -> None:
    token, _ = issue(service)
    assert run_command(service.environ, "token", "revoke", token).returncode == 0
    assert recorded(service, token, "revoked")["revoked_by"].endswith(f"@{socket.gethostname()}")


def test_a_token_that_was_sent_as_an_id_is_not_kept(service: Deployment) -> None:
    secret, _ = issue(service)
    token, answer = issue(service, request_id=secret)
    assert answer.header("x-request-id") == secret
    ask(service, "/revoke", {"token": token}, service.authorization("app"), request_id=secret)
    shown = recorded(service, token, "revoked")
    assert (shown["issued_request_id"], shown["revoked_request_id"]) == ("a token", "a token")
    with service.redis_client() as redis:
        kept = [fields for key in redis.scan_iter("*", _type="stream") for _, fields in redis.xrange(key)]
    assert not any(secret.encode() in value for fields in kept for value in fields.values())
