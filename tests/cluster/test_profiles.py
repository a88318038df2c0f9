"""The same without Helm, and with Oracle: `kubectl apply -k k8s/laptop`, and two writers over a database that pods can reach."""

from __future__ import annotations

import json
import os
from secrets import token_hex

import pytest
from release import IMAGE, ROLL_SECONDS, SMALL_RELEASE, Namespace, Release, run
from tools import KUBECTL

from localstack.layout import ROOT
from servers import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]


def test_the_laptop_profile_without_helm(volumes: None) -> None:
    text = run(KUBECTL, "kustomize", str(ROOT / "k8s" / "laptop")).replace("image: auth-service:", "image: docker.io/library/auth-service:")
    built_as = "docker.io/library/auth-service:" + text.split("image: docker.io/library/auth-service:")[1].split("\n")[0]
    manifests = text.replace(built_as, IMAGE)
    namespace = Namespace("auth")
    try:
        run(KUBECTL, "apply", "-f", "-", stdin=manifests)
        for thing in ("deployment/auth-service-auth", "deployment/auth-service-nginx", "statefulset/auth-service-writer"):
            namespace.kubectl("rollout", "status", thing, f"--timeout={ROLL_SECONDS:.0f}s")
        # It fails where there is a difference: applied again, nothing would change.
        run(KUBECTL, "diff", "-f", "-", stdin=manifests)
        writer = ["exec", "auth-service-writer-0", "-c", "writer", "--"]
        added = json.loads(namespace.kubectl(*writer, "authsvc", "client", "add", "laptop", "--scope", "read", "--json"))
        script = f"open('/tmp/secret', 'w').write({added['client_secret']!r})"
        namespace.kubectl(*writer, "python", "-c", script)
        doors = ["http://auth-service", "http://auth-service-auth:8080"]
        said = namespace.kubectl(*writer, "authsvc", "trial", *doors, "--client-id", "laptop", "--secret-file", "/tmp/secret")
        assert said.count("use it again") == 2
    finally:
        namespace.delete()


@pytest.mark.skipif("TEST_ORACLE_CLUSTER_DSN" not in os.environ, reason="TEST_ORACLE_CLUSTER_DSN names no Oracle that pods can reach")
def test_two_writers_over_oracle(release: Release) -> None:
    dsn, user, password = (os.environ[f"TEST_ORACLE_CLUSTER_{name}"] for name in ("DSN", "USER", "PASSWORD"))
    release.kubectl("create", "secret", "generic", "oracle", f"--from-literal=oracle-password={password}")
    values = SMALL_RELEASE | {"oracle": {"url": f"oracle://{user}@{dsn}", "existingSecret": "oracle"}}
    release.helm("install", **values)
    assert (release.ready("auth"), release.ready("writer")) == (2, 2)
    assert release.trial().count("use it again") == 2
    # The database may be one that another test wrote to.
    client = f"load-{token_hex(3)}"
    secret = release.add_client(client)
    with release.load(client, secret, threads=2) as result:
        # The migration runs again, before anything is rolled.
        release.helm("upgrade", **values | {"settings": {"AUTH_LOG_LEVEL": "debug"}})
        release.rolled("deployment", "auth")
        release.rolled("deployment", "writer")
    assert result["failures"] == [], result
    wait_until(lambda: release.backlog() == 0, "the backlog is written", 120)
    written = release.execute("writer", "authsvc", "token", "export", "--client", client).count("\n")
    assert written >= result["counts"]["/token"] + result["counts"]["/ott"]
    assert release.get("persistentvolumeclaims")[0]["metadata"]["name"] == "data-auth-auth-service-redis-0"
