"""The ASGI front: answers the hot endpoints, refuses what is no request of ours, and hands the rest to FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from itertools import chain
from time import monotonic
from typing import Any

import structlog

from authsvc.admission import Admission
from authsvc.errors import ContentTooLarge, HeaderFieldsTooLarge, InvalidRequest, NotFound, Refusal, ServerError
from authsvc.http.handlers import Handler, Handlers
from authsvc.http.request import MAX_BODY_BYTES, MAX_HEADER_BYTES, Request, accepted_request_id
from authsvc.http.response import Response, framed, other_method, refused
from authsvc.metrics import Counts

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCOVERY = "/.well-known/oauth-authorization-server"
PAGES = (DISCOVERY, "/docs", "/openapi.json")
"""What FastAPI answers itself, all by GET."""

SINGLE_HEADERS = (b"authorization", b"content-type")

log = structlog.get_logger(__name__)


class _Disconnected(Exception):
    """The client went away before its request was whole."""


class Front:
    """The public and the management socket of one worker."""

    def __init__(
        self,
        handlers: Handlers,
        pages: ASGIApp,
        management: ASGIApp,
        management_port: int,
        counts: Counts,
        admission: Admission,
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
        self._admission = admission
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; the lifespan belongs to whoever wires this."""
        if scope["server"][1] == self._management_port:
            await self._management(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = accepted_request_id(headers.get(b"x-request-id"))
        path, method = scope["path"], scope["method"]
        endpoint, allowed, handler = self._hot.get(path) or ("other", ("GET",) if path in PAGES else (), None)
        if method == "HEAD":
            method = "GET"
        try:
            _check_head(scope, headers)
            if not allowed:
                raise NotFound("There is nothing at this path.")
            if method not in allowed:
                response = other_method(method, allowed)
            elif handler is None:
                await self._page(scope, receive, send, request_id)
                return
            else:
                has_body = b"content-length" in headers or b"transfer-encoding" in headers
                body = await _read_body(receive) if has_body else b""
                query, authorization, content_type = scope["query_string"], headers.get(b"authorization"), headers.get(b"content-type")
                response = await self._handle(scope, handler, Request(method, query, authorization, content_type, body))
        except Refusal as refusal:
            response = refused(refusal, request_id)
        except _Disconnected:
            return
        except Exception:
            log.exception("a request failed", endpoint=endpoint, request_id=request_id.decode("ascii"))
            response = refused(ServerError("This is a defect of the service; its log has the details."), request_id)
        await self._answer(scope, send, endpoint, response, request_id)

    async def _handle(self, scope: Scope, handler: Handler, request: Request) -> Response:
        """Work on a whole request, when it is its turn."""
        turn = self._admission.enter(_arrival(scope))
        if turn is not None:
            await turn
        try:
            return await handler(request)
        finally:
            # Not later: whoever reads his answer slowly takes no place.
            self._admission.leave()

    async def _answer(self, scope: Scope, send: Send, endpoint: str, response: Response, request_id: bytes) -> None:
        status = response.status
        self._counts.requests[endpoint, status] += 1
        self._counts.durations[endpoint].add(monotonic() - _arrival(scope))
        if self._access_log:
            log.info("request", endpoint=endpoint, status=status, request_id=request_id.decode("ascii"))
        await send({"type": "http.response.start", "status": status, "headers": framed(response, request_id)})
        await send({"type": "http.response.body", "body": response.body})

    async def _page(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.requests["other", message["status"]] += 1
                self._counts.durations["other"].add(monotonic() - _arrival(scope))
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        await self._pages({**scope, "method": "GET"}, receive, send_with_id)


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
