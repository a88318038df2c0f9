"""A Redis Cluster: which master has which shard, one pipeline to each, and both made anew when the cluster says otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic

import structlog

from authsvc.errors import Unavailable
from authsvc.live.connection import Call, refuse
from authsvc.live.keys import EVERY_SHARD
from authsvc.live.masters import Master, Node, owners_in
from authsvc.live.moving import MasterPipeline
from authsvc.live.pipeline import Address, Admit, Observe, Pipeline
from authsvc.live.scripts import pack

LOOK_SECONDS = 0.2
"""How often the cluster is asked again while a master is away: until it has chosen another."""
PAUSE_SECONDS = 0.02
REARRANGED = "The shared store is being rearranged."
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
        self._informed: MasterPipeline | None = None
        """The master that said last that something moved: it knows where to."""
        self._moved: list[tuple[int, bytes, Call]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._leaving: dict[MasterPipeline, asyncio.Task[None]] = {}
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
        for node, held in (await self._ask_seed()).items():
            pipeline = self._pipelines[node] = self._pipeline(node, held)
            await pipeline.connect()
            for shard in held:
                self.shards[shard] = pipeline
        self._unknown_since = None

    async def close(self) -> None:
        """Stop and refuse whoever still waits."""
        keeper, self._keeper = self._keeper, None
        tasks = [task for task in (keeper, *self._leaving.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse_moved()
        # A task that was cancelled before it began has closed nothing.
        pipelines = [*self._pipelines.values(), *self._leaving]
        self._pipelines.clear()
        self._leaving.clear()
        for closed in await asyncio.gather(*(pipeline.close() for pipeline in pipelines), return_exceptions=True):
            if isinstance(closed, Exception):
                log.error("a master's connection was not closed", error=repr(closed))

    def _redirect(self, shard: int, command: bytes, call: Call) -> None:
        """Keep what another master has by now until the cluster has said which."""
        if self._keeper is None:
            refuse(call, REARRANGED)
        else:
            self._moved.append((shard, command, call))
            self._stale.set()
            asyncio.get_running_loop().call_later(self._timeout_seconds, refuse, call, "The shared store did not answer in time.")

    def _rearranged(self, pipeline: MasterPipeline) -> None:
        self._informed = pipeline
        self._stale.set()

    async def _follow(self) -> None:
        troubled = False
        while True:
            self._stale.clear()
            # What moves while the cluster is asked may be newer than its answer, and waits for the next.
            before = len(self._moved)
            try:
                await self._apply(await self._look(), before)
                self._unknown_since = None
                troubled = False
            except Exception as error:
                self._unknown_since = self._unknown_since or monotonic()
                self._refuse_moved()
                if not isinstance(error, (OSError, TimeoutError, Unavailable)):
                    log.exception("the cluster cannot be followed")
                elif not troubled:
                    log.warning("the cluster does not tell who its masters are", error=str(error) or type(error).__name__)
                troubled = True
            # A cluster that is being rearranged says so to every caller: one look answers many.
            await asyncio.sleep(PAUSE_SECONDS)
            settled = not troubled and not self._moved and all(pipeline.whole for pipeline in self._pipelines.values())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), None if settled else LOOK_SECONDS)

    async def _look(self) -> dict[Node, tuple[int, ...]]:
        """Ask the masters that are there, then the seed; Unavailable if nobody can tell.

        First whoever said that something moved, last who says that the cluster is down: it may be cut off from the others.
        """
        known = sorted(self._pipelines.items(), key=lambda item: (not item[1].whole, item[1] is not self._informed))
        for (host, _), pipeline in known:
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

    async def _apply(self, owners: dict[Node, tuple[int, ...]], moved: int) -> None:
        """Let every shard lead to its master, send on what `moved` (the first so many), and let masters that have none go."""
        new = set()
        for node, held in owners.items():
            if node not in self._pipelines:
                log.info("a master of the cluster", host=node[0], port=node[1], shards=held)
                self._pipelines[node] = self._pipeline(node, held)
                self._pipelines[node].start()
                new.add(self._pipelines[node])
            self._pipelines[node].hold(held)
        for node in self._pipelines.keys() - owners.keys():
            pipeline = self._pipelines.pop(node)
            self._leaving[pipeline] = asyncio.create_task(self._retire(pipeline))
        masters = {shard: self._pipelines[node] for node, held in owners.items() for shard in held}
        deadline = monotonic() + self._timeout_seconds
        while True:
            # A new master is waited for, and meanwhile the one before it says where to; but not for one that does not answer.
            late = monotonic() >= deadline
            for shard, pipeline in masters.items():
                if late or pipeline.connected or pipeline not in new or self.shards[shard] is self._nobody:
                    self.shards[shard] = pipeline
            moved = self._send_moved(masters, moved)
            if late or all(pipeline.connected for pipeline in new):
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def _pipeline(self, node: Node, held: tuple[int, ...]) -> MasterPipeline:
        address = replace(self._seed, host=node[0], port=node[1], database=0)
        return MasterPipeline(address, self._timeout_seconds, self._admit, self._observe_seconds, held, self._redirect, self._rearranged)

    async def _retire(self, pipeline: MasterPipeline) -> None:
        """Close it when nothing leads to it any more and all was answered, or nothing will be."""
        deadline = monotonic() + 3 * self._timeout_seconds
        while (pipeline in self.shards or pipeline.silent_since is not None) and monotonic() < deadline:
            await asyncio.sleep(PAUSE_SECONDS)
        await pipeline.close()
        del self._leaving[pipeline]

    def _send_moved(self, masters: Mapping[int, MasterPipeline], count: int) -> int:
        """Send on what moved, the first `count`, to masters that are there; returns how many wait for theirs."""
        moved, self._moved = self._moved[:count], self._moved[count:]
        waiting = []
        for shard, command, call in moved:
            # Whoever was told that there is no answer must not find it done after all.
            if call.settled:
                continue
            if masters[shard].connected:
                try:
                    masters[shard].send_on(command, call)
                except Exception:
                    # One caller's continuation failed; the others' commands are still sent.
                    log.exception("a caller of the pipeline failed")
            else:
                waiting.append((shard, command, call))
        self._moved[:0] = waiting
        return len(waiting)

    def _refuse_moved(self) -> None:
        moved, self._moved = self._moved, []
        for _, _, call in moved:
            refuse(call, REARRANGED)


Link = Pipeline | Cluster
"""The way to the shared store, whichever kind it is."""
