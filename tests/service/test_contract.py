"""What clients and resource servers may rely on, against one instance: tokens issued, validated, inspected and taken back."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from authsvc.credentials import TokenKeys, base64url
from authsvc.live.connect import RedisClient
from authsvc.live.keys import STREAMS, token_key
from authsvc.model import Kind
from servers import wait_until
from service.one_instance import (
    AUTHENTICATED,
    CLIENTS,
    FORM,
    GRANT,
    ISSUING,
    JSON,
    KEYS,
    OneInstance,
    assert_good,
    assert_refused,
    authorization,
    basic,
    bearer,
    client_of,
    encoded,
    one_instance,
    secret_of,
)
from service.wire import Answer, Field

ALL_OF_LONG = " ".join(next(client for client in CLIENTS if client.id == "long").scopes)

kinds = pytest.mark.parametrize("kind", [FORM, JSON], ids=["form", "json"])
issuing = pytest.mark.parametrize("target", ISSUING)
either_kind_of_token = pytest.mark.parametrize("issued_by", ISSUING)


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("instance"), fast_lane=request.param) as instance:
        yield instance
        assert "Traceback" not in instance.log()


def garbage(tokens: TokenKeys = KEYS) -> list[str]:
    """Texts that are no token of ours, and a well-formed one that nobody was given."""
    unknown = tokens.new(Kind.ACCESS)[0].decode()
    other_key = TokenKeys(b"another key that nobody accepts 1").new(Kind.ACCESS)[0].decode()
    last = "B" if unknown[-1] == "A" else "A"
    changed = [unknown[:-1] + last, unknown[:10] + ("B" if unknown[10] == "A" else "A") + unknown[11:], "ot" + unknown[2:]]
    return ["x", "at_", "a" * 46, "at_" + "A" * 43, unknown + "A", unknown[:-1], other_key, *changed, unknown, "\u00e9" * 46]


# --- /token and /ott


@issuing
@kinds
@pytest.mark.parametrize("way", ["basic", "body"])
def test_a_client_gets_a_token(instance: OneInstance, target: str, kind: str, way: str) -> None:
    fields = [basic("app")] if way == "basic" else []
    parameters = GRANT if way == "basic" else {**GRANT, "client_id": "app", "client_secret": secret_of("app")}
    answer = instance.post(target, parameters, *fields, kind=kind)
    token = answer.json["access_token"]
    assert re.fullmatch(r"at_[\w-]{43}" if target == "/token" else r"ot_[\w-]{43}", token, re.ASCII)
    assert KEYS.name(token.encode())
    expected = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "read write"}
    assert_good(answer, expected if target == "/token" else {**expected, "expires_in": 120, "one_time": True})


@pytest.mark.parametrize(
    ("client_id", "target", "seconds"), [("brief", "/token", 1), ("brief", "/ott", 1), ("long", "/token", 2592000), ("long", "/ott", 120)]
)
def test_a_client_has_lifetimes_of_its_own(instance: OneInstance, client_id: str, target: str, seconds: int) -> None:
    assert instance.post(target, GRANT, basic(client_id)).json["expires_in"] == seconds


@issuing
@kinds
@pytest.mark.parametrize(
    ("asked", "granted"),
    [("", "read write"), ("read", "read"), ("write read", "write read"), ("read read", "read"), ("write", "write")],
    ids=["none-is-all", "one", "order-kept", "repeated", "other"],
)
def test_scopes_that_are_granted(instance: OneInstance, target: str, kind: str, asked: str, granted: str) -> None:
    answer = instance.post(target, {**GRANT, "scope": asked}, basic("app"), kind=kind)
    assert (answer.status, answer.json["scope"]) == (200, granted)
    assert instance.ask("GET", "/validate", bearer(answer.json["access_token"])).json["scope"] == granted


BAD_SCOPES = ["admin", "read admin", " read", "read ", "read  write", "read\twrite", "r\u00e9ad", 'a"b', "a\\b", "x" * 65, "read\u007f"]
TOO_MANY_SCOPES = " ".join(f"scope-{number}" for number in range(33))


@issuing
@kinds
@pytest.mark.parametrize("scope", [*BAD_SCOPES, TOO_MANY_SCOPES])
def test_scopes_that_are_not_the_clients_or_malformed(instance: OneInstance, target: str, kind: str, scope: str) -> None:
    assert_refused(instance.post(target, {**GRANT, "scope": scope}, basic("app"), kind=kind), 400, "invalid_scope")


def test_the_most_scopes_that_a_client_can_have(instance: OneInstance) -> None:
    token = instance.issue("long")
    answer = instance.ask("POST", "/validate", ("Content-Type", FORM), body=encoded({"token": token, "scope": ALL_OF_LONG}, FORM))
    assert answer.json["scopes"] == ALL_OF_LONG.split(" ")
    assert answer.header("x-auth-scope") == ALL_OF_LONG


@issuing
@kinds
@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"scope": "read"}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "Client_Credentials"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials\u0000"}, "invalid_request"),
    ],
)
def test_requests_for_a_token_that_make_no_sense(
    instance: OneInstance, target: str, kind: str, parameters: dict[str, str], error: str
) -> None:
    assert_refused(instance.post(target, parameters, basic("app"), kind=kind), 400, error)


# --- client authentication, wherever a client authenticates


def request_of(target: str) -> dict[str, str]:
    """Parameters that make a good request of this endpoint but for the client."""
    return dict(GRANT) if target in ISSUING else {"token": KEYS.new(Kind.ACCESS)[0].decode()}


def encoded_basic(text: bytes) -> Field:
    return authorization(f"Basic {b64encode(text).decode()}")


GOOD_CLIENTS: dict[str, tuple[list[Field], dict[str, str]]] = {
    "basic": ([basic("app")], {}),
    "lower-case scheme": ([authorization(basic("app")[1].replace("Basic", "basic"))], {}),
    "upper-case scheme": ([authorization(basic("app")[1].replace("Basic", "BASIC"))], {}),
    "client_id beside Basic": ([basic("app")], {"client_id": "app"}),
    "in the body": ([], {"client_id": "app", "client_secret": "app-secret"}),
    "form-encoded halves": ([basic("odd", "p%:+& \u00e9/")], {}),
    "every character escaped": ([encoded_basic(b"%61%70%70:%61%70%70%2d%73%65%63%72%65%74")], {}),
    "odd secret in the body": ([], {"client_id": "odd", "client_secret": "p%:+& \u00e9/"}),
    "older of two secrets": ([basic("turning", "older-secret")], {}),
    "newer of two secrets": ([], {"client_id": "turning", "client_secret": "newer-secret"}),
    "unknown parameters": ([basic("app")], {"resource": "x", "audience": "y", "": "z"}),
    "empty ones are absent": ([basic("app")], {"client_id": "", "client_secret": ""}),
}
BAD_CLIENTS: dict[str, tuple[list[Field], dict[str, str], str]] = {
    "none": ([], {}, "invalid_client"),
    "wrong secret": ([basic("app", "wrong")], {}, "invalid_client"),
    "wrong secret in the body": ([], {"client_id": "app", "client_secret": "wrong"}, "invalid_client"),
    "another client's secret": ([basic("app", "other-secret")], {}, "invalid_client"),
    "empty secret": ([basic("app", "")], {}, "invalid_client"),
    "unknown client": ([basic("nobody")], {}, "invalid_client"),
    "unknown client in the body": ([], {"client_id": "nobody", "client_secret": "x"}, "invalid_client"),
    "case of the id": ([basic("App", "app-secret")], {}, "invalid_client"),
    "impossible id": ([basic("\u00e9 x", "x")], {}, "invalid_client"),
    "disabled": ([basic("off")], {}, "invalid_client"),
    "disabled in the body": ([], {"client_id": "off", "client_secret": "off-secret"}, "invalid_client"),
    "no secret": ([], {"client_id": "app"}, "invalid_client"),
    "no id": ([], {"client_secret": "app-secret"}, "invalid_client"),
    "no colon": ([encoded_basic(b"app")], {}, "invalid_client"),
    "not base64": ([authorization("Basic app:app-secret")], {}, "invalid_client"),
    "no credentials": ([authorization("Basic")], {}, "invalid_client"),
    "no scheme": ([authorization("")], {}, "invalid_client"),
    "other scheme": ([authorization("Digest username=app")], {}, "invalid_client"),
    "not form-encoded": ([encoded_basic("odd:p%:+& \u00e9/".encode())], {}, "invalid_client"),
    "two ways": ([basic("app")], {"client_secret": "app-secret"}, "invalid_request"),
    "two ways and an id": ([basic("app")], {"client_id": "app", "client_secret": "app-secret"}, "invalid_request"),
    "other id beside Basic": ([basic("app")], {"client_id": "other"}, "invalid_request"),
    "two ways, one unknown": ([authorization("Digest x")], {"client_id": "app", "client_secret": "app-secret"}, "invalid_request"),
    "NUL": ([encoded_basic(b"app\0:x")], {}, "invalid_request"),
    "not UTF-8": ([encoded_basic(b"app:\xff")], {}, "invalid_request"),
}


@kinds
@pytest.mark.parametrize("target", AUTHENTICATED)
@pytest.mark.parametrize("name", GOOD_CLIENTS)
def test_clients_that_authenticate(instance: OneInstance, target: str, kind: str, name: str) -> None:
    fields, parameters = GOOD_CLIENTS[name]
    answer = instance.post(target, {**request_of(target), **parameters}, *fields, kind=kind)
    assert answer.status == 200, answer


@kinds
@pytest.mark.parametrize("target", AUTHENTICATED)
@pytest.mark.parametrize("name", BAD_CLIENTS)
def test_clients_that_do_not_authenticate(instance: OneInstance, target: str, kind: str, name: str) -> None:
    fields, parameters, error = BAD_CLIENTS[name]
    answer = instance.post(target, {**request_of(target), **parameters}, *fields, kind=kind)
    assert_refused(answer, 401 if error == "invalid_client" else 400, error)


@kinds
@pytest.mark.parametrize("target", ["/token", "/ott", "/introspect"])
def test_a_bearer_token_authenticates_no_client(instance: OneInstance, target: str, kind: str) -> None:
    token = instance.issue()
    answer = instance.post(target, request_of(target), bearer(token), kind=kind)
    assert_refused(answer, 401, "invalid_client")
    both = {**request_of(target), "client_id": "app", "client_secret": secret_of("app")}
    assert_refused(instance.post(target, both, bearer(token), kind=kind), 400, "invalid_request")
    assert instance.valid(token)


# --- /validate


BY_POST: dict[str, Callable[[OneInstance, str], Answer]] = {
    "form": lambda instance, token: instance.post("/validate", {"token": token}),
    "json": lambda instance, token: instance.post("/validate", {"token": token}, kind=JSON),
    "header": lambda instance, token: instance.ask("POST", "/validate", bearer(token)),
    "header and empty body": lambda instance, token: instance.post("/validate", {}, bearer(token)),
    "header and other parameters": lambda instance, token: instance.post("/validate", {"x": "y"}, bearer(token)),
    "form beside a client": lambda instance, token: instance.post("/validate", {"token": token}, basic("app")),
}
BY_GET: dict[str, Callable[[OneInstance, str], Answer]] = {
    "get": lambda instance, token: instance.ask("GET", "/validate", bearer(token)),
    "lower-case scheme": lambda instance, token: instance.ask("GET", "/validate", authorization(f"bearer {token}")),
    "upper-case scheme": lambda instance, token: instance.ask("GET", "/validate", authorization(f"BEARER   {token}")),
    "get with a query": lambda instance, token: instance.ask("GET", "/validate?x=y&scope=", bearer(token)),
}
WAYS = {**BY_POST, **BY_GET}


@either_kind_of_token
@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_valid(instance: OneInstance, issued_by: str, way: str) -> None:
    before = int(time.time())
    token = instance.issue(target=issued_by)
    answer = WAYS[way](instance, token)
    issued = answer.json["iat"]
    assert before <= issued <= time.time()
    assert_good(answer, {"active": True, "valid": True, **members(token, "app", "read write", issued)})
    assert (answer.header("x-auth-client"), answer.header("x-auth-scope")) == ("app", "read write")


def members(token: str, client_id: str, scope: str, issued: int) -> dict[str, object]:
    """What is told of a live token with a client's usual lifetimes."""
    name = KEYS.name(token.encode())
    assert name is not None
    jti = base64url(name).decode()
    assert len(jti) == 27
    lifetime = 3600 if token.startswith("at_") else 120
    return {
        "client_id": client_id,
        "scope": scope,
        "scopes": scope.split(" "),
        "token_type": "Bearer",
        "iat": issued,
        "exp": issued + lifetime,
        "jti": jti,
    }


def test_a_validate_without_a_token(instance: OneInstance) -> None:
    for fields in ([], [basic("app")], [authorization("Digest x")], [authorization("")]):
        assert_refused(instance.ask("GET", "/validate", *fields), 401, "invalid_request")
        assert_refused(instance.ask("POST", "/validate", *fields), 400, "invalid_request")
    for kind in (FORM, JSON):
        for parameters in ({}, {"token": ""}, {"scope": "read"}):
            assert_refused(instance.post("/validate", parameters, kind=kind), 400, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@either_kind_of_token
def test_the_body_of_a_get_means_nothing(instance: OneInstance, issued_by: str, method: str) -> None:
    """RFC 9110, 9.3.1: a token in it is neither taken nor used up, nor does it stand beside another."""
    token, other = instance.issue(target=issued_by), instance.issue()
    body, form = f"token={token}".encode(), ("Content-Type", FORM)
    refused = instance.ask(method, "/validate", form, body=body)
    assert (refused.status, refused.header("www-authenticate")) == (401, "Bearer")
    assert instance.ask(method, "/validate", form, bearer(other), body=body).status == 200
    assert instance.valid(token), "it was not consumed"


@either_kind_of_token
@kinds
def test_a_validate_with_two_tokens(instance: OneInstance, issued_by: str, kind: str) -> None:
    token = instance.issue(target=issued_by)
    for other in (token, instance.issue()):
        assert_refused(instance.post("/validate", {"token": token}, bearer(other), kind=kind), 400, "invalid_request")
    assert instance.valid(token), "it was not consumed"


@pytest.mark.parametrize("way", WAYS)
def test_garbage_is_no_token(instance: OneInstance, way: str) -> None:
    for token in garbage():
        if way in ("form", "json", "form beside a client") or token.isascii():
            assert_refused(WAYS[way](instance, token), 401, "invalid_token")
    assert_refused(instance.ask("GET", "/validate", authorization("Bearer")), 401, "invalid_token")


@either_kind_of_token
def test_every_scope_that_is_asked_for_must_be_held(instance: OneInstance, issued_by: str) -> None:
    token = instance.issue(target=issued_by, scope="read")
    for scope in ("write", "read write", "admin read", "READ"):
        quoted = scope.replace(" ", "+")
        for answer in (
            instance.ask("GET", f"/validate?scope={quoted}", bearer(token)),
            instance.post("/validate", {"token": token, "scope": scope}),
            instance.post("/validate", {"scope": scope}, bearer(token), kind=JSON),
        ):
            assert_refused(answer, 403, "insufficient_scope")
    answer = instance.ask("GET", "/validate?scope=read", bearer(token))
    assert answer.status == 200, "a 403 consumed the token"
    assert instance.valid(token) == (issued_by == "/token")


@pytest.mark.parametrize("scope", ["read write", "write read", "write", ""])
def test_scopes_that_are_held(instance: OneInstance, scope: str) -> None:
    token = instance.issue()
    assert instance.ask("GET", f"/validate?scope={scope.replace(' ', '%20')}", bearer(token)).status == 200
    assert instance.post("/validate", {"token": token, "scope": scope}).status == 200


@pytest.mark.parametrize("scope", [" read", "read ", "a  b", "r\u00e9ad", 'a"b', "x" * 65])
def test_a_malformed_scope_consumes_nothing(instance: OneInstance, scope: str) -> None:
    token = instance.issue(target="/ott")
    assert_refused(instance.post("/validate", {"token": token, "scope": scope}), 400, "invalid_request")
    assert instance.valid(token)


def test_validate_judges_the_state_before_the_scope(instance: OneInstance) -> None:
    used, revoked = instance.issue(target="/ott"), instance.issue()
    assert instance.valid(used)
    assert instance.post("/revoke", {"token": revoked}, basic("app")).status == 200
    for token, why in ((used, "The token was used."), (revoked, "The token was revoked."), (garbage()[-2], None)):
        for scope in ("", "read", "admin"):
            answer = instance.post("/validate", {"token": token, "scope": scope})
            assert_refused(answer, 401, "invalid_token")
            assert why in (None, answer.json["error_description"])


@pytest.mark.parametrize("way", WAYS)
def test_a_one_time_token_is_good_once(instance: OneInstance, way: str) -> None:
    token = instance.issue(target="/ott")
    assert WAYS[way](instance, token).status == 200
    for again in WAYS.values():
        assert_refused(again(instance, token), 401, "invalid_token")


def test_a_one_time_token_is_good_once_whoever_races(instance: OneInstance) -> None:
    tokens = [instance.issue(target="/ott") for _ in range(20)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda token: WAYS["get"](instance, token), tokens * 16))
    for token, number in zip(tokens, range(20), strict=True):
        of_token = answers[number::20]
        assert sorted(answer.status for answer in of_token) == [200, *[401] * 15], token


def test_a_token_expires(instance: OneInstance) -> None:
    access, one_time = (instance.issue("brief", target) for target in ISSUING)
    assert instance.valid(access)
    for token in (access, one_time):
        wait_until(lambda token=token: inspected(instance, token) == {"active": False}, "the token expires", 5)
        assert_refused(WAYS["get"](instance, token), 401, "invalid_token")
        assert_refused(instance.post("/validate", {"token": token, "scope": "admin"}), 401, "invalid_token")
        assert_good(instance.post("/revoke", {"token": token}, basic("brief")), {"message": "Token revoked"})
        assert_good(instance.post("/revoke", {}, bearer(token)), {"message": "Token revoked"})


def test_no_process_remembers_a_token_that_redis_does_not_hold(instance: OneInstance) -> None:
    token = instance.issue()
    assert instance.valid(token)
    assert instance.on_redis(lambda redis: redis.delete(key_of(token))) == 1
    assert not instance.valid(token)
    assert inspected(instance, token) == {"active": False}


def key_of(token: str) -> bytes:
    """Where the token's state is kept."""
    name = KEYS.name(token.encode())
    assert name is not None
    return token_key(name)


# --- /introspect


def inspected(instance: OneInstance, token: str, client_id: str = "app") -> object:
    answer = instance.post("/introspect", {"token": token}, basic(client_id))
    assert answer.status == 200, answer
    return answer.json


@either_kind_of_token
@kinds
def test_any_client_may_introspect_any_token_and_consumes_none(instance: OneInstance, issued_by: str, kind: str) -> None:
    token = instance.issue(target=issued_by)
    for client_id in ("app", "other", "brief"):
        answer = instance.post("/introspect", {"token": token}, basic(client_id), kind=kind)
        assert_good(answer, {"active": True, **members(token, "app", "read write", answer.json["iat"])})
    in_body = {"token": token, "client_id": "other", "client_secret": secret_of("other")}
    assert instance.post("/introspect", in_body, kind=kind).json["active"] is True
    assert instance.valid(token)


def test_what_is_not_alive_is_inactive_and_nothing_more(instance: OneInstance) -> None:
    used, revoked = instance.issue(target="/ott"), instance.issue()
    assert instance.valid(used)
    assert instance.post("/revoke", {"token": revoked}, basic("app")).status == 200
    for token in (used, revoked, *garbage()):
        answer = instance.post("/introspect", {"token": token}, basic("app"))
        assert (answer.status, answer.body) == (200, b'{"active":false}')


@kinds
def test_an_introspect_without_a_token(instance: OneInstance, kind: str) -> None:
    for parameters in ({}, {"token": ""}, {"token_type_hint": "access_token"}):
        assert_refused(instance.post("/introspect", parameters, basic("app"), kind=kind), 400, "invalid_request")


@pytest.mark.parametrize("target", ["/introspect", "/revoke"])
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", "\u00e9", ""])
@kinds
def test_the_type_hint_is_only_a_hint(instance: OneInstance, target: str, hint: str, kind: str) -> None:
    token = instance.issue()
    answer = instance.post(target, {"token": token, "token_type_hint": hint}, basic("app"), kind=kind)
    assert answer.status == 200
    assert instance.valid(token) == (target == "/introspect")


# --- /revoke


@either_kind_of_token
@kinds
@pytest.mark.parametrize("way", ["basic", "body", "bearer", "bearer without body"])
def test_a_revoke_ends_the_token(instance: OneInstance, issued_by: str, kind: str, way: str) -> None:
    token = instance.issue(target=issued_by)

    def revoke() -> Answer:
        if way == "bearer without body":
            return instance.ask("POST", "/revoke", bearer(token))
        if way == "bearer":
            return instance.post("/revoke", {"x": "y"}, bearer(token), kind=kind)
        if way == "basic":
            return instance.post("/revoke", {"token": token}, basic("app"), kind=kind)
        return instance.post("/revoke", {"token": token, "client_id": "app", "client_secret": secret_of("app")}, kind=kind)

    for _ in range(3):
        assert_good(revoke(), {"message": "Token revoked"})
        assert_refused(WAYS["get"](instance, token), 401, "invalid_token")
        assert inspected(instance, token) == {"active": False}


def test_revoking_what_is_no_token_is_no_error(instance: OneInstance) -> None:
    for token in garbage():
        assert_good(instance.post("/revoke", {"token": token}, basic("app")), {"message": "Token revoked"})
        if token.isascii():
            assert_good(instance.post("/revoke", {}, bearer(token)), {"message": "Token revoked"})


@either_kind_of_token
def test_another_clients_token_is_left_alone(instance: OneInstance, issued_by: str) -> None:
    token = instance.issue(target=issued_by)
    for _ in range(2):
        assert_refused(instance.post("/revoke", {"token": token}, basic("other")), 400, "unauthorized_client")
    assert instance.valid(token)


@pytest.mark.parametrize("name", BAD_CLIENTS)
def test_who_does_not_authenticate_revokes_nothing(instance: OneInstance, name: str) -> None:
    token = instance.issue()
    fields, parameters, _ = BAD_CLIENTS[name]
    assert instance.post("/revoke", {"token": token, **parameters}, *fields).status in (400, 401)
    assert instance.valid(token)


@kinds
def test_revokes_that_make_no_sense_have_no_effect(instance: OneInstance, kind: str) -> None:
    token, second = instance.issue(), instance.issue()
    client = {"client_id": "app", "client_secret": secret_of("app")}
    for fields, parameters in (
        ([basic("app")], {}),
        ([basic("app")], {"token": ""}),
        ([], client),
        ([bearer(token)], {"token": token}),
        ([bearer(token)], {"token": second}),
        ([bearer(token)], client),
        ([bearer(token)], {"client_id": "app"}),
        ([bearer(token)], {"client_secret": secret_of("app")}),
        ([bearer(token)], {"token": second, **client}),
    ):
        assert_refused(instance.post("/revoke", parameters, *fields, kind=kind), 400, "invalid_request")
    assert instance.valid(token)
    assert instance.valid(second)


def events(instance: OneInstance) -> int:
    """How many changes of state were ever put into the streams."""

    async def count(redis: RedisClient) -> int:
        return sum([await redis.xlen(stream) for stream in STREAMS])

    return instance.on_redis(count)


def kept(instance: OneInstance, token: str) -> tuple[bytes, int]:
    """What Redis keeps under the token's key, and for how many seconds yet."""

    async def read(redis: RedisClient) -> tuple[bytes, int]:
        return await redis.get(key_of(token)), await redis.ttl(key_of(token))

    return instance.on_redis(read)


def test_the_first_of_used_and_revoked_stays_until_the_tokens_time_is_up(instance: OneInstance) -> None:
    used, revoked = (instance.issue(target="/ott") for _ in range(2))
    assert instance.valid(used)
    assert instance.post("/revoke", {"token": revoked}, basic("app")).status == 200
    tombstones, after = [kept(instance, token) for token in (used, revoked)], events(instance)
    assert [tombstone[:2] for tombstone, _ in tombstones] == [b"1u", b"1r"]
    assert all(100 < seconds <= 120 for _, seconds in tombstones)
    for token in (used, revoked):
        assert_good(instance.post("/revoke", {"token": token}, basic("app")), {"message": "Token revoked"})
        assert_good(instance.post("/revoke", {}, bearer(token)), {"message": "Token revoked"})
        assert not instance.valid(token)
        assert_refused(instance.post("/revoke", {"token": token}, basic("other")), 400, "unauthorized_client")
    assert [kept(instance, token)[0] for token in (used, revoked)] == [tombstone for tombstone, _ in tombstones]
    assert events(instance) == after, "what changes nothing makes no event"


def test_every_change_of_a_token_is_stored_when_it_is_answered(instance: OneInstance) -> None:
    before = events(instance)
    access, one_time = (instance.issue(target=target) for target in ISSUING)
    assert events(instance) == before + 2
    assert instance.valid(access)
    assert inspected(instance, one_time) != {"active": False}
    assert events(instance) == before + 2
    assert instance.valid(one_time)
    assert events(instance) == before + 3
    assert instance.post("/revoke", {"token": access}, basic("app")).status == 200
    assert events(instance) == before + 4


# --- clients that change


def test_a_disabled_clients_tokens_are_refused_until_it_is_enabled(instance: OneInstance) -> None:
    client = client_of("changing", "read")
    instance.put(client)
    kept_token, one_time, thrown_away = instance.issue("changing"), instance.issue("changing", "/ott"), instance.issue("changing")
    instance.put(client_of("changing", "read", revision=2, enabled=False))
    assert_refused(instance.post("/token", GRANT, basic("changing")), 401, "invalid_client")
    assert_refused(instance.post("/introspect", {"token": kept_token}, basic("changing")), 401, "invalid_client")
    assert_refused(instance.post("/revoke", {"token": kept_token}, basic("changing")), 401, "invalid_client")
    for token in (kept_token, one_time):
        assert_refused(WAYS["get"](instance, token), 401, "invalid_token")
        assert inspected(instance, token) == {"active": False}
    assert_good(instance.post("/revoke", {}, bearer(thrown_away)), {"message": "Token revoked"})
    instance.put(client_of("changing", "read", revision=3))
    assert instance.valid(kept_token)
    assert instance.valid(one_time), "a refused validate consumed it"
    assert not instance.valid(thrown_away), "a revoke by Bearer has its effect whatever the state of the client"


def test_retired_secrets_and_revoked_tokens(instance: OneInstance) -> None:
    instance.put(client_of("ageing", "read", secrets=("first", "second")))
    token = instance.post("/token", GRANT, basic("ageing", "first")).json["access_token"]
    instance.put(client_of("ageing", "read", secrets=("second",), revision=2))
    assert_refused(instance.post("/token", GRANT, basic("ageing", "first")), 401, "invalid_client")
    assert instance.valid(token)
    instance.put(client_of("ageing", "read", secrets=("second",), revision=3, epoch=3))
    assert not instance.valid(token), "revoke-tokens ends all tokens issued before"
    assert instance.valid(instance.post("/token", GRANT, basic("ageing", "second")).json["access_token"])
