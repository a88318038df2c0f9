"""The wire: uvicorn's httptools protocol with our own answers to what is no HTTP request at all, and bounds on what does not end."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from time import monotonic
from typing import Any, NamedTuple

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from authsvc.admission import Admission
from authsvc.errors import ContentTooLarge, HeaderFieldsTooLarge, InvalidRequest, Refusal
from authsvc.http.endpoints import Endpoints
from authsvc.http.heads import Heads
from authsvc.http.request import MAX_BODY_BYTES, MAX_HEADER_BYTES, new_request_id
from authsvc.http.response import refused, wire_bytes
from authsvc.metrics import Counts

LINGER_SECONDS = 1.0
"""How long we drop what a refused client still sends: closing with bytes unread resets the connection and loses our answer."""
_LONGEST_HEAD = MAX_HEADER_BYTES + MAX_BODY_BYTES
"""Bytes of an unfinished head that are kept; some may belong to the body of the request before."""
_LONGEST_BODY = 8 * MAX_BODY_BYTES
"""Bytes on the wire of an unfinished body: the most that 16 KiB can take in chunks of one byte, and some for trailers."""


INTERNALS = (
    *("app_state", "client", "connections", "cycle", "flow", "headers", "loop", "parser", "pipeline", "server", "server_state", "tasks"),
    *("timeout_keep_alive", "timeout_keep_alive_task", "transport", "_start_asgi_task", "_unset_keepalive_if_required"),
    *("on_headers_complete", "on_message_begin", "on_message_complete", "on_response_complete", "timeout_keep_alive_handler"),
)
"""What our protocols use of uvicorn's, of which no release promises that it stays. They were tried from uvicorn 0.36 on."""


class WorkerState(NamedTuple):
    """What the connections of a worker share with its application: `worker` of the lifespan's state."""

    admission: Admission
    counts: Counts
    management_port: int
    endpoints: Endpoints
    heads: Heads


class WireProtocol(HttpToolsProtocol):
    """Refuses malformed requests with the contract's error body, and what does not end; first come the answers that are owed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._between = True
        self._in_head = False
        self._unfinished_bytes = 0
        self._at_work: RequestResponseCycle | None = None
        self._ending = False
        self._admission: Admission | None = None
        self._arrived = 0.0
        self._unread: list[bytes] = []
        self._no_more = False

    @property
    def is_new(self) -> bool:
        """Whether it is open and has not brought a whole request yet."""
        return self.parser is not None and not self.transport.is_closing() and (self.cycle is None or self._in_head)

    @property
    def is_idle(self) -> bool:
        """Whether no answer is owed."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        super().connection_made(transport)
        state: WorkerState = self.app_state["worker"]
        if self.server is None or self.server[1] != state.management_port:
            self._admission = state.admission
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._at_work is not None:
            # uvicorn tells only the newest request, and an earlier one would write to nobody.
            self._at_work.disconnected = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        admission = self._admission
        if admission is not None:
            if self._unread:
                self._unread.append(data)
                return
            arrived = admission.open_at()
            if arrived is None:
                self._arrived = admission.arrival()
                self._unset_keepalive_if_required()
                self._unread.append(data)
                self.transport.pause_reading()
                admission.leave_unread(self._read_on)
                return
            self._arrived = arrived
        self._feed(data)

    def _read_on(self) -> None:
        """Go on with what was left unread; it keeps the time at which it arrived."""
        data, self._unread = b"".join(self._unread), []
        if data and not self.transport.is_closing():
            self.transport.resume_reading()
            self._feed(data)
            if self._no_more and not self.transport.is_closing() and not self.eof_received():
                self.transport.close()

    def _feed(self, data: bytes) -> None:
        if self._ending:
            return
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # We speak nothing else, so the request is answered as if it had not asked (RFC 9110, 7.8), and the next follows.
                # Only a body cannot be had: the parser takes it for the other protocol, and so must nobody take it for a request.
                if any(map(_announces_body, self.cycle.scope["headers"])):
                    self.cycle.more_body = True
                    self._refuse(InvalidRequest("A request with a body cannot ask for an upgrade."))
                    return
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(InvalidRequest("This is not a valid HTTP request."))
                return
        cycle = self.cycle
        if self._in_head or cycle is None or cycle.more_body or cycle.response_complete:
            self._bound(data)

    def _bound(self, data: bytes) -> None:
        """Bound what is not whole yet: by size, and by how long it may be silent."""
        if self._in_head:
            # Where a head began, what stands before it in the packet was of other requests.
            self._unfinished_bytes += len(data if self._unfinished_bytes else data.rpartition(b"\r\n\r\n")[2])
            if self._unfinished_bytes > _LONGEST_HEAD:
                self._refuse(HeaderFieldsTooLarge("The header lines are over 32 KiB."))
                return
        elif self.cycle is not None and not self.cycle.response_complete:
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > _LONGEST_BODY:
                self._refuse(ContentTooLarge("The body is over 16 KiB, or framed in too many bytes."))
                return
        self._expect_more()

    def _expect_more(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def say_close(self) -> None:
        """The instance will stop: requests that are under way were given their headers before that was known."""
        for cycle in (self._at_work, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_started:
                cycle.default_headers = self.server_state.default_headers

    def shutdown(self) -> None:
        """The instance stops: what has reached it is answered, and the connection closed after the last answer that is owed."""
        self._read_on()
        if self.is_idle and not self.transport.is_closing() and _bytes_to_read(self.transport) > 0:
            # Closing now would reset the connection; its answer says `Connection: close`.
            return
        self._finish()

    def _finish(self) -> None:
        """Close after the last answer that is owed."""
        super().shutdown()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio takes a boolean: whether to stay open
        """A client that only stopped sending still gets the answers to all that it asked."""
        self._no_more = bool(self._unread)
        return self._no_more or self._finish_owed()

    def on_message_begin(self) -> None:
        self._between = False
        self._in_head = True
        self._unfinished_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        # Trailers are reported as headers are, but must not become any (RFC 9110, 6.5.1): they go to a list of their own.
        self.headers = []

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()
        # A slow sender has not waited for us: its request arrived when it was whole.
        self.cycle.scope["state"]["arrived"] = self._arrived

    def on_response_complete(self) -> None:
        if self.pipeline and self._admission is not None:
            # Nor has one that stood behind another of its own connection.
            self.pipeline[-1][0].scope["state"]["arrived"] = self._admission.arrival()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._at_work = cycle
        super()._start_asgi_task(cycle, app)

    def _finish_owed(self) -> bool:
        """Take no further request, drop one that is not whole, and hang up after the answers owed; False when none is."""
        last = self.cycle
        if last is None:
            return False
        if not self._in_head and last.more_body and not last.response_started:
            if self._at_work is last or self._at_work is None:
                return False
            self.pipeline.popleft()
            self.cycle = last = self.pipeline[0][0] if self.pipeline else self._at_work
        if last.response_complete:
            return False
        last.keep_alive = False
        self._ending = True
        return True

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and hang up. Where an answer is owed to an earlier request, that is the last one instead."""
        if self._finish_owed():
            return
        bad = None if self._in_head else self.cycle
        if bad is not None and not bad.response_complete:
            # Nobody waits for the rest of its body any more.
            bad.disconnected = True
            bad.message_event.set()
        if bad is None or not bad.response_started:
            request_id = new_request_id()
            response = refused(refusal, request_id)
            self.transport.write(wire_bytes(response, request_id, self.server_state.default_headers, closing=True))
            state: WorkerState = self.app_state["worker"]
            state.endpoints.note("other", response, request_id, self._arrived or monotonic(), self.client, error=refusal)
        self._ending = True
        self.transport.write_eof()
        self.timeout_keep_alive_task = self.loop.call_later(LINGER_SECONDS, self.timeout_keep_alive_handler)


def lacking(plain: HttpToolsProtocol) -> list[str]:
    """Which of the INTERNALS uvicorn's own protocol does not have: then it must serve as it is."""
    return [name for name in INTERNALS if not hasattr(plain, name)]


def _bytes_to_read(transport: asyncio.Transport) -> int:
    """How much the kernel holds of what the client sent."""
    found: int = struct.unpack("i", fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4)))[0]
    return found


def _announces_body(field: tuple[bytes, bytes]) -> bool:
    name, value = field
    return name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
