"""A plan: what one run asks, how much of it, in which shape and for how long."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

EndpointName = Literal["health", "token", "ott", "validate", "revoke", "introspect", "mix"]
ShapeName = Literal["constant", "steps", "ramp", "spike", "soak"]
Arrival = Literal["open", "closed"]


class Plan(BaseModel):
    """Of an `open` arrival the requests leave when they are due, at `rate`; of a `closed` one each user asks again when it was answered."""

    model_config = ConfigDict(frozen=True)

    endpoint: Annotated[EndpointName, Field(description="What is asked: one endpoint, or a mix of all.")] = "mix"
    shape: Annotated[ShapeName, Field(description="How the load changes with time.")] = "constant"
    arrival: Annotated[Arrival, Field(description="open: at a rate, for latency; closed: as fast as answers come, for capacity.")] = "open"
    users: Annotated[int, Field(ge=1, le=100_000, description="Users at once, each with a connection of its own.")] = 32
    rate: Annotated[float, Field(gt=0, le=10_000_000, description="Requests a second that an open arrival offers at most.")] = 500
    seconds: Annotated[int, Field(ge=2, le=86_400, description="Length of the run.")] = 30
    warm_up_seconds: Annotated[int, Field(ge=0, le=3_600, description="At its beginning, not counted.")] = 2
    tokens: Annotated[int, Field(ge=10, le=100_000, description="Tokens that each process prepares to present.")] = 300
    bad_share: Annotated[float, Field(ge=0, le=1, description="Of them revoked, expired or garbage, which must be refused.")] = 0.1

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.warm_up_seconds >= self.seconds:
            raise ValueError(f"a warm-up of {self.warm_up_seconds} s leaves nothing of {self.seconds} s to count")
        return self

    @property
    def is_rising(self) -> bool:
        """Whether more is offered and more, so that there is a knee to be found."""
        return self.arrival == "open" and self.shape in ("ramp", "steps")

    @property
    def ceiling(self) -> str:
        """What the plan offers at most, in words."""
        if self.arrival == "open":
            return (
                f"offers at most {self.rate:,.0f} requests/s over {self.users} connections; "
                "what finds them all waiting is timed from when it was due"
            )
        return f"has {self.users} users at most; each asks again when it was answered, so a slow service is asked less"


def plan_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a plan, in one sentence."""
    return f"The plan cannot be: {error.errors()[0]['msg'].removeprefix('Value error, ')}."


_PIECES: dict[ShapeName, tuple[tuple[float, float], ...]] = {
    "constant": ((1.0, 1.0),),
    "soak": ((1.0, 1.0),),
    "steps": ((0.25, 0.25), (0.5, 0.5), (0.75, 0.75), (1.0, 1.0)),
    "spike": ((0.4, 0.2), (0.6, 1.0), (1.0, 0.2)),
}
"""Until which part of the time which level holds. A ramp has none: its level is the time."""


def level(shape: ShapeName, at: float) -> float:
    """The part of the plan's size that is asked for when `at` (0 to 1) of its time has passed."""
    if shape == "ramp":
        return min(at, 1.0)
    return next((held for until, held in _PIECES[shape] if at < until), _PIECES[shape][-1][1])


def asked(shape: ShapeName, at: float) -> float:
    """How much has been asked for at this part of the time: the level's integral, which is 1 at the end of a constant shape."""
    at = min(at, 1.0)
    if shape == "ramp":
        return at * at / 2
    began, total = 0.0, 0.0
    for until, held in _PIECES[shape]:
        total += (min(at, until) - began) * held
        if at <= until:
            break
        began = until
    return total


def when(shape: ShapeName, asked: float) -> float:
    """The part of the time after which the level's integral is `asked`, which is 1 at the end of a constant shape."""
    if shape == "ramp":
        return math.sqrt(2 * asked)
    began = 0.0
    for until, held in _PIECES[shape]:
        if asked <= (until - began) * held or until >= 1.0:
            return began + asked / held
        asked -= (until - began) * held
        began = until
    raise AssertionError(shape)
