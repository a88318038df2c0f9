"""`python -m bench.uncounted`: `authsvc serve` without the counts and times of requests, to see what those cost."""

from __future__ import annotations

import sys

from authsvc.commands.main import run
from authsvc.http.endpoints import Endpoint, Endpoints, failed
from authsvc.http.response import Response
from authsvc.metrics import Durations


def _finish(
    self: Endpoints, endpoint: Endpoint, response: Response | None, error: Exception | None, request_id: bytes, arrived: float
) -> Response:
    self._admission.leave()
    return failed(error, endpoint.name, request_id) if response is None else response


if __name__ == "__main__":
    Endpoints.finish = _finish  # type: ignore[method-assign]
    Durations.add = lambda self, seconds: None  # type: ignore[method-assign] # of the batches to Redis
    sys.argv[1:] = ["serve"]
    run()
