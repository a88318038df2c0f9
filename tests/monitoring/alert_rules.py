"""The rules of the chart, what belongs to each alert, its test file and its page, and the series that rules may ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from authsvc.commands.write import WriterMetrics
from authsvc.metrics import Counts, Metrics, described
from localstack.layout import ROOT

Rule = dict[str, Any]

FILES = [ROOT / "charts" / "auth-service" / "monitoring" / name for name in ("rules.yaml", "objectives.yaml")]
ALERT_TESTS = Path(__file__).with_name("alerts")
PAGES = ROOT / "docs" / "runbooks"
INDEX = PAGES / "README.md"
RULES: list[Rule] = [rule for file in FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
ALERTS: dict[str, Rule] = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}

OTHERS = {
    "up": "Prometheus",
    "kube_deployment_status_replicas_available": "kube-state-metrics",
    "kube_horizontalpodautoscaler_status_current_replicas": "kube-state-metrics",
    "kube_horizontalpodautoscaler_spec_max_replicas": "kube-state-metrics",
    "kube_horizontalpodautoscaler_spec_min_replicas": "kube-state-metrics",
    "kubelet_volume_stats_used_bytes": "kubelet",
    "kubelet_volume_stats_capacity_bytes": "kubelet",
    "certmanager_certificate_expiration_timestamp_seconds": "cert-manager",
    "x509_cert_not_after": "x509-certificate-exporter",
}
"""Series that others export, and who."""


def ours() -> set[str]:
    """Series that the service exports."""
    found = set()
    for registry in (Metrics(Counts()).registry, WriterMetrics().registry):
        for name, kind, *_ in described(registry):
            found |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return found


def metrics_of(expression: str) -> set[str]:
    """Names of the series that an expression asks for: what is left of it without labels, text, durations and words of PromQL."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring|group_left|group_right) *\([^)]*\)", " ", expression)
    words = re.findall(r"(?<![\w:])[a-zA-Z_:][\w:]*(?! *\()(?![\w:])", bare)
    return set(words) - {"and", "or", "unless", "by", "on", "group_left", "group_right", "bool", "offset"}
