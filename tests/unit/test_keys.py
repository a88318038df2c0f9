"""Names in Redis: the 16 tags spread over masters, and what one script touches lies in one slot."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from authsvc.live import keys
from authsvc.live.keys import BUILD, CLIENTS, HOME, HOME_VERSION, LOG, POISON, STORE, STREAMS, TAGS, VERSIONS, shard, token_key

names = st.binary(min_size=20, max_size=20)


def slot(key: bytes) -> int:
    return int(key_slot(key))


def master(place: int, masters: int) -> int:
    """Which of `masters` with contiguous slot ranges of equal size (to one slot) holds this slot."""
    return place * masters // REDIS_CLUSTER_HASH_SLOTS


def test_the_tags_are_frozen() -> None:
    """They stand in every stored key: a change here loses all tokens."""
    assert TAGS == (b"u0", b"qp", b"dj", b"wz", b"d2", b"pv", b"uh", b"iy", b"ly", b"h9", b"uv", b"q6", b"9s", b"qn", b"dt", b"ha")
    assert (STREAMS[0], VERSIONS[1], POISON[15]) == (b"{u0}stream", b"{qp}version", b"{ha}poison")
    assert (CLIENTS, LOG, BUILD, STORE, HOME_VERSION) == (b"{u0}clients", b"{u0}log", b"{u0}build", b"{u0}store", b"{u0}version")
    assert (keys.TROUBLES, keys.GROUP) == (b"{u0}troubles", b"writers")


@pytest.mark.parametrize("masters", [1, 2, 3, 4, 6, 8, 16])
def test_the_tags_spread_evenly_over_masters(masters: int) -> None:
    held = Counter(master(slot(tag), masters) for tag in TAGS)
    counts = [held[number] for number in range(masters)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == 16


@pytest.mark.parametrize("masters", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_a_slot_more_or_less_at_the_bounds_moves_no_tag(masters: int, shift: int) -> None:
    """Tools that make clusters round the bounds of the ranges each in their own way."""
    for tag in TAGS:
        assert master(slot(tag) + shift, masters) == master(slot(tag), masters)


def test_each_tag_has_a_slot_of_its_own_and_names_count_up_through_the_slots() -> None:
    slots = [slot(tag) for tag in TAGS]
    assert slots == sorted(set(slots))
    assert [master(place, 16) for place in slots] == list(range(16))


@given(names)
def test_the_shard_follows_from_the_names_bits(name: bytes) -> None:
    assert shard(name) == name[0] % 16
    assert token_key(name) == b"{" + TAGS[shard(name)] + b"}" + name


def test_names_spread_evenly_over_the_shards() -> None:
    counts = Counter(shard(bytes([first]) + bytes(19)) for first in range(256))
    assert counts == dict.fromkeys(range(16), 16)


@given(names)
def test_a_token_key_is_short_and_ends_in_the_name(name: bytes) -> None:
    key = token_key(name)
    assert len(key) == 24
    assert key[-20:] == name


@given(names)
def test_a_token_its_stream_and_its_version_share_a_slot(name: bytes) -> None:
    """What consume, revoke and void touch; any braces in the name do not matter."""
    for touched in (name, b"}" + name[1:], name[:1] + b"{}" + name[3:]):
        place = shard(touched)
        assert len({slot(token_key(touched)), slot(STREAMS[place]), slot(VERSIONS[place])}) == 1


def test_a_stream_and_its_poison_share_a_slot() -> None:
    """What setting an entry aside touches."""
    for stream, poison in zip(STREAMS, POISON, strict=True):
        assert slot(stream) == slot(poison)


def test_the_mirror_lies_in_one_slot() -> None:
    """What the mirror script and a build touch."""
    assert {slot(key) for key in (CLIENTS, LOG, HOME_VERSION, BUILD, STORE)} == {slot(HOME)}
    assert VERSIONS[0] == HOME_VERSION


def test_no_two_names_are_the_same_key() -> None:
    named = [*STREAMS, *VERSIONS, *POISON, CLIENTS, LOG, BUILD, STORE]
    assert len(set(named)) == len(named)


@given(names)
def test_no_token_key_is_another_key_of_ours(name: bytes) -> None:
    """All others are of another length than 24."""
    assert all(len(key) != len(token_key(name)) for key in (*STREAMS, *VERSIONS, *POISON, CLIENTS, LOG, BUILD, STORE))
