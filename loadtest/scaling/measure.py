"""Measures what a plan asks, part by part: rows at rest and under load, pods that come and go, and the autoscaler."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from authsvc.commands.cluster import Cluster
from outcome.run import Point, Run, RunError
from scaling.counters import Counts, look
from scaling.load import Load
from scaling.plan import COMPONENTS, STEPS, Key, ScalePlan
from scaling.record import Row, Step, Timeline
from scaling.release import Release
from swarm.swarm import State

IDLE_SECONDS = 25.0
"""Of rest: long enough for two counts."""
SERVICE = ("auth", "nginx", "redis")


def idle(cluster: Cluster) -> dict[str, float]:
    """Cores in use while nobody asks, by component."""
    counts, began = Counts(cluster.namespace), time.time()
    while time.time() < began + IDLE_SECONDS:
        look(cluster, counts)
        time.sleep(1.0)
    return {name: cores for name, cores in counts.cores(began - IDLE_SECONDS, time.time()).items() if name in SERVICE}


def row(cluster: Cluster, load: Load, release: Release, plan: ScalePlan, key: Key) -> Row:
    """One row; the release has its pods already, each held to its limit."""
    counts = Counts(cluster.namespace)
    run = load.run(plan.saturating(key), lambda state: look(cluster, counts))
    began = run.started.timestamp()
    cores = counts.cores(began + plan.warm_up_seconds, began + plan.seconds)
    return Row(
        round=key.round,
        pods=key.pods,
        endpoint=key.endpoint,
        seconds=run.seconds,
        answers={name: each.right for name, each in run.endpoints.items()},
        wrong=dict(sum((Counter(each.wrong) for each in run.endpoints.values()), Counter[str]())),
        p50_ms=run.percentile_ms(0.5),
        p99_ms=run.percentile_ms(0.99),
        cores={name: cores[name] for name in COMPONENTS if name in cores},
        limits=release.limits() | {"generator": plan.generator_millicores / 1000},
    )


def steps(load: Load, release: Release, plan: ScalePlan, note: Callable[[str], None]) -> list[Step]:
    """Bring the release from one pod to four and back while requests go on; RunError where the load ended before."""
    spans: list[tuple[int, int, float, float]] = []

    def climb(state: State) -> None:
        if spans or state.run is None or not state.run.points:
            return
        for before, after in pairwise((1, *STEPS)):
            note(f"{before} to {after} pods under load")
            began = time.time()
            release.scale(after)
            spans.append((before, after, began, time.time()))

    run = load.run(plan.steady(), climb)
    return steps_of(run, spans)


def steps_of(run: Run, spans: Sequence[tuple[int, int, float, float]]) -> list[Step]:
    """What a run saw during each span (pods before and after, begin and end in seconds of the epoch); wrong answers between two belong to
    the earlier: nothing else can have caused them."""
    started = run.started.timestamp()
    if not spans or spans[-1][3] > started + run.plan.seconds:
        raise RunError("The load ended before the last step did: give --step-seconds more.")
    found = []
    for number, (before, after, began, ended) in enumerate(spans):
        until = spans[number + 1][2] if number + 1 < len(spans) else started + run.plan.seconds + 60
        points = [point for point in run.points if began <= started + point.at_seconds < until]
        slowest = max((point.p99_ms for point in points if point.p99_ms is not None), default=None)
        found.append(
            Step(
                before=before,
                after=after,
                seconds=round(ended - began, 1),
                requests=sum(sum(point.requests.values()) for point in points),
                wrong=sum(point.wrong for point in points),
                p99_ms=slowest,
            )
        )
    return found


def autoscaled(load: Load, release: Release, plan: ScalePlan) -> Timeline:
    """One to four pods and back, as the autoscaler decides."""
    release.autoscale()
    run = load.run(plan.spike(), lambda state: None)
    return timeline(run.points)


def timeline(points: Sequence[Point]) -> Timeline:
    """The points as columns."""
    return Timeline(
        at_seconds=[point.at_seconds for point in points],
        offered=[point.offered for point in points],
        answered=[sum(point.requests.values()) - point.wrong for point in points],
        wrong=[point.wrong for point in points],
        p99_ms=[None if point.p99_ms is None else round(point.p99_ms, 1) for point in points],
        pods=[point.replicas for point in points],
    )
