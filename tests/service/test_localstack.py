"""The local stack as a person meets it: started, asked, hurt and stopped through its command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from localstack import Stack, StackState
from localstack.layout import ROOT
from servers import free_stack_port, runs, wait_until

pytestmark = pytest.mark.timeout(300)

STATE_KEYS = {"base_url", "balancer", "instances", "management", "redis_url", "records_url", "client_id", "client_secret", "pids"}


@dataclass
class CommandLine:
    """The stack's command line over one run folder."""

    run_dir: Path
    port: int

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.run_dir / "stack.json").read_text())

    def run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), env=environment() | (env or {}), capture_output=True, text=True, timeout=240)

    def up(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--detach", "--port", str(self.port), *words, env=env)

    def start(self, *words: str) -> None:
        done = self.up("--instances", "1", *words)
        assert done.returncode == 0, done.stderr

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "localstack", words[0], "--run-dir", str(self.run_dir), *words[1:]]

    def processes(self) -> list[psutil.Process]:
        """Every process that works in the run folder, found without the stack's own means."""
        found = []
        for process in psutil.process_iter():
            try:
                words, folder = " ".join(process.cmdline()), process.cwd()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if str(self.run_dir) in words or Path(folder).is_relative_to(self.run_dir):
                found.append(process)
        return found


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTH_")}
    return kept | {"PYTHONPATH": f"{ROOT / 'service'}{os.pathsep}{ROOT / 'scripts'}", "COLUMNS": "80"}


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except OSError:
        return 0


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[CommandLine]:
    """A run folder in which nothing runs yet."""
    line = CommandLine(tmp_path / "run", free_stack_port(1))
    yield line
    line.run("down")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A stack of two instances, for tests that leave it running."""
    line = CommandLine(tmp_path_factory.mktemp("running") / "run", free_stack_port(2))
    done = line.up("--instances", "2", env={"AUTH_WRITER_PROFILE": "latency"})
    assert done.returncode == 0, done.stderr
    yield line
    line.run("down")


def test_stack_json_has_the_keys_of_the_contract_and_nothing_else(running: CommandLine) -> None:
    state = running.state
    assert set(state) == STATE_KEYS
    assert set(state["pids"]) == {"nginx", "redis", "writer", "instances"}
    assert state["base_url"] == f"http://127.0.0.1:{running.port}"
    assert state["instances"] == [f"http://127.0.0.1:{running.port + number}" for number in (1, 2)]
    assert state["management"] == [f"http://127.0.0.1:{running.port + number}" for number in (101, 102, 100)]
    assert [status(f"{url}/ready") for url in state["management"]] == [200, 200, 200]
    assert [status(f"{url}/health") for url in (state["base_url"], *state["instances"])] == [200, 200, 200]


def test_nginx_passes_on_connections_where_that_is_asked_for(idle: CommandLine) -> None:
    idle.start("--balancer", "stream")
    state = idle.state
    assert (state["balancer"], status(f"{state['base_url']}/health")) == ("stream", 200)
    assert "stream.conf" in " ".join(psutil.Process(state["pids"]["nginx"]).cmdline())
    assert "balancer is not what was asked for" in " ".join(idle.up("--instances", "1").stdout.split())


def test_pids_name_the_processes_that_they_say(running: CommandLine) -> None:
    pids = running.state["pids"]
    words = {name: " ".join(psutil.Process(pids[name]).cmdline()) for name in ("nginx", "redis", "writer")}
    assert "nginx: master" in words["nginx"]
    assert "redis.conf" in words["redis"]
    assert words["writer"].endswith("authsvc write")
    for pid in pids["instances"]:
        assert psutil.Process(pid).cmdline()[-2:] == ["authsvc", "serve"]
        assert psutil.Process(pid).children(), "an instance's pid is gunicorn's master"


def test_processes_carry_their_settings_in_their_environment(running: CommandLine) -> None:
    state = running.state
    seen = [psutil.Process(pid).environ() for pid in (*state["pids"]["instances"], state["pids"]["writer"])]
    assert {one["AUTH_ISSUER"] for one in seen} == {state["base_url"]}
    assert {one["AUTH_REDIS_URL"] for one in seen} == {state["redis_url"]}
    assert {one["AUTH_WRITER_PROFILE"] for one in seen} == {"latency"}, "further settings are passed on"
    assert [one["AUTH_PORT"] for one in seen[:2]] == [str(running.port + 1), str(running.port + 2)]


def test_everything_written_is_private(running: CommandLine) -> None:
    assert stat.S_IMODE(running.run_dir.stat().st_mode) == 0o700
    for name in ("stack.json", "env", "token.key", "client.json", "supervisord.conf"):
        assert stat.S_IMODE((running.run_dir / name).stat().st_mode) == 0o600, name


def test_a_second_up_says_that_it_is_up_and_changes_nothing(running: CommandLine) -> None:
    before = running.state
    again = running.up("--instances", "1")
    assert again.returncode == 0
    assert "is up already" in again.stdout
    assert "scripts/down first" in again.stdout
    assert before["base_url"] in again.stdout
    assert running.state == before


def test_a_fresh_start_of_a_running_stack_is_refused(running: CommandLine) -> None:
    refused = running.up("--instances", "2", "--fresh")
    assert refused.returncode == 1
    assert "scripts/down" in refused.stderr
    assert status(f"{running.state['base_url']}/health") == 200


def test_the_printed_curl_lines_get_validate_and_revoke_a_token(running: CommandLine) -> None:
    printed = running.up("--instances", "2").stdout.splitlines()
    lines = [line for line in printed if "curl" in line]
    assert len(lines) == 3
    script = "\n".join((*lines, lines[1]))
    answers = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout
    token, valid, revoked, refused = answers.splitlines()
    assert token.startswith("at_")
    assert json.loads(valid)["active"] is True
    assert json.loads(revoked) == {"message": "Token revoked"}
    assert json.loads(refused)["error"] == "invalid_token"
    logged = "".join(log.read_text() for log in (running.run_dir / "log").iterdir())
    assert token not in logged
    assert running.state["client_secret"] not in logged


def test_the_service_logs_json_lines(running: CommandLine) -> None:
    for name in ("instance-1", "instance-2", "writer"):
        lines = (running.run_dir / "log" / f"{name}.log").read_text().splitlines()
        assert lines
        assert all(isinstance(json.loads(line), dict) for line in lines), name


def test_authsvc_runs_against_the_stack_from_any_folder(running: CommandLine, tmp_path: Path) -> None:
    script = f"set -a; . '{running.run_dir}/env'; exec '{sys.executable}' -m authsvc client show demo --json"
    shown = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert json.loads(shown.stdout)["scopes"] == ["read", "write"], shown.stderr


def test_a_killed_gunicorn_master_is_started_again_and_leaves_no_worker(running: CommandLine) -> None:
    before = running.state["pids"]["instances"]
    workers = psutil.Process(before[1]).children(recursive=True)
    assert workers
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: not any(runs(worker) for worker in workers), "its workers are gone", seconds=5)
    wait_until(lambda: running.state["pids"]["instances"][1] not in (before[1], 0), "stack.json has the new master")
    after = running.state["pids"]["instances"]
    assert after[0] == before[0]
    # Named as soon as it is forked, while it is still supervisord.
    wait_until(lambda: psutil.Process(after[1]).cmdline()[-2:] == ["authsvc", "serve"], "the new master runs the service")
    wait_until(lambda: status(f"{running.state['management'][1]}/ready") == 200, "the instance is ready again", seconds=60)


@pytest.mark.parametrize("name", ["nginx", "redis", "writer"])
def test_a_killed_process_is_started_again(running: CommandLine, name: str) -> None:
    before = running.state["pids"][name]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: running.state["pids"][name] not in (before, 0), f"stack.json has the new {name}")
    questions = [f"{running.state['base_url']}/health", *(f"{url}/ready" for url in running.state["management"])]
    wait_until(lambda: all(status(question) == 200 for question in questions), "all ready", seconds=60)


def test_a_killed_nginx_leaves_no_worker_of_its_own_behind(running: CommandLine) -> None:
    master = psutil.Process(running.state["pids"]["nginx"])
    workers = master.children()
    master.kill()
    wait_until(lambda: running.state["pids"]["nginx"] not in (master.pid, 0), "stack.json has the new nginx")
    wait_until(lambda: not any(runs(worker) for worker in workers), "its workers are gone", seconds=10)


def test_a_restart_keeps_the_client_and_its_tokens_until_a_fresh_one(idle: CommandLine) -> None:
    def ask(*words: str) -> dict[str, Any]:
        done = subprocess.run(["curl", "-s", *words], capture_output=True, text=True, timeout=30, check=True)
        return json.loads(done.stdout)

    idle.start()
    base_url, client = idle.state["base_url"], f"demo:{idle.state['client_secret']}"
    token = ask("-u", client, "-d", "grant_type=client_credentials", f"{base_url}/token")["access_token"]
    stopped = idle.run("down")
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "The stack is stopped.")
    assert idle.processes() == []
    assert not (idle.run_dir / "stack.json").exists()
    nothing = idle.run("down")
    assert (nothing.returncode, nothing.stdout.strip()) == (0, "Nothing is running.")

    idle.start()
    assert f"demo:{idle.state['client_secret']}" == client
    assert ask("-d", f"token={token}", f"{base_url}/validate")["active"] is True
    idle.run("down")

    idle.start("--fresh")
    assert f"demo:{idle.state['client_secret']}" != client
    assert ask("-d", f"token={token}", f"{base_url}/validate")["error"] == "invalid_token"


@pytest.mark.parametrize("next_command", ["down", "up"])
def test_what_a_killed_supervisord_leaves_is_found(idle: CommandLine, next_command: str) -> None:
    idle.start()
    before = idle.state["pids"]
    redis = psutil.Process(before["redis"])
    supervisord = psutil.Process(before["nginx"]).parent()
    assert supervisord is not None
    supervisord.kill()
    wait_until(lambda: not runs(supervisord), "supervisord is gone")
    assert status(f"{idle.state['base_url']}/health") == 200
    if next_command == "down":
        assert idle.run("down").stdout.strip() == "The stack is stopped."
        assert idle.processes() == []
    else:
        idle.start()
        assert idle.state["pids"]["nginx"] != before["nginx"]
        assert not runs(redis)


def test_sigterm_stops_a_stack_in_the_foreground(idle: CommandLine) -> None:
    words = idle.command("up", "--port", str(idle.port), "--instances", "1")
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert any("Ctrl-C stops it" in line for line in up.stdout)
        up.send_signal(signal.SIGTERM)
        assert "The stack is stopped." in up.stdout.read()
        assert up.wait(30) == 0
    assert idle.processes() == []


def test_ctrl_c_during_the_start_leaves_nothing(idle: CommandLine) -> None:
    words = idle.command("up", "--port", str(idle.port), "--instances", "1")
    # Whoever runs the tests in the background may have it ignored, and a child inherits that.
    interrupted = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True, preexec_fn=interrupted) as up:
        assert up.stdout is not None
        assert any("starting writer" in line for line in up.stdout)
        up.send_signal(signal.SIGINT)
        up.stdout.read()
        assert up.wait(60) == 130
    assert idle.processes() == []


@pytest.mark.parametrize("offset", [0, 1, 100, 101, 200])
def test_a_port_in_use_is_named_in_one_sentence(idle: CommandLine, offset: int) -> None:
    with socket.create_server(("127.0.0.1", idle.port + offset)):
        refused = idle.up("--instances", "1")
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert f"Port {idle.port + offset} " in refused.stderr
    assert "--port" in refused.stderr
    assert idle.processes() == []


def test_a_process_that_cannot_start_is_named_and_nothing_stays(idle: CommandLine) -> None:
    began = time.monotonic()
    refused = idle.up("--instances", "1", env={"AUTH_NO_SUCH_SETTING": "1"})
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "AUTH_NO_SUCH_SETTING" in refused.stderr
    assert time.monotonic() - began < 60
    assert idle.processes() == []


def test_a_run_folder_that_cannot_be_made_is_one_sentence(idle: CommandLine) -> None:
    idle.run_dir.touch()
    refused = idle.up("--instances", "1")
    assert (refused.returncode, refused.stderr.strip()) == (1, f"File exists: {idle.run_dir}.")
    idle.run_dir.unlink()


def test_programs_use_a_stack_as_a_library(stack: Stack, stack_state: StackState) -> None:
    assert stack.start() == stack_state, "a second start changes nothing"
    assert len(stack_state["instances"]) == 4
    shown = stack.authsvc("client", "show", stack_state["client_id"], "--json")
    assert json.loads(shown.stdout)["enabled"] is True, shown.stderr
    assert status(f"{stack_state['base_url']}/health") == 200


def test_settings_that_are_the_stacks_own_are_refused(idle: CommandLine) -> None:
    refused = idle.up(env={"AUTH_REDIS_URL": "redis://127.0.0.1:6379/0"})
    assert refused.returncode == 1
    assert "AUTH_REDIS_URL" in refused.stderr
