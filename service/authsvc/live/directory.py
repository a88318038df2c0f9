"""The client directory: all clients in memory, stamped with the version of the mirror that they came from.

Cached but never stale: every answer that depends on a client compares its batch's version with this stamp, and waits
here until the directory has caught up. Missing, incomplete or unreadable means Unavailable, never "unknown client".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from redis.exceptions import RedisError

from authsvc.errors import Unavailable
from authsvc.live.connect import RedisClient
from authsvc.live.forms import Malformed, UnknownForm, decode_change, decode_client
from authsvc.live.keys import CLIENTS, HOME_VERSION, LOG
from authsvc.model import Client, Version
from authsvc.promise import Promise

PAGE = 1000
"""Records read from Redis at once, so that nobody else waits long."""
CATCH_UP_SECONDS = 0.8
"""Longest a request waits for the directory to catch up."""
TICK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class KnownClient:
    """A client as requests need it: what is asked of it on every request is worked out once."""

    __slots__ = ("digests", "enabled", "epoch", "id", "record", "scope", "scopes", "ttls")

    def __init__(self, record: Client) -> None:
        self.record = record
        self.id = record.id
        self.enabled = record.enabled
        self.epoch = record.epoch
        self.digests = tuple(secret.digest for secret in record.secrets)
        self.scope = " ".join(record.scopes)
        self.scopes = frozenset(record.scopes)
        self.ttls = {"a": record.access_ttl_seconds, "o": record.one_time_ttl_seconds}


class Directory:
    """All clients, kept as new as the newest version that any answer has shown."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.clients: dict[str, KnownClient] = {}
        """Clients by id, as of the version in memory; to be read only."""
        self._revisions: dict[str, int] = {}
        self._version: Version | None = None
        self.number: int | None = None
        """The number of the incarnation in memory; None while there is none."""
        self.current: bytes | None = None
        """The version in memory as Redis spells it; None while there is none."""
        self._waiting: list[tuple[Version, Promise[None], float]] = []
        self._reloading: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.full_reloads = 0

    @property
    def loaded(self) -> bool:
        """Whether a complete mirror is in memory."""
        return self._version is not None

    @property
    def version(self) -> Version | None:
        """Version of the mirror in memory."""
        return self._version

    @property
    def revisions(self) -> dict[str, int]:
        """Revision of every record held, tombstones of deleted clients included."""
        return self._revisions

    def stamp(self) -> bytes:
        """The version in memory as Redis spells it, to judge by; Unavailable when there is none."""
        if self.current is None:
            raise Unavailable("The client directory is not loaded.")
        return self.current

    def incarnation(self) -> int:
        """The number of the incarnation in memory."""
        if self._version is None:
            raise Unavailable("The client directory is not loaded.")
        return self._version.number

    def get(self, client_id: str) -> KnownClient | None:
        """A client as of the version in memory."""
        return self.clients.get(client_id)

    def knows(self, client_id: str) -> bool:
        """Whether a client of this id is in memory."""
        return client_id in self.clients

    def oldest_secret_ms(self) -> int:
        """When the oldest secret that an enabled client may use was made, Unix milliseconds; 0 where none is known. Looks at all."""
        in_use = (secret for client in self.clients.values() if client.enabled for secret in client.record.secrets)
        # Those that were imported without a time have 0.
        return min((secret.created_ms for secret in in_use if secret.created_ms), default=0)

    def covers(self, judged: bytes, seen: bytes | None) -> bool:
        """Whether a judgement by the version `judged` holds for a batch that saw `seen`."""
        if judged == seen:
            return True
        if seen is None:
            return False
        return Version.parse(judged).covers(_parse(seen))

    async def reach(self, seen: bytes | None) -> None:
        """Wait until the directory is at least as new as `seen`; Unavailable if that cannot be had soon."""
        if seen == self.current and seen is not None:
            return
        if seen is None:
            self._forget()
            raise Unavailable("The client directory is being built.")
        wanted = _parse(seen)
        if self._version is not None and self._version.covers(wanted):
            return
        arrived: Promise[None] = Promise()
        self._waiting.append((wanted, arrived, asyncio.get_running_loop().time() + CATCH_UP_SECONDS))
        self._reload()
        await arrived

    def start(self) -> None:
        """Load now and look for changes once a second from now on."""
        self._ticking = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Stop reloading and refuse whoever waits."""
        for task in (self._ticking, self._reloading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._settle(refuse_all=True)

    async def refresh(self) -> None:
        """Bring the directory up to date now; RedisError if Redis is out of reach."""
        text = await self._redis.get(HOME_VERSION)
        if text is None:
            self._forget()
            return
        version = _parse(text)
        if self._version is not None and self._version.covers(version):
            return
        if self._version is None or self._version.incarnation != version.incarnation or not await self._follow(version):
            await self._load(version)

    async def _tick(self) -> None:
        while True:
            self._reload()
            await asyncio.sleep(TICK_SECONDS)
            self._settle()

    def _reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload_until_settled())

    async def _reload_until_settled(self) -> None:
        try:
            while True:
                await self.refresh()
                self._settle()
                if not self._waiting:
                    return
                # Someone saw a newer version than the one just read: read again, as often as that happens.
                await asyncio.sleep(0.005)
        except (RedisError, OSError, TimeoutError, Unavailable) as error:
            log.warning("directory could not be read", error=str(error))
        except (UnknownForm, Malformed) as error:
            log.error("directory cannot be understood", error=str(error))
            self._forget()
        self._settle(refuse_all=True)

    async def _load(self, version: Version) -> None:
        """Read every record. The version was read before, so the records are at least as new as it."""
        records: dict[str, KnownClient] = {}
        revisions: dict[str, int] = {}
        cursor = 0
        while True:
            cursor, page = await self._redis.hscan(CLIENTS, cursor, count=PAGE)
            self._apply(page.items(), records, revisions)
            if cursor == 0:
                break
        after = await self._redis.get(HOME_VERSION)
        if after is None or _parse(after).incarnation != version.incarnation:
            raise Unavailable("The mirror was replaced while it was read.")
        self.clients, self._revisions = records, revisions
        self._set_version(version)
        self.full_reloads += 1
        log.info("directory loaded", clients=len(records), version=str(version))

    async def _follow(self, version: Version) -> bool:
        """Apply the changes since our version; False if the log does not reach back that far."""
        assert self._version is not None, "there is nothing to follow from"
        change = self._version.change
        while change < version.change:
            entries = await self._redis.xrange(LOG, min=f"{change + 1}-0", count=PAGE)
            changed = {}
            for entry_id, fields in entries:
                change += 1
                if entry_id != b"%d-0" % change:
                    return False
                changed[decode_change(fields[b"e"])] = True
            if not changed:
                return False
            ids = list(changed)
            records = await self._redis.hmget(CLIENTS, ids)
            present = [(client_id.encode(), record) for client_id, record in zip(ids, records, strict=True) if record is not None]
            # Without a version the directory was dropped while we asked: what is left in memory is not whole.
            if self._version is None or len(present) < len(ids):
                return False
            self._apply(present, self.clients, self._revisions)
            self._set_version(version._replace(change=change))
        return True

    @staticmethod
    def _apply(page: Iterable[tuple[bytes, bytes]], clients: dict[str, KnownClient], revisions: dict[str, int]) -> None:
        for raw_id, stored in page:
            record = decode_client(raw_id.decode("ascii"), stored)
            revisions[record.id] = record.revision
            if isinstance(record, Client):
                clients[record.id] = KnownClient(record)
            else:
                clients.pop(record.id, None)

    def _set_version(self, version: Version) -> None:
        self._version = version
        self.number = version.number
        self.current = str(version).encode("ascii")

    def _forget(self) -> None:
        if self._version is not None:
            log.warning("directory dropped: redis has no complete mirror")
        self._version = self.number = self.current = None
        self.clients, self._revisions = {}, {}

    def _settle(self, refuse_all: bool = False) -> None:
        """Let those go on whose version is reached, and refuse those who waited too long."""
        now = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, []
        for wanted, arrived, deadline in waiting:
            try:
                if self._version is not None and self._version.covers(wanted):
                    arrived.resolve(None)
                elif refuse_all or now >= deadline or self._version is None:
                    arrived.reject(Unavailable("The client directory is behind."))
                else:
                    self._waiting.append((wanted, arrived, deadline))
            except Exception:
                # One caller's continuation failed; the others go on all the same.
                log.exception("a caller of the directory failed")


def _parse(text: bytes) -> Version:
    try:
        return Version.parse(text)
    except ValueError as error:
        raise Unavailable("The directory's version cannot be read.") from error
