"""The survey: one look at everything in Redis that tells how far it has come and how much it holds, read in one turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from authsvc.errors import Unavailable
from authsvc.live.connection import NoSuchKey
from authsvc.live.forms import Malformed
from authsvc.live.keys import BEAT, HOME_VERSION, POISON, STREAMS, VOUCHED
from authsvc.live.scripts import BEAT_ON, pack
from authsvc.model import StreamMark, Version

Ask = Callable[[bytes, int], Awaitable[Any]]
"""Asks Redis some packed commands, so many in number; the reply is a list of theirs, an Unavailable in a failed one's place."""

_NOWHERE = StreamMark("0-0", 0)
_INFO = pack(b"INFO", b"server", b"keyspace", b"memory", b"stats", b"replication")
_STATE = pack(b"GET", HOME_VERSION) + pack(b"GET", VOUCHED) + pack(b"TIME")
BEAT_MARK = BEAT.decode("ascii")
"""The beat among the marks: its number as the entries that were added, and the time at which it was reached as the last id."""
_SHARDS = len(STREAMS)


class Survey(NamedTuple):
    """What one look showed.

    `run_id` names the server's process, and `vouched` the last one that a writer compared with the record store. `version`
    is home's. `marks` says how far each stream, and the beat, had come. `token_keys` counts what ends by itself: tokens
    and tombstones. `memory_bytes` is in use, of `memory_limit_bytes` at most: the server's own limit, else its machine's memory.
    `evicted_keys` were dropped since the server started, `replicas` follow it, and `time_seconds` is its clock.
    """

    run_id: str
    vouched: str
    version: Version | None
    marks: dict[str, StreamMark]
    backlog_entries: int
    backlog_age_seconds: float
    poison_entries: int
    token_keys: int
    memory_bytes: int
    memory_limit_bytes: int
    evicted_keys: int
    replicas: int
    time_seconds: float


async def take_survey(ask: Ask, *, beat_from: int | None = None) -> Survey:
    """Look once; Unavailable if any part of it cannot be had, Malformed if the version is none.

    With `beat_from`, the beat that the caller noted last, the beat is moved on unless it is behind that: so whoever was told
    of it knows any copy made earlier by its smaller number, however quiet the streams are. Only who has judged the data
    may do it: the beat of an older copy, moved on often enough, would pass for the newest.
    """
    # By its text: the server compiles it once, and a lost script needs no second round.
    beaten = pack(b"GET", BEAT) if beat_from is None else BEAT_ON.fallback((BEAT,), beat_from)
    streams = b"".join(pack(b"XINFO", b"STREAM", stream) for stream in STREAMS)
    poison = b"".join(pack(b"XLEN", stream) for stream in POISON)
    command = beaten + _INFO + _STATE + poison + streams
    replies = await ask(command, 5 + 2 * _SHARDS)
    return _understood(replies)


def _understood(replies: list[Any]) -> Survey:
    beat, info, version, vouched, now, *others = replies
    poison, streams = others[:_SHARDS], [_stream(reply) for reply in others[_SHARDS:]]
    for reply in (beat, info, version, vouched, now, *poison):
        if isinstance(reply, Unavailable):
            raise reply
    fields = dict(line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
    oldest_ms = min((first for *_, first in streams if first is not None), default=now_ms)
    try:
        found = None if version is None else Version.parse(version)
    except ValueError as error:
        raise Malformed("the directory's version") from error
    return Survey(
        run_id=fields["run_id"],
        vouched=(vouched or b"").decode("ascii", "replace"),
        version=found,
        marks={
            BEAT_MARK: _beat(beat),
            **{name.decode("ascii"): mark for name, (mark, _, _) in zip(STREAMS, streams, strict=True)},
        },
        backlog_entries=sum(length for _, length, _ in streams),
        backlog_age_seconds=max(0, now_ms - oldest_ms) / 1000,
        poison_entries=sum(poison),
        token_keys=sum(_expiring(value) for name, value in fields.items() if name.startswith("db")),
        memory_bytes=int(fields["used_memory"]),
        memory_limit_bytes=int(fields["maxmemory"]) or int(fields["total_system_memory"]),
        evicted_keys=int(fields["evicted_keys"]),
        replicas=int(fields["connected_slaves"]),
        time_seconds=int(now[0]) + int(now[1]) / 1e6,
    )


def _beat(reply: bytes | None) -> StreamMark:
    """`<ms>-<number>`; whatever else stands there is no beat."""
    milliseconds, _, number = (reply or b"").partition(b"-")
    return StreamMark(f"{int(milliseconds)}-0", int(number)) if milliseconds.isdigit() and number.isdigit() else _NOWHERE


def _stream(reply: Any) -> tuple[StreamMark, int, int | None]:
    """A stream's mark, its length, and when its first entry was made; a missing stream has come nowhere."""
    if isinstance(reply, NoSuchKey):
        return _NOWHERE, 0, None
    if isinstance(reply, Unavailable):
        raise reply
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    first = fields[b"first-entry"]
    mark = StreamMark(fields[b"last-generated-id"].decode("ascii"), fields[b"entries-added"])
    return mark, fields[b"length"], int(first[0].split(b"-")[0]) if first else None


def _expiring(keyspace: str) -> int:
    """`expires` of one line of `INFO keyspace`, such as `keys=3,expires=2,avg_ttl=0`."""
    return int(dict(part.split("=") for part in keyspace.split(","))["expires"])
