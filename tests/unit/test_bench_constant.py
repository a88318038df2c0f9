"""The constant rate of the bench, against a server whose delays and wrong answers are known."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from bench.constant import Timed, ask_at

DELAY_SECONDS = 0.02
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
RATE = 200.0


async def asked_of(answer: Callable[[int], Awaitable[int]], connections: int, seconds: float) -> tuple[Timed, int]:
    """Ask a server whose answers have the status that `answer` gives for their number; and how many it was asked for."""
    asked, serving = 0, set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        serving.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                status = await answer(asked)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        timed = await ask_at(RATE, server.sockets[0].getsockname()[1], [REQUEST], connections, seconds)
    finally:
        server.close()
    await asyncio.gather(*serving)
    return timed, asked


def test_every_answer_is_timed_and_every_wrong_one_counted() -> None:
    async def answer(number: int) -> int:
        await asyncio.sleep(DELAY_SECONDS)
        return 200 if number % 10 else 500

    timed, asked = asyncio.run(asked_of(answer, connections=32, seconds=1))
    assert timed.seconds
    assert min(timed.seconds) >= DELAY_SECONDS
    # What was under way at the end is not waited for.
    assert asked // 10 - 4 <= timed.wrong <= asked // 10
    assert asked <= RATE * 2.1


def test_the_wait_for_a_connection_counts() -> None:
    """One connection answers 50 a second at most; of 200 that are due, those that come later wait longer and longer."""

    async def answer(number: int) -> int:
        await asyncio.sleep(DELAY_SECONDS)
        return 200

    timed, asked = asyncio.run(asked_of(answer, connections=1, seconds=1))
    assert asked <= 2 / DELAY_SECONDS + 1
    assert timed.percentile_ms(0.99) > 10 * DELAY_SECONDS * 1000
    assert timed.most_waiting > 10
