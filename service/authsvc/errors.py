"""One family of refusals: what a caller is told, as a value that the HTTP floor renders in one place."""

from __future__ import annotations


class Refusal(Exception):
    """A request that gets no success. Subclasses fix status and RFC 6749 error code; the message is the description."""

    status = 400
    code = "invalid_request"
    challenge: bytes | None = None
    """The `WWW-Authenticate` scheme of a 401 or 403, if one is due."""
    retry_after_seconds: int | None = None

    def __init__(self, description: str, because: str | None = None, client_id: str | None = None) -> None:
        super().__init__(description)
        self.description = description
        self.because = because or description
        """The reason for our log; it may say what the caller must not learn."""
        self.client_id = client_id
        """For our log: whose token was refused."""


class InvalidRequest(Refusal):
    """The request is malformed, repeats a parameter or lacks one (RFC 6749, 5.2)."""


class UnsupportedGrantType(Refusal):
    """Only client_credentials is granted (RFC 6749, 5.2)."""

    code = "unsupported_grant_type"


class InvalidScope(Refusal):
    """A scope that is malformed or not the client's (RFC 6749, 5.2)."""

    code = "invalid_scope"


class UnauthorizedClient(Refusal):
    """The client may not do this, though it is known (RFC 6749, 5.2)."""

    code = "unauthorized_client"


class InvalidClient(Refusal):
    """Client authentication failed (RFC 6749, 5.2)."""

    status = 401
    code = "invalid_client"
    challenge = b"Basic"


class InvalidToken(Refusal):
    """The token is expired, revoked, used, unknown or malformed (RFC 6750, 3.1)."""

    status = 401
    code = "invalid_token"
    challenge = b"Bearer"


class CredentialsMissing(Refusal):
    """No authentication was tried: the challenge carries no error code (RFC 6750, 3.1)."""

    status = 401
    code = "invalid_request"
    challenge = b"Bearer"


class InsufficientScope(Refusal):
    """The token is good but lacks a scope that was asked for (RFC 6750, 3.1)."""

    status = 403
    code = "insufficient_scope"
    challenge = b"Bearer"


class NotFound(Refusal):
    """No such path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(Refusal):
    """The path does not take this method; `allow` is the header's value."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, description: str, allow: str) -> None:
        super().__init__(description)
        self.allow = allow


class ContentTooLarge(Refusal):
    """The body is over its limit."""

    status = 413
    code = "content_too_large"


class UnsupportedMediaType(Refusal):
    """A body that is neither a form nor JSON."""

    status = 415
    code = "unsupported_media_type"


class HeaderFieldsTooLarge(Refusal):
    """The header lines are over their limit."""

    status = 431
    code = "header_fields_too_large"


class SlowDown(Refusal):
    """Too busy for this request now."""

    status = 429
    code = "slow_down"
    retry_after_seconds = 1


class Unavailable(Refusal):
    """The shared store cannot answer, so neither can we: fail closed."""

    status = 503
    code = "temporarily_unavailable"
    retry_after_seconds = 1


class ServerError(Refusal):
    """A defect of ours."""

    status = 500
    code = "server_error"


class OperatorError(Exception):
    """A command or a start that cannot go on: its message is the one sentence for the operator."""


class RecordsUnavailable(OperatorError):
    """The record store cannot be reached or is busy: worth trying again."""


class RecordRefused(OperatorError):
    """The record store refuses this row by itself, whatever is tried: the entry is poison."""


def reason_of(error: object) -> str:
    """What an error of a library says, to stand within a sentence; its kind where it says nothing."""
    return str(error).rstrip(".") or type(error).__name__
