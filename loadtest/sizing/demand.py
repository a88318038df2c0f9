"""What a release is asked for, and what the machine under its Redis can do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sizing.costs import ROWS

Rate = Annotated[float, Field(ge=0)]


class Demand(BaseModel):
    """What is to be answered, requests a second at the busiest time. Each one-time token is used, too: that is no `validate_` of these."""

    model_config = ConfigDict(frozen=True)

    validate_: Rate = 0
    token: Rate = 0
    ott: Rate = 0
    revoke: Rate = 0
    introspect: Rate = 0
    health: Rate = 0
    ttl_seconds: Annotated[int, Field(ge=1)] = 3600
    one_time_ttl_seconds: Annotated[int, Field(ge=1)] = 120
    headroom: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Beyond what is used, of whatever can run out: 0.5 is half as much again."""
    outage_minutes: Annotated[int, Field(ge=0)] = 30
    connections: Annotated[int, Field(ge=0)] = 2000
    store: Literal["embedded", "oracle"] = "oracle"
    link_gbits: Annotated[float, Field(gt=0)] = 10
    """Of the node that Redis is on, in either direction."""
    sync_ms: Annotated[float | None, Field(gt=0)] = None
    """That the disk under Redis takes to keep a small append; None: as it was measured."""
    disk_mb_per_second: Annotated[float | None, Field(gt=0)] = None
    """That it takes in one stream; None: as it was measured."""

    def rates(self) -> dict[str, float]:
        """By endpoint."""
        return {name: getattr(self, "validate_" if name == "validate" else name) for name in ROWS}
