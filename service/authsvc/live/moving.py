"""The connection to one master of a Redis Cluster: what another master has by now goes there, once, for it was surely not applied."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import hiredis

from authsvc.live.connection import Batch, Call, CallOfSeveral, Connection, Reply
from authsvc.live.keys import SHARD_OF_SLOT, VERSIONS
from authsvc.live.masters import Master
from authsvc.live.pipeline import Address, Admit, Observe, Pipeline
from authsvc.live.scripts import pack

UNTOLD = b""
"""In a version's place: there is one, but its master is another now. Who depends on it gets 503, and the directory stays."""

Redirect = Callable[[int, bytes, Call], None]
"""Has a command of a shard sent to whichever master has it now."""


class MovingConnection(Connection):
    """A connection that hands on what its master no longer holds. A key half moved (ASK, TRYAGAIN) is a 503."""

    def __init__(self, timeout_seconds: float, on_lost: Callable[[], None], observe: Observe, lead: int, redirect: Redirect) -> None:
        super().__init__(timeout_seconds, on_lost, observe, version_command(lead))
        self._redirect = redirect
        self._down_since: float | None = None

    @property
    def unanswered_since(self) -> float | None:
        """As over one server; a cluster that says that it is down answers nothing, either."""
        return self._down_since if self._down_since is not None else super().unanswered_since

    def send(self, command: bytes, call: Call) -> None:
        """Send, and remember what to send again."""
        call.command = command
        super().send(command, call)

    def send_on(self, command: bytes, call: Call) -> None:
        """Send what another master did not hold; there is no third time."""
        call.command = None
        super().send(command, call)

    def _deliver(self, reply: Reply) -> None:
        place = self._waiting[0] if self._waiting else None
        if isinstance(place, Batch):
            word = str(reply).partition(" ")[0] if isinstance(reply, hiredis.ReplyError) else ""
            super()._deliver(reply)
            if word in ("MOVED", "ASK", "TRYAGAIN"):
                self._version = UNTOLD
            if word != "CLUSTERDOWN":
                self._down_since = None
            elif self._down_since is None:
                self._down_since = monotonic()
        elif not (isinstance(place, Call) and isinstance(reply, hiredis.ReplyError) and self._handed_on(place, str(reply))):
            super()._deliver(reply)

    def _handed_on(self, place: Call, error: str) -> bool:
        word, _, rest = error.partition(" ")
        if word != "MOVED" or place.settled or place.command is None:
            return False
        if isinstance(place, CallOfSeveral):
            # Only as a whole: what was done in part is the caller's to take back.
            if place.missing > 1 or not place.all_moved:
                return False
            place.begin_again()
        self._waiting.popleft()
        self._redirect(SHARD_OF_SLOT[int(rest.partition(" ")[0])], place.command, place)
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
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(address, timeout_seconds, admit, observe)
        self._held = held
        self._redirect = redirect
        self._tell_lost = on_lost

    @property
    def connected(self) -> bool:
        """Whether its connection is there and was admitted."""
        return self._connection is not None

    @property
    def master(self) -> Master:
        """How it is asked, and for what."""
        return self._master(self.call)

    def hold(self, held: tuple[int, ...]) -> None:
        """It holds these shards from now on: each batch begins with the version of the first."""
        self._held = held
        if self._connection is not None:
            self._connection.version_command = version_command(held[0])

    def send_on(self, command: bytes, call: Call) -> None:
        """Send what another master did not hold."""
        if isinstance(self._connection, MovingConnection):
            self._connection.send_on(command, call)
        else:
            self._send(command, call)

    def _master(self, ask: Callable[..., Call]) -> Master:
        return Master(ask, self._held, self._held)

    def _new_connection(self, on_lost: Callable[[], None]) -> Connection:
        def lost() -> None:
            on_lost()
            self._tell_lost()

        return MovingConnection(self._timeout_seconds, lost, self._observe_seconds, self._held[0], self._redirect)


def version_command(lead: int) -> bytes:
    """What a batch begins with at the master whose first shard this is."""
    return pack(b"GET", VERSIONS[lead])
