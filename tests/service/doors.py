"""A small HTTP/1.1 client on keep-alive connections: a test that asks ten thousand times must not be about its client."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit


class Answer(NamedTuple):
    """Status and JSON body of an answer."""

    status: int
    body: Any


class Door:
    """One address that answers; connections are kept and used by one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.url, self._host, self._port = url, parts.hostname, parts.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, data: dict[str, str] | None = None, authorization: str | None = None) -> Answer:
        """POST a form; whatever breaks the connection is raised."""
        body = urlencode(data or {}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\n"
        if authorization is not None:
            head += f"Authorization: {authorization}\r\n"
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        reader, writer = connection
        writer.write(head.encode() + b"\r\n" + body)
        raw = await reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        content = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            await _closed(writer)
        else:
            self._idle.append(connection)
        return Answer(int(lines[0].split(" ")[1]), json.loads(content))

    async def close(self) -> None:
        """Close what is kept."""
        idle, self._idle = self._idle, []
        for _, writer in idle:
            await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def basic(client_id: str, secret: str) -> str:
    """The value of an HTTP Basic Authorization."""
    return "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()
