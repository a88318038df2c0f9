"""The ASGI front: answers the hot endpoints, refuses what is no request of ours, and hands the rest to FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from itertools import chain
from time import monotonic
from typing import Any

from authsvc.errors import ContentTooLarge, HeaderFieldsTooLarge, InvalidRequest, NotFound
from authsvc.http.endpoints import Endpoints, failed
from authsvc.http.request import MAX_BODY_BYTES, MAX_HEADER_BYTES, SINGLE_HEADERS, Head, Request, accepted_request_id
from authsvc.http.response import JSON, Response, framed, other_method

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCOVERY = "/.well-known/oauth-authorization-server"
PAGES = (DISCOVERY, "/docs", "/openapi.json")
"""What FastAPI answers itself, all by GET."""


class _Disconnected(Exception):
    """The client went away before its request was whole."""


class Front:
    """The public and the management socket of one worker."""

    def __init__(self, endpoints: Endpoints, pages: ASGIApp, management: ASGIApp, management_port: int) -> None:
        self._endpoints = endpoints
        self._pages = pages
        self._management = management
        self._management_port = management_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; the lifespan belongs to whoever wires this."""
        if scope["server"][1] == self._management_port:
            await self._management(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = accepted_request_id(headers.get(b"x-request-id"))
        path, method = scope["path"], scope["method"]
        endpoint = self._endpoints.at(path)
        name, allowed = ("other", ("GET",) if path in PAGES else ()) if endpoint is None else endpoint[:2]
        if method == "HEAD":
            method = "GET"
        failure: Exception | None = None
        try:
            _check_head(scope, headers)
            if not allowed:
                raise NotFound("There is nothing at this path.")
            if method not in allowed:
                response = other_method(method, allowed)
            elif endpoint is None:
                await self._page(scope, receive, send, request_id)
                return
            else:
                body = await _read_body(receive) if b"content-length" in headers or b"transfer-encoding" in headers else b""
                head = Head(method, scope["query_string"], headers.get(b"authorization"), headers.get(b"content-type"))
                response = await self._endpoints.answer(endpoint, Request(head, body, request_id), _arrival(scope), scope["client"])
                await _send(send, response, request_id)
                return
        except _Disconnected:
            return
        except Exception as error:
            failure = error
            response = failed(error, name, request_id)
        self._endpoints.note(name, response, request_id, _arrival(scope), scope["client"], error=failure)
        failure = None  # as in `Endpoints.answer`
        await _send(send, response, request_id)

    async def _page(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = Response(message["status"], JSON, b"")
                self._endpoints.note("other", answer, request_id, _arrival(scope), scope["client"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        await self._pages({**scope, "method": "GET"}, receive, send_with_id)


async def _send(send: Send, response: Response, request_id: bytes) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": framed(response, request_id)})
    await send({"type": "http.response.body", "body": response.body})


def _arrival(scope: Scope) -> float:
    """When the request was whole, which our protocol tells; now, under another server."""
    arrived: float = scope["state"].get("arrived") or monotonic()
    return arrived


def _check_head(scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Refuse a head that is too large, or that says twice what must be said once."""
    fields = scope["headers"]
    if len(headers) != len(fields):
        names = [name for name, _ in fields]
        for name in SINGLE_HEADERS:
            if names.count(name) > 1:
                raise InvalidRequest(f"{name.decode().title()} is given twice.")
    size = len(scope["raw_path"]) + len(scope["query_string"]) + 4 * len(fields)
    if size + sum(map(len, chain.from_iterable(fields))) > MAX_HEADER_BYTES:
        raise HeaderFieldsTooLarge("The header lines are over 32 KiB.")
    if int(headers.get(b"content-length", 0)) > MAX_BODY_BYTES:
        raise ContentTooLarge("The body is over 16 KiB.")


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise ContentTooLarge("The body is over 16 KiB.")
        if not message.get("more_body", False):
            return body
