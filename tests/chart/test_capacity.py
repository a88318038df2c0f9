"""The sums that must hold: each value that breaks one is refused with the sum and the way out."""

from __future__ import annotations

from typing import Any

import pytest
from manifests import of_kind
from rendering import refused, render
from value_sets import ORACLE

BAD: list[tuple[dict[str, Any], str]] = [
    ({"auth": {"keda": {"enabled": True}}}, "auth.autoscaling and auth.keda are both enabled"),
    ({"auth": {"autoscaling": {"enabled": False}, "keda": {"enabled": True}}}, "auth.keda is enabled without auth.keda.triggers"),
    ({"auth": {"autoscaling": {"minReplicas": 13}}}, "auth.autoscaling.minReplicas 13 is above maxReplicas 12."),
    ({"nginx": {"autoscaling": {"minReplicas": 7}}}, "nginx.autoscaling.minReplicas 7 is above maxReplicas 6."),
    ({"auth": {"pdbMaxUnavailable": 4}}, "auth.pdbMaxUnavailable 4 would let a drain take all 4 pods at once"),
    (
        {"nginx": {"pdbMaxUnavailable": 2}},
        "nginx.pdbMaxUnavailable 2 would let a drain take all 2 pods at once: keep it below nginx.autoscaling.min",
    ),
    (
        {"nginx": {"replicas": 3, "autoscaling": {"enabled": False}, "pdbMaxUnavailable": 3}},
        "would let a drain take all 3 pods at once: keep it below nginx.replicas.",
    ),
    (
        {"nginx": {"mode": "stream", "rateLimit": {"requestsPerSecond": 9}}},
        "nginx.rateLimit needs nginx.mode: http; as stream nginx",
    ),
    (
        {"nginx": {"mode": "stream", "trustedProxies": ["10.0.0.0/8"]}},
        "nginx.trustedProxies needs nginx.mode: http; as stream nginx",
    ),
    ({"nginx": {"mode": "stream"}, "basePath": "/auth"}, "basePath needs nginx.mode: http; as stream nginx"),
    (
        {"nginx": {"proxyProtocol": True}},
        "nginx.proxyProtocol needs nginx.mode: stream; as http nginx names the caller in",
    ),
    ({"settings": {"AUTH_PROXY_PROTOCOL": True}}, "settings.AUTH_PROXY_PROTOCOL has a value of its own"),
    ({"auth": {"drainSeconds": 4}}, "auth.drainSeconds 4 is not above the 4 s that nginx keeps idle connections"),
    ({"auth": {"keepAliveSeconds": 4}}, "auth.keepAliveSeconds 4 is not above the 4 s that nginx keeps idle connections"),
    (
        {"auth": {"preStopSeconds": 35}},
        "auth.preStopSeconds + auth.drainSeconds = 41 s, but nginx may go on sending to a pod for 30 + 2 x 5 + 2 s",
    ),
    (
        {"auth": {"preStopSeconds": 0}, "nginx": {"dnsTtlSeconds": 5}},
        "auth.preStopSeconds + auth.drainSeconds = 6 s, but nginx may go on sending to a pod for 5 + 2 x 5 + 2 s",
    ),
    (
        {"auth": {"preStopSeconds": 36}, "nginx": {"resolverSeconds": 6}},
        "auth.preStopSeconds + auth.drainSeconds = 42 s, but nginx may go on sending to a pod for 30 + 2 x 6 + 2 s",
    ),
    (
        {"auth": {"terminationGracePeriodSeconds": 47}},
        "auth.terminationGracePeriodSeconds 47 is too short: preStopSeconds 36 + drainSeconds 6 + 6 for the last request = 48.",
    ),
    ({"auth": {"workers": 3}}, "auth.resources.limits.memory 384Mi is too small: 64Mi + 3 workers x 110Mi = 394Mi."),
    ({"auth": {"resources": {"limits": {"cpu": "3500m"}}}}, "auth.resources.limits.memory 384Mi is too small: 64Mi + 3 workers x 110Mi"),
    (
        {"oracle": ORACLE | {"poolMax": 11}},
        "(2 writers + 1 that is ending) x oracle.poolMax 11 + oracle.sessionReserve 10 = 43 sessions, but oracle.sessionLimit is 40",
    ),
    ({"oracle": {"url": ORACLE["url"]}}, "oracle.url needs oracle.existingSecret"),
    ({"oracle": {"existingSecret": ORACLE["existingSecret"]}}, "oracle.existingSecret needs oracle.url: the database."),
    (
        {"redis": {"maxClients": 111}},
        "(12 auth pods + 3 while they roll) x 1 workers x 4 + 1 writers x 20 + 32 = 112 connections to Redis, but it takes 111",
    ),
    (
        {"capacity": {"tokensPerSecond": 500}},
        "Redis must hold 500 tokens/s x 3600 s x 200 bytes + 500 tokens/s x 30 min x 60 x 256 bytes = 563Mi (capacity), "
        "but its maxmemory is 512Mi: raise redis.resources.limits.memory, of which it is half.",
    ),
    (
        {"redis": {"external": {"url": "redis://redis:6379", "memory": "200Mi"}}},
        "but its maxmemory is 200Mi: raise redis.external.memory.",
    ),
    (
        {"redis": {"external": {"url": "redis://redis:6379"}, "exporter": {"enabled": True}}},
        "redis.exporter is a container beside the chart's own Redis, and redis.external.url names another",
    ),
    ({"redis": {"persistence": {"size": "1535Mi"}}}, "redis.persistence.size 1535Mi is less than 3 x maxmemory 512Mi"),
    (
        {"capacity": {"clientConnections": 8193}},
        "capacity.clientConnections 8193 do not fit: 2 nginx pods x 1 workers x 8192 / 2 = 8192: raise nginx.autoscaling.minReplicas",
    ),
    (
        {"capacity": {"clientConnections": 12289}, "nginx": {"replicas": 3, "autoscaling": {"enabled": False}}},
        "3 nginx pods x 1 workers x 8192 / 2 = 12288: raise nginx.replicas or the CPU limit of nginx.",
    ),
    ({"secrets": {"tokenKeys": {"acceptedEntry": "token-key"}}}, 'secrets.tokenKeys names entry "token-key" twice'),
    ({"clients": {"seed": [{"client_id": "a"}], "existingConfigMap": "b"}}, "clients.seed and clients.existingConfigMap are both given"),
    ({"nginx": {"httpRoute": {"enabled": True}}}, "nginx.httpRoute is enabled without nginx.httpRoute.parentRefs"),
    (
        {"nginx": {"service": {"externalTrafficPolicy": "Local"}}},
        "nginx.service.externalTrafficPolicy is for callers from outside the cluster",
    ),
    ({"settings": {"LOG_LEVEL": "info"}}, "settings.LOG_LEVEL is no setting"),
    ({"settings": {"AUTH_WORKERS": 2}}, "settings.AUTH_WORKERS has a value of its own in this chart"),
    ({"settings": {"AUTH_TOKEN_KEY": "x"}}, "settings.AUTH_TOKEN_KEY would stand in the open"),
]
"""Values, and how the sentence begins by which they are refused."""

JUST_GOOD: list[dict[str, Any]] = [
    {"auth": {"terminationGracePeriodSeconds": 48}},
    {"auth": {"resources": {"limits": {"cpu": "2900m"}}}},
    {"oracle": ORACLE | {"poolMax": 10}},
    {"redis": {"maxClients": 112}},
    {"redis": {"persistence": {"size": "1536Mi"}}},
    {"capacity": {"clientConnections": 8192}},
    {"capacity": {"clientConnections": 12288}, "nginx": {"autoscaling": {"minReplicas": 3}}},
    {"nginx": {"pdbMaxUnavailable": 2, "autoscaling": {"minReplicas": 3}}},
    {"auth": {"preStopSeconds": 36}},
    {"nginx": {"resolverSeconds": 30, "dnsTtlSeconds": 300}},
    {"auth": {"preStopSeconds": 0, "drainSeconds": 12}, "nginx": {"dnsTtlSeconds": 0}},
]


@pytest.mark.parametrize(("values", "sentence"), BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_a_sum_that_does_not_hold(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(values)


@pytest.mark.parametrize("values", JUST_GOOD, ids=str)
def test_a_sum_that_just_holds(values: dict[str, Any]) -> None:
    assert render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"nothing": 1},
        {"auth": {"replica": 4}},
        {"auth": {"replicas": "four"}},
        {"redis": {"appendfsync": "no"}},
        {"redis": {"persistence": {"size": "2 GB"}}},
        {"image": {"digest": "sha256:12"}},
        {"basePath": "auth/"},
        {"oracle": {"url": "oracle://user:secret@db:1521/S"}},
        {"nginx": {"service": {"port": 70000}}},
        {"redis": {"external": {"url": "rediss://user:secret@redis:6379/0"}}},
        {"redis": {"external": {"url": "rediss://:secret@redis:6379/0"}}},
    ],
    ids=str,
)
def test_what_the_schema_does_not_take(values: dict[str, Any]) -> None:
    assert refused(values)


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        # A quarter of 512Mi, at 256 bytes.
        ({}, 524288),
        ({"capacity": {"tokensPerSecond": 20, "outageMinutes": 1440}}, 1728000),
        (
            {"capacity": {"tokensPerSecond": 0, "outageMinutes": 0}, "redis": {"external": {"url": "redis://redis:6379", "memory": "100"}}},
            1,
        ),
    ],
    ids=str,
)
def test_the_backlog_may_be_as_long_as_the_outage_that_is_promised(values: dict[str, Any], limit: int) -> None:
    assert environment(values)["AUTH_BACKLOG_LIMIT"] == str(limit)


def test_a_large_number_of_the_settings_is_a_number() -> None:
    assert environment({"settings": {"AUTH_BACKLOG_LIMIT": 4_000_000}})["AUTH_BACKLOG_LIMIT"] == "4000000"
    assert environment({"settings": {"AUTH_READY_GRACE_SECONDS": 2.5}})["AUTH_READY_GRACE_SECONDS"] == "2.5"


def environment(values: dict[str, Any]) -> dict[str, str]:
    """Variables of an auth pod."""
    [deployment] = [thing for thing in of_kind(render(values), "Deployment") if thing["metadata"]["name"].endswith("-auth")]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), "a variable is there twice"
    return {variable["name"]: variable["value"] for variable in container["env"]}
