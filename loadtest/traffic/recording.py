"""What a generator saw in each second, as it is counted there and added up by the one that leads."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from outcome.latency import Histogram
from outcome.run import Endpoint, LostWorker, Point, Run
from traffic.arrival import offered

LEAST_WALL_SECONDS = 0.5
"""Of less a share of CPU says nothing."""


@cache
def core_limit(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """The part of a core that this process may use: one, or what its container is limited to."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 1.0
    return 1.0 if quota == "max" else min(1.0, int(quota) / int(period))


class Tally:
    """Counts of one kind of request."""

    def __init__(self) -> None:
        self.requests = 0
        self.wrong: Counter[str] = Counter()
        self.times = Histogram()

    def count(self, milliseconds: float, wrong: str | None) -> None:
        """One answer."""
        self.requests += 1
        if wrong is None:
            self.times.record(milliseconds)
        else:
            self.wrong[wrong] += 1

    def packed(self) -> list[Any]:
        """For the way to the one that leads, whose format takes no numbers as keys."""
        return [self.requests, list(self.wrong.items()), list(self.times.counts.items())]

    def add(self, packed: Sequence[Any]) -> None:
        """What another has counted."""
        requests, wrong, times = packed
        self.requests += requests
        self.wrong.update(dict(wrong))
        self.times.add(dict(times))

    def endpoint(self) -> Endpoint:
        """As it is kept."""
        return Endpoint(requests=self.requests, wrong=dict(self.wrong), times=dict(self.times.counts))


class Window:
    """Counts since the last `take`, of one generator; what was counted before `begin` belongs to the warm-up."""

    def __init__(self) -> None:
        self._is_counted = False
        self._clock_stopped = False
        self._taken: list[dict[str, Any]] = []
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._began, self._cpu = time.monotonic(), time.process_time()

    def count(self, name: str, milliseconds: float, wrong: str | None) -> None:
        """One answer."""
        self._tallies[name].count(milliseconds, wrong)

    def begin(self) -> None:
        """The warm-up is over."""
        self._close()
        self._is_counted = True

    def stop_clock(self) -> None:
        """Nobody asks any more: time that passes from here on is not of the counted time, but what was asked before still counts."""
        self._close()
        self._clock_stopped = True

    def end(self) -> None:
        """All is told: what comes from here on does not count."""
        self._close()
        self._is_counted = False

    def take(self) -> list[dict[str, Any]]:
        """The counts, as plain data; then start again."""
        self._close()
        taken, self._taken = self._taken, []
        return taken

    def _close(self) -> None:
        now, cpu = time.monotonic(), time.process_time()
        self._taken.append(
            {
                "tallies": {name: tally.packed() for name, tally in self._tallies.items()},
                "is_counted": self._is_counted,
                "wall_seconds": 0.0 if self._clock_stopped else now - self._began,
                "cpu_seconds": 0.0 if self._clock_stopped else (cpu - self._cpu) / core_limit(),
            }
        )
        self._tallies, self._began, self._cpu = defaultdict(Tally), now, cpu


class Recording:
    """A run as it grows, at the generator that leads."""

    def __init__(self, run: Run, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = run
        self._clock = clock
        self._started = clock()
        self._points: dict[int, Point] = {}
        self._times: defaultdict[int, Histogram] = defaultdict(Histogram)
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._cpu: dict[str, tuple[float, float]] = {}
        self._components: defaultdict[str, list[float]] = defaultdict(list)

    @property
    def at_seconds(self) -> float:
        """Since the load began."""
        return self._clock() - self._started

    def add(self, generator: str, taken: Sequence[Mapping[str, Any]], users: int) -> None:
        """Count what a generator took from its window."""
        for each in taken:
            self._add(generator, each, users)

    def _add(self, generator: str, taken: Mapping[str, Any], users: int) -> None:
        point = self._point()
        point.users = users
        times = self._times[point.at_seconds]
        for name, packed in taken["tallies"].items():
            seen = Tally()
            seen.add(packed)
            point.requests[name] = point.requests.get(name, 0) + seen.requests
            point.wrong += seen.wrong.total()
            times.add(seen.times.counts)
            if taken["is_counted"]:
                self._tallies[name].add(packed)
        point.p50_ms, point.p99_ms = times.percentile_ms(0.5), times.percentile_ms(0.99)
        if taken["is_counted"]:
            wall, cpu = self._cpu.get(generator, (0.0, 0.0))
            self._cpu[generator] = wall + taken["wall_seconds"], cpu + taken["cpu_seconds"]

    def look(self, replicas: int | None, cpu_cores: Mapping[str, float], lag_seconds: float = 0.0) -> None:
        """Note what the service runs on at this moment; CPU is the mean of up to `lag_seconds` before it."""
        point = self._point()
        point.replicas, point.cpu_cores = replicas, dict(cpu_cores)
        if self.at_seconds > self.run.plan.warm_up_seconds + lag_seconds:
            for name, cores in cpu_cores.items():
                self._components[name].append(cores)

    def lose(self, generator: str) -> None:
        """A generator went away."""
        self.run.generator.lost.append(LostWorker(name=generator, at_seconds=round(self.at_seconds, 1)))

    def component_means(self) -> dict[str, float]:
        """Cores in use on average, by component."""
        return {name: sum(seen) / len(seen) for name, seen in self._components.items()}

    def snapshot(self) -> Run:
        """The run up to now."""
        run = self.run
        # By the generators' own clocks: they begin a little after the one that leads. One that was lost counted for less.
        run.seconds = round(max((wall for wall, _ in self._cpu.values()), default=0.0), 3)
        run.endpoints = {name: self._tallies[name].endpoint() for name in sorted(self._tallies)}
        run.points = [self._points[second] for second in sorted(self._points)]
        run.generator.cpu_shares = {name: round(cpu / wall, 3) for name, (wall, cpu) in self._cpu.items() if wall > LEAST_WALL_SECONDS}
        return run

    def _point(self) -> Point:
        second = int(self.at_seconds)
        if second not in self._points:
            self._points[second] = Point(at_seconds=second, offered=offered(self.run.plan, second), requests={}, cpu_cores={})
        return self._points[second]
