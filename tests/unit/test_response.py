"""Answers: a refusal's body and headers as the wire contract gives them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc import errors
from authsvc.errors import MethodNotAllowed, Refusal
from authsvc.http.response import Response, ok, refused

REFUSALS: list[type[Refusal]] = sorted(
    (found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Refusal) and found is not MethodNotAllowed),
    key=lambda found: found.__name__,
)
SENTENCE = "This cannot be had."
REQUEST_ID = b"abc-1"


def headers_of(response: Response) -> dict[bytes, bytes]:
    headers = dict(response.headers)
    assert len(headers) == len(response.headers), "no header is given twice"
    return headers


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_has_its_status_and_the_error_body(kind: type[Refusal]) -> None:
    response = refused(kind(SENTENCE), REQUEST_ID)
    assert response.status == kind.status
    assert json.loads(response.body) == {"error": kind.code, "error_description": SENTENCE, "request_id": "abc-1"}
    headers = headers_of(response)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"cache-control"] == b"no-store"


CHALLENGES = {
    "InvalidClient": b'Basic realm="auth"',
    "InvalidToken": b'Bearer error="invalid_token", error_description="This cannot be had."',
    "InsufficientScope": b'Bearer error="insufficient_scope", error_description="This cannot be had."',
    "CredentialsMissing": b"Bearer",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_challenged_as_the_contract_says(kind: type[Refusal]) -> None:
    headers = headers_of(refused(kind(SENTENCE), REQUEST_ID))
    assert headers.get(b"www-authenticate") == CHALLENGES.get(kind.__name__)


@pytest.mark.parametrize("kind", REFUSALS)
def test_retry_after_stands_where_trying_again_helps(kind: type[Refusal]) -> None:
    headers = headers_of(refused(kind(SENTENCE), REQUEST_ID))
    assert headers.get(b"retry-after") == (b"1" if kind.status in (429, 503) else None)


def test_a_refused_method_names_those_that_are_allowed() -> None:
    response = refused(MethodNotAllowed(SENTENCE, "GET, HEAD, OPTIONS"), REQUEST_ID)
    assert response.status == 405
    assert headers_of(response)[b"allow"] == b"GET, HEAD, OPTIONS"
    assert json.loads(response.body)["error"] == "method_not_allowed"


@pytest.mark.parametrize("kind", REFUSALS)
def test_no_other_refusal_names_methods(kind: type[Refusal]) -> None:
    assert b"allow" not in headers_of(refused(kind(SENTENCE), REQUEST_ID))


@given(
    st.sampled_from([kind for kind in REFUSALS if kind.challenge is None]),
    st.text('a"\\/{}\x00\n\x7f\x80é\u2028\ud800\U0001f600', max_size=60),
)
def test_any_description_gives_valid_json(kind: type[Refusal], description: str) -> None:
    response = refused(kind(description), REQUEST_ID)
    assert json.loads(response.body)["error_description"] == description
    assert response.body.isascii()


@given(st.sampled_from(REFUSALS), st.text("abc ,.;:'()/=-_{}<>", max_size=60))
def test_no_header_of_a_refusal_can_be_broken_out_of(kind: type[Refusal], description: str) -> None:
    for _, value in refused(kind(description), REQUEST_ID).headers:
        assert value.count(b'"') in (0, 2, 4)
        assert not set(value) & set(b"\r\n\x00")


def test_a_success_is_json_that_no_cache_keeps() -> None:
    response = ok(b'{"active":true}', (b"x-auth-client", b"orders"))
    assert response.status == 200
    assert response.body == b'{"active":true}'
    assert headers_of(response) == {b"content-type": b"application/json", b"cache-control": b"no-store", b"x-auth-client": b"orders"}
