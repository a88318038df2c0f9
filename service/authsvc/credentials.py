"""Tokens and client secrets as text: how they are made, checked and named in the stores."""

from __future__ import annotations

import hashlib
import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from hmac import compare_digest
from secrets import token_urlsafe

from authsvc.model import Kind

TOKEN_LENGTH = 46
"""`at_` or `ot_`, 32 characters of 24 random bytes, 11 characters of an 8-byte checksum."""
NAME_BYTES = 20
JTI_LENGTH = 27
PREFIXES = {Kind.ACCESS: b"at_", Kind.ONE_TIME: b"ot_"}
_SIGNED = 35
_CHECKSUM_BYTES = 8
_CHECKSUM_CHARACTERS = TOKEN_LENGTH - _SIGNED
_PREFIXES = frozenset(PREFIXES.values())
_DIGEST_BYTES = _CHECKSUM_BYTES + NAME_BYTES
_RANDOM_BYTES = 24
_POOL_TOKENS = 256
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def base64url(raw: bytes) -> bytes:
    """Base64url without padding (RFC 4648, 5)."""
    return b2a_base64(raw).translate(_TO_URL_SAFE, b"=\n")


def harmless(text: bytes) -> bytes:
    """What somebody sent as an id, as it may be logged and kept: he may have sent his token, and then it is not told."""
    return b"a token" if len(text) == TOKEN_LENGTH and text[2:3] == b"_" else text


class TokenKeys:
    """Makes and recognises tokens with one issuing key and any further accepted ones.

    One keyed BLAKE2b (RFC 7693) over the first 35 characters gives both the checksum in the token, so that garbage is
    refused without asking anything, and the name of the token in every store, so that no store holds a usable token.
    """

    def __init__(self, issuing: bytes, accepted: Sequence[bytes] = ()) -> None:
        others = [key for key in accepted if key != issuing]
        self._states = [hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES) for key in (issuing, *others)]
        self._forget_pool()
        os.register_at_fork(after_in_child=self._forget_pool)

    def new(self, kind: Kind) -> tuple[bytes, bytes]:
        """A fresh token and its 20-byte name."""
        signed = PREFIXES[kind] + base64url(self._random())
        state = self._states[0].copy()
        state.update(signed)
        digest = state.digest()
        return signed + _checksum(digest), digest[_CHECKSUM_BYTES:]

    def name(self, token: bytes) -> bytes | None:
        """The name of a well-formed token of one of our keys; None for anything else."""
        if len(token) != TOKEN_LENGTH or token[:3] not in _PREFIXES:
            return None
        signed, given = token[:_SIGNED], token[_SIGNED:]
        for keyed in self._states:
            # Copying a keyed state is cheaper than keying a new one.
            state = keyed.copy()
            state.update(signed)
            digest = state.digest()
            # Compared as text: the last character has bits that base64 does not use, and only one spelling is ours.
            if compare_digest(_checksum(digest), given):
                return digest[_CHECKSUM_BYTES:]
        return None

    def _forget_pool(self) -> None:
        self._pool = b""
        self._taken = 0

    def _random(self) -> bytes:
        # A system call for each token costs more than the hash: bytes are drawn by the pool, each used once.
        if self._taken >= len(self._pool):
            self._pool, self._taken = os.urandom(_RANDOM_BYTES * _POOL_TOKENS), 0
        start = self._taken
        self._taken = start + _RANDOM_BYTES
        return self._pool[start : self._taken]


def _checksum(digest: bytes) -> bytes:
    """What a token ends with: 8 bytes of the digest as 11 characters."""
    return b2a_base64(digest[:_CHECKSUM_BYTES], newline=False).translate(_TO_URL_SAFE)[:_CHECKSUM_CHARACTERS]


def jti(name: bytes) -> str:
    """A token's name as text: 27 characters of base64url, safe to log."""
    return base64url(name).decode("ascii")


def name_of_jti(text: str) -> bytes | None:
    """The name that a JTI spells, or None if it is none."""
    if len(text) != JTI_LENGTH or not text.isascii():
        return None
    try:
        name = a2b_base64(text.encode().translate(_FROM_URL_SAFE) + b"=", strict_mode=True)
    except Base64Error:
        return None
    return name if jti(name) == text else None


def new_secret() -> str:
    """A client secret: 256 random bits as 43 characters."""
    return token_urlsafe(32)


def secret_digest(secret: bytes) -> bytes:
    """What is kept of a client secret. A plain SHA-256 is enough: the secrets are random, not chosen by people."""
    return hashlib.sha256(secret).digest()


def secret_matches(secret: bytes, digests: Sequence[bytes]) -> bool:
    """Whether the secret is one of those digests; compares with all of them in constant time."""
    presented = secret_digest(secret)
    found = False
    for digest in digests:
        found |= compare_digest(presented, digest)
    return found
