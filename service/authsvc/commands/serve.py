"""`authsvc serve`: gunicorn with its settings, its worker and the two sockets of an instance."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server, ServerState
from uvicorn_worker import UvicornWorker

from authsvc import logs
from authsvc.commands import worker_metrics
from authsvc.commands.instance import Instance
from authsvc.errors import OperatorError
from authsvc.http.lane import LaneProtocol
from authsvc.http.listener import Listener
from authsvc.http.protocol import WireProtocol, lacking
from authsvc.http.proxied import ProxiedProtocol, ProxyRefusals
from authsvc.http.response import CLOSE
from authsvc.settings import Settings

BACKLOG = 4096
MOST_FILES = 65536
"""Open files that a worker asks for where its limit is lower."""
RESERVED_FILES = 64
"""Of the open files that a worker may have, those that clients never get: for Redis, the management port and the logs."""
REQUEST_MARGIN_SECONDS = 5
"""Beyond the drain: time for requests in flight before a worker is killed."""
LOADING_SECONDS = 1.0
"""How long a worker that starts waits for its client directory before it accepts requests all the same."""
NEWCOMER_SECONDS = 1.0
"""At the end of the drain: how long a connection without a request may still bring its first."""
HANDSHAKE_SECONDS = 0.05
"""At the end of the drain: how long a connection that has begun may take to become whole."""
GARBAGE_OBJECTS = 10_000
"""Objects made since the last look for garbage that bring about the next."""
_PR_SET_PDEATHSIG = 1
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")

log = structlog.get_logger(__name__)


def worker_count(workers: int | str, limit_file: Path = _CGROUP_LIMIT) -> int:
    """The number of workers; `auto` is one for each whole CPU of the cgroup's limit, at least one."""
    if isinstance(workers, int):
        return workers
    if limit_file.exists():
        quota, period = limit_file.read_text(encoding="ascii").split()
        if quota != "max":
            return max(1, int(quota) // int(period))
    return len(os.sched_getaffinity(0))


class JsonLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger, writing our JSON lines."""

    def setup(self, cfg: Any) -> None:
        """Replace gunicorn's handlers; requests are logged by the front, never here."""
        super().setup(cfg)
        self.error_log.handlers = [logs.handler()]
        self.access_log.handlers = []


class DrainingServer(Server):
    """On SIGTERM readiness turns red at once, and listening ends only after the drain; whoever had connected is answered."""

    def __init__(self, config: Config, instance: Instance, settings: Settings, master_stops: mmap.mmap) -> None:
        super().__init__(config)
        self._loop = asyncio.get_running_loop()
        self._instance = instance
        self._drain_seconds = settings.drain_seconds
        self._make_public = self._make_proxied if settings.proxy_protocol else self._make_protocol
        self._proxy_refusals = ProxyRefusals()
        self._drained_at: float | None = None
        self._master_stops = master_stops

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn starts, but with listeners that can pause and be emptied."""
        assert sockets is not None, "gunicorn hands over the sockets"
        await super().startup(sockets=[])
        if self.should_exit:
            return
        # What was made until here stays; looking through it again and again for garbage would be a tenth of a request's cost.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS, 20, 100)
        by_port = {listening.getsockname()[1]: listening for listening in sockets}
        self._listen(by_port.pop(self._instance.management_port), self._make_protocol)
        # Other workers on the same socket are ready already; but when Redis is away, somebody must say so.
        await self._instance.loaded(LOADING_SECONDS)
        most_connections = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES

        def has_room(arriving: int) -> bool:
            return len(self.server_state.connections) + arriving < most_connections

        [public] = [self._listen(listening, self._make_public, has_room) for listening in by_port.values()]
        self._instance.admission.on_pressure = lambda pressed: public.pause() if pressed else public.resume()

    def _listen(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        has_room: Callable[[int], bool] = lambda arriving: True,
    ) -> Listener:
        listener = Listener(listening, make_protocol, has_room)
        self.servers.append(listener)  # type: ignore[arg-type] # uvicorn only closes them
        return listener

    def _make_protocol(self) -> HttpToolsProtocol:
        protocol_class: type[HttpToolsProtocol] = self.config.http_protocol_class  # type: ignore[assignment] # as `_serve` set it
        return protocol_class(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _make_proxied(self) -> asyncio.Protocol:
        return ProxiedProtocol(self._make_protocol(), self._proxy_refusals)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, give those who came last the time to ask, and let uvicorn finish."""
        self._instance.drain()
        listeners: list[Listener] = self.servers  # type: ignore[assignment]
        # A worker that is only replaced shares its sockets with those that go on.
        if self._master_stops[0]:
            for listener in listeners:
                listener.begin_no_more()
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for listener in listeners:
            listener.close()
        for listener in listeners:
            await listener.wait_closed()
        newcomers = self._connections()
        deadline = time.monotonic() + NEWCOMER_SECONDS
        while any(newcomer.is_new for newcomer in newcomers) and time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in a signal handler; a second signal, or any other than SIGTERM, ends at once."""
        if sig != signal.SIGTERM or self._drain_seconds <= 0 or self._drained_at is not None:
            super().handle_exit(sig, frame)
            return
        self._instance.drain()
        # Every answer from now on asks the balancer to come again on another connection, to another instance. uvicorn makes
        # the default headers anew each second from the configured ones.
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        self._drained_at = time.monotonic() + self._drain_seconds
        self._loop.call_soon_threadsafe(self._say_close)

    def _say_close(self) -> None:
        for connection in self._connections():
            connection.say_close()

    def _connections(self) -> list[WireProtocol | ProxiedProtocol]:
        return [connection for connection in self.server_state.connections if isinstance(connection, (WireProtocol, ProxiedProtocol))]

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's tick, ten times a second."""
        if self._drained_at is not None and time.monotonic() >= self._drained_at:
            self.should_exit = True
        return await super().on_tick(counter)


class InstanceWorker(UvicornWorker):  # type: ignore[misc]
    """A gunicorn worker that serves one Instance and does not outlive its master."""

    CONFIG_KWARGS = {  # noqa: RUF012 - the attribute's shape is the base class's
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        settings: Settings = self.cfg.settings_of_instance
        self.config.load()
        self.config.http_protocol_class = _protocol(self.config, settings.fast_lane)
        server = DrainingServer(self.config, self.wsgi, settings, self.cfg.master_stops)
        # gunicorn's quick stop; the base class's handler would only set a flag that uvicorn never looks at.
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None)
        await server.serve(sockets=self.sockets)
        if not server.started:
            raise SystemExit(3)


def _protocol(config: Config, fast_lane: bool) -> type[HttpToolsProtocol]:
    """Ours, where this uvicorn has what they are made of; else its own, which is slower and sheds nothing, but serves."""
    missing = lacking(HttpToolsProtocol(config, ServerState(), {}))
    if missing:
        log.error("this release of uvicorn does not fit: requests take its own way, slower and without shedding", missing=missing)
        return HttpToolsProtocol
    return LaneProtocol if fast_lane else WireProtocol


def _die_with_master(worker: Any) -> None:
    """A worker whose master was killed would hold the port for nobody: the kernel ends it (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker.ppid:
        os._exit(1)


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master, which tells its workers when it is not only replacing them."""

    def stop(self, graceful: bool = True) -> None:
        """Stop the workers; nobody has the sockets after them, unless another master took over."""
        if self.reexec_pid == self.master_pid == 0:
            self.cfg.master_stops[0] = 1
        super().stop(graceful)


class InstanceServer(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured from our settings alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings, all in this place."""
        settings = self._settings
        options: dict[str, Any] = {
            "bind": [f"{settings.host}:{settings.port}", f"{settings.management_host}:{settings.management_port}"],
            "workers": worker_count(settings.workers),
            "worker_class": InstanceWorker,
            "logger_class": JsonLogger,
            "loglevel": settings.log_level,
            "keepalive": settings.keep_alive_seconds,
            "graceful_timeout": int(settings.drain_seconds) + REQUEST_MARGIN_SECONDS,
            "timeout": 30,
            "backlog": BACKLOG,
            "child_exit": lambda arbiter, worker: worker_metrics.forget_worker(worker.pid),
            "on_exit": lambda arbiter: worker_metrics.forget_all(),
            "post_fork": lambda arbiter, worker: _die_with_master(worker),
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108 - heartbeats must not wait for a disk
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)
        self.cfg.settings_of_instance = settings
        self.cfg.master_stops = mmap.mmap(-1, 1)
        self.cfg.log_level = logs.LogLevel(settings.log_level)

    def run(self) -> None:
        """Be the master until a signal ends it."""
        Master(self).run()

    def load(self) -> Any:
        """Build the application, in each worker after the fork."""
        return Instance(self._settings, self.cfg.log_level)


def _check_port(host: str, port: int) -> None:
    """gunicorn would try a port in use five times and say so in as many lines."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise OperatorError(f"Port {host}:{port} cannot be opened: {error.strerror}.") from error


def _raise_file_limit() -> None:
    """The soft limit is often 1024, of which each client needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(settings: Settings) -> None:
    """Serve until a signal ends it."""
    settings.issuing_key()
    for host, port in ((settings.host, settings.port), (settings.management_host, settings.management_port)):
        _check_port(host, port)
    if worker_metrics.prepare(worker_count(settings.workers)):
        # prometheus-client looks at the variable when it is imported, so the command begins again with it set.
        os.execv(sys.executable, [sys.executable, "-m", "authsvc", "serve"])  # noqa: S606 - no shell is wanted
    _raise_file_limit()
    log.info("serving", public=f"{settings.host}:{settings.port}", management=f"{settings.management_host}:{settings.management_port}")
    InstanceServer(settings).run()
