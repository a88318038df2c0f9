"""What the stack itself asks its servers over HTTP, past any proxy of the machine."""

from __future__ import annotations

import http.client
from base64 import b64encode
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 5.0


def is_ready(management_url: str) -> bool:
    """Whether `/ready` answers 200."""
    return _status(management_url, "GET", "/ready") == 200


def is_healthy(base_url: str) -> bool:
    """Whether `/health` answers 200."""
    return _status(base_url, "GET", "/health") == 200


def metrics(management_url: str, timeout_seconds: float) -> str:
    """What `/metrics` answers; `` if it does not within that time."""
    status, body = _ask(management_url, "GET", "/metrics", timeout_seconds=timeout_seconds)
    return body.decode("utf-8", "replace") if status == 200 else ""


def accepts_client(base_url: str, client_id: str, client_secret: str) -> bool:
    """Whether the client may authenticate; asks about a token that is none, which changes nothing."""
    credentials = b64encode(f"{client_id}:{client_secret}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
    return _status(base_url, "POST", "/introspect", "token=none", headers) == 200


def _status(url: str, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> int:
    """The status of the answer, or 0 if there was none."""
    return _ask(url, method, path, body, headers)[0]


def _ask(
    url: str,
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> tuple[int, bytes]:
    """Status and body of the answer, or 0 and nothing if there was none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
