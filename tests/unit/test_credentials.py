"""Tokens and client secrets as text, against an independent reading of the wire contract."""

from __future__ import annotations

import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b, sha256
from string import ascii_lowercase, ascii_uppercase, digits

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from authsvc.credentials import TokenKeys, base64url, jti, name_of_jti, new_secret, secret_digest, secret_matches
from authsvc.model import Kind
from servers import service_environ

KEY = b"k3Vt9wQzX1pLr8sYbN5mHc2jDf7gAe4U"
OTHER_KEY = b"Zr5Ty8UiOp2As4Df6Gh9Jk1Lx3Cv7Bn0"
KEYS = TokenKeys(KEY)
ALPHABET = (ascii_uppercase + ascii_lowercase + digits + "-_").encode()
"""The base64url alphabet in the order of its values (RFC 4648, 5)."""

JTI_LIKE = ALPHABET.decode() + "+/=\n\x00\x80é\ud800\uffff\U0001f600"

kinds = st.sampled_from(Kind)


def spell(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def siblings(last: int, spare_bits: int) -> list[int]:
    """The other characters that a lenient base64 decoder reads as the same last character."""
    value = ALPHABET.index(last)
    base = value >> spare_bits << spare_bits
    return [ALPHABET[base + bits] for bits in range(1 << spare_bits) if base + bits != value]


@given(kinds)
def test_a_token_is_what_the_contract_says(kind: Kind) -> None:
    token, name = KEYS.new(kind)

    assert len(token) == 46
    assert token[:3] == {Kind.ACCESS: b"at_", Kind.ONE_TIME: b"ot_"}[kind]
    assert set(token[3:]) <= set(ALPHABET)
    digest = blake2b(token[:35], key=KEY, digest_size=28).digest()
    assert token[35:] == spell(digest[:8])
    assert name == digest[8:]
    assert KEYS.name(token) == name


@given(st.binary(min_size=24, max_size=24), st.sampled_from([b"at_", b"ot_"]))
def test_any_token_made_by_the_contract_is_recognised(random: bytes, prefix: bytes) -> None:
    signed = prefix + spell(random)
    digest = blake2b(signed, key=KEY, digest_size=28).digest()

    assert KEYS.name(signed + spell(digest[:8])) == digest[8:]


@pytest.mark.parametrize("prefix", [b"rt_", b"AT_", b"at-", b"\x00\x00\x00"])
def test_a_token_of_another_prefix_is_unknown_though_its_checksum_is_right(prefix: bytes) -> None:
    signed = prefix + spell(bytes(24))
    assert KEYS.name(signed + spell(blake2b(signed, key=KEY, digest_size=28).digest()[:8])) is None


@given(kinds, st.integers(0, 45), st.integers(0, 255))
def test_any_other_character_makes_a_token_unknown(kind: Kind, position: int, character: int) -> None:
    token, _ = KEYS.new(kind)
    assume(token[position] != character)

    assert KEYS.name(token[:position] + bytes([character]) + token[position + 1 :]) is None


@given(kinds)
def test_the_unused_bits_of_the_last_character_have_one_spelling(kind: Kind) -> None:
    token, _ = KEYS.new(kind)
    for other in siblings(token[-1], spare_bits=2):
        altered = token[:-1] + bytes([other])
        assert urlsafe_b64decode(altered[35:] + b"=") == urlsafe_b64decode(token[35:] + b"=")
        assert KEYS.name(altered) is None


@given(kinds)
def test_case_matters(kind: Kind) -> None:
    token, _ = KEYS.new(kind)
    assert KEYS.name(token.swapcase()) is None
    assert KEYS.name(token[:3].upper() + token[3:]) is None


@given(kinds, st.binary(max_size=3))
def test_a_token_with_more_or_less_around_it_is_unknown(kind: Kind, more: bytes) -> None:
    token, _ = KEYS.new(kind)
    assume(more)
    for altered in (token + more, more + token, token[: -len(more)], token[len(more) :], token + b"=", token + b"\n", b" " + token):
        assert KEYS.name(altered) is None


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=46, max_size=46), st.binary(min_size=43, max_size=43).map(b"at_".__add__)))
def test_garbage_has_no_name_and_raises_nothing(garbage: bytes) -> None:
    assert KEYS.name(garbage) is None


def test_an_accepted_key_recognises_what_it_issued_until_it_is_dropped() -> None:
    before, rotating, after = TokenKeys(OTHER_KEY), TokenKeys(KEY, (OTHER_KEY,)), TokenKeys(KEY)
    old, old_name = before.new(Kind.ACCESS)
    new, new_name = rotating.new(Kind.ACCESS)

    assert (rotating.name(old), rotating.name(new)) == (old_name, new_name)
    assert (after.name(old), after.name(new)) == (None, new_name)
    assert before.name(new) is None


def test_the_issuing_key_may_be_listed_among_the_accepted_ones() -> None:
    keys = TokenKeys(KEY, (KEY, OTHER_KEY))
    token, name = keys.new(Kind.ONE_TIME)
    assert keys.name(token) == TokenKeys(KEY).name(token) == name


def test_tokens_and_names_do_not_repeat() -> None:
    made = [KEYS.new(Kind.ACCESS) for _ in range(2000)]
    assert len({token for token, _ in made}) == len({token[3:35] for token, _ in made}) == len({name for _, name in made}) == 2000


def test_a_forked_child_draws_other_random_bytes_than_its_parent() -> None:
    script = f"""
import os, sys
from authsvc.credentials import TokenKeys
from authsvc.model import Kind
keys = TokenKeys({KEY!r})
keys.new(Kind.ACCESS)
child = os.fork()
sys.stdout.write("".join(keys.new(Kind.ACCESS)[0].decode() + "\\n" for _ in range(300)))
sys.stdout.flush()
if child:
    os._exit(os.waitpid(child, 0)[1])
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], env=service_environ(), capture_output=True, text=True, timeout=30, check=True)
    tokens = done.stdout.split()
    assert len(tokens) == 600
    assert len(set(tokens)) == 600


@given(st.binary(max_size=64))
def test_base64url_is_that_of_the_standard_library_without_padding(raw: bytes) -> None:
    assert base64url(raw) == spell(raw)


@given(st.binary(min_size=20, max_size=20))
def test_a_jti_goes_there_and_back(name: bytes) -> None:
    text = jti(name)
    assert len(text) == 27
    assert text == spell(name).decode()
    assert name_of_jti(text) == name


@given(st.binary(min_size=20, max_size=20))
def test_a_jti_has_one_spelling(name: bytes) -> None:
    text = jti(name)
    for other in siblings(ord(text[-1]), spare_bits=2):
        altered = text[:-1] + chr(other)
        assert urlsafe_b64decode(altered + "=") == name
        assert name_of_jti(altered) is None
    for altered in (text + "=", text + "\n", " " + text[:-1], text[:-1]):
        assert name_of_jti(altered) is None


def test_a_jti_is_not_spelled_in_the_other_base64_alphabet() -> None:
    assert name_of_jti(jti(b"\xfb\xff" * 10)) == b"\xfb\xff" * 10
    assert name_of_jti(jti(b"\xfb\xff" * 10).replace("-", "+").replace("_", "/")) is None


@given(st.one_of(st.text(JTI_LIKE, max_size=40), st.text(JTI_LIKE, min_size=27, max_size=27)))
def test_a_jti_that_is_none_raises_nothing(text: str) -> None:
    name = name_of_jti(text)
    assert name is None or jti(name) == text


def test_a_client_secret_holds_256_random_bits() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    for secret in secrets:
        assert len(secret) == 43
        assert len(urlsafe_b64decode(secret + "=")) == 32
    ones = sum(int.from_bytes(urlsafe_b64decode(secret + "=")).bit_count() for secret in secrets)
    assert ones == pytest.approx(128_000, rel=0.02)


@given(st.binary(max_size=100))
def test_what_is_kept_of_a_secret_is_its_sha_256(secret: bytes) -> None:
    assert secret_digest(secret) == sha256(secret).digest()


@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_a_secret_matches_any_of_the_live_digests_and_no_other(first: bytes, second: bytes, presented: bytes) -> None:
    digests = (sha256(first).digest(), sha256(second).digest())
    assert secret_matches(first, digests)
    assert secret_matches(second, digests)
    assert secret_matches(first, digests[:1])
    assert secret_matches(presented, digests) == (presented in (first, second))
    assert secret_matches(presented, digests[1:]) == (presented == second)


def test_a_secret_without_digests_never_matches() -> None:
    assert not secret_matches(b"", ())
    assert not secret_matches(b"anything", ())
