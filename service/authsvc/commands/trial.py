"""`authsvc trial URL...`: what every installation must be able to do, tried through each of its URLs as a client would."""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import typer

from authsvc.commands.cluster import at_cluster, run_in_pod
from authsvc.errors import OperatorError

TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 0.5
_NOT_YET = (502, 503, 504)


class Client(NamedTuple):
    """Who tries."""

    id: str
    secret: str


class Answer(NamedTuple):
    """What came."""

    status: int
    body: Any


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Take none: a 302 is no answer of this service."""


_opener = build_opener(ProxyHandler({}), _NoRedirects)


class Door:
    """One URL of the service, and who asks there."""

    def __init__(self, url: str, client: Client) -> None:
        self._url = url.rstrip("/")
        self._basic = "Basic " + b64encode(f"{client.id}:{client.secret}".encode()).decode("ascii")

    def get(self, path: str, bearer: str | None = None) -> Answer:
        """A GET."""
        return self._ask(path, None, None if bearer is None else f"Bearer {bearer}")

    def post(self, path: str, **fields: str) -> Answer:
        """A POST of a form by the client."""
        return self._ask(path, urlencode(fields).encode("ascii"), self._basic)

    def _ask(self, path: str, body: bytes | None, authorization: str | None) -> Answer:
        request = Request(self._url + path, body)  # noqa: S310 - the command's line takes http and https only
        if authorization is not None:
            request.add_header("Authorization", authorization)
        try:
            with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return Answer(response.status, _parsed(response.read()))
        except HTTPError as error:
            with error:
                return Answer(error.code, _parsed(error.read()))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _expect(answer: Answer, code: int, **members: object) -> Any:
    """The body, if it is what this step asks for; OperatorError with what came."""
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.status != code or any(body.get(name) != value for name, value in members.items()):
        wanted = "".join(f", {name} {value!r}" for name, value in members.items())
        error = f" {body['error']}" if "error" in body else ""
        raise OperatorError(f"wanted {code}{wanted}, and {answer.status}{error} came")
    return body


def _steps(door: Door) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each step by its name; a later one uses what an earlier one got."""
    token: dict[str, str] = {}

    def issue(path: str) -> None:
        token["is"] = str(_expect(door.post(path, grant_type="client_credentials"), 200, token_type="Bearer").get("access_token"))  # noqa: S106 - a word of the RFC

    yield "health", lambda: _expect(door.get("/health"), 200, status="ok")
    yield "discovery", lambda: _expect(door.get("/.well-known/oauth-authorization-server"), 200)
    yield "issue", lambda: issue("/token")
    yield "validate", lambda: _expect(door.post("/validate", token=token["is"]), 200, active=True)
    yield "validate a Bearer header", lambda: _expect(door.get("/validate", token["is"]), 200, active=True)
    yield "introspect", lambda: _expect(door.post("/introspect", token=token["is"]), 200, active=True)
    yield "revoke", lambda: _expect(door.post("/revoke", token=token["is"]), 200)
    yield "validate what was revoked", lambda: _expect(door.post("/validate", token=token["is"]), 401, error="invalid_token")
    yield "issue a one-time token", lambda: issue("/ott")
    yield "use it", lambda: _expect(door.post("/validate", token=token["is"]), 200, active=True)
    yield "use it again", lambda: _expect(door.post("/validate", token=token["is"]), 401, error="invalid_token")


def trial(
    urls: Annotated[list[str], typer.Argument(metavar="URL", help="Base URLs of the service, each tried by itself.")],
    client_id: Annotated[str | None, typer.Option(help="The client that tries.")] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with its secret.")] = None,
    writer: Annotated[
        str | None,
        typer.Option(metavar="SELECTOR", help="Labels of the writer's pods: there a client is made for the trial, and deleted."),
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace of these pods, instead of the pod's own.")] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long a URL may take to answer at all.")] = 60.0,
) -> None:
    """Issue, validate, revoke, use a one-time token twice, through each URL; a line a step, exit 1 at the first that fails."""
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise typer.BadParameter(f"{url!r} is no URL: http://HOST[:PORT][/PREFIX].")
    if (client_id is None) != (secret_file is None) or (client_id is None) == (writer is None):
        raise typer.BadParameter("either --client-id and --secret-file, or --writer.")
    with _client(client_id, secret_file, writer, namespace) as client:
        for url in urls:
            _try(url, client, wait_seconds)


def _try(url: str, client: Client, wait_seconds: float) -> None:
    typer.echo(url)
    door = Door(url, client)
    _wait(door, url, wait_seconds)
    for name, step in _steps(door):
        began = time.monotonic()
        try:
            step()
        except OperatorError as error:
            raise OperatorError(f"{url}: {name}: {error}.") from None
        except (OSError, http.client.HTTPException) as error:
            raise OperatorError(f"{url}: {name}: no answer ({error}).") from error
        typer.echo(f"  {name:<26} {(time.monotonic() - began) * 1000:6.1f} ms")


def _wait(door: Door, url: str, seconds: float) -> None:
    """Until it answers with something that a balancer alone would not say: a release may still be starting."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            # Without the directory an instance answers 503 to this, and 200 to `/health`.
            answer = door.post("/introspect", token="none")  # noqa: S106 - no token at all
            if answer.status not in _NOT_YET:
                return
            came = f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            came = str(error)
        if time.monotonic() >= deadline:
            raise OperatorError(f"{url}: not ready in {seconds:g} s ({came}).")
        time.sleep(RETRY_SECONDS)


@contextmanager
def _client(client_id: str | None, secret_file: Path | None, writer: str | None, namespace: str | None) -> Iterator[Client]:
    """The client that is named, or one that exists for as long as this runs."""
    if client_id is not None and secret_file is not None:
        try:
            yield Client(client_id, secret_file.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"{secret_file} cannot be read: {error}.") from error
        return
    assert writer is not None, "the command's line was checked"
    made = f"trial-{token_hex(8)}"
    with at_cluster(namespace) as cluster:
        added = json.loads(run_in_pod(cluster, writer, ["authsvc", "client", "add", made, "--scope", "trial", "--json"]))
        try:
            yield Client(made, added["client_secret"])
        finally:
            run_in_pod(cluster, writer, ["authsvc", "client", "delete", made, "--json"])
