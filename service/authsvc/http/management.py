"""The management port: liveness, readiness, metrics and profiles, on a second socket of the same workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from authsvc.errors import InvalidRequest, NotFound, Refusal, Unavailable
from authsvc.http.request import accepted_request_id
from authsvc.http.response import Fields, Response, framed, ok, other_method, refused
from authsvc.metrics import CONTENT_TYPE
from authsvc.profiling import KINDS, MOST_SECONDS, Profiling

TEXT_FIELDS = Fields((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
METRICS_FIELDS = Fields((b"content-type", CONTENT_TYPE.encode("ascii")), (b"cache-control", b"no-store"))


class Management:
    """An ASGI app that never asks anything of another server."""

    def __init__(self, not_ready: Callable[[], str | None], render_metrics: Callable[[], bytes], profiling: Profiling) -> None:
        self._not_ready = not_ready
        self._render_metrics = render_metrics
        self._profiling = profiling

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; `not_ready` gives the reason why the process must get no requests, or None."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = accepted_request_id(headers.get(b"x-request-id"))
        try:
            if scope["path"] == "/profile":
                response = await self._profile(scope["method"], scope["query_string"], headers.get(b"authorization"))
            else:
                response = await self._answer(scope["path"], scope["method"])
        except Refusal as refusal:
            response = refused(refusal, request_id)
        await send({"type": "http.response.start", "status": response.status, "headers": framed(response, request_id)})
        await send({"type": "http.response.body", "body": response.body})

    async def _answer(self, path: str, method: str) -> Response:
        if path not in ("/live", "/ready", "/metrics"):
            raise NotFound("There is nothing at this path.")
        if method not in ("GET", "HEAD"):
            return other_method(method, ("GET",))
        if path == "/metrics":
            body = await asyncio.to_thread(self._render_metrics)
            return Response(200, METRICS_FIELDS, body)
        if path == "/ready":
            reason = self._not_ready()
            if reason is not None:
                raise Unavailable(reason)
        return ok(b'{"status":"ok"}')

    async def _profile(self, method: str, query: bytes, authorization: bytes | None) -> Response:
        self._profiling.check(authorization)
        if method not in ("GET", "HEAD"):
            return other_method(method, ("GET",))
        asked = dict(parse_qsl(query.decode("ascii", "replace")))
        kind, text = asked.get("kind", "cpu"), asked.get("seconds", "10")
        if kind not in KINDS:
            raise InvalidRequest("kind must be cpu or memory.")
        if not (text.isdecimal() and len(text) <= 2 and 1 <= int(text) <= MOST_SECONDS):
            raise InvalidRequest(f"seconds must be 1 to {MOST_SECONDS}.")
        stacks = await asyncio.to_thread(self._profiling.take, kind, int(text), threading.get_ident())
        return Response(200, TEXT_FIELDS, stacks.encode())
