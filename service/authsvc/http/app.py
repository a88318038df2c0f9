"""FastAPI's part: discovery (RFC 8414), the documentation, and the OpenAPI document of every endpoint."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from authsvc import __version__
from authsvc.http.asgi import DISCOVERY
from authsvc.http.openapi import describe

AUTH_METHODS = ["client_secret_basic", "client_secret_post"]


class ServerMetadata(BaseModel):
    """What a client library needs to find its way (RFC 8414, 2)."""

    issuer: str
    token_endpoint: str
    introspection_endpoint: str
    revocation_endpoint: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    service_documentation: str


def create_pages(issuer: str) -> FastAPI:
    """The app for everything that is not hot; `issuer` is the base URL that clients use."""
    app = FastAPI(
        title="auth-service",
        version=__version__,
        summary="A stateless OAuth-style token service.",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    metadata = ServerMetadata(
        issuer=issuer,
        token_endpoint=f"{issuer}/token",
        introspection_endpoint=f"{issuer}/introspect",
        revocation_endpoint=f"{issuer}/revoke",
        grant_types_supported=["client_credentials"],
        response_types_supported=["none"],
        token_endpoint_auth_methods_supported=AUTH_METHODS,
        introspection_endpoint_auth_methods_supported=AUTH_METHODS,
        revocation_endpoint_auth_methods_supported=AUTH_METHODS,
        service_documentation=f"{issuer}/docs",
    )

    @app.get(DISCOVERY, summary="Authorization server metadata (RFC 8414)")
    async def discovery() -> ServerMetadata:
        return metadata

    own_document = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        return describe(own_document())

    app.openapi = openapi  # type: ignore[method-assign]
    return app
