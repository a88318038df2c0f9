"""The results of a suite: for each plan the figures of its repeats, and where they were measured."""

from __future__ import annotations

import statistics
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from outcome.run import Run, read_kept
from outcome.thresholds import ANSWERED, answered_share

FigureName = Literal["rate", "own_rate", "p50_ms", "p99_ms", "own_p99_ms"]


class Figures(BaseModel):
    """What one repeat gave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float
    """Right answers a second, to all that the plan asks."""
    own_rate: float | None = None
    """Of the endpoint that the plan is named for: a plan asks for a token before it can revoke it."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    own_p99_ms: float | None = None
    """Of that endpoint alone."""
    answered_share: float | None = None
    """Of the requests that an open arrival offered."""
    wrong_share: float = 0
    is_generator_limit: bool = False
    """Whether the generator was busy all the time, so that the rate is a floor."""
    is_complete: bool = True
    cpu_cores: dict[str, float] = {}
    """Cores in use, by component."""


class Results(BaseModel):
    """Of one suite."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    size: str
    asked: dict[str, int | float] = {}
    """How much: users, rate, seconds, warm-up, workers. What is compared asked the same."""
    started: datetime
    environment: dict[str, str | int | float]
    """The place. What is compared ran in the same one; the service's own version is not of it."""
    version: str = ""
    """Of the service, where it is known."""
    rows: dict[str, Annotated[list[Figures], Field(min_length=1)]]
    """By the plan's name: `validate, closed`."""
    left_out: list[str] = []
    """What was not measured, each with its reason."""

    def median(self, row: str, figure: FigureName) -> float | None:
        """Of the repeats that have it."""
        known = [value for each in self.rows[row] if (value := getattr(each, figure)) is not None]
        return statistics.median(known) if known else None

    def median_cores(self, row: str, component: str) -> float | None:
        """Cores that a component used, of the repeats that saw it."""
        known = [each.cpu_cores[component] for each in self.rows[row] if component in each.cpu_cores]
        return statistics.median(known) if known else None

    def faults(self) -> list[str]:
        """Why these results are no baseline: each wrong or cut-off row in one sentence."""
        found = []
        for name, repeats in self.rows.items():
            wrong = max(each.wrong_share for each in repeats)
            if wrong:
                found.append(f"{name}: {wrong:.2%} of the answers were wrong.")
            if not all(each.is_complete for each in repeats):
                found.append(f"{name}: a repeat was cut off.")
            if not all(each.rate for each in repeats):
                found.append(f"{name}: a repeat had no right answer.")
            answered = min((each.answered_share for each in repeats if each.answered_share is not None), default=1.0)
            if answered < ANSWERED:
                found.append(f"{name}: only {answered:.1%} of what was offered was answered.")
        return found


def figures_of(run: Run) -> Figures:
    """A run's figures. Rate and times are over all that the plan asked for."""
    own = run.endpoints.get(run.plan.endpoint)
    return Figures(
        rate=round(run.total_rate, 1),
        own_rate=round(run.rate(run.plan.endpoint), 1) if own is not None else None,
        p50_ms=_rounded(run.percentile_ms(0.5)),
        p99_ms=_rounded(run.percentile_ms(0.99)),
        own_p99_ms=_rounded(own.percentile_ms(0.99)) if own is not None else None,
        answered_share=answered_share(run),
        wrong_share=run.wrong_count / run.requests if run.requests else 0.0,
        is_generator_limit=run.generator.is_limit,
        is_complete=run.end == "complete" and not run.generator.lost,
        cpu_cores={name: part.cpu_cores for name, part in run.components.items()},
    )


def read_results(path: Path) -> Results:
    """From a file, or from the results.json of a folder; RunError says what is wrong with it."""
    file = path / "results.json" if path.is_dir() else path
    return read_kept(Results, file, "holds no results of run_all_tests")


def write_results(results: Results, folder: Path) -> Path:
    """Write results.json into a folder; returns the file."""
    file = folder / "results.json"
    file.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return file


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
