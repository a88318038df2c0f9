"""How a link follows a cluster that is rearranged under its feet: no caller is forgotten, and it never stops following."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from authsvc.errors import Unavailable
from authsvc.live.cluster import Cluster
from authsvc.live.connection import Call
from authsvc.live.keys import TOKEN_PREFIXES, VERSIONS
from authsvc.live.masters import Master, Node
from authsvc.live.moving import MasterPipeline
from authsvc.live.pipeline import Address
from authsvc.live.scripts import pack
from contract.cluster_moves import SLOT_OF, give
from contract.live_parts import answer, connected, is_up, kept_connected, redis_client, refused, succeeds, until
from servers import RedisCluster, RedisServer, running

PLACE = 3
KEY = TOKEN_PREFIXES[PLACE] + b"count"
STAYING = TOKEN_PREFIXES[PLACE + 1] + b"count"
TIMEOUT_SECONDS = 2.0
PAUSE_MS = 1_000
"""How long a master answers nothing; shorter than the timeout."""
Step = Callable[[], Awaitable[None]]


class OvertakenCluster(Cluster):
    """A link whose looks are overtaken: `between` runs after the cluster has answered and before the answer is used."""

    between: Step | None = None

    async def _look(self) -> dict[Node, tuple[int, ...]]:
        found = await super()._look()
        between, self.between = self.between, None
        if between is not None:
            await between()
        return found


class Gate:
    """An admission that can be closed; `reached` when somebody stands before it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = False

    async def admit(self, master: Master) -> None:
        self.reached = not self.open.is_set()
        await self.open.wait()


@asynccontextmanager
async def followed(cluster: RedisCluster, gate: Gate | None = None) -> Any:
    link = OvertakenCluster(Address("127.0.0.1", cluster.port), TIMEOUT_SECONDS, gate and gate.admit)
    link.start()
    try:
        await is_up(link)
        yield link
    finally:
        await link.close()


def counted(link: Cluster, key: bytes = KEY) -> Call:
    return link.shards[PLACE].call(pack(b"INCR", key))


def connections(master: RedisServer) -> int:
    """How many clients a master has beside whoever asks."""
    with redis.Redis(port=master.port) as client:
        return len([each for each in client.client_list() if each["flags"] == "N"]) - 1


def fail() -> None:
    raise RuntimeError("a caller's own mistake")


def test_what_moves_while_the_cluster_is_asked_waits_for_the_next_answer(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with followed(cluster) as link:
            found = []

            async def overtake() -> None:
                give(cluster, PLACE, cluster.masters[1])
                found.append(counted(link))
                # Answered after it, by the same master: so it was told that it moved, and waits.
                await answer(counted(link, STAYING))

            link.between = overtake
            give(cluster, 0, cluster.masters[1])
            await answer(link.shards[0].call(pack(b"INCR", TOKEN_PREFIXES[0] + b"count")))
            assert await answer(found[0]) == 1

    asyncio.run(main())


def test_a_look_that_fails_is_not_the_last(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with followed(cluster) as link:

            async def overtake() -> None:
                fail()

            link.between = overtake
            give(cluster, PLACE, cluster.masters[1])
            with capture_logs() as logged, pytest.raises(Unavailable):
                await answer(counted(link))
            assert [line["event"] for line in logged if line.get("exc_info")] == ["the cluster cannot be followed"]
            await until(lambda: link.shards[PLACE] is link.shards[15], "the cluster is followed again")
            assert await answer(counted(link)) == 1

    asyncio.run(main())


def test_a_caller_that_fails_keeps_no_other_from_its_refusal(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with followed(cluster) as link:
            give(cluster, PLACE, cluster.masters[1])
            failing, other = counted(link), counted(link)
            failing.when_settled(fail)
            await answer(counted(link, STAYING))
            await link.close()
            assert failing.settled
            assert refused(other)
            assert connections(cluster.masters[1]) == 0, "all was closed"

    asyncio.run(main())


def test_fresh_requests_wait_for_a_new_master_to_be_admitted(cluster: RedisCluster) -> None:
    for shard in range(8, 16):
        give(cluster, shard, cluster.masters[0])

    async def main() -> None:
        gate = Gate()
        async with followed(cluster, gate) as link:
            assert len(link.masters) == 1
            gate.open.clear()
            give(cluster, PLACE, cluster.masters[1])
            calls = [counted(link)]
            await until(lambda: gate.reached, "the new master waits for admission")
            calls.append(counted(link))
            await answer(counted(link, STAYING))
            gate.open.set()
            assert [await answer(call) for call in calls] == [1, 2]

    asyncio.run(main())


def test_a_master_that_gets_another_lead_in_the_making_begins_with_that_one(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as client:
            await client.set(VERSIONS[9], b"1-aa:9")
        gate = Gate()
        gate.open.clear()
        address = Address("127.0.0.1", redis_server.port)
        pipeline = MasterPipeline(address, TIMEOUT_SECONDS, gate.admit, lambda _: None, (8, 9), lambda *_: None, lambda _: None)
        pipeline.start()
        try:
            await until(lambda: gate.reached, "it waits for admission")
            pipeline.hold((9,))
            gate.open.set()
            await until(lambda: pipeline.connected, "it is admitted")
            call = pipeline.call(pack(b"GET", KEY))
            assert (await answer(call), call.version) == (None, b"1-aa:9")
        finally:
            await pipeline.close()

    asyncio.run(main())


def test_a_link_that_is_closed_leaves_no_connection_to_a_master_that_went(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path / "cluster", 3)
    with running(cluster):
        cluster.start()
        first, second, third = cluster.masters

        async def main() -> None:
            async with followed(cluster) as link:
                before = link.shards[8]
                for shard in [shard for shard in range(16) if link.shards[shard] is before]:
                    give(cluster, shard, first)
                with cluster.ask(second) as client:
                    client.client_pause(PAUSE_MS)
                owed = before.call(pack(b"PING"))
                give(cluster, PLACE, third)
                assert await answer(counted(link)) == 1
                assert link.shards[8] is not before
                await link.close()
                assert owed.settled
                assert connections(second) == 0

        asyncio.run(main())


def test_a_master_that_was_cut_off_is_not_asked_for_ever(cluster: RedisCluster) -> None:
    first, second = cluster.masters
    with cluster.ask(first) as client:
        name = client.execute_command("CLUSTER MYID")

    async def main() -> None:
        async with followed(cluster) as link:
            # It knows none of the others any more, and says so; meanwhile another has what it held.
            with cluster.ask(second) as client:
                client.config_set("cluster-require-full-coverage", "yes")
                client.execute_command("CLUSTER FORGET", name)
            with cluster.ask(first) as client:
                client.execute_command("CLUSTER BUMPEPOCH")
                for shard in range(8, 16):
                    client.execute_command("CLUSTER SETSLOT", SLOT_OF[shard], "NODE", name)
            key = TOKEN_PREFIXES[15] + b"count"

            async def down() -> bool:
                try:
                    await answer(link.shards[15].call(pack(b"GET", key)))
                except Unavailable:
                    return True
                return False

            await succeeds(down, "it says that the cluster is down")
            await until(lambda: link.shards[15] is link.shards[0], "the other is asked instead")
            assert await answer(link.shards[15].call(pack(b"INCR", key))) == 1

    asyncio.run(main())


def test_only_a_link_that_follows_the_cluster_takes_moved_for_granted(cluster: RedisCluster) -> None:
    async def main() -> None:
        give(cluster, PLACE, cluster.masters[1])
        async with kept_connected(cluster.port) as link:
            await is_up(link)
            with capture_logs() as logged:
                give(cluster, PLACE, cluster.masters[0])
                assert await answer(link.shards[PLACE].call(pack(b"INCR", KEY))) == 1
            assert not [line for line in logged if line["log_level"] == "error"]
        RedisCluster.ports.discard(cluster.port)
        async with connected(cluster.port) as single:
            with capture_logs() as logged, pytest.raises(Unavailable):
                await answer(single.shards[15].call(pack(b"GET", TOKEN_PREFIXES[15])))
            assert [line["event"] for line in logged] == ["redis refused a command"]

    asyncio.run(main())
