"""Moves of shards between the masters of a Redis Cluster, done as an operator does them."""

from __future__ import annotations

from authsvc.live.keys import SHARD_OF_SLOT
from servers import RedisCluster, RedisServer

SLOT_OF = {shard: slot for slot, shard in SHARD_OF_SLOT.items()}
MOVE_MS = 5_000


def give(cluster: RedisCluster, shard: int, master: RedisServer) -> None:
    """Let another master have the slot of a shard, of which it gets no keys."""
    node = _node(cluster, master)
    for each in sorted(cluster.masters, key=lambda each: each is not master):
        with cluster.ask(each) as client:
            client.execute_command("CLUSTER SETSLOT", SLOT_OF[shard], "NODE", node)


def begin(cluster: RedisCluster, shard: int, giver: RedisServer, taker: RedisServer) -> None:
    """Begin to move a shard key by key: from now on the giver has no more answer for keys that are not there (ASK)."""
    with cluster.ask(taker) as client:
        client.execute_command("CLUSTER SETSLOT", SLOT_OF[shard], "IMPORTING", _node(cluster, giver))
    with cluster.ask(giver) as client:
        client.execute_command("CLUSTER SETSLOT", SLOT_OF[shard], "MIGRATING", _node(cluster, taker))


def finish(cluster: RedisCluster, shard: int, giver: RedisServer, taker: RedisServer) -> None:
    """Move all keys, then the slot."""
    with cluster.ask(giver) as client:
        while keys := client.execute_command("CLUSTER GETKEYSINSLOT", SLOT_OF[shard], 100):
            client.execute_command("MIGRATE", "127.0.0.1", taker.port, "", 0, MOVE_MS, "KEYS", *keys)
    give(cluster, shard, taker)


def move(cluster: RedisCluster, shard: int, giver: RedisServer, taker: RedisServer) -> None:
    """Move a shard with all that it holds, key by key."""
    begin(cluster, shard, giver, taker)
    finish(cluster, shard, giver, taker)


def _node(cluster: RedisCluster, master: RedisServer) -> bytes:
    with cluster.ask(master) as client:
        name: bytes = client.execute_command("CLUSTER MYID")
    return name
