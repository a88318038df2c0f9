"""The chart's values of what is needed."""

from __future__ import annotations

import math
from typing import Any

from sizing.needs import MIB, NGINX_CORES, POOL_MAX, ROW_BYTES, SESSION_RESERVE, TARGET, WRITER_ROWS, Needs

WORKER_MIB, POD_MIB = 110, 64
SECRET = "oracle"
"""With the password, as the chart's README makes it."""
STORED_DAYS = 30
"""That the volume of the embedded store is for."""


def profile(needs: Needs) -> str:
    """Of the writers."""
    return "throughput" if needs.events > WRITER_ROWS / 2 else "balanced"


def chart_values(needs: Needs) -> dict[str, Any]:
    """To be given to helm with `-f`."""
    demand, memory = needs.demand, f"{2 * needs.memory_mib}Mi"
    requested = {"memory": f"{POD_MIB + WORKER_MIB + 18}Mi"}
    values: dict[str, Any] = {
        "auth": {
            "replicas": needs.pods,
            "autoscaling": _bounds(needs.pods_bounds),
            "resources": {"requests": {"cpu": _millicores(needs.pods_request)} | requested, "limits": {"cpu": "1", "memory": "384Mi"}},
        },
        "nginx": {
            "replicas": needs.balancers,
            "autoscaling": _bounds(needs.balancers_bounds),
            "resources": {
                "requests": {"cpu": _millicores(needs.balancers_request), "memory": "128Mi"},
                "limits": {"cpu": str(NGINX_CORES), "memory": "256Mi"},
            },
        },
        "redis": {
            "resources": {"requests": {"cpu": "1", "memory": memory}, "limits": {"cpu": "2", "memory": memory}},
            "persistence": {"size": f"{needs.volume_gib}Gi"},
        },
        "writer": {"profile": profile(needs)},
        "capacity": {
            "tokensPerSecond": math.ceil(needs.made),
            "accessTtlSeconds": demand.ttl_seconds,
            "outageMinutes": demand.outage_minutes,
            "clientConnections": demand.connections,
        },
        # The chart's own limit counts an event for each token; uses and revocations are events as well.
        "settings": {"AUTH_BACKLOG_LIMIT": needs.backlog_limit},
    }
    if demand.store == "oracle":
        values["writer"]["replicas"] = needs.writers
        # The chart refuses a Secret without a URL: a size for Oracle must not become one on the embedded store.
        values["oracle"] = {
            "existingSecret": SECRET,
            "poolMax": POOL_MAX,
            "sessionReserve": SESSION_RESERVE,
            "sessionLimit": needs.sessions,
        }
    else:
        stored = needs.made * 86_400 * STORED_DAYS * ROW_BYTES
        values["writer"]["persistence"] = {"size": f"{max(1, math.ceil(stored / MIB / 1024))}Gi"}
    return values


def _bounds(bounds: tuple[int, int]) -> dict[str, Any]:
    return {"enabled": True, "minReplicas": bounds[0], "maxReplicas": bounds[1], "targetCpuUtilization": round(100 * TARGET)}


def _millicores(cores: float) -> str:
    return f"{round(1000 * cores)}m"
