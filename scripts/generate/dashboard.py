"""The dashboard for Grafana: its rows and their queries, written as JSON into charts/auth-service/monitoring."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from authsvc.commands.write import WriterMetrics
from authsvc.metrics import Counts, Metrics, described

FILE = Path(__file__).resolve().parents[2] / "charts" / "auth-service" / "monitoring" / "dashboard.json"
COLUMNS = 24
HEIGHT = {"stat": 4, "timeseries": 8}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = '{job="$job"}'
AUTOSCALER = '{namespace="$namespace", horizontalpodautoscaler=~".*-(auth|nginx)"}'
ELSEWHERE = {
    "kube_": "kube-state-metrics",
    "nginx_": "nginx-prometheus-exporter, which nginx.exporter puts beside nginx",
    "kubelet_": "the kubelet",
}
"""Beginnings of metrics that are not ours, and who exports them."""


@dataclass(frozen=True)
class Panel:
    """One picture. Its description is what the metrics table says of the first of our metrics that it asks for."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Each with its legend."""
    kind: str = "timeseries"
    red_above: float | None = None
    """Of a stat: green up to this, red above."""
    red_below: float | None = None


def stat(title: str, unit: str, query: str, *, red_above: float | None = None, red_below: float | None = None) -> Panel:
    """One number."""
    return Panel(title, unit, ((query, ""),), "stat", red_above, red_below)


def graph(title: str, unit: str, *queries: tuple[str, str]) -> Panel:
    """Lines over time."""
    return Panel(title, unit, queries)


def rate(counter: str, by: str = "", where: str = "") -> str:
    """A second, summed up by these labels."""
    matchers = ", ".join(filter(None, ('job="$job"', where)))
    return f"sum{f' by ({by}) ' if by else ''}(rate({counter}{{{matchers}}}[$__rate_interval]))"


def most(gauge: str) -> str:
    """What every process tells alike: the largest, so that none that has not looked yet counts."""
    return f"max({gauge}{OURS})"


OF_BUDGET = f"auth_service:errors:ratio_rate5m{OURS} / on (job) auth_service:error_budget:ratio"
OF_OBJECTIVE = f"max by (job) (auth_service:latency_seconds:p99_5m{OURS}) / on (job) auth_service:objective_latency_seconds:p99"
REFUSALS = rate("http_requests_total", "endpoint, status", 'status=~"4.."')
ROWS: dict[str, tuple[Panel, ...]] = {
    "Is it well?": (
        stat("Alerts", "short", 'sum(ALERTS{alertname=~"AuthService.*", alertstate="firing", job="$job"}) or vector(0)', red_above=0),
        stat("Instances", "short", f"count(http_requests_in_flight{OURS}) or vector(0)", red_below=1),
        stat("Redis in reach", "percentunit", f"avg(redis_up{OURS})", red_below=1),
        stat("Failed or refused, of the budget", "percentunit", OF_BUDGET, red_above=1),
        stat("Slowest p99, of the objective", "percentunit", OF_OBJECTIVE, red_above=1),
        stat("Oldest record not written", "s", f"auth_service:backlog_age_seconds:max{OURS}", red_above=60),
    ),
    "Traffic": (
        graph("Answers", "reqps", (rate("http_requests_total", "endpoint"), "{{endpoint}}")),
        graph("Answers by status", "reqps", (rate("http_requests_total", "status") + " > 0", "{{status}}")),
        graph("In flight", "short", (f"sum by (instance) (http_requests_in_flight{OURS})", "{{instance}}")),
    ),
    "Latency": (
        graph("p99", "s", (f"auth_service:latency_seconds:p99_5m{OURS}", "{{endpoint}}")),
        graph("p50", "s", (f"auth_service:latency_seconds:p50_5m{OURS}", "{{endpoint}}")),
        graph(
            "Redis's answer, p99",
            "s",
            (f"histogram_quantile(0.99, {rate('redis_request_duration_seconds_bucket', 'le')})", "p99"),
        ),
    ),
    "Errors": (
        graph("Share failed or refused", "percentunit", (f"auth_service:errors:ratio_rate5m{OURS}", "5 minutes"),
              (f"auth_service:errors:ratio_rate1h{OURS}", "1 hour"), (f"auth_service:error_budget:ratio{OURS}", "budget")),
        graph("Refused with 429", "reqps", (rate("http_requests_shed_total", "reason"), "{{reason}}")),
        graph("Refused by the rules", "reqps", (f"{REFUSALS} > 0", "{{endpoint}} {{status}}")),
    ),
    "Tokens and Redis": (
        graph("Live tokens and tombstones", "short", (most("token_cache_size"), "keys")),
        graph("Issued, used, ended", "reqps", (rate("tokens_issued_total", "kind"), "issued {{kind}}"),
              (rate("tokens_consumed_total"), "used"),
              (rate("tokens_revoked_total"), "ended")),
        graph("Tokens that Redis held, of those asked for", "percentunit", (f"auth_service:token_cache_hits:ratio_rate5m{OURS}", "held")),
        graph("Memory", "bytes", (most("redis_memory_used_bytes"), "used"), (most("redis_memory_max_bytes"), "at most")),
        graph("Dropped keys", "short", (most("redis_evicted_keys"), "dropped")),
        graph("Replicas", "short", (most("redis_connected_replicas"), "replicas")),
        graph("Clock of Redis less ours", "s", (f"redis_clock_skew_seconds{OURS}", "{{instance}}")),
    ),
    "Writer and record store": (
        graph("Backlog", "short", (f"auth_service:backlog_entries:max{OURS}", "entries"), (most("record_backlog_limit_entries"), "limit")),
        graph("Rows written", "rowsps", (rate("record_writer_rows_total", "instance"), "{{instance}}")),
        graph(
            "A batch with its commit, p99",
            "s",
            (f"histogram_quantile(0.99, {rate('record_writer_batch_seconds_bucket', 'le')})", "p99"),
        ),
        graph("Connections", "short", (f"sum(db_connections_open{OURS})", "open"), (f"sum(db_connections_idle{OURS})", "idle"),
              (f"sum(db_connections_waiting{OURS})", "calls that wait")),
        graph("Connections lost", "short", (f"sum(increase(db_connections_lost_total{OURS}[$__rate_interval]))", "lost")),
        graph("Set aside", "short", (most("record_poison_entries"), "kept"), (f"sum(record_writer_poison_total{OURS})", "since the start")),
    ),
    "Scaling": (
        graph("Instances", "short", (f"auth_service:instances:count{OURS}", "scraped"),
              (f"kube_horizontalpodautoscaler_status_desired_replicas{AUTOSCALER}", "wanted: {{horizontalpodautoscaler}}"),
              (f"kube_horizontalpodautoscaler_spec_max_replicas{AUTOSCALER}", "at most: {{horizontalpodautoscaler}}")),
        graph("CPU", "short", (rate("process_cpu_seconds_total", "instance"), "{{instance}}")),
        graph("Work for the CPU, beside the baseline", "percentunit", (f"auth_service:capacity:ratio_baseline{OURS}", "1 is as measured")),
        graph("Versions", "short", (f"count by (version) (authsvc_build_info{OURS})", "{{version}}")),
    ),
    "nginx": (
        graph("Requests", "reqps", ('sum(rate(nginx_http_requests_total{namespace="$namespace"}[$__rate_interval]))', "all pods")),
        graph("Connections", "short", ('sum(nginx_connections_active{namespace="$namespace"})', "active")),
    ),
}  # fmt: skip
SHOWN_ELSEWHERE = {
    "redis_certificate_expiry_timestamp_seconds": "an alert says in time when it ends",
    "client_secret_oldest_timestamp_seconds": "an alert says when it is a year old",
}
"""Metrics of ours without a picture, and why."""


def queries() -> Iterator[str]:
    """Of every panel."""
    for panels in ROWS.values():
        for panel in panels:
            yield from (query for query, _ in panel.queries)


def is_elsewhere(query: str) -> bool:
    """Whether it asks for what others export."""
    return any(re.search(rf"\b{beginning}", query) for beginning in ELSEWHERE)


def render() -> str:
    """The file."""
    meanings = {name: meaning for registry in _registries() for name, _, _, meaning in described(registry)}
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}, "collapsed": False, "panels": []})
        y += 1
        # As many side by side as divide the width: six numbers, three pictures.
        width = COLUMNS // 6 if row[0].kind == "stat" else COLUMNS // 3
        for number, panel in enumerate(row):
            column, line = number * width % COLUMNS, number * width // COLUMNS
            place = {"x": column, "y": y + line * HEIGHT[panel.kind], "w": width, "h": HEIGHT[panel.kind]}
            panels.append(_panel(panel, place, meanings))
        y += HEIGHT[row[0].kind] * -(-len(row) * width // COLUMNS)
    for number, each in enumerate(panels, 1):
        each["id"] = number
    dashboard = {
        "title": "auth-service", "uid": "auth-service", "tags": ["auth-service"], "schemaVersion": 39, "version": 1, "editable": True,
        "time": {"from": "now-3h", "to": "now"}, "refresh": "30s", "timezone": "browser", "graphTooltip": 1,
        "templating": {"list": _variables()}, "panels": panels,
    }  # fmt: skip
    return json.dumps(dashboard, indent=1) + "\n"


def _registries() -> tuple[CollectorRegistry, CollectorRegistry]:
    return Metrics(Counts()).registry, WriterMetrics().registry


def _panel(panel: Panel, place: dict[str, int], meanings: dict[str, str]) -> dict[str, Any]:
    names = (name for query, _ in panel.queries for name in re.findall(r"[a-z_]+", query))
    plain = (re.sub(r"_bucket$", "", name) for name in names)
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": next((meanings[name] for name in plain if name in meanings), ""),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, **_thresholds(panel)}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    if panel.red_above is not None:
        # Grafana colours from a step on, inclusive: the next number above is red.
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.red_above + 1e-9}]
    elif panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    else:
        return {}
    return {"thresholds": {"mode": "absolute", "steps": steps}}


def _variables() -> list[dict[str, Any]]:
    def asked(name: str, label: str, query: str) -> dict[str, Any]:
        return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1}

    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        asked("job", "Release", "label_values(token_cache_size, job)"),
        asked("namespace", "Namespace", 'label_values(token_cache_size{job="$job"}, namespace)'),
    ]


def main() -> None:
    """Write the file."""
    FILE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
