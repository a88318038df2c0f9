"""What a request sends over each wire and appends to Redis' file, as `scripts/bench bytes` measured it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

KEPT = Path(__file__).with_name("bytes.json")
USE = "use"
"""The row of a validate that uses a one-time token up."""


class Bytes(BaseModel):
    """Of one request: contents, without the heads of TCP and below."""

    model_config = ConfigDict(frozen=True)

    endpoint: str
    requests: int
    """That it is the mean of."""
    client_in: float
    client_out: float
    auth_in: float
    auth_out: float
    redis_in: float
    redis_out: float
    """The writer's part included."""
    appended: float
    """To the file, the writer's acknowledgement included."""


class Disk(BaseModel):
    """The one that was measured."""

    sync_p50_ms: float
    sync_p99_ms: float
    mb_per_second: float


class Footprint(BaseModel):
    """The file."""

    command: str
    environment: dict[str, str | int]
    rows: list[Bytes]
    disk: Disk

    def of(self, endpoint: str) -> Bytes:
        """The row of an endpoint, or of `use`."""
        return next(row for row in self.rows if row.endpoint == endpoint)


def kept_footprint() -> Footprint:
    """The one that is kept beside this module."""
    return Footprint.model_validate_json(KEPT.read_text(encoding="utf-8"))
