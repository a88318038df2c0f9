"""Differences of counters over the last seconds, whatever process begins anew meanwhile, and quantiles of a histogram's buckets."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from view.samples import Look, Page, Series

WINDOW_SECONDS = 10.0
_ROUNDING = 1e-9
"""Sums over several workers are added up in any order: a share of a value by which it may fall without having begun anew."""


@dataclass(frozen=True)
class Growth:
    """What a process's counters grew by within so many seconds."""

    seconds: float
    by: dict[Series, float]


class Track:
    """One process's counters over the last seconds. When it begins anew they go on from where they were: no rate is negative."""

    def __init__(self) -> None:
        self._told: dict[Series, float] = {}
        self._before: dict[Series, float] = {}
        self._points: deque[tuple[float, dict[Series, float]]] = deque()

    def add(self, page: Page) -> None:
        """Take over what the process told now."""
        fell = (page.counters.get(series, 0.0) < value * (1 - _ROUNDING) for series, value in self._told.items())
        if any(fell):
            self._before = self._points[-1][1]
        self._told = page.counters
        now = {series: value + self._before.get(series, 0.0) for series, value in page.counters.items()}
        self._points.append((page.at_seconds, now))
        while len(self._points) > 1 and page.at_seconds - self._points[1][0] >= WINDOW_SECONDS:
            self._points.popleft()

    def growth(self) -> Growth | None:
        """Over the last ten seconds, or since it is known if that is less; None after the first page."""
        (first_at, first), (last_at, last) = self._points[0], self._points[-1]
        if last_at <= first_at:
            return None
        return Growth(last_at - first_at, {series: max(0.0, value - first.get(series, 0.0)) for series, value in last.items()})


class Tracks:
    """The tracks of all processes that are there."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}

    def add(self, look: Look) -> dict[str, Growth]:
        """Take over a look; the growth of each process that told something, by name. Who is gone is forgotten."""
        self._tracks = {process.name: self._tracks.get(process.name) or Track() for process in look.processes}
        found: dict[str, Growth] = {}
        for process in look.processes:
            if process.page is None:
                continue
            track = self._tracks[process.name]
            track.add(process.page)
            growth = track.growth()
            if growth is not None:
                found[process.name] = growth
        return found


def quantile(buckets: Iterable[tuple[float, float]], share: float) -> float | None:
    """The value below which this share lies, from pairs of upper bound and cumulated rate; None if nothing was observed.

    It is interpolated within its bucket, so the true value lies in the same bucket. Beyond the last finite bound it is that bound.
    """
    ordered = sorted(buckets)
    total = ordered[-1][1] if ordered else 0.0
    if total <= 0:
        return None
    wanted = share * total
    lower, below = 0.0, 0.0
    for upper, cumulated in ordered:
        if cumulated >= wanted:
            break
        lower, below = upper, cumulated
    return lower if math.isinf(upper) else lower + (upper - lower) * (wanted - below) / (cumulated - below)
