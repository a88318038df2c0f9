"""Where the local stack lives: its folder, its files, its ports and the addresses that follow from them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from localstack.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_INSTANCES = 4
MAX_INSTANCES = 32
MANAGEMENT_OFFSET = 100
REDIS_OFFSET = 200
_UNSAFE = re.compile(r"""["'\\;#%$\x00-\x1f]""")
_SOCKET_PATH_BYTES = 100
"""A Unix socket's path has 107 bytes on Linux and 103 on macOS."""


class Balancer(StrEnum):
    """What nginx passes on: requests, or connections (docs/balancer.md)."""

    HTTP = "http"
    STREAM = "stream"


@dataclass(frozen=True)
class Layout:
    """Every path and address of one stack. `run_dir` is absolute."""

    run_dir: Path
    port: int = DEFAULT_PORT
    instances: int = DEFAULT_INSTANCES
    balancer: Balancer = Balancer.HTTP

    def __post_init__(self) -> None:
        for path in (self.run_dir, ROOT):
            if unsafe := _UNSAFE.search(str(path)):
                raise StackError(f"The path {path} holds {unsafe[0]!r}, which configuration files cannot: use another folder.")
        if len(bytes(self.control_socket)) > _SOCKET_PATH_BYTES:
            raise StackError(f"The path {self.run_dir} is too long for a Unix socket: name a shorter folder with --run-dir.")
        if not 1 <= self.instances <= MAX_INSTANCES:
            raise StackError(f"The number of instances must be 1 to {MAX_INSTANCES}.")
        if not 1 <= self.port <= 65535 - REDIS_OFFSET:
            raise StackError(f"The port must be 1 to {65535 - REDIS_OFFSET}, because the {REDIS_OFFSET} above it are used too.")

    @property
    def instance_ports(self) -> list[int]:
        """The public ports of the instances."""
        return [self.port + number for number in range(1, self.instances + 1)]

    @property
    def instance_management_ports(self) -> list[int]:
        """The management ports of the instances, in the same order."""
        return [port + MANAGEMENT_OFFSET for port in self.instance_ports]

    @property
    def writer_management_port(self) -> int:
        """The management port of the writer."""
        return self.port + MANAGEMENT_OFFSET

    @property
    def redis_port(self) -> int:
        """The port of the Redis-compatible server."""
        return self.port + REDIS_OFFSET

    @property
    def ports(self) -> dict[int, str]:
        """Every port that the stack binds, and what for."""
        return stack_ports(self.port, self.instances)

    @property
    def base_url(self) -> str:
        """What a client talks to."""
        return f"http://{HOST}:{self.port}"

    @property
    def instance_urls(self) -> list[str]:
        """The instances behind nginx."""
        return [f"http://{HOST}:{port}" for port in self.instance_ports]

    @property
    def management_urls(self) -> list[str]:
        """One management URL an instance, then the writer's."""
        return [f"http://{HOST}:{port}" for port in (*self.instance_management_ports, self.writer_management_port)]

    @property
    def redis_url(self) -> str:
        """The shared store."""
        return f"redis://{HOST}:{self.redis_port}/0"

    @property
    def records_url(self) -> str:
        """The embedded record store."""
        return f"sqlite:///{self.data_dir / 'records.db'}"

    @property
    def data_dir(self) -> Path:
        """What outlives a restart: Redis's append-only file and the record store."""
        return self.run_dir / "data"

    @property
    def log_dir(self) -> Path:
        """One log file a process."""
        return self.run_dir / "log"

    @property
    def nginx_dir(self) -> Path:
        """nginx's prefix: copies of the files of `nginx/` and those that are this stack's own."""
        return self.run_dir / "nginx"

    @property
    def nginx_file(self) -> Path:
        """The file that nginx is started with."""
        return self.nginx_dir / {Balancer.HTTP: "nginx.conf", Balancer.STREAM: "stream.conf"}[self.balancer]

    @property
    def control_socket(self) -> Path:
        """Where supervisord listens."""
        return self.run_dir / "supervisor.sock"

    @property
    def state_file(self) -> Path:
        """What runs where, while it runs."""
        return self.run_dir / "stack.json"

    @property
    def token_key_file(self) -> Path:
        """The key that issues tokens; kept, so that tokens outlive a restart."""
        return self.run_dir / "token.key"

    @property
    def client_file(self) -> Path:
        """The demo client's ID and secret; kept, because the service shows a secret once."""
        return self.run_dir / "client.json"

    @property
    def env_file(self) -> Path:
        """The settings for `scripts/authsvc`, in a form that a shell can source."""
        return self.run_dir / "env"


def stack_ports(port: int, instances: int) -> dict[int, str]:
    """Every port of a stack with nginx on `port`, and what it is for."""
    numbers = range(1, instances + 1)
    return {
        port: "nginx",
        **{port + number: f"instance {number}" for number in numbers},
        port + MANAGEMENT_OFFSET: "the writer",
        **{port + MANAGEMENT_OFFSET + number: f"instance {number}" for number in numbers},
        port + REDIS_OFFSET: "redis",
    }


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner only."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def shell_lines(environment: dict[str, str]) -> str:
    """`NAME=value` lines that a shell can source."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())
