"""One real instance over a real Redis with a few clients in its directory: no record store, no writer, no nginx."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

from authsvc.credentials import TokenKeys, secret_digest
from authsvc.live.connect import RedisClient, connect_redis
from authsvc.live.mirror import Mirror, Put
from authsvc.model import Client, Secret
from authsvc.settings import read_settings
from servers import TOKEN_KEY, RedisServer, ServiceProcess, running
from service.wire import Answer, Field, ask

T = TypeVar("T")

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
GRANT = {"grant_type": "client_credentials"}
ISSUING = ("/token", "/ott")
AUTHENTICATED = (*ISSUING, "/introspect", "/revoke")
HOT_POST = (*AUTHENTICATED, "/validate")
KEYS = TokenKeys(TOKEN_KEY.encode())


def client_of(client_id: str, *scopes: str, secrets: Sequence[str] = (), revision: int = 1, **more: Any) -> Client:
    """A client whose only secret is `<id>-secret` unless others are given."""
    texts = secrets or (f"{client_id}-secret",)
    return Client(client_id, scopes, tuple(Secret(secret_digest(text.encode()), 1) for text in texts), revision=revision, **more)


CLIENTS = (
    client_of("app", "read", "write"),
    client_of("other", "read"),
    client_of("off", "read", enabled=False),
    client_of("turning", "read", secrets=("older-secret", "newer-secret")),
    client_of("brief", "read", access_ttl_seconds=1, one_time_ttl_seconds=1),
    client_of("odd", "read", secrets=("p%:+& \u00e9/",)),
    client_of("long", *(f"scope-{number:02d}:{'x' * 55}" for number in range(32)), access_ttl_seconds=2592000),
)


def secret_of(client_id: str) -> str:
    """The secret of a client that was made with none given."""
    return f"{client_id}-secret"


def basic(client_id: str, secret: str | None = None) -> Field:
    """HTTP Basic as RFC 6749, 2.3.1 says: both halves are form-encoded first."""
    halves = f"{quote_plus(client_id)}:{quote_plus(secret if secret is not None else secret_of(client_id))}"
    return "Authorization", f"Basic {b64encode(halves.encode()).decode()}"


def bearer(token: str) -> Field:
    """The token in the header (RFC 6750, 2.1)."""
    return "Authorization", f"Bearer {token}"


def authorization(value: str) -> Field:
    """The header with any scheme, or none."""
    return "Authorization", value


def encoded(parameters: Mapping[str, str], kind: str) -> bytes:
    """Parameters as the body of this content type."""
    return (urlencode(parameters) if kind == FORM else json.dumps(parameters)).encode()


class OneInstance:
    """A running instance and the ways to ask it."""

    def __init__(self, redis: RedisServer, process: ServiceProcess) -> None:
        self.redis = redis
        self.process = process
        self.port = process.port
        self.management_port = process.management_port

    def ask(self, method: str, target: str, *fields: Field, body: bytes | None = None) -> Answer:
        """A request to the public port."""
        return ask(self.port, method, target, fields, body)

    def manage(self, method: str, target: str, *fields: Field) -> Answer:
        """A request to the management port."""
        return ask(self.management_port, method, target, fields)

    def post(self, target: str, parameters: Mapping[str, str], *fields: Field, kind: str = FORM) -> Answer:
        """A POST with parameters, as a form or as JSON."""
        return self.ask("POST", target, ("Content-Type", kind), *fields, body=encoded(parameters, kind))

    def issue(self, client_id: str = "app", target: str = "/token", **parameters: str) -> str:
        """A fresh token of the client."""
        answer = self.post(target, {"grant_type": "client_credentials", **parameters}, basic(client_id))
        assert answer.status == 200, answer
        token: str = answer.json["access_token"]
        return token

    def valid(self, token: str) -> bool:
        """Whether the token validates; consumes it if it is a one-time token."""
        answer = self.ask("GET", "/validate", bearer(token))
        assert answer.status in (200, 401), answer
        return answer.status == 200

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics` by its name and labels."""
        lines = self.manage("GET", "/metrics").body.decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def on_redis(self, use: Callable[[RedisClient], Awaitable[T]]) -> T:
        """Look into the shared store, or change it, over a connection of its own."""

        async def run() -> T:
            redis = connect_redis(read_settings({"AUTH_REDIS_URL": self.redis.url}))
            try:
                return await use(redis)
            finally:
                await redis.aclose()

        return asyncio.run(run())

    def build_mirror(self) -> None:
        """Make the mirror of CLIENTS."""

        async def build(redis: RedisClient) -> None:
            assert await Mirror(redis).build(CLIENTS, 1, "identity") is not None

        self.on_redis(build)

    def put(self, client: Client) -> None:
        """Change a client and have it in force everywhere before this returns."""

        async def put(redis: RedisClient) -> None:
            mirror = Mirror(redis)
            [result] = await mirror.put([client])
            assert result.outcome is Put.DONE
            assert await mirror.raise_versions(result.version)

        self.on_redis(put)

    @contextlib.contextmanager
    def beside(self, folder: Path, **settings: str | int | float) -> Iterator[OneInstance]:
        """Another instance over the same Redis; ended afterwards."""
        process = ServiceProcess(folder, "serve", redis_url=self.redis.url, issuer="http://auth.test", **settings).start()
        with running(process):
            process.wait_ready()
            yield OneInstance(self.redis, process)

    def log(self) -> str:
        """All that the process has logged."""
        return self.process.log_file.read_text()


@contextlib.contextmanager
def one_instance(folder: Path, **settings: str | int | float) -> Iterator[OneInstance]:
    """An instance that is ready, with CLIENTS in its directory; ended afterwards."""
    with starting_instance(folder, **settings) as instance:
        instance.build_mirror()
        instance.process.wait_ready()
        yield instance


@contextlib.contextmanager
def starting_instance(folder: Path, **settings: str | int | float) -> Iterator[OneInstance]:
    """An instance that starts over an empty Redis; ended afterwards."""
    redis = RedisServer(folder / "redis").start()
    with running(redis):
        process = ServiceProcess(folder / "service", "serve", redis_url=redis.url, issuer="http://auth.test", **settings).start()
        with running(process):
            yield OneInstance(redis, process)


def assert_refused(answer: Answer, status: int, error: str) -> None:
    """The error family: exactly three members, the request id in body and header, and the headers that go with the status."""
    assert (answer.status, answer.json.get("error")) == (status, error), answer
    assert list(answer.json) == ["error", "error_description", "request_id"]
    assert re.fullmatch(r"[A-Za-z][ -~]*\.", answer.json["error_description"])
    assert answer.json["request_id"] == answer.header("x-request-id")
    assert answer.header("cache-control") == "no-store"
    assert answer.header("www-authenticate") == challenge(answer, status, error)
    assert answer.header("retry-after") == ("1" if status in (429, 503) else None)
    assert (answer.header("allow") is not None) == (status == 405)


def challenge(answer: Answer, status: int, error: str) -> str | None:
    """The `WWW-Authenticate` that is due."""
    if error == "invalid_client":
        return 'Basic realm="auth"'
    if error in ("invalid_token", "insufficient_scope"):
        return f'Bearer error="{error}", error_description="{answer.json["error_description"]}"'
    return "Bearer" if status == 401 else None


def assert_good(answer: Answer, body: Mapping[str, object]) -> None:
    """A 200 with exactly these members in this order."""
    assert answer.status == 200, answer
    assert list(answer.json.items()) == list(body.items())
    assert answer.header("cache-control") == "no-store"
    assert answer.header("x-request-id")
    assert answer.header("www-authenticate") is None
