"""One function for each hot endpoint: from a parsed request to an answer, whatever server calls it.

A handler is a coroutine that awaits nothing but promises; a refusal is raised and rendered by the server's adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any

from authsvc.admission import Admission
from authsvc.credentials import base64url
from authsvc.errors import CredentialsMissing, InvalidRequest, InvalidScope, UnsupportedGrantType
from authsvc.http.request import Request, scopes
from authsvc.http.response import JSON_HEADERS, Fields, Response, ok
from authsvc.model import Kind, TokenValue
from authsvc.promise import Promise
from authsvc.tokens import Active, Tokens

Answer = Coroutine[Promise[Any], None, Response]
"""An answer that comes when its promises are kept."""
Handler = Callable[[Request], Answer]

HEALTHY = ok(b'{"status":"ok"}')
INACTIVE = ok(b'{"active":false}')
REVOKED = ok(b'{"message":"Token revoked"}')


class Handlers:
    """The hot endpoints over the token rules."""

    def __init__(self, tokens: Tokens, admission: Admission) -> None:
        self._tokens = tokens
        self._admission = admission

    def token(self, request: Request) -> Answer:
        """`POST /token`: an access token for the client (RFC 6749, 4.4)."""
        return self._issue(request, Kind.ACCESS)

    def ott(self, request: Request) -> Answer:
        """`POST /ott`: a one-time token for the client."""
        return self._issue(request, Kind.ONE_TIME)

    async def _issue(self, request: Request, kind: Kind) -> Response:
        self._admission.check_backlog()
        request.query_parameters()
        parameters = request.parameters()
        grant_type = parameters.get("grant_type")
        if grant_type is None:
            raise InvalidRequest("grant_type is missing.")
        presented = request.credentials(parameters)
        if grant_type != "client_credentials":
            raise UnsupportedGrantType("Only grant_type=client_credentials is supported.")
        issued = await self._tokens.issue(presented, kind, scopes(parameters.get("scope")), request.id)
        return ok(
            b'{"access_token":"%b","token_type":"Bearer","expires_in":%d,"scope":"%b"%b}'
            % (
                issued.token,
                issued.expires_in,
                issued.scope.encode("ascii"),
                b',"one_time":true' if kind is Kind.ONE_TIME else b"",
            )
        )

    async def validate(self, request: Request) -> Response:
        """`GET` or `POST /validate`: is this token good, for these scopes; consumes a one-time token."""
        token = request.only_token()
        to_hold: tuple[str, ...] = ()
        if token is None:
            token, to_hold = _token_and_scopes(request)
        active = await self._tokens.validate(token, to_hold, request.id)
        body, fields = _active(b'{"active":true,"valid":true,', active)
        return tuple.__new__(Response, (200, fields, body))

    async def introspect(self, request: Request) -> Response:
        """`POST /introspect`: what a token is worth, for an authenticated client (RFC 7662)."""
        request.query_parameters()
        parameters = request.parameters()
        presented = request.credentials(parameters)
        active = await self._tokens.introspect(presented, _one_token(None, parameters))
        return INACTIVE if active is None else ok(_active(b'{"active":true,', active)[0])

    async def revoke(self, request: Request) -> Response:
        """`POST /revoke`: end a token, by its client or by whoever presents it (RFC 7009)."""
        request.query_parameters()
        parameters = request.parameters()
        bearer = request.bearer
        if bearer is None:
            presented = request.credentials(parameters)
            await self._tokens.revoke(presented, _one_token(None, parameters), request.id)
        else:
            if "client_id" in parameters or "client_secret" in parameters:
                raise InvalidRequest("A Bearer token and client credentials are both given.")
            await self._tokens.revoke_presented(_one_token(bearer, parameters), request.id)
        return REVOKED

    async def health(self, request: Request) -> Response:
        """`GET /health`: this process answers; asks nothing of anyone."""
        return HEALTHY


def _token_and_scopes(request: Request) -> tuple[bytes, tuple[str, ...]]:
    """What is to be validated, and which scopes it must have."""
    query, bearer = request.query_parameters(), request.bearer
    if request.method == "GET":
        if bearer is None:
            raise CredentialsMissing("An Authorization: Bearer header is needed.")
        return bearer, _scopes_to_hold(query.get("scope"))
    if "scope" in query:
        # Ignored, it would let a caller believe that the scope was checked.
        raise InvalidRequest("scope of a POST comes in the body.")
    parameters = request.parameters()
    return _one_token(bearer, parameters), _scopes_to_hold(parameters.get("scope"))


def _scopes_to_hold(scope: str | None) -> tuple[str, ...]:
    try:
        return scopes(scope)
    except InvalidScope as refusal:
        # `invalid_scope` is a word of the token endpoint (RFC 6749, 5.2), not of a protected resource (RFC 6750, 3.1).
        raise InvalidRequest(refusal.description) from None


def _one_token(bearer: bytes | None, parameters: dict[str, str]) -> bytes:
    given = parameters.get("token")
    if bearer is not None:
        if given is not None:
            raise InvalidRequest("Two tokens are given.")
        return bearer
    if given is None:
        raise InvalidRequest("token is missing.")
    return given.encode("utf-8")


def _active(begin: bytes, active: Active) -> tuple[bytes, Fields]:
    """A body that goes on with what describes a live token, and headers for a gateway. Neither can hold what JSON would escape."""
    value: TokenValue = active.value
    about, fields = _about(value.client_id, value.scope)
    issued_seconds = value.issued_seconds
    body = b'%b%b"iat":%d,"exp":%d,"jti":"%b"}' % (begin, about, issued_seconds, issued_seconds + value.ttl_seconds, base64url(active.name))
    return body, fields


@lru_cache(4096)
def _about(client_id: str, scope: str) -> tuple[bytes, Fields]:
    """What is the same for all tokens of a client with this scope."""
    client, granted = client_id.encode("ascii"), scope.encode("ascii")
    body = b'"client_id":"%b","scope":"%b","scopes":["%b"],"token_type":"Bearer",' % (client, granted, granted.replace(b" ", b'","'))
    return body, Fields(*JSON_HEADERS, (b"x-auth-client", client), (b"x-auth-scope", granted))
