"""The requests of a bench: as bytes, with the tokens that they present put straight into Redis."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import redis

from authsvc.credentials import TokenKeys
from authsvc.live.forms import encode_token
from authsvc.live.keys import token_key
from authsvc.model import Kind, TokenValue
from bench.bed import CLIENT_ID, EPOCH, INCARNATION, KEY

FORM = "application/x-www-form-urlencoded"
SCOPE = "read write"
TTL_SECONDS = 3600


def service_tokens(port: int, kind: Kind, number: int) -> list[str]:
    """Tokens of the service's own, stored as an issue stores them."""
    keys, now = TokenKeys(KEY.encode()), int(time.time())
    value = encode_token(TokenValue(kind, INCARNATION, CLIENT_ID, EPOCH, SCOPE, now, TTL_SECONDS))
    made = [keys.new(kind) for _ in range(number)]
    _store(port, 0, ((token_key(name), value) for _, name in made))
    return [token.decode("ascii") for token, _ in made]


def plain_tokens(port: int, kind: Kind, number: int) -> list[str]:
    """Tokens of the plain FastAPI routes."""
    now = int(time.time())
    value = {"client_id": CLIENT_ID, "scope": SCOPE, "iat": now, "exp": now + TTL_SECONDS, "one_time": kind is Kind.ONE_TIME}
    made = ["at_" + secrets.token_urlsafe(24) for _ in range(number)]
    text = json.dumps(value).encode()
    _store(port, 1, ((plain_name(token).encode(), text) for token in made))
    return made


def plain_name(token: str) -> str:
    """The name under which the plain routes store a token."""
    return hashlib.blake2b(token.encode(), key=KEY.encode(), digest_size=20).hexdigest()


def _store(port: int, database: int, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    with redis.Redis(port=port, db=database) as client:
        pipe = client.pipeline(transaction=False)
        for key, value in pairs:
            pipe.set(key, value, ex=TTL_SECONDS)
        pipe.execute()


def request(method: str, path: str, *, authorization: str = "", id_number: int | None = None, **form: str) -> bytes:
    """One request as a client sends it; with a request id of its own where it is numbered."""
    body = "&".join(f"{name}={value}" for name, value in form.items()).encode()
    fields = ["Host: 127.0.0.1:8080"]
    if authorization:
        fields.append(f"Authorization: {authorization}")
    if id_number is not None:
        fields.append(f"X-Request-Id: bench-{id_number}")
    if form:
        fields.append(f"Content-Type: {FORM}")
    if method == "POST":
        fields.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""])
    return head.encode() + body


def write(requests: list[bytes], file: Path) -> Path:
    """A file as load.lua reads it."""
    file.write_bytes(b"".join(b"%d\n%b" % (len(each), each) for each in requests))
    return file
