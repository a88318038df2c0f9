"""A look at the local stack: the management ports that `stack.json` names."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from localstack import Stack, StackError
from localstack.web import is_ready, metrics
from view.samples import ANSWER_SECONDS, INSTANCE, WRITER, Look, Process, Readiness, read_page


class LocalStack:
    """The stack in a run folder."""

    def __init__(self, run_dir: Path) -> None:
        self._stack = Stack(run_dir)

    def look(self) -> Look:
        """Ask every process at once; StackError if the stack is not up."""
        state = self._stack.state()
        if state is None:
            raise StackError(f"The stack in {self._stack.layout.run_dir} is not up: start it with scripts/up, or name a release with -n.")
        *instances, writer = state["management"]
        asked = [(f"instance {number}", INSTANCE, url) for number, url in enumerate(instances, 1)] + [("writer", WRITER, writer)]
        with ThreadPoolExecutor(len(asked)) as pool:
            processes = list(pool.map(lambda each: process_at(*each), asked))
        return Look(f"local stack, {state['base_url']}", readiness(processes), processes)


def process_at(name: str, component: str, management_url: str) -> Process:
    """What a process tells at this address; one that is silent is a Process, too."""
    text = metrics(management_url, ANSWER_SECONDS)
    page = read_page(text, time.monotonic())
    if page is None:
        return Process(name, component, None, "no answer" if not text else "no metrics")
    return Process(name, component, page, "" if is_ready(management_url) else "not ready")


def readiness(processes: list[Process]) -> dict[str, Readiness]:
    """By component: those without any state to be told."""
    found = {}
    for component in (INSTANCE, WRITER):
        states = [process.state for process in processes if process.component == component]
        found[component] = Readiness(states.count(""), len(states))
    return found
