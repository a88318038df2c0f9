"""The connection to one master of a Redis Cluster: what another master has by now goes there, once, for it was surely not applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import hiredis
import structlog

from authsvc.errors import Unavailable
from authsvc.live.connection import Batch, Call, CallOfSeveral, Connection, Reply
from authsvc.live.keys import SHARD_OF_SLOT, VERSIONS
from authsvc.live.masters import Master
from authsvc.live.pipeline import Address, Admit, Observe, Pipeline, new_call
from authsvc.live.refusals import Followed
from authsvc.live.scripts import pack

UNTOLD = b""
"""In a version's place: there is one, but its master is another now. Who depends on it gets 503, and the directory stays."""

Redirect = Callable[[int, bytes, Call], None]
"""Has a command of a shard sent to whichever master has it now."""

log = structlog.get_logger(__name__)


class MovingConnection(Connection):
    """A connection that hands on what its master no longer holds. A key half moved (ASK, TRYAGAIN) is a 503."""

    redirect: Redirect | None = None
    """Where that goes; nowhere before the connection was admitted, for until then the master is asked about itself."""

    def __init__(
        self, timeout_seconds: float, on_lost: Callable[[], None], observe: Observe, lead: int, on_rearranged: Callable[[], None]
    ) -> None:
        """`on_rearranged` is called whenever the master says that it is not, or cannot be, what it was."""
        super().__init__(timeout_seconds, on_lost, observe, version_command(lead))
        self._on_rearranged = on_rearranged
        self._down_since: float | None = None

    @property
    def cluster_down(self) -> bool:
        """Whether its master said last that the cluster is down: it may be cut off, and another in its place."""
        return self._down_since is not None

    @property
    def unanswered_since(self) -> float | None:
        """As over one server; a cluster that says that it is down answers nothing, either."""
        return self._down_since if self._down_since is not None else super().unanswered_since

    def send(self, command: bytes, call: Call) -> None:
        """Send, and remember what to send again."""
        call.command = command
        super().send(command, call)

    def send_on(self, command: bytes, call: Call) -> None:
        """Send what is for this master alone, or what another did not hold: there is no third time."""
        call.command = None
        super().send(command, call)

    def _deliver(self, reply: Reply) -> None:
        place = self._waiting[0] if self._waiting else None
        word = str(reply).partition(" ")[0] if isinstance(reply, hiredis.ReplyError) else ""
        if word == "MOVED":
            # Whatever it stands in: a look at several keys cannot be handed on, but must find them next time.
            self._on_rearranged()
            reply = Followed(str(reply))
        if isinstance(place, Batch):
            super()._deliver(reply)
            if word in ("MOVED", "ASK", "TRYAGAIN"):
                self._version = UNTOLD
            if word != "CLUSTERDOWN":
                self._down_since = None
            elif self._down_since is None:
                self._down_since = monotonic()
                self._on_rearranged()
        elif not (word == "MOVED" and isinstance(place, Call) and self._handed_on(place, str(reply))):
            super()._deliver(reply)

    def _handed_on(self, place: Call, error: str) -> bool:
        if self.redirect is None or place.settled or place.command is None:
            return False
        if isinstance(place, CallOfSeveral):
            # Only as a whole: what was done in part is the caller's to take back.
            if place.missing > 1 or not place.all_moved:
                return False
            place.begin_again()
        self._waiting.popleft()
        slot = int(error.split(" ")[1])
        self.redirect(SHARD_OF_SLOT[slot], place.command, place)
        return True


class MasterPipeline(Pipeline):
    """The pipeline of one master, made again whenever it is lost."""

    def __init__(
        self,
        address: Address,
        timeout_seconds: float,
        admit: Admit | None,
        observe: Observe,
        held: tuple[int, ...],
        redirect: Redirect,
        on_rearranged: Callable[[MasterPipeline], None],
    ) -> None:
        """`on_rearranged` is called when its connection is lost, too."""
        super().__init__(address, timeout_seconds, admit, observe)
        self._held = held
        self._redirect = redirect
        self._on_rearranged = on_rearranged
        self._judging: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether its connection is there and was admitted."""
        return self._connection is not None

    @property
    def whole(self) -> bool:
        """Whether it is connected to a master that sees the whole cluster."""
        return isinstance(self._connection, MovingConnection) and not self._connection.cluster_down

    @property
    def master(self) -> Master:
        """How it is asked, and for what; nothing of that is handed on to another."""
        return self._master(self._ask)

    def hold(self, held: tuple[int, ...]) -> None:
        """It holds these shards from now on: each batch begins with the version of the first."""
        before, self._held = self._held, held
        if self._connection is not None:
            self._connection.version_command = version_command(held[0])
            if held[0] != before[0]:
                self._judge_again()

    def send_on(self, command: bytes, call: Call) -> None:
        """Send what is for this master alone, or what another did not hold."""
        if isinstance(self._connection, MovingConnection):
            self._connection.send_on(command, call)
        else:
            self._send(command, call)

    async def close(self) -> None:
        """Stop and refuse whoever still waits."""
        if self._judging is not None:
            self._judging.cancel()
        await super().close()

    def _ask(self, command: bytes, replies: int = 1) -> Call:
        call = new_call(replies)
        self.send_on(command, call)
        return call

    def _master(self, ask: Callable[..., Call]) -> Master:
        return Master(ask, self._held, self._held)

    async def _connect(self) -> Connection:
        lead = self._held[0]
        connection = await super()._connect()
        assert isinstance(connection, MovingConnection), "as it was made"
        connection.redirect = self._redirect
        if self._held[0] != lead:
            # The cluster said so while the connection was made.
            connection.version_command = version_command(self._held[0])
            self._judge_again()
        return connection

    def _judge_again(self) -> None:
        if self._judging is not None:
            self._judging.cancel()
        self._judging = asyncio.create_task(self._admit_as_it_is())

    async def _admit_as_it_is(self) -> None:
        """Vouch for the master under its new lead, where those who connect later look for it."""
        try:
            if self._admit is not None:
                await self._admit(self.master)
        except Unavailable as error:
            log.warning("a master is not vouched for under its new lead", lead=self._held[0], error=error.description)

    def _new_connection(self, on_lost: Callable[[], None]) -> Connection:
        def rearranged() -> None:
            self._on_rearranged(self)

        def lost() -> None:
            on_lost()
            rearranged()

        return MovingConnection(self._timeout_seconds, lost, self._observe_seconds, self._held[0], rearranged)


def version_command(lead: int) -> bytes:
    """What a batch begins with at the master whose first shard this is."""
    return pack(b"GET", VERSIONS[lead])
