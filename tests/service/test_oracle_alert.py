"""A real Prometheus over a writer whose pool of sessions with Oracle is exhausted: the alert fires, and is over when the pool suffices."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, OracleDatabase, OracleFaults
from prometheus_server import NEEDS_PROMETHEUS, PrometheusServer
from servers import RedisServer, ServiceProcess, running, wait_until

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE, NEEDS_FAULTS, NEEDS_PROMETHEUS]

QUICKER = 20
"""`for: 2m` is six seconds."""
SLOW_MS = 1000
"""Of each call: the look for changed clients and the marks, each every second or two, then want the one session at the same time."""
ALERT = "AuthServicePoolExhausted"


def test_a_pool_that_is_exhausted_is_alerted_until_it_suffices(redis_server: RedisServer, tmp_path: Path) -> None:
    database = OracleDatabase(tmp_path)
    database.prepare()
    pool = {"oracle_pool_min": 1, "oracle_pool_max": 1}
    writer = ServiceProcess(tmp_path, "write", redis_url=redis_server.url, records_url=database.url, **pool).start()
    prometheus = PrometheusServer(tmp_path / "prometheus", [f"127.0.0.1:{writer.management_port}"], QUICKER).start()
    with running(writer, prometheus):
        writer.wait_ready()
        wait_until(lambda: prometheus.value("sum(up)") == 1, "the writer is scraped")
        assert ALERT not in prometheus.firing()
        with OracleFaults().on("latency", ms=SLOW_MS):
            wait_until(lambda: ALERT in prometheus.firing(), "the alert fires", 60)
        wait_until(lambda: ALERT not in prometheus.firing(), "the alert is over", 60)
        writer.wait_ready()
