"""The ASGI front: answers the hot endpoints, refuses what is no request of ours, and hands the rest to FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from authsvc.errors import ContentTooLarge, HeaderFieldsTooLarge, InvalidRequest, NotFound, Refusal, ServerError
from authsvc.http.handlers import Handler, Handlers
from authsvc.http.request import MAX_BODY_BYTES, MAX_HEADER_BYTES, Request, accepted_request_id
from authsvc.http.response import Response, framed, other_method, refused
from authsvc.metrics import Counts
from authsvc.promise import drive

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCOVERY = "/.well-known/oauth-authorization-server"
PAGES = (DISCOVERY, "/docs", "/openapi.json")
"""What FastAPI answers itself, all by GET."""

log = structlog.get_logger(__name__)


class _Disconnected(Exception):
    """The client went away before its request was whole."""


class Head:
    """What the front needs of a request head."""

    __slots__ = ("authorization", "content_length", "content_type", "has_body", "problem", "request_id")

    def __init__(self, scope: Scope) -> None:
        self.authorization: bytes | None = None
        self.content_type: bytes | None = None
        self.content_length = 0
        self.has_body = False
        self.problem: Refusal | None = None
        given_id = None
        size = len(scope["raw_path"]) + len(scope["query_string"])
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            if name == b"authorization":
                if self.authorization is not None:
                    self.problem = InvalidRequest("Authorization is given twice.")
                self.authorization = value
            elif name == b"content-type":
                if self.content_type is not None:
                    self.problem = InvalidRequest("Content-Type is given twice.")
                self.content_type = value
            elif name == b"content-length":
                self.has_body = True
                self.content_length = int(value)
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name == b"x-request-id":
                given_id = value
        self.request_id = accepted_request_id(given_id)
        if size > MAX_HEADER_BYTES:
            self.problem = HeaderFieldsTooLarge("The header lines are over 32 KiB.")
        elif self.content_length > MAX_BODY_BYTES:
            self.problem = ContentTooLarge("The body is over 16 KiB.")


class Front:
    """The public and the management socket of one worker."""

    def __init__(
        self,
        handlers: Handlers,
        pages: ASGIApp,
        management: ASGIApp,
        management_port: int,
        counts: Counts,
        access_log: bool,
    ) -> None:
        self._hot: dict[str, tuple[str, tuple[str, ...], Handler]] = {
            "/token": ("token", ("POST",), handlers.token),
            "/ott": ("ott", ("POST",), handlers.ott),
            "/validate": ("validate", ("GET", "POST"), handlers.validate),
            "/introspect": ("introspect", ("POST",), handlers.introspect),
            "/revoke": ("revoke", ("POST",), handlers.revoke),
            "/health": ("health", ("GET",), handlers.health),
        }
        self._pages = pages
        self._management = management
        self._management_port = management_port
        self._counts = counts
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; the lifespan belongs to whoever wires this."""
        if scope["server"][1] == self._management_port:
            await self._management(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        head = Head(scope)
        endpoint, allowed, handler = self._hot.get(path) or ("other", ("GET",) if path in PAGES else (), None)
        if method == "HEAD":
            method = "GET"
        try:
            if head.problem is not None:
                raise head.problem
            if not allowed:
                raise NotFound("There is nothing at this path.")
            if method not in allowed:
                response = other_method(method, allowed)
            elif handler is None:
                await self._page(scope, receive, send, head.request_id)
                return
            else:
                body = await _read_body(receive) if head.has_body else b""
                response = await _drive(handler, Request(method, scope["query_string"], head.authorization, head.content_type, body))
        except Refusal as refusal:
            response = refused(refusal, head.request_id)
        except _Disconnected:
            return
        except Exception:
            log.exception("a request failed", endpoint=endpoint, request_id=head.request_id.decode("ascii"))
            response = refused(ServerError("This is a defect of the service; its log has the details."), head.request_id)
        await self._answer(send, endpoint, response, head.request_id)

    async def _answer(self, send: Send, endpoint: str, response: Response, request_id: bytes) -> None:
        status = response.status
        self._counts.requests[endpoint, status] += 1
        if self._access_log:
            log.info("request", endpoint=endpoint, status=status, request_id=request_id.decode("ascii"))
        await send({"type": "http.response.start", "status": status, "headers": framed(response, request_id)})
        await send({"type": "http.response.body", "body": response.body})

    async def _page(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.requests["other", message["status"]] += 1
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        await self._pages({**scope, "method": "GET"}, receive, send_with_id)


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


async def _drive(handler: Handler, request: Request) -> Response:
    """Run a handler; a future is made only for one that has to wait."""
    future: asyncio.Future[Response] | None = None
    outcome: list[Any] = []

    def done(response: Response | None, error: Exception | None) -> None:
        if future is None:
            outcome.extend((response, error))
        elif not future.done():
            if error is None:
                assert response is not None, "a handler returns a response or raises"
                future.set_result(response)
            else:
                future.set_exception(error)

    drive(handler(request), done)
    if not outcome:
        future = asyncio.get_running_loop().create_future()
        return await future
    response, error = outcome
    if error is not None:
        raise error
    assert isinstance(response, Response), "a handler returns a response or raises"
    return response
