"""Names of everything we keep in Redis, sharded over 16 hash tags from the first day."""

from __future__ import annotations

from binascii import crc_hqx

TAGS = (b"u0", b"qp", b"dj", b"wz", b"d2", b"pv", b"uh", b"iy", b"ly", b"h9", b"uv", b"q6", b"9s", b"qn", b"dt", b"ha")
"""Hash tags, the nth with its slot in the middle of the nth sixteenth of a Redis Cluster's 16384 slots: so they spread
evenly over 2, 4, 8 and 16 masters, and as evenly as 16 can over 3 and 6. Never to be changed: every stored key carries one."""

EVERY_SHARD = tuple(range(len(TAGS)))
SHARD_OF_SLOT = {crc_hqx(tag, 0) % 16384: shard for shard, tag in enumerate(TAGS)}
"""The slots of a Redis Cluster in which we keep anything."""

HOME = b"{" + TAGS[0] + b"}"
VERSIONS = tuple(b"{" + tag + b"}version" for tag in TAGS)
"""The directory's version in each tag: home's is raised first, a change is in force when the last one is."""
HOME_VERSION = VERSIONS[0]
STREAMS = tuple(b"{" + tag + b"}stream" for tag in TAGS)
"""The streams of token events, one a tag."""
POISON = tuple(b"{" + tag + b"}poison" for tag in TAGS)
"""Entries that can never be written, set aside, one stream a tag."""
CLIENTS = HOME + b"clients"
"""Hash of client id -> client record."""
LOG = HOME + b"log"
"""Change log: a stream whose ids are `change-0` without gaps; a gap means that it was trimmed."""
BUILD = HOME + b"build"
"""Mark of the build of a mirror that is going on."""
STORE = HOME + b"store"
"""Identity of the record store that the mirror came from, and the highest incarnation number ever begun."""

RECORDED = HOME + b"recorded"
"""How far the record store had come, by the marks in it: a copy of it that is older has less."""

VOUCHES = tuple(b"{" + tag + b"}vouched" for tag in TAGS)
"""`run_id` of the server process whose data a writer has compared with the record store: of each server under its lead tag."""
VOUCHED = VOUCHES[0]
BEATS = tuple(b"{" + tag + b"}beat" for tag in TAGS)
"""Numbers that every process moves on once a second: a copy of older data has a smaller one, however quiet the streams were.
Home's is enough for a single server; over a cluster each tag has its own, which moves with its slot."""
BEAT = BEATS[0]

TROUBLES = HOME + b"troubles"
"""Hash of writer -> what keeps it from its work."""

GROUP = b"writers"
"""Consumer group of every stream."""

TOKEN_PREFIXES = tuple(b"{" + tag + b"}" for tag in TAGS)


def shard(name: bytes) -> int:
    """Which of the 16 shards a token's name belongs to."""
    return name[0] & 15


def token_key(name: bytes) -> bytes:
    """The key of a token's value or tombstone: 24 bytes, its last 20 the name."""
    return TOKEN_PREFIXES[name[0] & 15] + name
