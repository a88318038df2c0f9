"""A run as it is kept: what was planned, where, and what came of it, second by second and by endpoint."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outcome.latency import Histogram
from outcome.plan import Plan

Model = TypeVar("Model", bound=BaseModel)
FORMAT: Literal[1] = 1
"""Of the file; another is refused."""


class RunError(Exception):
    """A run that cannot be made, read or judged: its message is the one sentence for the person."""


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Endpoint(_Kept):
    """What one kind of request gave over the whole run, warm-up aside."""

    requests: int = 0
    wrong: dict[str, int] = {}
    """Wrong answers by kind. An answer is wrong unless status and content are those that the contract promises."""
    times: dict[int, int] = {}
    """Histogram of the right answers."""

    @property
    def wrong_count(self) -> int:
        """Wrong answers of all kinds."""
        return sum(self.wrong.values())

    @property
    def right(self) -> int:
        """Answers that count."""
        return self.requests - self.wrong_count

    def percentile_ms(self, share: float) -> float | None:
        """Of the right answers, timed from when each request was due."""
        return Histogram(self.times).percentile_ms(share)


class Point(_Kept):
    """One second of a run, as it was reported."""

    at_seconds: int
    """The end of the second, since the load began."""
    users: int = 0
    offered: float | None = None
    """Requests a second that were due; None for a closed arrival."""
    requests: dict[str, int] = {}
    wrong: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    replicas: int | None = None
    cpu_cores: dict[str, float] = {}
    """Cores in use, by component."""


class LostWorker(_Kept):
    """A generator that went away before the end."""

    name: str
    at_seconds: float


class Generator(_Kept):
    """Who made the load."""

    expected: int = 1
    most: int = 1
    lost: list[LostWorker] = []
    cpu_shares: dict[str, float] = {}
    """CPU of each generator over what it may use, a core at most, over the counted time. Near one, the generator was what held the rate."""

    @property
    def is_limit(self) -> bool:
        """Whether one of them was busy all the time, so that rates are floors and times are the generator's own."""
        return any(share > GENERATOR_LIMIT for share in self.cpu_shares.values())


GENERATOR_LIMIT = 0.9
"""From here on Locust itself warns that its measurements may be off."""


class Component(_Kept):
    """A part of the service over the counted time."""

    cpu_cores: float
    limit_cores: float | None = None
    """What it may use at most; None where that is not known."""


class Run(_Kept):
    """One run."""

    format: Literal[1] = FORMAT
    name: str
    plan: Plan
    started: datetime
    seconds: Annotated[float, Field(ge=0)] = 0
    """Counted: from the end of the warm-up on."""
    end: Literal["running", "complete", "interrupted"] = "running"
    environment: dict[str, str | int | float] = {}
    """Where it ran. Runs of different environments are not compared."""
    endpoints: dict[str, Endpoint] = {}
    points: list[Point] = []
    generator: Generator = Generator()
    components: dict[str, Component] = {}

    @property
    def requests(self) -> int:
        """Of all endpoints."""
        return sum(each.requests for each in self.endpoints.values())

    @property
    def wrong_count(self) -> int:
        """Of all endpoints."""
        return sum(each.wrong_count for each in self.endpoints.values())

    def rate(self, name: str) -> float:
        """Right answers a second."""
        return self.endpoints[name].right / self.seconds if self.seconds else 0.0

    @property
    def total_rate(self) -> float:
        """Right answers a second, of all endpoints."""
        return sum(self.rate(name) for name in self.endpoints)

    @property
    def times(self) -> Histogram:
        """Of the right answers of all endpoints."""
        together = Histogram()
        for each in self.endpoints.values():
            together.add(each.times)
        return together

    def percentile_ms(self, share: float) -> float | None:
        """Over all endpoints."""
        return self.times.percentile_ms(share)


def read_kept(model: type[Model], file: Path, is_none: str) -> Model:
    """A model in a JSON file; RunError where it cannot be read, or where the file is none: `is_none` says what it is not."""
    try:
        return model.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{file} {is_none}: it is not text.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(f"{file} {is_none}: {where}: {first['msg']}.") from error


def read_run(file: Path) -> Run:
    """A run from its file; RunError says what is wrong with it."""
    return read_kept(Run, file, "is no result of a run")


def write_text(file: Path, text: str) -> None:
    """Write a file that somebody named; RunError where that cannot be."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror}.") from error


def write_kept(kept: BaseModel, file: Path) -> None:
    """Write a model whole or not at all."""
    beside = file.with_name(file.name + ".new")
    beside.write_text(kept.model_dump_json() + "\n", encoding="utf-8")
    beside.replace(file)
