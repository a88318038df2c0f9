"""The family of refusals: each has a status and a code of its own, and words that every header and body can carry."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsvc import errors
from authsvc.errors import OperatorError, RecordRefused, RecordsUnavailable, Refusal, reason_of
from authsvc.metrics import STATUSES

PACKAGE = Path(__file__).parents[2] / "service" / "authsvc"

CONTRACT = {
    "InvalidRequest": (400, "invalid_request"),
    "UnsupportedGrantType": (400, "unsupported_grant_type"),
    "InvalidScope": (400, "invalid_scope"),
    "UnauthorizedClient": (400, "unauthorized_client"),
    "InvalidClient": (401, "invalid_client"),
    "InvalidToken": (401, "invalid_token"),
    "CredentialsMissing": (401, "invalid_request"),
    "InsufficientScope": (403, "insufficient_scope"),
    "NotFound": (404, "not_found"),
    "MethodNotAllowed": (405, "method_not_allowed"),
    "ContentTooLarge": (413, "content_too_large"),
    "UnsupportedMediaType": (415, "unsupported_media_type"),
    "SlowDown": (429, "slow_down"),
    "HeaderFieldsTooLarge": (431, "header_fields_too_large"),
    "ServerError": (500, "server_error"),
    "Unavailable": (503, "temporarily_unavailable"),
}

DESCRIPTION = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+\.")
"""A sentence of the characters that RFC 6749, 5.2 allows in an error_description."""


def family() -> dict[str, type[Refusal]]:
    return {name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, Refusal)}


def descriptions() -> Iterator[tuple[str, str]]:
    """Every description that the code gives a refusal, with where it stands; parts put in later are left out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CONTRACT and node.args:
                parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
                words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                if words:
                    yield f"{path.name}:{node.lineno}", "".join(words)


def test_every_refusal_has_its_status_and_code() -> None:
    refusals = {name: (found.status, found.code) for name, found in family().items() if found is not Refusal}
    assert refusals == CONTRACT


def test_every_status_of_a_refusal_is_counted() -> None:
    assert {found.status for found in family().values()} <= set(STATUSES)


@pytest.mark.parametrize(("name", "scheme"), [("InvalidClient", b"Basic"), ("InvalidToken", b"Bearer"), ("CredentialsMissing", b"Bearer")])
def test_a_401_is_always_challenged(name: str, scheme: bytes) -> None:
    assert family()[name].challenge == scheme
    assert {found.__name__ for found in family().values() if found.status == 401} == {"InvalidClient", "InvalidToken", "CredentialsMissing"}


def test_only_what_may_be_tried_again_says_when() -> None:
    assert {name for name, found in family().items() if found.retry_after_seconds is not None} == {"SlowDown", "Unavailable"}


def test_the_description_is_the_message() -> None:
    refusal = errors.InvalidToken("The token was used.")
    assert refusal.description == str(refusal) == "The token was used."
    assert errors.MethodNotAllowed("No.", "GET, HEAD").allow == "GET, HEAD"


def test_every_description_in_the_code_is_a_sentence_that_a_header_can_carry() -> None:
    found = list(descriptions())
    assert len(found) > 20
    assert {where: text for where, text in found if not DESCRIPTION.fullmatch(text)} == {}


def test_what_an_operator_is_told_is_no_refusal() -> None:
    for error in (OperatorError, RecordsUnavailable, RecordRefused):
        assert issubclass(error, OperatorError)
        assert not issubclass(error, Refusal)


def test_an_error_that_says_nothing_is_told_by_its_kind() -> None:
    assert [reason_of(error) for error in (OSError("Gone."), TimeoutError(), "a text.")] == ["Gone", "TimeoutError", "a text"]
