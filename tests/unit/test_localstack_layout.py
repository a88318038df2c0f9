"""Addresses and files of the local stack."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from localstack.errors import StackError
from localstack.layout import Layout, shell_lines, stack_ports, write_private

RUN_DIR = Path("/srv/stack")


def test_ports_lie_above_nginxs_as_documented() -> None:
    layout = Layout(RUN_DIR, 9000, 3)
    assert layout.base_url == "http://127.0.0.1:9000"
    assert layout.instance_urls == [f"http://127.0.0.1:{port}" for port in (9001, 9002, 9003)]
    assert layout.management_urls == [f"http://127.0.0.1:{port}" for port in (9101, 9102, 9103, 9100)]
    assert layout.redis_url == "redis://127.0.0.1:9200/0"
    assert layout.records_url == "sqlite:////srv/stack/data/records.db"


@pytest.mark.parametrize("instances", [1, 4, 32])
def test_no_port_is_used_twice(instances: int) -> None:
    assert len(stack_ports(8080, instances)) == 2 * instances + 3


@pytest.mark.parametrize("instances", [0, 33])
def test_a_number_of_instances_out_of_range_is_refused(instances: int) -> None:
    with pytest.raises(StackError, match="instances must be 1 to 32"):
        Layout(RUN_DIR, 8080, instances)


@pytest.mark.parametrize("port", [0, 65336])
def test_a_port_without_room_above_it_is_refused(port: int) -> None:
    with pytest.raises(StackError, match="port must be 1 to 65335"):
        Layout(RUN_DIR, port)


@pytest.mark.parametrize("name", ['quo"te', "per%cent", "hash#", "semi;colon", "dol$lar", "line\nbreak"])
def test_a_path_that_configuration_files_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(StackError, match="use another folder"):
        Layout(RUN_DIR / name)


def test_a_path_with_blanks_is_fine() -> None:
    assert Layout(RUN_DIR / "my stack").log_dir == RUN_DIR / "my stack" / "log"


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(StackError, match="--run-dir"):
        Layout(Path("/srv") / ("x" * 100))


def test_private_files_replace_older_ones_and_are_their_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("older")
    file.chmod(0o644)
    write_private(file, "newer")
    assert file.read_text() == "newer"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_shell_reads_settings_as_they_were(tmp_path: Path) -> None:
    value = "sqlite:////my folder/it's $HOME `here`"
    file = tmp_path / "env"
    file.write_text(shell_lines({"AUTH_RECORDS_URL": value}))
    read = subprocess.run(["sh", "-c", f'. {file}; printf %s "$AUTH_RECORDS_URL"'], capture_output=True, text=True, check=True)
    assert read.stdout == value
