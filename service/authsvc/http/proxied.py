"""A connection that begins with a PROXY header: read once, then the connection is another protocol's, and costs no more than any."""

from __future__ import annotations

import asyncio

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from authsvc.http.protocol import WireProtocol
from authsvc.http.proxy_header import BadHeaderError, ProxyHeader, read_proxy_header

HEADER_SECONDS = 5.0
"""How long a header may take to become whole; a balancer sends it at once."""
LOGGED_EVERY_SECONDS = 10.0
"""Connections without a good header are logged no more often than this; a scanner brings thousands."""

log = structlog.get_logger(__name__)


class ProxyRefusals:
    """Connections of one worker that were closed for their header: counted, and logged now and then."""

    def __init__(self) -> None:
        self._closed = 0
        self._quiet_until = 0.0

    def add(self, problem: str, peer: object, now: float) -> None:
        """One more, at that time of the event loop."""
        self._closed += 1
        if now >= self._quiet_until:
            self._quiet_until = now + LOGGED_EVERY_SECONDS
            log.warning(
                "closed without an answer: no good PROXY header, which AUTH_PROXY_PROTOCOL asks for",
                problem=problem,
                peer=peer,
                closed=self._closed,
            )


class ProxiedProtocol(asyncio.Protocol):
    """Stands first on a connection, and is among the server's as long as it does."""

    def __init__(self, speaker: HttpToolsProtocol, refusals: ProxyRefusals) -> None:
        """`speaker` gets the connection, and all that follows the header."""
        self._speaker = speaker
        self._refusals = refusals
        self._held = b""
        self._handed_over = False
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    @property
    def is_new(self) -> bool:
        """Whether it is open and has not brought a whole request yet."""
        if self._handed_over:
            return isinstance(self._speaker, WireProtocol) and self._speaker.is_new
        return not self._transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a stream's
        self._transport = transport
        self._speaker.connections.add(self)  # type: ignore[arg-type] # uvicorn only counts them, and calls shutdown
        self._timer = self._speaker.loop.call_later(HEADER_SECONDS, self._refuse, f"it is not whole after {HEADER_SECONDS:.0f} s")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._held += data
        try:
            header = read_proxy_header(self._held)
        except BadHeaderError as error:
            self._refuse(str(error))
        else:
            if header is not None:
                self._hand_over(header)

    def say_close(self) -> None:
        """The instance will stop: no request is under way here."""

    def shutdown(self) -> None:
        """The instance stops, and nothing is owed."""
        self._transport.close()

    def _hand_over(self, header: ProxyHeader) -> None:
        self._leave()
        self._handed_over = True
        self._speaker.connection_made(self._transport)
        if header.client is not None:
            self._speaker.client = header.client
        self._transport.set_protocol(self._speaker)
        rest, self._held = self._held[header.length :], b""
        if rest:
            self._speaker.data_received(rest)

    def _refuse(self, problem: str) -> None:
        self._refusals.add(problem, self._transport.get_extra_info("peername"), self._speaker.loop.time())
        self._transport.close()

    def _leave(self) -> None:
        self._timer.cancel()
        self._speaker.connections.discard(self)
