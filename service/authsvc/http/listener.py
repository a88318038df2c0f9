"""The listener: accepts the connections of one socket, can stop for a while, and leaves none behind when it closes."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable

import structlog

ACCEPTED_AT_ONCE = 64
"""Connections accepted in one turn of the event loop, so that those that are open already get theirs."""
FULL_SECONDS = 0.1
"""How long accepting pauses when the process has no room for a connection."""

_SO_ATTACH_FILTER = 26
_NO_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # the byte of the TCP flags
        (0x54, 0, 0, 0x12),  # SYN and ACK of them
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # then drop the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole
    )
)
"""A classic BPF program (Linux, socket filters) that drops every request for a new connection."""

log = structlog.get_logger(__name__)


class Listener:
    """Stands in for an asyncio server, which can neither pause nor be emptied."""

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        has_room: Callable[[int], bool] = lambda arriving: True,
    ) -> None:
        """Connections are left to the kernel's queue while `has_room` is false; it is told how many have no protocol yet."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._make_protocol = make_protocol
        self._has_room = has_room
        self._arriving: set[asyncio.Task[object]] = set()
        self._closed = False
        listening.setblocking(False)
        self.resume()

    def pause(self) -> None:
        """Leave new connections to the kernel's queue, and to other workers on the same socket."""
        self._loop.remove_reader(self._listening)

    def resume(self) -> None:
        """Accept again."""
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept, ACCEPTED_AT_ONCE)

    def begin_no_more(self) -> None:
        """Have the kernel begin no further connection on this socket, whoever shares it; those that have begun can be finished.

        A connection that becomes whole between the last accept and the close is reset, with the request that it brought.
        """
        program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
        filter_ = struct.pack("HL", len(_NO_SYN) // 8, ctypes.addressof(program))
        try:
            self._listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
        except OSError as error:
            log.info("new connections cannot be held off before the socket closes", error=error.strerror)

    def close(self) -> None:
        """Stop listening. What the kernel had accepted by now is taken first: closing the socket would reset it."""
        if not self._closed:
            self.pause()
            self._closed = True
            self._accept(1 << 20)
            self._listening.close()

    async def wait_closed(self) -> None:
        """Wait until every connection accepted so far has its protocol."""
        await asyncio.gather(*self._arriving)

    def _accept(self, most: int) -> None:
        for _ in range(most):
            if not self._has_room(len(self._arriving)) and not self._closed:
                self._wait()
                return
            try:
                connection, _ = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                # It was gone before it was accepted.
                continue
            except OSError as error:
                log.error("a connection cannot be accepted", error=str(error))
                self._wait()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            arriving = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
            self._arriving.add(arriving)
            arriving.add_done_callback(self._arriving.discard)

    def _wait(self) -> None:
        self.pause()
        self._loop.call_later(FULL_SECONDS, self.resume)
