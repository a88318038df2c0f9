"""supervisord: its configuration, how it is started, and what it is asked.

It is used because it starts a dead process again by itself, needs neither root nor a compiler, keeps and rotates the
logs, and is controlled through a Unix socket that only its owner may open.
"""

from __future__ import annotations

import http.client
import os
import resource
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any

from localstack.errors import StackError
from localstack.layout import ROOT, Layout
from localstack.leftovers import MARK
from localstack.servers import Server
from localstack.statefile import Pids

STOP_SECONDS = 15
"""How long a process may take to stop before it is killed."""
_CALL_SECONDS = 10.0
_FAILED = ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")
_MAX_FILES = 16384


def instance_names(instances: int) -> list[str]:
    """The names of the instances, as supervisord has them."""
    return [f"instances:instance-{number}" for number in range(1, instances + 1)]


def configuration(layout: Layout, redis: Server, nginx: Server) -> str:
    """Nothing but the listener starts by itself: the stack starts its processes in order. From then on each is kept alive."""
    names = [name.partition(":")[2] for name in instance_names(layout.instances)]
    ports = zip(names, layout.instance_ports, layout.instance_management_ports, strict=True)
    sections: dict[str, dict[str, object]] = {
        "supervisord": {
            "nodaemon": "true",
            "silent": "true",
            "logfile": layout.log_dir / "supervisord.log",
            "logfile_maxbytes": "5MB",
            "logfile_backups": 1,
            "pidfile": layout.run_dir / "supervisord.pid",
            "umask": "077",
            "minfds": min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MAX_FILES),
        }
        | ({"user": "root"} if os.geteuid() == 0 else {}),
        "unix_http_server": {"file": layout.control_socket, "chmod": "0700"},
        "rpcinterface:supervisor": {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        "supervisorctl": {"serverurl": f"unix://{layout.control_socket}"},
        "program:redis": _program(layout, "redis", 10, [str(redis.path), str(layout.run_dir / "redis.conf")]),
        "program:writer": _program(layout, "writer", 20, _python("authsvc", "write"))
        | {"environment": f'AUTH_MANAGEMENT_PORT="{layout.writer_management_port}"'},
        "group:instances": {"programs": ",".join(names), "priority": 30},
        **{
            f"program:{name}": _program(layout, name, 30, _python("authsvc", "serve"))
            # Nothing is lost by this quick stop: nginx, which stops first, has had its answers. SIGTERM would drain for seconds.
            | {"environment": f'AUTH_PORT="{port}",AUTH_MANAGEMENT_PORT="{management_port}"', "stopsignal": "INT"}
            for name, port, management_port in ports
        },
        "program:nginx": _program(
            layout, "nginx", 40, _python("localstack", "run-nginx", str(nginx.path), str(layout.run_dir), layout.balancer)
        )
        | {"directory": layout.nginx_dir, "stopsignal": "QUIT", "redirect_stderr": "false"}
        | {"stdout_logfile": layout.log_dir / "access.log", "stderr_logfile": layout.log_dir / "nginx.log"},
        "eventlistener:watch": _program(layout, "watch", 5, _python("localstack", "watch", str(layout.run_dir)))
        | {"events": "PROCESS_STATE_RUNNING", "autostart": "true", "redirect_stderr": "false", "stdout_logfile": "NONE"}
        | {"stderr_logfile": layout.log_dir / "watch.log"},
    }
    return "\n".join(_section(name, values) for name, values in sections.items())


def _section(name: str, values: dict[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items())


def _program(layout: Layout, name: str, priority: int, command: list[str]) -> dict[str, object]:
    return {
        "command": shlex.join(command),
        "directory": layout.run_dir,
        "priority": priority,
        "autostart": "false",
        "autorestart": "true",
        "startsecs": 1,
        # Without end: what a process needs for its start may come back later.
        "startretries": 1_000_000,
        "stopwaitsecs": STOP_SECONDS,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": layout.log_dir / f"{name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
    }


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def launch(layout: Layout, service_environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start supervisord in a session of its own; what it starts inherits the service's settings from it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTH_") and name != "GUNICORN_CMD_ARGS"}
    environment |= service_environment | {MARK: str(layout.run_dir), "PYTHONPATH": f"{ROOT / 'service'}{os.pathsep}{ROOT / 'scripts'}"}
    with (layout.log_dir / "supervisord.err").open("wb") as errors:
        return subprocess.Popen(  # noqa: S603 - our own command
            _python("supervisor.supervisord", "-c", str(layout.run_dir / "supervisord.conf")),
            cwd=layout.run_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )


class Supervisor:
    """A running supervisord, asked through its socket. A call fails with OSError when there is none."""

    def __init__(self, control_socket: Path) -> None:
        self._control_socket = control_socket

    def answers(self) -> bool:
        """Whether it runs and takes calls; not while it shuts down."""
        try:
            self._call("getState")
        except (OSError, StackError):
            return False
        return True

    def pid(self) -> int:
        """Its process ID."""
        return int(self._call("getPID"))

    def start(self, name: str) -> None:
        """Start a process without waiting for it."""
        self._call("startProcess", name, False)

    def stop_all(self) -> None:
        """Stop every process, the last started first, and then supervisord itself; returns at once."""
        self._call("shutdown")

    def failed(self, name: str) -> bool:
        """Whether the process could not be started or has ended at least once."""
        info = self._call("getProcessInfo", name)
        return info["statename"] in _FAILED or info["stop"] != 0

    def pids(self) -> Pids:
        """The process IDs of this moment; 0 for one that is just being started again."""
        found = {info["name"]: int(info["pid"]) for info in self._call("getAllProcessInfo")}
        names = sorted((name for name in found if name.startswith("instance-")), key=lambda name: int(name.rpartition("-")[2]))
        return {"nginx": found["nginx"], "redis": found["redis"], "writer": found["writer"], "instances": [found[name] for name in names]}

    def _call(self, method: str, *arguments: object) -> Any:
        transport = _UnixTransport(self._control_socket)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (xmlrpc.client.Error, http.client.HTTPException) as error:
            raise StackError(f"supervisord refused {method}: {error}.") from error


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: xmlrpc.client._HostType) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        self._connection = host, connection  # so that closing the proxy closes it
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CALL_SECONDS)
        self.sock.connect(str(self._path))
