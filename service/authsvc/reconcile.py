"""The writer's pass over all clients: the mirror is made equal to the record store, whoever changed which.

Complete comparison, never "changed since": a transaction that commits late, a row changed by plain SQL, a command killed
between its steps and a lost bump are all repaired by the same pass. A mirror that cannot be repaired (another store, an
older one, data that ran back on either side, a lost tag) is replaced under a new incarnation, which ends all older tokens.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from authsvc.errors import Unavailable
from authsvc.live.directory import Directory
from authsvc.live.forms import Malformed
from authsvc.live.history import History
from authsvc.live.mirror import Mirror
from authsvc.live.survey import PartlyAway, Survey
from authsvc.model import CLIENT_ID_PATTERN, Client, DeletedClient, servable
from authsvc.records.contract import RecordStore

LEASE_SECONDS = 15.0
DOUBTS = 4
"""Passes, a second apart, in which a process that saw more may still vouch for a server before its data is replaced."""

log = structlog.get_logger(__name__)


class Reconciler:
    """Compares and repairs; one writer at a time rebuilds, and every writer keeps the marks."""

    def __init__(
        self,
        store: RecordStore,
        mirror: Mirror,
        directory: Directory,
        survey: Callable[[Mapping[str, int] | None], Awaitable[Survey]],
        holder: str,
    ) -> None:
        """`survey` takes one, and moves the beats on that it is given as they were noted last."""
        self._store = store
        self._mirror = mirror
        self._directory = directory
        self._survey = survey
        self._holder = holder
        self._history = History()
        self._compared = self._judged = False
        self._records_lost = 0
        """Number of the incarnation of which the record store has lost marks."""
        self._recorded = (0, 0)
        """Incarnation and sum of the marks that the last look found in the record store."""
        self._doubts: dict[str, int] = {}
        self._complained: dict[str, int] = {}
        self.rebuilds = 0

    async def run_once(self) -> None:
        """One pass. Any error leaves everything as it was or further repaired; the next pass goes on."""
        try:
            survey = await self._survey(None)
            if survey.version is not None and not self._history.knows(survey.version):
                number, kept = await self._store.read_marks()
                if number >= self._history.number:
                    self._history.recall(number, kept)
                # Another look: since the first, another writer may have kept marks of what came after it.
                survey = await self._survey(None)
            reason = await self._why_replace(survey)
        except (Malformed, ValueError) as error:
            await self._replace(f"the mirror cannot be read: {error}")
            return
        if reason is None:
            reason = await self._repair()
        if reason is not None:
            await self._replace(reason)
        elif survey.vouched != survey.run_id:
            await self._mirror.vouch(survey.run_id)

    async def keep_marks(self) -> None:
        """Keep how far the streams have come, so that a copy of older data is noticed.

        Every writer does it once a second: if only one did, its death would leave a gap until another took over. While a
        master of a cluster is away the others' are kept all the same, and then it is Unavailable.
        """
        beats = self._history.beats if self._judged else None
        # What a look that fails has moved on is not noted: the next one moves nothing on.
        self._judged = False
        try:
            survey = await self._survey(beats)
        except PartlyAway as error:
            await self._keep(error.found)
            self._judged = False
            raise
        await self._keep(survey)

    async def _keep(self, survey: Survey) -> None:
        known = survey.version is not None and self._history.knows(survey.version)
        # Of a server that nobody has vouched for nothing is noted: the marks would say that its data was seen before.
        self._judged = known and survey.vouched == survey.run_id
        if not self._judged or self._history.ran_back(survey):
            return
        self._history.note(survey)
        # Meanwhile the other loop may begin a new incarnation, of which these are no marks.
        number = self._history.number
        if not await self._records_ran_back(number):
            await self._store.write_marks(number, survey.marks)

    async def _records_ran_back(self, number: int) -> bool:
        """Whether the record store has lost marks of this incarnation that were seen in it: it was restored to an older state.

        Its clients may be the same, but records of tokens are gone that were acknowledged.
        """
        # Asked first, so that a store which goes on is never behind what was noted.
        noted_number, noted = await self._mirror.recorded()
        kept_number, marks = await self._store.read_marks()
        total = sum(mark.entries_added for mark in marks.values())
        is_lost = noted_number == number and (kept_number, total) < (number, noted)
        self._records_lost = number if is_lost else 0
        if kept_number == number and not is_lost:
            # What was there a look ago is there for good: a database may show a commit a moment before it has it on its disk.
            if self._recorded[0] == number:
                await self._mirror.note_recorded(*self._recorded)
            self._recorded = (kept_number, total)
        return is_lost

    async def _why_replace(self, survey: Survey) -> str | None:
        """Why this mirror is no good at all, or None."""
        home = survey.version
        if home is None:
            return "there is no complete mirror"
        if self._records_lost == home.number:
            return "the record store was restored to an older state"
        reason = self._history.ran_back(survey)
        if reason is not None:
            return reason
        if survey.vouched != survey.run_id and not self._history.witnessed(survey):
            doubts = self._doubts.get(survey.run_id, 0) + 1
            self._doubts = {survey.run_id: doubts}
            if doubts < DOUBTS:
                raise Unavailable("Nobody has vouched for the data of the shared store yet.")
            return "nobody saw how far redis had come before it started again"
        self._history.note(survey)
        await self._directory.refresh()
        if any(version is None or version.incarnation != home.incarnation for version in await self._mirror.versions()):
            return "a hash tag has lost its version"
        if (await self._mirror.origin()).identity != await self._store.identity():
            return "the mirror came from another record store"
        return None

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
        number = await self._store.next_incarnation(max((await self._mirror.origin()).number, self._history.number))
        await self._mirror.drop()
        records = self._named(await self._store.read_clients(await self._store.revisions()))
        version = await self._mirror.build(records, number, await self._store.identity())
        if version is not None:
            self._history.recall(number, {})
            self._history.note(await self._survey(None))
            self._judged = True
            await self.keep_marks()
        # Given back: whoever finds this incarnation lost, too, need not wait until the lease is over.
        await self._store.take_lease("incarnation", self._holder, 0)
        self.rebuilds += 1
        log.warning("a new incarnation", reason=reason, clients=len(records), version=str(version) if version else "the build was lost")
