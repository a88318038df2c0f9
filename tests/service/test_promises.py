"""The promises of the wire contract on four real instances behind nginx, with the real commands beside them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from localstack import Stack, StackState
from servers import free_port, service_environ, wait_until
from service.doors import Answer, Door, basic

CONCURRENCY = 40


class Service:
    """The stack as its clients see it: every instance, and nginx before them."""

    def __init__(self, state: StackState) -> None:
        self.client = (state["client_id"], state["client_secret"])
        self.doors = [Door(url) for url in (*state["instances"], state["base_url"])]
        self._turn = itertools.cycle(self.doors)

    async def issue(self, path: str = "/token", client: tuple[str, str] | None = None, door: Door | None = None) -> Answer:
        door = door or next(self._turn)
        return await door.post(path, {"grant_type": "client_credentials"}, basic(*(client or self.client)))

    async def token(self, path: str = "/token", client: tuple[str, str] | None = None, door: Door | None = None) -> str:
        answer = await self.issue(path, client, door)
        assert answer.status == 200, answer
        token: str = answer.body["access_token"]
        return token

    async def validate(self, token: str, door: Door | None = None) -> int:
        return (await (door or next(self._turn)).post("/validate", {"token": token})).status

    async def revoke(self, token: str, door: Door | None = None) -> int:
        return (await (door or next(self._turn)).post("/revoke", authorization=f"Bearer {token}")).status

    async def close(self) -> None:
        for door in self.doors:
            await door.close()


async def all_of(calls: list[Awaitable[Any]]) -> list[Any]:
    """Await many calls, a bounded number at once."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(call: Awaitable[Any]) -> Any:
        async with gate:
            return await call

    return await asyncio.gather(*map(one, calls))


def play(state: StackState, story: Callable[[Service], Awaitable[None]]) -> None:
    async def run() -> None:
        service = Service(state)
        try:
            await story(service)
        finally:
            await service.close()

    asyncio.run(run())


@pytest.fixture
def environ(stack: Stack) -> dict[str, str]:
    """The settings of the stack, for commands against it."""
    lines = shlex.split(stack.layout.env_file.read_text())
    return dict(line.split("=", 1) for line in lines)


async def command(environ: dict[str, str], *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "authsvc",
        *words,
        env={**service_environ(), **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def new_client(environ: dict[str, str], client_id: str) -> tuple[str, str]:
    added = json.loads(await command(environ, "client", "add", client_id, "--scope", "read", "--json"))
    return added["client_id"], added["client_secret"]


def test_a_one_time_token_gets_exactly_one_success_over_all_doors(stack_state: StackState) -> None:
    async def story(service: Service) -> None:
        tokens = await all_of([service.token("/ott") for _ in range(200)])
        for token in tokens:
            answers = await asyncio.gather(*(service.validate(token) for _ in range(20)))
            assert Counter(answers) == {200: 1, 401: 19}

    play(stack_state, story)


def test_a_revoke_on_one_instance_holds_on_the_others_at_once(stack_state: StackState) -> None:
    async def story(service: Service) -> None:
        async def one(number: int) -> tuple[int, list[int]]:
            token = await service.token()
            home = service.doors[number % len(service.doors)]
            revoked = await service.revoke(token, home)
            return revoked, [await service.validate(token, door) for door in service.doors if door != home]

        for revoked, seen in await all_of([one(number) for number in range(2000)]):
            assert revoked == 200
            assert seen == [401] * 4

    play(stack_state, story)


def test_a_disabled_client_and_its_tokens_are_refused_everywhere_until_enabled(stack_state: StackState, environ: dict[str, str]) -> None:
    async def story(service: Service) -> None:
        client = await new_client(environ, "to-be-disabled")
        token = await service.token(client=client)
        for _ in range(3):
            await command(environ, "client", "disable", client[0])
            assert [await service.validate(token, door) for door in service.doors] == [401] * 5
            assert [(await service.issue(client=client, door=door)).status for door in service.doors] == [401] * 5
            await command(environ, "client", "enable", client[0])
            assert [await service.validate(token, door) for door in service.doors] == [200] * 5
            assert [(await service.issue(client=client, door=door)).status for door in service.doors] == [200] * 5

    play(stack_state, story)


def test_a_retired_secret_is_refused_everywhere_and_its_successor_is_not(stack_state: StackState, environ: dict[str, str]) -> None:
    async def story(service: Service) -> None:
        older = await new_client(environ, "to-be-rotated")
        newer = (older[0], json.loads(await command(environ, "client", "rotate", older[0], "--json"))["client_secret"])
        for client in (older, newer):
            assert [(await service.issue(client=client, door=door)).status for door in service.doors] == [200] * 5
        await command(environ, "client", "retire", older[0])
        assert [(await service.issue(client=older, door=door)).status for door in service.doors] == [401] * 5
        assert [(await service.issue(client=newer, door=door)).status for door in service.doors] == [200] * 5

    play(stack_state, story)


def test_revoke_tokens_ends_all_older_tokens_and_none_newer_under_load(stack_state: StackState, environ: dict[str, str]) -> None:
    """The same second included: tokens carry an epoch, not a time."""

    async def story(service: Service) -> None:
        client = await new_client(environ, "to-be-cleared")
        stop = asyncio.Event()
        statuses: Counter[int] = Counter()

        async def load() -> None:
            while not stop.is_set():
                answer = await service.issue(client=client)
                statuses[answer.status] += 1

        loads = [asyncio.create_task(load()) for _ in range(6)]
        for _ in range(3):
            older = await all_of([service.token(client=client) for _ in range(50)])
            await command(environ, "client", "revoke-tokens", client[0])
            newer = await all_of([service.token(client=client) for _ in range(50)])
            assert set(await all_of([service.validate(token) for token in older])) == {401}
            assert set(await all_of([service.validate(token) for token in newer])) == {200}
        stop.set()
        await asyncio.gather(*loads)
        assert set(statuses) == {200}, "nobody who may have a token was refused meanwhile"

    play(stack_state, story)


def test_changes_of_clients_in_a_loop_disturb_nobody(stack_state: StackState, environ: dict[str, str]) -> None:
    async def story(service: Service) -> None:
        await new_client(environ, "restless")
        stop = asyncio.Event()
        wrong: list[str] = []

        async def load() -> None:
            while not stop.is_set():
                token = await service.token()
                for expected, call in ((200, service.validate), (200, service.revoke), (401, service.validate)):
                    status = await call(token)
                    if status != expected:
                        wrong.append(f"{call.__name__}: {status} instead of {expected}")

        loads = [asyncio.create_task(load()) for _ in range(8)]
        for _ in range(4):
            for word in ("disable", "enable", "revoke-tokens"):
                await command(environ, "client", word, "restless")
        stop.set()
        await asyncio.gather(*loads)
        assert not wrong, wrong[:5]

    play(stack_state, story)


def test_a_deleted_client_that_is_added_again_gets_none_of_its_tokens_back(stack_state: StackState, environ: dict[str, str]) -> None:
    async def story(service: Service) -> None:
        client = await new_client(environ, "reborn")
        token = await service.token(client=client)
        await command(environ, "client", "delete", "reborn")
        assert [await service.validate(token, door) for door in service.doors] == [401] * 5
        again = await new_client(environ, "reborn")
        assert [await service.validate(token, door) for door in service.doors] == [401] * 5
        assert await service.validate(await service.token(client=again)) == 200

    play(stack_state, story)


def test_an_instance_whose_clock_is_five_minutes_off_keeps_every_promise(
    stack: Stack, stack_state: StackState, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\n_true = time.time\ntime.time = lambda: _true() + 300\n")
    port = free_port()
    settings = {**environ, "AUTH_PORT": str(port), "AUTH_MANAGEMENT_PORT": str(free_port()), "AUTH_DRAIN_SECONDS": "0"}
    path = os.pathsep.join([str(tmp_path), service_environ()["PYTHONPATH"]])
    with (tmp_path / "log").open("wb") as log:
        skewed = subprocess.Popen(
            [sys.executable, "-m", "authsvc", "serve"], env={**service_environ(), **settings, "PYTHONPATH": path}, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.post(f"{url}/validate", data={"token": "x"}).status_code == 401
            except httpx.TransportError:
                return False

        wait_until(answers, "the skewed instance answers")

        async def story(service: Service) -> None:
            door = Door(url)
            service.doors.append(door)

            async def loaded() -> bool:
                return (await service.issue(door=door)).status == 200

            async with asyncio.timeout(20):
                while not await loaded():
                    await asyncio.sleep(0.05)
            theirs, ours = await service.token("/ott", door=door), await service.token("/ott")
            assert sorted(await asyncio.gather(*(service.validate(theirs) for _ in range(10)))) == [200] + [401] * 9
            assert sorted(await asyncio.gather(service.validate(ours, door), service.validate(ours))) == [200, 401]
            theirs, ours = await service.token(door=door), await service.token()
            assert [await service.validate(theirs), await service.validate(ours, door)] == [200, 200], "no clock ends a token"
            assert [await service.revoke(theirs), await service.revoke(ours, door)] == [200, 200]
            assert [await service.validate(theirs, door), await service.validate(ours)] == [401, 401]
            client = await new_client(environ, "skewed")
            older = await service.token(client=client, door=door)
            await command(environ, "client", "revoke-tokens", client[0])
            newer = await service.token(client=client, door=door)
            assert [await service.validate(older), await service.validate(newer)] == [401, 200]

        play(stack_state, story)
    finally:
        skewed.terminate()
        skewed.wait(20)
