"""The token rules: issue, validate, introspect and revoke, without a word of HTTP, SQL or Redis.

Two rules run through all of them. Unknown is refused: no answer says "active" unless the shared store said so for this
request. And an answer that depends on a client, a refusal too, is judged by a directory at least as new as what the
store showed when it was asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from authsvc import credentials
from authsvc.credentials import TokenKeys, harmless
from authsvc.errors import (
    InsufficientScope,
    InvalidClient,
    InvalidScope,
    InvalidToken,
    Refusal,
    UnauthorizedClient,
    Unavailable,
)
from authsvc.live.directory import Directory, KnownClient
from authsvc.live.tokens import DONE, STALE, LiveTokens, decode, stored
from authsvc.metrics import Counts
from authsvc.model import Event, Kind, TokenValue, Tombstone

ATTEMPTS = 50
"""How often a step is judged again because clients change faster than it gets through."""


ACCESS = Kind.ACCESS.value


class Credentials(NamedTuple):
    """What a client presented to prove who it is."""

    client_id: str
    secret: bytes


class Issued(NamedTuple):
    """A token that is stored, and what its owner is told of it."""

    token: bytes
    kind: Kind
    expires_in: int
    scope: str


class Active(NamedTuple):
    """A live token: its name and its value."""

    name: bytes
    value: TokenValue


class Tokens:
    """The use cases over the live state."""

    def __init__(
        self,
        keys: TokenKeys,
        live: LiveTokens,
        directory: Directory,
        counts: Counts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._live = live
        self._directory = directory
        self._clock = clock
        self._counts = counts

    async def issue(self, presented: Credentials, kind: Kind, scopes: tuple[str, ...], request_id: bytes = b"") -> Issued:
        """Store a token for the client and return it; `scopes` empty asks for all that the client has."""
        for _ in range(ATTEMPTS):
            judged = self._directory.stamp()
            try:
                client, scope = self._may_issue(presented, scopes)
            except Refusal:
                call = self._live.ask_version()
                await call
                if self._directory.covers(judged, call.version):
                    raise
                await self._directory.reach(call.version)
                continue
            issued = await self._store(presented, kind, scopes, client, scope, judged, request_id)
            if issued is not None:
                return issued
        raise _overtaken()

    async def _store(
        self, presented: Credentials, kind: Kind, scopes: tuple[str, ...], client: KnownClient, scope: str, judged: bytes, request_id: bytes
    ) -> Issued | None:
        """Store a token; None if the client changed meanwhile, so that another has to be made."""
        token, name = self._keys.new(kind)
        now = self._clock()
        ttl_seconds = client.ttls[kind]
        value = TokenValue(kind, self._directory.incarnation(), client.id, client.epoch, scope, int(now), ttl_seconds)
        call = self._live.store(name, value, int(now * 1000), harmless(request_id))
        try:
            replies = await call
        except Unavailable:
            # No answer in time: if the store still does it, it undoes it right after. Nobody waits for that.
            self._live.void(name, value)
            raise
        failure = stored(replies)
        if failure is not None:
            # Where both parts were refused, as by a full store, there is nothing to take back; a void would fill it further.
            if not all(isinstance(reply, Unavailable) for reply in replies):
                await self._live.void(name, value)
            raise failure
        if judged != call.version:
            try:
                good = await self._still_good(presented, scopes, value, judged, call.version)
            except Refusal:
                await self._live.void(name, value)
                raise
            if not good:
                await self._live.void(name, value)
                return None
        self._counts.issued[kind] += 1
        return Issued(token, kind, ttl_seconds, scope)

    async def _still_good(
        self, presented: Credentials, scopes: tuple[str, ...], value: TokenValue, judged: bytes, seen: bytes | None
    ) -> bool:
        """Whether a token is still what the client may have, when the directory moved between judgement and storing."""
        if self._directory.covers(judged, seen):
            return True
        await self._directory.reach(seen)
        client, scope = self._may_issue(presented, scopes)
        return (client.epoch, scope, self._directory.incarnation()) == (value.epoch, value.scope, value.incarnation)

    async def validate(self, token: bytes, scopes: tuple[str, ...], request_id: bytes = b"") -> Active:
        """A live token with all of `scopes`; a one-time token is consumed by this, and by nothing else."""
        name = self._keys.name(token)
        if name is None:
            raise InvalidToken("The token is malformed.")
        for _ in range(ATTEMPTS):
            call = self._live.read(name)
            reply = await call
            if reply is None:
                self._counts.missed += 1
            else:
                self._counts.found += 1
            # Two versions that are missing are equal too, and mean anything but up to date.
            if call.version != self._directory.current or call.version is None:
                await self._directory.reach(call.version)
            value = decode(reply)
            if type(value) is not TokenValue or not self._lives(value):
                raise self._ended(value)
            if scopes and not set(scopes) <= set(value.scope.split(" ")):
                raise InsufficientScope("The token does not carry every scope that was asked for.", client_id=value.client_id)
            if value.kind == ACCESS:
                return tuple.__new__(Active, (name, value))
            call = self._live.end(name, Event.USED, self._directory.stamp(), request_id=harmless(request_id))
            outcome = await call
            if outcome == DONE:
                self._counts.consumed += 1
                return Active(name, value)
            if outcome != STALE:
                self._understood(outcome)
                raise InvalidToken("The token was used or revoked, or has expired.", client_id=value.client_id)
            await self._directory.reach(call.version)
        raise _overtaken()

    async def introspect(self, presented: Credentials, token: bytes) -> Active | None:
        """What a token is worth now, or None; a one-time token stays unused."""
        name = self._keys.name(token)
        call = self._live.ask_version() if name is None else self._live.read(name)
        reply = await call
        if name is not None:
            self._count(reply)
        await self._directory.reach(call.version)
        self._authenticate(presented)
        if name is None:
            return None
        value = decode(reply)
        return Active(name, value) if isinstance(value, TokenValue) and self._lives(value) else None

    async def revoke(self, presented: Credentials, token: bytes, request_id: bytes = b"") -> None:
        """End a token of this client; unknown, expired and ended ones are no error (RFC 7009, 2.2)."""
        name = self._keys.name(token)
        for _ in range(ATTEMPTS):
            judged = self._directory.stamp()
            try:
                client = self._authenticate(presented)
            except InvalidClient as refusal:
                client, because = None, refusal.because
            if name is None or client is None:
                call = self._live.ask_version()
            else:
                call = self._live.end(name, Event.REVOKED, judged, client.id, harmless(request_id), client.id)
            outcome = await call
            if outcome == DONE:
                self._counts.revoked += 1
                return
            if outcome == STALE or not self._directory.covers(judged, call.version):
                await self._directory.reach(call.version)
                continue
            if client is None:
                raise _unauthenticated(because)
            if name is not None:
                self._revoked(outcome)
            return
        raise _overtaken()

    async def revoke_presented(self, token: bytes, request_id: bytes = b"") -> None:
        """End the token that was presented, whatever the state of its client: who holds a token may throw it away."""
        name = self._keys.name(token)
        if name is not None:
            await self.revoke_name(name, harmless(request_id))

    async def revoke_name(self, name: bytes, request_id: bytes = b"", by: str = "") -> bytes:
        """End the token of this name, whoever owns it; says what was found. `by` is who does it, where that is known."""
        for _ in range(ATTEMPTS):
            call = self._live.end(name, Event.REVOKED, self._directory.stamp(), request_id=request_id, by=by)
            outcome: bytes = await call
            if outcome != STALE:
                self._revoked(outcome)
                return outcome
            await self._directory.reach(call.version)
        raise _overtaken()

    def ended_because(self, value: TokenValue) -> str | None:
        """Why the directory in memory ends a stored token, the most lasting reason first; None while the token lives."""
        if self._lives(value):
            return None
        client = self._directory.get(value.client_id)
        if value.incarnation != self._directory.incarnation():
            return "it is of an older incarnation"
        if client is None:
            return "its client is gone"
        if client.epoch != value.epoch:
            return "all tokens of its client were ended since (revoke-tokens, an import, or the client was added anew)"
        return "its client is disabled"

    def _ended(self, value: TokenValue | Tombstone | None) -> InvalidToken:
        """Why what a read found is no live token, by a directory that is new enough for it."""
        if value is None:
            return InvalidToken("The token is unknown or has expired.")
        if isinstance(value, TokenValue):
            because = f"The token has ended: {self.ended_because(value)}."
            return InvalidToken("The token is unknown or has expired.", because, value.client_id)
        return InvalidToken("The token was used." if value.reason == Event.USED else "The token was revoked.", client_id=value.client_id)

    def _lives(self, value: TokenValue) -> bool:
        """Whether the directory agrees with a stored token: incarnation, client, epoch."""
        directory = self._directory
        client = directory.clients.get(value.client_id)
        return client is not None and client.enabled and client.epoch == value.epoch and value.incarnation == directory.number

    def _may_issue(self, presented: Credentials, scopes: tuple[str, ...]) -> tuple[KnownClient, str]:
        client = self._authenticate(presented)
        if not scopes:
            return client, client.scope
        if not client.scopes.issuperset(scopes):
            raise InvalidScope("The client does not have every scope that was asked for.")
        return client, " ".join(scopes)

    def _authenticate(self, presented: Credentials) -> KnownClient:
        client = self._directory.get(presented.client_id)
        digests = () if client is None else client.digests
        matches = credentials.secret_matches(presented.secret, digests)
        if client is None or not matches or not client.enabled:
            because = "is unknown" if client is None else "is disabled" if matches else "presents a secret that is not its own"
            raise _unauthenticated(f"The client {because}.")
        return client

    def _count(self, reply: bytes | None) -> None:
        if reply is None:
            self._counts.missed += 1
        else:
            self._counts.found += 1

    def _revoked(self, outcome: bytes) -> None:
        self._understood(outcome)
        if outcome == b"foreign":
            raise UnauthorizedClient("The token belongs to another client.")
        if outcome == DONE:
            self._counts.revoked += 1

    @staticmethod
    def _understood(outcome: bytes) -> None:
        if outcome == b"form":
            raise Unavailable("The token is kept in a form that this release cannot read.")


def _unauthenticated(because: str) -> InvalidClient:
    return InvalidClient("Client authentication failed.", because)


def _overtaken() -> Unavailable:
    return Unavailable("Clients change faster than this request gets through.")
