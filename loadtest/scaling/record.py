"""What a scale test has measured, kept after each row: one that was cut off goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from outcome.plan import EndpointName
from outcome.run import RunError, read_kept, write_kept
from scaling.plan import AUTOSCALED, Key, ScalePlan


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Row(_Kept):
    """One number of pods under one plan."""

    round: int
    pods: int
    endpoint: EndpointName
    seconds: float
    """Counted."""
    answers: dict[str, int]
    """Right ones, by what was asked: a plan asks for a token before it can revoke it."""
    wrong: dict[str, int] = {}
    """By what was wrong with them."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    cores: dict[str, float]
    """In use, by component, as the kubelets counted them."""
    limits: dict[str, float]
    """What all pods of a component may use together."""

    @property
    def key(self) -> Key:
        """What it is a row of."""
        return Key(self.round, self.pods, self.endpoint)

    @property
    def wrong_count(self) -> int:
        """Of all kinds."""
        return sum(self.wrong.values())

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return sum(self.answers.values()) / self.seconds if self.seconds else 0.0


class Step(_Kept):
    """The release brought from one number of pods to another, under load."""

    before: int
    after: int
    seconds: float
    """Until every pod that was to come was known to nginx, and every one that was to go was gone."""
    requests: int
    wrong: int
    p99_ms: float | None = None
    """The longest of its seconds."""


class Timeline(_Kept):
    """A run second by second; each list has a value for each second, None where it was not seen."""

    at_seconds: list[int]
    offered: list[float | None]
    answered: list[int]
    wrong: list[int]
    p99_ms: list[float | None]
    pods: list[int | None]
    """Ready ones."""

    def faults(self) -> list[str]:
        """As those of the record."""
        least, most = AUTOSCALED
        unseen = [str(number) for number in range(least, most + 1) if number not in self.pods]
        found = [f"Under the autoscaler: {sum(self.wrong)} wrong answers."] if any(self.wrong) else []
        return found + ([f"Under the autoscaler: never seen with so many pods: {', '.join(unseen)}."] if unseen else [])


class Record(_Kept):
    """Of one scale test."""

    format: Literal[1] = 1
    plan: ScalePlan
    started: datetime
    environment: dict[str, str | int | float] = {}
    note: str = ""
    """What a reader should know of the place and the time, for the page."""
    idle: dict[str, float] = {}
    """Cores in use while nobody asks; of auth, nginx and redis for one pod."""
    rows: list[Row] = []
    steps: list[Step] = []
    autoscaled: Timeline | None = None

    def missing(self) -> list[Key]:
        """Rows that are still to be measured, in their order."""
        known = {row.key for row in self.rows}
        return [key for key in self.plan.in_order() if key not in known]

    def faults(self) -> list[str]:
        """Why this record is no result to show, each in one sentence: what is missing, went wrong, was not reached or cannot be told."""
        found = [f"{len(self.missing())} rows are missing."] if self.missing() else []
        found += [f"{row.endpoint}, {row.pods} pods: {row.wrong_count} wrong answers ({_kinds(row)})." for row in self.rows if row.wrong]
        found += [f"{step.before} to {step.after} pods: {step.wrong} wrong answers." for step in self.steps if step.wrong]
        for row in self.rows:
            if unseen := sorted(row.limits.keys() - row.cores.keys()):
                found.append(f"{row.endpoint}, {row.pods} pods, round {row.round}: the CPU of {', '.join(unseen)} was not seen.")
        return found + ([] if self.autoscaled is None else self.autoscaled.faults())

    def be_of(self, place: Mapping[str, str | int | float]) -> None:
        """Note where it is measured; RunError where what it has already is of another place, or of another version of the service."""
        differing = [key for key in {**self.environment, **place} if self.environment.get(key) != place.get(key)]
        if self.environment and differing:
            told = "; ".join(f"{key}: {self.environment.get(key, 'unknown')}, now {place.get(key, 'unknown')}" for key in differing)
            raise RunError(f"The record is of another place ({told}): go on with it there, or give --fresh to begin anew.")
        self.environment = dict(place)


def _kinds(row: Row) -> str:
    return ", ".join(f"{kind}: {number}" for kind, number in sorted(row.wrong.items()))


def open_record(file: Path, plan: ScalePlan, now: datetime) -> Record:
    """The record to go on with, or a new one; RunError where what is there is of another plan."""
    if not file.exists():
        return Record(plan=plan, started=now)
    record = read_record(file)
    if record.plan != plan:
        raise RunError(f"{file} is of another plan: give that plan's options to go on with it, or --fresh to begin anew.")
    return record


def read_record(file: Path) -> Record:
    """RunError says what is wrong with it."""
    return read_kept(Record, file, "is no record of a scale test")


def write_record(record: Record, file: Path) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_kept(record, file)
