"""Heads: what the head of a plain request means, kept by its bytes, so that a head that was seen before is not parsed again.

A bearer token and a request id differ in every request, so they are cut out before the head is looked up. Most callers and
balancers send the same bytes for all the rest, and parsing a head costs more than everything else that we do with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import httptools

from authsvc.credentials import TOKEN_LENGTH
from authsvc.http.endpoints import Endpoint
from authsvc.http.request import MAX_BODY_BYTES, SINGLE_HEADERS, Head

MOST_HEADS = 4096
"""Heads kept; then all are forgotten, which costs each a parse and bounds the memory at some ten MiB."""
LONGEST_HEAD = 2048
"""Bytes of a head worth keeping; longer ones take the other way."""

_TOKENS = (b"\r\nAuthorization: Bearer ", b"\r\nauthorization: Bearer ")
_REQUEST_IDS = (b"\r\nX-Request-Id: ", b"\r\nx-request-id: ", b"\r\nX-Request-ID: ")
_TOKEN_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_OTHER_WAY = frozenset((b"expect", b"transfer-encoding", b"upgrade", b"trailer"))
"""Fields that ask for more than an answer."""


class PlainHead(NamedTuple):
    """The head of a request that asks a hot endpoint for an answer and for nothing else."""

    endpoint: Endpoint
    head: Head
    body_bytes: int


class Heads:
    """The heads of one worker; `endpoint_at` knows the paths."""

    def __init__(self, endpoint_at: Callable[[str], Endpoint | None]) -> None:
        self._endpoint_at = endpoint_at
        self._known: dict[bytes, PlainHead | None] = {}

    def read(self, head: bytes) -> tuple[PlainHead, bytes | None, bytes | None] | None:
        """A head up to its empty line: what it means, its bearer token and its request id; None if it is not plain."""
        plain = self._known.get(head)
        if plain is not None:
            return plain, None, None
        if len(head) > LONGEST_HEAD:
            return None
        request_id = token = None
        # One look for each tells of most heads that there is nothing to cut.
        if b"equest-I" in head or b"equest-i" in head:
            head, request_id = _cut(head, _REQUEST_IDS, _REQUEST_ID)
        start = head.find(b"Bearer ") + 7
        if start > 6:
            end = start + TOKEN_LENGTH
            found = head[start:end]
            if head[end : end + 2] == b"\r\n" and head[start - 24 : start] in _TOKENS and not found.translate(None, _TOKEN_CHARACTERS):
                # A token of ours, with the field's name as most write it: cut in one go.
                head, token = head[:start] + head[end:], found
            else:
                head, token = _cut(head, _TOKENS, _TOKEN)
        try:
            plain = self._known[head]
        except KeyError:
            plain = self._learn(head)
        return None if plain is None else (plain, token, request_id)

    def _learn(self, head: bytes) -> PlainHead | None:
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        plain = self._known[head] = self._parse(head)
        return plain

    def _parse(self, head: bytes) -> PlainHead | None:
        seen = _Seen()
        parser = httptools.HttpRequestParser(seen)
        try:
            parser.feed_data(head)
            url = httptools.parse_url(seen.url)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        fields = dict(seen.fields)
        # Whatever is said twice, the other way knows what it means.
        if not seen.is_one_head or len(fields) < len(seen.fields) or not _OTHER_WAY.isdisjoint(fields):
            return None
        if parser.get_http_version() != "1.1" or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        endpoint = self._endpoint_at((url.path or b"").decode("latin-1"))
        method = parser.get_method().decode("ascii")
        body_bytes = int(fields.get(b"content-length", 0))
        if endpoint is None or method not in endpoint.methods or body_bytes > MAX_BODY_BYTES:
            return None
        authorization, content_type = (fields.get(name) for name in SINGLE_HEADERS)
        return PlainHead(endpoint, Head(method, url.query or b"", authorization, content_type), body_bytes)


class _Seen:
    """What httptools finds in a head."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self._begun = self._complete = 0

    @property
    def is_one_head(self) -> bool:
        """Whether it was a whole head and not a second one behind it."""
        return self._begun == self._complete == 1

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._complete += 1


def _cut(head: bytes, beginnings: tuple[bytes, ...], value: re.Pattern[bytes]) -> tuple[bytes, bytes | None]:
    """Cut the value out that follows one of the beginnings, if it is well-formed: then nothing but that field depends on it."""
    for beginning in beginnings:
        start = head.find(beginning)
        if start >= 0:
            start += len(beginning)
            end = head.find(b"\r\n", start)
            found = head[start:end]
            if value.fullmatch(found):
                return head[:start] + head[end:], found
            return head, None
    return head, None
