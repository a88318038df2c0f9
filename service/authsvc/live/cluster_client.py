"""redis-py over a Redis Cluster: each command goes to the master of its key, each batch is parted among the masters.

Of redis-py's own cluster client only this much is needed here, without its repeats, replicas, and threads for a MULTI.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis import exceptions
from redis.asyncio.client import Pipeline
from redis.exceptions import ClusterDownError, MovedError, RedisError

from authsvc.errors import Unavailable
from authsvc.live.keys import TOKEN_PREFIXES
from authsvc.live.masters import Node, owners_in

_SHARD_OF = {prefix: shard for shard, prefix in enumerate(TOKEN_PREFIXES)}
_PREFIX_LENGTH = len(TOKEN_PREFIXES[0])
_AWAY = (exceptions.ConnectionError, exceptions.TimeoutError, ClusterDownError, OSError)
"""What a master is asked last for, when the cluster is asked who its masters are: it may be cut off from the others."""
_REARRANGED = (*_AWAY, MovedError)
"""What says, or may mean, that another node is the master now."""

Client = Any
"""redis-py's client of one master."""


class ClusterClient(redis.asyncio.Redis):
    """What redis-py's client is to one server; its own connections lead to the seed, and are asked for the masters only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._options = options
        self._clients: OrderedDict[Node, Client] = OrderedDict()
        """Those who were heard of last come last; those who were away come first."""
        self._held: dict[Node, tuple[int, ...]] | None = None

    async def masters(self) -> dict[int, Client]:
        """The client of each master, by its lead; RedisError if nobody tells who they are."""
        if self._held is None:
            held_now = await self._look()
            for node in self._clients.keys() - held_now.keys():
                if (gone := self._clients.pop(node, None)) is not None:
                    await gone.aclose()
            self._held = held_now
        return {held[0]: self._client(node) for node, held in self._held.items()}

    def forget_masters(self) -> None:
        """Ask anew before the next command."""
        self._held = None

    async def master_of(self, words: Sequence[Any]) -> Client:
        """The client of the master that has the command's key; home's for a command without one of ours."""
        await self.masters()
        assert self._held is not None, "it was just read"
        shard = next((_SHARD_OF[word[:_PREFIX_LENGTH]] for word in map(_as_bytes, words) if word[:_PREFIX_LENGTH] in _SHARD_OF), 0)
        return next(self._client(node) for node, held in self._held.items() if shard in held)

    def heard(self, client: Client, *errors: BaseException) -> None:
        """Note who answered, a MOVED among the rest, and who was away: the one is asked first who the masters are, the other last."""
        node = next((node for node, known in self._clients.items() if known is client), None)
        if node is not None:
            self._clients.move_to_end(node, last=not any(isinstance(error, _AWAY) for error in errors))

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """As redis-py does; what was moved, and so surely not applied, is sent once more."""
        try:
            return await self._execute(words, options)
        except MovedError:
            self.forget_masters()
            return await self._execute(words, options)
        except _REARRANGED:
            self.forget_masters()
            raise

    async def _execute(self, words: Sequence[Any], options: dict[str, Any]) -> Any:
        if words[0] == "SCRIPT LOAD":
            loading = [client.execute_command(*words, **options) for client in (await self.masters()).values()]
            loaded = await asyncio.gather(*loading, return_exceptions=True)
            # Whose master is away finds out by the command that comes next; the others need not.
            digests = [reply for reply in loaded if not isinstance(reply, BaseException)]
            if not digests:
                raise next(reply for reply in loaded if isinstance(reply, BaseException))
            return digests[0]
        client = await self.master_of(words)
        try:
            reply = await client.execute_command(*words, **options)
        except _REARRANGED as error:
            self.heard(client, error)
            raise
        self.heard(client)
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """A batch; with `transaction` its commands are to be of one shard."""
        return _Batch(self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        await super().aclose(close_connection_pool)

    async def _look(self) -> dict[Node, tuple[int, ...]]:
        """Ask those that are known, who was heard of last first, then the seed."""
        for (host, _), client in reversed(tuple(self._clients.items())):
            try:
                return owners_in(await client.execute_command("CLUSTER", "SLOTS"), host)
            except (RedisError, OSError, Unavailable):
                continue
        try:
            return owners_in(await super().execute_command("CLUSTER", "SLOTS"), self._options["host"])  # type: ignore[no-untyped-call]
        except Unavailable as error:
            raise ClusterDownError(str(error)) from error

    def _client(self, node: Node) -> Client:
        if node not in self._clients:
            self._clients[node] = redis.asyncio.Redis(**{**self._options, "host": node[0], "port": node[1], "db": 0})
        return self._clients[node]


class _Batch(Pipeline):
    """Commands of several masters, each master's sent together and in order; replies come in the order of the commands."""

    def __init__(self, cluster: ClusterClient, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """As redis-py does; a master that is away is an error in the place of each of its commands."""
        stack = list(self.command_stack)
        parts: dict[Client, list[int]] = {}
        try:
            for place, (words, _) in enumerate(stack):
                parts.setdefault(await self._cluster.master_of(words), []).append(place)
            replies: list[Any] = [None] * len(stack)
            found = await asyncio.gather(*(self._part(client, [stack[place] for place in places]) for client, places in parts.items()))
            for places, part in zip(parts.values(), found, strict=True):
                for place, reply in zip(places, part, strict=True):
                    replies[place] = reply
        finally:
            await self.reset()  # type: ignore[no-untyped-call]
        for client, part in sorted(
            zip(parts, found, strict=True), key=lambda answered: any(isinstance(reply, MovedError) for reply in answered[1])
        ):
            self._cluster.heard(client, *(reply for reply in part if isinstance(reply, Exception)))
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if any(isinstance(error, _REARRANGED) for error in errors):
            self._cluster.forget_masters()
        if errors and raise_on_error:
            raise errors[0]
        return replies

    async def _part(self, client: Client, commands: Sequence[tuple[Any, Any]]) -> list[Any]:
        async with client.pipeline(transaction=self.is_transaction) as pipe:
            pipe.scripts = set(self.scripts)
            for words, options in commands:
                pipe.execute_command(*words, **options)
            try:
                replies: list[Any] = await pipe.execute(raise_on_error=False)
            except (RedisError, OSError) as error:
                return [error] * len(commands)
            return replies


def _as_bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else word.encode() if isinstance(word, str) else b""
