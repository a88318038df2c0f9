"""What all users of one generator share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from outcome.clients import Credentials
from outcome.plan import Plan
from traffic.tokens import Prepared


@dataclass
class State:
    """Made when the load begins."""

    plan: Plan
    credentials: Credentials
    prepared: Prepared
    when_begun: Callable[[], None]
    """Called when the first user is there."""
    _started: float | None = None

    def started(self) -> float:
        """When the first user was there, on `time.monotonic`: nothing is owed of the time that a busy machine takes until then."""
        if self._started is None:
            self._started = time.monotonic()
            self.when_begun()
        return self._started
