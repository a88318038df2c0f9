"""What a test puts between a client and Redis, or in its place: a relay that chops and holds, a server that says what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import hiredis

from certificates import Authority, Identity


class _Listener:
    """A listener on loopback whose connections all end with it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._carrying: set[asyncio.Task[Any]] = set()
        self.opened_at: list[float] = []
        """When each connection came, by the monotonic clock."""
        self.closed = 0
        """Connections that are over."""

    async def __aenter__(self) -> Any:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for task in tuple(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        self.opened_at.append(time.monotonic())
        # A cancelled handler is how a listener ends, but asyncio would report it as a failure.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._carry(reader, writer)
        writer.close()
        self.closed += 1
        self._carrying.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Relay(_Listener):
    """Carries bytes to a server and back, in order. Replies may be chopped at random, or held after a certain command."""

    def __init__(
        self, target_port: int, chopping: Random | None = None, tls: ssl.SSLContext | None = None, target_host: str = "127.0.0.1"
    ) -> None:
        super().__init__(tls)
        self._target = target_host, target_port
        self._chopping = chopping
        self._holding_from: bytes | None = None
        self._open = asyncio.Event()
        self._open.set()

    @property
    def holding(self) -> bool:
        """Whether the command came and replies are held."""
        return not self._open.is_set()

    def hold_from(self, word: bytes) -> None:
        """Hold all replies from the next piece on that has this word; the server is asked all the same."""
        self._holding_from = word

    def release(self) -> None:
        """Let the held replies go."""
        self._open.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, questions = await asyncio.open_connection(*self._target)
        ways = {asyncio.create_task(self._ask(reader, questions)), asyncio.create_task(self._reply(replies, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            questions.close()

    async def _ask(self, reader: asyncio.StreamReader, questions: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            if self._holding_from is not None and self._holding_from in data:
                self._holding_from = None
                self._open.clear()
            questions.write(data)

    async def _reply(self, replies: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await replies.read(1 << 20):
            await self._open.wait()
            for piece in self._pieces(data):
                writer.write(piece)
                if self._chopping is not None:
                    await asyncio.sleep(self._chopping.choice((0, 0, 0.001)))

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            size = len(data) if self._chopping is None else self._chopping.choice((1, 7, 60, 400, 2000))
            yield data[start : start + size]
            start += size


class PretendServer(_Listener):
    """Lets a pipeline log in and then answers each command with what `reply` makes of it; empty bytes are no answer."""

    def __init__(self, reply: Callable[[list[bytes]], bytes]) -> None:
        super().__init__()
        self._reply = reply
        self.commands: list[list[bytes]] = []
        """What was asked after the login, without the version that each batch begins with."""

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1 << 20):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if command[0] == b"SCRIPT":
                    writer.write(b"+OK\r\n")
                    continue
                if command[0] != b"GET":
                    self.commands.append(command)
                writer.write(self._reply(command))


@contextlib.contextmanager
def tls_relay(
    target_port: int, folder: Path, server: Identity, *, target_host: str = "127.0.0.1", asks_for: Authority | None = None
) -> Iterator[int]:
    """A port on which `server` speaks TLS for the target; clients must show a certificate of `asks_for`, if any."""
    chain = folder / f"server-{target_port}.pem"
    chain.write_bytes(server.key_text() + server.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    if asks_for is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=asks_for.certificate.decode())
    running: queue.Queue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def carry() -> None:
        ending = asyncio.Event()
        async with Relay(target_port, tls=context, target_host=target_host) as relay:
            running.put((relay.port, asyncio.get_running_loop(), ending))
            await ending.wait()

    thread = threading.Thread(target=asyncio.run, args=(carry(),))
    thread.start()
    port, loop, ending = running.get(timeout=10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
