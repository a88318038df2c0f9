"""The OpenAPI description of the hot endpoints, which FastAPI does not serve itself but does describe."""

from __future__ import annotations

from typing import Any

from authsvc.model import CLIENT_ID_PATTERN

JSON = dict[str, Any]

_TEXT: JSON = {"type": "string"}
_NUMBER: JSON = {"type": "integer"}
_SCOPE: JSON = {"type": "string", "description": "Scopes joined by spaces (RFC 6749, 3.3).", "examples": ["read write"]}
_TOKEN: JSON = {"type": "string", "description": "A token: 46 characters, `at_` or `ot_` first."}
_CLIENT: JSON = {
    "client_id": {"type": "string", "pattern": f"^{CLIENT_ID_PATTERN}$"},
    "client_secret": {"type": "string", "format": "password"},
}
_BASIC: JSON = {"basic": []}
_BEARER: JSON = {"bearer": []}


def _object(required: list[str], **properties: JSON) -> JSON:
    return {"type": "object", "required": required, "properties": properties}


SCHEMAS: dict[str, JSON] = {
    "Error": _object(["error", "error_description", "request_id"], error=_TEXT, error_description=_TEXT, request_id=_TEXT),
    "TokenRequest": _object(["grant_type"], grant_type={"type": "string", "enum": ["client_credentials"]}, scope=_SCOPE, **_CLIENT),
    "TokenResponse": _object(
        ["access_token", "token_type", "expires_in", "scope"],
        access_token=_TOKEN,
        token_type={"type": "string", "enum": ["Bearer"]},
        expires_in={"type": "integer", "description": "Seconds."},
        scope=_SCOPE,
        one_time={"type": "boolean"},
    ),
    "ValidateRequest": _object([], token=_TOKEN, scope=_SCOPE),
    "TokenOfClient": _object(["token"], token=_TOKEN, token_type_hint=_TEXT, **_CLIENT),
    "RevokeRequest": _object([], token=_TOKEN, token_type_hint=_TEXT, **_CLIENT),
    "Active": _object(
        ["active"],
        active={"type": "boolean"},
        valid={"type": "boolean"},
        client_id=_TEXT,
        scope=_SCOPE,
        scopes={"type": "array", "items": _TEXT},
        token_type=_TEXT,
        iat=_NUMBER,
        exp=_NUMBER,
        jti={"type": "string", "description": "The token's name: 27 characters, safe to log."},
    ),
    "Message": _object(["message"], message=_TEXT),
    "Health": _object(["status"], status=_TEXT),
}

_DESCRIPTIONS = {
    400: "The request is malformed or asks for what cannot be had.",
    401: "Authentication failed, or the token is expired, revoked, used or unknown.",
    403: "The token lacks a scope.",
    413: "The body is over 16 KiB.",
    415: "The body is neither a form nor JSON.",
    429: "Too busy; see Retry-After.",
    431: "The header lines are over 32 KiB.",
    503: "The shared store is out of reach or full; see Retry-After.",
}


OPTIONAL_BODIES = ("ValidateRequest", "RevokeRequest")
"""Bodies that are not needed beside an `Authorization: Bearer`."""


def _content(schema: str, *types: str) -> JSON:
    return {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}} for kind in types}


def _operation(summary: str, answer: str, refusals: tuple[int, ...], body: str | None = None, **more: Any) -> JSON:
    answers: JSON = {"200": {"description": "Success.", "content": _content(answer, "application/json")}}
    for status in refusals:
        answers[str(status)] = {"description": _DESCRIPTIONS[status], "content": _content("Error", "application/json")}
    operation: JSON = {"summary": summary, "responses": answers, **more}
    if body is not None:
        content = _content(body, "application/x-www-form-urlencoded", "application/json")
        operation["requestBody"] = {"required": body not in OPTIONAL_BODIES, "content": content}
    return operation


_ISSUE = (400, 401, 413, 415, 429, 431, 503)
_JUDGE = (400, 401, 403, 413, 415, 429, 431, 503)

PATHS: dict[str, JSON] = {
    "/token": {"post": _operation("Get an access token", "TokenResponse", _ISSUE, "TokenRequest", security=[_BASIC, {}])},
    "/ott": {"post": _operation("Get a one-time token", "TokenResponse", _ISSUE, "TokenRequest", security=[_BASIC, {}])},
    "/validate": {
        "get": _operation(
            "Validate a bearer token",
            "Active",
            (400, 401, 403, 429, 431, 503),
            security=[_BEARER],
            parameters=[{"name": "scope", "in": "query", "required": False, "schema": _SCOPE}],
        ),
        "post": _operation("Validate a token", "Active", _JUDGE, "ValidateRequest", security=[_BEARER, {}]),
    },
    "/introspect": {"post": _operation("Introspect a token (RFC 7662)", "Active", _ISSUE, "TokenOfClient", security=[_BASIC, {}])},
    "/revoke": {"post": _operation("Revoke a token (RFC 7009)", "Message", _ISSUE, "RevokeRequest", security=[_BASIC, _BEARER, {}])},
    "/health": {"get": _operation("Liveness for balancers", "Health", (429, 431))},
}

SECURITY_SCHEMES: JSON = {"basic": {"type": "http", "scheme": "basic"}, "bearer": {"type": "http", "scheme": "bearer"}}


def describe(document: JSON) -> JSON:
    """Add the hot endpoints to FastAPI's own document."""
    document["paths"] = {**PATHS, **document["paths"]}
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS)
    components["securitySchemes"] = SECURITY_SCHEMES
    return document
