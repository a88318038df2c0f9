"""What a scale test asks: its rows in the order in which they are measured, and how much CPU each part may use."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from outcome.plan import EndpointName, Plan

ENDPOINTS: tuple[EndpointName, ...] = ("validate", "token", "ott", "revoke", "introspect", "health", "mix")
COMPONENTS = ("auth", "nginx", "redis", "generator")
TWO_COUNTS_SECONDS = 20
"""Kubelets count CPU every ten seconds or so: any span so long has two counts."""
AUTOSCALED = (1, 4)
"""Fewest and most pods under the autoscaler."""
STEPS = (2, 4, 2, 1)
"""Numbers of pods that the release is brought to, from one, under a load that does not pause."""


class Key(NamedTuple):
    """A row."""

    round: int
    pods: int
    endpoint: EndpointName


class ScalePlan(BaseModel):
    """The limits are of CPU: that of auth is what is to hold the rate, the others are not to be reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: tuple[EndpointName, ...] = ENDPOINTS
    pods: tuple[int, ...] = (1, 2, 4)
    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    seconds: Annotated[int, Field(le=600)] = 24
    """Of a row, warm-up included: two counts of the kubelet must fall into what is left."""
    warm_up_seconds: Annotated[int, Field(ge=1, le=60)] = 3
    users: Annotated[int, Field(ge=1, le=1000)] = 32
    """For each pod: with the same number for all pods each would have fewer to serve at once, and more to do for each."""
    auth_millicores: Annotated[int, Field(ge=20, le=4000)] = 40
    """Of each pod while rows are measured."""
    start_millicores: Annotated[int, Field(ge=20, le=4000)] = 500
    """Until it is held to that, and wherever pods come and go: at a twentieth of a core one would take a minute to start."""
    nginx_millicores: Annotated[int, Field(ge=10)] = 600
    redis_millicores: Annotated[int, Field(ge=10)] = 600
    generator_millicores: Annotated[int, Field(ge=10)] = 1000
    step_seconds: Annotated[int, Field(ge=10, le=600)] = 150
    """Of the load under which the release is brought from one pod to four and back."""
    step_rate: Annotated[float, Field(gt=0)] = 60
    autoscaled_seconds: Annotated[int, Field(ge=0, le=1800)] = 300
    """Of the load under which the autoscaler does the same; 0: none."""
    autoscaled_rate: Annotated[float, Field(gt=0)] = 600

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if self.pods[:1] != (1,) or list(self.pods) != sorted(set(self.pods)):
            raise ValueError("the numbers of pods begin with 1 and rise")
        least = self.warm_up_seconds + TWO_COUNTS_SECONDS
        if self.seconds < least:
            raise ValueError(
                f"a row of {self.seconds} s is too short for two counts of the kubelet, ten seconds apart, after a warm-up of"
                f" {self.warm_up_seconds} s: give {least} or more"
            )
        return self

    def in_order(self) -> Iterator[Key]:
        """Its rows. Rounds are the outer loop: what the machine does meanwhile meets every number of pods alike."""
        for number, pods, endpoint in product(range(1, self.rounds + 1), self.pods, self.endpoints):
            yield Key(number, pods, endpoint)

    def saturating(self, key: Key) -> Plan:
        """Users that ask again as soon as they were answered, so many that every pod always has something to do."""
        users = self.users * key.pods
        return Plan(endpoint=key.endpoint, arrival="closed", users=users, seconds=self.seconds, warm_up_seconds=self.warm_up_seconds)

    def steady(self) -> Plan:
        """A mix that goes on while pods come and go."""
        return Plan(endpoint="mix", users=24, rate=self.step_rate, seconds=self.step_seconds)

    def spike(self) -> Plan:
        """A fifth, all of it for the fifth of the time in the middle, and a fifth again."""
        return Plan(endpoint="mix", shape="spike", users=48, rate=self.autoscaled_rate, seconds=self.autoscaled_seconds)
