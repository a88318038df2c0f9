"""Live tokens in Redis: store, read, end and take back, each one batch or one atomic script."""

from __future__ import annotations

from authsvc.errors import Unavailable
from authsvc.live.cluster import Link
from authsvc.live.connection import Call
from authsvc.live.forms import Malformed, UnknownForm, decode_token, encode_event, encode_token
from authsvc.live.keys import STREAMS, TOKEN_PREFIXES, VERSIONS, shard, token_key
from authsvc.live.scripts import END, VOID
from authsvc.model import Event, TokenValue, Tombstone

DONE = b"done"
"""The token was alive and is ended now."""
STALE = b"stale"
"""The directory that the caller judged by is behind: nothing was done."""


_READS = tuple(b"*2\r\n$3\r\nGET\r\n$24\r\n" + prefix for prefix in TOKEN_PREFIXES)


class LiveTokens:
    """The tokens that are alive, and the tombstones of those that were ended before their time."""

    def __init__(self, pipeline: Link) -> None:
        self._shards = pipeline.shards

    def ask_version(self) -> Call:
        """Ask only how new the directory must be."""
        return self._shards[0].ask_version()

    def read(self, name: bytes) -> Call:
        """Ask for what is kept under a name; the reply goes to `decode`."""
        place = name[0] & 15
        return self._shards[place].call(_READS[place] + name + b"\r\n")

    def store(self, name: bytes, value: TokenValue, now_ms: int, request_id: bytes = b"") -> Call:
        """Store a token and its stream entry. Only two good replies (`stored`) mean that it is there."""
        key = token_key(name)
        token = encode_token(value)
        entry = encode_event(Event.ISSUED, name, now_ms, token)
        ttl = b"%d" % value.ttl_seconds
        place = shard(name)
        stream = STREAMS[place]
        return self._shards[place].call(
            b"*5\r\n$3\r\nSET\r\n$24\r\n%b\r\n$%d\r\n%b\r\n$2\r\nEX\r\n$%d\r\n%b\r\n"
            b"*7\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$1\r\n*\r\n$1\r\ne\r\n$%d\r\n%b\r\n$1\r\nr\r\n$%d\r\n%b\r\n"
            % (key, len(token), token, len(ttl), ttl, len(stream), stream, len(entry), entry, len(request_id), request_id),
            replies=2,
        )

    def void(self, name: bytes, value: TokenValue) -> Call:
        """Take back a token that nobody was given."""
        place = shard(name)
        return self._shards[place].run(VOID, (token_key(name), STREAMS[place]), encode_token(value))

    def end(self, name: bytes, event: Event, judged: bytes, owner: str = "", request_id: bytes = b"", by: str = "") -> Call:
        """Consume or revoke, unless the directory moved on since version `judged`: then the reply is STALE.

        With an `owner` only a token of that client. `request_id` and `by`, who it is where that is known, go into the entry.

        Other replies: `done`, `used`, `revoked`, `unknown`, `foreign` (the token is not the owner's: no effect).
        """
        place = shard(name)
        return self._shards[place].run(
            END,
            (token_key(name), STREAMS[place], VERSIONS[place]),
            judged,
            event.value.encode("ascii"),
            owner.encode("ascii"),
            request_id,
            by.encode("utf-8"),
        )


def stored(replies: list[object]) -> Unavailable | None:
    """None if both replies of a store are good, else why not."""
    for reply in replies:
        if isinstance(reply, Unavailable):
            return reply
    return None


def decode(reply: bytes | None) -> TokenValue | Tombstone | None:
    """What a read found. A form that we cannot read is no reason to say that the token is bad: Unavailable."""
    if reply is None:
        return None
    try:
        return decode_token(reply)
    except (UnknownForm, Malformed) as error:
        raise Unavailable("The token is kept in a form that this release cannot read.") from error
