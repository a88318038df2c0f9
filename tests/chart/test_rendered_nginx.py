"""The configuration that the chart renders, before the real nginx: it is valid for any values, and the prefix serves the whole API."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from manifests import of_kind
from rendering import render
from value_sets import API_VERSIONS, VALUE_SETS

from service.nginx_fixture import NginxServer, free_port, nginx_binary
from service.one_instance import FORM, OneInstance, basic, bearer, one_instance, secret_of
from service.wire import ask

PREFIX = "/auth-server/v1/oauth"


def files_of(values: dict[str, Any]) -> dict[str, str]:
    """nginx's files by name."""
    objects = render(values, apis=API_VERSIONS)
    [found] = [thing for thing in of_kind(objects, "ConfigMap") if "nginx.conf" in thing["data"]]
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
    for name, text in files_of(VALUE_SETS[value_set]).items():
        # The wheel has no stub_status; a name that only a cluster knows is looked up at the start unless it is to be resolved later.
        here = text.replace("/run/nginx/", f"{tmp_path}/").replace("/run/nginx-tls/", f"{tmp_path}/").replace("stub_status;", "return 204;")
        (tmp_path / name).write_text(here.replace("svc.cluster.local:8080 max_fails=0", "svc.cluster.local:8080 resolve"))
    done = subprocess.run(
        [nginx_binary(), "-t", "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


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


def test_refusals_of_nginx_have_the_contracts_body_there_too(port: int) -> None:
    answer = ask(port, "POST", f"{PREFIX}/token", [("Content-Type", FORM)], b"x" * 20_000)
    assert (answer.status, answer.json["error"]) == (413, "content_too_large")
