"""The survey: one look at everything in Redis that tells how far it has come and how much it holds, each master's part in one turn."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from authsvc.errors import Unavailable
from authsvc.live.forms import Malformed
from authsvc.live.keys import BEATS, POISON, STREAMS, VERSIONS, VOUCHES
from authsvc.live.masters import Master, joined
from authsvc.live.refusals import NoSuchKey, UnderWay
from authsvc.live.scripts import BEAT_ON, pack
from authsvc.model import StreamMark, Version

_NOWHERE = StreamMark("0-0", 0)
_INFO = pack(b"INFO", b"server", b"keyspace", b"memory", b"stats", b"replication")
_TIME = pack(b"TIME")
BEAT_MARKS = tuple(beat.decode("ascii") for beat in BEATS)
"""The beats among the marks: their numbers as the entries that were added, and the time at which each was reached as the last id."""
BEAT_MARK = BEAT_MARKS[0]


class Survey(NamedTuple):
    """What one look showed.

    `run_id` names the server's process (over a cluster: each master's), and `vouched` the last one that a writer compared with
    the record store. `version` is home's. `marks` says how far each stream, and the beat, had come; what is just moving
    to another master is not among them, nor counted. `token_keys` counts what ends by itself: tokens and tombstones.
    `memory_bytes` is in use, of `memory_limit_bytes` at most: the server's own limit, else its machine's memory.
    `evicted_keys` were dropped since the server started, `replicas` follow it (over a cluster: the master that has the
    fewest), and `time_seconds` is its clock (home's).
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


class PartlyAway(Unavailable):
    """Some masters of a cluster cannot be looked at; `found` is what the others showed, home among them."""

    def __init__(self, description: str, found: Survey) -> None:
        super().__init__(description)
        self.found = found


async def take_survey(masters: Sequence[Master], *, beats: Mapping[str, int] | None = None) -> Survey:
    """Look once; Unavailable if any part of it cannot be had (PartlyAway if home's was), Malformed if a version is none.

    With `beats`, those that the caller noted last, each of them is moved on unless it is behind that: so whoever was told
    of it knows any copy made earlier by its smaller number, however quiet the streams are. Only who has judged the data
    may do it: the beat of an older copy, moved on often enough, would pass for the newest.
    """
    parts = await asyncio.gather(*(survey_part(master, beats) for master in masters), return_exceptions=True)
    found: dict[Master, Survey] = {}
    away: Unavailable | None = None
    for master, part in zip(masters, parts, strict=True):
        if isinstance(part, Survey):
            found[master] = part
        elif isinstance(part, Unavailable):
            away = part
        else:
            raise part
    if away is None:
        return whole_of(list(found), list(found.values()))
    if any(master.lead == 0 for master in found):
        raise PartlyAway(away.description, whole_of(list(found), list(found.values()))) from away
    raise away


async def survey_part(master: Master, beats: Mapping[str, int] | None) -> Survey:
    """What one master shows; the version is that of its lead."""
    # By their text: the server compiles it once, and a lost script needs no second round.
    beaten = b"".join(
        pack(b"GET", BEATS[shard])
        if beats is None or BEAT_MARKS[shard] not in beats
        else BEAT_ON.fallback((BEATS[shard],), beats[BEAT_MARKS[shard]])
        for shard in master.beats
    )
    state = pack(b"GET", VERSIONS[master.lead]) + pack(b"GET", VOUCHES[master.lead]) + _TIME
    streams = b"".join(pack(b"XINFO", b"STREAM", STREAMS[shard]) for shard in master.shards)
    poison = b"".join(pack(b"XLEN", POISON[shard]) for shard in master.shards)
    replies = await master.ask(_INFO + state + beaten + poison + streams, 4 + len(master.beats) + 2 * len(master.shards))
    return _understood(replies, master)


def whole_of(masters: Sequence[Master], parts: Sequence[Survey]) -> Survey:
    """The survey of the store as a whole, of its masters' parts; the version is home's."""
    if len(parts) == 1:
        return parts[0]
    leads = [master.lead for master in masters]
    return Survey(
        run_id=joined({lead: part.run_id for lead, part in zip(leads, parts, strict=True)}),
        vouched=joined({lead: part.vouched for lead, part in zip(leads, parts, strict=True)}),
        version=parts[leads.index(0)].version,
        marks={name: mark for part in parts for name, mark in part.marks.items()},
        backlog_entries=sum(part.backlog_entries for part in parts),
        backlog_age_seconds=max(part.backlog_age_seconds for part in parts),
        poison_entries=sum(part.poison_entries for part in parts),
        token_keys=sum(part.token_keys for part in parts),
        memory_bytes=sum(part.memory_bytes for part in parts),
        memory_limit_bytes=sum(part.memory_limit_bytes for part in parts),
        evicted_keys=sum(part.evicted_keys for part in parts),
        replicas=min(part.replicas for part in parts),
        time_seconds=parts[leads.index(0)].time_seconds,
    )


def _understood(replies: list[Any], master: Master) -> Survey:
    info, version, vouched, now, *others = replies
    beats = dict(zip(master.beats, others, strict=False))
    poison = dict(zip(master.shards, others[len(beats) :], strict=False))
    infos = dict(zip(master.shards, others[len(beats) + len(poison) :], strict=True))
    # What moves with a beat of its own is left out until it has moved: the others' beats went on, and must be noted.
    for shard in master.beats:
        if any(isinstance(part[shard], UnderWay) for part in (beats, poison, infos)):
            del beats[shard], poison[shard], infos[shard]
    for reply in (info, version, vouched, now, *beats.values(), *poison.values()):
        if isinstance(reply, Unavailable):
            raise reply
    streams = {shard: _stream(reply) for shard, reply in infos.items()}
    fields = dict(line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
    oldest_ms = min((first for *_, first in streams.values() if first is not None), default=now_ms)
    try:
        found = None if version is None else Version.parse(version)
    except ValueError as error:
        raise Malformed("the directory's version") from error
    return Survey(
        run_id=fields["run_id"],
        vouched=(vouched or b"").decode("ascii", "replace"),
        version=found,
        marks={
            **{BEAT_MARKS[shard]: _beat(beat) for shard, beat in beats.items()},
            **{STREAMS[shard].decode("ascii"): mark for shard, (mark, _, _) in streams.items()},
        },
        backlog_entries=sum(length for _, length, _ in streams.values()),
        backlog_age_seconds=max(0, now_ms - oldest_ms) / 1000,
        poison_entries=sum(poison.values()),
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
