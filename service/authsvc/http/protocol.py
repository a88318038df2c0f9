"""The wire: uvicorn's httptools protocol with our own answers to what is no HTTP request at all."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from authsvc.errors import HeaderFieldsTooLarge, InvalidRequest, Refusal
from authsvc.http.request import MAX_BODY_BYTES, MAX_HEADER_BYTES, new_request_id
from authsvc.http.response import refused

_LONGEST_HEAD = MAX_HEADER_BYTES + MAX_BODY_BYTES
"""Bytes of an unfinished head that are kept; some may belong to the body of the request before."""


class WireProtocol(HttpToolsProtocol):
    """Refuses malformed requests with the contract's error body, and heads that do not end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _LONGEST_HEAD and not self.transport.is_closing():
                self._refuse(HeaderFieldsTooLarge("The header lines are over 32 KiB."))

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("This is not a valid HTTP request."))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and hang up, after the answers that are still owed to earlier requests of the connection."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                # An earlier request, whole and good, is at work: it is answered, then the connection closes.
                cycle.keep_alive = False
                self.transport.pause_reading()
                return
            # The request at work is the bad one: nobody waits for the rest of its body.
            cycle.disconnected = True
            cycle.message_event.set()
        request_id = new_request_id()
        status, headers, body = refused(refusal, request_id)
        fields = [*headers, (b"x-request-id", request_id), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        head = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode("ascii"))
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(head + lines + b"\r\n" + body)
        self.transport.close()
