"""Threads that ask all the while: the life that every load of the tests shares."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Threads:
    """They run from the beginning of a `with` block to its end; `ending` tells them to return."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, work: Callable[..., None], *arguments: Any) -> None:
        """One more thread, before the block begins."""
        self._threads.append(threading.Thread(target=work, args=arguments))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending.set()
        for thread in self._threads:
            thread.join()
