"""The PROXY header, byte for byte as haproxy's specification has it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from authsvc.http.proxy_header import LONGEST_BINARY, LONGEST_LINE, BadHeaderError, ProxyHeader, read_proxy_header

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
LINE_4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
LINE_6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4124 443\r\n"


def binary(command: int, family: int, addresses: bytes, more: bytes = b"") -> bytes:
    body = addresses + more
    return SIGNATURE + bytes((0x20 | command, family)) + len(body).to_bytes(2) + body


def addresses(client: str, port: int) -> bytes:
    server = "198.51.100.1" if ip_address(client).version == 4 else "2001:db8::1"
    return ip_address(client).packed + ip_address(server).packed + port.to_bytes(2) + (443).to_bytes(2)


BINARY_4 = binary(1, 0x11, addresses("192.0.2.7", 56324))
BINARY_6 = binary(1, 0x21, addresses("2001:db8::7", 4124))
GOOD = [
    (LINE_4, ("192.0.2.7", 56324)),
    (LINE_6, ("2001:db8::7", 4124)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (BINARY_4, ("192.0.2.7", 56324)),
    (BINARY_6, ("2001:db8::7", 4124)),
    # What a balancer adds, of TLS or a name, is passed over.
    (binary(1, 0x11, addresses("192.0.2.7", 56324), b"\x02\x00\x04auth"), ("192.0.2.7", 56324)),
    # A balancer's own connection (LOCAL), whatever addresses it brings; and a caller on a Unix socket, who has none.
    (binary(0, 0x00, b""), None),
    (binary(0, 0x11, addresses("192.0.2.7", 56324)), None),
    (binary(1, 0x31, bytes(216)), None),
    (binary(1, 0x00, b""), None),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_the_client_is_whom_it_names(header: bytes, client: tuple[str, int] | None) -> None:
    assert read_proxy_header(header) == ProxyHeader(len(header), client)
    assert read_proxy_header(header + b"GET /health HTTP/1.1\r\n\r\n") == ProxyHeader(len(header), client)


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_none_of_its_beginnings_is_whole(header: bytes, client: object) -> None:
    assert [size for size in range(len(header)) if read_proxy_header(header[:size]) is not None] == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", "begins otherwise"),
        (b"POST /token HTTP/1.1\r\n", "begins otherwise"),
        (b"\r\n\r\nGET", "begins otherwise"),
        (b"\x16\x03\x01\x02\x00", "begins otherwise"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n", "does not name"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 9\r\n", "does not name"),
        (b"PROXY TCP4 2001:db8::7 2001:db8::1 4124 443\r\n", "does not name"),
        (b"PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n", "does not name"),
        (b"PROXY TCP6 fe80::1%eth0 fe80::2 4124 443\r\n", "does not name"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "does not name"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n", "does not name"),
        (b"PROXY TCP4 192.0.2.7 not-an-address 56324 443\r\n", "does not name"),
        (b"PROXY TCP4 192.0.2.\xff 198.51.100.1 56324 443\r\n", "does not name"),
        (b"PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n", "does not name"),
        (b"PROXY \r\n", "does not name"),
        (b"PROXY TCP4 " + b"1" * LONGEST_LINE, "over 107 bytes"),
        (SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), "version or command"),
        (SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12), "version or command"),
        (binary(1, 0x11, bytes(11)), "length of 11"),
        (binary(1, 0x21, bytes(35)), "length of 35"),
        (SIGNATURE + b"\x21\x11" + (LONGEST_BINARY + 1).to_bytes(2), "length of 2049"),
    ],
)
def test_what_is_none_is_refused_as_soon_as_that_is_known(data: bytes, problem: str) -> None:
    with pytest.raises(BadHeaderError, match=problem):
        read_proxy_header(data)


def test_the_longest_line_of_the_specification_is_read() -> None:
    address = ":".join(["ffff"] * 8)
    line = f"PROXY TCP6 {address} {address} 65535 65535\r\n".encode()
    assert len(line) == 104
    assert read_proxy_header(line) == ProxyHeader(104, (str(ip_address(socket.inet_ntop(socket.AF_INET6, b"\xff" * 16))), 65535))
