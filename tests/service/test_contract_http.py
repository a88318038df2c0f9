"""What the contract says of any request, against one instance: bodies, headers, methods, paths, limits, pages, management."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest

from authsvc.model import Kind
from servers import TOKEN_KEY, wait_until
from service.one_instance import (
    AUTHENTICATED,
    FORM,
    GRANT,
    HOT_POST,
    ISSUING,
    JSON,
    KEYS,
    OneInstance,
    assert_good,
    assert_refused,
    basic,
    bearer,
    encoded,
    one_instance,
    starting_instance,
)
from service.wire import Answer, Connection, Field, ask, request

DISCOVERY = "/.well-known/oauth-authorization-server"
PAGES = (DISCOVERY, "/docs", "/openapi.json")
MANAGEMENT = ("/live", "/ready", "/metrics")

kinds = pytest.mark.parametrize("kind", [FORM, JSON], ids=["form", "json"])


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("instance"), fast_lane=request.param) as instance:
        yield instance
        assert "Traceback" not in instance.log()


# --- bodies and parameters


@pytest.mark.parametrize("target", HOT_POST)
@pytest.mark.parametrize("parameter", ["grant_type", "scope", "client_id", "client_secret", "token", "token_type_hint", "anything"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, "{0}=read&{0}=read"),
        (FORM, "{0}=read&token_type=x&{0}=other"),
        (FORM, "{0}=&{0}=read"),
        (FORM, "{0}&{0}=read"),
        (JSON, '{{"{0}": "read", "{0}": "read"}}'),
        (JSON, '{{"{0}": "read", "x": 1, "{0}": "other"}}'),
        (JSON, '{{"{0}": null, "{0}": "read"}}'),
    ],
)
def test_a_parameter_given_twice(instance: OneInstance, target: str, parameter: str, kind: str, body: str) -> None:
    answer = instance.ask("POST", target, ("Content-Type", kind), basic("app"), body=body.format(parameter).encode())
    assert_refused(answer, 400, "invalid_request")
    assert answer.json["error_description"] == "A parameter is given twice."


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("query", ["scope=read&scope=read", "scope=read&x=1&scope=write", "x=1&x=2"])
def test_a_query_parameter_given_twice(instance: OneInstance, method: str, query: str) -> None:
    token = instance.issue()
    assert_refused(instance.ask(method, f"/validate?{query}", bearer(token)), 400, "invalid_request")


@pytest.mark.parametrize("target", HOT_POST)
@pytest.mark.parametrize("parameter", ["token", "access_token", "client_secret"])
def test_a_secret_in_the_query_string(instance: OneInstance, target: str, parameter: str) -> None:
    token = instance.issue(target="/ott")
    body = {**GRANT, "token": token}
    for query in (f"{parameter}={token}", f"x=1&%{ord(parameter[0]):02x}{parameter[1:]}={token}"):
        assert_refused(instance.post(f"{target}?{query}", body, basic("app")), 400, "invalid_request")
    assert instance.valid(token), "a refused request has no effect"


def test_a_token_in_the_query_string_of_a_get(instance: OneInstance) -> None:
    token = instance.issue(target="/ott")
    for fields in ([], [bearer(token)]):
        assert_refused(instance.ask("GET", f"/validate?token={token}", *fields), 400, "invalid_request")
        assert_refused(instance.ask("GET", f"/validate?access_token={token}", *fields), 400, "invalid_request")
    assert instance.valid(token)


@pytest.mark.parametrize("target", HOT_POST)
@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/jsonx", "json", "*/*", "", None])
def test_a_body_of_another_type_or_of_none(instance: OneInstance, target: str, content_type: str | None) -> None:
    fields = [basic("app")] if content_type is None else [basic("app"), ("Content-Type", content_type)]
    answer = instance.ask("POST", target, *fields, body=encoded({**GRANT, "token": "x"}, FORM))
    assert_refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["{}; charset=utf-8", "{};charset=UTF-8", "{} ; x=y", "  {}"])
@kinds
def test_a_content_type_with_parameters(instance: OneInstance, kind: str, content_type: str) -> None:
    for spelled in (kind, kind.upper()):
        fields = [basic("app"), ("Content-Type", content_type.format(spelled))]
        assert instance.ask("POST", "/token", *fields, body=encoded(GRANT, kind)).status == 200


@pytest.mark.parametrize("name", ["Authorization", "Content-Type"])
def test_a_header_given_twice(instance: OneInstance, name: str) -> None:
    token = instance.issue(target="/ott")
    value = {"Authorization": basic("app")[1], "Content-Type": FORM}
    fields = [*value.items(), (name, value[name])]
    for target in HOT_POST:
        assert_refused(instance.ask("POST", target, *fields, body=encoded({**GRANT, "token": token}, FORM)), 400, "invalid_request")
    two_tokens = [bearer(token), bearer(token)]
    assert_refused(instance.ask("GET", "/validate", *two_tokens), 400, "invalid_request")
    assert instance.valid(token)


@pytest.mark.parametrize("target", HOT_POST)
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"1",
        b'"token"',
        b"null",
        b"{",
        b"",
        b"{} x",
        b'{"token": 1, "grant_type": 1}',
        b'{"token": ["x"], "grant_type": ["client_credentials"]}',
        b'{"token": {}, "grant_type": {}}',
        b'{"token": true, "grant_type": false}',
        b'{"token": null, "grant_type": null}',
        b'{"token": "\\ud800", "grant_type": "\\ud800"}',
        b'{"token": "\xff", "grant_type": "x"}',
        b'{"token": "\\u0000", "grant_type": "\\u0000"}',
        b'\xef\xbb\xbf{"token": "x"}',
        b'{"x": ' + b"[" * 8000 + b"]" * 8000 + b"}",
        b'{"x": ' + b"9" * 6000 + b"}",
    ],
)
def test_json_that_is_no_request(instance: OneInstance, target: str, body: bytes) -> None:
    answer = instance.ask("POST", target, ("Content-Type", JSON), basic("app"), body=body)
    assert_refused(answer, 400, "invalid_request")


def test_json_members_that_are_not_ours_may_be_anything(instance: OneInstance) -> None:
    body = json.dumps({**GRANT, "scope": None, "x": [1, {"token": 1}], "y": {"grant_type": [], "a": 1.5e300}}).encode()
    assert instance.ask("POST", "/token", ("Content-Type", JSON), basic("app"), body=body).status == 200


@pytest.mark.parametrize(
    "body", [b"grant_type=%ff", b"grant_type=\xff", b"%ff=x", b"grant_type=%00", b"x%00=y", b"grant_type=\x00", b"\xc3\x28=x"]
)
@pytest.mark.parametrize("target", HOT_POST)
def test_forms_that_are_not_text(instance: OneInstance, target: str, body: bytes) -> None:
    answer = instance.ask("POST", target, ("Content-Type", FORM), basic("app"), body=body)
    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("target", HOT_POST)
@kinds
def test_bodies_up_to_their_limit(instance: OneInstance, target: str, kind: str) -> None:
    parameters = {**GRANT, "token": KEYS.new(Kind.ACCESS)[0].decode()}
    room = 16 * 1024 - len(encoded({**parameters, "x": ""}, kind))
    largest, too_large = ({**parameters, "x": "a" * size} for size in (room, room + 1))
    answer = instance.post(target, largest, basic("app"), kind=kind)
    assert answer.status == (401 if target == "/validate" else 200)
    assert_refused(instance.post(target, too_large, basic("app"), kind=kind), 413, "content_too_large")


@pytest.mark.parametrize(("size", "status"), [(16 * 1024, 200), (16 * 1024 + 1, 413), (300_000, 413)])
def test_chunked_bodies_up_to_their_limit(instance: OneInstance, size: int, status: int) -> None:
    body = encoded({**GRANT, "x": ""}, FORM)
    body += b"a" * (size - len(body))
    chunks = [body[start : start + 4000] for start in range(0, size, 4000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    answer = ask_chunked(instance, "/token", framed)
    if status == 200:
        assert answer.status == 200
    else:
        assert_refused(answer, 413, "content_too_large")


def ask_chunked(instance: OneInstance, target: str, framed: bytes) -> Answer:
    """A POST by a client of GRANT whose body is already framed."""
    with Connection(instance.port) as connection:
        connection.send(request("POST", target, [basic("app"), ("Content-Type", FORM), ("Transfer-Encoding", "chunked")]), framed)
        answer = connection.answer("POST")
        assert answer is not None
        return answer


@pytest.mark.parametrize("fields", [[("X-Large", "a" * 33000)], [(f"X-{number}", "a" * 700) for number in range(50)]], ids=["one", "many"])
@pytest.mark.parametrize("target", ["/health", "/token", DISCOVERY, "/nothing"])
def test_header_lines_over_their_limit(instance: OneInstance, target: str, fields: list[Field]) -> None:
    method = "POST" if target == "/token" else "GET"
    assert_refused(instance.ask(method, target, *fields), 431, "header_fields_too_large")


def test_header_lines_up_to_their_limit(instance: OneInstance) -> None:
    assert instance.ask("GET", "/health", *[(f"X-{number}", "a" * 700) for number in range(45)]).status == 200
    assert instance.ask("GET", f"/health?{'a' * 30000}").status == 200
    assert_refused(instance.ask("GET", f"/health?{'a' * 33000}"), 431, "header_fields_too_large")


# --- request ids, methods and paths


EVERYWHERE = ["/health", "/validate", "/token", "/nothing", DISCOVERY, "/docs", "/openapi.json"]


@pytest.mark.parametrize("request_id", ["a", "A" * 64, "az-AZ_09.x", "-"])
def test_a_request_id_is_echoed(instance: OneInstance, request_id: str) -> None:
    for target in EVERYWHERE:
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            assert instance.ask(method, target, ("X-Request-Id", request_id)).header("x-request-id") == request_id
    for target in (*MANAGEMENT, "/nothing"):
        assert instance.manage("GET", target, ("X-Request-Id", request_id)).header("x-request-id") == request_id
    assert instance.ask("GET", "/health", ("X-Large", "a" * 33000), ("X-Request-Id", request_id)).header("x-request-id") == request_id


@pytest.mark.parametrize("request_id", [None, "", "A" * 65, "a b", "a/b", "\u00e9", 'a"b', "a;b"])
def test_an_odd_request_id_is_replaced(instance: OneInstance, request_id: str | None) -> None:
    fields = [] if request_id is None else [("X-Request-Id", request_id)]
    answers = [instance.ask("GET", target, *fields) for target in EVERYWHERE for _ in range(2)]
    answers += [instance.manage("GET", target, *fields) for target in MANAGEMENT]
    made = [answer.header("x-request-id") or "" for answer in answers]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) for text in made)
    assert len(set(made)) == len(made)
    assert request_id not in made


ALLOW = {
    **dict.fromkeys(AUTHENTICATED, "POST, OPTIONS"),
    "/validate": "GET, POST, HEAD, OPTIONS",
    **dict.fromkeys(("/health", *PAGES), "GET, HEAD, OPTIONS"),
}


@pytest.mark.parametrize(("target", "allow"), ALLOW.items())
def test_methods_of_a_path(instance: OneInstance, target: str, allow: str) -> None:
    assert_methods(instance.ask, target, allow)


@pytest.mark.parametrize("target", MANAGEMENT)
def test_methods_of_the_management_port(instance: OneInstance, target: str) -> None:
    assert_methods(instance.manage, target, "GET, HEAD, OPTIONS")


def assert_methods(asking: Callable[[str, str], Answer], target: str, allow: str) -> None:
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"} - set(allow.split(", ")):
        answer = asking(method, target)
        assert_refused(answer, 405, "method_not_allowed")
        assert answer.header("allow") == allow
    if "HEAD" not in allow:
        answer = asking("HEAD", target)
        assert (answer.status, answer.header("allow"), answer.header("cache-control")) == (405, allow, "no-store")
    answer = asking("OPTIONS", target)
    assert (answer.status, answer.header("allow"), answer.header("content-length")) == (204, allow, None)
    assert answer.header("x-request-id")


def test_head_answers_as_get(instance: OneInstance) -> None:
    token = instance.issue()
    requests = [("/validate", [bearer(token)]), ("/validate", []), ("/validate?scope=admin", [bearer(token)]), ("/nothing", [])]
    for target, fields in [*requests, *((target, []) for target in ("/health", *PAGES))]:
        assert_same(*(instance.ask(method, target, *fields, ("X-Request-Id", "same")) for method in ("GET", "HEAD")))
    for target in ("/live", "/ready", "/nothing"):
        assert_same(*(instance.manage(method, target, ("X-Request-Id", "same")) for method in ("GET", "HEAD")))
    assert instance.manage("HEAD", "/metrics").status == 200


def assert_same(get: Answer, head: Answer) -> None:
    assert (head.status, head.body) == (get.status, b"")
    assert [field for field in head.fields if field[0] != "date"] == [field for field in get.fields if field[0] != "date"]
    assert head.header("content-length") == str(len(get.body))


def test_a_head_consumes_as_a_get_does(instance: OneInstance) -> None:
    token = instance.issue(target="/ott")
    assert instance.ask("HEAD", "/validate", bearer(token)).status == 200
    assert instance.ask("HEAD", "/validate", bearer(token)).status == 401


UNKNOWN = ["/", "/nothing", "/token/", "/Token", "//token", "/token/x", "/docs/", "/redoc", "/%00", "/%ff", "/..", "/token%2f", "/health;x"]


@pytest.mark.parametrize("target", UNKNOWN)
def test_unknown_paths(instance: OneInstance, target: str) -> None:
    for method in ("GET", "POST", "PUT", "OPTIONS"):
        assert_refused(instance.ask(method, target), 404, "not_found")
        assert_refused(instance.manage(method, target), 404, "not_found")


def test_each_port_has_its_own_paths(instance: OneInstance) -> None:
    for target in MANAGEMENT:
        assert_refused(instance.ask("GET", target), 404, "not_found")
    for target in (*HOT_POST, "/health", *PAGES):
        for method in ("GET", "POST"):
            assert_refused(instance.manage(method, target), 404, "not_found")


# --- /health, discovery, documentation, management


def test_health(instance: OneInstance) -> None:
    answer = instance.ask("GET", "/health")
    assert_good(answer, {"status": "ok"})
    assert answer.body == b'{"status":"ok"}'
    assert instance.ask("GET", "/health?x=y", basic("app", "wrong")).status == 200


def test_discovery(instance: OneInstance) -> None:
    answer = instance.ask("GET", DISCOVERY)
    methods = ["client_secret_basic", "client_secret_post"]
    assert answer.status == 200
    assert answer.json == {
        "issuer": "http://auth.test",
        "token_endpoint": "http://auth.test/token",
        "introspection_endpoint": "http://auth.test/introspect",
        "revocation_endpoint": "http://auth.test/revoke",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["none"],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "service_documentation": "http://auth.test/docs",
    }
    assert answer.header("x-request-id")


def test_documentation(instance: OneInstance) -> None:
    document = instance.ask("GET", "/openapi.json").json
    described = {path: set(methods) for path, methods in document["paths"].items()}
    hot = {path: {"post"} for path in AUTHENTICATED}
    assert described == {**hot, "/validate": {"get", "post"}, "/health": {"get"}, DISCOVERY: {"get"}}
    page = instance.ask("GET", "/docs")
    assert (page.status, page.header("content-type")) == (200, "text/html; charset=utf-8")
    assert b"/openapi.json" in page.body


def test_live_and_ready(instance: OneInstance) -> None:
    for target in ("/live", "/ready"):
        assert_good(instance.manage("GET", target), {"status": "ok"})


def test_metrics_count_exactly_what_was_answered(instance: OneInstance) -> None:
    token, one_time, foreign = instance.issue(), instance.issue(target="/ott"), instance.issue("other")
    before = instance.metrics()
    instance.issue()
    instance.issue(target="/ott")
    for scope, value in (("", one_time), ("", one_time), ("admin", token), ("", token), ("", "garbage")):
        instance.post("/validate", {"token": value, "scope": scope})
    instance.ask("POST", "/validate")
    instance.ask("HEAD", "/health")
    instance.ask("OPTIONS", "/token")
    instance.ask("GET", "/ott")
    instance.ask("POST", "/token", body=b"x")
    instance.post("/introspect", {"token": token}, basic("app"))
    instance.post("/introspect", {"token": token}, basic("app", "wrong"))
    for value in (token, token, "garbage", foreign):
        instance.post("/revoke", {"token": value}, basic("app"))
    for target in (*PAGES, "/nothing", "/live"):
        instance.ask("GET", target)
    instance.ask("GET", "/health", ("X-Large", "a" * 33000))
    instance.manage("GET", "/live")
    after = instance.metrics()
    counted = (name for name in after if "_total" in name and name != "process_cpu_seconds_total")
    assert {name: after[name] - before[name] for name in counted if after[name] != before[name]} == {
        'http_requests_total{endpoint="token",status="200"}': 1,
        'http_requests_total{endpoint="token",status="204"}': 1,
        'http_requests_total{endpoint="token",status="415"}': 1,
        'http_requests_total{endpoint="ott",status="200"}': 1,
        'http_requests_total{endpoint="ott",status="405"}': 1,
        'http_requests_total{endpoint="validate",status="200"}': 2,
        'http_requests_total{endpoint="validate",status="400"}': 1,
        'http_requests_total{endpoint="validate",status="401"}': 2,
        'http_requests_total{endpoint="validate",status="403"}': 1,
        'http_requests_total{endpoint="introspect",status="200"}': 1,
        'http_requests_total{endpoint="introspect",status="401"}': 1,
        'http_requests_total{endpoint="revoke",status="200"}': 3,
        'http_requests_total{endpoint="revoke",status="400"}': 1,
        'http_requests_total{endpoint="health",status="200"}': 1,
        'http_requests_total{endpoint="health",status="431"}': 1,
        'http_requests_total{endpoint="other",status="200"}': 3,
        'http_requests_total{endpoint="other",status="404"}': 2,
        'tokens_issued_total{kind="access"}': 1,
        'tokens_issued_total{kind="one_time"}': 1,
        "tokens_consumed_total": 1,
        "tokens_revoked_total": 1,
        "token_cache_hits_total": 6,
    }
    assert after["redis_up"] == 1
    answer = instance.manage("GET", "/metrics")
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"


def test_secrets_and_tokens_are_not_logged(instance: OneInstance) -> None:
    token = instance.issue()
    instance.ask("GET", f"/validate?token={token}")
    instance.ask("GET", "/validate", ("Authorization", f"Bearer {token} {token}"))
    instance.post("/token", GRANT, basic("app", "a-wrong-secret"))
    for secret in (token, "app-secret", "a-wrong-secret", TOKEN_KEY, b64encode(b"app:app-secret").decode()):
        assert secret not in instance.log()


# --- an instance that cannot serve


def test_unknown_is_refused_and_readiness_tells(tmp_path_factory: pytest.TempPathFactory) -> None:
    with starting_instance(tmp_path_factory.mktemp("starting"), drain_seconds=2.5) as instance:
        wait_until(lambda: listening(instance), "the instance listens")
        assert_refused(instance.manage("GET", "/ready"), 503, "temporarily_unavailable")
        assert_good(instance.manage("GET", "/live"), {"status": "ok"})
        assert_unavailable(instance, KEYS.new(Kind.ACCESS)[0].decode())

        instance.build_mirror()
        instance.process.wait_ready()
        token, one_time = instance.issue(), instance.issue(target="/ott")
        # Whoever has looked since can say, when Redis is back, that it is the one that it was.
        wait_until(lambda: instance.metrics()["record_backlog_entries"] == 2, "the instance has looked")

        instance.redis.kill()
        killed = time.monotonic()
        assert instance.manage("GET", "/ready").status == 200, "readiness bridges a short outage"
        assert_unavailable(instance, token)
        assert_unavailable(instance, one_time)
        wait_until(lambda: instance.manage("GET", "/ready").status == 503, "the grace is over", 5)
        assert time.monotonic() - killed > 1.9
        wait_until(lambda: instance.metrics()["redis_up"] == 0, "the metric tells", 5)

        instance.redis.start()
        instance.process.wait_ready()
        assert instance.valid(token)
        assert instance.valid(one_time)

        instance.process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: instance.manage("GET", "/ready").status == 503, "readiness turns red", 1)
        assert instance.valid(token), "a draining instance goes on answering"
        assert instance.process.process.wait(10) == 0
        assert "Traceback" not in instance.log()


def listening(instance: OneInstance) -> bool:
    try:
        return ask(instance.management_port, "GET", "/live").status == 200
    except OSError:
        return False


def assert_unavailable(instance: OneInstance, token: str) -> None:
    """What depends on the shared store is 503 and never says that a client or a token is bad; the rest goes on."""
    for target, way in itertools.product(ISSUING, ("app", "nobody")):
        assert_refused(instance.post(target, GRANT, basic(way)), 503, "temporarily_unavailable")
    for target in ("/introspect", "/revoke"):
        assert_refused(instance.post(target, {"token": token}, basic("app")), 503, "temporarily_unavailable")
        assert_refused(instance.post(target, {"token": token}, basic("nobody")), 503, "temporarily_unavailable")
    assert_refused(instance.post("/revoke", {}, bearer(token)), 503, "temporarily_unavailable")
    assert_refused(instance.ask("GET", "/validate", bearer(token)), 503, "temporarily_unavailable")
    assert_refused(instance.ask("GET", "/validate", bearer("garbage")), 401, "invalid_token")
    assert instance.ask("GET", "/health").status == 200
    assert instance.ask("GET", DISCOVERY).status == 200
