"""The bed of a bench: Redis with one client in its directory on one core, one instance of the service pinned to the other."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from redis.exceptions import RedisError

from authsvc.credentials import new_secret, secret_digest
from authsvc.live.connect import connect_redis
from authsvc.live.mirror import Mirror
from authsvc.model import Client, Secret
from authsvc.settings import read_settings
from bench.processes import LOAD_CORE, SERVICE_CORE, BenchError, Process, free_port
from localstack.layout import stack_ports
from localstack.servers import find_redis

KEY = "bench-4Jq7ZxW2mV9sT1yLr8Kc3pNd6f"
CLIENT_ID, EPOCH, INCARNATION = "bench", 1, 1
"""What the tokens of a bench say of themselves."""
START_SECONDS = 10.0
MOST_INSTANCES = 4


class Bed:
    """What runs, and how to start more beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis_port, self.port, self.management_port, self.writer_port = (free_port() for _ in range(4))
        self.secret = new_secret()
        self.processes: list[Process] = []

    @property
    def url(self) -> str:
        """The service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def authorization(self) -> str:
        """HTTP Basic of the one client."""
        return "Basic " + base64.b64encode(f"{CLIENT_ID}:{self.secret}".encode()).decode()

    def start(self, core: int, name: str, *command: str, **environ: str) -> Process:
        """Start a process pinned to a core; it ends with the bed."""
        process = Process(command, core, self.folder / f"{name}.log", environ)
        self.processes.append(process)
        return process

    def start_all(self) -> Process:
        """Start Redis, put the client into the directory, and start the service."""
        self.start_redis()
        self.build_mirror()
        return self.start_service()

    def build_mirror(self) -> None:
        """Put the client into the directory of the instances."""
        asyncio.run(self._mirror())

    def free_ports(self) -> int:
        """The first of some that nobody listens on, as a stack of instances takes them."""
        while True:
            first = free_port()
            if all(_is_free(port) for port in stack_ports(first, MOST_INSTANCES)):
                return first

    def start_redis(self) -> None:
        """Start Redis, and let the environment name it and all that the commands need."""
        self.name_redis()
        command = [*self.redis_command(self.redis_port), "--dir", str(self.folder)]
        self.start(LOAD_CORE, "redis", *command).wait_for_port(self.redis_port)

    def name_redis(self) -> None:
        """Let the environment name Redis and all that the commands need."""
        os.environ |= {"AUTH_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0", "AUTH_TOKEN_KEY": KEY, "AUTH_DRAIN_SECONDS": "0"}
        os.environ |= {"AUTH_PORT": str(self.port), "AUTH_MANAGEMENT_PORT": str(self.management_port)}

    @staticmethod
    def redis_command(port: int) -> list[str]:
        """A Redis that keeps data as in production, but for the folder."""
        persistence = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
        return [str(find_redis().path), "--bind", "127.0.0.1", "--port", str(port), *persistence]

    def start_service(self) -> Process:
        """Start an instance and wait until it is ready."""
        service = self.start(SERVICE_CORE, "service", sys.executable, "-m", "authsvc", "serve")
        service.wait_for(f"http://127.0.0.1:{self.management_port}/ready")
        return service

    def tokens(self, number: int, url: str | None = None, path: str = "/token") -> list[str]:
        """So many fresh tokens of the client."""
        with httpx.Client(base_url=url or self.url, headers={"Authorization": self.authorization}) as client:
            return [client.post(path, data={"grant_type": "client_credentials"}).json()["access_token"] for _ in range(number)]

    def stop(self) -> None:
        """End all, the last first."""
        for process in reversed(self.processes):
            process.stop()

    async def _mirror(self) -> None:
        secret = Secret(secret_digest(self.secret.encode()), 0)
        client = Client(CLIENT_ID, ("read", "write"), (secret,), epoch=EPOCH, revision=1)
        deadline = time.monotonic() + START_SECONDS
        while True:
            redis = connect_redis(read_settings())
            try:
                await Mirror(redis).build([client], INCARNATION, "bench")
                return
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise BenchError("Redis did not start.") from error
                await asyncio.sleep(0.05)
            finally:
                await redis.aclose()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def bed(folder: Path) -> Iterator[Bed]:
    """A bed that is empty and ends whatever is started in it."""
    made = Bed(folder)
    try:
        yield made
    finally:
        made.stop()
