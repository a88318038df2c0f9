"""A Redis, instances and a writer of one's own, over SQLite or Oracle, to be brought into trouble, and what can be asked of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

from authsvc.commands.export import export_text
from authsvc.commands.records import pages
from authsvc.live.forms import decode_token
from authsvc.live.keys import STREAMS
from authsvc.model import TokenRecord, TokenValue
from authsvc.records.connect import connect_store
from contract.record_stores import OracleDatabase
from servers import TOKEN_KEY, RedisServer, ServiceProcess, run_command, run_json, wait_until
from service.ledger import Ledger, Load, ask_about_everything, discrepancies, live_state
from service.one_instance import FORM, GRANT, KEYS, basic, bearer, client_of, encoded
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

    def start_redis(self) -> None:
        self.redis.start()

    def stop_redis(self) -> None:
        self.redis.stop()

    def start(self) -> Deployment:
        self.start_redis()
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
        self.stop_redis()

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

    def acknowledged_entries(self) -> int:
        """Entries that were taken out of the streams since the beginning."""
        with self.redis_client() as client:
            streams = [client.xinfo_stream(stream) for stream in STREAMS]
        return sum(stream["entries-added"] - stream["length"] for stream in streams)

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


class SpoilingProxy:
    """A proxy to Oracle that, while `spoils`, makes the password of every logon a wrong one, and while `stalls` lets none through."""

    def __init__(self, database: OracleDatabase) -> None:
        self.spoils = self.stalls = False
        self._target = database.host, database.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those that there are end with their ends."""
        with self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        if self.stalls:
            with client, contextlib.suppress(OSError):
                while client.recv(65536):
                    pass
            return
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(_spoilt(data) if self.spoils else data)
        # Whichever way it ended, the other end must hear of it.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _spoilt(data: bytes) -> bytes:
    """With another digit in the middle of a password that goes over the wire, if there is one."""
    password = re.search(rb"AUTH_PASSWORD[^0-9A-F]+[0-9A-F]{40}", data)
    if password is None:
        return data
    place = password.end() - 1
    return data[:place] + (b"1" if data[place : place + 1] == b"0" else b"0") + data[place + 1 :]


class OracleDeployment(Deployment):
    """One instance and a writer over Oracle, behind a proxy, with the password in a file and clients that nobody used before."""

    def __init__(self, folder: Path, database: OracleDatabase, clients: int = 40, **settings: str | float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = database
        self.proxy = SpoilingProxy(database)
        self.password_file = folder / "password"
        self.password_file.write_text(database.password)
        self._clients_file = folder / "clients.json"
        self._client_ids = iter([f"load-{number}" for number in range(clients)])
        clients_of_loads = [client_of(f"load-{number}", "read", one_time_ttl_seconds=3600) for number in range(clients)]
        self._clients_file.write_text(export_text(clients_of_loads))
        over_oracle: dict[str, str | float] = {
            "records_url": f"oracle://{database.user}@127.0.0.1:{self.proxy.port}/{database.service}",
            "records_password_file": str(self.password_file),
            "writer_batch_seconds": 0.2,
            "writer_call_timeout_seconds": 3,
            # Redis is no part of what goes wrong here.
            "redis_timeout_ms": 5000,
            "mirror_interval_seconds": 0.5,
        }
        super().__init__(folder, **{**over_oracle, **settings})

    def start(self) -> OracleDeployment:
        self.database.prepare()
        super().start()
        done = run_command(self.environ, "client", "import", str(self._clients_file))
        assert done.returncode == 0, done.stderr
        return self

    def stop(self) -> None:
        super().stop()
        self.proxy.close()

    @property
    def doors(self) -> list[int]:
        return [instance.port for instance in self.instances]

    def load(self, callers: int = 4) -> Load:
        """A load by a client that nobody used before."""
        return Load(Ledger(next(self._client_ids), TOKEN_KEY), self.doors, callers, 0.005)

    def complaints(self) -> list[str]:
        """Why batches had to wait, one for each time."""
        return [line["error"] for line in self.writer.log_lines() if line["event"] == "a batch waits"]

    def wait_for_complaints(self, count: int, saying: str = "") -> None:
        """Wait until so many more batches had to wait, for a reason with these words."""
        known = len(self.complaints())

        def waited() -> bool:
            self.writer.assert_runs()
            return sum(saying in why for why in self.complaints()[known:]) >= count

        # One that waited just before this is tried again after its pause, and complains again only then.
        wait_until(waited, f"{count} batches wait: {saying}", 90)

    def names(self, client_id: str) -> list[bytes]:
        """The names of the client's tokens, one for each row."""
        found = self.database.plain_sql(f"SELECT jti FROM tokens WHERE client_id = '{client_id}'")
        return [name for (name,) in found if isinstance(name, bytes)]

    def record_state(self, client_id: str) -> dict[bytes, TokenRecord]:
        """What the record store says of the client's tokens, by their names."""
        names = self.names(client_id)
        assert len(set(names)) == len(names), "a token has two rows"

        async def read() -> dict[bytes, TokenRecord]:
            store = connect_store(self.database.url, 30)
            try:
                found = {record.name: record async for page in pages(store, client_id, 0) for record in page}
            finally:
                await store.close()
            assert found.keys() == set(names)
            return found

        return asyncio.run(read())

    def assert_kept(self, ledger: Ledger) -> None:
        """No answer was lost, and after the backlog is drained every token of the ledger has its one row in the state that was answered."""
        self.writer.wait_ready()
        ask_about_everything(ledger, self.doors)
        wait_until(lambda: self.waiting_entries() == 0, "the backlog is drained")
        assert not ledger.lost, ledger.lost_because.most_common(5)
        found = discrepancies(ledger, live_state(self.redis.port, ledger.client_id), self.record_state(ledger.client_id))
        assert not found, f"{len(found)} of {len(ledger.tokens)}: {found[:5]}"


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
