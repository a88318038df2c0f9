"""`scripts/bench memory`: Redis bytes per live access token, by storing many and looking at `used_memory`."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import redis.asyncio
from rich.console import Console
from rich.progress import track

from authsvc.credentials import TokenKeys
from authsvc.live.forms import encode_token
from authsvc.live.keys import token_key
from authsvc.model import Kind, TokenValue
from bench.processes import LOAD_CORE, Process, free_port
from localstack.servers import find_redis

PAGE = 5000
CLIENT_ID, SCOPE = "reporting-svc", "read:all write:all"
"""30 characters together, and one for the space between the two scopes."""


async def bytes_per_token(tokens: int, port: int, console: Console) -> float:
    """Store that many tokens with a TTL of an hour, as an issue does, and return what each of them costs."""
    client = redis.asyncio.Redis(port=port)
    keys = TokenKeys(b"-" * 32)
    try:
        before = int((await client.info("memory"))["used_memory"])
        now = int(time.time())
        for _ in track(range(0, tokens, PAGE), description="Storing", console=console, transient=True):
            async with client.pipeline(transaction=False) as pipe:
                for _ in range(PAGE):
                    _, name = keys.new(Kind.ACCESS)
                    pipe.set(token_key(name), encode_token(TokenValue("a", 12, CLIENT_ID, 123456, SCOPE, now, 3600)), ex=3600)
                await pipe.execute()
        stored = await client.dbsize()
        return (int((await client.info("memory"))["used_memory"]) - before) / stored
    finally:
        await client.aclose()


def measure(tokens: int, console: Console) -> dict[str, object]:
    """Measure on a Redis of our own; prints the figure with the server's name and returns it."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [str(find_redis().path), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        server = Process(command, LOAD_CORE, Path(folder) / "redis.log")
        try:
            server.wait_for_port(port)
            figure = asyncio.run(bytes_per_token(tokens, port, console))
        finally:
            server.stop()
    value = encode_token(TokenValue("a", 12, CLIENT_ID, 123456, SCOPE, 1790000000, 3600))
    console.print(f"{figure:.1f} bytes of Redis memory per live token")
    console.print(f"{tokens:,} tokens with values of {len(value)} bytes, {find_redis().version}")
    return {"tokens": tokens, "bytes_per_token": figure}
