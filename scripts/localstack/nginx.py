"""nginx on this machine: the files of `nginx/` beside the few that are the stack's own, and how it is started."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
from pathlib import Path
from typing import NoReturn

from localstack.layout import HOST, ROOT, Balancer, Layout
from localstack.leftovers import end, nginx_processes_of


def write_configuration(layout: Layout) -> None:
    """Copy the shared files into the run folder and write what they include."""
    layout.nginx_dir.mkdir(mode=0o700, exist_ok=True)
    for shared in sorted((ROOT / "nginx").glob("*.conf")):
        shutil.copyfile(shared, layout.nginx_dir / shared.name)
    for name, text in _own_files(layout).items():
        (layout.nginx_dir / name).write_text(text, encoding="utf-8")


def run(binary: Path, run_dir: Path, balancer: Balancer) -> NoReturn:
    """Become nginx, after ending the workers of a master that was killed: they would go on holding the port."""
    end(nginx_processes_of(run_dir), patience_seconds=1.0, how=signal.SIGQUIT)
    layout = Layout(run_dir, balancer=balancer)
    os.execv(binary, [str(binary), "-p", str(layout.nginx_dir), "-c", str(layout.nginx_file), "-e", "stderr"])  # noqa: S606 - nothing of it comes from outside


def _own_files(layout: Layout) -> dict[str, str]:
    servers = "".join(f"server {HOST}:{port} max_fails=3 fail_timeout=2s;\n" for port in layout.instance_ports)
    return {
        # Passing a request on costs about half of what answering it does, and a connection less.
        "main.conf": f"worker_processes {(layout.instances + 1) // 2};\n{_user()}",
        "listen.conf": f"listen {HOST}:{layout.port} backlog=4096;\naccess_log /dev/stdout json if=$trouble;\n",
        "upstream.conf": f"least_conn;\n{servers}",
        "http.conf": "# none\n",
        "tcp.conf": "# none\n",
    }


def _user() -> str:
    """The run folder is private: workers that dropped root's rights could not read it."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name};\n"
