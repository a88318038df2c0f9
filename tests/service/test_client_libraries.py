"""Client libraries as their users call them, unchanged, against the running stack: Authlib, oauthlib, nginx `auth_request`, Go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6750 import InsufficientScopeError, InvalidTokenError
from authlib.oauth2.rfc7662 import IntrospectTokenValidator
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidScopeError
from requests_oauthlib import OAuth2Session as OauthlibSession

from localstack import Stack, StackState
from servers import free_port, wait_until
from service.nginx_fixture import Answer, ask, nginx_binary

GO_CLIENT = Path(__file__).with_name("oauth_client")
JSON_TYPE = "application/json"
Metadata = dict[str, Any]
Session = OAuth2Session | OAuth2Client
OpenSession = Callable[..., AbstractContextManager[Session]]


@pytest.fixture(autouse=True)
def _plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries insist on https unless told that this is a laptop."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def metadata(stack_state: StackState) -> Metadata:
    """The discovery document, found from nothing but the issuer's URL."""
    url = get_well_known_url(stack_state["base_url"], external=True)
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: Metadata = json.load(answer)
        return found


# --- Authlib


@pytest.fixture(params=[OAuth2Session, OAuth2Client], ids=["requests", "httpx"])
def authlib_session(request: pytest.FixtureRequest, stack_state: StackState) -> OpenSession:
    """A session of either flavour that authenticates by this method; the secret may be another."""

    def open_session(method: str = "client_secret_basic", secret: str = stack_state["client_secret"], **more: str) -> Session:
        session: Session = request.param(
            stack_state["client_id"],
            secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            **more,
        )
        return session

    return open_session


def test_authlib_accepts_the_metadata(metadata: Metadata, stack_state: StackState) -> None:
    document = AuthorizationServerMetadata(metadata)
    document.validate()
    assert document.issuer == stack_state["base_url"]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_checks_and_revokes_a_token(
    authlib_session: OpenSession, metadata: Metadata, stack_state: StackState, method: str
) -> None:
    for endpoint in ("token", "introspection", "revocation"):
        assert method in metadata[f"{endpoint}_endpoint_auth_methods_supported"]
    introspection, revocation = metadata["introspection_endpoint"], metadata["revocation_endpoint"]
    with authlib_session(method, scope="read write") as session:
        token = session.fetch_token(metadata["token_endpoint"])
        assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, "read write")
        assert not token.is_expired()

        # The session sends its token by itself now, as it would to a resource server.
        validated = session.get(f"{stack_state['base_url']}/validate", params={"scope": "write"})
        assert (validated.status_code, validated.json()["client_id"]) == (200, stack_state["client_id"])

        live = session.introspect_token(introspection, token=token["access_token"], token_type_hint="access_token").json()
        assert (live["active"], live["client_id"], live["scope"]) == (True, stack_state["client_id"], "read write")
        assert live["exp"] - live["iat"] == 3600

        for _ in range(2):  # a revoked token too
            assert session.revoke_token(revocation, token=token["access_token"], token_type_hint="access_token").status_code == 200
        assert session.introspect_token(introspection, token=token["access_token"]).json() == {"active": False}
        assert session.get(f"{stack_state['base_url']}/validate").status_code == 401


@pytest.mark.parametrize(
    ("secret", "scope", "error"), [("wrong", "read", "invalid_client"), (None, "no-such-scope", "invalid_scope")], ids=["secret", "scope"]
)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_is_told_why_it_gets_no_token(
    authlib_session: OpenSession, metadata: Metadata, method: str, secret: str | None, scope: str, error: str
) -> None:
    with (
        authlib_session(method, **({"secret": secret} if secret else {}), scope=scope) as session,
        pytest.raises(OAuthError) as refused,
    ):
        session.fetch_token(metadata["token_endpoint"])
    assert refused.value.error == error
    assert refused.value.description


def test_authlib_protects_a_resource_by_introspection(authlib_session: OpenSession, metadata: Metadata) -> None:
    with authlib_session() as session:

        class Validator(IntrospectTokenValidator):
            def introspect_token(self, token_string: str) -> Any:
                return session.introspect_token(metadata["introspection_endpoint"], token=token_string).json()

        validator = Validator()
        token = session.fetch_token(metadata["token_endpoint"], scope="read")["access_token"]
        validator.validate_token(validator.authenticate_token(token), ["read"], None)
        with pytest.raises(InsufficientScopeError):
            validator.validate_token(validator.authenticate_token(token), ["write"], None)
        session.revoke_token(metadata["revocation_endpoint"], token=token)
        with pytest.raises(InvalidTokenError):
            validator.validate_token(validator.authenticate_token(token), ["read"], None)


# --- oauthlib and requests-oauthlib


def oauthlib_token(session: OauthlibSession, url: str, secret: str, in_body: bool) -> dict[str, Any]:
    """A token by HTTP Basic, which is what the library does by default, or with the secret in the body."""
    token: dict[str, Any] = session.fetch_token(url, client_secret=secret, include_client_id=in_body or None)
    return token


@pytest.mark.parametrize("in_body", [False, True], ids=["basic", "body"])
def test_oauthlib_gets_and_revokes_a_token(metadata: Metadata, stack_state: StackState, in_body: bool) -> None:
    client = BackendApplicationClient(stack_state["client_id"], scope=["read", "write"])
    validate = f"{stack_state['base_url']}/validate"
    with OauthlibSession(client=client) as session:
        token = oauthlib_token(session, metadata["token_endpoint"], stack_state["client_secret"], in_body)
        assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, ["read", "write"])
        assert session.get(validate, params={"scope": "read"}).status_code == 200

        url, headers, body = client.prepare_token_revocation_request(metadata["revocation_endpoint"], token["access_token"])
        authentication = (stack_state["client_id"], stack_state["client_secret"])
        revoked = session.post(url, data=body, headers=headers, auth=authentication, withhold_token=True)
        assert (revoked.status_code, revoked.json()) == (200, {"message": "Token revoked"})
        assert session.get(validate).status_code == 401


@pytest.mark.parametrize("in_body", [False, True], ids=["basic", "body"])
def test_oauthlib_is_told_why_it_gets_no_token(metadata: Metadata, stack_state: StackState, in_body: bool) -> None:
    client_id, secret, url = stack_state["client_id"], stack_state["client_secret"], metadata["token_endpoint"]
    with OauthlibSession(client=BackendApplicationClient(client_id)) as session, pytest.raises(InvalidClientError):
        oauthlib_token(session, url, "wrong", in_body)
    client = BackendApplicationClient(client_id, scope=["no-such-scope"])
    with OauthlibSession(client=client) as session, pytest.raises(InvalidScopeError):
        oauthlib_token(session, url, secret, in_body)


# --- nginx auth_request

GATEWAY = """
daemon off;
pid nginx.pid;
events {{}}
http {{
    error_log stderr crit;
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location ~ ^/(?<needed_scope>[a-z]+)/ {{
            auth_request /authorize;
            auth_request_set $client $upstream_http_x_auth_client;
            auth_request_set $scopes $upstream_http_x_auth_scope;
            proxy_set_header X-Auth-Client $client;
            proxy_set_header X-Auth-Scope $scopes;
            proxy_pass http://127.0.0.1:{application_port};
        }}
        location = /authorize {{
            internal;
            proxy_pass {service_url}/validate?scope=$needed_scope;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
    }}
    server {{
        listen 127.0.0.1:{application_port};
        return 200 '$request_method for $http_x_auth_client with $http_x_auth_scope';
    }}
}}
"""
"""A gateway before an application that says who it was told is asking; the first word of a path is the scope that it needs."""


@pytest.fixture(scope="module")
def gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running gateway."""
    state = stack.state()
    assert state is not None
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(GATEWAY.format(port=port, application_port=free_port(), service_url=state["base_url"]))
    process = subprocess.Popen([nginx_binary(), "-e", "stderr", "-p", folder, "-c", configuration])
    try:
        wait_until(lambda: (folder / "nginx.pid").exists() or process.poll() is not None, "the gateway runs")
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(10)


def through(gateway: int, path: str, authorization: str | None = None, method: str = "GET", body: bytes | None = None) -> Answer:
    """What a caller of the application gets."""
    forged = {"X-Auth-Client": "somebody-else", "X-Auth-Scope": "everything"}
    return ask(gateway, method, path, {**forged, **({"Authorization": authorization} if authorization else {})}, body)


@pytest.fixture
def tokens(metadata: Metadata, stack_state: StackState) -> Iterator[Callable[..., str]]:
    """Tokens of the demo client."""
    with OAuth2Session(stack_state["client_id"], stack_state["client_secret"]) as session:
        yield lambda url=metadata["token_endpoint"], scope="read": session.fetch_token(url, scope=scope)["access_token"]


def test_auth_request_passes_the_client_on(gateway: int, tokens: Callable[..., str], stack_state: StackState) -> None:
    authorization = f"Bearer {tokens(scope='read write')}"
    client = stack_state["client_id"]
    assert (answer := through(gateway, "/read/it", authorization)).status == 200, answer
    assert answer.body.decode() == f"GET for {client} with read write"
    written = through(gateway, "/write/it?token=is-not-ours", authorization, "POST", b"x" * 10000)
    assert (written.status, written.body.decode()) == (200, f"POST for {client} with read write")


def test_auth_request_refuses_whoever_has_no_token(gateway: int) -> None:
    answer = through(gateway, "/read/it")
    assert (answer.status, answer.headers.get_all("WWW-Authenticate")) == (401, ["Bearer"])


@pytest.mark.parametrize("token", ["garbage", "at_" + "A" * 43, ""])
def test_auth_request_refuses_a_bad_token(gateway: int, token: str) -> None:
    answer = through(gateway, "/read/it", f"Bearer {token}")
    [challenge] = answer.headers.get_all("WWW-Authenticate", [])
    assert answer.status == 401
    assert challenge.startswith('Bearer error="invalid_token", error_description="')


def test_auth_request_refuses_a_scope_that_is_not_held(gateway: int, tokens: Callable[..., str]) -> None:
    authorization = f"Bearer {tokens(scope='read')}"
    assert [through(gateway, path, authorization).status for path in ("/read/it", "/write/it")] == [200, 403]


def test_auth_request_sees_a_revocation(gateway: int, tokens: Callable[..., str], metadata: Metadata) -> None:
    authorization = f"Bearer {tokens()}"
    assert through(gateway, "/read/it", authorization).status == 200
    revocation = urllib.request.Request(metadata["revocation_endpoint"], method="POST", headers={"Authorization": authorization})
    with urllib.request.urlopen(revocation, timeout=10) as answer:
        assert answer.status == 200
    assert through(gateway, "/read/it", authorization).status == 401


def test_auth_request_lets_a_one_time_token_in_once(gateway: int, tokens: Callable[..., str], stack_state: StackState) -> None:
    authorization = f"Bearer {tokens(stack_state['base_url'] + '/ott')}"
    # A refusal for want of a scope has not consumed it.
    assert [through(gateway, path, authorization).status for path in ("/write/it", "/read/it", "/read/it")] == [403, 200, 401]


# --- Go


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of oauth_client/, built; skipped where there is no Go, one too old, or no way to its one module."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not on PATH")
    environ = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    try:
        subprocess.run([go, "mod", "download"], cwd=GO_CLIENT, env=environ, capture_output=True, text=True, check=True, timeout=60)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"go mod download: {error.stderr.strip()}")
    except subprocess.TimeoutExpired as error:
        pytest.skip(f"go mod download: nothing within {error.timeout:.0f} s")
    program = tmp_path_factory.mktemp("go") / "oauth_client"
    built = subprocess.run([go, "build", "-o", program, "."], cwd=GO_CLIENT, env=environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.long  # the standard library is compiled when Go meets this machine for the first time
@pytest.mark.timeout(400)
@pytest.mark.parametrize("style", ["detect", "header", "params"])
def test_go_gets_a_token_and_uses_it(go_client: Path, metadata: Metadata, stack_state: StackState, style: str) -> None:
    def ask_with(secret: str, scopes: str) -> Any:
        environ = {
            "TOKEN_URL": metadata["token_endpoint"],
            "CLIENT_ID": stack_state["client_id"],
            "CLIENT_SECRET": secret,
            "SCOPES": scopes,
            "AUTH_STYLE": style,
            "RESOURCE_URL": f"{stack_state['base_url']}/validate?scope=read",
        }
        done = subprocess.run([go_client], env=environ, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    used = ask_with(stack_state["client_secret"], "read write")
    assert (used["token_type"], used["scope"], used["resource_status"]) == ("Bearer", "read write", 200)
    assert 3590 <= used["life_seconds"] <= 3600
    assert json.loads(used["resource_body"])["client_id"] == stack_state["client_id"]
    assert ask_with(stack_state["client_secret"], "write")["resource_status"] == 403

    refused = ask_with("wrong", "read")
    assert (refused["error_status"], refused["error_code"]) == (401, "invalid_client")
    refused = ask_with(stack_state["client_secret"], "no-such-scope")
    assert (refused["error_status"], refused["error_code"]) == (400, "invalid_scope")
    assert refused["error_text"].endswith(".")
