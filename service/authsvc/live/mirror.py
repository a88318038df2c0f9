"""The mirror of the clients in Redis: guarded writes, the version that every tag carries, and builds from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from secrets import token_hex
from typing import Any, NamedTuple

from authsvc.errors import OperatorError
from authsvc.live.connect import RedisClient, masters_of
from authsvc.live.forms import Malformed, UnknownForm, decode_recorded, encode_change, encode_client, encode_recorded
from authsvc.live.keys import BUILD, CLIENTS, HOME_VERSION, LOG, RECORDED, STORE, VERSIONS, VOUCHED, VOUCHES
from authsvc.live.masters import apart
from authsvc.live.scripts import BUILD_ADD, BUILD_BEGIN, BUILD_CLOSE, BUILD_TAG, MIRROR, NOTE_RECORDED, RAISE, VOUCH, Script
from authsvc.model import Client, DeletedClient, Version, servable

LOG_LENGTH = 10_000
"""Changes that the log keeps at least; a directory further behind loads everything."""
PAGE = 500


class Put(StrEnum):
    """What became of a guarded write."""

    DONE = "done"
    REFUSED = "refused"
    INCOMPLETE = "incomplete"
    FORM = "form"


class PutResult(NamedTuple):
    """The outcome, home's version with it, and for a refusal the record that is held."""

    outcome: Put
    version: bytes = b""
    held: bytes = b""


class Origin(NamedTuple):
    """Where the mirror came from: the highest incarnation number ever begun, and the record store's identity."""

    number: int
    identity: str


class Mirror:
    """The clients' mirror, as the commands and the writer change it."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def _run(self, script: Script, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        return await self._redis.register_script(script.text)(keys=list(keys), args=list(args))

    async def versions(self) -> list[Version | None]:
        """The version of each tag, home's first."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in VERSIONS:
                pipe.get(key)
            return [None if text is None else Version.parse(text) for text in await pipe.execute()]

    async def origin(self) -> Origin:
        """What the mirror says of its record store; an identity of `-` or `` is nobody's."""
        text = await self._redis.get(STORE)
        if text is None:
            return Origin(0, "")
        form, _, rest = text.partition(b" ")
        if form.isdigit() and form != b"1":
            raise OperatorError("The mirror in Redis was written by a newer release.")
        number, _, identity = rest.partition(b" ")
        if not number.isdigit():
            return Origin(0, "")
        return Origin(int(number), identity.decode("ascii", "replace"))

    async def recorded(self) -> tuple[int, int]:
        """The newest incarnation and the sum of its marks that were seen in the record store; zeros before any."""
        stored = await self._redis.get(RECORDED)
        try:
            return (0, 0) if stored is None else decode_recorded(stored)
        except Malformed:
            return (0, 0)
        except UnknownForm as error:
            raise OperatorError("The mirror in Redis was written by a newer release.") from error

    async def note_recorded(self, number: int, total: int) -> None:
        """Note what was seen in the record store, unless more of it was seen already."""
        await self._run(NOTE_RECORDED, (RECORDED,), (number, total, encode_recorded(number, total)))

    async def put(self, records: Sequence[Client | DeletedClient]) -> list[PutResult]:
        """Write records, each unless one at least as new is held. In force only after `raise_versions`."""
        results = []
        for start in range(0, len(records), PAGE):
            page = records[start : start + PAGE]
            async with self._redis.pipeline(transaction=False) as pipe:
                script = self._redis.register_script(MIRROR.text)
                for record in page:
                    args = (record.id, encode_client(servable(record)), encode_change(record.id), LOG_LENGTH)
                    await script(keys=(CLIENTS, LOG, HOME_VERSION), args=args, client=pipe)
                replies = await pipe.execute()
            for record, reply in zip(page, replies, strict=True):
                outcome = Put(reply[0].decode("ascii"))
                if outcome is Put.FORM:
                    raise OperatorError(f"The mirror holds client {record.id} in a newer release's form: use that release.")
                results.append(PutResult(outcome, *reply[1:]))
        return results

    async def raise_versions(self, version: bytes) -> bool:
        """Raise every other tag to home's version; False if an incarnation ended meanwhile."""
        async with self._redis.pipeline(transaction=False) as pipe:
            script = self._redis.register_script(RAISE.text)
            for key in VERSIONS[1:]:
                await script(keys=(key,), args=(version,), client=pipe)
            replies = await pipe.execute()
        return all(reply == b"done" for reply in replies)

    async def drop(self) -> None:
        """Take the versions away, home's first: everyone answers 503 until a new incarnation is complete."""
        for key in VERSIONS:
            await self._redis.delete(key)

    async def vouch(self, run_id: str) -> None:
        """Say that the data of this server process (of all masters') was compared with the record store, and is not too old."""
        await _vouch(await masters_of(self._redis), apart(run_id))

    async def build(self, records: Sequence[Client | DeletedClient], number: int, identity: str) -> Version | None:
        """Make a whole mirror under a new incarnation; None if another build, or a flush, came between."""
        mark = token_hex(8)
        # Before everything else: should the server be another one at the end, nobody has vouched for that.
        masters = await masters_of(self._redis)
        run_ids = {lead: (await master.info("server"))["run_id"] for lead, master in masters.items()}
        await self.drop()
        await self._run(BUILD_BEGIN, (BUILD, CLIENTS, LOG, HOME_VERSION, STORE), (mark, number))
        for start in range(0, len(records), PAGE):
            args: list[str | bytes] = [mark]
            for record in records[start : start + PAGE]:
                args += [record.id, encode_client(servable(record))]
            if await self._run(BUILD_ADD, (BUILD, CLIENTS), args) != b"done":
                return None
        version = Version(number, token_hex(4), 0)
        for key in VERSIONS[1:]:
            if await self._run(BUILD_TAG, (key,), (str(version),)) != b"done":
                return None
        home_run_id = run_ids.pop(0)
        await _vouch(masters, run_ids)
        closing = (mark, len(records), str(version), number, identity, home_run_id)
        closed = await self._run(BUILD_CLOSE, (BUILD, CLIENTS, HOME_VERSION, STORE, VOUCHED), closing)
        return version if closed == b"done" else None


async def _vouch(masters: Mapping[int, RedisClient], run_ids: Mapping[int, str]) -> None:
    """Vouch for each process at its own master, by its lead: handed on, it would reach a process that nobody meant.

    A lead that is none any more is left out; the next pass sees which is.
    """
    for lead in masters.keys() & run_ids.keys():
        await masters[lead].register_script(VOUCH.text)(keys=[VOUCHES[lead]], args=[run_ids[lead]])
