"""A strict HTTP/1.1 client over a raw socket: sends bytes as they are, and takes nothing for an answer that is not one."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

ANSWER_SECONDS = 5.0
"""Longest wait for the next byte: whoever waits longer has found a hang."""
Field = tuple[str, str]

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([ -~]*)\r\n")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~]*)\r\n")


class NotHttp(AssertionError):
    """What came back is no HTTP/1.1 answer, or only a part of one."""


@dataclass(frozen=True)
class Answer:
    """One answer: status, fields in their order with names in lower case, and the body with its framing taken off."""

    status: int
    fields: tuple[Field, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The field's value, or None; a field given twice is a defect."""
        values = [value for key, value in self.fields if key == name.lower()]
        assert len(values) <= 1, f"{name} is answered {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, which must be called JSON and be it."""
        assert self.header("content-type") == "application/json"
        return json.loads(self.body)


class Connection:
    """One connection to a server on loopback."""

    def __init__(self, port: int, seconds: float = ANSWER_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Send each part in a packet of its own."""
        for part in parts:
            self.socket.sendall(part)

    def stop_sending(self) -> None:
        """Close our half; the server's is still open."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, method: str = "GET") -> Answer | None:
        """The next answer to a request of this method; None if the server hung up instead. Interim answers are answers too."""
        if not self._held and not self._receive():
            return None
        found = self._line(_STATUS_LINE)
        status = int(found[1])
        fields = []
        while not self._at_empty_line():
            name, value = self._line(_FIELD_LINE).groups()
            fields.append((name.decode("ascii").lower(), value.decode("ascii").strip()))
        self._take(2)
        answer = Answer(status, tuple(fields), b"")
        if method == "HEAD" or status < 200 or status in (204, 304):
            return answer
        return Answer(status, answer.fields, self._body(answer))

    def rest(self) -> bytes:
        """Everything until the server hangs up."""
        while self._receive():
            pass
        return self._take(len(self._held))

    def _body(self, head: Answer) -> bytes:
        length, coding = head.header("content-length"), head.header("transfer-encoding")
        if coding is None:
            assert length is not None, "an answer that only ends with its connection"
            return self._take(int(length))
        assert (coding, length) == ("chunked", None)
        body = b""
        while size := int(self._line(re.compile(rb"([0-9A-Fa-f]+)\r\n"))[1], 16):
            body += self._take(size)
            self._line(re.compile(rb"\r\n"))
        self._line(re.compile(rb"\r\n"))
        return body

    def _at_empty_line(self) -> bool:
        while len(self._held) < 2 and self._receive():
            pass
        return self._held.startswith(b"\r\n")

    def _receive(self) -> bool:
        data = self.socket.recv(65536)
        self._held += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            if not self._receive():
                raise NotHttp(f"the server hung up within an answer: {self._held[:200]!r}")
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _line(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        while b"\r\n" not in self._held:
            if not self._receive():
                raise NotHttp(f"the server hung up within an answer: {self._held[:200]!r}")
        found = pattern.match(self._held)
        if found is None:
            raise NotHttp(f"not a line of an answer: {self._held[:200]!r}")
        self._take(found.end())
        return found


def request(method: str, target: str, fields: Sequence[Field] = (), body: bytes | None = None) -> bytes:
    """A request as it goes over the wire; `Host` and, with a body, `Content-Length` are added."""
    lines = [f"{method} {target} HTTP/1.1", "Host: auth.test", *(f"{name}: {value}" for name, value in fields)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def ask(port: int, method: str, target: str, fields: Sequence[Field] = (), body: bytes | None = None) -> Answer:
    """One request on a connection of its own; there must be an answer."""
    with Connection(port) as connection:
        connection.send(request(method, target, fields, body))
        answer = connection.answer(method)
        assert answer is not None, "the server hung up without an answer"
        return answer
