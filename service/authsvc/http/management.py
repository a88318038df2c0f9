"""The management port, on a second socket: liveness, readiness, metrics, and profiles and the log level for who knows its secret."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import structlog
from pydantic import SecretStr

from authsvc.errors import InvalidRequest, NotFound, Refusal, Unavailable
from authsvc.http.request import accepted_request_id, loggable
from authsvc.http.response import Fields, Response, framed, ok, other_method, refused
from authsvc.logs import LEVELS, MOST_LEVEL_SECONDS, LogLevel
from authsvc.metrics import CONTENT_TYPE
from authsvc.profiling import KINDS, MOST_SECONDS, Profiling

TEXT_FIELDS = Fields((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
METRICS_FIELDS = Fields((b"content-type", CONTENT_TYPE.encode("ascii")), (b"cache-control", b"no-store"))

log = structlog.get_logger(__name__)


class Management:
    """An ASGI app that never asks anything of another server."""

    def __init__(
        self,
        not_ready: Callable[[], str | None],
        render_metrics: Callable[[], bytes],
        secret: SecretStr | None,
        profiling: Profiling,
        log_level: LogLevel,
    ) -> None:
        self._not_ready = not_ready
        self._render_metrics = render_metrics
        self._secret = None if secret is None else secret.get_secret_value().encode()
        self._profiling = profiling
        self._log_level = log_level

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; `not_ready` gives the reason why the process must get no requests, or None."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = accepted_request_id(headers.get(b"x-request-id"))
        try:
            if scope["path"] in ("/profile", "/log"):
                self._check(headers.get(b"authorization"), scope["path"], request_id)
                method, asked = scope["method"], dict(parse_qsl(scope["query_string"].decode("ascii", "replace")))
                if scope["path"] == "/profile":
                    response = await self._profile(method, asked)
                else:
                    response = self._log(method, asked, request_id)
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

    def _check(self, authorization: bytes | None, path: str, request_id: bytes) -> None:
        """NotFound unless this is `Bearer` and the secret: whoever does not know it learns of nothing, but leaves a line in the log."""
        if self._secret is None or not hmac.compare_digest(authorization or b"", b"Bearer " + self._secret):
            if self._secret is not None:
                log.warning("somebody who does not know the management secret asked", path=path, request_id=loggable(request_id))
            raise NotFound("There is nothing at this path.")

    async def _profile(self, method: str, asked: dict[str, str]) -> Response:
        if method not in ("GET", "HEAD"):
            return other_method(method, ("GET",))
        kind = asked.get("kind", "cpu")
        if kind not in KINDS:
            raise InvalidRequest("kind must be cpu or memory.")
        seconds = _seconds(asked.get("seconds", "10"), MOST_SECONDS)
        stacks = await asyncio.to_thread(self._profiling.take, kind, seconds, threading.get_ident())
        return Response(200, TEXT_FIELDS, stacks.encode())

    def _log(self, method: str, asked: dict[str, str], request_id: bytes) -> Response:
        if method != "PUT":
            return other_method(method, ("PUT",))
        level = asked.get("level", "")
        if level not in LEVELS:
            raise InvalidRequest(f"level must be one of {', '.join(LEVELS)}.")
        seconds = _seconds(asked.get("seconds", ""), MOST_LEVEL_SECONDS)
        tell = partial(log.warning, "another log level was asked for", to=level, seconds=seconds, request_id=loggable(request_id))
        if level == "error":  # after which no warning is written
            tell()
        self._log_level.ask_for(level, seconds)
        if level != "error":
            tell()
        return ok(b'{"level":"%b","seconds":%d}' % (level.encode(), seconds))


def _seconds(text: str, most: int) -> int:
    if not (text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= most):
        raise InvalidRequest(f"seconds must be 1 to {most}.")
    return int(text)
