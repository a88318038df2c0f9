"""Who looks at what the service runs on while it is under load."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Sight(NamedTuple):
    """One look."""

    replicas: int | None
    """Instances that are ready."""
    cpu_cores: dict[str, float]
    """Cores in use since the last look, by component."""


class Observer(Protocol):
    """Looks at one service."""

    every_seconds: float
    lag_seconds: float
    """How far into the past a look's CPU reaches."""

    def look(self) -> Sight:
        """Look now; what cannot be seen is left out."""

    def limits(self) -> dict[str, float]:
        """Cores that each component may use at most, where that is known."""
