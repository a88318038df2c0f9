"""The OpenAPI document: every endpoint of the public port, with what it answers and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.http.app import create_pages
from authsvc.http.openapi import SCHEMAS

ISSUER = "https://auth.internal"
DOCUMENT: dict[str, Any] = create_pages(ISSUER).openapi()

ISSUE = {"200", "400", "401", "413", "415", "429", "431", "503"}
ENDPOINTS: dict[tuple[str, str], set[str]] = {
    ("/token", "post"): ISSUE,
    ("/ott", "post"): ISSUE,
    ("/validate", "get"): {"200", "400", "401", "403", "429", "431", "503"},
    ("/validate", "post"): {"200", "400", "401", "403", "413", "415", "429", "431", "503"},
    ("/introspect", "post"): ISSUE,
    ("/revoke", "post"): ISSUE,
    ("/health", "get"): {"200"},
    ("/.well-known/oauth-authorization-server", "get"): {"200"},
}
"""Each endpoint of the wire contract and the statuses that must be described."""
BODIES = {"application/x-www-form-urlencoded", "application/json"}


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from parts(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from parts(inner)


def resolve(reference: str) -> Any:
    assert reference.startswith("#/"), reference
    node: Any = DOCUMENT
    for step in reference[2:].split("/"):
        node = node[step]
    return node


def operation(path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def schema_of(content: dict[str, Any]) -> Any:
    schema = content["application/json"]["schema"]
    return resolve(schema["$ref"]) if "$ref" in schema else schema


def test_exactly_the_endpoints_of_the_contract_are_described() -> None:
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == set(ENDPOINTS)


@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
def test_an_endpoint_describes_what_it_answers(path: str, method: str) -> None:
    responses = operation(path, method)["responses"]
    assert ENDPOINTS[path, method] <= set(responses)
    assert operation(path, method)["summary"]
    assert all(response["description"] for response in responses.values())


@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
def test_every_refusal_has_the_error_body(path: str, method: str) -> None:
    for status, response in operation(path, method)["responses"].items():
        if status != "200":
            assert set(schema_of(response["content"])["required"]) == {"error", "error_description", "request_id"}, status


@pytest.mark.parametrize(("path", "method"), [pair for pair in ENDPOINTS if pair[1] == "post"])
def test_a_body_may_be_a_form_or_json(path: str, method: str) -> None:
    assert set(operation(path, method)["requestBody"]["content"]) == BODIES


@pytest.mark.parametrize(
    ("path", "method", "members"),
    [
        ("/token", "post", {"access_token", "token_type", "expires_in", "scope"}),
        ("/ott", "post", {"access_token", "token_type", "expires_in", "scope", "one_time"}),
        ("/validate", "get", {"active", "valid", "client_id", "scope", "scopes", "token_type", "iat", "exp", "jti"}),
        ("/validate", "post", {"active", "valid", "client_id", "scope", "scopes", "token_type", "iat", "exp", "jti"}),
        ("/introspect", "post", {"active", "client_id", "scope", "token_type", "iat", "exp", "jti"}),
        ("/revoke", "post", {"message"}),
        ("/health", "get", {"status"}),
        ("/.well-known/oauth-authorization-server", "get", {"issuer", "token_endpoint", "response_types_supported"}),
    ],
)
def test_a_success_describes_its_members(path: str, method: str, members: set[str]) -> None:
    assert members <= set(schema_of(operation(path, method)["responses"]["200"]["content"])["properties"])


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/token", {"grant_type", "scope", "client_id", "client_secret"}),
        ("/ott", {"grant_type", "scope", "client_id", "client_secret"}),
        ("/validate", {"token", "scope"}),
        ("/introspect", {"token", "token_type_hint", "client_id", "client_secret"}),
        ("/revoke", {"token", "token_type_hint", "client_id", "client_secret"}),
    ],
)
def test_a_request_describes_its_members(path: str, members: set[str]) -> None:
    assert set(schema_of(operation(path, "post")["requestBody"]["content"])["properties"]) == members


def test_only_a_get_validate_takes_its_scope_from_the_query() -> None:
    queried = {
        (path, method): [parameter["name"] for parameter in operation(path, method).get("parameters", [])] for path, method in ENDPOINTS
    }
    assert {pair: names for pair, names in queried.items() if names} == {("/validate", "get"): ["scope"]}


@pytest.mark.parametrize(
    ("path", "method", "schemes"),
    [
        ("/token", "post", [{"basic"}, set()]),
        ("/ott", "post", [{"basic"}, set()]),
        ("/validate", "get", [{"bearer"}]),
        ("/validate", "post", [{"bearer"}, set()]),
        ("/introspect", "post", [{"basic"}, set()]),
        ("/revoke", "post", [{"basic"}, {"bearer"}, set()]),
    ],
)
def test_an_endpoint_says_how_to_authenticate(path: str, method: str, schemes: list[set[str]]) -> None:
    assert [set(scheme) for scheme in operation(path, method)["security"]] == schemes
    assert set().union(*schemes) <= set(DOCUMENT["components"]["securitySchemes"])


def test_a_revoke_by_bearer_needs_no_body() -> None:
    """The token presented is the one revoked."""
    assert not operation("/revoke", "post")["requestBody"].get("required", False)


def test_every_reference_resolves() -> None:
    references = [part["$ref"] for part in parts(DOCUMENT) if "$ref" in part]
    assert len(references) > 20
    for reference in references:
        assert isinstance(resolve(reference), dict)


def test_every_schema_is_referred_to_and_requires_only_what_it_has() -> None:
    used = {part["$ref"].rsplit("/", 1)[1] for part in parts(DOCUMENT) if "$ref" in part}
    assert set(SCHEMAS) <= used
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert set(schema.get("required", [])) <= set(schema["properties"]), name


def test_the_document_is_json_and_the_same_each_time() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert create_pages(ISSUER).openapi() == DOCUMENT
