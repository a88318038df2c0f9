"""supervisord's configuration, and questions to one that does not run."""

from __future__ import annotations

import shlex
from configparser import RawConfigParser
from pathlib import Path

from localstack.layout import Layout
from localstack.servers import Server
from localstack.supervision import Supervisor, configuration

LAYOUT = Layout(Path("/srv/my stack"), 9000, 3)
TEXT = configuration(LAYOUT, Server(Path("/opt/valkey server"), "9.0.0"), Server(Path("/opt/nginx"), "1.31.0"))


def parsed() -> RawConfigParser:
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(TEXT)
    return parser


def test_every_process_is_kept_alive_and_logged() -> None:
    programs = {name: section for name, section in parsed().items() if name.startswith("program:")}
    assert set(programs) == {f"program:{name}" for name in ("redis", "writer", "instance-1", "instance-2", "instance-3", "nginx")}
    for name, section in programs.items():
        assert section["autorestart"] == "true", name
        assert section["stdout_logfile"].startswith("/srv/my stack/log/"), name
        assert section["stdout_logfile_maxbytes"] == "10MB", name


def test_each_instance_has_ports_of_its_own() -> None:
    seen = {parsed()[f"program:instance-{number}"]["environment"] for number in (1, 2, 3)}
    assert seen == {f'AUTH_PORT="{9000 + number}",AUTH_MANAGEMENT_PORT="{9100 + number}"' for number in (1, 2, 3)}


def test_what_depends_on_another_is_stopped_before_it() -> None:
    sections = parsed()
    priorities = [int(sections[name]["priority"]) for name in ("program:redis", "program:writer", "group:instances", "program:nginx")]
    assert priorities == sorted(priorities)


def test_paths_with_blanks_stay_one_word() -> None:
    assert shlex.split(parsed()["program:redis"]["command"]) == ["/opt/valkey server", "/srv/my stack/redis.conf"]


def test_no_secret_is_in_it() -> None:
    assert "KEY" not in TEXT


def test_a_supervisord_that_does_not_run_does_not_answer(tmp_path: Path) -> None:
    assert not Supervisor(tmp_path / "supervisor.sock").answers()
