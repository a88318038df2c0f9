"""The writer: drains the streams into the record store in batches, and acknowledges what is committed.

Events of one token are idempotent and commute, so a batch may be written again after any failure. An entry is taken out
of its stream only after the commit; what a lost writer left pending is claimed by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog
from redis.exceptions import RedisError

from authsvc.errors import OperatorError, RecordRefused
from authsvc.live.backlog import EVERY_SHARD, Backlog, Entry
from authsvc.live.forms import Malformed, UnknownForm, decode_event
from authsvc.model import Event, TokenEvent, TokenRecord
from authsvc.records.contract import RecordStore

POLL_SECONDS = 0.1
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batching:
    """When a batch is written, and when another writer's entries may be taken."""

    rows: int
    seconds: float
    claim_after_seconds: float


@dataclass(slots=True)
class WriterCounts:
    """What the writer did since it began, as plain integers."""

    rows: int = 0
    batches: int = 0
    poison: int = 0


def fold(events: Iterable[TokenEvent]) -> list[TokenRecord]:
    """One record for each token of the events, whatever their order and however often each comes; sorted by name."""
    records: dict[bytes, TokenRecord] = {}
    for event in events:
        value = event.value
        at_ms, request_id = event.at_ms, event.request_id
        issued_request_id = request_id if event.event == Event.ISSUED else None
        record = records.get(event.name) or TokenRecord(
            name=event.name,
            kind=value.kind,
            incarnation=value.incarnation,
            client_id=value.client_id,
            epoch=value.epoch,
            scope=value.scope,
            issued_ms=value.issued_seconds * 1000,
            expires_ms=(value.issued_seconds + value.ttl_seconds) * 1000,
            issued_request_id=issued_request_id,
        )
        if issued_request_id != record.issued_request_id and issued_request_id is not None:
            record = replace(record, issued_request_id=_known(record.issued_request_id, issued_request_id))
        elif event.event == Event.USED:
            used_request_id = _of_earlier(record.used_ms, record.used_request_id, at_ms, request_id)
            record = replace(record, used_ms=_earlier(record.used_ms, at_ms), used_request_id=used_request_id)
        elif event.event == Event.REVOKED:
            record = replace(
                record,
                revoked_ms=_earlier(record.revoked_ms, at_ms),
                revoked_request_id=_of_earlier(record.revoked_ms, record.revoked_request_id, at_ms, request_id),
                revoked_by=_of_earlier(record.revoked_ms, record.revoked_by, at_ms, event.by),
            )
        elif event.event == Event.VOIDED:
            record = replace(record, voided_ms=_earlier(record.voided_ms, at_ms))
        records[event.name] = record
    return [records[name] for name in sorted(records)]


def _earlier(known_ms: int | None, at_ms: int) -> int:
    return at_ms if known_ms is None else min(known_ms, at_ms)


def _of_earlier(known_ms: int | None, known: str | None, at_ms: int, said: str | None) -> str | None:
    """What is said of the earlier of two times for one event."""
    if known_ms is None or at_ms < known_ms:
        return said
    return known if at_ms > known_ms else _known(known, said)


def _known(one: str | None, other: str | None) -> str | None:
    """Of two that mean the same, the one that is known; of two that are, always the same one."""
    return min((text for text in (one, other) if text is not None), default=None)


class Writer:
    """A fixed number of workers, each draining its own share of the streams."""

    def __init__(
        self, backlog: Backlog, store: RecordStore, batching: Batching, workers: int, observe_seconds: Callable[[float], None]
    ) -> None:
        self._backlog = backlog
        self._store = store
        self._batching = batching
        self._workers = workers
        self._observe_seconds = observe_seconds
        self._stopping = asyncio.Event()
        self._failing: dict[Sequence[int], str] = {}
        self.counts = WriterCounts()

    @property
    def failing(self) -> str | None:
        """Why a batch waits, or None while none does."""
        return next(iter(self._failing.values()), None)

    async def run(self) -> None:
        """Drain until `stop`; then write what was read and return."""
        shares = [EVERY_SHARD[worker :: self._workers] for worker in range(self._workers)]
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(self._drain(share))

    def stop(self) -> None:
        """Finish the batches at hand and return from `run`."""
        self._stopping.set()

    async def _drain(self, shards: Sequence[int]) -> None:
        batch: list[Entry] = []
        share = -(-self._batching.rows // len(shards))
        begun = time.monotonic()
        claim_at = begun + self._batching.claim_after_seconds / 2
        failures = 0
        while True:
            try:
                if not batch:
                    begun = time.monotonic()
                # Never while a batch waits: in a long outage it would claim its own entries, again and again.
                if not batch and begun >= claim_at and not self._stopping.is_set():
                    claim_at = begun + self._batching.claim_after_seconds / 2
                    batch = await self._backlog.claim(shards, int(self._batching.claim_after_seconds * 1000), share)
                    if batch:
                        # There may be more.
                        claim_at = begun
                room = self._batching.rows - len(batch)
                new = await self._backlog.read(shards, -(-room // len(shards))) if room > 0 and not self._stopping.is_set() else []
                batch += new
                due = len(batch) >= self._batching.rows or time.monotonic() - begun >= self._batching.seconds
                if batch and (due or self._stopping.is_set()):
                    await self._write(batch)
                    batch = []
                elif self._stopping.is_set():
                    return
                elif len(new) < room:
                    # Redis serves requests too: asking again at once would get a handful of entries at the same price.
                    await self._pause(POLL_SECONDS)
                failures = 0
                self._failing.pop(shards, None)
            except (RedisError, OSError, TimeoutError, OperatorError) as error:
                self._failing[shards] = str(error)
                log.warning("a batch waits", error=str(error), entries=len(batch))
                if self._stopping.is_set():
                    # What was read stays pending in the stream; another writer claims it.
                    return
                await self._pause(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _write(self, batch: list[Entry]) -> None:
        began = time.monotonic()
        entries: dict[bytes, list[Entry]] = {}
        events: list[TokenEvent] = []
        for entry in list(batch):
            try:
                event = decode_event(entry.payload, entry.request_id, entry.by)
            except UnknownForm:
                # A newer release wrote it and will read it: it stays pending.
                continue
            except Malformed as error:
                await self._set_aside(batch, [entry], str(error))
                continue
            events.append(event)
            entries.setdefault(event.name, []).append(entry)
        records = fold(events)
        written = await self._store_records(batch, records, entries)
        await self._backlog.acknowledge(entry for record in written for entry in entries[record.name])
        self.counts.rows += len(written)
        self.counts.batches += 1
        self._observe_seconds(time.monotonic() - began)

    async def _store_records(self, batch: list[Entry], records: list[TokenRecord], entries: dict[bytes, list[Entry]]) -> list[TokenRecord]:
        """Write the records; those that the store refuses by themselves are found by halving, and set aside."""
        if not records:
            return []
        try:
            await self._store.write_records(records)
        except RecordRefused as error:
            if len(records) == 1:
                await self._set_aside(batch, entries[records[0].name], str(error))
                return []
            middle = len(records) // 2
            first = await self._store_records(batch, records[:middle], entries)
            return first + await self._store_records(batch, records[middle:], entries)
        return records

    async def _set_aside(self, batch: list[Entry], entries: list[Entry], reason: str) -> None:
        """Move entries out of their streams, and out of the batch, which may be tried again."""
        for entry in entries:
            await self._backlog.set_aside(entry, reason)
            batch.remove(entry)
            self.counts.poison += 1
            log.error("an entry is set aside", entry=entry.id.decode(), shard=entry.shard, reason=reason)
