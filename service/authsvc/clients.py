"""The client lifecycle: what may be done to a client, and how a change comes into force on every instance."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from authsvc.credentials import new_secret, secret_digest
from authsvc.errors import OperatorError
from authsvc.live.mirror import Mirror, Put
from authsvc.model import (
    CLIENT_ID_PATTERN,
    DEFAULT_ACCESS_TTL_SECONDS,
    DEFAULT_ONE_TIME_TTL_SECONDS,
    MAX_SCOPES,
    MAX_TTL_SECONDS,
    SCOPE_PATTERN,
    Client,
    DeletedClient,
    Secret,
)
from authsvc.records.contract import NEW_EPOCH, ClientExists, ClientMissing, RecordStore

IN_FORCE_SECONDS = 15.0
"""How long a command waits for a complete mirror and for its own change to be in force."""
POLL_SECONDS = 0.1
MAX_SECRETS = 2


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is stored: the client as it is now, a new secret if one was made, and whether it is in force."""

    client: Client | DeletedClient
    secret: str | None = None
    in_force: bool = True


def check_client(client: Client) -> Client:
    """Refuse what no client may be; OperatorError with one sentence."""
    if not re.fullmatch(CLIENT_ID_PATTERN, client.id):
        raise OperatorError("A client id is 1 to 64 characters of A-Z a-z 0-9 . _ -")
    if not client.scopes:
        raise OperatorError("A client needs at least one scope: --scope NAME.")
    if len(client.scopes) > MAX_SCOPES:
        raise OperatorError(f"A client has at most {MAX_SCOPES} scopes.")
    for scope in client.scopes:
        if not re.fullmatch(SCOPE_PATTERN, scope):
            raise OperatorError(f"{scope!r} is no scope: 1 to 64 printable ASCII characters without space, quote and backslash.")
    for seconds in (client.access_ttl_seconds, client.one_time_ttl_seconds):
        if not 1 <= seconds <= MAX_TTL_SECONDS:
            raise OperatorError(f"A lifetime is 1 to {MAX_TTL_SECONDS} seconds.")
    if not 1 <= len(client.secrets) <= MAX_SECRETS or any(len(secret.digest) != 32 for secret in client.secrets):
        raise OperatorError("A client has one or two secrets, each kept as the 32 bytes of its SHA-256.")
    return client


class Clients:
    """Changes of clients: stored first, then mirrored, and reported when they hold on every instance."""

    def __init__(self, store: RecordStore, mirror: Mirror, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock

    async def add(
        self,
        client_id: str,
        scopes: Sequence[str],
        access_ttl_seconds: int = DEFAULT_ACCESS_TTL_SECONDS,
        one_time_ttl_seconds: int = DEFAULT_ONE_TIME_TTL_SECONDS,
    ) -> Change:
        """Make a client with a fresh secret."""
        text, secret = self._new_secret()
        client = Client(client_id, tuple(dict.fromkeys(scopes)), (secret,), True, access_ttl_seconds, one_time_ttl_seconds)
        try:
            stored = await self._store.add_client(check_client(client))
        except ClientExists:
            raise OperatorError(f"Client {client_id} exists already.") from None
        return await self._bring_into_force(stored, text)

    async def rotate(self, client_id: str) -> Change:
        """Add a second live secret."""
        text, secret = self._new_secret()

        def change(client: Client) -> Client:
            if len(client.secrets) == MAX_SECRETS:
                raise OperatorError(f"Client {client_id} has two live secrets: retire the older one first.")
            return replace(client, secrets=(*client.secrets, secret))

        return await self._change(client_id, change, text)

    async def retire(self, client_id: str) -> Change:
        """End the older of two live secrets."""

        def change(client: Client) -> Client:
            if len(client.secrets) < MAX_SECRETS:
                raise OperatorError(f"Client {client_id} has one live secret: rotate first.")
            return replace(client, secrets=client.secrets[1:])

        return await self._change(client_id, change)

    async def disable(self, client_id: str) -> Change:
        """Refuse the client and its tokens until `enable`."""
        return await self._change(client_id, lambda client: replace(client, enabled=False))

    async def enable(self, client_id: str) -> Change:
        """Accept the client again; its unexpired tokens come back."""
        return await self._change(client_id, lambda client: replace(client, enabled=True))

    async def revoke_tokens(self, client_id: str) -> Change:
        """End all the client's tokens, in constant time."""
        return await self._change(client_id, lambda client: replace(client, epoch=NEW_EPOCH))

    async def delete(self, client_id: str) -> Change:
        """Delete the client and end its tokens; adding the id again revives none of them."""
        try:
            gone = await self._store.delete_client(client_id)
        except ClientMissing:
            raise _missing(client_id) from None
        return await self._bring_into_force(gone)

    async def bring_in(self, client: Client) -> Change:
        """Add a client with the digests of its secrets, or make an existing one like it; its tokens end."""
        check_client(client)
        try:
            stored = await self._store.add_client(client)
        except ClientExists:
            stored = await self._store.change_client(client.id, lambda held: replace(client, epoch=NEW_EPOCH))
        return await self._bring_into_force(stored)

    async def show(self, client_id: str) -> Client:
        """One client."""
        client = await self._store.read_client(client_id)
        if client is None:
            raise _missing(client_id)
        return client

    async def list(self) -> list[Client]:
        """All clients."""
        return await self._store.list_clients()

    def _new_secret(self) -> tuple[str, Secret]:
        text = new_secret()
        return text, Secret(secret_digest(text.encode("ascii")), int(self._clock() * 1000))

    async def _change(self, client_id: str, change: Callable[[Client], Client], secret: str | None = None) -> Change:
        try:
            client = await self._store.change_client(client_id, change)
        except ClientMissing:
            raise _missing(client_id) from None
        return await self._bring_into_force(client, secret)

    async def _bring_into_force(self, record: Client | DeletedClient, secret: str | None = None) -> Change:
        """Mirror a stored change and wait until every instance must see it; not in force is said, never hidden."""
        deadline = time.monotonic() + IN_FORCE_SECONDS
        while True:
            try:
                if await self._mirrored(record):
                    return Change(record, secret)
            except (RedisError, OSError, TimeoutError):
                # The writer finishes what is stored; this command only stops waiting for it.
                if time.monotonic() >= deadline:
                    return Change(record, secret, in_force=False)
            if time.monotonic() >= deadline:
                return Change(record, secret, in_force=False)
            await asyncio.sleep(POLL_SECONDS)

    async def _mirrored(self, record: Client | DeletedClient) -> bool:
        result = await self._mirror.put(record)
        if result.outcome is Put.INCOMPLETE:
            return False
        if result.outcome is Put.REFUSED and result.held_revision > record.revision:
            now = await self._store.revisions()
            if now.get(record.id, 0) < result.held_revision:
                raise OperatorError(
                    f"The mirror holds revision {result.held_revision} of client {record.id} and the record store an older one: "
                    "it is another store, or an older copy. The change was refused; the writer starts a new incarnation."
                )
        return await self._mirror.raise_versions(result.version)


def _missing(client_id: str) -> OperatorError:
    return OperatorError(f"There is no client {client_id}.")
