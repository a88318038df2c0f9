"""Reference in a compiled language: Go's net/http with an empty handler; where there is no Go, nginx that returns 200."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.bed import Bed
from bench.processes import SERVICE_CORE, BenchError, Process, free_port
from localstack.servers import find_nginx

SOURCE = Path(__file__).with_name("empty_go") / "main.go"
NGINX = """daemon off;
worker_processes 1;
pid {folder}/empty.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        return 200;
    }}
}}
"""


class Compiled(NamedTuple):
    """What runs, and how much of its CPU a request is to cost at most: 1 / reach."""

    name: str
    url: str
    process: Process
    reach: float


def start_compiled(made: Bed) -> Compiled:
    """Start it on the service's core; BenchError where it cannot be built."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    go = shutil.which("go")
    if go is None:
        configuration = made.folder / "empty.conf"
        configuration.write_text(NGINX.format(folder=made.folder, port=port), encoding="utf-8")
        command = [str(find_nginx().path), "-e", "stderr", "-p", str(made.folder), "-c", str(configuration)]
        found = Compiled("nginx, return 200", url, made.start(SERVICE_CORE, "empty nginx", *command), 0.65)
    else:
        program = made.folder / "empty-go"
        # A cache of its own would be built anew each time, which takes half a minute; nothing is fetched.
        built = subprocess.run(
            [go, "build", "-o", str(program), str(SOURCE)],
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "off"},
            capture_output=True,
            text=True,
        )
        if built.returncode:
            raise BenchError(f"Go cannot build {SOURCE.name}: {built.stderr.strip()[-300:]}")
        process = made.start(SERVICE_CORE, "empty go", str(program), str(port), GOMAXPROCS="1")
        found = Compiled("Go net/http, empty handler", url, process, 1.1)
    found.process.wait_for(url)
    return found
