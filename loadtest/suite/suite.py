"""A suite: every plan of a size against one target, repeated in turn, each run's files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from outcome.files import files_of
from outcome.plan import Plan
from outcome.results import Figures, Results, figures_of, write_results
from outcome.run import RunError
from outcome.thresholds import Thresholds, judge
from suite import ceiling
from suite.launch import run_plan
from suite.sizes import Size, SizeName
from suite.target import Target


@dataclass
class Suite:
    """What is measured, how and where to."""

    target: Target
    size_name: SizeName
    size: Size
    workers: int
    """Locust processes."""
    thresholds: Thresholds | None
    folder: Path
    work: Path
    """For what is needed meanwhile."""
    missed: list[str] = field(default_factory=list)
    """Gates that a run did not hold, each in one sentence."""
    _requests: Mapping[str, list[bytes]] = field(default_factory=dict)

    def measure(self, only: list[str], console: Console) -> Results:
        """Run the plans whose name has one of the words in it, or all of them."""
        asked = {name: getattr(self.size, name) for name in ("users", "rate", "seconds", "warm_up_seconds")} | {"workers": self.workers}
        results = Results(
            asked=asked,
            size=self.size_name,
            started=datetime.now(UTC),
            environment=self.target.environment,
            version=self.target.version,
            rows={},
        )
        rows: dict[str, Callable[[int], Figures]] = {name: partial(self._run, name, plan) for name, plan in self.size.plans().items()}
        if ceiling.is_at_hand():
            rows |= {name: partial(self._reach, name) for name in ceiling.ROWS}
        else:
            results.left_out.append(ceiling.LEFT_OUT)
        wanted = {name: measure for name, measure in rows.items() if not only or any(word in name for word in only)}
        if not wanted:
            raise RunError(f"No plan has {' or '.join(only)} in its name; there are: {'; '.join(rows)}.")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("Measuring", total=self.size.repeats * len(wanted))
            # Repeats are the outer loop: what the machine does meanwhile meets all plans alike.
            for repeat in range(1, self.size.repeats + 1):
                for name, measure in wanted.items():
                    progress.update(task, description=f"Measuring {name}")
                    results.rows.setdefault(name, []).append(measure(repeat))
                    # After each, so that a suite that is cut off leaves what it had.
                    write_results(results, self.folder)
                    progress.advance(task)
        return results

    def _run(self, name: str, plan: Plan, repeat: int) -> Figures:
        slug = name.replace(", ", "-").replace(" ", "-")
        run = run_plan(plan, self.work, workers=self.workers, name=slug, **self.target.around())
        for file, text in files_of(run, self.thresholds).items():
            (self.folder / f"{slug}-{repeat}-{file}").write_text(text, encoding="utf-8")
        if self.thresholds is not None:
            gates = [gate for gate in judge(run, self.thresholds) if not gate.held]
            self.missed += [f"{name}, repeat {repeat}: {gate.what} is {gate.found}, not {gate.limit}." for gate in gates]
        return figures_of(run)

    def _reach(self, name: str, repeat: int) -> Figures:
        if not self._requests:
            self._requests = ceiling.requests_of(self.target.url, self.target.credentials())
        requests = self._requests[name]
        return ceiling.reach(self.target.url, requests, self.size.seconds, self.work, self.target.observer())
