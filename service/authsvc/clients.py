"""The client lifecycle: what may be done to a client, and how a change comes into force on every instance."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import structlog
from redis.exceptions import RedisError

from authsvc.credentials import new_secret, secret_digest
from authsvc.errors import OperatorError, RecordsUnavailable
from authsvc.live.forms import decode_client, encode_client
from authsvc.live.mirror import Mirror, Put
from authsvc.model import (
    DEFAULT_ACCESS_TTL_SECONDS,
    DEFAULT_ONE_TIME_TTL_SECONDS,
    MAX_SECRETS,
    Cause,
    Client,
    ClientChange,
    DeletedClient,
    Secret,
    servable,
)
from authsvc.records.contract import NEW_EPOCH, ClientExists, ClientMissing, RecordStore

IN_FORCE_SECONDS = 15.0
"""How long a command waits for a complete mirror and for its own change to be in force."""
POLL_SECONDS = 0.1
CHANGES_AT_ONCE = 1000
NOT_IN_FORCE = "The change is stored but not yet in force on every instance; the writer will finish it."

R = TypeVar("R", Client, DeletedClient)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is stored: the client as it is now, a new secret if one was made, and why it is not in force yet."""

    client: Client | DeletedClient
    secret: str | None = None
    problem: str | None = None

    @property
    def in_force(self) -> bool:
        """Whether the change holds on every instance."""
        return self.problem is None


def check_client(client: Client) -> Client:
    """Refuse what no client may be; OperatorError with one sentence."""
    problem = client.problem()
    if problem is not None:
        raise OperatorError(problem)
    return client


class Clients:
    """Changes of clients: stored first, then mirrored, and reported when they hold on every instance."""

    def __init__(self, store: RecordStore, mirror: Mirror, asked_by: str, request_id: str, clock: Callable[[], float] = time.time) -> None:
        """Every change is noted in the record store with who asked for it, and in which request."""
        self._store = store
        self._mirror = mirror
        self._asked_by, self._request_id = asked_by, request_id
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
        check_client(client)
        try:
            stored = await self._made(client_id, text, lambda: self._store.add_client(client, self._cause("add")))
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

        return await self._change("rotate", client_id, change, text)

    async def retire(self, client_id: str) -> Change:
        """End the older of two live secrets."""

        def change(client: Client) -> Client:
            if len(client.secrets) < MAX_SECRETS:
                raise OperatorError(f"Client {client_id} has one live secret: rotate first.")
            return replace(client, secrets=client.secrets[1:])

        return await self._change("retire", client_id, change)

    async def disable(self, client_id: str) -> Change:
        """Refuse the client and its tokens until `enable`."""
        return await self._change("disable", client_id, lambda client: replace(client, enabled=False))

    async def enable(self, client_id: str) -> Change:
        """Accept the client again; its unexpired tokens come back."""
        return await self._change("enable", client_id, lambda client: replace(client, enabled=True))

    async def revoke_tokens(self, client_id: str) -> Change:
        """End all the client's tokens, in constant time."""
        return await self._change("revoke-tokens", client_id, lambda client: replace(client, epoch=NEW_EPOCH))

    async def delete(self, client_id: str) -> Change:
        """Delete the client and end its tokens; adding the id again revives none of them."""
        try:
            gone = await self._made(client_id, None, lambda: self._store.delete_client(client_id, self._cause("delete")))
        except ClientMissing:
            raise _missing(client_id) from None
        return await self._bring_into_force(gone)

    async def bring_in(self, clients: Iterable[Client]) -> list[Change]:
        """Add clients with the digests of their secrets, or make existing ones like them; their older tokens end."""
        stored = []
        for client in clients:
            check_client(client)
            try:
                stored.append(await self._store.add_client(client, self._cause("import")))
            except ClientExists:
                stored.append(await self._store.change_client(client.id, _replacement(client), self._cause("import")))
        problem = await self._bring_all_into_force(stored)
        return [Change(client, problem=problem) for client in stored]

    async def show(self, client_id: str) -> Client:
        """One client."""
        client = await self._store.read_client(client_id)
        if client is None:
            raise _missing(client_id)
        return client

    async def changes(self, client_id: str | None, since_ms: int) -> AsyncIterator[list[ClientChange]]:
        """What was done to one client, or to all, page by page and in the order in which it was done."""
        last = 0
        while page := await self._store.read_changes(client_id, since_ms, last, CHANGES_AT_ONCE):
            yield page
            last = page[-1].number

    async def list(self) -> list[Client]:
        """All clients."""
        return await self._store.list_clients()

    def _cause(self, change: str) -> Cause:
        return Cause(change, self._asked_by, self._request_id)

    def _new_secret(self) -> tuple[str, Secret]:
        text = new_secret()
        return text, Secret(secret_digest(text.encode("ascii")), int(self._clock() * 1000))

    async def _change(self, name: str, client_id: str, change: Callable[[Client], Client], secret: str | None = None) -> Change:
        try:
            client = await self._made(client_id, secret, lambda: self._store.change_client(client_id, change, self._cause(name)))
        except ClientMissing:
            raise _missing(client_id) from None
        return await self._bring_into_force(client, secret)

    async def _made(self, client_id: str, secret: str | None, change: Callable[[], Awaitable[R]]) -> R:
        """Make a change, and look for it where its answer was lost: it is found by this command's request id.

        OperatorError with the new secret where nobody can say whether it is stored: it would be lost for good.
        """
        try:
            return await change()
        except RecordsUnavailable as error:
            noted = await self._noted(client_id, error, secret)
            if noted is None:
                raise
            log.warning("the answer to a change was lost, and the change is stored", client_id=client_id, error=str(error))
            return cast("R", noted)

    async def _noted(self, client_id: str, error: RecordsUnavailable, secret: str | None) -> Client | DeletedClient | None:
        """What this command has made of the client; None if it has changed nothing."""
        deadline = time.monotonic() + IN_FORCE_SECONDS
        while True:
            try:
                await self._wait_for_others(client_id)
                noted = [change.request_id async for page in self.changes(client_id, 0) for change in page]
                known = await self._store.read_clients([client_id])
            except RecordsUnavailable:
                if time.monotonic() >= deadline:
                    told = f" Should it be stored, the new secret is {secret}." if secret else ""
                    raise OperatorError(
                        f"{error} Whether the change is stored cannot be told now; `authsvc client changes {client_id}` will,"
                        f" by the request {self._request_id}.{told}"
                    ) from error
                await asyncio.sleep(POLL_SECONDS)
            else:
                return known[0] if self._request_id in noted and known else None

    async def _wait_for_others(self, client_id: str) -> None:
        """Wait until no transaction that has the client's row is under way: the one whose answer was lost may be."""

        def only_look(client: Client) -> Client:
            raise _Looked

        with contextlib.suppress(_Looked, ClientMissing):
            await self._store.change_client(client_id, only_look)

    async def _bring_into_force(self, record: Client | DeletedClient, secret: str | None = None) -> Change:
        return Change(record, secret, await self._bring_all_into_force([record]))

    async def _bring_all_into_force(self, records: Sequence[Client | DeletedClient]) -> str | None:
        """Mirror stored changes and wait until every instance must see them; why they are not in force, if that failed."""
        deadline = time.monotonic() + IN_FORCE_SECONDS
        while True:
            try:
                if await self._mirrored(records):
                    return None
            except _MirrorAhead as ahead:
                return str(ahead)
            except (RedisError, OSError, TimeoutError) as error:
                # The writer finishes what is stored; this command only waits for it, as long as it may.
                log.warning("redis is out of reach", error=str(error))
            if time.monotonic() >= deadline:
                return NOT_IN_FORCE
            await asyncio.sleep(POLL_SECONDS)

    async def _mirrored(self, records: Sequence[Client | DeletedClient]) -> bool:
        version = b""
        for record, result in zip(records, await self._mirror.put(records), strict=True):
            if result.outcome is Put.INCOMPLETE:
                return False
            if result.outcome is Put.REFUSED and result.held != encode_client(servable(record)):
                await self._check_overtaken(record.id, result.held)
            version = result.version
        return await self._mirror.raise_versions(version) if version else True

    async def _check_overtaken(self, client_id: str, held: bytes) -> None:
        """A newer row may be held because someone changed the client after us, never because the store is older."""
        now = await self._store.read_clients([client_id])
        newest = max((record.revision for record in now), default=0)
        holding = decode_client(client_id, held)
        if newest < holding.revision or (newest == holding.revision and holding not in map(servable, now)):
            await self._mirror.drop()
            raise _MirrorAhead(
                f"The change is stored, but the mirror refused it: it holds revision {holding.revision} of client {client_id}, which is "
                "not the record store's (another store, or an older copy). The writer starts a new incarnation with what is stored."
            )


class _Looked(Exception):
    """Ends a change that is none."""


class _MirrorAhead(Exception):
    """The mirror holds what the record store never had."""


async def seed(store: RecordStore, clients: Iterable[Client]) -> list[str]:
    """Make the record store have these clients as they are here, and return the ids of those that it had not, or had otherwise.

    No token of a client that was there ends. Nothing is mirrored: that is the next pass of the writer, which alone seeds.
    """
    wanted = {client.id: check_client(client) for client in clients}
    held = {client.id: client for client in await store.read_clients(wanted) if isinstance(client, Client)}
    differing = [client for client in wanted.values() if client.id not in held or held[client.id] != _seeded(client)(held[client.id])]
    cause = Cause("seed", "AUTH_CLIENTS_FILE")
    for client in differing:
        try:
            await store.add_client(client, cause)
        except ClientExists:
            await store.change_client(client.id, _seeded(client), cause)
    return [client.id for client in differing]


def _seeded(client: Client) -> Callable[[Client], Client]:
    return lambda held: replace(client, epoch=held.epoch, revision=held.revision)


def _replacement(client: Client) -> Callable[[Client], Client]:
    return lambda held: replace(client, epoch=NEW_EPOCH)


def _missing(client_id: str) -> OperatorError:
    return OperatorError(f"There is no client {client_id}.")
