"""The Redis-compatible server of the stack: its configuration, and whether it answers."""

from __future__ import annotations

import socket

from localstack.layout import HOST, Layout


def configuration(layout: Layout) -> str:
    """Every write is on disk before it is answered, and nothing is evicted: see the design's promises."""
    return f"""\
bind {HOST}
port {layout.redis_port}
daemonize no
logfile ""
dir "{layout.data_dir}"
save ""
appendonly yes
appendfsync always
maxmemory 1gb
maxmemory-policy noeviction
# A title would overwrite the environment, by which a left-over process is recognised.
set-proc-title no
"""


def answers(layout: Layout) -> bool:
    """Whether the server has read its data and takes commands."""
    try:
        with socket.create_connection((HOST, layout.redis_port), timeout=1) as server:
            server.sendall(b"PING\r\n")
            return server.recv(64).startswith(b"+PONG")
    except OSError:
        return False
