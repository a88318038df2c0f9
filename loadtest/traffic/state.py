"""What all users of one generator share."""

from __future__ import annotations

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
    started: float
    """On `time.monotonic`."""
