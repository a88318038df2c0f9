"""The masters of the shared store: the one server, or those of a Redis Cluster, each with its share of the 16 shards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from authsvc.errors import Unavailable
from authsvc.live.keys import EVERY_SHARD, SHARD_OF_SLOT

Ask = Callable[[bytes, int], Awaitable[Any]]
"""Asks one server some packed commands, so many in number; the reply is a list of theirs, an Unavailable in a failed one's place."""

Node = tuple[str, int]
"""Host and port."""


class Master(NamedTuple):
    """How a master is asked, and which shards it holds, in order; `beats` are those whose beat it moves on."""

    ask: Ask
    shards: tuple[int, ...]
    beats: tuple[int, ...]

    @property
    def lead(self) -> int:
        """The shard that speaks for the master. The lowest, for its version is raised first of all that the master holds."""
        return self.shards[0]


def owners_in(slots: Iterable[Any], asked: str) -> dict[Node, tuple[int, ...]]:
    """Each master's shards, by what `CLUSTER SLOTS` answered at the host `asked`; Unavailable unless every shard has a master."""
    owners: dict[int, Node] = {}
    for first, last, (host, port, *_), *_ in slots:
        # No host, or an empty one, means the one that was asked.
        node = ((host or b"").decode("ascii") or asked, port)
        owners |= {shard: node for slot, shard in SHARD_OF_SLOT.items() if first <= slot <= last}
    if len(owners) < len(EVERY_SHARD):
        raise Unavailable("The cluster has slots without a master.")
    return {node: tuple(shard for shard in EVERY_SHARD if owners[shard] == node) for node in owners.values()}


def joined(run_ids: Mapping[int, str]) -> str:
    """One text for the processes of all masters, each under its lead; a lone one's as it is."""
    if len(run_ids) == 1:
        return next(iter(run_ids.values()))
    return " ".join(f"{lead}={run_id}" for lead, run_id in sorted(run_ids.items()))


def apart(run_id: str) -> dict[int, str]:
    """What `joined` put together."""
    parts = [part.rpartition("=") for part in run_id.split()]
    return {int(lead or 0): one for lead, _, one in parts}
