"""The lane: plain requests to the hot endpoints are answered inside the protocol; every other takes the way through ASGI.

Both ways call the same endpoints, and a connection may mix them: the lane takes a request only when every earlier one of
its connection is answered, and works on one at a time, so answers keep their order. Within the lane the shortest way
(`data_received`) is for what nearly all clients do: one whole request at a time, on a connection that owes nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from authsvc.http.endpoints import Endpoint, defect, failed
from authsvc.http.protocol import WireProtocol, WorkerState
from authsvc.http.request import Request, new_request_id
from authsvc.http.response import CLOSE, Response, wire_bytes
from authsvc.promise import drive

MOST_HELD_BYTES = 64 * 1024
"""Bytes that a client may send ahead of its answers before its connection is left unread."""


class LaneProtocol(WireProtocol):
    """One connection of the public socket (or of the management socket, where nothing is plain)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clear = False
        """Whether the shortest way may be taken: nothing is owed, held back or half read, and what is written gets through."""
        self._working = False
        self._beginning = False
        self._held = b""
        self._request_id = b""
        self._asked_at = 0.0
        self._endpoint: Endpoint
        self._took_any = False
        self._last_asked = False
        self._hang_up = False
        self._active_at = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        super().connection_made(transport)
        state: WorkerState = self.app_state["worker"]
        self._places = state.admission
        self._heads = state.heads
        self._endpoints = state.endpoints
        self._told = state.endpoints.access_log
        self._clear = self._admission is not None

    def data_received(self, data: bytes) -> None:
        if self._clear:
            end = data.find(b"\r\n\r\n") + 4
            known = self._heads.read(data[:end]) if end > 3 and not self._told.on else None
            if known is not None:
                plain, token, request_id = known
                endpoint, head, body_bytes = plain
                if len(data) == end + body_bytes:
                    arrived = self._places.enter_at_once()
                    if arrived is not None:
                        if self._idle_timer is None or self.timeout_keep_alive_task is not None:
                            self._watch_idleness()
                        self._clear = False
                        self._working = True
                        self._endpoint, self._asked_at = endpoint, arrived
                        self._request_id = request_id = request_id or new_request_id()
                        drive(endpoint.handler(Request(head, data[end:], request_id, token)), self._handled)
                        return
            self._clear = False
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = b""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    @property
    def is_new(self) -> bool:
        """Whether it is open and has not brought a whole request yet."""
        return super().is_new and (not self._took_any or self._in_head)

    @property
    def is_idle(self) -> bool:
        """Whether no answer is owed."""
        return not self._working and not self._held and super().is_idle

    def _feed(self, data: bytes) -> None:
        if self._working or self._held:
            self._held += data
            if len(self._held) > MOST_HELD_BYTES:
                self.flow.pause_reading()
            return
        if self._between and self._admission is not None and not self._ending:
            cycle = self.cycle
            if cycle is None or cycle.response_complete:
                data = self._take(data)
        if data:
            self._clear = False
            super()._feed(data)

    def _take(self, data: bytes) -> bytes:
        """Answer what is plain; the rest of the data is for the other way."""
        while data and not self._ending:
            end = data.find(b"\r\n\r\n") + 4
            known = self._heads.read(data[:end]) if end > 3 else None
            if known is None:
                return data
            (endpoint, head, body_bytes), token, request_id = known
            whole = end + body_bytes
            if len(data) < whole:
                return data
            if self.flow.write_paused:
                # It reads its answers more slowly than it asks.
                self._held = data
                return b""
            self._request_id = request_id or new_request_id()
            request = Request(head, data[end:whole], self._request_id, token)
            # What follows it is owed an answer, too, whatever comes meanwhile.
            self._held = data[whole:]
            if self._idle_timer is None or self.timeout_keep_alive_task is not None:
                self._watch_idleness()
            self._working = self._beginning = True
            self._clear = False
            drive(self._endpoints.answer(endpoint, request, self._arrived, self.client), self._answered)
            self._beginning = False
            if self._working:
                return b""
            data, self._held = self._held, b""
        return b""

    def _handled(self, response: Response | None, error: Exception | None) -> None:
        """As `Endpoints.answer` ends, for a request that came the shortest way: no coroutine around its handler, which would cost."""
        name, _, _, answers, durations = self._endpoint
        self._places.leave()
        if response is None:
            response = failed(error, name, self._request_id)
        answers[response[0]] += 1
        durations.add(monotonic() - self._asked_at)
        self._answered(response, None)

    def _answered(self, response: Response | None, error: Exception | None) -> None:
        self._working = False
        transport = self.transport
        if transport.is_closing():
            return
        if response is None:
            response = defect("other", self._request_id, error)
        default_fields = self.server_state.default_headers
        closing = CLOSE in default_fields or (self._hang_up and not self._held)
        self._active_at = monotonic()
        # Before it is written: that may tell us that the client reads too slowly.
        self._clear = not (closing or self._held or self._last_asked or self.flow.write_paused)
        transport.write(wire_bytes(response, self._request_id, default_fields, closing))
        if closing:
            self._ending = True
            self._held = b""
            transport.close()
        elif not (self._clear or self._beginning):
            self._go_on()

    def _go_on(self) -> None:
        """Take what was held back while the last answer was not out, if anything was."""
        held, self._held = self._held, b""
        if held:
            self.flow.resume_reading()
            if self._admission is not None:
                # It has not waited for us while an earlier one of its connection was worked on.
                self._arrived = self._admission.arrival()
            self._feed(held)
        if self._last_asked and not self._working and not self._held and not super().eof_received():
            self.transport.close()

    def pause_writing(self) -> None:
        self._clear = False
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held and not self._working:
            self._go_on()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio takes a boolean: whether to stay open
        """A client that only stopped sending still gets the answers to all that it asked."""
        if self._working or self._held:
            self._last_asked = self._hang_up = True
            return True
        return super().eof_received()

    def _finish(self) -> None:
        self._hang_up = True
        if not self._working and not self._held:
            super()._finish()

    def _watch_idleness(self) -> None:
        """One timer that looks when it fires how long ago the last request was: a timer for each request would cost more."""
        self._took_any = True
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._idle_timer = None
        if self.transport.is_closing() or self.timeout_keep_alive_task is not None or not super().is_idle:
            # The other way has the connection now, and its own timer.
            return
        idle_seconds = 0.0 if self._working or self._held or self._unread else monotonic() - self._active_at
        if idle_seconds >= self.timeout_keep_alive:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive - idle_seconds, self._close_if_idle)
