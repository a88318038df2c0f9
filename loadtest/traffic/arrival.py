"""When a user asks next: on a schedule that does not wait for answers, or as soon as it was answered.

With a schedule (open arrival) an answer is timed from when its request was due. A generator that times from when it sent hides
what clients would have felt while the service was slow, because it then asks less: coordinated omission (G. Tene; wrk2).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from outcome.plan import Plan, level


class Schedule:
    """The due times of one of `users` users that together offer the plan's rate; users are spread over the first interval."""

    def __init__(self, plan: Plan, started: float, spread: Callable[[], float] = random.random) -> None:
        self._plan, self._started = plan, started
        self._next = started + spread() * self._interval(started)

    def next_due(self) -> float:
        """The next due time, on the clock of `started`; it may have passed already."""
        due = self._next
        self._next = due + self._interval(due)
        return due

    def join(self, now: float, spread: Callable[[], float] = random.random) -> None:
        """Begin now: of a user that is started in the middle of a run, and owes nothing of the time before."""
        if self._next < now:
            self._next = now + spread() * self._interval(now)

    def _interval(self, at: float) -> float:
        part = min(max((at - self._started) / self._plan.seconds, 0.0), 1.0)
        return self._plan.users / (self._plan.rate * level(self._plan.shape, part))


def offered(plan: Plan, at_seconds: float) -> float | None:
    """Requests a second that are due at this time of a run; None for a closed arrival."""
    if plan.arrival == "closed":
        return None
    return plan.rate * level(plan.shape, min(at_seconds / plan.seconds, 1.0))
