"""The PROXY header: who called, as a balancer that passes on connections says it first (versions 1 and 2 of haproxy's specification)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

LONGEST_LINE = 107
"""Bytes of a header of version 1, with its line break: the specification's bound."""
LONGEST_BINARY = 2048
"""Bytes of a header of version 2 behind its fixed part: addresses, and what a balancer adds of TLS."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
"""Of the families of version 2 that name a caller: TCP over IPv4 and over IPv6."""


class BadHeaderError(Exception):
    """What came is no PROXY header; the message says why, in words that fit behind "because"."""


class ProxyHeader(NamedTuple):
    """A whole header."""

    length: int
    """Bytes that it took."""
    client: tuple[str, int] | None
    """Address and port of the caller; None where the balancer speaks for itself or does not know."""


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header with which the data begins, None while it is not whole; BadHeaderError if it is none."""
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if data.startswith(b"PROXY "):
        return _line(data)
    if _SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise BadHeaderError("it begins otherwise")


def _line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise BadHeaderError(f"its line is over {LONGEST_LINE} bytes")
        return None
    family, *words = data[6:end].split(b" ")
    if family == b"UNKNOWN":
        return ProxyHeader(end + 2, None)
    try:
        client, server, client_port, server_port = words
        address, _ = (_address(family, word) for word in (client, server))
        port, _ = (_port(word) for word in (client_port, server_port))
    except ValueError as error:
        raise BadHeaderError("its line does not name two addresses and two ports") from error
    return ProxyHeader(end + 2, (address, port))


def _address(family: bytes, word: bytes) -> str:
    found = ip_address(word.decode("ascii"))
    if type(found) is not {b"TCP4": IPv4Address, b"TCP6": IPv6Address}.get(family) or b"%" in word:
        raise ValueError
    return str(found)


def _port(word: bytes) -> int:
    if not word.isdigit() or int(word) > 0xFFFF:
        raise ValueError
    return int(word)


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED_BYTES:
        return None
    command, family, size = data[12], data[13], int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise BadHeaderError("its version or command is unknown")
    address_bytes = _ADDRESS_BYTES.get(family, 0) if command == _PROXY else 0
    if not 2 * address_bytes + 4 * (address_bytes > 0) <= size <= LONGEST_BINARY:
        raise BadHeaderError(f"its length of {size} bytes cannot be")
    end = _FIXED_BYTES + size
    if len(data) < end:
        return None
    if not address_bytes:
        return ProxyHeader(end, None)
    ports = _FIXED_BYTES + 2 * address_bytes
    address = ip_address(data[_FIXED_BYTES : _FIXED_BYTES + address_bytes])
    return ProxyHeader(end, (str(address), int.from_bytes(data[ports : ports + 2])))
