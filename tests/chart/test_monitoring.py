"""The PrometheusRule of a release: the rules of monitoring/, with the release's names and the values' numbers in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from manifests import Object, get, of_kind, strings
from prometheus import promtool
from rendering import CHART, refused, render

from outcome.objectives import BESIDE, IDLE
from prometheus_server import RELABELINGS

ON = {"monitoring": {"enabled": True}}


def rule_groups(values: dict[str, Any], **release: Any) -> list[Object]:
    [rule] = of_kind(render(values, **release), "PrometheusRule")
    groups: list[Object] = rule["spec"]["groups"]
    return groups


def recorded(groups: list[Object], record: str, **labels: str) -> str:
    """The expression of the one rule that records this under these labels."""
    [found] = [
        rule["expr"]
        for group in groups
        for rule in group["rules"]
        if rule.get("record") == record and labels.items() <= rule.get("labels", {}).items()
    ]
    return str(found)


def monitored(**monitoring: Any) -> list[Object]:
    return rule_groups({"monitoring": ON["monitoring"] | monitoring})


def test_the_rules_are_those_of_the_files() -> None:
    files = [yaml.safe_load((CHART / "monitoring" / name).read_text())["groups"] for name in ("objectives.yaml", "rules.yaml")]
    written = [group for groups in files for group in groups]
    rendered = rule_groups(ON, name="auth-service", namespace="auth-service")
    assert yaml.safe_load(re.sub(r"auth-service/auth-service", "auth-service", yaml.safe_dump(rendered))) == written


def test_nothing_is_left_of_the_names_that_stand_for_the_releases(tmp_path: Path) -> None:
    groups = rule_groups(ON, name="shop", namespace="front")
    texts = [text for group in groups for rule in group["rules"] for path, text in strings(rule) if path in ("expr", "labels.job")]
    together = "\n".join(texts)
    assert not re.search(r'["?-]auth-service["-]|^auth-service$', together.replace("shop-auth-service", ""), re.M)
    assert set(re.findall(r'\bjob="([^"]*)"', together)) == {"front/shop-auth-service"}
    assert set(re.findall(r'namespace="([^"]*)"', together)) == {"front"}
    assert {rule["labels"]["job"] for rule in groups[0]["rules"]} == {"front/shop-auth-service"}
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    promtool("check", "rules", file)


def test_what_the_rules_name_is_what_the_release_has() -> None:
    objects = render(ON, name="shop", namespace="front")
    text = yaml.safe_dump(of_kind(objects, "PrometheusRule"))
    [monitor] = of_kind(objects, "PodMonitor")
    assert f'job="front/{monitor["metadata"]["name"]}"' in text
    [watched] = set(re.findall(r'horizontalpodautoscaler=~"([^"]*)"', text.replace("\\", "")))
    autoscalers = {autoscaler["metadata"]["name"] for autoscaler in of_kind(objects, "HorizontalPodAutoscaler")}
    assert autoscalers == {"shop-auth-service-auth", "shop-auth-service-nginx"}
    for name in autoscalers:
        assert re.fullmatch(watched, name)
        assert re.fullmatch(watched, f"keda-hpa-{name}")
    redis = get(objects, "StatefulSet", "shop-auth-service-redis")
    [claim] = redis["spec"]["volumeClaimTemplates"]
    assert f"{claim['metadata']['name']}-{redis['metadata']['name']}-0" in text


def test_the_objectives_are_the_values() -> None:
    groups = monitored(objectives={"errorBudget": 0.0005, "p99Seconds": 0.25})
    assert recorded(groups, "auth_service:error_budget:ratio") == "vector(0.0005)"
    assert recorded(groups, "auth_service:objective_latency_seconds:p99") == "vector(0.25)"


def test_a_longer_objective_than_a_duration_is_told_apart_is_refused() -> None:
    assert "p99Seconds" in refused({"monitoring": {"objectives": {"p99Seconds": 5}}})


def test_the_costs_are_the_values_and_else_those_of_the_baseline() -> None:
    own, other = monitored(baselineCpuMicroseconds={"validate": 90, "idle": 30000}), monitored()
    costs = "auth_service:baseline_cpu_seconds:request"
    assert recorded(own, costs, endpoint="validate") == "vector(90 / 1000000)"
    assert recorded(own, "auth_service:baseline_cpu_cores:idle_instance") == "vector(30000 / 1000000)"
    assert recorded(own, costs, endpoint="token") == recorded(other, costs, endpoint="token")
    assert recorded(own, costs, endpoint="validate") != recorded(other, costs, endpoint="validate")


def test_costs_may_be_those_that_a_baseline_has_and_no_others() -> None:
    assert monitored(baselineCpuMicroseconds=dict.fromkeys((*BESIDE, IDLE), 100))
    sentence = refused({"monitoring": {"baselineCpuMicroseconds": {"vlaidate": 90}}})
    assert "vlaidate" in sentence
    assert ";" not in sentence


def test_the_pages_are_where_the_values_say() -> None:
    for url in ("https://wiki.example/auth", "https://wiki.example/auth/"):
        alerts = [rule for group in monitored(runbooksUrl=url) for rule in group["rules"] if "alert" in rule]
        assert alerts
        for rule in alerts:
            assert rule["annotations"]["runbook_url"] == f"https://wiki.example/auth/{rule['alert']}.md"


def test_our_label_endpoint_is_not_the_operators() -> None:
    """It gives each target a label `endpoint`, and ours would become `exported_endpoint`; the tests' real Prometheus is told the same."""
    [monitor] = of_kind(render(ON), "PodMonitor")
    [scraped] = monitor["spec"]["podMetricsEndpoints"]
    named = [
        {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value for key, value in each.items()}
        for each in scraped["metricRelabelings"]
    ]
    assert named == RELABELINGS


def test_two_releases_have_a_dashboard_each() -> None:
    maps = [
        each
        for name in ("one", "two")
        for each in of_kind(render(ON, name=name), "ConfigMap")
        if each["metadata"]["name"].endswith("-dashboard")
    ]
    keys = [key for each in maps for key in each["data"]]
    shown = [json.loads(text) for each in maps for text in each["data"].values()]
    assert len(set(keys)) == len({each["uid"] for each in shown}) == len({each["title"] for each in shown}) == 2
