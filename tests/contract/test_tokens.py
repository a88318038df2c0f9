"""The token rules over a real server and several instances: whoever is slow, wrong by the clock or behind, the promises hold."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authsvc.credentials import secret_digest
from authsvc.errors import InsufficientScope, InvalidClient, InvalidScope, InvalidToken, Refusal, UnauthorizedClient, Unavailable
from authsvc.live.keys import STREAMS, shard, token_key
from authsvc.model import Client, DeletedClient, Event, Kind, Secret, TokenEvent
from authsvc.promise import drive, settle
from authsvc.tokens import Credentials
from contract.live_parts import SECRET, Instance, all_keys, build, client, events, now_ms, on_all, open_instance, open_instances, until
from servers import RedisServer

OVER_EVERY_KIND = True

ALPHA = Credentials("alpha", SECRET)
NEW_SECRET = b"aN0therSecretOfThisTest"


@asynccontextmanager
async def one_behind(server: RedisServer) -> AsyncIterator[tuple[Instance, Instance]]:
    """An instance whose directory knows alpha and beta as they are, and one by which they are changed."""
    await build(server.port, client("alpha"), client("beta"))
    async with open_instances(server.port, 2) as (behind, changing):
        yield behind, changing


def story(found: list[TokenEvent]) -> str:
    """The letters of the events, by their time of entry."""
    return "".join(event.event for event in found)


def name_of(instance: Instance, token: bytes) -> bytes:
    name = instance.keys.name(token)
    assert name is not None
    return name


async def story_of(instance: Instance, token: bytes) -> str:
    name = name_of(instance, token)
    return story([event for event in await events(instance.redis) if event.name == name])


async def step(use_case: Coroutine[Any, Any, Any]) -> None:
    """Run a use case by hand to its next wait, and wait for what it waits for; it does not go on yet."""
    waiting = use_case.send(None)
    await until(lambda: waiting.settled, "the reply has come")


async def finish(use_case: Coroutine[Any, Any, Any]) -> Any:
    """Run a use case on to its end from where `step` left it."""
    finished: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(value: object, error: Exception | None) -> None:
        if error is None:
            finished.set_result(value)
        else:
            finished.set_exception(error)

    drive(use_case, done)
    return await finished


async def ended(instance: Instance, token: bytes) -> bool:
    try:
        await instance.validate(token)
    except InvalidToken:
        return True
    return False


# Through and through


def test_a_token_is_good_everywhere_at_once(redis_server: RedisServer) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha", access_ttl_seconds=50, one_time_ttl_seconds=7))
        async with open_instances(redis_server.port, 4) as instances:
            first = instances[0]
            issued = await settle(first.tokens.issue(ALPHA, Kind.ACCESS, ("write",)))
            assert (issued.kind, issued.expires_in, issued.scope) == (Kind.ACCESS, 50, "write")
            values = await asyncio.gather(*(instance.validate(issued.token, "write") for instance in instances))
            assert {(value.client_id, value.scope, value.ttl_seconds, value.epoch) for value in values} == {("alpha", "write", 50, 1)}

            issued = await settle(first.tokens.issue(ALPHA, Kind.ONE_TIME, ()))
            assert (issued.kind, issued.expires_in, issued.scope) == (Kind.ONE_TIME, 7, "read write")
            found = await asyncio.gather(*(instance.introspect(issued.token) for instance in instances))
            assert [value.kind for value in found if value] == ["o"] * 4
            assert (await instances[3].validate(issued.token)).scope == "read write"
            assert await asyncio.gather(*(ended(instance, issued.token) for instance in instances)) == [True] * 4
            assert story(await events(first.redis)).count("i") == 2

    asyncio.run(main())


def test_a_one_time_token_gives_one_success(redis_server: RedisServer) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha"))
        async with open_instances(redis_server.port, 4) as instances:
            tokens = await asyncio.gather(*(instances[number % 4].issue(kind=Kind.ONE_TIME) for number in range(200)))

            async def use(instance: Instance, token: bytes) -> tuple[bytes, bool]:
                return token, not await ended(instance, token)

            successes: Counter[bytes] = Counter()
            for start in range(0, len(tokens), 10):
                racing = [use(instance, token) for token in tokens[start : start + 10] for _ in range(20) for instance in instances]
                successes.update(token for token, success in await asyncio.gather(*racing) if success)
            assert successes == dict.fromkeys(tokens, 1)
            assert Counter(story(await events(instances[0].redis))) == {"i": 200, "u": 200}
            assert sum(instance.counts.consumed for instance in instances) == 200

    asyncio.run(main())


def test_a_revoke_holds_everywhere_from_its_answer_on(redis_server: RedisServer) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha"))
        async with open_instances(redis_server.port, 4) as instances:

            async def live_and_die(number: int) -> None:
                revoking = instances[number % 4]
                token = await instances[(number + 1) % 4].issue()
                await asyncio.gather(*(instance.validate(token) for instance in instances))
                await revoking.revoke(token)
                assert await asyncio.gather(*(ended(instance, token) for instance in instances)) == [True] * 4
                # Again is no error, and brings nothing back.
                await instances[(number + 2) % 4].revoke(token)
                assert await ended(revoking, token)

            for start in range(0, 1000, 100):
                await asyncio.gather(*map(live_and_die, range(start, start + 100)))
            assert Counter(story(await events(instances[0].redis))) == {"i": 1000, "r": 1000}
            assert sum(instance.counts.revoked for instance in instances) == 1000

    asyncio.run(main())


def test_changes_of_clients_disturb_no_other_client(redis_server: RedisServer) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha"), client("beta"))
        async with open_instances(redis_server.port, 3) as instances:
            changing = True

            async def work(instance: Instance) -> int:
                rounds = 0
                while changing:
                    token = await instance.issue()
                    await instance.validate(token)
                    await instance.revoke(token)
                    one_time = await instance.issue(kind=Kind.ONE_TIME)
                    await instance.validate(one_time)
                    rounds += 1
                return rounds

            working = [asyncio.create_task(work(instance)) for instance in instances for _ in range(4)]
            for revision in range(2, 82):
                await instances[0].change(client("beta", revision, enabled=revision % 2 == 0))
            changing = False
            assert min(await asyncio.gather(*working)) > 0
            assert {instance.directory.full_reloads for instance in instances} == {1}

    asyncio.run(main())


# Judged by a directory that is behind

STANDS = "i"
REFUSED = "iv"
MADE_ANEW = "ivi"
OTHER_SECRET = (Secret(secret_digest(NEW_SECRET), 1_790_000_000_001),)


@pytest.mark.parametrize(
    ("changed", "scopes", "events_left", "refusal"),
    [
        (client("alpha", 2, enabled=False), (), REFUSED, InvalidClient),
        (client("alpha", 2, secrets=OTHER_SECRET), (), REFUSED, InvalidClient),
        (DeletedClient("alpha", 2), (), REFUSED, InvalidClient),
        (client("alpha", 2, scopes=("read",)), ("write",), REFUSED, InvalidScope),
        (client("alpha", 2, scopes=("read",)), ("read",), STANDS, None),
        (client("alpha", 2, scopes=("read",)), (), MADE_ANEW, None),
        (client("alpha", 2, epoch=2), (), MADE_ANEW, None),
        (client("beta", 2, enabled=False), (), STANDS, None),
    ],
    ids=["disabled", "secret retired", "deleted", "scope lost", "other scope lost", "fewer scopes", "tokens revoked", "other client"],
)
def test_an_issue_judged_by_an_old_directory(
    redis_server: RedisServer, changed: Client | DeletedClient, scopes: tuple[str, ...], events_left: str, refusal: type[Refusal] | None
) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            await changing.change(changed)
            assert behind.directory.version != await home_version(changing)
            issuing = behind.issue(scopes=scopes)
            if refusal is not None:
                with pytest.raises(refusal):
                    await issuing
            else:
                token = await issuing
                for instance in (behind, changing):
                    value = await instance.validate(token)
                    known = instance.directory.get("alpha")
                    assert known is not None
                    assert (value.epoch, value.scope) == (known.epoch, " ".join(scopes) or known.scope)
            found = await events(behind.redis)
            # Which shard a token falls in is chance, so that only the order within a token is one of time.
            by_token = [story([event for event in found if event.name == name]) for name in {event.name for event in found}]
            assert sorted(by_token, reverse=True) == {STANDS: ["i"], REFUSED: ["iv"], MADE_ANEW: ["iv", "i"]}[events_left]
            voided = {event.name for event in found if event.event == Event.VOIDED}
            assert await behind.redis.exists(*map(token_key, voided or {bytes(20)})) == 0
            assert behind.counts.issued[Kind.ACCESS] == (refusal is None)

    asyncio.run(main())


async def home_version(instance: Instance) -> object:
    return (await instance.mirror.versions())[0]


def test_an_issue_across_incarnations_is_made_anew(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            await build(redis_server.port, client("alpha"), number=2)
            token = await behind.issue()
            assert (await changing.validate(token)).incarnation == 2
            assert Counter(story(await events(behind.redis))) == {"i": 2, "v": 1}

    asyncio.run(main())


def test_an_issue_while_the_mirror_is_lost_is_voided(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            await changing.mirror.drop()
            with pytest.raises(Unavailable):
                await behind.issue()
            [issued, voided] = await events(behind.redis)
            assert (issued.name, issued.event, voided.event) == (voided.name, Event.ISSUED, Event.VOIDED)
            assert await behind.redis.exists(token_key(issued.name)) == 0

    asyncio.run(main())


def test_a_client_disabled_while_its_void_is_judged(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            await changing.change(client("beta", 2))
            issuing = behind.tokens.issue(ALPHA, Kind.ACCESS, ())
            await step(issuing)
            # The store's batch saw beta's change; by the time the directory has caught up, alpha is disabled too.
            await changing.change(client("alpha", 3, enabled=False))
            with pytest.raises(InvalidClient):
                await finish(issuing)
            assert story(await events(behind.redis)) == "iv"

    asyncio.run(main())


@pytest.mark.parametrize(
    "added",
    [
        client("gamma", 2),
        client("beta", 2, scopes=("read", "write", "more")),
        client("beta", 2, secrets=(*client().secrets, *OTHER_SECRET)),
    ],
    ids=["client", "scope", "secret"],
)
def test_what_was_just_added_is_accepted(redis_server: RedisServer, added: Client) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha"), client("beta"))
        secret = NEW_SECRET if len(added.secrets) == 2 else SECRET
        presented = Credentials(added.id, secret)
        async with open_instance(redis_server.port) as changing:
            async with open_instances(redis_server.port, 3) as (issuing, introspecting, revoking):
                await changing.change(added)
                issued = await settle(issuing.tokens.issue(presented, Kind.ACCESS, added.scopes))
                assert issued.scope == " ".join(added.scopes)
                assert await settle(introspecting.tokens.introspect(presented, issued.token)) is not None
                await settle(revoking.tokens.revoke(presented, issued.token))
                assert await ended(issuing, issued.token)
            async with open_instance(redis_server.port) as validating:
                await changing.change(client(added.id, 5))
                await validating.validate(await changing.issue(added.id))

    asyncio.run(main())


def test_a_client_enabled_again_is_accepted_and_so_are_its_tokens(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            token = await changing.issue()
            await changing.change(client("alpha", 2, enabled=False))
            for instance in (behind, changing):
                assert await ended(instance, token)
                with pytest.raises(InvalidClient):
                    await instance.issue()
            await changing.change(client("alpha", 3))
            await behind.issue()
            await behind.validate(token)

    asyncio.run(main())


def test_an_unknown_client_is_refused_by_a_directory_that_is_up_to_date(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, _):
            token = await behind.issue()
            for presented in (Credentials("nobody", SECRET), Credentials("alpha", b"wrong"), Credentials("alpha", b"")):
                with pytest.raises(InvalidClient):
                    await settle(behind.tokens.issue(presented, Kind.ACCESS, ()))
                for some_token in (token, b"garbage"):
                    with pytest.raises(InvalidClient):
                        await settle(behind.tokens.introspect(presented, some_token))
                    with pytest.raises(InvalidClient):
                        await settle(behind.tokens.revoke(presented, some_token))
            with pytest.raises(InvalidScope):
                await behind.issue(scopes=("read", "admin"))
            assert story(await events(behind.redis)) == "i"
            await behind.validate(token)

    asyncio.run(main())


# Between reading and ending


@pytest.mark.parametrize(
    "changed",
    [client("alpha", 2, enabled=False), client("alpha", 2, epoch=2), DeletedClient("alpha", 2)],
    ids=["disabled", "epoch", "deleted"],
)
def test_a_change_between_read_and_consume_refuses_and_consumes_nothing(redis_server: RedisServer, changed: Client | DeletedClient) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            token = await behind.issue(kind=Kind.ONE_TIME)
            validating = behind.tokens.validate(token, ())
            await step(validating)
            await changing.change(changed)
            with pytest.raises(InvalidToken):
                await finish(validating)
            assert await story_of(behind, token) == "i"
            await changing.change(client("alpha", 3))
            await behind.validate(token)
            assert await story_of(behind, token) == "iu"

    asyncio.run(main())


def test_an_unrelated_change_between_read_and_consume_costs_nothing(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            token = await behind.issue(kind=Kind.ONE_TIME)
            validating = behind.tokens.validate(token, ())
            await step(validating)
            await changing.change(client("beta", 2))
            assert (await finish(validating)).value.client_id == "alpha"
            assert await story_of(behind, token) == "iu"
            assert await ended(changing, token)

    asyncio.run(main())


def test_a_mirror_lost_between_read_and_consume_consumes_nothing(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            token = await behind.issue(kind=Kind.ONE_TIME)
            validating = behind.tokens.validate(token, ())
            await step(validating)
            await changing.mirror.drop()
            with pytest.raises(Unavailable):
                await finish(validating)
            assert await story_of(behind, token) == "i"

    asyncio.run(main())


@pytest.mark.parametrize(
    "changed",
    [client("alpha", 2, enabled=False), client("alpha", 2, secrets=OTHER_SECRET), DeletedClient("alpha", 2)],
    ids=["disabled", "secret retired", "deleted"],
)
def test_a_revoke_judged_by_an_old_directory_has_no_effect(redis_server: RedisServer, changed: Client | DeletedClient) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (behind, changing):
            token = await behind.issue()
            await changing.change(changed)
            with pytest.raises(InvalidClient):
                await behind.revoke(token)
            assert await story_of(behind, token) == "i"
            # Who holds the token may throw it away, whatever its client is by now.
            await settle(behind.tokens.revoke_presented(token))
            assert await story_of(behind, token) == "ir"

    asyncio.run(main())


# Without a mirror


def test_without_a_mirror_everything_is_unavailable_and_nothing_is_unknown(redis_server: RedisServer) -> None:
    async def refuses_all(instance: Instance, token: bytes) -> None:
        wrong = Credentials("nobody", b"wrong")
        unknown, _ = instance.keys.new(Kind.ACCESS)
        asked = [
            instance.tokens.issue(ALPHA, Kind.ACCESS, ()),
            instance.tokens.issue(wrong, Kind.ACCESS, ()),
            instance.tokens.issue(ALPHA, Kind.ACCESS, ("admin",)),
            *(instance.tokens.validate(presented, ()) for presented in (token, unknown)),
            *(instance.tokens.introspect(who, presented) for who in (ALPHA, wrong) for presented in (token, unknown, b"garbage")),
            *(instance.tokens.revoke(who, presented) for who in (ALPHA, wrong) for presented in (token, unknown, b"garbage")),
            instance.tokens.revoke_presented(token),
        ]
        for use_case in asked:
            with pytest.raises(Unavailable):
                await settle(use_case)

    async def main() -> None:
        async with one_behind(redis_server) as (loaded, other):
            token = await loaded.issue()
            await other.mirror.drop()
            async with open_instance(redis_server.port) as fresh:
                await refuses_all(loaded, token)
                await refuses_all(fresh, token)
                await build(redis_server.port, client("alpha"), number=1)
                for instance in (loaded, fresh):
                    await instance.directory.refresh()
                    await instance.validate(token)
            redis_server.stop()
            await refuses_all(loaded, token)

    asyncio.run(main())


# What ends tokens


def test_another_incarnation_ends_all_tokens(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            tokens = [await one.issue(), await two.issue("beta"), await one.issue(kind=Kind.ONE_TIME)]
            await build(redis_server.port, client("alpha"), client("beta"), number=2)
            for token in tokens:
                assert await ended(one, token)
                assert await two.introspect(token) is None
            assert story(await events(one.redis)) == "iii"
            token = await two.issue()
            assert (await one.validate(token)).incarnation == 2

    asyncio.run(main())


def test_a_new_epoch_ends_tokens_within_the_second(redis_server: RedisServer) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha"), client("beta"))

        def stands() -> float:
            return 1_790_000_000.5

        async with open_instance(redis_server.port, stands) as one, open_instance(redis_server.port, stands) as two:
            for epoch in range(2, 30):
                old, other, one_time = await one.issue(), await one.issue("beta"), await one.issue(kind=Kind.ONE_TIME)
                await two.change(client("alpha", epoch, epoch=epoch))
                assert [await ended(instance, token) for instance in (one, two) for token in (old, one_time)] == [True] * 4
                new = await one.issue()
                assert (await two.validate(new)).issued_seconds == (await one.validate(other)).issued_seconds
            assert "u" not in story(await events(one.redis))

    asyncio.run(main())


def test_a_client_added_again_revives_no_token(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            token = await one.issue()
            await two.change(DeletedClient("alpha", 2))
            assert await ended(one, token)
            await two.change(client("alpha", 3, epoch=3))
            assert await ended(one, token)
            await two.validate(await one.issue())

    asyncio.run(main())


def test_a_clock_that_is_off_changes_nothing(redis_server: RedisServer) -> None:
    async def main() -> None:
        await build(redis_server.port, client("alpha"), client("brief", access_ttl_seconds=1))

        def early() -> float:
            return time.time() - 300

        def late() -> float:
            return time.time() + 300

        async with (
            open_instance(redis_server.port, early) as slow,
            open_instance(redis_server.port, late) as fast,
            open_instance(redis_server.port) as right,
        ):
            instances = (slow, fast, right)
            brief = [await issuing.issue("brief") for issuing in instances]
            await asyncio.gather(*(instance.validate(token) for instance in instances for token in brief))
            for issuing in instances:
                token, one_time = await issuing.issue(), await issuing.issue(kind=Kind.ONE_TIME)
                for instance in instances:
                    await instance.validate(token)
                    assert await instance.introspect(one_time) is not None
                assert 119_000 < await right.redis.pttl(token_key(name_of(right, one_time))) <= 120_000
                await fast.validate(one_time)
                assert await ended(slow, one_time)
                await slow.revoke(token)
                assert await asyncio.gather(*(ended(instance, token) for instance in instances)) == [True] * 3
            # When a token ends is told by the server's clock, whoever asked for it.
            ends = [event.at_ms for event in await events(right.redis) if event.event != Event.ISSUED]
            assert len(ends) == 6
            server_ms = await now_ms(right.redis)
            assert all(abs(at_ms - server_ms) < 60_000 for at_ms in ends)

            while any([await right.redis.exists(token_key(name_of(right, token))) for token in brief]):
                await asyncio.sleep(0.01)
            assert all([await ended(instance, token) for instance in instances for token in brief])

    asyncio.run(main())


# Whose token, and what for


def test_only_the_owner_revokes(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            token, one_time = await one.issue(), await one.issue(kind=Kind.ONE_TIME)
            for presented in (token, one_time):
                with pytest.raises(UnauthorizedClient):
                    await two.revoke(presented, "beta")
            await one.validate(token)
            await one.validate(one_time)
            # The first of used and revoked stays, and neither the second nor an unknown token is an error.
            await two.revoke(one_time)
            await two.revoke(token)
            unknown, _ = one.keys.new(Kind.ACCESS)
            for presented in (token, unknown, b"garbage", token[:-1] + b"!"):
                await two.revoke(presented)
                await settle(two.tokens.revoke_presented(presented))
            assert await story_of(one, token) == "ir"
            assert await story_of(one, one_time) == "iu"
            assert two.counts.revoked == 1

    asyncio.run(main())


def test_scope_is_judged_after_state_and_before_consuming(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            token = await one.issue(kind=Kind.ONE_TIME, scopes=("read",))
            for wanted in (("write",), ("read", "write"), ("rea",), ("read write",)):
                with pytest.raises(InsufficientScope):
                    await two.validate(token, *wanted)
            assert await story_of(one, token) == "i"
            await two.validate(token, "read")
            with pytest.raises(InvalidToken):
                await one.validate(token, "write")

    asyncio.run(main())


def test_introspect_consumes_nothing_and_says_nothing_of_the_dead(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            token = await one.issue(kind=Kind.ONE_TIME)
            for _ in range(10):
                found = await two.introspect(token, "beta")
                assert found is not None
                assert found.client_id == "alpha"
            await one.validate(token)
            assert await two.introspect(token, "beta") is None
            unknown, _ = one.keys.new(Kind.ACCESS)
            assert await two.introspect(unknown) is None
            assert await two.introspect(b"garbage") is None

    asyncio.run(main())


def test_a_token_in_a_form_of_a_newer_release_is_no_bad_token(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            token = await one.issue()
            name = name_of(one, token)
            kept = b"2" + (await one.redis.get(token_key(name)))[1:]
            await one.redis.set(token_key(name), kept, keepttl=True)
            for use_case in (
                two.tokens.validate(token, ()),
                two.tokens.introspect(ALPHA, token),
                two.tokens.revoke(ALPHA, token),
                two.tokens.revoke_presented(token),
            ):
                with pytest.raises(Unavailable):
                    await settle(use_case)
            assert await one.redis.get(token_key(name)) == kept
            assert await one.redis.xlen(STREAMS[shard(name)]) == 1

    asyncio.run(main())


def test_a_full_store_issues_nothing_and_still_ends_tokens(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with one_behind(redis_server) as (one, two):
            token, one_time = await one.issue(), await one.issue(kind=Kind.ONE_TIME)
            await on_all(one.redis, "CONFIG", "SET", "maxmemory", 1)
            kept = len(await all_keys(one.redis))
            with pytest.raises(Unavailable, match="full"):
                await two.issue()
            assert two.counts.issued[Kind.ACCESS] == 0
            assert len([key for key in await all_keys(one.redis) if key not in STREAMS]) <= kept
            await two.validate(token)
            await two.validate(one_time)
            await two.revoke(token)
            assert Counter(story(await events(one.redis))) == {"i": 2, "u": 1, "r": 1}
            await two.change(client("alpha", 2, enabled=False))
            await one.directory.refresh()
            with pytest.raises(InvalidClient):
                await one.issue()
            await on_all(one.redis, "CONFIG", "SET", "maxmemory", 0)
            await two.issue("beta")

    asyncio.run(main())
