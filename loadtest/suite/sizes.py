"""How much a suite asks: the plans of each size, and how often each is repeated."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from outcome.plan import EndpointName, Plan

SizeName = Literal["light", "heavy"]


class Size(NamedTuple):
    """Of a suite."""

    users: int
    rate: float
    """Requests/s that the plans with an open arrival offer."""
    seconds: int
    warm_up_seconds: int
    repeats: int
    open_endpoints: tuple[EndpointName, ...]
    """Endpoints that are asked at a rate, too."""

    def plans(self) -> dict[str, Plan]:
        """By name: every endpoint in a closed loop for its capacity, some at a rate for their latency."""
        of_size = Plan(users=self.users, rate=self.rate, seconds=self.seconds, warm_up_seconds=self.warm_up_seconds)
        asked = [(name, "closed") for name in get_args(EndpointName)] + [(name, "open") for name in self.open_endpoints]
        return {f"{name}, {arrival}": of_size.model_copy(update={"endpoint": name, "arrival": arrival}) for name, arrival in asked}


SIZES: dict[SizeName, Size] = {
    "light": Size(users=16, rate=300, seconds=7, warm_up_seconds=2, repeats=3, open_endpoints=("validate", "mix")),
    "heavy": Size(users=64, rate=1000, seconds=60, warm_up_seconds=10, repeats=5, open_endpoints=get_args(EndpointName)),
}
