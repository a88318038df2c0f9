"""The exporters of Redis and nginx: off unless asked for, scraped as jobs of their own, and with no more rights than their metrics take."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from manifests import Object, all_containers, get, of_kind
from rendering import render
from value_sets import API_VERSIONS, VALUE_SETS

from servers import RedisServer

PORTS = {"nginx": 9113, "redis": 9121}
ON: dict[str, Any] = {"monitoring": {"enabled": True}} | {name: {"exporter": {"enabled": True}} for name in PORTS}
PASSWORD = 'p"a\\s&s|word'
"""What JSON, sed and a shell would each read in a way of their own."""


def workload(objects: list[Object], component: str) -> Object:
    return get(objects, {"nginx": "Deployment", "redis": "StatefulSet"}[component], f"auth-auth-service-{component}")


def exporter(objects: list[Object], component: str) -> Object:
    """The exporter's container."""
    [found] = [each for each in workload(objects, component)["spec"]["template"]["spec"]["containers"] if each["name"] == "exporter"]
    assert isinstance(found, dict)
    return found


def status_servers(objects: list[Object]) -> list[str]:
    """Where nginx listens with its counters."""
    text = "\n".join(get(objects, "ConfigMap", "auth-auth-service-nginx")["data"].values())
    return [re.findall(r"listen (\S+);", server)[0] for server in text.split("server {") if "stub_status;" in server]


def test_they_are_off_by_default() -> None:
    objects = render({"monitoring": {"enabled": True}})
    assert [container.name for container in all_containers(objects) if container.spec["name"] == "exporter"] == []
    assert [monitor["metadata"]["name"] for monitor in of_kind(objects, "PodMonitor")] == ["auth-auth-service"]
    assert status_servers(objects) == []
    assert "publishNotReadyAddresses" not in get(objects, "Service", "auth-auth-service-redis")["spec"]


@pytest.mark.parametrize("component", PORTS)
def test_each_is_alone_where_the_other_is_off(component: str) -> None:
    objects = render({component: ON[component]})
    [container] = [each for each in all_containers(objects) if each.spec["name"] == "exporter"]
    assert container.owner.endswith(f"-{component}")


@pytest.mark.parametrize("component", PORTS)
def test_the_values_say_its_image_and_its_size(component: str) -> None:
    image = {"repository": "registry.example/exporter", "tag": "1"}
    size = {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}}
    container = exporter(render({component: {"exporter": {"enabled": True, "image": image, "resources": size}}}), component)
    assert container["image"] == "registry.example/exporter:1"
    assert container["resources"] == size


@pytest.mark.parametrize("component", PORTS)
def test_prometheus_finds_it_as_a_job_of_its_own(component: str) -> None:
    """The operator calls a job by its monitor, and rules and dashboard ask for that of auth and writer: a name that both export is two."""
    objects = render(ON)
    monitor = get(objects, "PodMonitor", f"auth-auth-service-{component}")
    assert monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == component
    assert [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
    assert exporter(objects, component)["ports"] == [{"name": "metrics", "containerPort": PORTS[component]}]
    ours = get(objects, "PodMonitor", "auth-auth-service")
    [among] = ours["spec"]["selector"]["matchExpressions"]
    assert component not in among["values"]
    assert monitor["metadata"]["labels"] == ours["metadata"]["labels"]


@pytest.mark.parametrize("component", PORTS)
def test_those_who_may_scrape_may_reach_it_and_nobody_else(component: str) -> None:
    allowed = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    policies = render({**ON, "networkPolicy": {"monitoringFrom": allowed}})
    rules = get(policies, "NetworkPolicy", f"auth-auth-service-{component}")["spec"]["ingress"]
    assert [rule["from"] for rule in rules if {"port": PORTS[component], "protocol": "TCP"} in rule["ports"]] == [allowed]


@pytest.mark.parametrize("mode", ["http", "stream"])
def test_nginxs_counters_are_on_an_address_that_only_the_pod_has(mode: str) -> None:
    objects = render({"nginx": {"mode": mode, "exporter": {"enabled": True}}})
    [address] = status_servers(objects)
    assert address.startswith("127.0.0.1:")
    assert exporter(objects, "nginx")["args"] == [f"--nginx.scrape-uri=http://{address}/status"]


def test_redis_stays_in_reach_while_its_exporter_is_not_ready() -> None:
    assert get(render(ON), "Service", "auth-auth-service-redis")["spec"]["publishNotReadyAddresses"] is True


def written(folder: Path, values: dict[str, Any]) -> Path:
    """What the container `users` writes for this password, at its own paths below the folder."""
    [users] = workload(render(values, apis=API_VERSIONS), "redis")["spec"]["template"]["spec"]["initContainers"]
    shell, flags, script = users["command"]
    (folder / "password").write_text(PASSWORD + "\n")
    here = script.replace("/run/secrets/redis/", f"{folder}/").replace("/run/redis/", f"{folder}/")
    subprocess.run([shell, flags, here], check=True, capture_output=True, timeout=30)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Redis with the users of a release that has the exporter, and a key."""
    folder = written(tmp_path, VALUE_SETS["all on"])
    running = RedisServer(tmp_path / "redis", "--aclfile", str(folder / "users.acl"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_the_exporter_may_ask_how_redis_is_and_for_no_key(server: RedisServer, tmp_path: Path) -> None:
    [(address, password)] = json.loads((tmp_path / "exporter.json").read_text()).items()
    container = exporter(render(ON), "redis")
    told = dict(word.removeprefix("--").partition("=")[::2] for word in container["args"])
    assert address == told["redis.addr"].replace("://", f"://{told['redis.user']}@")
    assert Path(told["redis.password-file"]).name == "exporter.json"
    assert "disable-scrape-endpoint" in told
    with redis.Redis(port=server.port, username=told["redis.user"], password=password) as client:
        for question in (
            *("PING", "INFO all", "CONFIG GET *", "CLIENT SETNAME redis_exporter", "SLOWLOG LEN", "SLOWLOG GET 1"),
            *("LATENCY LATEST", "LATENCY HISTOGRAM"),
        ):
            client.execute_command(*question.split())
        for forbidden in ("GET key", "SET key 1", "SCAN 0", "CONFIG SET maxmemory 0", "SLOWLOG RESET", "ACL LIST", "FLUSHALL"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*forbidden.split())


def test_without_the_exporter_redis_does_not_know_it(tmp_path: Path) -> None:
    folder = written(tmp_path, {})
    users = [line.split()[1] for line in (folder / "users.acl").read_text().splitlines()]
    assert users == ["default", "probe", "authsvc"]
    assert not (folder / "exporter.json").exists()
