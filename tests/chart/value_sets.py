"""Sets of values that between them show every part of the chart: what holds for any values is tried on each of them."""

from __future__ import annotations

from typing import Any

ORACLE = {"url": "oracle://authsvc@db.example:1521/AUTH", "existingSecret": "oracle-login"}

KEDA_TRIGGERS = [
    {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60", "containerName": "auth"}},
    {
        "type": "prometheus",
        "metadata": {
            "serverAddress": "http://prometheus.monitoring:9090",
            "query": 'sum(rate(http_requests_total{namespace="auth", pod=~"auth-auth-service-auth-.*"}[1m]))',
            "threshold": "4000",
        },
    },
]

VALUE_SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    # One pod of everything and nothing that is optional.
    "minimal": {
        "auth": {"replicas": 1, "autoscaling": {"enabled": False}},
        "nginx": {"replicas": 1, "autoscaling": {"enabled": False}},
        "networkPolicy": {"enabled": False},
        "tuning": {"sysctls": None},
    },
    # What a platform team in production has: Oracle behind a wallet, its own Secrets, a balancer and a Prometheus.
    "oracle": {
        "oracle": ORACLE | {"walletSecret": "wallet", "walletPasswordEntry": "wallet-password", "networkCidr": "10.1.0.0/16"},
        "secrets": {"existingSecret": "auth-keys", "tokenKeys": {"issuingEntry": "key-2", "acceptedEntry": "key-1"}},
        "image": {"repository": "registry.example/auth-service", "digest": "sha256:" + "ab" * 32},
        "imagePullSecrets": [{"name": "pull"}],
        "nginx": {"ingress": {"enabled": True, "className": "nginx", "host": "auth.example", "tlsSecretName": "auth-tls"}},
        "clients": {"existingConfigMap": "auth-clients"},
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "baselineCpuMicroseconds": {"validate": 90}},
    },
    "oracle whose schema a DBA keeps": {"oracle": ORACLE | {"migrate": False}},
    "external redis": {
        "redis": {"external": {"url": "rediss://auth@redis.example:6380/0", "existingSecret": "redis-login", "caSecret": "redis-ca"}},
    },
    "external redis cluster": {"redis": {"external": {"url": "redis://auth@redis.example:6379", "cluster": True, "memory": "16Gi"}}},
    "keda": {
        "auth": {
            "autoscaling": {"enabled": False},
            # Those of the chart's README.
            "keda": {"enabled": True, "triggers": KEDA_TRIGGERS},
        },
    },
    # Everything that can be on at once, on the embedded store.
    "all on": {
        "basePath": "/auth-server/v1/oauth",
        "commonLabels": {"team": "platform"},
        "settings": {"AUTH_LOG_LEVEL": "debug"},
        "auth": {
            "autoscaling": {"requestsPerSecond": 4000, "inFlight": 50},
            "podSpec": {"priorityClassName": "high", "nodeSelector": {"pool": "auth"}},
            "podAnnotations": {"example.com/owner": "platform"},
            "podLabels": {"example.com/tier": "front"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "extraVolumes": [{"name": "extra", "emptyDir": {"sizeLimit": "1Mi"}}],
            "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        },
        "nginx": {
            "rateLimit": {"requestsPerSecond": 100},
            "accessLog": "all",
            "trustedProxies": ["10.0.0.0/8"],
            "serverSnippet": "add_header X-Served-By nginx always;",
            "stubStatus": True,
            "exporter": {"enabled": True},
            "tls": {"secretName": "nginx-tls"},
            "service": {"type": "LoadBalancer", "annotations": {"example.com/lb": "internal"}, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "ingress": {"enabled": True, "host": "auth.example"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["auth.example"]},
        },
        "redis": {"exporter": {"enabled": True}, "appendfsync": "everysec", "persistence": {"size": "4Gi", "storageClass": "fast"}},
        "writer": {"profile": "throughput", "persistence": {"storageClass": "fast"}},
        "clients": {"seed": [{"id": "shop", "scopes": ["read"], "digests": ["c2NyeXB0"], "status": "active"}]},
        "networkPolicy": {
            "clientsFrom": [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}],
            "monitoringFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "baselineCpuMicroseconds": {"validate": 90}},
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "extra", "namespace": "{{ .Release.Namespace }}"},
                "data": {"of": "{{ .Release.Name }}"},
            }
        ],
    },
    "an nginx that passes on connections": {
        "nginx": {
            "mode": "stream",
            "proxyProtocol": True,
            "accessLog": "all",
            "serverSnippet": "allow all;",
            "stubStatus": True,
            "exporter": {"enabled": True},
            "tls": {"secretName": "nginx-tls"},
        },
    },
    "an nginx that cannot ask DNS": {"nginx": {"discovery": "clusterIP"}},
}
"""By names that tell a failure's reader what is special. The lint and every test of test_any_values.py runs over each."""

API_VERSIONS = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1", "keda.sh/v1alpha1")
"""What a cluster offers that has the kinds from elsewhere."""
