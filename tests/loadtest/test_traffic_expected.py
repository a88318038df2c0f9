"""A right answer is right in status and content, whatever was asked; everything else has its kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from traffic import expected
from traffic.expected import Expected

TOKEN = "at_" + "x" * 43
ISSUED = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600, "scope": "read"}
ACTIVE = {"active": True, "valid": True, "client_id": "load", "scope": "read"}
RIGHT: list[tuple[Expected, int, dict[str, Any]]] = [
    (expected.HEALTHY, 200, {"status": "ok"}),
    (expected.issued("at_"), 200, ISSUED),
    (expected.issued("ot_"), 200, ISSUED | {"access_token": "ot_" + "x" * 43, "one_time": True}),
    (expected.active("load"), 200, ACTIVE),
    (expected.described("load"), 200, ACTIVE),
    (expected.REFUSED, 401, {"error": "invalid_token", "error_description": "It is revoked."}),
    (expected.INACTIVE, 200, {"active": False}),
    (expected.REVOKED, 200, {"message": "Token revoked"}),
]


@pytest.mark.parametrize(("right", "status", "answer"), RIGHT)
def test_a_right_answer_is_right_and_right_for_that_question_alone(right: Expected, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    assert right.wrong(status, body) is None
    assert right.wrong(status, b"{}") == f"{status} with wrong content"
    assert right.wrong(status, b"[]") == f"{status} without an object"
    assert right.wrong(status, b"") == f"{status} without JSON"
    assert right.wrong(0, b"") == "no answer"
    assert right.wrong(503, b'{"error":"temporarily_unavailable"}') == "503 temporarily_unavailable"
    assert right.wrong(500, b'{"error":"<what a server likes to say>"}') == f"500 instead of {status}"


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": "ot_" + "x" * 43},
        {"access_token": TOKEN + "x"},
        {"access_token": None},
        {"token_type": "bearer"},
        {"expires_in": "1"},
    ],
)
def test_a_token_must_be_one(change: dict[str, Any]) -> None:
    assert expected.issued("at_").wrong(200, json.dumps(ISSUED | change).encode()) == "200 with wrong content"


def test_a_one_time_token_must_say_so() -> None:
    answer = ISSUED | {"access_token": "ot_" + "x" * 43}
    assert expected.issued("ot_").wrong(200, json.dumps(answer).encode()) == "200 with wrong content"


@pytest.mark.parametrize("change", [{"active": False}, {"valid": False}, {"client_id": "somebody"}])
def test_a_good_token_must_be_ours(change: dict[str, Any]) -> None:
    assert expected.active("load").wrong(200, json.dumps(ACTIVE | change).encode()) == "200 with wrong content"
