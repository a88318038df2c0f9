"""The client directory and its mirror over a real server: followed, replaced or refused, but never half and never stale."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from authsvc.credentials import secret_digest
from authsvc.errors import OperatorError, Unavailable
from authsvc.live.connect import RedisClient
from authsvc.live.directory import CATCH_UP_SECONDS, Directory
from authsvc.live.forms import UnknownForm, encode_client
from authsvc.live.keys import BUILD, CLIENTS, HOME_VERSION, LOG, STORE, VERSIONS, VOUCHED
from authsvc.live.mirror import Mirror, Origin, Put, PutResult
from authsvc.live.scripts import BUILD_ADD, BUILD_BEGIN, BUILD_CLOSE, Script
from authsvc.model import Client, DeletedClient, Secret, Version
from authsvc.promise import Promise, settle
from contract.live_parts import IDENTITY, PATIENT_MS, client, redis_client, until
from contract.redis_wires import Relay
from servers import RedisServer

CROWD = 20_000


@dataclass
class Parts:
    """A mirror as a command holds it, and a directory that is refreshed by hand."""

    redis: RedisClient
    mirror: Mirror
    directory: Directory

    async def build(self, *records: Client | DeletedClient, number: int = 1) -> Version:
        version = await self.mirror.build(records, number, IDENTITY)
        assert version is not None
        return version

    async def change(self, *records: Client | DeletedClient) -> Version:
        """Bring changes into force; returns the version from which on they are."""
        results = await self.mirror.put(records)
        assert {result.outcome for result in results} == {Put.DONE}
        assert await self.mirror.raise_versions(results[-1].version)
        return Version.parse(results[-1].version)

    async def reach(self, seen: bytes | None) -> None:
        await settle(self.directory.reach(seen))


@asynccontextmanager
async def parts(server: RedisServer, directory_port: int | None = None) -> AsyncIterator[Parts]:
    """The directory may come to its server by another port, where a relay listens."""
    writing, reading = redis_client(server.port, redis_timeout_ms=PATIENT_MS), redis_client(directory_port or server.port)
    async with writing as redis, reading as read_from:
        directory = Directory(read_from)
        try:
            yield Parts(redis, Mirror(redis), directory)
        finally:
            await directory.close()


def held_records(directory: Directory) -> dict[str, Client]:
    ids = directory.revisions
    return {client_id: known.record for client_id in ids if (known := directory.get(client_id)) is not None}


async def run_script(redis: RedisClient, script: Script, keys: tuple[bytes, ...], *args: object) -> object:
    return await redis.register_script(script.text)(keys=list(keys), args=list(args))


# Loading


def test_a_mirror_is_loaded_as_it_was_built(redis_server: RedisServer) -> None:
    async def main() -> None:
        records = [client("alpha", 3), client("beta", 5, enabled=False, epoch=4, one_time_ttl_seconds=7), client("gamma.-_9", 6)]
        async with parts(redis_server) as on:
            version = await on.build(*records, DeletedClient("delta", 9))
            await on.directory.refresh()
            assert on.directory.loaded
            assert on.directory.version == version
            assert on.directory.stamp() == str(version).encode()
            assert on.directory.incarnation() == 1
            assert held_records(on.directory) == {record.id: record for record in records}
            assert on.directory.revisions == {"alpha": 3, "beta": 5, "gamma.-_9": 6, "delta": 9}
            assert on.directory.get("delta") is None
            assert await on.mirror.versions() == [version] * 16
            assert await on.mirror.origin() == Origin(1, IDENTITY)

    asyncio.run(main())


def test_the_oldest_secret_is_that_of_a_client_that_may_use_it(redis_server: RedisServer) -> None:
    def secret(created_ms: int) -> Secret:
        return Secret(secret_digest(b"secret"), created_ms)

    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(
                client("alpha", secrets=(secret(3000), secret(4000))),
                client("gamma", 5, secrets=(secret(0),)),
                client("beta", 2, secrets=(secret(5000),)),
            )
            await on.directory.refresh()
            assert on.directory.oldest_secret_ms() == 3000
            await on.change(client("gamma", 6, secrets=(secret(0),), enabled=False))
            await on.change(client("alpha", 3, secrets=(secret(3000),), enabled=False))
            await on.directory.refresh()
            assert on.directory.oldest_secret_ms() == 5000
            await on.change(client("beta", 4, secrets=(secret(5000),), enabled=False))
            await on.directory.refresh()
            assert on.directory.oldest_secret_ms() == 0

    asyncio.run(main())


def test_a_mirror_of_no_clients_is_loaded(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build()
            await on.reach(str(version).encode())
            assert on.directory.loaded
            assert on.directory.get("alpha") is None
            await on.reach(str(await on.change(client("alpha"))).encode())
            assert on.directory.get("alpha") is not None

    asyncio.run(main())


def test_without_a_version_there_is_no_directory(redis_server: RedisServer) -> None:
    async def refuses_everything(on: Parts) -> None:
        assert not on.directory.loaded
        assert on.directory.revisions == {}
        with pytest.raises(Unavailable):
            on.directory.stamp()
        with pytest.raises(Unavailable):
            on.directory.incarnation()
        with pytest.raises(Unavailable):
            await on.reach(None)

    async def main() -> None:
        async with parts(redis_server) as on:
            await on.directory.refresh()
            await refuses_everything(on)
            version = await on.build(client("alpha"))
            await on.directory.refresh()
            assert on.directory.loaded

            await on.mirror.drop()
            await on.directory.refresh()
            await refuses_everything(on)

            await on.redis.set(HOME_VERSION, str(version))
            await on.directory.refresh()
            assert on.directory.loaded
            # An answer that came without a version is enough: nobody asks Redis first.
            with pytest.raises(Unavailable):
                await on.reach(None)
            await refuses_everything(on)

    asyncio.run(main())


def test_a_crowd_is_loaded_once_and_then_followed(redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            clients = [client(f"client-{number}") for number in range(CROWD)]
            await on.build(*clients)
            began = time.perf_counter()
            await on.directory.refresh()
            loaded_seconds = time.perf_counter() - began
            before = {record.id: on.directory.get(record.id) for record in clients}
            assert all(before.values())
            assert on.directory.full_reloads == 1

            changed = [client(f"client-{number}", 2, scopes=("other",)) for number in range(0, 40 * 498, 40)]
            version = await on.change(*changed, DeletedClient("client-1", 3), client("newcomer", 4))
            began = time.perf_counter()
            await on.directory.refresh()
            followed_seconds = time.perf_counter() - began
            assert on.directory.version == version
            assert on.directory.version.change == 500
            assert on.directory.full_reloads == 1
            ids = {record.id for record in changed}
            for record in clients:
                known = on.directory.get(record.id)
                if record.id in ids:
                    assert known is not None
                    assert known.record.scopes == ("other",)
                elif record.id == "client-1":
                    assert known is None
                else:
                    assert known is before[record.id]
            assert on.directory.get("newcomer") is not None
            with capsys.disabled():
                print(f"\n{CROWD} clients loaded in {loaded_seconds:.3f} s, 500 changes followed in {followed_seconds:.3f} s")

            # The log no longer reaches back to where we are: everything is read again.
            version = await on.change(*(client(f"client-{number}", 5) for number in range(100, 110)))
            await on.redis.xtrim(LOG, maxlen=5, approximate=False)
            await on.directory.refresh()
            assert on.directory.version == version
            assert on.directory.full_reloads == 2
            assert len(held_records(on.directory)) == CROWD
            assert on.directory.get("client-1") is None
            assert on.directory.revisions["client-1"] == 3
            assert all(on.directory.revisions[f"client-{number}"] == 5 for number in range(100, 110))

    asyncio.run(main())


def test_a_log_that_reaches_back_far_enough_is_followed(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha"))
            await on.change(client("beta", 2))
            await on.directory.refresh()
            await on.change(client("gamma", 3), client("delta", 4), client("gamma", 5))
            await on.redis.xtrim(LOG, maxlen=3, approximate=False)
            await on.directory.refresh()
            assert on.directory.full_reloads == 1
            assert on.directory.revisions == {"alpha": 1, "beta": 2, "gamma": 5, "delta": 4}

            await on.change(client("alpha", 6), client("beta", 7), client("gamma", 8))
            await on.redis.xdel(LOG, "5-0")
            await on.directory.refresh()
            assert on.directory.full_reloads == 2
            assert on.directory.revisions == {"alpha": 6, "beta": 7, "gamma": 8, "delta": 4}

    asyncio.run(main())


def test_another_incarnation_is_loaded_whole(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha", 7), client("beta", 8))
            await on.directory.refresh()
            version = await on.build(client("alpha", 2), number=2)
            await on.directory.refresh()
            assert on.directory.version == version
            assert on.directory.full_reloads == 2
            assert on.directory.revisions == {"alpha": 2}
            assert on.directory.get("beta") is None
            # The same number again, as after a build that was repeated, is another incarnation all the same.
            again = await on.build(client("gamma", 3), number=2)
            assert again.incarnation != version.incarnation
            await on.reach(str(again).encode())
            assert on.directory.revisions == {"gamma": 3}

    asyncio.run(main())


def test_changes_during_a_load_are_not_missed(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with Relay(redis_server.port) as relay, parts(redis_server, relay.port) as on:
            version = await on.build(*(client(f"client-{number}") for number in range(5000)))
            relay.hold_from(b"HSCAN")
            loading = asyncio.create_task(on.directory.refresh())
            await until(lambda: relay.holding, "the load has begun")
            # Some of these are read already, some are not.
            changed = [client(f"client-{number}", 2) for number in range(0, 5000, 50)]
            newest = await on.change(*changed, DeletedClient("client-1", 3))
            relay.release()
            await loading
            assert on.directory.version == version
            await on.directory.refresh()
            assert on.directory.version == newest
            assert on.directory.full_reloads == 1
            assert {on.directory.revisions[record.id] for record in changed} == {2}
            assert on.directory.get("client-1") is None

    asyncio.run(main())


def test_a_mirror_that_is_replaced_during_a_load_is_not_taken_for_the_old_one(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with Relay(redis_server.port) as relay, parts(redis_server, relay.port) as on:
            await on.build(*(client(f"client-{number}") for number in range(3000)))
            relay.hold_from(b"HSCAN")
            loading = asyncio.create_task(on.directory.refresh())
            await until(lambda: relay.holding, "the load has begun")
            version = await on.build(client("alpha"), number=2)
            relay.release()
            with pytest.raises(Unavailable):
                await loading
            assert not on.directory.loaded
            await on.reach(str(version).encode())
            assert on.directory.revisions == {"alpha": 1}

    asyncio.run(main())


def test_a_directory_dropped_while_it_follows_does_not_come_back_in_part(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with Relay(redis_server.port) as relay, parts(redis_server, relay.port) as on:
            await on.build(client("alpha"), client("beta"))
            await on.directory.refresh()
            await on.change(client("alpha", 2))
            relay.hold_from(b"HMGET")
            following = asyncio.create_task(on.directory.refresh())
            await until(lambda: relay.holding, "the changed records are asked for")
            with pytest.raises(Unavailable):
                await on.reach(None)
            relay.release()
            await asyncio.gather(following, return_exceptions=True)
            assert not on.directory.loaded or on.directory.revisions == {"alpha": 2, "beta": 1}
            await on.directory.refresh()
            assert on.directory.revisions == {"alpha": 2, "beta": 1}

    asyncio.run(main())


def test_a_client_in_a_form_of_a_newer_release_is_no_unknown_client(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha"), client("beta"))
            await on.directory.refresh()
            await on.change(client("beta", 2))
            version = await on.change(client("alpha", 3))
            await on.redis.hset(CLIENTS, "alpha", b"2 3 e whatever")
            with pytest.raises(UnknownForm):
                await on.directory.refresh()
            with pytest.raises(Unavailable):
                await on.reach(str(version).encode())
            with pytest.raises(Unavailable):
                on.directory.stamp()
            with pytest.raises(OperatorError, match="newer release"):
                await on.mirror.put([client("alpha", 4)])
            assert await on.redis.hget(CLIENTS, "alpha") == b"2 3 e whatever"
            await on.redis.hset(CLIENTS, "alpha", encode_client(client("alpha", 3)))
            await on.reach(str(version).encode())
            assert on.directory.revisions == {"alpha": 3, "beta": 2}

    asyncio.run(main())


# Catching up


def test_reach_waits_for_a_change_that_was_announced(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build(client("alpha"))
            await on.directory.refresh()
            announced = str(version._replace(change=2)).encode()
            waiting = [asyncio.create_task(on.reach(announced)) for _ in range(50)]
            await on.change(client("beta", 2))
            await on.reach(str(version._replace(change=1)).encode())
            assert on.directory.get("beta") is not None
            assert not any(task.done() for task in waiting)
            await on.change(client("gamma", 3))
            await asyncio.gather(*waiting)
            assert on.directory.get("gamma") is not None
            assert on.directory.full_reloads == 1

    asyncio.run(main())


def test_reach_gives_up_within_its_second(redis_server: RedisServer) -> None:
    async def gives_up(on: Parts, seen: bytes) -> float:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="behind"):
            await on.reach(seen)
        return time.monotonic() - began

    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build(client("alpha"))
            await on.directory.refresh()
            others = (version._replace(change=1), version._replace(number=2), version._replace(nonce="00000000"))
            waits = await asyncio.gather(*(gives_up(on, str(seen).encode()) for seen in others))
            assert CATCH_UP_SECONDS <= min(waits) <= max(waits) < 1.2
            assert on.directory.loaded
            assert on.directory.version == version

            os.kill(redis_server.pid, signal.SIGSTOP)
            waited = await gives_up(on, str(others[0]).encode())
            os.kill(redis_server.pid, signal.SIGCONT)
            assert waited < 1.4

            redis_server.stop()
            assert await gives_up(on, str(others[0]).encode()) < 1.2
            # What was loaded stays: only an answer of Redis can say that it is gone.
            assert on.directory.loaded

    asyncio.run(main())


def test_a_ticking_directory_finds_changes_by_itself(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha"))
            on.directory.start()
            await until(lambda: on.directory.loaded, "the directory is loaded", 3)
            await on.change(client("beta", 2))
            await until(lambda: on.directory.get("beta"), "the change is seen", 3)
            await on.mirror.drop()
            await until(lambda: not on.directory.loaded, "the loss is seen", 3)

    asyncio.run(main())


def test_closing_refuses_whoever_waits(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build()
            await on.directory.refresh()
            waiting = asyncio.create_task(on.reach(str(version._replace(change=9)).encode()))
            await asyncio.sleep(0)
            await on.directory.close()
            with pytest.raises(Unavailable):
                await waiting

    asyncio.run(main())


def test_a_failing_continuation_of_one_who_waits_touches_nobody_else(redis_server: RedisServer) -> None:
    def fails() -> None:
        raise RuntimeError("a continuation that fails")

    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build()
            await on.directory.refresh()
            announced = str(version._replace(change=1)).encode()
            first = on.directory.reach(announced)
            waiting: Promise[None] = first.send(None)
            waiting.when_settled(fails)
            others = [asyncio.create_task(on.reach(announced)) for _ in range(3)]
            await asyncio.sleep(0)
            await on.change(client("alpha", 2))
            await asyncio.wait_for(asyncio.gather(*others), 2)
            first.close()

    asyncio.run(main())


def test_what_covers_a_judgement(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build(client("alpha"))
            await on.change(client("beta", 2), client("gamma", 3))
            await on.directory.refresh()
            judged = on.directory.stamp()
            # An answer from before our newest change, which the directory has seen, needs no reload and no wait.
            for change in (0, 1, 2):
                seen = str(version._replace(change=change)).encode()
                assert on.directory.covers(judged, seen)
                with pytest.raises(StopIteration):
                    on.directory.reach(seen).send(None)
            for seen in (version._replace(change=3), version._replace(number=2, change=0), version._replace(nonce="00000000", change=0)):
                assert not on.directory.covers(judged, str(seen).encode())
            assert not on.directory.covers(judged, None)
            with pytest.raises(Unavailable):
                on.directory.covers(judged, b"nonsense")

    asyncio.run(main())


# Guarded writes


def test_a_write_that_is_not_newer_is_refused(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha", 5))
            held = client("alpha", 10, scopes=("held",))
            version = await on.change(held)
            kept = (await on.redis.hgetall(CLIENTS), await on.redis.xrange(LOG), await on.mirror.versions())
            not_newer = [client("alpha", revision) for revision in (10, 9, 5, 1)]
            for record in (*not_newer, DeletedClient("alpha", 10), DeletedClient("alpha", 2)):
                assert await on.mirror.put([record]) == [PutResult(Put.REFUSED, str(version).encode(), encode_client(held))]
            assert (await on.redis.hgetall(CLIENTS), await on.redis.xrange(LOG), await on.mirror.versions()) == kept
            # Revisions are numbers, not text: 11 is newer than 10, 100 than 11.
            assert [result.outcome for result in await on.mirror.put([client("alpha", 11), client("alpha", 100)])] == [Put.DONE] * 2

    asyncio.run(main())


def test_racing_writes_leave_the_newest(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha"))
            await on.directory.refresh()
            revisions = [(7 * number) % 60 + 2 for number in range(60)]
            results = await asyncio.gather(*(on.mirror.put([client("alpha", revision)]) for revision in revisions))
            done = sum(result.outcome is Put.DONE for [result] in results)
            assert {result.outcome for [result] in results} <= {Put.DONE, Put.REFUSED}
            assert [entry_id for entry_id, _ in await on.redis.xrange(LOG)] == [b"%d-0" % change for change in range(1, done + 1)]
            await on.directory.refresh()
            assert on.directory.version is not None
            assert on.directory.version.change == done
            assert on.directory.revisions == {"alpha": 61}
            assert on.directory.full_reloads == 1

    asyncio.run(main())


def test_there_is_no_write_into_an_incomplete_mirror(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            assert await on.mirror.put([client("alpha")]) == [PutResult(Put.INCOMPLETE)]
            assert await on.redis.dbsize() == 0
            await run_script(on.redis, BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), "mark", 1)
            await run_script(on.redis, BUILD_ADD, (BUILD, CLIENTS), "mark", "beta", encode_client(client("beta")))
            assert await on.mirror.put([client("alpha"), client("beta", 2)]) == [PutResult(Put.INCOMPLETE)] * 2
            assert await on.redis.hgetall(CLIENTS) == {b"beta": encode_client(client("beta"))}

    asyncio.run(main())


def test_a_deleted_client_leaves_its_revision(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha", 5))
            await on.directory.refresh()
            await on.change(DeletedClient("alpha", 8))
            for directory in (on.directory, Directory(on.redis)):
                await directory.refresh()
                assert directory.get("alpha") is None
                assert directory.revisions == {"alpha": 8}
            [result] = await on.mirror.put([client("alpha", 7)])
            assert result.outcome is Put.REFUSED
            await on.change(client("alpha", 9, epoch=9))
            await on.directory.refresh()
            known = on.directory.get("alpha")
            assert known is not None
            assert known.epoch == 9

    asyncio.run(main())


def test_versions_are_only_ever_raised(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            version = await on.build(client("alpha"))
            results = await on.mirror.put([client("alpha", 2), client("beta", 3)])
            first, second = (result.version for result in results)
            assert await on.mirror.versions() == [version._replace(change=2)] + [version] * 15
            assert await on.mirror.raise_versions(second)
            # A slower command's raise comes late.
            assert await on.mirror.raise_versions(first)
            assert await on.mirror.versions() == [version._replace(change=2)] * 16

            other = await on.build(client("alpha", 2), number=2)
            assert not await on.mirror.raise_versions(second)
            assert not await on.mirror.raise_versions(str(version._replace(change=99)).encode())
            assert await on.mirror.versions() == [other] * 16

            await on.redis.delete(VERSIONS[3])
            assert not await on.mirror.raise_versions(str(other._replace(change=1)).encode())
            assert (await on.mirror.versions())[3] is None
            await on.redis.flushall()
            assert not await on.mirror.raise_versions(str(other).encode())
            assert await on.redis.dbsize() == 0

    asyncio.run(main())


# Builds that are lost


async def _flush(on: Parts) -> None:
    await on.redis.flushall()


async def _begin_another(on: Parts) -> None:
    await run_script(on.redis, BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), "another", 2)


async def _complete_another(on: Parts) -> None:
    await on.build(client("another"), number=2)


async def _complete_another_like_it(on: Parts) -> None:
    await on.build(client("alpha"), client("beta"), number=2)


async def _lose_a_record(on: Parts) -> None:
    await on.redis.hdel(CLIENTS, "alpha")


DISTURBANCES = (_flush, _begin_another, _complete_another, _complete_another_like_it)


@pytest.mark.parametrize("disturb", DISTURBANCES)
def test_a_build_that_is_disturbed_is_lost(redis_server: RedisServer, disturb: Callable[[Parts], Awaitable[None]]) -> None:
    async def main() -> None:
        steps = [
            (BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), ("mark", 1)),
            (BUILD_ADD, (BUILD, CLIENTS), ("mark", "alpha", encode_client(client("alpha")))),
            (BUILD_ADD, (BUILD, CLIENTS), ("mark", "beta", encode_client(client("beta")))),
            (BUILD_CLOSE, (BUILD, CLIENTS, HOME_VERSION, STORE, VOUCHED), ("mark", 2, "1-00000000:0", 1, IDENTITY, "run")),
        ]
        async with parts(redis_server) as on:
            for after in (1, 2, 3):
                await on.build(client("older"))
                await on.mirror.drop()
                kept: object = None
                for number, (script, keys, args) in enumerate(steps, 1):
                    reply = await run_script(on.redis, script, keys, *args)
                    assert reply == (b"done" if number <= after else b"lost")
                    if number == after:
                        await disturb(on)
                        kept = await everything(on)
                assert await everything(on) == kept

    asyncio.run(main())


def test_a_build_closes_only_with_every_record(redis_server: RedisServer) -> None:
    async def close(on: Parts, count: int) -> object:
        keys = (BUILD, CLIENTS, HOME_VERSION, STORE, VOUCHED)
        return await run_script(on.redis, BUILD_CLOSE, keys, "mark", count, "1-00000000:0", 1, IDENTITY, "run")

    async def main() -> None:
        async with parts(redis_server) as on:
            await run_script(on.redis, BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), "mark", 1)
            for name in ("alpha", "beta"):
                await run_script(on.redis, BUILD_ADD, (BUILD, CLIENTS), "mark", name, encode_client(client(name)))
            for count in (0, 1, 3):
                assert await close(on, count) == b"lost"
                assert await on.redis.get(HOME_VERSION) is None
            assert await close(on, 2) == b"done"
            assert await on.redis.get(HOME_VERSION) == b"1-00000000:0"
            assert await close(on, 2) == b"lost"

    asyncio.run(main())


async def everything(on: Parts) -> list[object]:
    versions = [await on.redis.get(key) for key in VERSIONS]
    return [*versions, await on.redis.hgetall(CLIENTS), await on.redis.xrange(LOG), await on.redis.get(STORE)]


def test_a_real_build_that_is_flushed_or_overtaken_says_so(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with Relay(redis_server.port) as relay, redis_client(relay.port) as slow, parts(redis_server) as on:
            records = [client(f"client-{number}") for number in range(1200)]
            for disturb in (_flush, _begin_another, _complete_another, _lose_a_record):
                relay.hold_from(b"client-700")
                building = asyncio.create_task(Mirror(slow).build([client("alpha"), *records], 1, IDENTITY))
                await until(lambda: relay.holding, "the second page is on its way")
                await disturb(on)
                relay.release()
                assert await building is None
                version = await on.redis.get(HOME_VERSION)
                assert version is None or version.startswith(b"2-")

    asyncio.run(main())


def test_a_build_that_stood_still_does_not_undo_the_one_that_overtook_it(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with Relay(redis_server.port) as relay, redis_client(relay.port) as slow, parts(redis_server) as on:
            # The reply to its last record is what it waits for: next it gives its version to the other tags.
            relay.hold_from(b"client-999")
            records = [client(f"client-{number}") for number in range(1000)]
            building = asyncio.create_task(Mirror(slow).build(records, 1, IDENTITY))
            await until(lambda: relay.holding, "its last page is on its way")
            version = await on.build(client("alpha"), number=2)
            relay.release()
            assert await building is None
            assert await on.mirror.versions() == [version] * 16

    asyncio.run(main())


def test_a_begun_build_takes_the_number_with_it(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with parts(redis_server) as on:
            await on.build(client("alpha"), number=7)
            await run_script(on.redis, BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), "mark", 5)
            assert await on.mirror.origin() == Origin(7, "-")
            await run_script(on.redis, BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), "mark", 9)
            assert await on.mirror.origin() == Origin(9, "-")
            assert (await on.mirror.versions())[0] is None

    asyncio.run(main())
