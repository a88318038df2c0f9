"""Reference: a bare uvloop protocol with one fixed answer, the least that Python can do for a request."""

import asyncio
import sys

import httptools
import uvloop

BODY = (
    b'{"active":true,"valid":true,"client_id":"bench","scope":"read write","scopes":["read","write"],'
    b'"token_type":"Bearer","iat":1790000000,"exp":1790003600,"jti":"AAAAAAAAAAAAAAAAAAAAAAAAAAA"}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Canned(asyncio.Protocol):
    """Parses each request with httptools and looks at nothing of it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
