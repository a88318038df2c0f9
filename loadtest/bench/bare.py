"""Reference: a good validate and nothing around it, the least that Python takes for one that asks Redis.

It refuses nothing, keeps no order, counts nothing and bounds nothing; what it does is what the service does for the same answer.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable

import hiredis
import uvloop

from authsvc.credentials import TokenKeys, base64url
from authsvc.live.connection import VERSION_COMMAND
from authsvc.live.forms import decode_token
from authsvc.live.keys import token_key
from authsvc.model import TokenValue
from bench.bed import EPOCH, INCARNATION, KEY

ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 12:00:00 GMT\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
    b"x-auth-client: %b\r\nx-auth-scope: %b\r\nx-request-id: 0123456789ab-%x\r\ncontent-length: %d\r\n\r\n%b"
)
BODY = b'{"active":true,"valid":true,"client_id":"%b","scope":"%b","scopes":["%b"],"token_type":"Bearer","iat":%d,"exp":%d,"jti":"%b"}'
Found = Callable[[bytes], None]


class Redis(asyncio.Protocol):
    """All that is asked in a turn of the event loop, in one write behind the version."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[Found | None] = deque()
        self._commands: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get(self, key: bytes, found: Found) -> None:
        """Have `found` called with the value."""
        if not self._commands:
            asyncio.get_running_loop().call_soon(self._flush)
            self._commands.append(VERSION_COMMAND)
            self._waiting.append(None)
        self._commands.append(b"*2\r\n$3\r\nGET\r\n$24\r\n" + key + b"\r\n")
        self._waiting.append(found)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._commands))  # type: ignore[attr-defined]
        self._commands.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            found = self._waiting.popleft()
            if found is not None:
                found(reply)


class Bare(asyncio.Protocol):
    """Takes whatever comes for `POST /validate` of a form with a good token."""

    number = 0

    def __init__(self, keys: TokenKeys, redis: Redis) -> None:
        self._keys, self._redis = keys, redis

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        name = self._keys.name(data[data.find(b"\r\n\r\n") + 10 :])
        if name is None:
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")  # type: ignore[attr-defined] # who asks whether it is there
        else:
            self._name = name
            self._redis.get(token_key(name), self._found)

    def _found(self, reply: bytes) -> None:
        value = decode_token(reply)
        assert isinstance(value, TokenValue)
        assert (value.incarnation, value.epoch) == (INCARNATION, EPOCH)
        client, scope, issued = value.client_id.encode(), value.scope.encode(), value.issued_seconds
        scopes = scope.replace(b" ", b'","')
        body = BODY % (client, scope, scopes, issued, issued + value.ttl_seconds, base64url(self._name))
        Bare.number += 1
        self._transport.write(ANSWER % (client, scope, Bare.number, len(body), body))  # type: ignore[attr-defined]


async def main(port: int, redis_port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    _, redis = await loop.create_connection(Redis, "127.0.0.1", redis_port)
    keys = TokenKeys(KEY.encode())
    server = await loop.create_server(lambda: Bare(keys, redis), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
