"""The local stack as a whole: started in order, asked what runs where, and stopped to the last process."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from localstack import leftovers, nginx, redis, supervision
from localstack.client import demo_client
from localstack.errors import StackError
from localstack.layout import DEFAULT_INSTANCES, DEFAULT_PORT, ROOT, Balancer, Layout, shell_lines, write_private
from localstack.ports import check_ports
from localstack.servers import find_nginx, find_redis
from localstack.statefile import StackState, read_state, write_state
from localstack.supervision import STOP_SECONDS, Supervisor, instance_names
from localstack.web import is_healthy, is_ready

READY_SECONDS = 120.0
"""How long a process may take until it is ready."""
_COMMAND_SECONDS = 60.0
_FREE_BYTES = 200 * 1024 * 1024
_POLL_SECONDS = 0.05
_STOP_ALL_SECONDS = 4 * STOP_SECONDS + 5.0
_LAST_WORDS_CHARACTERS = 400
_OWN = ("PORT", "MANAGEMENT_PORT", "ISSUER", "TOKEN_KEY", "TOKEN_KEY_FILE", "REDIS_URL", "RECORDS_URL")


class Stack:
    """A stack in `run_dir`, whether or not it runs at this moment.

    `env` holds further `AUTH_*` settings for every process of the service. A stack outlives the process that started
    it, until `stop` is called by whomever.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        port: int = DEFAULT_PORT,
        instances: int = DEFAULT_INSTANCES,
        balancer: Balancer = Balancer.HTTP,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.layout = Layout(run_dir.absolute(), port, instances, balancer)
        self._env = dict(env or {})
        for name in _OWN:
            if f"AUTH_{name}" in self._env:
                raise StackError(f"AUTH_{name} is set by the stack itself: unset it and start again.")
        self._supervisor = Supervisor(self.layout.control_socket)
        self._supervisord: subprocess.Popen[bytes] | None = None

    def state(self) -> StackState | None:
        """What runs where, or None if the stack is not up."""
        return read_state(self.layout.state_file) if self._supervisor.answers() else None

    def start(self, *, fresh: bool = False, report: Callable[[str], None] = lambda step: None) -> StackState:
        """Start everything, unless it is up already, and return when all of it is ready.

        `fresh` first forgets all data, keys and the demo client. `report` is told each step. StackError says why the
        stack did not start; nothing is left running then.
        """
        self.layout.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            state = self.state()
            if state is not None:
                return state
            self._end_all()
            report("writing the configuration")
            self._prepare(fresh)
            try:
                return self._start(report)
            except BaseException:
                report("stopping")
                self._end_all()
                raise

    def stop(self) -> bool:
        """Stop every process of the stack, left-overs of a killed supervisord too; whether there were any."""
        if not self.layout.run_dir.is_dir():
            return False
        with self._alone():
            return self._end_all()

    def wait(self) -> int:
        """Wait until the supervisord that this object started has ended; its exit code."""
        assert self._supervisord is not None
        return self._supervisord.wait()

    def authsvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the service against this stack."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTH_")}
        environment |= {"PYTHONPATH": str(ROOT / "service")} | self._service_environment()
        command = [sys.executable, "-m", "authsvc", *arguments]
        try:
            return subprocess.run(  # noqa: S603 - the caller's own command
                command, env=environment, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"authsvc {' '.join(arguments[:2])} did not return within {_COMMAND_SECONDS:.0f} s.") from error

    def _start(self, report: Callable[[str], None]) -> StackState:
        layout = self.layout
        self._supervisord = supervision.launch(layout, self._service_environment())
        self._until("supervisord", self._supervisor.answers)
        self._run(report, "redis", lambda: redis.answers(layout))
        self._run(report, "writer", lambda: is_ready(layout.management_urls[-1]))
        names = instance_names(layout.instances)
        for name in names:
            self._supervisor.start(name)
        for number, name in enumerate(names):
            report(f"starting the instances: {number} of {len(names)} ready")
            self._until(name, partial(is_ready, layout.management_urls[number]))
        report("creating the demo client")
        client = demo_client(layout, self.authsvc)
        self._run(report, "nginx", lambda: is_healthy(layout.base_url))
        return write_state(layout, client.client_id, client.client_secret, self._supervisor.pids)

    def _run(self, report: Callable[[str], None], name: str, ready: Callable[[], bool]) -> None:
        report(f"starting {name}")
        self._supervisor.start(name)
        self._until(name, ready)

    def _until(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until the process is ready; StackError as soon as it ends instead."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if self._ended(name):
                raise StackError(f"{_short(name)} did not start: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"{_short(name)} was not ready within {READY_SECONDS:.0f} s: {self._last_words(name)}")
            time.sleep(_POLL_SECONDS)

    def _ended(self, name: str) -> bool:
        if name == "supervisord":
            return self._supervisord is None or self._supervisord.poll() is not None
        return self._supervisor.failed(name)

    def _last_words(self, name: str) -> str:
        log = self.layout.log_dir / ("supervisord.err" if name == "supervisord" else f"{_short(name)}.log")
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return f"{log} ends with: {last[:_LAST_WORDS_CHARACTERS]}"

    def _end_all(self) -> bool:
        found = self._supervisor.answers()
        if found:
            pid = self._supervisor.pid()
            self._supervisor.stop_all()
            deadline = time.monotonic() + _STOP_ALL_SECONDS
            while leftovers.alive(pid) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        left = leftovers.processes_of(self.layout.run_dir)
        leftovers.end(left, patience_seconds=STOP_SECONDS)
        if self._supervisord is not None:
            self._supervisord.wait()
        for file in (self.layout.state_file, self.layout.env_file, self.layout.control_socket):
            file.unlink(missing_ok=True)
        return found or bool(left)

    def _prepare(self, fresh: bool) -> None:
        """Check what the machine has, and write every file that the processes read."""
        layout = self.layout
        if shutil.disk_usage(layout.run_dir).free < _FREE_BYTES:
            raise StackError(f"The disk that holds {layout.run_dir} is full: free {_FREE_BYTES >> 20} MB and start again.")
        check_ports(layout.port, layout.instances)
        if fresh:
            if layout.data_dir.exists():
                shutil.rmtree(layout.data_dir)
            for file in (layout.token_key_file, layout.client_file):
                file.unlink(missing_ok=True)
        for folder in (layout.data_dir, layout.log_dir):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not layout.token_key_file.exists():
            write_private(layout.token_key_file, secrets.token_urlsafe(32) + "\n")
        nginx.write_configuration(layout)
        write_private(layout.run_dir / "redis.conf", redis.configuration(layout))
        write_private(layout.run_dir / "supervisord.conf", supervision.configuration(layout, find_redis(), find_nginx(layout.balancer)))
        write_private(layout.env_file, shell_lines(self._service_environment()))

    def _service_environment(self) -> dict[str, str]:
        return self._env | {
            "AUTH_ISSUER": self.layout.base_url,
            "AUTH_TOKEN_KEY": self.layout.token_key_file.read_text(encoding="utf-8").strip(),
            "AUTH_REDIS_URL": self.layout.redis_url,
            "AUTH_RECORDS_URL": self.layout.records_url,
        }

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.layout.run_dir / "lock").open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(f"Another start or stop is at work in {self.layout.run_dir}: wait until it is done.") from None
            yield


def _short(name: str) -> str:
    """The name without its group."""
    return name.rpartition(":")[2]
