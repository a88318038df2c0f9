"""Profiling on demand: where a thread's CPU time goes and what memory stays taken, of a process that goes on working.

Both are collapsed stacks, one a line: frames from the outermost in, joined by `;`, a space, and microseconds or bytes.
"""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from types import FrameType
from typing import Literal, get_args

import structlog

from authsvc.errors import SlowDown

Kind = Literal["cpu", "memory"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SAMPLE_SECONDS = 0.005
MOST_SECONDS = 60
DEPTH = 8
"""Frames of an allocation that are kept."""

log = structlog.get_logger(__name__)


class Profiling:
    """One profile of this process at a time."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._busy = threading.Lock()

    def take(self, kind: str, seconds: float, thread_id: int) -> str:
        """Watch for so long, or until `end`, and tell; blocks, so it belongs into a thread of its own. SlowDown while another is taken."""
        if not self._busy.acquire(blocking=False):
            raise SlowDown("A profile is being taken already: try again when it is over.")
        log.info("a profile is taken", kind=kind, seconds=seconds)
        try:
            stacks = allocations(seconds, self._ended) if kind == "memory" else cpu(seconds, thread_id, self._ended)
        finally:
            self._busy.release()
        return written(stacks)

    def end(self) -> None:
        """The process stops: what is being taken is over now, or it would hold the process up."""
        self._ended.set()


def written(stacks: Mapping[str, int]) -> str:
    """Collapsed stacks as text."""
    return "".join(f"{stack} {amount}\n" for stack, amount in sorted(stacks.items()) if amount)


def read(text: str) -> Counter[str]:
    """What was written; ValueError for any other text."""
    stacks: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, amount = line.rpartition(" ")
        stacks[stack] += int(amount)
    return stacks


def cpu(seconds: float, thread_id: int, ended: threading.Event) -> dict[str, int]:
    """Microseconds of CPU of one thread by stack. A sample weighs what the thread used since the one before, so waiting weighs nothing."""
    clock = time.pthread_getcpuclockid(thread_id)
    stacks: Counter[str] = Counter()
    used_ns = time.clock_gettime_ns(clock)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not ended.wait(SAMPLE_SECONDS):
        now_ns = time.clock_gettime_ns(clock)
        frame = sys._current_frames().get(thread_id)
        if now_ns > used_ns and frame is not None:
            stacks[_collapsed(frame)] += (now_ns - used_ns) // 1000
        used_ns = now_ns
    return stacks


def allocations(seconds: float, ended: threading.Event) -> dict[str, int]:
    """Bytes that were taken while it was watched and are still held at its end, by stack. Everything is slower meanwhile."""
    tracemalloc.start(DEPTH)
    try:
        ended.wait(seconds)
        held = tracemalloc.take_snapshot().filter_traces((tracemalloc.Filter(False, tracemalloc.__file__),))
    finally:
        tracemalloc.stop()
    stacks: Counter[str] = Counter()
    for statistic in held.statistics("traceback"):
        stacks[";".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in statistic.traceback)] += statistic.size
    return stacks


def _collapsed(frame: FrameType | None) -> str:
    names: list[str] = []
    while frame is not None:
        names.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))


def _short(path: str) -> str:
    """The last two parts of a path, without what separates stacks and amounts."""
    return "/".join(path.rsplit("/", 2)[-2:]).replace(";", ",").replace(" ", "_")
