"""What commands ask of the management port of a living process, with the secret that it takes."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import typer

from authsvc.errors import OperatorError
from authsvc.settings import read_settings

Url = Annotated[str | None, typer.Option(help="Management address of the process; by default of this machine's instance.")]


class _NoRedirect(HTTPRedirectHandler):
    """The secret goes to the address that was given, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


# Not through a proxy of the environment either.
_opener = build_opener(ProxyHandler({}), _NoRedirect)


class ManagementPort:
    """The port of one process; every failure is an OperatorError."""

    def __init__(self, url: Url) -> None:
        """By default that of this machine's instance, as the settings have it."""
        settings = read_settings()
        if settings.management_secret is None:
            raise OperatorError("AUTH_MANAGEMENT_SECRET is not set: without it no process gives profiles or takes log levels.")
        self._secret = settings.management_secret.get_secret_value()
        self.address = (url or f"http://127.0.0.1:{settings.management_port}").rstrip("/")
        if not self.address.startswith(("http://", "https://")):
            raise OperatorError(f"{self.address} is no http:// or https:// address.")

    def ask(self, method: str, path: str, asked: dict[str, str | int], timeout_seconds: float) -> bytes:
        """The body of a good answer."""
        url = f"{self.address}{path}?{urlencode(asked)}"
        try:
            request = Request(url, method=method, headers={"Authorization": f"Bearer {self._secret}"})  # noqa: S310 - http and https only
            with _opener.open(request, timeout=timeout_seconds) as answer:
                body: bytes = answer.read()
                return body
        except HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                raise OperatorError(f"{self.address} knows nothing of this: its AUTH_MANAGEMENT_SECRET is another, or not set.") from error
            if error.code == HTTPStatus.TOO_MANY_REQUESTS:
                raise OperatorError(f"{self.address} is being profiled already: try again when that is over.") from error
            raise OperatorError(f"{self.address} answers {error.code}: is it a management address?") from error
        except (OSError, HTTPException, ValueError) as error:
            raise OperatorError(f"{self.address} cannot be asked: {error}.") from error
