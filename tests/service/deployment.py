"""A Redis, instances and a writer of one's own, to be brought into trouble, and what can be asked of them."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

from authsvc.live.forms import decode_token
from authsvc.live.keys import STREAMS
from authsvc.model import TokenValue
from servers import RedisServer, ServiceProcess, run_json
from service.one_instance import FORM, GRANT, KEYS, basic, bearer, encoded
from service.wire import Answer, Connection, Field, ask, request

TOKEN_KEY_LENGTH = 24
"""No other key of ours is as long."""


class Deployment:
    """A Redis, instances and a writer over a SQLite file, and two clients: `app`, and `leaver`, who is disabled now and then."""

    def __init__(self, folder: Path, *redis_options: str, instances: int = 1, records: Path | None = None, **settings: str | float) -> None:
        self.redis = RedisServer(folder / "redis", *redis_options)
        self.records = records or folder / "records.db"
        self._folder = folder / "service"
        self._settings: dict[str, str | float] = {
            "records_url": f"sqlite:///{self.records}",
            # A machine that is busy with other tests is not the trouble that is meant.
            "queue_wait_ms": 1000,
            "writer_batch_seconds": 0.1,
            # What the writer had asked for when Redis stood still it can claim only after this.
            "writer_call_timeout_seconds": 1,
            **settings,
        }
        self.instances = [self.process("serve") for _ in range(instances)]
        self.writer = self.process("write")
        self.secrets: dict[str, str] = {}
        self._started: list[ServiceProcess] = []

    def process(self, command: str, redis_port: int | None = None) -> ServiceProcess:
        """One more process of the service, not started."""
        url = f"redis://127.0.0.1:{redis_port or self.redis.port}/0"
        return ServiceProcess(self._folder, command, redis_url=url, **self._settings)

    @property
    def environ(self) -> dict[str, str]:
        """The settings of commands."""
        return {name: value for name, value in self.writer.environ.items() if name not in ("AUTH_PORT", "AUTH_MANAGEMENT_PORT")}

    def start(self) -> Deployment:
        self.redis.start()
        for process in (self.writer, *self.instances):
            self._started.append(process.start())
        with ThreadPoolExecutor() as pool:
            added = pool.map(lambda client_id: run_json(self.environ, "client", "add", client_id, "--scope", "read"), ("app", "leaver"))
            self.secrets = {client["client_id"]: client["client_secret"] for client in added}
        for process in (self.writer, *self.instances):
            process.wait_ready()
        return self

    def stop(self) -> None:
        for process in self._started:
            process.process.send_signal(signal.SIGCONT)
            process.process.send_signal(signal.SIGTERM)
        for process in self._started:
            process.stop()
        self.redis.stop()

    def authorization(self, client_id: str) -> Field:
        """The client's HTTP Basic."""
        return basic(client_id, self.secrets[client_id])

    def issuing(self, target: str, client_id: str = "app") -> bytes:
        """A request for a token."""
        return form(target, GRANT, self.authorization(client_id))

    def issue(self, target: str = "/token", client_id: str = "app") -> str:
        """A fresh token."""
        answer = send(self.instances[0].port, self.issuing(target, client_id))
        assert answer.status == 200, answer
        token: str = answer.json["access_token"]
        return token

    def validate(self, token: str) -> int:
        """The status that the token gets; consumes it if it is a one-time token."""
        return ask(self.instances[0].port, "GET", "/validate", [bearer(token)]).status

    def validate_all(self, tokens: Sequence[str]) -> set[int]:
        """The statuses that tokens get."""
        asking = [request("GET", "/validate", [bearer(token)]) for token in tokens]
        return {answer.status for answer in send_all(self.instances[0].port, asking)}

    def revoke(self, token: str) -> None:
        """End the token."""
        assert ask(self.instances[0].port, "POST", "/revoke", [bearer(token)]).status == 200

    @contextlib.contextmanager
    def redis_client(self) -> Iterator[Any]:
        """A connection to Redis that was there before the trouble."""
        with redis.Redis(port=self.redis.port, socket_timeout=5) as client:
            client.ping()
            yield client

    def waiting_entries(self) -> int:
        """Entries that stand in the streams."""
        with self.redis_client() as client:
            pipe = client.pipeline(transaction=False)
            for stream in STREAMS:
                pipe.xlen(stream)
            return sum(pipe.execute())

    def live_names(self) -> set[bytes]:
        """Names of all tokens that Redis holds, used and revoked ones not counted."""
        with self.redis_client() as client:
            keys = [key for key in client.scan_iter(count=1000) if len(key) == TOKEN_KEY_LENGTH]
            values = client.mget(keys) if keys else []
        return {key[-20:] for key, value in zip(keys, values, strict=True) if value and isinstance(decode_token(value), TokenValue)}

    def rows(self) -> dict[bytes, tuple[bool, bool, bool]]:
        """Every record, by its token's name: whether it is used, revoked, voided."""
        with contextlib.closing(sqlite3.connect(self.records, timeout=30)) as connection:
            found = connection.execute("SELECT jti, used_at, revoked_at, voided_at FROM tokens").fetchall()
        assert len({name for name, *_ in found}) == len(found)
        return {name: (used is not None, revoked is not None, voided is not None) for name, used, revoked, voided in found}


def form(target: str, parameters: Mapping[str, str], *fields: Field) -> bytes:
    """A POST with a form."""
    return request("POST", target, [("Content-Type", FORM), *fields], encoded(parameters, FORM))


def send(port: int, data: bytes) -> Answer:
    """One request, as bytes, on a connection of its own."""
    [answer] = send_all(port, [data])
    return answer


def send_all(port: int, requests: Sequence[bytes]) -> list[Answer]:
    """Requests on one connection, some at a time."""
    answers = []
    with Connection(port) as connection:
        for start in range(0, len(requests), 50):
            part = requests[start : start + 50]
            connection.send(b"".join(part))
            answers += [connection.answer() for _ in part]
    assert None not in answers
    return [answer for answer in answers if answer is not None]


def name_of(token: str) -> bytes:
    """The name of a token's record."""
    name = KEYS.name(token.encode())
    assert name is not None
    return name
