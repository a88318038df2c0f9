"""A writer whose clients are kept in a file, beside an instance: what the file says is in force, and it ends no token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from authsvc.commands.clients_file import ClientsFile
from authsvc.errors import OperatorError
from contract.record_stores import SqliteDatabase
from servers import RedisServer, ServiceProcess, run_command, run_json, running, wait_until
from service.one_instance import GRANT, OneInstance, basic, secret_of
from service.wire import ask


def exported(client_id: str, *scopes: str, **changes: Any) -> dict[str, Any]:
    digest = b64encode(sha256(secret_of(client_id).encode()).digest()).decode()
    client = {"client_id": client_id, "scopes": scopes, "enabled": True, "secrets": [{"sha256": digest, "created_ms": 1}]}
    return {**client, "access_ttl_seconds": 3600, "one_time_ttl_seconds": 60, **changes}


class Seeded(OneInstance):
    """An instance and its writer, which has a file of clients."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clients.json"
        self.records = folder / "records.db"
        redis = RedisServer(folder / "redis").start()
        shared = {"redis_url": redis.url, "records_url": f"sqlite:///{self.records}"}
        quick = {"writer_batch_seconds": 0.1, "mirror_interval_seconds": 0.2}
        self.writer = ServiceProcess(folder, "write", **shared, **quick, clients_file=str(self.file))
        own = ("AUTH_PORT", "AUTH_MANAGEMENT_PORT", "AUTH_CLIENTS_FILE")
        self.environ = {name: value for name, value in self.writer.environ.items() if name not in own}
        super().__init__(redis, ServiceProcess(folder, "serve", **shared))

    def say(self, *clients: dict[str, Any]) -> None:
        self.replace(json.dumps({"clients": clients}))

    def replace(self, text: str) -> None:
        """As a mounted ConfigMap is replaced: as a whole."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def status(self, client_id: str, **parameters: str) -> int:
        status: int = self.post("/token", {**GRANT, **parameters}, basic(client_id)).status
        return status

    def red(self) -> str:
        """The sentence of the writer's `/ready`; empty when it is ready."""
        answer = ask(self.writer.management_port, "GET", "/ready")
        return "" if answer.status == 200 else str(answer.json["error_description"])


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    seeded = Seeded(tmp_path_factory.mktemp("seeded"))
    seeded.say(exported("app", "read", "write"), exported("other", "read"))
    with running(seeded.redis, seeded.writer.start(), seeded.process.start()):
        seeded.writer.wait_ready()
        seeded.process.wait_ready()
        wait_until(lambda: seeded.status("app") == 200, "the file's clients are in force")
        yield seeded


def test_a_change_of_the_file_is_in_force_soon_and_ends_no_token(seeded: Seeded) -> None:
    kept, others = seeded.issue("app"), seeded.issue("other")
    assert seeded.status("app", scope="third") == 400
    seeded.say(exported("app", "read", "third"), exported("other", "read"), exported("late", "read"))
    wait_until(lambda: seeded.status("app", scope="third") == 200, "the change is in force")
    wait_until(lambda: seeded.status("late") == 200, "the new client is in force")
    assert seeded.valid(kept)
    assert seeded.valid(others)
    seeded.say(exported("app", "read", "third", enabled=False), exported("other", "read"))
    wait_until(lambda: seeded.status("app") == 401, "it is disabled")
    assert seeded.status("late") == 200, "who is no more in the file stays"
    seeded.say(exported("app", "read", "third"), exported("other", "read"))
    wait_until(lambda: seeded.status("app") == 200, "it is enabled")
    assert seeded.valid(kept)


def test_what_a_command_did_holds_until_the_file_changes(tmp_path: Path) -> None:
    file, content = tmp_path / "clients.json", json.dumps({"clients": [exported("app", "read")]})

    async def story() -> None:
        async with SqliteDatabase(tmp_path).opened() as store:
            clients = ClientsFile(file, store)
            for change in (content, content + " "):
                file.write_text(change)
                await clients.look()
                assert (await store.read_client("app")) is not None
                await store.delete_client("app")
                await clients.look()
                assert (await store.read_client("app")) is None
            file.write_text("no export")
            with pytest.raises(OperatorError):
                await clients.look()
            file.write_text(content + " ")
            await clients.look()
            assert (await store.read_client("app")) is not None, "what was looked at last was something else"

    asyncio.run(story())


def rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return int(connection.execute("SELECT count(*) FROM tokens").fetchone()[0])


BAD = [
    ("no export", "{file} is not an export of clients: "),
    (json.dumps({"clients": [exported("app")]}), "{file} holds a client 'app' that cannot be: "),
    (json.dumps({"clients": [exported("app", "read")] * 2}), "{file} holds client app more than once."),
    (None, "{file} cannot be read: No such file or directory."),
]


def test_a_bad_file_makes_the_writer_unready_and_stops_nothing_else(seeded: Seeded) -> None:
    for text, sentence in BAD:
        if text is None:
            seeded.file.unlink()
        else:
            seeded.replace(text)
        expected = f"clients: {sentence.format(file=seeded.file)}"
        wait_until(lambda: seeded.red().startswith(expected), "the writer tells what is wrong")  # noqa: B023 - it is called here
    before = rows(seeded.records)
    assert seeded.valid(seeded.issue("app"))
    wait_until(lambda: rows(seeded.records) > before, "records are written")
    assert run_json(seeded.environ, "client", "add", "beside", "--scope", "read")["in_force"]
    seeded.say(exported("app", "read"), exported("other", "read"))
    wait_until(lambda: not seeded.red(), "the writer is ready again")


def test_a_restarted_writer_brings_in_what_the_file_says(seeded: Seeded) -> None:
    run_json(seeded.environ, "client", "disable", "app")
    assert seeded.status("app") == 401
    seeded.writer.stop()
    seeded.writer.start().wait_ready()
    wait_until(lambda: seeded.status("app") == 200, "the file has the last word")


def test_an_export_can_be_such_a_file(seeded: Seeded) -> None:
    done = run_command(seeded.environ, "client", "export")
    clients = {client["client_id"] for client in json.loads(done.stdout)["clients"]}
    run_json(seeded.environ, "client", "delete", "other")
    seeded.replace(done.stdout)
    wait_until(lambda: seeded.status("other") == 200, "all of them are there")
    assert {client["client_id"] for client in run_json(seeded.environ, "client", "list")} == clients
