"""`scripts/bench balanced`: what nginx (over HTTP, over TCP) and four instances change, and how long answers take at 70 % of their best."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.table import Column, Table

from authsvc.model import Kind
from bench.bed import Bed, bed
from bench.constant import Timed, ask_at
from bench.cpu import CONNECTIONS, Subject, Together, measure_in_turn
from bench.processes import LOAD_CORE, SERVICE_CORE, BenchError, Process, free_port
from bench.requests import request, service_tokens
from localstack.layout import HOST, Balancer, Layout
from localstack.nginx import write_configuration
from localstack.servers import find_nginx

INSTANCES = 4
TOKENS = 2000
WAYS = 5
"""Subjects of an endpoint; the first is one instance with nothing before it, the last but one four behind nginx."""
ONE_BEHIND_NGINX, FOUR = "one behind nginx", "four behind nginx"
CONSTANT_RATE = "constant rate"
SHARE = 0.7
"""Of the best rate, for the constant one."""


def measure_balanced(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Measure one instance, the same through nginx, and four; print the table and return it."""
    with bed(folder) as made:
        console.print("Starting Redis, nginx and the instances ...")
        made.start_redis()
        redis = made.processes[-1]
        made.build_mirror()
        one, four = stack(made, folder / "one", 1), stack(made, folder / "four", INSTANCES)
        tokens = service_tokens(made.redis_port, Kind.ACCESS, TOKENS)
        validates = [request("POST", "/validate", id_number=number, token=token) for number, token in enumerate(tokens)]
        subjects = [
            Subject(f"{name}, {where}", url, Together(*stack.instances, redis), partial(list, requests), beside=nginx)
            for name, requests in (("validate", validates), ("token", _issues(made)))
            for where, url, stack, nginx in (
                ("one instance", one.layout.instance_urls[0], one, None),
                (ONE_BEHIND_NGINX, one.layout.base_url, one, one.nginx),
                ("one behind nginx, over TCP", one.stream_url, one, one.stream),
                (FOUR, four.layout.base_url, four, four.nginx),
                ("four behind nginx, over TCP", four.stream_url, four, four.stream),
            )
        ]
        measure_in_turn(subjects, seconds, rounds, folder, console)
        peak = median(sample.rate for sample in subjects[WAYS - 2].samples)
        anywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {LOAD_CORE})
        try:
            timed: Timed = uvloop.run(ask_at(SHARE * peak, four.layout.port, validates, CONNECTIONS, max(seconds, 5)))
        finally:
            os.sched_setaffinity(0, anywhere)
    if timed.wrong:
        raise BenchError(f"{timed.wrong} answers at a constant rate were wrong.")
    return _report(subjects, peak, timed, console)


def _issues(made: Bed) -> list[bytes]:
    fields = {"authorization": made.authorization, "grant_type": "client_credentials"}
    return [request("POST", "/token", id_number=number, **fields) for number in range(TOKENS)]


class Stack(NamedTuple):
    """Instances as the local stack has them, and one nginx before them for each way of balancing."""

    layout: Layout
    instances: list[Process]
    nginx: Process
    stream: Process
    stream_url: str


def stack(made: Bed, folder: Path, number: int, change: Callable[[Path], None] = lambda _: None) -> Stack:
    """Start it in a folder of its own; `change` may write other files beside the shared ones of the nginx that passes on requests."""
    folder.mkdir()
    layout = Layout(folder, port=made.free_ports(), instances=number)
    instances = []
    for port, management in zip(layout.instance_ports, layout.instance_management_ports, strict=True):
        ports = {"AUTH_PORT": str(port), "AUTH_MANAGEMENT_PORT": str(management)}
        instance = made.start(SERVICE_CORE, f"instance-{port}", sys.executable, "-m", "authsvc", "serve", **ports)
        instance.wait_for(f"http://127.0.0.1:{management}/ready")
        instances.append(instance)
    nginx = _nginx(made, layout, layout.port, change)
    (folder / "stream").mkdir()
    port = free_port()
    stream = _nginx(made, Layout(folder / "stream", layout.port, number, Balancer.STREAM), port)
    return Stack(layout, instances, nginx, stream, f"http://{HOST}:{port}")


def _nginx(made: Bed, layout: Layout, port: int, change: Callable[[Path], None] = lambda _: None) -> Process:
    """The stack's nginx, but on this port."""
    write_configuration(layout)
    change(layout.nginx_dir)
    listen = layout.nginx_dir / "listen.conf"
    listen.write_text(listen.read_text().replace(f"{HOST}:{layout.port} ", f"{HOST}:{port} "))
    command = [str(find_nginx(layout.balancer).path), "-p", str(layout.nginx_dir), "-c", str(layout.nginx_file), "-e", "stderr"]
    nginx = made.start(LOAD_CORE, f"nginx-{layout.balancer}-{layout.instances}", *command)
    nginx.wait_for(f"http://{HOST}:{port}/health")
    return nginx


def _report(subjects: list[Subject], peak: float, timed: Timed, console: Console) -> dict[str, object]:
    columns = ("what", "CPU µs", "spread", "of one", "spread", "nginx µs", "spread", "requests/s")
    table = Table(*(Column(name, no_wrap=True) for name in columns), box=None, header_style="bold")
    rows: list[dict[str, object]] = []
    for number, subject in enumerate(subjects):
        cpu = [sample.cpu_microseconds for sample in subject.samples]
        of_one = subject.over(subjects[number - number % WAYS])
        nginx = [sample.beside_microseconds for sample in subject.samples]
        rate = median(sample.rate for sample in subject.samples)
        row: dict[str, object] = {"what": subject.name, "cpu_microseconds": median(cpu), "cpu_spread": [min(cpu), max(cpu)], "rate": rate}
        row |= {"of_one": median(of_one), "of_one_spread": [min(of_one), max(of_one)]}
        rows.append(row | {"nginx_microseconds": median(nginx), "nginx_spread": [min(nginx), max(nginx)]})
        passed_on = _cells(nginx, 1) if subject.beside else ("", "")
        table.add_row(subject.name, *_cells(cpu, 1), *_cells(of_one, 2), *passed_on, f"{rate:,.0f}")
    console.print(table)
    console.print("CPU µs of a request: of the instances and Redis, over that of one instance alone, and of nginx")
    p50, p99 = timed.percentile_ms(0.5), timed.percentile_ms(0.99)
    console.print(
        f"{SHARE:.0%} of {peak:,.0f} validates a second, at a constant rate: half are answered in {p50:.1f} ms, 99 % in {p99:.1f} ms"
    )
    console.print(f"timed from when each was due; {timed.most_waiting} waited for a connection at most")
    rows.append({"what": CONSTANT_RATE, "rate": SHARE * peak, "p50_ms": p50, "p99_ms": p99, "most_waiting": timed.most_waiting})
    return {"connections": CONNECTIONS, "rows": rows}


def _cells(values: list[float], places: int) -> tuple[str, str]:
    """Median and spread."""
    return f"{median(values):.{places}f}", f"{min(values):.{places}f}-{max(values):.{places}f}"
