"""Shards that move for good while a writer and instances look at them: nothing is taken for older data, and nobody stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import MovedError

from authsvc.errors import Unavailable
from authsvc.live.cluster import Cluster
from authsvc.live.directory import Directory
from authsvc.live.history import History
from authsvc.live.keys import BEATS, POISON, STREAMS, TOKEN_PREFIXES, VERSIONS, VOUCHES
from authsvc.live.mirror import Mirror
from authsvc.live.pipeline import Address
from authsvc.live.refusals import Moved
from authsvc.live.scripts import VOUCH
from authsvc.live.survey import PartlyAway, take_survey
from authsvc.reconcile import Reconciler
from authsvc.records.sqlite import SqliteStore
from contract.cluster_moves import begin, finish, move
from contract.live_parts import is_up, kept_connected, on_all, redis_client, succeeds
from servers import RedisCluster

LEAD = 8
"""The second master's first shard."""
PLACE = 3


@asynccontextmanager
async def writer(cluster: RedisCluster, folder: Path) -> AsyncIterator[tuple[Reconciler, Cluster, Any, SqliteStore]]:
    """A writer's reconciler with a complete mirror, its way to the cluster, a client, and its store."""
    store = SqliteStore(folder / "records.db")
    await store.open()
    async with redis_client(cluster.port) as redis, kept_connected(cluster.port) as link:
        assert isinstance(link, Cluster)
        await is_up(link)
        reconciler = Reconciler(store, Mirror(redis), Directory(redis), lambda beats: take_survey(link.masters, beats=beats), "writer")
        await reconciler.run_once()
        await reconciler.keep_marks()
        yield reconciler, link, redis, store
    await store.close()


def test_a_writer_goes_on_after_a_lead_moved_for_good(cluster: RedisCluster, tmp_path: Path) -> None:
    async def main() -> None:
        async with writer(cluster, tmp_path) as (reconciler, link, redis, _):
            before = await Mirror(redis).versions()
            move(cluster, LEAD, cluster.masters[1], cluster.masters[0])
            # Nothing but surveys goes over this link, and none of them can be handed on.
            await succeeds(reconciler.keep_marks, "the marks are kept")
            await succeeds(reconciler.run_once, "the mirror pass goes on")
            survey = await take_survey(link.masters)
            assert survey.vouched == survey.run_id
            assert sorted(master.lead for master in link.masters) == [0, LEAD + 1]
            beat = int((await redis.get(BEATS[LEAD])).split(b"-")[1])
            await reconciler.keep_marks()
            await reconciler.keep_marks()
            assert int((await redis.get(BEATS[LEAD])).split(b"-")[1]) > beat
            assert (await Mirror(redis).versions(), reconciler.rebuilds) == (before, 1), "tokens live on"

    asyncio.run(main())


def test_a_master_that_is_away_keeps_no_marks_of_the_others_back(cluster: RedisCluster, tmp_path: Path) -> None:
    async def main() -> None:
        async with writer(cluster, tmp_path) as (reconciler, _, redis, store):
            cluster.masters[1].kill()
            await redis.xadd(STREAMS[PLACE], {"e": "x"}, id="7-1")
            with pytest.raises(PartlyAway):
                await reconciler.keep_marks()
            _, marks = await store.read_marks()
            assert marks[STREAMS[PLACE].decode()].last_id == "7-1"
            assert BEATS[LEAD].decode() in marks, "what was known of the other stays"

    asyncio.run(main())


def test_a_shard_half_moved_stops_no_survey_of_the_others(cluster: RedisCluster, tmp_path: Path) -> None:
    async def main() -> None:
        async with writer(cluster, tmp_path) as (reconciler, link, redis, _):
            history = History()
            await history.watch(link.masters)
            await redis.delete(POISON[PLACE])
            begin(cluster, PLACE, *cluster.masters)
            survey = await history.watch(link.masters)
            assert not {STREAMS[PLACE].decode(), BEATS[PLACE].decode()} & set(survey.marks)
            assert len(survey.marks) == 2 * 15
            assert history.witnessed(survey)
            assert not history.witnessed(survey._replace(marks={})), "who saw no beat has seen nothing"
            await reconciler.keep_marks()
            await reconciler.run_once()
            finish(cluster, PLACE, *cluster.masters)
            await succeeds(lambda: history.watch(link.masters), "all are looked at")
            survey = await history.watch(link.masters)
            assert len(survey.marks) == 2 * 16
            await succeeds(reconciler.run_once, "the mirror pass goes on")
            assert reconciler.rebuilds == 1

    asyncio.run(main())


def test_a_lead_half_moved_stops_the_beats_that_nobody_can_note(cluster: RedisCluster, tmp_path: Path) -> None:
    async def main() -> None:
        async with writer(cluster, tmp_path) as (reconciler, link, redis, _):
            history = History()
            for _look in range(2):
                await history.watch(link.masters)
                await reconciler.keep_marks()
            begin(cluster, LEAD, cluster.masters[1], cluster.masters[0])
            with cluster.ask(cluster.masters[1]) as client:
                client.execute_command("MIGRATE", "127.0.0.1", cluster.masters[0].port, VERSIONS[LEAD], 0, 5_000)
            beat = int((await redis.get(BEATS[LEAD + 1])).split(b"-")[1])
            for _look in range(5):
                with pytest.raises(Unavailable):
                    await history.watch(link.masters)
                with pytest.raises(Unavailable):
                    await reconciler.keep_marks()
            assert int((await redis.get(BEATS[LEAD + 1])).split(b"-")[1]) <= beat + 2, "one each, before they knew"
            finish(cluster, LEAD, cluster.masters[1], cluster.masters[0])
            await succeeds(reconciler.keep_marks, "the marks are kept")
            await succeeds(reconciler.run_once, "the mirror pass goes on")
            assert reconciler.rebuilds == 1

    asyncio.run(main())


def test_an_instance_vouches_for_a_master_under_its_new_lead(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with redis_client(cluster.port) as redis:
            assert await Mirror(redis).build([], 5, "identity") is not None
            history = History()
            link = Cluster(Address("127.0.0.1", cluster.port), 2.0, history.admit)
            link.start()
            try:
                await succeeds(lambda: history.watch(link.masters), "all are looked at")
                await history.watch(link.masters)
                move(cluster, LEAD, cluster.masters[1], cluster.masters[0])
                await succeeds(lambda: history.watch(link.masters), "all are looked at")
                with cluster.ask(cluster.masters[1]) as client:
                    run_id = client.info("server")["run_id"].encode()

                async def vouched() -> bool:
                    return bool(await redis.get(VOUCHES[LEAD + 1]) == run_id)

                await succeeds(vouched, "whoever connects later is let in")
            finally:
                await link.close()

    asyncio.run(main())


def test_a_vouch_reaches_the_process_that_was_meant_or_none(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with redis_client(cluster.port) as redis, kept_connected(cluster.port) as link:
            assert isinstance(link, Cluster)
            await is_up(link)
            second = next(master for master in link.masters if master.lead == LEAD)
            assert LEAD in await redis.masters()
            move(cluster, LEAD, cluster.masters[1], cluster.masters[0])
            with pytest.raises(Moved):
                await second.ask(VOUCH.fallback((VOUCHES[LEAD],), b"second"), 1)
            # By an old view of the masters, and by a new one in which it leads no more.
            with pytest.raises(MovedError):
                await Mirror(redis).vouch(f"{LEAD}=second")
            assert await redis.get(VOUCHES[LEAD]) is None
            await Mirror(redis).vouch(f"0=first {LEAD}=second")
            assert (await redis.get(VOUCHES[0]), await redis.get(VOUCHES[LEAD])) == (b"first", None)

    asyncio.run(main())


def test_a_master_that_is_away_keeps_no_script_from_the_others(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with redis_client(cluster.port) as redis:
            script = redis.register_script("return redis.call('INCR', KEYS[1])")
            await on_all(redis, "SCRIPT", "FLUSH")
            cluster.masters[1].kill()
            assert await script(keys=[TOKEN_PREFIXES[0] + b"count"]) == 1

    asyncio.run(main())


def test_a_master_that_has_nothing_any_more_is_left(cluster: RedisCluster) -> None:
    def connections() -> int:
        with cluster.ask(cluster.masters[1]) as client:
            return len([each for each in client.client_list() if each["lib-name"] and int(each["id"]) != client.client_id()])

    async def main() -> None:
        async with redis_client(cluster.port) as redis:
            await redis.get(TOKEN_PREFIXES[LEAD] + b"key")
            assert connections() == 1
            for shard in range(8, 16):
                move(cluster, shard, cluster.masters[1], cluster.masters[0])
            assert await redis.get(TOKEN_PREFIXES[LEAD] + b"key") is None
            assert connections() == 0

    asyncio.run(main())
