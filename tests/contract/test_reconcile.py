"""The writer's pass over all clients, with a real Redis and a real record store that are changed under its feet."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from authsvc.clients import Change, Clients
from authsvc.credentials import secret_digest
from authsvc.errors import OperatorError, RecordsUnavailable, Unavailable
from authsvc.live.cluster import Link
from authsvc.live.connect import connect_redis
from authsvc.live.directory import Directory
from authsvc.live.history import WITNESS_MS
from authsvc.live.keys import BEAT, BUILD, CLIENTS, LOG, STREAMS, VERSIONS
from authsvc.live.mirror import Mirror
from authsvc.live.survey import take_survey
from authsvc.model import Client, DeletedClient, StreamMark, Version
from authsvc.reconcile import DOUBTS, Reconciler
from authsvc.records.sqlite import SqliteStore
from contract.live_parts import connected, settings_of
from servers import RedisServer

OVER_EVERY_KIND = True

Step = Callable[[], Awaitable[None]]


class PausedStore(SqliteStore):
    """A store whose reader is overtaken: `between` runs after the clients were read and before they are used."""

    between: Step | None = None

    async def read_clients(self, client_ids: Iterable[str]) -> list[Client | DeletedClient]:
        found = await super().read_clients(client_ids)
        between, self.between = self.between, None
        if between is not None:
            await between()
        return found


class World:
    """A record store, a Redis, the writer's reconciler, an instance's directory, and the commands."""

    def __init__(self, redis: Any, pipeline: Link, store: PausedStore, holder: str = "writer", request_id: str = "request-1") -> None:
        self.redis = redis
        self.pipeline = pipeline
        self.store = store
        self.mirror = Mirror(redis)
        self.reconciler = Reconciler(store, self.mirror, Directory(redis), lambda beats: take_survey(pipeline.masters, beats=beats), holder)
        self.instance = Directory(redis)
        self.clients = Clients(store, self.mirror, "somebody", request_id)

    async def seen(self) -> set[str]:
        """The clients that an instance sees now; it must have a complete mirror."""
        await self.instance.refresh()
        assert self.instance.loaded
        return {client_id for client_id in self.instance.revisions if self.instance.get(client_id)}

    async def home(self) -> Version:
        """The version of a mirror that must be complete."""
        version = (await self.mirror.versions())[0]
        assert version is not None
        return version

    async def versions(self) -> list[str]:
        return [str(version) for version in await self.mirror.versions()]


@asynccontextmanager
async def world(redis_server: RedisServer, path: Path) -> AsyncIterator[World]:
    redis = connect_redis(settings_of(redis_server.port))
    store = PausedStore(path)
    await store.open()
    try:
        async with connected(redis_server.port) as pipeline:
            yield World(redis, pipeline, store)
    finally:
        await store.close()
        await redis.aclose()


def in_world(redis_server: RedisServer, path: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        async with world(redis_server, path) as found:
            await story(found)

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


async def command(world: World, change: Awaitable[Change]) -> Change:
    """Run a command beside a writer that makes its pass again and again."""
    task = asyncio.ensure_future(change)
    while not task.done():
        await world.reconciler.run_once()
        await asyncio.wait([task], timeout=0.05)
    return await task


def test_an_empty_store_has_a_complete_mirror_of_no_clients(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        assert await world.seen() == set()
        assert len(set(await world.versions())) == 1

    in_world(redis_server, path, story)


def test_a_command_is_in_force_when_it_returns(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        added = await world.clients.add("c1", ["read"])
        assert added.in_force
        assert await world.seen() == {"c1"}
        assert len(set(await world.versions())) == 1, "every tag has home's version"

    in_world(redis_server, path, story)


def test_a_command_waits_for_a_mirror_that_is_not_there_yet(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        added = await command(world, world.clients.add("c1", ["read"]))
        assert added.in_force
        assert await world.seen() == {"c1"}

    in_world(redis_server, path, story)


def test_a_command_says_that_its_change_is_not_in_force_without_a_writer(
    redis_server: RedisServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.clients.IN_FORCE_SECONDS", 0.3)

    async def story(world: World) -> None:
        added = await world.clients.add("c1", ["read"])
        assert not added.in_force
        assert added.secret, "a secret that is stored is told"

    in_world(redis_server, path, story)


def losing_answers(store: PausedStore, lost: int, reads_lost: int = 0) -> None:
    """Let so many changes lose their answer after the commit, and so many reads after that fail altogether."""
    left = {"changes": lost, "reads": 0}

    def losing(method: Any) -> Any:
        async def call(*args: Any) -> Any:
            result = await method(*args)
            if left["changes"] > 0:
                left["changes"], left["reads"] = left["changes"] - 1, reads_lost
                raise RecordsUnavailable("The connection was lost.")
            return result

        return call

    def failing(method: Any) -> Any:
        async def call(*args: Any) -> Any:
            if left["reads"] > 0:
                left["reads"] -= 1
                raise RecordsUnavailable("The record store is out of reach.")
            return await method(*args)

        return call

    for name in ("add_client", "change_client", "delete_client"):
        setattr(store, name, losing(getattr(store, name)))
    store.read_changes = failing(store.read_changes)  # type: ignore[method-assign]


@pytest.mark.single
def test_a_change_whose_answer_was_lost_is_found_and_told_with_its_secret(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        losing_answers(world.store, 1, reads_lost=2)
        added = await world.clients.add("c1", ["read"])
        assert added.in_force
        assert added.secret
        losing_answers(world.store, 1)
        rotated = await World(world.redis, world.pipeline, world.store, request_id="request-2").clients.rotate("c1")
        assert isinstance(rotated.client, Client)
        assert rotated.secret is not None
        assert secret_digest(rotated.secret.encode()) == rotated.client.secrets[1].digest
        losing_answers(world.store, 1)
        deleted = await World(world.redis, world.pipeline, world.store, request_id="request-3").clients.delete("c1")
        assert isinstance(deleted.client, DeletedClient)
        assert await world.seen() == set()

    in_world(redis_server, path, story)


@pytest.mark.single
def test_a_change_that_was_not_stored_is_told_as_such(redis_server: RedisServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])

        async def fail(*_: Any) -> Client:
            monkeypatch.undo()
            raise RecordsUnavailable("The record store is busy.")

        monkeypatch.setattr(world.store, "change_client", fail)
        other = World(world.redis, world.pipeline, world.store, request_id="request-2")
        with pytest.raises(RecordsUnavailable, match=r"^The record store is busy\.$"):
            await other.clients.rotate("c1")

    in_world(redis_server, path, story)


@pytest.mark.single
def test_a_secret_is_told_where_nobody_can_say_whether_it_is_stored(
    redis_server: RedisServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.clients.IN_FORCE_SECONDS", 0.3)

    async def story(world: World) -> None:
        await world.reconciler.run_once()
        losing_answers(world.store, 1, reads_lost=1000)
        with pytest.raises(
            OperatorError, match=r"cannot be told now; `authsvc client changes c1` will, by the request request-1\. Should"
        ) as told:
            await world.clients.add("c1", ["read"])
        secret = str(told.value).removesuffix(".").rpartition(" ")[2]
        [stored] = await world.store.read_clients(["c1"])
        assert isinstance(stored, Client)
        assert secret_digest(secret.encode()) == stored.secrets[0].digest

    in_world(redis_server, path, story)


def test_plain_sql_by_a_dba_reaches_the_mirror(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        for client_id in ("c1", "c2", "c3"):
            await world.clients.add(client_id, ["read"])
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE clients SET enabled = 0 WHERE client_id = 'c1'")
            connection.execute("DELETE FROM clients WHERE client_id = 'c2'")
        connection.close()
        await world.reconciler.run_once()
        assert await world.seen() == {"c1", "c3"}
        known = world.instance.get("c1")
        assert known is not None
        assert not known.enabled
        assert world.reconciler.rebuilds == 1, "a change is no reason for a new incarnation"

    in_world(redis_server, path, story)


def test_a_writer_that_was_overtaken_does_not_bring_back_an_older_row(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE clients SET scopes = 'read write' WHERE client_id = 'c1'")
        connection.close()

        async def overtake() -> None:
            await world.clients.disable("c1")

        world.store.between = overtake
        await world.reconciler.run_once()
        await world.seen()
        known = world.instance.get("c1")
        assert known is not None
        assert not known.enabled, "the command's newer row stays"

    in_world(redis_server, path, story)


@pytest.mark.parametrize("reached", range(4))
def test_a_command_killed_between_its_steps_is_finished_by_the_writer(redis_server: RedisServer, path: Path, reached: int) -> None:
    """Killed after storing, after mirroring, after raising one tag, after raising most."""

    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        stored = await world.store.delete_client("c1")
        if reached >= 1:
            version = (await world.mirror.put([stored]))[0].version
            raised = {2: 1, 3: 14}.get(reached, 0)
            for key in VERSIONS[1 : 1 + raised]:
                await world.redis.set(key, version)
        await world.reconciler.run_once()
        assert await world.seen() == set()
        assert len(set(await world.versions())) == 1

    in_world(redis_server, path, story)


def test_a_flush_in_the_middle_of_a_build_never_leaves_half_a_mirror(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(3):
            await world.store.add_client(_client(f"c{number}"))

        async def flush() -> None:
            await world.redis.flushall()

        world.store.between = flush
        await world.reconciler.run_once()
        assert await world.seen() == {"c0", "c1", "c2"}, "a flush before the build's first step does no harm"
        build = world.mirror.build
        records = await world.store.read_clients(["c0", "c1", "c2"])

        async def flush_later() -> None:
            while not await world.redis.exists(CLIENTS) or not await world.redis.exists(BUILD):
                await asyncio.sleep(0)
            await world.redis.flushall()

        flushing = asyncio.create_task(flush_later())
        built = await build(records * 300, 7, "identity")
        await flushing
        assert built is None
        await world.instance.refresh()
        assert not world.instance.loaded, "nobody is told of half a mirror"
        await world.reconciler.run_once()
        assert await world.seen() == {"c0", "c1", "c2"}

    in_world(redis_server, path, story)


def test_a_trimmed_log_costs_a_full_reload_and_nothing_else(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        assert await world.seen() == {"c1"}
        await world.clients.add("c2", ["read"])
        await world.clients.add("c3", ["read"])
        await world.redis.xtrim(LOG, maxlen=1, approximate=False)
        reloads = world.instance.full_reloads
        assert await world.seen() == {"c1", "c2", "c3"}
        assert world.instance.full_reloads == reloads + 1

    in_world(redis_server, path, story)


def test_another_record_store_ends_every_older_token(redis_server: RedisServer, path: Path, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        before = await world.home()
        async with _other(redis_server, tmp_path / "other.db") as other:
            await other.reconciler.run_once()
            after = (await other.mirror.versions())[0]
            assert after is not None
            assert after.number > before.number
            assert await other.seen() == set()

    in_world(redis_server, path, story)


def test_an_older_copy_of_the_record_store_is_noticed(redis_server: RedisServer, path: Path, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        copy = tmp_path / "copy.db"
        with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        await world.clients.disable("c1")
        before = await world.home()
        async with _other(redis_server, copy) as restored:
            change = await restored.clients.rotate("c1")
            assert change.problem is not None
            assert "refused" in change.problem
            assert change.secret, "what is stored is told all the same"
            await restored.reconciler.run_once()
            after = await restored.home()
            assert after.number > before.number
            await restored.seen()
            known = restored.instance.get("c1")
            assert known is not None
            assert known.enabled, "the restored store is the truth now"
            assert len(known.digests) == 2

    in_world(redis_server, path, story)


def test_a_restored_store_that_draws_the_same_revisions_again_is_noticed(redis_server: RedisServer, path: Path, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        copy = tmp_path / "copy.db"
        with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
            source.backup(target)
            source.execute("UPDATE clients SET enabled = 0")
            target.execute("UPDATE clients SET scopes = 'write'")
        source.close()
        target.close()
        await world.reconciler.run_once()
        async with _other(redis_server, copy) as restored:
            await restored.reconciler.run_once()
            await restored.seen()
            known = restored.instance.get("c1")
            assert known is not None
            assert known.record.scopes == ("write",)

    in_world(redis_server, path, story)


@pytest.mark.parametrize("writer", ["goes on", "starts again"])
def test_a_store_restored_to_before_what_was_seen_in_it_is_noticed_though_no_client_changed(
    redis_server: RedisServer, path: Path, tmp_path: Path, writer: str
) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        await world.reconciler.keep_marks()
        before = await world.home()
        await keep_and_restore(path, tmp_path / "copy.db", world)
        if writer == "goes on":
            await noticed(world, before)
        else:
            async with _other(redis_server, path) as restarted:
                await restarted.reconciler.run_once()
                await noticed(restarted, before)

    async def noticed(world: World, before: Version) -> None:
        await world.reconciler.keep_marks()
        await world.reconciler.run_once()
        assert (await world.home()).number > before.number
        assert await world.seen() == {"c1"}
        for _ in range(3):
            await world.reconciler.keep_marks()
            await world.reconciler.run_once()
        assert (await world.home()).number == before.number + 1, "once"

    in_world(redis_server, path, story)


async def keep_and_restore(path: Path, copy_path: Path, *worlds: World) -> None:
    """Copy the store, let marks of more than that be kept and seen in it, and put the copy back."""
    with sqlite3.connect(path) as living, sqlite3.connect(copy_path) as copy:
        living.backup(copy)
        for _ in range(3):
            await worlds[0].redis.xadd(STREAMS[5], {"e": "x"})
            for world in worlds:
                await world.reconciler.keep_marks()
        assert sum(world.reconciler.rebuilds for world in worlds) == 1, "a store that goes on is no reason"
        copy.backup(living)
    living.close()
    copy.close()


@pytest.mark.single
def test_two_writers_who_notice_a_restored_store_start_one_new_incarnation(redis_server: RedisServer, path: Path, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        async with _other(redis_server, path) as other:
            await other.reconciler.run_once()
            await world.reconciler.keep_marks()
            before = await world.home()
            await keep_and_restore(path, tmp_path / "copy.db", world, other)
            for each in (world, other):
                await each.reconciler.keep_marks()
            for _ in range(3):
                for each in (world, other):
                    await each.reconciler.run_once()
                    await each.reconciler.keep_marks()
            assert (await world.home()).number == before.number + 1
            assert world.reconciler.rebuilds + other.reconciler.rebuilds == 2

    in_world(redis_server, path, story)


@pytest.mark.single
def test_marks_are_kept_under_the_incarnation_that_they_are_of(
    redis_server: RedisServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one begins between the look at Redis and the write of what it showed."""

    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.redis.xadd(STREAMS[3], {"e": "x"})
        await world.reconciler.keep_marks()
        before = await world.home()
        recorded = world.mirror.recorded

        async def replaced_meanwhile() -> tuple[int, int]:
            monkeypatch.undo()
            await world.redis.flushall()
            await world.reconciler.run_once()
            return await recorded()

        monkeypatch.setattr(world.mirror, "recorded", replaced_meanwhile)
        await world.reconciler.keep_marks()
        after = await world.home()
        assert after.number == before.number + 1
        number, kept = await world.store.read_marks()
        assert number == after.number
        assert kept[STREAMS[3].decode()].entries_added == 0, "what the Redis before had is not the new one's"

    in_world(redis_server, path, story)


@pytest.mark.single
def test_what_two_writers_keep_is_never_taken_for_an_older_state(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        async with _other(redis_server, path) as other:
            await other.reconciler.run_once()
            for number in range(30):
                await world.redis.xadd(STREAMS[number % 16], {"e": "x"})
                await asyncio.gather(world.reconciler.keep_marks(), other.reconciler.keep_marks())
                await asyncio.gather(world.reconciler.run_once(), other.reconciler.run_once())
            assert world.reconciler.rebuilds + other.reconciler.rebuilds == 1
            assert (await world.mirror.recorded())[1] > 0

    in_world(redis_server, path, story)


@pytest.mark.parametrize("column", ["scopes = 'café'", "scopes = 'a\"b'", "scopes = ''", "access_ttl_seconds = 0"])
def test_a_row_that_no_client_may_be_is_refused_and_stops_nobody_else(redis_server: RedisServer, path: Path, column: str) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        for client_id in ("bad", "good"):
            await world.clients.add(client_id, ["read"])
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE clients SET {column} WHERE client_id = 'bad'")
            connection.execute("UPDATE clients SET enabled = 0 WHERE client_id = 'good'")
        connection.close()
        await world.reconciler.run_once()
        assert await world.seen() == {"good"}
        known = world.instance.get("good")
        assert known is not None
        assert not known.enabled
        await world.redis.delete(VERSIONS[0])
        await world.reconciler.run_once()
        assert await world.seen() == {"good"}, "a build does without it, too"
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE clients SET scopes = 'read', access_ttl_seconds = 60 WHERE client_id = 'bad'")
        connection.close()
        await world.reconciler.run_once()
        assert await world.seen() == {"bad", "good"}, "a row that is mended is served again"

    in_world(redis_server, path, story)


@pytest.mark.parametrize("record", [b"1 99 what is this", b"", b"garbage"])
def test_a_mirror_that_cannot_be_read_is_replaced(redis_server: RedisServer, path: Path, record: bytes) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.clients.add("c1", ["read"])
        await world.redis.hset(CLIENTS, "c2", record)
        fresh = World(world.redis, world.pipeline, world.store)
        await fresh.reconciler.run_once()
        assert await fresh.seen() == {"c1"}

    in_world(redis_server, path, story)


def test_a_lost_tag_starts_a_new_incarnation(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        before = await world.home()
        await world.redis.delete(VERSIONS[9])
        await world.reconciler.run_once()
        assert (await world.home()).number > before.number

    in_world(redis_server, path, story)


def test_streams_that_ran_back_start_a_new_incarnation_and_are_kept(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.redis.xadd(STREAMS[3], {"e": "x"}, id="5-1")
        await world.redis.xadd(STREAMS[3], {"e": "y"}, id="5-2")
        await world.reconciler.run_once()
        await world.reconciler.keep_marks()
        before = await world.home()
        await world.redis.delete(STREAMS[3])
        await world.redis.xadd(STREAMS[3], {"e": "x"}, id="5-1")
        fresh = World(world.redis, world.pipeline, world.store, "another writer")
        await world.store.take_lease("incarnation", "writer", 0)
        await fresh.reconciler.run_once()
        assert (await world.home()).number > before.number, "a writer that has just begun knows the marks from the record store"
        assert await world.redis.xlen(STREAMS[3]) == 1, "what the stream holds is still drained"

    in_world(redis_server, path, story)


def test_a_server_is_vouched_for_only_after_its_data_was_compared(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        built = await take_survey(world.pipeline.masters)
        assert built.vouched == built.run_id, "a build vouches for the server that holds it"
        await world.mirror.vouch("an earlier process of the server")
        await world.reconciler.keep_marks()
        assert (await take_survey(world.pipeline.masters)).vouched != built.run_id
        await world.reconciler.run_once()
        assert (await take_survey(world.pipeline.masters)).vouched == built.run_id

    in_world(redis_server, path, story)


def test_data_that_nobody_saw_to_its_end_is_replaced_unless_somebody_vouches_in_time(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        before = await world.home()
        run_id = (await take_survey(world.pipeline.masters)).run_id
        milliseconds, _, number = (await world.redis.get(BEAT)).decode().partition("-")
        await world.redis.set(BEAT, f"{int(milliseconds) + WITNESS_MS + 60_000}-{int(number) + 1}")
        set_on, kept = await world.redis.get(BEAT), await world.store.read_marks()
        for vouched_in_time in (True, False):
            await world.mirror.vouch("an earlier process of the server")
            later = World(world.redis, world.pipeline, world.store)
            for _ in range(DOUBTS - 1):
                with pytest.raises(Unavailable, match="Nobody has vouched"):
                    await later.reconciler.run_once()
                await later.reconciler.keep_marks()
            assert await world.redis.get(BEAT) == set_on, "who has not judged the data does not move its beat on"
            assert await world.store.read_marks() == kept, "nor say that it was seen"
            if vouched_in_time:
                await world.mirror.vouch(run_id)
                await later.reconciler.run_once()
                assert (await world.mirror.versions())[0] == before
            else:
                await later.reconciler.run_once()
                assert (await world.home()).number > before.number

    in_world(redis_server, path, story)


def test_a_writer_that_starts_beside_another_takes_its_progress_for_no_step_back(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        before = await world.home()

        class SlowToRead(PausedStore):
            async def read_marks(self) -> tuple[int, dict[str, StreamMark]]:
                await world.reconciler.keep_marks()
                return await super().read_marks()

        store = SlowToRead(path)
        await store.open()
        try:
            later = World(world.redis, world.pipeline, store, "another")
            await later.reconciler.run_once()
        finally:
            await store.close()
        assert await world.home() == before

    in_world(redis_server, path, story)


def test_a_beat_that_ran_back_is_enough_however_quiet_the_streams_were(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        await world.reconciler.keep_marks()
        await world.reconciler.keep_marks()
        before = await world.home()
        held = await world.redis.get(BEAT)
        await world.redis.set(BEAT, held.rpartition(b"-")[0] + b"-1")
        await world.mirror.vouch("whoever had this copy")
        await World(world.redis, world.pipeline, world.store).reconciler.run_once()
        assert (await world.home()).number > before.number

    in_world(redis_server, path, story)


def test_twenty_thousand_clients_and_a_change_among_them(redis_server: RedisServer, path: Path) -> None:
    async def story(world: World) -> None:
        await world.reconciler.run_once()
        with sqlite3.connect(path) as connection:
            connection.executemany(
                "INSERT INTO clients (client_id, scopes, secret_digest, secret_created_at, enabled,"
                " access_ttl_seconds, one_time_ttl_seconds) VALUES (?, 'read', ?, 0, 1, 60, 60)",
                ((f"c{number}", b"d" * 32) for number in range(20_000)),
            )
        connection.close()
        await world.reconciler.run_once()
        assert len(await world.seen()) == 20_000
        reloads = world.instance.full_reloads
        for number in range(100):
            await world.clients.disable(f"c{number}")
        assert len(await world.seen()) == 20_000
        assert world.instance.full_reloads == reloads, "100 changes are followed, not loaded again"

    in_world(redis_server, path, story)


def _client(client_id: str) -> Client:
    from authsvc.model import Secret

    return Client(client_id, ("read",), (Secret(b"d" * 32, 0),))


@asynccontextmanager
async def _other(redis_server: RedisServer, path: Path) -> AsyncIterator[World]:
    async with world(redis_server, path) as found:
        yield found
