"""The access log: one line for each refusal and for a share of the other answers, where it is switched on; never a token or a secret."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import structlog

from authsvc.errors import Refusal
from authsvc.http.request import Request, loggable
from authsvc.http.response import Response

Address = tuple[str, int] | None
"""Of the other end of a connection, or of whom its PROXY header names."""

log = structlog.get_logger(__name__)


class AccessLog:
    """What one worker tells of its requests: nothing, refusals and some successes, or all while its level is debug."""

    def __init__(self, on: bool, success_share: float, knows: Callable[[str], bool]) -> None:
        """`knows` says whether a client id is one of ours: no other is logged, for somebody may have sent his secret in its place."""
        self._asked_for = on
        self._success_share = success_share
        self._knows = knows
        self._all = False
        self.on = on
        """Whether lines are written at all; to be read only."""

    def follow(self, level: str) -> None:
        """Tell of everything while the level is debug, and of nothing while lines of level info are not written."""
        self._all = level == "debug"
        self.on = self._all or (self._asked_for and level == "info")

    def tell(
        self,
        endpoint: str,
        response: Response,
        request_id: bytes,
        seconds: float,
        address: Address,
        request: Request | None,
        error: BaseException | None,
    ) -> None:
        """Write the line of an answer, if it is one of those that are told."""
        status = response.status
        refused = status >= 400
        if not (refused or self._all) and random.random() >= self._success_share:  # noqa: S311 - nobody gains by guessing
            return
        line: dict[str, Any] = {"endpoint": endpoint, "status": status, "seconds": round(seconds, 6)}
        if refused:
            # A page that fails has no body of ours.
            body = json.loads(response.body or b"{}")
            line |= {"error": body.get("error"), "reason": error.because if isinstance(error, Refusal) else body.get("error_description")}
        log.info(
            "request",
            **line,
            request_id=loggable(request_id),
            client_id=self._client_id(response, request, error),
            client=address and address[0],
        )

    def _client_id(self, response: Response, request: Request | None, error: BaseException | None) -> str | None:
        """Whose token was validated or refused, else who asks, whether or not he proved it."""
        if isinstance(error, Refusal) and error.client_id:
            return error.client_id
        for name, value in response.headers:
            if name == b"x-auth-client":
                return value.decode("ascii")
        if request is None:
            return None
        try:
            client_id = request.credentials(request.parameters()).client_id
        except Refusal:
            return None
        return client_id if self._knows(client_id) else None
