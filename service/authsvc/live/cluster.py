"""A Redis Cluster: which master has which shard, one pipeline to each, and both made anew when the cluster says otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

import structlog

from authsvc.errors import Unavailable
from authsvc.live.connection import Call
from authsvc.live.keys import EVERY_SHARD
from authsvc.live.masters import Master, Node, owners_in
from authsvc.live.moving import MasterPipeline
from authsvc.live.pipeline import Address, Admit, Observe, Pipeline
from authsvc.live.scripts import pack

LOOK_SECONDS = 0.2
"""How often the cluster is asked again while a master is away: until it has chosen another."""
PAUSE_SECONDS = 0.02
_SLOTS = pack(b"CLUSTER", b"SLOTS")

log = structlog.get_logger(__name__)


class Cluster:
    """What a Pipeline is to one server: all shards, each by the pipeline of its master."""

    def __init__(
        self,
        seed: Address,
        timeout_seconds: float = 1.0,
        admit: Admit | None = None,
        observe_seconds: Observe = lambda seconds: None,
    ) -> None:
        """`seed` is any node, or a name that many have; the others are found through it. The rest as a Pipeline takes it."""
        self._seed = seed
        self._timeout_seconds = timeout_seconds
        self._admit = admit
        self._observe_seconds = observe_seconds
        self._pipelines: dict[Node, MasterPipeline] = {}
        self._nobody = Pipeline(seed)
        self.shards: list[Pipeline] = [self._nobody] * len(EVERY_SHARD)
        """Which pipeline leads to each shard now; changed in place."""
        self._stale = asyncio.Event()
        self._moved: list[tuple[int, bytes, Call]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._unknown_since: float | None = monotonic()

    @property
    def masters(self) -> Sequence[Master]:
        """Whom to ask when everyone must be; Unavailable while a shard has no known master."""
        if self._nobody in self.shards:
            raise Unavailable("The cluster has not told who its masters are.")
        return [pipeline.master for pipeline in self._pipelines.values()]

    @property
    def silent_since(self) -> float | None:
        """Monotonic time since which some master has answered nothing of what it was asked; None while none owes anything."""
        silent = [pipeline.silent_since for pipeline in self._pipelines.values()]
        return min((since for since in (self._unknown_since, *silent) if since is not None), default=None)

    @property
    def certificate_expiry(self) -> float | None:
        """When the first of the masters' certificates ends, Unix time; None without TLS."""
        return min((expiry for pipeline in self._pipelines.values() if (expiry := pipeline.certificate_expiry) is not None), default=None)

    def start(self) -> None:
        """Connect to all masters in the background and follow the cluster."""
        self._keeper = asyncio.create_task(self._follow())

    async def connect(self) -> None:
        """Connect to all masters once, for a command that ends when one is out of reach (Unavailable)."""
        owners = await self._ask_seed()
        for node, held in owners.items():
            pipeline = self._pipeline(node, held)
            await pipeline.connect()
            self._lead_to(pipeline, node, held)
        self._unknown_since = None

    async def close(self) -> None:
        """Stop and refuse whoever still waits."""
        keeper, self._keeper = self._keeper, None
        for task in (keeper, *self._retiring):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._refuse_moved()
        for pipeline in self._pipelines.values():
            await pipeline.close()
        self._pipelines.clear()

    def _redirect(self, shard: int, command: bytes, call: Call) -> None:
        """Keep what another master has by now until the cluster has said which."""
        if self._keeper is None:
            call.reject(Unavailable("The shared store is being rearranged."))
        else:
            self._moved.append((shard, command, call))
            self._stale.set()

    async def _follow(self) -> None:
        troubled = False
        while True:
            self._stale.clear()
            try:
                await self._apply(await self._look())
                self._unknown_since = None
                self._send_moved()
                troubled = False
            except (OSError, TimeoutError, Unavailable) as error:
                self._unknown_since = self._unknown_since or monotonic()
                self._refuse_moved()
                if not troubled:
                    log.warning("the cluster does not tell who its masters are", error=str(error) or type(error).__name__)
                troubled = True
            # A cluster that is being rearranged says so to every caller: one look answers many.
            await asyncio.sleep(PAUSE_SECONDS)
            whole = not troubled and all(pipeline.connected for pipeline in self._pipelines.values())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), None if whole else LOOK_SECONDS)

    async def _look(self) -> dict[Node, tuple[int, ...]]:
        """Ask the masters that are there, then the seed; Unavailable if nobody can tell."""
        for (host, _), pipeline in tuple(self._pipelines.items()):
            if pipeline.connected:
                with contextlib.suppress(Unavailable):
                    return owners_in(await pipeline.call(_SLOTS), host)
        return await self._ask_seed()

    async def _ask_seed(self) -> dict[Node, tuple[int, ...]]:
        pipeline = Pipeline(self._seed, self._timeout_seconds)
        try:
            await pipeline.connect()
            return owners_in(await pipeline.call(_SLOTS), self._seed.host)
        finally:
            await pipeline.close()

    async def _apply(self, owners: dict[Node, tuple[int, ...]]) -> None:
        """Let every shard lead to its master, and masters that have none go when they owe nothing."""
        new = []
        for node, held in owners.items():
            pipeline = self._pipelines.get(node)
            if pipeline is None:
                log.info("a master of the cluster", host=node[0], port=node[1], shards=held)
                pipeline = self._pipeline(node, held)
                pipeline.start()
                new.append(pipeline)
            self._lead_to(pipeline, node, held)
        for node in self._pipelines.keys() - owners.keys():
            task = asyncio.create_task(self._retire(self._pipelines.pop(node)))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        # What moved to a new master waits for it, but not for one that does not answer.
        deadline = monotonic() + self._timeout_seconds
        while not all(pipeline.connected for pipeline in new) and monotonic() < deadline:
            await asyncio.sleep(PAUSE_SECONDS)

    def _pipeline(self, node: Node, held: tuple[int, ...]) -> MasterPipeline:
        address = replace(self._seed, host=node[0], port=node[1], database=0)
        return MasterPipeline(address, self._timeout_seconds, self._admit, self._observe_seconds, held, self._redirect, self._stale.set)

    def _lead_to(self, pipeline: MasterPipeline, node: Node, held: tuple[int, ...]) -> None:
        self._pipelines[node] = pipeline
        pipeline.hold(held)
        for shard in held:
            self.shards[shard] = pipeline

    async def _retire(self, pipeline: MasterPipeline) -> None:
        """Close it when all was answered, or nothing will be."""
        deadline = monotonic() + 2 * self._timeout_seconds
        while pipeline.silent_since is not None and monotonic() < deadline:
            await asyncio.sleep(PAUSE_SECONDS)
        await pipeline.close()

    def _send_moved(self) -> None:
        moved, self._moved = self._moved, []
        for shard, command, call in moved:
            pipeline = self.shards[shard]
            # Whoever was told that there is no answer must not find it done after all.
            if not call.settled and isinstance(pipeline, MasterPipeline):
                pipeline.send_on(command, call)

    def _refuse_moved(self) -> None:
        moved, self._moved = self._moved, []
        for _, _, call in moved:
            call.reject(Unavailable("The shared store is being rearranged."))


Link = Pipeline | Cluster
"""The way to the shared store, whichever kind it is."""
