"""Stored forms, frozen: what older releases wrote must decode and encode again byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.live.forms import (
    Malformed,
    UnknownForm,
    decode_change,
    decode_client,
    decode_event,
    decode_recorded,
    decode_token,
    decode_trouble,
    encode_change,
    encode_client,
    encode_event,
    encode_recorded,
    encode_token,
    encode_trouble,
)
from authsvc.model import Client, DeletedClient, Event, Secret, TokenEvent, TokenValue, Tombstone

# Golden: these literals are in some Redis already. A change here is a new form, with a number of its own.

TOKENS: dict[bytes, TokenValue] = {
    b"1a 12 orders 345 1790000000 3600 read write": TokenValue("a", 12, "orders", 345, "read write", 1_790_000_000, 3600),
    b"1o 7 billing.v2_x-y 123456 1790000001 120 pay": TokenValue("o", 7, "billing.v2_x-y", 123_456, "pay", 1_790_000_001, 120),
    b"1a 1 a 1 0 1 !#[]~": TokenValue("a", 1, "a", 1, "!#[]~", 0, 1),
}
TOMBSTONES: dict[bytes, Tombstone] = {
    b"1u 1790000003123 orders": Tombstone("u", 1_790_000_003_123, "orders"),
    b"1r 1790000004000 billing.v2_x-y": Tombstone("r", 1_790_000_004_000, "billing.v2_x-y"),
}
CLIENTS: dict[bytes, Client | DeletedClient] = {
    b"1 41 e 17 3600 120 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=@1789000000000 read": Client(
        "orders", ("read",), (Secret(bytes(range(32)), 1_789_000_000_000),), True, 3600, 120, 17, 41
    ),
    (
        b"1 42 e 17 900 60 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=@1789000000000,"
        b"//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=@1789500000000 read write orders:all"
    ): Client(
        "orders",
        ("read", "write", "orders:all"),
        (Secret(bytes(range(32)), 1_789_000_000_000), Secret(bytes(range(255, 223, -1)), 1_789_500_000_000)),
        True,
        900,
        60,
        17,
        42,
    ),
    b"1 43 d 17 3600 120 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=@1789000000000 read": Client(
        "orders", ("read",), (Secret(bytes(range(32)), 1_789_000_000_000),), False, 3600, 120, 17, 43
    ),
    b"1 44 x": DeletedClient("orders", 44),
}
NAME = b" \x00\n1\xff:9" + bytes(range(13))
EVENTS: dict[bytes, TokenEvent] = {
    b"1i" + NAME + b"1790000000123 1a 12 orders 345 1790000000 3600 read write": TokenEvent(
        "i", NAME, 1_790_000_000_123, TokenValue("a", 12, "orders", 345, "read write", 1_790_000_000, 3600)
    ),
    b"1u" + NAME + b"1790000001123 1o 12 orders 345 1790000000 120 read": TokenEvent(
        "u", NAME, 1_790_000_001_123, TokenValue("o", 12, "orders", 345, "read", 1_790_000_000, 120)
    ),
    b"1r" + NAME + b"1790000002123 1a 12 orders 345 1790000000 3600 read": TokenEvent(
        "r", NAME, 1_790_000_002_123, TokenValue("a", 12, "orders", 345, "read", 1_790_000_000, 3600)
    ),
    b"1v" + NAME + b"1790000003123 1o 12 orders 345 1790000000 120 read": TokenEvent(
        "v", NAME, 1_790_000_003_123, TokenValue("o", 12, "orders", 345, "read", 1_790_000_000, 120)
    ),
}
CHANGES: dict[bytes, str] = {b"1orders": "orders", b"1billing.v2_x-y": "billing.v2_x-y"}
TROUBLES: dict[bytes, tuple[int, str]] = {
    "11790000000123 records: The record store é cannot be reached.".encode(): (
        1_790_000_000_123,
        "records: The record store é cannot be reached.",
    )
}
RECORDED: dict[bytes, tuple[int, int]] = {b"1 12 345": (12, 345), b"1 1 0": (1, 0)}

DECODERS: dict[str, Callable[[bytes], object]] = {
    "token": decode_token,
    "event": decode_event,
    "client": lambda stored: decode_client("orders", stored),
    "change": decode_change,
    "trouble": decode_trouble,
    "recorded": decode_recorded,
}
GOLDEN: dict[str, list[bytes]] = {
    "token": [*TOKENS, *TOMBSTONES],
    "event": [*EVENTS],
    "client": [*CLIENTS],
    "change": [*CHANGES],
    "trouble": [*TROUBLES],
    "recorded": [*RECORDED],
}
FORMS = [(form, stored) for form, fixtures in GOLDEN.items() for stored in fixtures]


@pytest.mark.parametrize("stored", TOKENS)
def test_a_token_value_keeps_its_form(stored: bytes) -> None:
    assert decode_token(stored) == TOKENS[stored]
    assert encode_token(TOKENS[stored]) == stored


@pytest.mark.parametrize("stored", TOMBSTONES)
def test_a_tombstone_keeps_its_form(stored: bytes) -> None:
    """Tombstones are written by a script in Redis; here they are only read."""
    found = decode_token(stored)
    assert isinstance(found, Tombstone)
    assert found == TOMBSTONES[stored]
    assert b"1%b %d %b" % (found.reason.encode(), found.at_ms, found.client_id.encode()) == stored


@pytest.mark.parametrize("stored", CLIENTS)
def test_a_client_record_keeps_its_form(stored: bytes) -> None:
    assert decode_client("orders", stored) == CLIENTS[stored]
    assert encode_client(CLIENTS[stored]) == stored


@pytest.mark.parametrize("stored", EVENTS)
def test_a_stream_entry_keeps_its_form(stored: bytes) -> None:
    found = decode_event(stored)
    assert found == EVENTS[stored]
    assert encode_event(Event(found.event), found.name, found.at_ms, encode_token(found.value)) == stored


@pytest.mark.parametrize("stored", CHANGES)
def test_a_change_log_entry_keeps_its_form(stored: bytes) -> None:
    assert decode_change(stored) == CHANGES[stored]
    assert encode_change(CHANGES[stored]) == stored


@pytest.mark.parametrize("stored", RECORDED)
def test_what_the_record_store_had_keeps_its_form(stored: bytes) -> None:
    assert decode_recorded(stored) == RECORDED[stored]
    assert encode_recorded(*RECORDED[stored]) == stored


@pytest.mark.parametrize("stored", TROUBLES)
def test_a_trouble_keeps_its_form(stored: bytes) -> None:
    assert decode_trouble(stored) == TROUBLES[stored]
    assert encode_trouble(*TROUBLES[stored]) == stored


def test_the_fixtures_show_every_kind_event_and_state() -> None:
    assert {value.kind for value in TOKENS.values()} == {"a", "o"}
    assert {found.reason for found in TOMBSTONES.values()} == {"u", "r"}
    assert {found.event for found in EVENTS.values()} == {event.value for event in Event}
    states = {(client.enabled, len(client.secrets)) for client in CLIENTS.values() if isinstance(client, Client)}
    assert states >= {(True, 1), (True, 2), (False, 1)}


# There and back

numbers = st.integers(0, 2**53)
client_ids = st.text(ascii_letters + digits + "._-", min_size=1, max_size=64)
scope_tokens = st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\'], min_size=1, max_size=64)
scope_tuples = st.lists(scope_tokens, min_size=1, max_size=5, unique=True).map(tuple)
token_values = st.builds(TokenValue, st.sampled_from("ao"), numbers, client_ids, numbers, scope_tuples.map(" ".join), numbers, numbers)
secrets = st.builds(Secret, st.binary(min_size=32, max_size=32), numbers)
clients = st.builds(
    Client,
    id=client_ids,
    scopes=scope_tuples,
    secrets=st.lists(secrets, min_size=1, max_size=2).map(tuple),
    enabled=st.booleans(),
    access_ttl_seconds=numbers,
    one_time_ttl_seconds=numbers,
    epoch=numbers,
    revision=numbers,
)


@given(token_values)
def test_any_token_value_goes_there_and_back(value: TokenValue) -> None:
    assert decode_token(encode_token(value)) == value


@given(clients)
def test_any_client_goes_there_and_back(client: Client) -> None:
    assert decode_client(client.id, encode_client(client)) == client


@given(st.sampled_from(Event), st.binary(min_size=20, max_size=20), numbers, token_values)
def test_any_event_goes_there_and_back(event: Event, name: bytes, at_ms: int, value: TokenValue) -> None:
    assert decode_event(encode_event(event, name, at_ms, encode_token(value))) == TokenEvent(event, name, at_ms, value)


@given(client_ids)
def test_any_change_goes_there_and_back(client_id: str) -> None:
    assert decode_change(encode_change(client_id)) == client_id


def test_a_token_value_is_small() -> None:
    """Client id and scope of 30 characters together; the key beside it has 24 bytes."""
    value = TokenValue("a", 12, "orders-service", 123_456, "read:all write:x", 1_790_000_000, 3600)
    assert len(value.client_id) + len(value.scope) == 30
    assert len(encode_token(value)) <= 70


# What is none of ours


@pytest.mark.parametrize("number", [b"%d" % number for number in range(10) if number != 1])
def test_another_form_number_is_unknown_and_not_malformed(number: bytes) -> None:
    for form, stored in FORMS:
        with pytest.raises(UnknownForm):
            DECODERS[form](number + stored[1:])


@pytest.mark.parametrize("form", DECODERS)
@pytest.mark.parametrize("rest", [b"", b" ", b"x", b"i", b"a ", b"\xff", b"\x00" * 40])
def test_a_newer_form_may_look_like_anything_after_its_number(form: str, rest: bytes) -> None:
    with pytest.raises(UnknownForm):
        DECODERS[form](b"2" + rest)


@pytest.mark.parametrize("form", DECODERS)
@pytest.mark.parametrize("stored", [b"", b" ", b"x", b"\xff", b"\x00", b"-1", b"\xb2", b"\xef\xbc\x91", b"\n1"])
def test_what_has_no_form_number_is_malformed(form: str, stored: bytes) -> None:
    with pytest.raises(Malformed):
        DECODERS[form](stored)


TOKEN = b"1a 12 orders 345 1790000000 3600 read"


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        ("token", b"1"),
        ("token", b"1a"),
        ("token", b"1x 12 orders 345 1790000000 3600 read"),
        ("token", b"1a 12 orders 345 1790000000 3600"),
        ("token", b"1a twelve orders 345 1790000000 3600 read"),
        ("token", b"1a 12 orders 345 1790000000 " + b"9" * 5000 + b" read"),
        ("token", b"1a 12 orders 345 1790000000 3600 r\xe9ad"),
        ("token", b"1u orders"),
        ("token", b"1u 1790000003123"),
        ("token", b"1u 1790000003123 orders more"),
        ("token", b"1r yesterday orders"),
        ("event", b"1"),
        ("event", b"1i"),
        ("event", b"1i" + NAME),
        ("event", b"1i" + NAME + b"1790000000123"),
        ("event", b"1i" + NAME + b"1790000000123 "),
        ("event", b"1x" + NAME + b"1790000000123 " + TOKEN),
        ("event", b"1\xff" + NAME + b"1790000000123 " + TOKEN),
        ("event", b"1i" + NAME + b" " + TOKEN),
        ("event", b"1i" + NAME + b"now " + TOKEN),
        ("event", b"1i" + NAME + b"9" * 5000 + b" " + TOKEN),
        ("event", b"1i" + NAME + b"1790000000123 1u 1790000003123 orders"),
        ("event", b"1i" + NAME[:19] + b"1790000000123 " + TOKEN[1:]),
        ("client", b"1"),
        ("client", b"1x"),
        ("client", b"1x 41 x"),
        ("client", b"1 "),
        ("client", b"1 41"),
        ("client", b"1 x"),
        ("client", b"1 x x"),
        ("client", b"1 41 x x"),
        ("client", b"1 41 q 17 3600 120 AAEC@1 read"),
        ("client", b"1 41 e 17 3600 120"),
        ("client", b"1 41 e 17 3600 120 AAEC read"),
        ("client", b"1 41 e 17 3600 120 AAE*@1 read"),
        ("client", b"1 41 e 17 3600 120 AAE@1 read"),
        ("client", b"1 41 e 17 3600 120 AAEC@1, read"),
        ("client", b"1 41 e 17 3600 120 AAEC@1 r\xe9ad"),
        ("change", b"1\xff"),
        ("change", "1é".encode()),
        ("trouble", b"1"),
        ("trouble", b"11790000000123"),
        ("trouble", b"1now out of reach"),
        ("trouble", b"1 out of reach"),
        ("recorded", b"1"),
        ("recorded", b"1 12"),
        ("recorded", b"1 12 x"),
        ("recorded", b"1 12 -5"),
        ("recorded", b"112 345"),
        ("trouble", b"1" + b"9" * 15 + b" out of reach"),
    ],
)
def test_a_spoilt_form_is_malformed(form: str, stored: bytes) -> None:
    with pytest.raises(Malformed):
        DECODERS[form](stored)


def test_a_newer_token_inside_an_entry_of_ours_is_unknown() -> None:
    with pytest.raises(UnknownForm):
        decode_event(b"1i" + NAME + b"1790000000123 2" + TOKEN[1:])


def decodes_or_says_why(form: str, stored: bytes) -> None:
    try:
        DECODERS[form](stored)
    except (UnknownForm, Malformed):
        return


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=120), st.sampled_from([b"", b"1", b"1 ", b"1a ", b"1u ", b"1i" + NAME]))
def test_random_bytes_never_raise_anything_else(form: str, stored: bytes, start: bytes) -> None:
    decodes_or_says_why(form, start + stored)


@given(st.sampled_from(FORMS), st.data())
def test_changed_forms_never_raise_anything_else(golden: tuple[str, bytes], data: st.DataObject) -> None:
    form, stored = golden
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(stored)))
        removed = data.draw(st.integers(0, 3))
        stored = stored[:position] + data.draw(st.binary(max_size=3)) + stored[position + removed :]
    decodes_or_says_why(form, stored)
