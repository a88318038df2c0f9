"""Two results side by side: which figures moved beyond noise, and which of that is too much."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from outcome.noise import FALL, overlap
from outcome.results import Figures, Results
from outcome.run import RunError

GROWTH = 1.2
"""Of a p99 that is too much, where it is also LEAST_GROWTH_MS longer."""
LEAST_GROWTH_MS = 0.5
LEAST_REPEATS = 3
"""Fewer do not show how much repeats differ."""
Word = Literal["within noise", "rose", "fell", "grew", "missing", "cut off", "unsure"]


@dataclass(frozen=True)
class Change:
    """One figure, before and after."""

    row: str
    figure: Literal["rate", "p99", "wrong"]
    before: float
    after: float | None
    word: Word
    is_too_much: bool = False

    @property
    def ratio(self) -> float | None:
        """After over before."""
        return None if self.after is None or not self.before else self.after / self.before


def compare(before: Results, after: Results) -> list[Change]:
    """Every figure of `before` beside its counterpart. RunError where the two cannot be compared: another environment or size."""
    if differing := differences(before.environment, after.environment):
        raise RunError(f"The environments differ, so their figures say nothing of each other: {', '.join(differing)}.")
    if before.size != after.size:
        raise RunError(f"The sizes differ, so their figures say nothing of each other: {before.size} and {after.size}.")
    if before.asked != after.asked:
        raise RunError(f"The two did not ask the same, so their figures say nothing of each other: {before.asked} and {after.asked}.")
    if not before.rows:
        raise RunError("The earlier results hold nothing to compare with.")
    return [change for row in before.rows for change in _row(row, before.rows[row], after.rows.get(row))]


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """What is not the same in both, each with its two values."""
    return [
        f"{name} ({before.get(name, 'nothing')} and {after.get(name, 'nothing')})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _row(row: str, before: list[Figures], after: list[Figures] | None) -> Iterator[Change]:
    if not after:
        yield Change(row, "rate", statistics.median(each.rate for each in before), None, "missing", is_too_much=True)
        return
    if not all(each.is_complete for each in after):
        yield Change(row, "rate", statistics.median(each.rate for each in before), None, "cut off", is_too_much=True)
        return
    yield _change(row, "rate", [each.rate for each in before], [each.rate for each in after])
    times = [[each.p99_ms for each in repeats if each.p99_ms is not None] for repeats in (before, after)]
    if times[0] and times[1]:
        yield _change(row, "p99", *times)
    elif times[0]:
        yield Change(row, "p99", statistics.median(times[0]), None, "missing", is_too_much=True)
    old, new = (max(each.wrong_share for each in repeats) for repeats in (before, after))
    yield Change(row, "wrong", old, new, "grew" if new > old else "within noise", is_too_much=new > old)


def _change(row: str, figure: Literal["rate", "p99"], before: Sequence[float], after: Sequence[float]) -> Change:
    old, new = statistics.median(before), statistics.median(after)
    is_far = new < old * FALL if figure == "rate" else new > max(old * GROWTH, old + LEAST_GROWTH_MS)
    if overlap(before, after) or (is_far and min(len(before), len(after)) < LEAST_REPEATS):
        # Repeats that differ by so much can neither accuse nor acquit.
        return Change(row, figure, old, new, "unsure" if is_far else "within noise")
    return Change(row, figure, old, new, "fell" if new < old else "rose", is_too_much=is_far)
