"""When a user asks next: on a schedule that does not wait for answers, or as soon as it was answered.

With a schedule (open arrival) an answer is timed from when its request was due. A generator that times from when it sent hides
what clients would have felt while the service was slow, because it then asks less: coordinated omission (G. Tene; wrk2).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from outcome.plan import Plan, asked, when


class Schedule:
    """The due times of one of `users` users that together offer the plan's rate; users are spread over the first interval."""

    def __init__(self, plan: Plan, started: float, spread: Callable[[], float] = random.random) -> None:
        self._plan, self._started = plan, started
        self._share = plan.users / (plan.rate * plan.seconds)
        """What one request of this user is of all that its part of a constant rate comes to."""
        self._asked = spread() * self._share

    def next_due(self) -> float:
        """The next due time, on the clock of `started`; it may have passed already."""
        due = self._started + when(self._plan.shape, self._asked) * self._plan.seconds
        self._asked += self._share
        return due

    def overdue(self, before: float) -> int:
        """How many requests were due before this time and never left."""
        number = 0
        while self.next_due() < before:
            number += 1
        return number

    def join(self, now: float) -> None:
        """Begin now: of a user that is started in the middle of a run, and owes nothing of the time before."""
        while self._started + when(self._plan.shape, self._asked) * self._plan.seconds < now:
            self._asked += self._share


def offered(plan: Plan, second: int) -> float | None:
    """Requests that were due in the second that ends here; None for a closed arrival."""
    if plan.arrival == "closed":
        return None
    began, ended = (asked(plan.shape, max(at, 0) / plan.seconds) for at in (second - 1, second))
    return round(plan.rate * plan.seconds * (ended - began), 3)
