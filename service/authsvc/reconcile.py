"""The writer's pass over all clients: the mirror is made equal to the record store, whoever changed which.

Complete comparison, never "changed since": a transaction that commits late, a row changed by plain SQL, a command killed
between its steps and a lost bump are all repaired by the same pass. A mirror that cannot be repaired (another store, an
older one, data that ran back, a lost tag) is replaced under a new incarnation, which ends all older tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import structlog

from authsvc.live.backlog import Backlog
from authsvc.live.directory import Directory
from authsvc.live.forms import Malformed
from authsvc.live.mirror import Mirror
from authsvc.model import CLIENT_ID_PATTERN, Client, DeletedClient, StreamMark, Version, servable
from authsvc.records.contract import RecordStore

LEASE_SECONDS = 15.0

log = structlog.get_logger(__name__)


class Reconciler:
    """Compares and repairs; one writer at a time rebuilds and keeps the marks."""

    def __init__(self, store: RecordStore, mirror: Mirror, directory: Directory, backlog: Backlog, holder: str) -> None:
        self._store = store
        self._mirror = mirror
        self._directory = directory
        self._backlog = backlog
        self._holder = holder
        self._incarnation = ""
        self._number = 0
        self._marks: dict[str, StreamMark] = {}
        self._compared = False
        self._complained: dict[str, int] = {}
        self.rebuilds = 0

    async def run_once(self) -> None:
        """One pass. Any error leaves everything as it was or further repaired; the next pass goes on."""
        reason = await self._why_replace()
        if reason is None:
            reason = await self._repair()
        if reason is not None:
            await self._replace(reason)

    async def keep_marks(self) -> None:
        """Keep how far the streams have come, so that a copy of older data is noticed; one writer does it, once a second."""
        if not self._incarnation or not await self._store.take_lease("marks", self._holder, LEASE_SECONDS):
            return
        now = await self._backlog.marks()
        if not self._is_behind(now):
            self._marks = now
            await self._store.write_marks(self._number, now)

    async def _why_replace(self) -> str | None:
        """Why this mirror is no good at all, or None."""
        try:
            versions = await self._mirror.versions()
            await self._directory.refresh()
        except (Malformed, ValueError) as error:
            return f"the mirror cannot be read: {error}"
        home = versions[0]
        if home is None:
            return "there is no complete mirror"
        if any(version is None or version.incarnation != home.incarnation for version in versions):
            return "a hash tag has lost its version"
        if (await self._mirror.origin()).identity != await self._store.identity():
            return "the mirror came from another record store"
        return await self._ran_back(home)

    async def _ran_back(self, home: Version) -> str | None:
        """Whether Redis holds less than it once did: marks belong to one incarnation, and only grow within it."""
        if home.incarnation != self._incarnation:
            number, kept = await self._store.read_marks()
            if number > home.number:
                return "redis holds an older incarnation than the record store knows of"
            self._marks = kept if number == home.number else {}
            self._incarnation, self._number = home.incarnation, home.number
        now = await self._backlog.marks()
        if self._is_behind(now):
            return "redis went back to older data"
        self._marks = now
        return None

    def _is_behind(self, now: dict[str, StreamMark]) -> bool:
        """Whether a stream has come less far than was noted; one that is missing has come nowhere."""
        for stream, noted in self._marks.items():
            mark = now.get(stream, StreamMark("0-0", 0))
            if mark.entries_added < noted.entries_added or _order(mark.last_id) < _order(noted.last_id):
                return True
        return False

    async def _repair(self) -> str | None:
        """Mirror what differs; a reason to replace the mirror if it is ahead of the store."""
        held = self._directory.revisions
        if not self._directory.loaded:
            return "there is no complete mirror"
        # The store is read after the mirror: a command stores first, so no change of a living store makes the mirror newer.
        stored = await self._store.revisions()
        if any(revision > stored.get(client_id, 0) for client_id, revision in held.items()):
            return "the mirror is ahead of the record store"
        changed = [client_id for client_id, revision in stored.items() if held.get(client_id, 0) < revision]
        if not self._compared:
            if await self._differs([client_id for client_id, revision in stored.items() if held.get(client_id) == revision]):
                return "the mirror holds other rows than the record store under the same revisions"
            self._compared = True
        await self._mirror.put(self._named(await self._store.read_clients(changed)))
        home, *others = await self._mirror.versions()
        if home is not None and any(version is None or not version.covers(home) for version in others):
            await self._mirror.raise_versions(str(home).encode("ascii"))
        return None

    def _named(self, records: Iterable[Client | DeletedClient]) -> list[Client | DeletedClient]:
        """The records that a request can name; says once of every row that no client may be that it is refused."""
        named = []
        for record in records:
            problem = record.problem() if isinstance(record, Client) else None
            if problem is not None and self._complained.get(record.id) != record.revision:
                self._complained[record.id] = record.revision
                log.error("a client's row is refused until it is mended", client_id=record.id, problem=problem)
            if re.fullmatch(CLIENT_ID_PATTERN, record.id):
                named.append(record)
        return named

    async def _differs(self, client_ids: list[str]) -> bool:
        """Whether rows of equal revision differ: a store that was restored and then changed draws the same numbers again."""
        for record in map(servable, await self._store.read_clients(client_ids)):
            known = self._directory.get(record.id)
            held = DeletedClient(record.id, self._directory.revisions[record.id]) if known is None else known.record
            if held.revision == record.revision and held != record:
                return True
        return False

    async def _replace(self, reason: str) -> None:
        """Start a new incarnation, numbered above every one that the store or Redis knows."""
        if not await self._store.take_lease("incarnation", self._holder, LEASE_SECONDS):
            return
        number = await self._store.next_incarnation(max((await self._mirror.origin()).number, self._number))
        await self._mirror.drop()
        records = self._named(await self._store.read_clients(await self._store.revisions()))
        version = await self._mirror.build(records, number, await self._store.identity())
        self.rebuilds += 1
        log.warning("a new incarnation", reason=reason, clients=len(records), version=str(version) if version else "the build was lost")


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = stream_id.partition("-")
    return int(milliseconds), int(sequence)
