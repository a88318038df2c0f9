"""The pipeline keeps its order and its promises over a real server, whatever callers, network and server do."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from authsvc.errors import Unavailable
from authsvc.live.connect import address_of, connect_redis
from authsvc.live.connection import MAX_WAITING, Call, Connection
from authsvc.live.keys import HOME_VERSION
from authsvc.live.pipeline import BACKOFF_SECONDS, Pipeline
from authsvc.live.scripts import Script, pack
from authsvc.promise import settle
from authsvc.settings import read_settings
from contract.live_parts import answer, connected, is_up, kept_connected, redis_client, refused, settings_of, until
from contract.redis_wires import PretendServer, Relay
from servers import RedisServer, TcpProxy, free_port

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
COUNT = Script("return redis.call('INCR', KEYS[1])")
Run = Callable[[Coroutine[Any, Any, None]], None]

on_each_loop = pytest.mark.parametrize("run", LOOPS, indirect=True)
"""For what rests on the transport: the loops write, pause and abort each in its own way."""


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on the loop that the service runs on, unless the test asks for another."""
    factory = LOOPS[getattr(request, "param", "uvloop")]

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[TcpProxy]:
    """What stands between a pipeline and its server, and can be cut."""
    proxy = TcpProxy(redis_server.port)
    yield proxy
    proxy.cut()


def echo(pipeline: Pipeline, *texts: bytes) -> Call:
    return pipeline.call(b"".join(pack(b"ECHO", text) for text in texts), replies=len(texts))


async def refusal(call: Call) -> str:
    with pytest.raises(Unavailable) as raised:
        await answer(call)
    return raised.value.description


def fails() -> None:
    raise RuntimeError("a continuation that fails")


# The order rule


KINDS = {"one": 8, "several": 3, "chain": 3, "failing": 3, "new script": 3, "blocking": 1}


def tagged(pipeline: Pipeline, kind: str, tag: bytes) -> tuple[Coroutine[Any, Any, Any], object]:
    """A question of this kind, and the only right reply to it."""
    if kind == "one":
        return answer(echo(pipeline, tag)), tag
    if kind == "several":
        return answer(echo(pipeline, tag + b"-1", tag + b"-2", tag + b"-3")), [tag + b"-1", tag + b"-2", tag + b"-3"]
    if kind == "chain":

        async def chain() -> list[bytes]:
            return [await echo(pipeline, tag + b"-1"), await echo(pipeline, tag + b"-2")]

        return settle(chain()), [tag + b"-1", tag + b"-2"]
    if kind == "failing":
        command = pack(b"ECHO", tag) + pack(b"INCR", b"text") + pack(b"ECHO", tag)
        return answer(pipeline.call(command, replies=3)), [tag, Unavailable, tag]
    if kind in ("blocking", "stuck"):
        seconds = b"0.65" if kind == "stuck" else b"0.003"
        return answer(pipeline.call(pack(b"BLPOP", b"empty", seconds) + pack(b"ECHO", tag), replies=2)), [None, tag]
    return answer(pipeline.run(Script(f"return '{tag.decode()}'"), ())), tag


def shape(reply: object) -> object:
    """A reply with each refusal in it replaced by its class, to compare."""
    if isinstance(reply, list):
        return [Unavailable if isinstance(part, Unavailable) else part for part in reply]
    return reply


@on_each_loop
@pytest.mark.parametrize("seed", range(2))
def test_no_reply_reaches_another_caller(redis_server: RedisServer, run: Run, seed: int) -> None:
    random = Random(seed)
    outcomes: Counter[str] = Counter()

    async def ask(question: Coroutine[Any, Any, Any], right: object, patience_seconds: float | None) -> None:
        try:
            reply = await asyncio.wait_for(question, patience_seconds)
        except TimeoutError:
            outcomes["abandoned"] += 1
        except Unavailable:
            outcomes["timed out"] += 1
        else:
            outcomes["right" if shape(reply) == right else f"{reply} instead of {right}"] += 1

    async def main() -> None:
        async with Relay(redis_server.port, chopping=random) as relay, kept_connected(relay.port, timeout_seconds=0.5) as pipeline:
            await is_up(pipeline)
            await answer(pipeline.call(pack(b"SET", b"text", b"no number")))
            asking = []
            kinds = random.choices(list(KINDS), list(KINDS.values()), k=400)
            # Longer than the timeout, so that all behind it are refused, and shorter than twice that, so that their places stay.
            kinds[200] = "stuck"
            for number, kind in enumerate(kinds):
                patience_seconds = random.choice((None, None, None, 0.0001, 0.001, 0.01, 0.05))
                asking.append(asyncio.create_task(ask(*tagged(pipeline, kind, b"%d" % number), patience_seconds)))
                if random.random() < 0.1:
                    await asyncio.sleep(random.choice((0, 0, 0.001, 0.02)))
            await asyncio.gather(*asking)
            await is_up(pipeline)
            assert await answer(echo(pipeline, b"the last")) == b"the last"

    run(main())
    assert set(outcomes) == {"right", "abandoned", "timed out"}
    assert min(outcomes.values()) > 20, outcomes


def test_a_caller_that_timed_out_keeps_its_place(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with connected(redis_server.port, timeout_seconds=0.4) as pipeline:
            blocking = pipeline.call(pack(b"BLPOP", b"empty", b"0.55"))
            behind = [echo(pipeline, b"%d" % number) for number in range(50)]
            assert "in time" in await refusal(blocking)
            # Asked while 51 replies are still to come to callers who are gone.
            assert await answer(echo(pipeline, b"after them")) == b"after them"
            assert all(refused(call) for call in behind)

    run(main())


# Whose continuation fails


def test_a_failing_continuation_touches_nobody_else(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with connected(redis_server.port) as pipeline:
            calls = [echo(pipeline, b"%d" % number) for number in range(9)]
            calls[4].when_settled(fails)
            assert [await answer(call) for call in calls] == [b"%d" % number for number in range(9)]
            assert await answer(echo(pipeline, b"same connection")) == b"same connection"

    run(main())


def test_a_failing_continuation_of_a_timeout_touches_nobody_else(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with connected(redis_server.port, timeout_seconds=0.2) as pipeline:
            blocking = pipeline.call(pack(b"BLPOP", b"empty", b"30"))
            blocking.when_settled(fails)
            behind = echo(pipeline, b"behind")
            await until(lambda: blocking.settled and behind.settled, "both are refused", 1)
            assert refused(behind)
            await until(lambda: refused(echo(pipeline, b"later")), "the stuck connection is given up", 1)

    run(main())


def test_a_failing_continuation_of_a_lost_connection_touches_nobody_else(proxy: TcpProxy, run: Run) -> None:
    async def main() -> None:
        async with connected(proxy.port) as pipeline:
            calls = [pipeline.call(pack(b"BLPOP", b"empty", b"30")) for _ in range(9)]
            calls[0].when_settled(fails)
            await asyncio.sleep(0)
            proxy.cut()
            for call in calls[1:]:
                assert "out of reach" in await refusal(call)

    run(main())


# Calls of several commands, and refusals of Redis


def test_a_call_of_several_commands_gets_all_its_replies(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with connected(redis_server.port) as pipeline:
            before, several, after = echo(pipeline, b"before"), echo(pipeline, b"a", b"b", b"c"), echo(pipeline, b"after")
            assert await answer(several) == [b"a", b"b", b"c"]
            assert (await answer(before), await answer(after)) == (b"before", b"after")

    run(main())


def test_a_full_store_is_said_to_be_full(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port) as pipeline:
            await redis.set(HOME_VERSION, "1-aa:7")
            await redis.config_set("maxmemory", 1)
            one = pipeline.call(pack(b"SET", b"key", b"value"))
            first = pipeline.call(pack(b"SET", b"key", b"value") + pack(b"ECHO", b"second"), replies=2)
            last = pipeline.call(pack(b"ECHO", b"first") + pack(b"SET", b"key", b"value"), replies=2)
            assert "full" in await refusal(one)
            refusal_first, reply_second = await answer(first)
            reply_first, refusal_last = await answer(last)
            assert (reply_first, reply_second) == (b"first", b"second")
            assert isinstance(refusal_first, Unavailable)
            assert isinstance(refusal_last, Unavailable)
            assert "full" in refusal_first.description
            assert "full" in refusal_last.description
            assert first.version == last.version == b"1-aa:7"
            assert await redis.get("key") is None

    run(main())


def test_a_lost_script_is_sent_again_and_works_once(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port) as pipeline:
            await redis.script_flush()
            await redis.config_resetstat()
            calls = [echo(pipeline, b"before"), pipeline.run(COUNT, (b"count",)), echo(pipeline, b"between")]
            calls += [pipeline.run(COUNT, (b"count",)), echo(pipeline, b"after")]
            replies = [await answer(call) for call in calls]
            assert replies == [b"before", 1, b"between", 2, b"after"]
            assert await answer(pipeline.run(COUNT, (b"count",))) == 3
            stats = await redis.info("commandstats")
            assert stats["cmdstat_eval"]["calls"] == 2
            assert stats["cmdstat_evalsha"]["calls"] == 3
            assert await redis.get("count") == b"3"

    run(main())


def test_a_script_that_fails_is_not_sent_again(redis_server: RedisServer, run: Run) -> None:
    failing = Script("redis.call('INCR', KEYS[1]) return redis.error_reply('TROUBLE after the effect')")

    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port) as pipeline:
            for count in (1, 2):  # unknown to the server at first, then known
                assert "cannot answer" in await refusal(pipeline.run(failing, (b"count",)))
                assert await answer(pipeline.call(pack(b"GET", b"count"))) == b"%d" % count
            assert await redis.get("count") == b"2"

    run(main())


def test_a_lost_script_is_answered_with_the_version_of_its_second_batch(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port) as pipeline:
            await redis.set(HOME_VERSION, "1-aa:7")
            await redis.script_flush()
            # The same batch moves the version on, so that the script works after the change.
            call, moving = pipeline.run(COUNT, (b"count",)), pipeline.call(pack(b"SET", HOME_VERSION, b"1-aa:8"))
            await answer(call)
            assert (moving.version, call.version) == (b"1-aa:7", b"1-aa:8")

    run(main())


# Versions and batches


def test_each_batch_carries_the_version_that_was_held(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port) as pipeline:
            for held in (None, b"1-aa:0", b"1-aa:1", b"2-bb:0", None):
                if held is None:
                    await redis.delete(HOME_VERSION)
                else:
                    await redis.set(HOME_VERSION, held)
                calls = [echo(pipeline, b"one"), echo(pipeline, b"two", b"three"), pipeline.ask_version()]
                calls.append(pipeline.call(pack(b"SET", HOME_VERSION, b"9-zz:9")))
                calls.append(echo(pipeline, b"still the same batch"))
                await asyncio.gather(*map(answer, calls))
                assert [call.version for call in calls] == [held] * 5
                again = pipeline.ask_version()
                assert (await answer(again), again.version) == (b"9-zz:9", b"9-zz:9")

    run(main())


class CountedWrites:
    """A real transport, and how often something was written to it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CountedConnection(Connection):
    """A connection whose writes are counted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.writes = CountedWrites(transport)
        super().connection_made(self.writes)  # type: ignore[arg-type]


@on_each_loop
def test_one_turn_is_one_write_with_one_question_for_the_version(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with redis_client(redis_server.port) as redis:
            _, connection = await loop.create_connection(lambda: CountedConnection(2.0, lost.set), "127.0.0.1", redis_server.port)
            await redis.config_resetstat()
            for turn in (1, 2):
                calls = [Call() for _ in range(100)]
                for number, call in enumerate(calls):
                    connection.send(pack(b"ECHO", b"%d" % number), call)
                assert [await answer(call) for call in calls] == [b"%d" % number for number in range(100)]
                assert len(connection.writes.sizes) == turn
                stats = await redis.info("commandstats")
                assert stats["cmdstat_get"]["calls"] == turn
                assert stats["cmdstat_echo"]["calls"] == 100 * turn
            connection.close()
            assert lost.is_set()

    run(main())


def test_the_version_is_asked_first(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port) as pipeline, redis.monitor() as monitor:
            await asyncio.gather(*(answer(echo(pipeline, b"%d" % number)) for number in range(100)))
            seen = [(await monitor.next_command())["command"] for _ in range(101)]
        assert seen[0].startswith("GET {")
        assert seen[1:] == [f"ECHO {number}" for number in range(100)]

    run(main())


# A server that talks nonsense


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff\x00", b"$-7\r\n", b":12x\r\n", b"+x\r\n" * 40])
def test_a_protocol_error_closes_and_fails_all_that_waited(run: Run, garbage: bytes) -> None:
    speaks_well = False

    def reply(command: list[bytes]) -> bytes:
        if command[0] == b"GET":
            return b"$-1\r\n"
        return b"+good\r\n" if speaks_well or command[1] == b"0" else garbage

    async def main() -> None:
        nonlocal speaks_well
        async with PretendServer(reply) as server, kept_connected(server.port) as pipeline:
            await is_up(pipeline)
            first = echo(pipeline, b"0")
            # One that nobody asked for shows only when nobody waits any more, so those asked are few.
            others = [echo(pipeline, b"%d" % number) for number in range(1, 9)]
            assert await answer(first) == b"good"
            if not garbage.startswith(b"+"):
                for call in others:
                    assert "out of reach" in await refusal(call)
            await until(lambda: server.closed == 1, "the connection is closed")
            speaks_well = True
            await is_up(pipeline)
            assert len(server.opened_at) == 2
            asked = len(server.commands)
            assert await answer(echo(pipeline, b"again")) == b"good"
            # Nothing of the old connection was sent again on the new one.
            assert [command[1] for command in server.commands[asked:]] == [b"again"]

    run(main())


def test_a_server_that_becomes_unready_is_refused_call_by_call(run: Run) -> None:
    loading = True

    def reply(command: list[bytes]) -> bytes:
        return b"-LOADING Redis is loading the dataset in memory\r\n" if loading else b"$6\r\n1-aa:7\r\n"

    async def main() -> None:
        nonlocal loading
        async with PretendServer(reply) as server, connected(server.port) as pipeline:
            one, two = echo(pipeline, b"one"), echo(pipeline, b"two", b"three")
            assert "cannot answer" in await refusal(one)
            assert shape(await answer(two)) == [Unavailable, Unavailable]
            assert one.version is two.version is None
            loading = False
            again = echo(pipeline, b"again")
            assert (await answer(again), again.version) == (b"1-aa:7", b"1-aa:7")
            assert len(server.opened_at) == 1

    run(main())


def test_a_loading_server_is_no_server_yet(tmp_path: Path, run: Run) -> None:
    server = RedisServer(tmp_path / "redis").start()

    async def fill() -> None:
        async with redis_client(server.port) as redis, redis.pipeline(transaction=False) as pipe:
            for number in range(3000):
                pipe.set(f"key-{number}", "value")
            await pipe.execute()

    async def main() -> None:
        await fill()
        server.stop()
        server.options = ("--key-load-delay", "300")
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        reasons = []
        while True:
            try:
                async with connected(server.port) as pipeline:
                    assert await answer(pipeline.call(pack(b"GET", b"key-2999"))) == b"value"
                    break
            except Unavailable as refused:
                reasons.append(refused.description)
                await asyncio.sleep(0.01)
        await starting
        assert "The shared store cannot answer now." in reasons

    try:
        run(main())
    finally:
        server.stop()


# A network that breaks


@on_each_loop
def test_a_cut_fails_all_that_wait_and_nothing_is_sent_again(redis_server: RedisServer, proxy: TcpProxy, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis, kept_connected(proxy.port) as pipeline:
            await is_up(pipeline)
            # From here on the server works but says nothing: everything is applied and nobody knows.
            pipeline.call(pack(b"CLIENT", b"REPLY", b"OFF"))
            calls = [pipeline.call(pack(b"INCR", b"count")) for _ in range(100)]
            calls += [pipeline.run(COUNT, (b"count",)) for _ in range(100)]
            while await redis.get("count") != b"100":  # the scripts are unknown yet, and that reply is lost too
                await asyncio.sleep(0.002)
            assert not any(call.settled for call in calls)
            proxy.cut()
            assert {await refusal(call) for call in calls} == {"The shared store is out of reach."}
            assert refused(echo(pipeline, b"meanwhile"))
            proxy.mend()
            await is_up(pipeline, 3)
            assert await answer(pipeline.call(pack(b"INCR", b"count"))) == 101

    run(main())


def test_reconnecting_backs_off(proxy: TcpProxy, run: Run) -> None:
    async def main() -> None:
        attempts: list[float] = []

        async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            attempts.append(time.monotonic())
            writer.close()

        async with kept_connected(proxy.port) as pipeline:
            await is_up(pipeline)
            began = time.monotonic()
            proxy.cut()
            refusing = await asyncio.start_server(turn_away, "127.0.0.1", proxy.port)
            await until(lambda: len(attempts) == 4, "four attempts")
            assert time.monotonic() - began < 3
            assert pipeline.silent_since is not None
            refusing.close()
            await refusing.wait_closed()
            gaps = [later - earlier for earlier, later in pairwise(attempts)]
            # An attempt before the listener was there is not counted; it only makes the gaps longer.
            assert all(gap > 0.9 * seconds for gap, seconds in zip(gaps, BACKOFF_SECONDS, strict=False)), gaps
            proxy.mend()
            await is_up(pipeline, 3)
            assert await answer(echo(pipeline, b"back")) == b"back"

    run(main())


@on_each_loop
def test_a_server_that_stands_still_costs_a_caller_at_most_twice_the_timeout(redis_server: RedisServer, run: Run) -> None:
    timeout_seconds = 0.4

    async def main() -> None:
        async with kept_connected(redis_server.port, timeout_seconds) as pipeline:
            await is_up(pipeline)
            assert await answer(pipeline.call(pack(b"INCR", b"count"))) == 1
            os.kill(redis_server.pid, signal.SIGSTOP)
            waits = []

            async def ask() -> None:
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    await answer(echo(pipeline, b"anyone?"))
                waits.append(time.monotonic() - began)

            asking = []
            end = time.monotonic() + 3 * timeout_seconds
            while time.monotonic() < end:
                asking.append(asyncio.create_task(ask()))
                await asyncio.sleep(0.05)
            await asyncio.gather(*asking)
            assert max(waits) < 2 * timeout_seconds
            assert pipeline.silent_since is not None
            os.kill(redis_server.pid, signal.SIGCONT)
            await is_up(pipeline, 5)
            assert await answer(pipeline.call(pack(b"INCR", b"count"))) == 2

    run(main())


@on_each_loop
def test_a_stuck_server_costs_bounded_memory_and_refuses_at_once(redis_server: RedisServer, run: Run) -> None:
    big, offered, turn = b"x" * 16_384, 8192, 16

    async def main() -> None:
        async with redis_client(redis_server.port) as redis, connected(redis_server.port, timeout_seconds=10) as pipeline:
            await redis.config_set("appendonly", "no")
            os.kill(redis_server.pid, signal.SIGSTOP)
            accepted, refusals = [], 0
            for number in range(offered):
                call = pipeline.call(pack(b"SET", b"big", big))
                if refused(call):
                    refusals += 1
                else:
                    accepted.append(call)
                if number % turn == 0:
                    await asyncio.sleep(0)
            # What the kernel takes, one turn and the transport's own 64 KiB: far from the 128 MiB offered.
            assert len(accepted) * len(big) < 24 << 20
            assert refusals == offered - len(accepted)
            os.kill(redis_server.pid, signal.SIGCONT)
            assert await asyncio.gather(*map(answer, accepted)) == [b"OK"] * len(accepted)
            assert await answer(echo(pipeline, b"it flows again")) == b"it flows again"

    run(main())


def test_calls_that_wait_are_bounded_in_number(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with connected(redis_server.port, timeout_seconds=10) as pipeline:
            question = pack(b"PING")
            calls = [pipeline.call(question) for _ in range(MAX_WAITING + 100)]
            over = [call for call in calls if refused(call)]
            assert 90 <= len(over) <= 110
            assert over == calls[-len(over) :]
            await until(lambda: all(call.settled for call in calls), "those accepted are answered")
            assert await answer(calls[0]) == await answer(calls[-len(over) - 1]) == b"PONG"
            assert not refused(echo(pipeline, b"room again"))

    run(main())


def test_closing_refuses_whoever_waits(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with kept_connected(redis_server.port) as pipeline:
            await is_up(pipeline)
            call = pipeline.call(pack(b"BLPOP", b"empty", b"30"))
            await asyncio.sleep(0)
            await pipeline.close()
            assert "out of reach" in await refusal(call)
            assert refused(echo(pipeline, b"too late"))

    run(main())


def test_nobody_there_is_unavailable(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Unavailable, match="out of reach"):
            async with connected(free_port()):
                pass

    run(main())


# Getting in


def test_the_password_must_be_right(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    password = "p@ss word/%\N{EURO SIGN}"
    server = RedisServer(tmp_path / "redis", "--requirepass", password).start()

    async def main() -> None:
        async with connected(server.port, password=password) as pipeline:
            assert await answer(echo(pipeline, b"in")) == b"in"
        for wrong in ("another", None):
            with pytest.raises(Unavailable):
                async with connected(server.port, password=wrong):
                    pass
        async with kept_connected(server.port, password="another") as pipeline:
            call = echo(pipeline, b"out")
            assert refused(call)
            await until(lambda: "WRONGPASS" in capsys.readouterr().out, "the operator is told why")
            assert pipeline.silent_since is not None

    try:
        run(main())
    finally:
        server.stop()


def test_address_and_credentials_come_from_the_url(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        async with redis_client(redis_server.port) as redis:
            await redis.acl_setuser("auth", enabled=True, passwords=["+p@ss/word"], keys=["*"], commands=["+@all"])
            url = f"redis://auth:p%40ss%2Fword@127.0.0.1:{redis_server.port}/3"
            settings = read_settings({"AUTH_REDIS_URL": url})
            pipeline = Pipeline(address_of(settings))
            await pipeline.connect()
            assert await answer(pipeline.call(pack(b"ACL", b"WHOAMI"))) == b"auth"
            await answer(pipeline.call(pack(b"SET", b"where", b"in three")))
            await pipeline.close()
            assert await redis.get("where") is None
            client = connect_redis(settings)
            assert await client.get("where") == b"in three"
            await client.aclose()

    run(main())


def test_a_database_that_is_not_there_is_unavailable(redis_server: RedisServer, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Unavailable):
            async with connected(redis_server.port, database=99):
                pass

    run(main())


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=redis"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *words, *names], check=True, capture_output=True)
    return certificate, key


@on_each_loop
def test_tls_needs_a_certificate_that_we_trust(redis_server: RedisServer, certificate: tuple[Path, Path], run: Run) -> None:
    # TLS ends in a relay, so that a server built without it will do: what is tested is our end.
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(*certificate)

    async def main() -> None:
        async with Relay(redis_server.port, tls=server_side) as relay:
            trusting = settings_of(relay.port, redis_url=f"rediss://127.0.0.1:{relay.port}/0", redis_ca_file=certificate[0])
            pipeline = Pipeline(address_of(trusting))
            assert pipeline.certificate_expiry is None
            await pipeline.connect()
            calls = [echo(pipeline, b"%d" % number) for number in range(100)]
            assert [await answer(call) for call in calls] == [b"%d" % number for number in range(100)]
            assert pipeline.certificate_expiry == pytest.approx(time.time() + 2 * 86400, abs=3600)
            await pipeline.close()
            redis = connect_redis(trusting)
            assert await redis.ping()
            await redis.aclose()

            doubting = settings_of(relay.port, redis_url=f"rediss://127.0.0.1:{relay.port}/0")
            with pytest.raises(Unavailable, match="certificate verify failed"):
                await Pipeline(address_of(doubting)).connect()
            redis = connect_redis(doubting)
            with pytest.raises(RedisConnectionError, match="certificate verify failed"):
                await redis.ping()
            await redis.aclose()

    run(main())
