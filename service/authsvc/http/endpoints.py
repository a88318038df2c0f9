"""The hot endpoints: which path is which, and a request's way from its place in the worker to an answer that was counted."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

import structlog

from authsvc.admission import Admission
from authsvc.errors import Refusal, ServerError
from authsvc.http.access_log import AccessLog, Address
from authsvc.http.handlers import Handler, Handlers
from authsvc.http.request import Request, loggable
from authsvc.http.response import Response, refused
from authsvc.metrics import Counts, Durations

log = structlog.get_logger(__name__)


class Endpoint(NamedTuple):
    """A hot path: its name in metrics and logs, the methods it takes (HEAD answers as GET), who answers, and what was answered."""

    name: str
    methods: tuple[str, ...]
    handler: Handler
    answers: dict[int, int]
    """Of each status, since the process began."""
    durations: Durations


class Endpoints:
    """All hot endpoints of one worker, however a request comes in."""

    def __init__(self, handlers: Handlers, counts: Counts, admission: Admission, access_log: AccessLog) -> None:
        hot: tuple[tuple[str, tuple[str, ...], Handler], ...] = (
            ("token", ("POST",), handlers.token),
            ("ott", ("POST",), handlers.ott),
            ("validate", ("GET", "POST"), handlers.validate),
            ("introspect", ("POST",), handlers.introspect),
            ("revoke", ("POST",), handlers.revoke),
            ("health", ("GET",), handlers.health),
        )
        self._by_path = {
            f"/{name}": Endpoint(name, methods, handler, counts.requests[name], counts.durations[name]) for name, methods, handler in hot
        }
        self._counts = counts
        self._admission = admission
        self.access_log = access_log

    def at(self, path: str) -> Endpoint | None:
        """The hot endpoint at a path."""
        return self._by_path.get(path)

    async def answer(self, endpoint: Endpoint, request: Request, arrived: float, address: Address) -> Response:
        """Answer a whole request that arrived at that monotonic time, when it is its turn. Awaits nothing but promises; raises nothing."""
        failure: Exception | None = None
        try:
            turn = self._admission.enter(arrived)
            if turn is not None:
                await turn
            try:
                response = await endpoint.handler(request)
            finally:
                # Not later: whoever reads his answer slowly takes no place.
                self._admission.leave()
        except Exception as error:
            failure = error
            response = failed(error, endpoint.name, request.id)
        self.note(endpoint.name, response, request.id, arrived, address, request, failure)
        # Its traceback holds this frame: each would keep the other, and the request, until somebody looks for garbage.
        failure = None
        return response

    def note(
        self,
        name: str,
        response: Response,
        request_id: bytes,
        arrived: float,
        address: Address,
        request: Request | None = None,
        error: Exception | None = None,
    ) -> None:
        """Count an answer, and tell of it where that is switched on."""
        counts, seconds = self._counts, monotonic() - arrived
        counts.requests[name][response.status] += 1
        counts.durations[name].add(seconds)
        if self.access_log.on:
            self.access_log.tell(name, response, request_id, seconds, address, request, error)


def failed(error: Exception | None, name: str, request_id: bytes) -> Response:
    """The answer that a refusal is; of anything else nothing is answered, and all logged."""
    return refused(error, request_id) if isinstance(error, Refusal) else defect(name, request_id, error)


def defect(name: str, request_id: bytes, error: BaseException | None = None) -> Response:
    """Log the error, by default the one that is being handled, and answer with nothing of it."""
    log.error("a request failed", endpoint=name, request_id=loggable(request_id), exc_info=error or True)
    return refused(ServerError("This is a defect of the service; its log has the details."), request_id)
