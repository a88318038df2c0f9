"""A histogram of answer times that can be added to another's: buckets two per cent wide, from 10 microseconds on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

WIDTH = 1.02
"""A bucket's upper bound over its lower: a percentile is at most two per cent above the true one."""
SMALLEST_MS = 0.01
_LOG_WIDTH = math.log(WIDTH)


class Histogram:
    """Counts by bucket. Bucket n holds times above SMALLEST_MS * WIDTH**(n-1) and up to SMALLEST_MS * WIDTH**n."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter(counts or {})

    def record(self, milliseconds: float) -> None:
        """Count one answer."""
        self.counts[bucket(milliseconds)] += 1

    def add(self, counts: Mapping[int, int]) -> None:
        """Count what another has counted."""
        self.counts.update(counts)

    @property
    def total(self) -> int:
        """Answers counted."""
        return self.counts.total()

    def percentile_ms(self, share: float) -> float | None:
        """That share of the answers took no longer; None where there was none."""
        # Rounded first: 0.99 of 1000 answers are 990, whatever floating point makes of it.
        wanted, seen = math.ceil(round(share * self.total, 6)), 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted:
                return upper_bound_ms(number)
        return None


def bucket(milliseconds: float) -> int:
    """The number of the bucket that holds this time."""
    if milliseconds <= SMALLEST_MS:
        return 0
    return max(0, math.ceil(math.log(milliseconds / SMALLEST_MS) / _LOG_WIDTH - 1e-9))


def upper_bound_ms(number: int) -> float:
    """The longest time that a bucket holds."""
    return SMALLEST_MS * WIDTH**number
