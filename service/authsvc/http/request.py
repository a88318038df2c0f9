"""Requests, parsed once: what the hot endpoints need of one, and the rules for reading it."""

from __future__ import annotations

import itertools
import json
import os
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from authsvc.credentials import harmless
from authsvc.errors import InvalidClient, InvalidRequest, InvalidScope, UnsupportedMediaType
from authsvc.model import MAX_SCOPES, SCOPE_PATTERN
from authsvc.tokens import Credentials

MAX_BODY_BYTES = 16 * 1024
MAX_HEADER_BYTES = 32 * 1024
SINGLE_HEADERS = (b"authorization", b"content-type")
"""Header fields that may stand in a request only once."""
SECRET_PARAMETERS = ("token", "access_token", "client_secret")
"""Parameters that must not stand in a query string, where logs keep them."""

_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
"""What no encoding changes (RFC 3986, 2.3)."""
_SCOPES = re.compile(rf"{SCOPE_PATTERN}(?: {SCOPE_PATTERN})*")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_process_id = b""
_request_numbers = itertools.count(1)


def _begin_process() -> None:
    """Draw what this process's request ids begin with; a forked one draws its own."""
    global _process_id
    _process_id = os.urandom(6).hex().encode("ascii")


_begin_process()
os.register_at_fork(after_in_child=_begin_process)


def new_request_id() -> bytes:
    """A request id: random for the process, counted within it."""
    return b"%b-%x" % (_process_id, next(_request_numbers))


def accepted_request_id(given: bytes | None) -> bytes:
    """The caller's id if it may be echoed and logged, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return new_request_id()


def loggable(request_id: bytes) -> str:
    """An id as it may stand in a log."""
    return harmless(request_id).decode("ascii")


class Head:
    """What stands before a body and matters to a hot endpoint; the same for every request with the same head."""

    __slots__ = ("_basic", "authorization", "form", "is_bearer", "json", "method", "query", "scheme")

    def __init__(self, method: str, query: bytes, authorization: bytes | None, content_type: bytes | None) -> None:
        self.method = method
        self.query = query
        kind = (content_type or b"").partition(b";")[0].strip().lower()
        self.form = kind == b"application/x-www-form-urlencoded"
        self.json = kind == b"application/json"
        scheme, _, value = (authorization or b"").partition(b" ")
        self.scheme = None if authorization is None else scheme.lower()
        self.is_bearer = self.scheme == b"bearer"
        self.authorization = value.strip(b" ")
        self._basic: Credentials | None = None

    def basic(self) -> Credentials:
        """The credentials of `Authorization: Basic`; decoded once."""
        if self._basic is None:
            self._basic = basic_credentials(self.authorization)
        return self._basic


class Request:
    """One request to a hot endpoint. `authorization` stands in for what the head has after the scheme."""

    __slots__ = ("_head", "bearer", "body", "id", "method", "query")

    def __init__(self, head: Head, body: bytes, request_id: bytes, authorization: bytes | None = None) -> None:
        self._head = head
        self.body = body
        self.id = request_id
        """What the answer carries as X-Request-Id."""
        self.method = head.method
        """The method; GET for a HEAD."""
        self.query = head.query
        """The query string as it came."""
        self.bearer = (authorization or head.authorization) if head.is_bearer else None
        """The token of an `Authorization: Bearer` (RFC 6750, 2.1); None if there is no such header."""

    def parameters(self) -> dict[str, str]:
        """The body's parameters; empty values count as absent (RFC 6749, 3.1), repeated ones are refused."""
        if not self.body:
            return {}
        if self._head.form:
            if self.body.translate(None, _PLAIN) == b"=":
                # One parameter, nothing encoded: what most ask a token with.
                name, _, value = self.body.decode("ascii").partition("=")
                if value:
                    return {name: value}
            return form_parameters(self.body)
        if self._head.json:
            return json_parameters(self.body)
        raise UnsupportedMediaType("The body must be application/x-www-form-urlencoded or application/json.")

    def only_token(self) -> bytes | None:
        """The token where the request says nothing else: a Bearer and no body, or a form with nothing encoded. Most are like that."""
        body = self.body
        if self.query:
            return None
        if not body:
            return self.bearer
        if self._head.form and body.startswith(b"token=") and self.bearer is None and body.translate(None, _PLAIN) == b"=":
            # What stands in the body of a GET means nothing (RFC 9110, 9.3.1).
            return (body[6:] or None) if self.method == "POST" else None
        return None

    def query_parameters(self) -> dict[str, str]:
        """The query string's parameters; those that hold a secret are refused."""
        if not self.query:
            return {}
        parameters = form_parameters(self.query)
        for name in SECRET_PARAMETERS:
            if name in parameters:
                raise InvalidRequest(f"{name} must not be sent in the query string.")
        return parameters

    def credentials(self, parameters: dict[str, str]) -> Credentials:
        """The one way in which a client authenticates here (RFC 6749, 2.3.1)."""
        scheme = self._head.scheme
        client_id, secret = parameters.get("client_id"), parameters.get("client_secret")
        if scheme == b"basic":
            presented = self._head.basic()
            if secret is not None:
                raise InvalidRequest("The client authenticates in two ways at once.")
            if client_id is not None and client_id != presented.client_id:
                raise InvalidRequest("client_id in the body is not the client that authenticates.")
            return presented
        if scheme is not None and secret is not None:
            raise InvalidRequest("The client authenticates in two ways at once.")
        if scheme is not None:
            raise InvalidClient("Clients authenticate by HTTP Basic or in the body.")
        if client_id is None or secret is None:
            raise InvalidClient("Client authentication is missing.")
        return Credentials(client_id, secret.encode("utf-8"))


def form_parameters(text: bytes) -> dict[str, str]:
    """Parse application/x-www-form-urlencoded in UTF-8."""
    if b"%" in text or b"+" in text:
        pairs = [pair.partition(b"=") for pair in text.split(b"&")]
        return _distinct((_form_text(name), _form_text(value)) for name, equals, value in pairs if name or equals)
    # Most bodies have nothing encoded in them, nothing empty and nothing twice: those are decoded and split in one go.
    plain = [pair.partition("=") for pair in _text(text).split("&")]
    parameters = {name: value for name, _, value in plain if value}
    if len(parameters) == len(plain):
        return parameters
    return _distinct((name, value) for name, equals, value in plain if name or equals)


def _form_text(raw: bytes) -> str:
    return _text(unquote_to_bytes(raw.replace(b"+", b" ")))


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("A parameter is not UTF-8.") from None
    if "\x00" in text:
        raise InvalidRequest("A parameter contains NUL.")
    return text


def _distinct(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The parameters by name; one that is given twice is refused, one without a value counts as absent (RFC 6749, 3.1)."""
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters:
            raise InvalidRequest("A parameter is given twice.")
        parameters[name] = value
    if "" in parameters.values():
        return {name: value for name, value in parameters.items() if value}
    return parameters


def json_parameters(text: bytes) -> dict[str, str]:
    """Parse a JSON object of strings; members of other types are refused where their name is one of ours."""
    try:
        members = json.loads(_text(text), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None
    if not isinstance(members, _Pairs):
        raise InvalidRequest("The body must be a JSON object.")
    return _distinct((name, _member(name, value)) for name, value in members)


def _member(name: str, value: object) -> str:
    if isinstance(value, str):
        return _text(value.encode("utf-8", "surrogatepass"))
    if name in KNOWN_PARAMETERS and value is not None:
        raise InvalidRequest(f"{name} must be a string.")
    return ""


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its members in order, repeated ones too."""


KNOWN_PARAMETERS = frozenset(("grant_type", "scope", "client_id", "client_secret", "token", "token_type_hint"))


def basic_credentials(value: bytes) -> Credentials:
    """Decode HTTP Basic as RFC 6749, 2.3.1 says: both halves are form-encoded first."""
    try:
        raw = b64decode(value, validate=True)
    except (Base64Error, ValueError):
        raise InvalidClient("The Basic credentials are not base64.") from None
    client_id, colon, secret = raw.partition(b":")
    if not colon:
        raise InvalidClient("The Basic credentials have no colon.")
    return Credentials(_form_text(client_id), _form_text(secret).encode("utf-8"))


def scopes(text: str | None) -> tuple[str, ...]:
    """A scope parameter as distinct scope-tokens in the order given; empty when absent (RFC 6749, 3.3)."""
    if text is None:
        return ()
    if not _SCOPES.fullmatch(text):
        raise InvalidScope("The scope is malformed.")
    distinct = tuple(dict.fromkeys(text.split(" ")))
    if len(distinct) > MAX_SCOPES:
        raise InvalidScope(f"More than {MAX_SCOPES} scopes are asked for.")
    return distinct
