"""A real Prometheus over a writer whose pool of sessions with Oracle cannot grow: the alert fires, and is over when the pool suffices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, OracleDatabase, OracleFaults
from prometheus_server import NEEDS_PROMETHEUS, PrometheusServer
from servers import running, wait_until
from service.deployment import OracleDeployment

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE, NEEDS_FAULTS, NEEDS_PROMETHEUS]

QUICKER = 20
"""`for: 2m` is six seconds."""
SLOW_MS = 800
"""Of each call: four batches at a time then want the few sessions that there are."""
ALERT = "AuthServicePoolExhausted"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[OracleDeployment]:
    settings = {"oracle_pool_min": 2, "oracle_pool_max": 6, "writer_workers": 4, "writer_batch_rows": 2, "writer_call_timeout_seconds": 30}
    found = OracleDeployment(tmp_path, OracleDatabase(tmp_path), **settings)
    with running(found.start()):
        yield found


def test_a_pool_that_is_exhausted_is_alerted_until_it_suffices(deployment: OracleDeployment, tmp_path: Path) -> None:
    prometheus = PrometheusServer(tmp_path / "prometheus", [f"127.0.0.1:{deployment.writer.management_port}"], QUICKER).start()
    with running(prometheus):
        wait_until(lambda: prometheus.value("sum(up)") == 1, "the writer is scraped")
        assert ALERT not in prometheus.firing()
        deployment.proxy.stalls = True
        with OracleFaults().on("latency", ms=SLOW_MS), deployment.load():
            wait_until(lambda: ALERT in prometheus.firing(), "the alert fires", 60)
        deployment.proxy.stalls = False
        wait_until(lambda: ALERT not in prometheus.firing(), "the alert is over", 60)
