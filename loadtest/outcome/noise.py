"""When a figure of several repeats has moved: it differs by more than the repeats of each differ among themselves."""

from __future__ import annotations

from collections.abc import Sequence

FALL = 0.8
"""What is left of a figure that fell too far: one fifth less is the limit."""


def overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the ranges of two sets of repeats have a value in common."""
    return min(one) <= max(other) and min(other) <= max(one)
