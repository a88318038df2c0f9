"""Reference: an ASGI app that does nothing on uvicorn, the least that any ASGI app can cost."""

from __future__ import annotations

from typing import Any

from bench.canned import BODY

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer the canned body without looking at the request."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
