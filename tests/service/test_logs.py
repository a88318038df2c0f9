"""What the stack writes to its logs: JSON lines from the service, and never a token, a secret or a key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from localstack import Stack, StackState
from servers import RedisServer, ServiceProcess, running
from service.doors import Door, basic

SERVICE_LOGS = ("instance-1.log", "instance-2.log", "instance-3.log", "instance-4.log", "writer.log")


def _lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text(encoding="utf-8").splitlines()


def test_the_service_logs_json_lines(stack: Stack, stack_state: StackState) -> None:
    for name in SERVICE_LOGS:
        lines = _lines(stack.layout.log_dir, name)
        assert lines
        for line in lines:
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()


def test_no_log_holds_a_token_a_secret_or_a_key(stack: Stack, stack_state: StackState) -> None:
    async def ask() -> list[str]:
        door = Door(stack_state["base_url"])
        authorization = basic(stack_state["client_id"], stack_state["client_secret"])
        grant = {"grant_type": "client_credentials"}
        tokens = [(await door.post(path, grant, authorization)).body["access_token"] for path in ("/token", "/ott")]
        for token in tokens:
            for path in ("/validate", "/revoke", "/introspect", "/token", "/nowhere"):
                await door.post(path, {"token": token, "token_type_hint": "x"}, authorization)
                await door.post(path, {"client_id": "nobody", "client_secret": "wrong-secret-of-nobody", "token": token})
                await door.post(path, authorization=f"Bearer {token}")
                await door.post(f"{path}?token={token}")
        await door.close()
        return tokens

    secrets = [*asyncio.run(ask()), stack_state["client_secret"], "wrong-secret-of-nobody", stack.layout.token_key_file.read_text().strip()]
    for log in stack.layout.log_dir.iterdir():
        text = log.read_text(encoding="utf-8", errors="replace")
        for secret in secrets:
            assert secret not in text, f"{log.name} holds what nobody may read"


@pytest.mark.parametrize("access_log", [True, False])
def test_the_access_log_is_off_until_it_is_asked_for(redis_server: RedisServer, tmp_path: Path, access_log: bool) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_server.url, access_log=int(access_log)).start()

    async def ask() -> None:
        door = Door(service.url)
        for _ in range(200):
            try:
                await door.post("/nowhere", {"token": "at_secret"})
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                break
        await door.close()

    with running(service):
        asyncio.run(ask())
    found = [line for line in service.log_lines() if line["event"] == "request"]
    assert bool(found) is access_log
    for line in found:
        assert (line["endpoint"], line["status"], bool(line["request_id"])) == ("other", 404, True)
