"""Real servers for tests: Redis, a TCP proxy that can cut, and the service's own processes; all on loopback, all ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import redis

from localstack.ports import free_base_port
from localstack.servers import find_redis

TOKEN_KEY = "k3Vt9wQzX1pLr8sYbN5mHc2jDf7gAe4U"
SECRETS = re.compile(
    r"(?:(?<![A-Za-z0-9_])|(?<=\\n))[ao]t_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"
    r"|(?<![A-Za-z0-9_/-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_/-])"
    r"|Basic [A-Za-z0-9+/=]{16}|\b[a-z]+-secret\b(?![-_])"
    rf"|{TOKEN_KEY}"
)
"""What a token or a client's secret looks like, credentials in a header, the secrets of `one_instance`, and the key of all tests."""
DEADLINE_SECONDS = 20.0
SLOTS = 16384
"""Of every Redis Cluster."""


PROCESSES = 4
"""Of pytest at the same time, at most (scripts/test)."""
PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
# Below those that the kernel lends to whoever connects, and those of local stacks (localstack/ports.py); a share for each process.
_SHARE = range(2000 + PROCESS, 10_000, PROCESSES)
_ports = itertools.cycle(random.sample(_SHARE, len(_SHARE)))


def free_port() -> int:
    """A port of loopback that nobody listens on, and that no other test was given for long."""
    for port in _ports:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("ports never end")


def free_stack_port(instances: int) -> int:
    """The first port of a local stack, which no other process of pytest takes at the same time."""
    while True:
        port = free_base_port(instances)
        if port // 300 % PROCESSES == PROCESS:
            return port


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Ask until the answer is true; AssertionError with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.02)


def runs(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and only waits for its parent, or for init, to reap it does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class RedisServer:
    """A Redis-compatible server; its files stay in `folder`, so that it can be killed and started again."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> RedisServer:
        persistence = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", "")
        command = [str(find_redis().path), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *persistence, *self.options], stdout=log, stderr=log)
        wait_until(self._answers, "redis answers")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"redis ended: {(self.folder / 'log').read_text()[-500:]}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The process is stopped, and goes on at the end: connections are there, and new ones are taken by the kernel."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(DEADLINE_SECONDS)


class RedisCluster:
    """Masters without replicas that share the slots evenly. Who has the port of any finds the others."""

    ports: ClassVar[set[int]] = set()
    """Ports of all masters that run: what listens there is a cluster's."""

    def __init__(self, folder: Path, masters: int, *options: str) -> None:
        # A master that is away is to be noticed by those that ask it, not by its peers: each story lasts a few seconds.
        own = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--cluster-require-full-coverage", "no")
        self.masters = [
            RedisServer(folder / f"master-{number}", *own, "--cluster-port", str(free_port()), *options) for number in range(masters)
        ]

    @property
    def port(self) -> int:
        return self.masters[0].port

    @property
    def url(self) -> str:
        return self.masters[0].url

    def start(self) -> RedisCluster:
        self.ports.update(master.port for master in self.masters)
        for master in self.masters:
            master.start()
        for number, master in enumerate(self.masters):
            with self.ask(master) as client:
                bounds = [place * SLOTS // len(self.masters) for place in (number, number + 1)]
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with self.ask(self.masters[0]) as client:
            for master in self.masters[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", master.port, master.options[master.options.index("--cluster-port") + 1])
        wait_until(lambda: all(self._knows_all(master) for master in self.masters), "the masters know each other")
        return self

    def _knows_all(self, master: RedisServer) -> bool:
        with self.ask(master) as client:
            facts = client.execute_command("CLUSTER INFO").decode()
            known = client.execute_command("CLUSTER SLOTS")
        return "cluster_state:ok" in facts and len(known) == len(self.masters)

    @contextlib.contextmanager
    def ask(self, master: RedisServer) -> Iterator[Any]:
        """A connection to one master."""
        with redis.Redis(port=master.port, socket_timeout=5, protocol=2, legacy_responses=True) as client:
            client.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
            client.set_response_callback("CLUSTER INFO", lambda reply, **_: reply)
            yield client

    def kill(self) -> None:
        for master in self.masters:
            master.kill()
        self.ports.difference_update(master.port for master in self.masters)

    def stop(self) -> None:
        for master in self.masters:
            master.stop()
        self.ports.difference_update(master.port for master in self.masters)


class TcpProxy:
    """A TCP proxy to `target_port` that can be cut: living connections are reset and new ones refused until `mend`."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = target_host, target_port
        self.port = free_port()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for pair in self._pairs:
            for end in pair:
                with end, contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._pairs.append((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class ServiceProcess:
    """One `authsvc` process (serve or write) with settings of its own; its log is a file."""

    def __init__(self, folder: Path, command: str, **settings: str | int | float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.management_port = free_port(), free_port()
        self.log_file = folder / f"{command}-{self.port}.log"
        self._command = command
        values: dict[str, str | int | float] = {
            "AUTH_TOKEN_KEY": TOKEN_KEY,
            "AUTH_PORT": self.port,
            "AUTH_MANAGEMENT_PORT": self.management_port,
            "AUTH_DRAIN_SECONDS": 0.2,
            **{f"AUTH_{name.upper()}": value for name, value in settings.items()},
        }
        self.environ = {name: str(value) for name, value in values.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self) -> ServiceProcess:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "authsvc", self._command],
                env={**service_environ(), **self.environ},
                stdout=log,
                stderr=log,
            )
        return self

    def assert_runs(self) -> None:
        """It has not ended."""
        assert self.process.poll() is None, f"ended: {self.log_file.read_text()[-2000:]}"

    def ready(self) -> bool:
        self.assert_runs()
        try:
            with urllib.request.urlopen(f"{self.management_url}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait_ready(self) -> ServiceProcess:
        wait_until(self.ready, f"authsvc {self._command} is ready")
        return self

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged, every line of it JSON; what follows the last line's end is still being written."""
        return [json.loads(line) for line in self.log_file.read_text().rpartition("\n")[0].splitlines()]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_SECONDS)
        assert code != -signal.SIGSEGV, f"crashed: {self.log_file.read_text()[-2000:]}"
        assert_tells_no_secret(self.log_file)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        assert_tells_no_secret(self.log_file)


def assert_tells_no_secret(log_file: Path) -> None:
    """Whatever a test did with a process: its log holds no token, no secret that the service made, and not the key."""
    assert_holds_no_secret(log_file.name, log_file.read_text(encoding="utf-8", errors="replace"))


def assert_holds_no_secret(name: str, text: str) -> None:
    """The same of what was logged elsewhere."""
    found = SECRETS.findall(text)
    assert not found, f"{name} holds what nobody may read: {found[:3]}"


def service_environ() -> dict[str, str]:
    """The environment of a service process without any `AUTH_*` of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTH_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parent.parent / "service")}


def run_command(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run `authsvc WORDS` and return what it printed; the caller judges the exit code."""
    command = [sys.executable, "-m", "authsvc", *words]
    return subprocess.run(command, env={**service_environ(), **environ}, capture_output=True, text=True, timeout=60, check=False)


def run_json(environ: dict[str, str], *words: str) -> Any:
    """Run `authsvc WORDS --json`, which must succeed, and return what it printed."""
    done = run_command(environ, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def running(*servers: Any) -> Iterator[None]:
    """End these servers (by their `stop`) whatever happens."""
    try:
        yield
    finally:
        for server in reversed(servers):
            server.stop()
