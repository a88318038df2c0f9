"""The way to a Redis Cluster: what moved is sent on once and as a whole, and a cluster that is not whole is no store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from authsvc.errors import Unavailable
from authsvc.live.cluster import Cluster
from authsvc.live.connection import Call
from authsvc.live.keys import TOKEN_PREFIXES, VERSIONS
from authsvc.live.masters import apart, joined, owners_in
from authsvc.live.pipeline import Address
from authsvc.live.scripts import Script, pack
from contract.cluster_moves import SLOT_OF, give
from contract.live_parts import answer, is_up, kept_connected, redis_client, until
from servers import SLOTS, RedisCluster, RedisServer

COUNT = Script("return redis.call('INCR', KEYS[1])")
PLACE = 3
"""A shard of the first master, not its lead."""
KEY = TOKEN_PREFIXES[PLACE] + b"count"
Story = Callable[[Cluster], Awaitable[None]]


def play(cluster: RedisCluster, story: Story) -> None:
    async def told() -> None:
        async with kept_connected(cluster.port) as link:
            assert isinstance(link, Cluster)
            await is_up(link)
            await story(link)

    asyncio.run(told())


def test_what_moved_is_done_once_by_the_master_that_has_it_now(cluster: RedisCluster) -> None:
    async def story(link: Cluster) -> None:
        before = link.shards[PLACE]
        give(cluster, PLACE, cluster.masters[1])
        # All in one turn, so that all of them go to the wrong master.
        calls = [link.shards[PLACE].call(pack(b"INCR", KEY)) for _ in range(20)]
        scripts = [link.shards[PLACE].run(COUNT, (KEY,)) for _ in range(20)]
        pair = link.shards[PLACE].call(pack(b"INCR", KEY) + pack(b"INCR", KEY), replies=2)
        staying = [link.shards[PLACE + 1].call(pack(b"INCR", TOKEN_PREFIXES[PLACE + 1] + b"other")) for _ in range(20)]
        first, second = await answer(pair)
        assert second == first + 1
        # A script that the new master does not know is sent by its text, after the others.
        assert sorted([first, second, *[await answer(call) for call in calls + scripts]]) == list(range(1, 43))
        assert [await answer(call) for call in staying] == list(range(1, 21))
        assert link.shards[PLACE] is link.shards[15] is not before
        async with redis_client(cluster.port) as redis:
            assert await redis.get(KEY) == b"42"

    play(cluster, story)


def test_what_nobody_waits_for_any_more_is_not_sent_on(cluster: RedisCluster) -> None:
    async def story(link: Cluster) -> None:
        give(cluster, PLACE, cluster.masters[1])
        call = link.shards[PLACE].call(pack(b"INCR", KEY))
        call.reject(Unavailable("its caller gave up"))
        assert await answer(link.shards[PLACE].call(pack(b"INCR", KEY))) == 1
        async with redis_client(cluster.port) as redis:
            assert await redis.get(KEY) == b"1"

    play(cluster, story)


def test_each_batch_begins_with_the_version_of_the_masters_lead(cluster: RedisCluster) -> None:
    async def story(link: Cluster) -> None:
        async with redis_client(cluster.port) as redis:
            for shard, key in enumerate(VERSIONS):
                await redis.set(key, b"1-aa:%d" % shard)

        async def seen(shard: int) -> bytes | None:
            call: Call = link.shards[shard].call(pack(b"GET", TOKEN_PREFIXES[shard] + b"nothing"))
            await answer(call)
            return call.version

        assert [await seen(shard) for shard in (0, 7, 8, 15)] == [b"1-aa:0", b"1-aa:0", b"1-aa:8", b"1-aa:8"]

    play(cluster, story)


def test_a_lead_that_moved_away_costs_its_batch_a_version_and_no_more(cluster: RedisCluster) -> None:
    async def story(link: Cluster) -> None:
        give(cluster, 8, cluster.masters[0])
        left = link.shards[9].call(pack(b"INCR", TOKEN_PREFIXES[9] + b"count"))
        assert (await answer(left), left.version) == (1, b""), "not None: the directory is not to be dropped for that"
        assert await answer(link.shards[8].call(pack(b"INCR", TOKEN_PREFIXES[8] + b"count"))) == 1
        await until(lambda: link.shards[8] is link.shards[0], "the cluster was asked")
        again = link.shards[9].call(pack(b"INCR", TOKEN_PREFIXES[9] + b"count"))
        assert (await answer(again), again.version) == (2, None)

    play(cluster, story)


def test_a_slot_without_a_master_makes_it_no_store(cluster: RedisCluster) -> None:
    for master in cluster.masters:
        with cluster.ask(master) as client:
            client.config_set("cluster-require-full-coverage", "yes")

    async def story(link: Cluster) -> None:
        assert link.silent_since is None
        with cluster.ask(cluster.masters[1]) as client:
            client.execute_command("CLUSTER DELSLOTS", SLOT_OF[15])

        async def down() -> bool:
            with pytest.raises(Unavailable):
                await answer(link.shards[15].ask_version())
            return link.silent_since is not None

        deadline = time.monotonic() + 20
        while not await down():
            assert time.monotonic() < deadline, "the cluster is known to be down"
        with cluster.ask(cluster.masters[1]) as client:
            client.execute_command("CLUSTER ADDSLOTS", SLOT_OF[15])
        await is_up(link)
        await until(lambda: link.silent_since is None, "it is whole again")

    play(cluster, story)


def test_a_seed_that_is_no_cluster_is_no_store(redis_server: RedisServer) -> None:
    async def main() -> None:
        link = Cluster(Address("127.0.0.1", redis_server.port), 2.0)
        with pytest.raises(Unavailable):
            await link.connect()
        await link.close()

    asyncio.run(main())


def test_owners_are_read_from_the_slots_and_must_be_whole() -> None:
    halves = [[0, 8191, [b"10.0.0.1", 6379, b"a"]], [8192, SLOTS - 1, [b"", 6380, b"b"], [b"10.0.0.9", 6379, b"replica"]]]
    assert owners_in(halves, "seed") == {("10.0.0.1", 6379): tuple(range(8)), ("seed", 6380): tuple(range(8, 16))}
    with pytest.raises(Unavailable, match="without a master"):
        owners_in(halves[:1], "seed")


def test_run_ids_are_joined_and_taken_apart() -> None:
    for run_ids in ({0: "abc"}, {0: "abc", 8: "def"}):
        assert apart(joined(run_ids)) == run_ids
    assert joined({0: "abc"}) == "abc", "as a single server's"
    assert joined({8: "def", 0: "abc"}) == "0=abc 8=def"
