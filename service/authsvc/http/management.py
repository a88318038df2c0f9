"""The management port: liveness, readiness and metrics, on a second socket of the same workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from authsvc.errors import NotFound, Refusal, Unavailable
from authsvc.http.request import accepted_request_id
from authsvc.http.response import Fields, Response, framed, ok, other_method, refused
from authsvc.metrics import CONTENT_TYPE

METRICS_FIELDS = Fields((b"content-type", CONTENT_TYPE.encode("ascii")), (b"cache-control", b"no-store"))


class Management:
    """An ASGI app that never asks anything of another server."""

    def __init__(self, not_ready: Callable[[], str | None], render_metrics: Callable[[], bytes]) -> None:
        self._not_ready = not_ready
        self._render_metrics = render_metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; `not_ready` gives the reason why the process must get no requests, or None."""
        request_id = accepted_request_id(next((value for name, value in scope["headers"] if name == b"x-request-id"), None))
        try:
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
