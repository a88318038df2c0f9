"""Answers: status, headers and body bytes, and the one place where a refusal becomes one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from authsvc.errors import InvalidToken, MethodNotAllowed, Refusal

Header = tuple[bytes, bytes]

JSON_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
CLOSE: Header = (b"connection", b"close")
CLOSE_LINE = b"connection: close\r\n"
REALM = b"auth"
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii")) for status in HTTPStatus}


class Fields(tuple[Header, ...]):
    """Header fields, which many answers share; written out once."""

    lines: bytes
    """As HTTP/1.1."""

    def __new__(cls, *fields: Header) -> Fields:
        made = super().__new__(cls, fields)
        made.lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        return made


class Response(NamedTuple):
    """An answer without its request id, length and date, which the server adds."""

    status: int
    headers: Fields
    body: bytes


JSON = Fields(*JSON_HEADERS)


def ok(body: bytes, *headers: Header) -> Response:
    """A 200 with a JSON body."""
    return Response(200, Fields(*JSON_HEADERS, *headers) if headers else JSON, body)


def framed(response: Response, request_id: bytes) -> list[Header]:
    """The headers with request id and length; a 204 has no length (RFC 9110, 8.6)."""
    headers = [*response.headers, (b"x-request-id", request_id)]
    if response.status != 204:
        headers.append((b"content-length", b"%d" % len(response.body)))
    return headers


def wire_bytes(response: Response, request_id: bytes, default_fields: Sequence[Header], closing: bool = False) -> bytes:
    """An answer as HTTP/1.1; with `closing` it says that the connection ends with it, as a default field may, too."""
    global _default
    status, fields, body = response
    if default_fields is not _default[0]:
        _default = (default_fields, Fields(*default_fields).lines)
    return b"%b%b%bx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        STATUS_LINES[status],
        _default[1],
        fields.lines,
        request_id,
        len(body),
        CLOSE_LINE if closing and CLOSE not in default_fields else b"",
        body,
    )


_default: tuple[Sequence[Header], bytes] = ((), b"")
"""The default fields of the last answer, and their lines: the server makes a new list when they change, each second."""


def other_method(method: str, allowed: tuple[str, ...]) -> Response:
    """The answer to OPTIONS; MethodNotAllowed for what the path does not take. Where GET is allowed, so is HEAD."""
    names = [*allowed, "HEAD"] if "GET" in allowed else list(allowed)
    allow = ", ".join([*names, "OPTIONS"])
    if method == "OPTIONS":
        return Response(204, Fields((b"allow", allow.encode("ascii")), (b"cache-control", b"no-store")), b"")
    raise MethodNotAllowed("The path does not take this method.", allow)


def refused(refusal: Refusal, request_id: bytes) -> Response:
    """The error body and headers of a refusal."""
    headers, body = _refused(type(refusal), refusal.description, refusal.allow if isinstance(refusal, MethodNotAllowed) else "")  # type: ignore[arg-type] # a class is hashable
    # A request id has nothing that JSON would escape.
    return Response(refusal.status, headers, b'%b,"request_id":"%b"}' % (body, request_id))


@lru_cache(1024)
def _refused(kind: type[Refusal], description: str, allow: str) -> tuple[Fields, bytes]:
    """What is the same each time: descriptions are sentences of ours, so there are not many."""
    refusal = MethodNotAllowed(description, allow) if kind is MethodNotAllowed else kind(description)
    headers = JSON_HEADERS
    if refusal.challenge is not None:
        headers += ((b"www-authenticate", _challenge(refusal)),)
    if refusal.retry_after_seconds is not None:
        headers += ((b"retry-after", b"%d" % refusal.retry_after_seconds),)
    if isinstance(refusal, MethodNotAllowed):
        headers += ((b"allow", refusal.allow.encode("ascii")),)
    body = {"error": refusal.code, "error_description": description}
    return Fields(*headers), json.dumps(body, separators=(",", ":")).encode("ascii")[:-1]


def _challenge(refusal: Refusal) -> bytes:
    """`WWW-Authenticate`: bare for a request that tried nothing (RFC 6750, 3.1), else with what went wrong."""
    assert refusal.challenge is not None, "only refusals with a scheme are challenged"
    if refusal.challenge == b"Basic":
        return b'Basic realm="%b"' % REALM
    if isinstance(refusal, InvalidToken) or refusal.status == 403:
        return b'Bearer error="%b", error_description="%b"' % (refusal.code.encode("ascii"), refusal.description.encode("ascii"))
    return b"Bearer"
