"""A constant rate: requests leave when they are due, whether or not earlier ones were answered, and are timed from then.

A closed loop asks less while the server is slow, and so hides what its clients would have felt (coordinated omission). Here a
request that finds no free connection waits for one, and its wait counts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

TICK_SECONDS = 0.001


@dataclass
class Timed:
    """Seconds from when each request was due to the end of its answer."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    most_waiting: int = 0
    """Requests that were due and found no free connection."""

    def percentile_ms(self, share: float) -> float:
        """That share of the answers took no longer."""
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else float("nan")


class _Connection(asyncio.Protocol):
    """Asks one request at a time."""

    def __init__(self, timed: Timed, free: deque[_Connection]) -> None:
        self._timed, self._free = timed, free
        self._received, self._due = b"", 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what it is for TCP
        self._transport = transport
        self._free.append(self)

    def ask(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        head, found, body = received.partition(b"\r\n\r\n")
        start = head.lower().find(b"\r\ncontent-length:")
        if not found or len(body) < int(head[start + 17 :].split(b"\r\n", 1)[0]):
            self._received = received
            return
        self._received = b""
        self._timed.seconds.append(monotonic() - self._due)
        self._timed.wrong += not head.startswith(b"HTTP/1.1 200")
        self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timed.wrong += 1

    def close(self) -> None:
        """For good, and no fault of the server's."""
        self._timed = Timed()
        self._transport.close()


async def ask_at(rate: float, port: int, requests: list[bytes], connections: int, seconds: float) -> Timed:
    """Ask the requests in turn at this rate for that long; the first second is not counted."""
    loop = asyncio.get_running_loop()
    timed = Timed()
    free: deque[_Connection] = deque()
    made = [(await loop.create_connection(lambda: _Connection(timed, free), "127.0.0.1", port))[1] for _ in range(connections)]
    due: deque[float] = deque()
    began = monotonic()
    asked = planned = 0
    counting = False
    while (now := monotonic()) < began + seconds + 1:
        if not counting and now > began + 1:
            timed.seconds.clear()
            counting = True
        while planned / rate <= now - began:
            due.append(began + planned / rate)
            planned += 1
        timed.most_waiting = max(timed.most_waiting, len(due) - len(free)) if counting else 0
        while due and free:
            free.popleft().ask(requests[asked % len(requests)], due.popleft())
            asked += 1
        await asyncio.sleep(TICK_SECONDS)
    for connection in made:
        connection.close()
    return timed
