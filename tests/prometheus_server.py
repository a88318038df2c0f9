"""A real Prometheus for tests: it scrapes what it is told to and evaluates the chart's rules, made quicker."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from localstack.layout import ROOT
from servers import DEADLINE_SECONDS, free_port, wait_until

RULES = ROOT / "charts" / "auth-service" / "monitoring"
NEEDS_PROMETHEUS = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
STARTS_IN_SECONDS = 60
OPERATORS = {"namespace": "auth-service", "endpoint": "management", "container": "auth"}
"""Labels that the Prometheus operator gives every target of a PodMonitor; the second is one of ours, too."""
RELABELINGS = [
    {"source_labels": ["exported_endpoint"], "regex": "(.+)", "target_label": "endpoint"},
    {"action": "labeldrop", "regex": "exported_endpoint"},
]
"""As the chart's PodMonitor has them; tests/chart/test_monitoring.py compares."""
SHORTEST_SECONDS = 3
"""Of a range: at least three samples lie in it."""


def quicker(rules: str, factor: float) -> str:
    """The rules with every range and every `for` so many times shorter, and ages compared with as much less."""

    def shorter(match: re.Match[str]) -> str:
        seconds = int(match[2]) * SECONDS[match[3]] / factor
        least = SHORTEST_SECONDS if match[1] == "[" else 0
        return f"{match[1]}{max(least * 1000, round(seconds * 1000))}ms"

    text = re.sub(r"(\[|for: )(\d+)([smhd])\b", shorter, rules)
    return re.sub(r"(backlog_age_seconds:max\S*) > 60", rf"\1 > {60 / factor:g}", text)


class PrometheusServer:
    """Scrapes the targets once a second under the job auth-service."""

    def __init__(self, folder: Path, targets: list[str], factor: float = 1) -> None:
        self._folder = folder
        self._port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api/v1", timeout=10)
        folder.mkdir(parents=True)
        for file in ("rules.yaml", "objectives.yaml"):
            (folder / file).write_text(quicker((RULES / file).read_text(), factor))
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml", "objectives.yaml"],
            "scrape_configs": [
                {"job_name": "auth-service", "static_configs": [{"targets": targets, "labels": {"namespace": "auth-service"}}]}
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def start(self) -> PrometheusServer:
        words = [f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(["prometheus", *words, f"--web.listen-address=127.0.0.1:{self._port}"], stdout=log, stderr=log)
        try:
            wait_until(self._is_ready, "Prometheus answers", STARTS_IN_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, f"Prometheus ended: {(self._folder / 'log').read_text()[-1000:]}"
        try:
            return self._client.get(f"http://127.0.0.1:{self._port}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self._client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(DEADLINE_SECONDS)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series at this moment."""
        answer = self._client.get("/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        return [(each["metric"], float(each["value"][1])) for each in answer.json()["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """Of a question with one answer; None while there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts: list[dict[str, Any]] = self._client.get("/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
