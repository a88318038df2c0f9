"""nginx's files on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from localstack.layout import ROOT, Balancer, Layout
from localstack.nginx import write_configuration
from localstack.servers import find_nginx


@pytest.mark.parametrize("balancer", Balancer)
@pytest.mark.parametrize("instances", [1, 5])
def test_nginx_accepts_the_files_and_finds_every_instance(tmp_path: Path, instances: int, balancer: Balancer) -> None:
    layout = Layout(tmp_path / "run folder", 8080, instances, balancer)
    layout.run_dir.mkdir()
    write_configuration(layout)
    prefix = layout.nginx_dir
    command = [str(find_nginx().path), "-T", "-e", "stderr", "-p", str(prefix), "-c", str(layout.nginx_file)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count("    server 127.0.0.1:") + checked.stdout.count("\nserver 127.0.0.1:") == instances
    assert "listen 127.0.0.1:8080 " in checked.stdout


def test_shared_files_are_copied_unchanged(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_configuration(layout)
    for name in ("process.conf", "nginx.conf", "auth.conf", "stream.conf"):
        assert (layout.nginx_dir / name).read_bytes() == (ROOT / "nginx" / name).read_bytes()
