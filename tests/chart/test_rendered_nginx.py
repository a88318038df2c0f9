"""The configuration that the chart renders, before the real nginx: it is valid for any values, and the prefix serves the whole API."""

from __future__ import annotations

import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from manifests import of_kind
from rendering import render
from value_sets import API_VERSIONS, VALUE_SETS

from certificates import Authority
from servers import free_port, wait_until
from service.nginx_fixture import HTTP, STREAM, NginxServer, nginx_binary
from service.one_instance import FORM, OneInstance, basic, bearer, one_instance, secret_of
from service.wire import ask

PREFIX = "/auth-server/v1/oauth"


def files_of(values: dict[str, Any]) -> dict[str, str]:
    """nginx's files by name."""
    objects = render(values, apis=API_VERSIONS)
    [found] = [thing for thing in of_kind(objects, "ConfigMap") if "process.conf" in thing["data"]]
    data: dict[str, str] = found["data"]
    return data


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_nginx_takes_the_files(value_set: str, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=auth", "-keyout", "tls.key", "-out", "tls.crt"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "resolver.conf").write_text("resolver 127.0.0.1 valid=5s ipv6=off;\n")
    files = files_of(VALUE_SETS[value_set])
    for name, text in files.items():
        # The wheel has no stub_status; a name that only a cluster knows is looked up at the start unless it is to be resolved later.
        here = text.replace("/run/nginx/", f"{tmp_path}/").replace("/run/nginx-tls/", f"{tmp_path}/").replace("stub_status;", "return 204;")
        (tmp_path / name).write_text(here.replace("svc.cluster.local:8080 max_fails=0", "svc.cluster.local:8080 resolve"))
    [first] = files.keys() & {"nginx.conf", "stream.conf"}
    done = subprocess.run(
        [nginx_binary(), "-t", "-e", "stderr", "-p", tmp_path, "-c", tmp_path / first], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """That the workers can read, who have another user where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("mode", ["http", "stream"])
def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path, folder: Path, mode: str) -> None:
    files = files_of({"nginx": {"mode": mode, "tls": {"secretName": "tls"}}})
    shared = STREAM if mode == "stream" else HTTP
    (tls_map,) = re.findall(r"map \$ssl_server_name [^}]+}", files["tcp.conf" if mode == "stream" else "http.conf"])
    lines = [line for line in files["listen.conf"].splitlines() if line.startswith("ssl_")]
    port = free_port()
    here = [f"listen 127.0.0.1:{port} ssl;", *lines]
    authority = Authority("ca")

    def renew() -> bytes:
        identity = authority.identity("auth", "auth.example")
        for name, text in (("tls.key", identity.key_text()), ("tls.crt", identity.certificate)):
            # A file of its own each time, as a volume of a Secret has it.
            (folder / "new").write_bytes(text)
            (folder / "new").replace(folder / name)
        return identity.certificate

    def served() -> bytes:
        return ssl.get_server_certificate(("127.0.0.1", port)).encode()

    first = renew()
    level = tls_map.replace("/run/nginx-tls", str(folder))
    server = NginxServer(
        tmp_path / "conf", tmp_path / "prefix", free_port(), ["127.0.0.1:1"], listen="\n".join(here), level=level, shared=shared
    )
    with server:
        assert served() == first
        second = renew()
        wait_until(lambda: served() == second, "the new certificate is served", 30)


def test_over_tcp_each_part_of_the_configuration_is_the_other_modules() -> None:
    files = files_of({"nginx": {"mode": "stream", "proxyProtocol": True}, "auth": {"keepAliveSeconds": 100}})
    assert files.keys() == {"process.conf", "stream.conf", "main.conf", "listen.conf", "upstream.conf", "tcp.conf"}
    assert "proxy_timeout 105s;" in files["listen.conf"], "an instance closes what is idle, not nginx"
    assert "proxy_protocol on;" in files["listen.conf"]
    assert "listen 9090;" in files["main.conf"], "probes speak HTTP"


def test_instances_expect_the_header_that_nginx_sends() -> None:
    """And the trial of `helm test` does not go past nginx then: nobody would name it."""

    def told(*, header: bool) -> tuple[bool, int]:
        objects = render({"nginx": {"mode": "stream", "proxyProtocol": header}}, apis=API_VERSIONS)
        [auth] = [thing for thing in of_kind(objects, "Deployment") if thing["metadata"]["name"].endswith("-auth")]
        [trial] = of_kind(objects, "Pod")
        env = {each["name"]: each.get("value") for each in auth["spec"]["template"]["spec"]["containers"][0]["env"]}
        urls = [word for word in trial["spec"]["containers"][0]["args"] if word.startswith("http://")]
        return env.get("AUTH_PROXY_PROTOCOL") == "true", len(urls)

    assert (told(header=True), told(header=False)) == ((True, 1), (False, 2))


def test_an_nginx_before_1_27_4_gets_no_line_that_it_does_not_know() -> None:
    newest, older = (files_of({"nginx": {"discovery": mode, "tls": {"secretName": "tls"}}}) for mode in ("headless", "clusterIP"))
    for line in ("keepalive_min_timeout", "ssl_certificate_cache", " resolve "):
        assert any(line in text for text in newest.values())
        assert not any(line in text for text in older.values())


@pytest.mark.parametrize(
    ("limit", "replicas", "lines"),
    [
        ({"requestsPerSecond": 100, "burst": 200}, 2, ("rate=3000r/m", "burst=100 nodelay")),
        ({"requestsPerSecond": 10, "burst": 5}, 3, ("rate=200r/m", "burst=2 nodelay")),
        ({"requestsPerSecond": 1, "burst": 0}, 100, ("rate=1r/m", "burst=0 nodelay")),
    ],
)
def test_a_limit_is_shared_by_the_pods_of_nginx(limit: dict[str, int], replicas: int, lines: tuple[str, str]) -> None:
    for pods in (
        {"replicas": replicas, "autoscaling": {"enabled": False}},
        # Of the most pods: an address is never let through more than the limit, however many there are.
        {"autoscaling": {"minReplicas": 1, "maxReplicas": replicas}},
    ):
        files = files_of({"nginx": {**pods, "rateLimit": limit}})
        assert lines[0] in files["http.conf"]
        assert lines[1] in files["listen.conf"]


@pytest.mark.parametrize(
    ("pods", "method"),
    [
        ({"replicas": 1, "autoscaling": {"enabled": False}}, "least_conn;"),
        ({"replicas": 2, "autoscaling": {"enabled": False}}, "random two least_conn;"),
        ({"replicas": 1, "autoscaling": {"minReplicas": 1}}, "random two least_conn;"),
    ],
)
def test_only_a_balancer_that_stays_alone_balances_by_what_it_sees(pods: dict[str, Any], method: str) -> None:
    assert files_of({"nginx": pods})["upstream.conf"].splitlines()[0] == method


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("instance")) as running:
        yield running


@pytest.fixture(scope="module")
def port(instance: OneInstance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """nginx with the chart's own lines for a prefix."""
    folder = tmp_path_factory.mktemp("nginx")
    lines = files_of({"basePath": PREFIX})["listen.conf"].splitlines()
    rewriting = "\n".join(line for line in lines if not line.startswith(("listen ", "access_log ")))
    assert "rewrite" in rewriting
    listen = free_port()
    backend = f"127.0.0.1:{instance.process.port}"
    with NginxServer(folder / "conf", folder / "prefix", listen, [backend], listen=rewriting):
        yield listen


def test_the_whole_api_is_below_the_prefix(port: int) -> None:
    authorization = basic("app", secret_of("app"))
    token = ask(port, "POST", f"{PREFIX}/token", [authorization, ("Content-Type", FORM)], b"grant_type=client_credentials").json[
        "access_token"
    ]
    assert ask(port, "GET", f"{PREFIX}/health").status == 200
    assert ask(port, "GET", f"{PREFIX}/validate", [bearer(token)]).json["active"]
    assert ask(port, "POST", f"{PREFIX}/validate", [("Content-Type", FORM)], f"token={token}".encode()).json["active"]
    assert ask(port, "GET", f"{PREFIX}/validate?scope=nothing", [bearer(token)]).status == 403
    assert ask(port, "POST", f"{PREFIX}/revoke", [bearer(token)]).status == 200
    assert ask(port, "GET", f"{PREFIX}/validate", [bearer(token)]).status == 401


@pytest.mark.parametrize(
    "path", ["/health", "/token", "/validate", "/", "/auth-server/v1/oauthx/health", "/auth-server/v1", "/refusal", "/validate/again"]
)
def test_nothing_is_beside_it(port: int, path: str) -> None:
    answer = ask(port, "GET", path)
    assert (answer.status, answer.json["error"]) == (404, "not_found")


def test_the_metadata_are_where_rfc_8414_has_them(port: int) -> None:
    """Section 3.1: the issuer's path comes after the well-known one. Below the prefix they are too, as everything."""
    for path in (f"/.well-known/oauth-authorization-server{PREFIX}", f"{PREFIX}/.well-known/oauth-authorization-server"):
        answer = ask(port, "GET", path)
        assert (answer.status, "token_endpoint" in answer.json) == (200, True), path
    assert ask(port, "GET", "/.well-known/oauth-authorization-server").status == 404


@pytest.mark.parametrize(("path", "allow"), [("/token", "OPTIONS, POST"), ("/validate", "GET, HEAD, OPTIONS, POST")])
def test_a_method_that_nginx_refuses_is_told_the_others(port: int, path: str, allow: str) -> None:
    answer = ask(port, "TRACE", PREFIX + path)
    assert (answer.status, answer.header("allow")) == (405, allow)


def test_refusals_of_nginx_have_the_contracts_body_there_too(port: int) -> None:
    answer = ask(port, "POST", f"{PREFIX}/token", [("Content-Type", FORM)], b"x" * 20_000)
    assert (answer.status, answer.json["error"]) == (413, "content_too_large")
