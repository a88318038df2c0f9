"""`python -m bench.uncounted`: `authsvc serve` without the counts and times of requests, to see what those cost."""

from __future__ import annotations

import sys

from authsvc.commands.main import run
from authsvc.http.endpoints import failed
from authsvc.http.lane import LaneProtocol
from authsvc.http.response import Response
from authsvc.metrics import Durations


def _handled(self: LaneProtocol, response: Response | None, error: Exception | None) -> None:
    self._places.leave()
    self._answered(failed(error, self._endpoint.name, self._request_id) if response is None else response, None)


if __name__ == "__main__":
    LaneProtocol._handled = _handled  # type: ignore[method-assign]
    Durations.add = lambda self, seconds: None  # type: ignore[method-assign] # of the batches to Redis
    sys.argv[1:] = ["serve"]
    run()
