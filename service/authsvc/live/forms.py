"""Stored forms: how tokens, tombstones, clients, events and change-log entries look in Redis.

Every form begins with its number, one decimal digit today. A release reads its own form and the one before, and writes
a new form only one release after it learnt to read it. Forms are frozen by golden fixtures in the tests.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error

from authsvc.model import Client, DeletedClient, Event, Secret, TokenEvent, TokenValue, Tombstone

NAME_BYTES = 20
MOST_REQUEST_ID, MOST_BY = 64, 255
"""Characters, as the columns of the record store have them."""
_EVENTS = frozenset(event.value for event in Event)


class UnknownForm(Exception):
    """A well-formed number that this release does not know: written by a newer one, to be left alone."""


class Malformed(Exception):
    """Not a stored form of ours at all."""


def encode_token(value: TokenValue) -> bytes:
    """`1a 12 client 345 1790000000 3600 read write`: form and kind, incarnation, client, epoch, issued, TTL, scope."""
    return (
        f"1{value.kind} {value.incarnation} {value.client_id} {value.epoch} {value.issued_seconds} {value.ttl_seconds} {value.scope}"
    ).encode("ascii")


def decode_token(stored: bytes) -> TokenValue | Tombstone:
    """Read what is kept under a token's key: a live value or a tombstone."""
    try:
        if stored[1:2] in b"ao":
            mark, incarnation, client_id, epoch, issued, ttl, scope = stored.decode("ascii").split(" ", 6)
            if mark == "1a" or mark == "1o":
                # Not by the class: that, and its _make, are calls of Python's for each request.
                return tuple.__new__(TokenValue, (mark[1], int(incarnation), client_id, int(epoch), scope, int(issued), int(ttl)))
        else:
            mark, at_ms, client_id = stored.decode("ascii").split(" ")
            if mark in ("1u", "1r"):
                return Tombstone(mark[1], int(at_ms), client_id)
    except ValueError as error:
        raise _stranger(stored) from error
    raise _stranger(stored)


def encode_event(event: Event, name: bytes, at_ms: int, token: bytes) -> bytes:
    """`1i`, the 20-byte name, the time in ms, a space, and the token value byte for byte."""
    return b"1%b%b%d %b" % (event.encode("ascii"), name, at_ms, token)


def decode_event(stored: bytes, request_id: bytes = b"", by: bytes = b"") -> TokenEvent:
    """Read one entry of a stream, and what stands beside it; UnknownForm and Malformed say whether it is to be left or set aside."""
    if stored[:1] != b"1":
        raise _stranger(stored)
    event = stored[1:2].decode("latin-1")
    name = stored[2 : 2 + NAME_BYTES]
    at_ms, space, token = stored[2 + NAME_BYTES :].partition(b" ")
    if event not in _EVENTS or not space or not at_ms.isdigit() or len(at_ms) > 20:
        raise Malformed("stream entry")
    value = decode_token(token)
    if not isinstance(value, TokenValue):
        raise Malformed("stream entry: carries a tombstone")
    return TokenEvent(event, name, int(at_ms), value, _beside(request_id, MOST_REQUEST_ID), _beside(by, MOST_BY))


def _beside(text: bytes, most: int) -> str | None:
    """As much as a column holds, whatever it is: no record is to be lost for what only stands beside its event."""
    return text.decode("utf-8", "replace")[:most] if text else None


def encode_client(client: Client | DeletedClient) -> bytes:
    """`1 revision x` for a deleted client, else `1 revision e|d epoch access-ttl one-time-ttl secrets scopes`.

    Secrets are `digest@created-ms` joined by commas, digests in base64; the revision stands first for the mirror script.
    """
    if isinstance(client, DeletedClient):
        return b"1 %d x" % client.revision
    secrets = ",".join(f"{b64encode(secret.digest).decode()}@{secret.created_ms}" for secret in client.secrets)
    return (
        f"1 {client.revision} {'e' if client.enabled else 'd'} {client.epoch} {client.access_ttl_seconds}"
        f" {client.one_time_ttl_seconds} {secrets} {' '.join(client.scopes)}"
    ).encode("ascii")


def decode_client(client_id: str, stored: bytes) -> Client | DeletedClient:
    """Read a client record of the mirror."""
    if stored[:1] != b"1":
        raise _stranger(stored)
    try:
        form, revision, status, *rest = stored.decode("ascii").split(" ")
        if form != "1":
            raise Malformed("client record: no space after the form number")
        if status == "x" and not rest:
            return DeletedClient(client_id, int(revision))
        epoch, access_ttl, one_time_ttl, secrets, *scopes = rest
        if status not in ("e", "d"):
            raise Malformed("client record: unknown status")
        return Client(
            id=client_id,
            scopes=tuple(scopes),
            secrets=tuple(_decode_secret(secret) for secret in secrets.split(",")),
            enabled=status == "e",
            access_ttl_seconds=int(access_ttl),
            one_time_ttl_seconds=int(one_time_ttl),
            epoch=int(epoch),
            revision=int(revision),
        )
    except (ValueError, Base64Error) as error:
        raise Malformed(f"client record: {error}") from error


def _decode_secret(text: str) -> Secret:
    digest, _, created_ms = text.partition("@")
    return Secret(b64decode(digest, validate=True), int(created_ms))


def encode_change(client_id: str) -> bytes:
    """A change-log entry: the form's number and the id of the client that changed."""
    return b"1" + client_id.encode("ascii")


def decode_change(stored: bytes) -> str:
    """The id of the client that changed."""
    if stored[:1] != b"1":
        raise _stranger(stored)
    try:
        return stored[1:].decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed(f"change-log entry: {error}") from error


def encode_recorded(number: int, total: int) -> bytes:
    """`1`, a space, the incarnation's number, a space, and the sum of its marks in the record store."""
    return b"1 %d %d" % (number, total)


def decode_recorded(stored: bytes) -> tuple[int, int]:
    """The incarnation's number and the sum of its marks."""
    form, *numbers = stored.split(b" ")
    if form != b"1" or len(numbers) != 2 or not all(number.isdigit() and len(number) < 20 for number in numbers):
        raise _stranger(stored)
    return int(numbers[0]), int(numbers[1])


def encode_trouble(at_ms: int, sentence: str) -> bytes:
    """`1`, the time in ms, a space, and what keeps a writer from its work."""
    return b"1%d %b" % (at_ms, sentence.encode())


def decode_trouble(stored: bytes) -> tuple[int, str]:
    """The time in ms, and the sentence."""
    if stored[:1] != b"1":
        raise _stranger(stored)
    at_ms, space, sentence = stored[1:].partition(b" ")
    if not space or not at_ms.isdigit() or len(at_ms) > 14:
        raise Malformed("trouble")
    return int(at_ms), sentence.decode("utf-8", "replace")


def _stranger(stored: bytes) -> Exception:
    if stored[:1].isdigit() and stored[:1] != b"1":
        return UnknownForm(f"form {stored[:1].decode()}")
    return Malformed("not a stored form" if stored[:1] == b"1" else "no form number")
