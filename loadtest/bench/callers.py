"""Callers: connections that each ask one request again and again, and note how long each answer took, by its status."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from time import monotonic


@dataclass
class Answers:
    """What the callers were told: seconds from a request's first byte to the end of its answer, by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0
    """Connections that ended before their time."""
    wall_seconds: float = 0

    def rate(self, status: int = 200) -> float:
        """Answers of this status a second."""
        return len(self.seconds.get(status, ())) / self.wall_seconds

    def percentile_ms(self, share: float, status: int = 200) -> float:
        """That share of the answers of this status took no longer."""
        ordered = sorted(self.seconds.get(status, ()))
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else float("nan")


class Caller(asyncio.Protocol):
    """One connection in a closed loop; after a 429 it waits as `Retry-After` says if it is polite, else it asks again at once."""

    def __init__(self, request: bytes, answers: Answers, polite: bool) -> None:
        self._request = request
        self._answers = answers
        self._polite = polite
        self._asked = 0.0
        self._received = b""
        self.ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what it is for TCP
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        head, found, body = received.partition(b"\r\n\r\n")
        if not found or len(body) < int(_header(head, b"content-length")):
            self._received = received
            return
        self._received = b""
        status = int(head[9:12])
        self._answers.seconds.setdefault(status, []).append(monotonic() - self._asked)
        if self.ended:
            self._transport.close()
        elif status == 429 and self._polite:
            asyncio.get_running_loop().call_later(int(_header(head, b"retry-after")), self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            self._answers.lost += 1

    def end(self) -> None:
        """Ask no more."""
        self.ended = True
        self._transport.close()

    def _ask(self) -> None:
        if not self.ended and not self._transport.is_closing():
            self._asked = monotonic()
            self._transport.write(self._request)


def _header(head: bytes, name: bytes) -> bytes:
    lowered = head.lower()
    start = lowered.index(b"\r\n" + name + b":") + len(name) + 3
    return lowered[start:].partition(b"\r\n")[0].strip()


async def call(
    port: int,
    request: bytes,
    connections: int,
    seconds: float,
    *,
    polite: bool = False,
    settle_seconds: float = 0.5,
    ended: asyncio.Event | None = None,
) -> Answers:
    """Keep that many connections asking for that long or until it is `ended`; the first `settle_seconds` are not counted."""
    loop = asyncio.get_running_loop()
    answers = Answers()
    callers: list[Caller] = []

    async def connect() -> None:
        _, caller = await loop.create_connection(lambda: Caller(request, answers, polite), "127.0.0.1", port)
        callers.append(caller)

    connecting = [loop.create_task(connect()) for _ in range(connections)]
    await asyncio.sleep(settle_seconds)
    answers.seconds.clear()
    began = loop.time()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for((ended or asyncio.Event()).wait(), seconds)
    answers.wall_seconds = loop.time() - began
    await asyncio.gather(*connecting)
    for caller in callers:
        caller.end()
    return answers
