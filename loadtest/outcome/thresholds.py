"""Gates: what a run must reach, read from a TOML profile, and which of it the run did."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outcome.run import Run, RunError

PROFILES = Path(__file__).resolve().parents[1] / "profiles"


class Gate(BaseModel):
    """Of one endpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_at_least: Annotated[float | None, Field(gt=0)] = None
    """Right answers a second, where the plan asks this endpoint alone and by a closed arrival: a rate that was offered is no capacity."""
    p99_ms_at_most: Annotated[float | None, Field(gt=0)] = None


class Thresholds(BaseModel):
    """A profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wrong_share_at_most: Annotated[float, Field(ge=0, le=1)] = 0
    """Of all answers."""
    answered_share_at_least: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Of the requests that an open arrival offered."""
    endpoints: dict[str, Gate] = {}


@dataclass(frozen=True)
class Judgement:
    """One gate and what the run gave."""

    what: str
    limit: str
    found: str
    held: bool


def read_thresholds(file: Path) -> Thresholds:
    """A profile from its file; RunError says what is wrong with it."""
    try:
        return Thresholds.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{file} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(f"{file}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}.") from error


def judge(run: Run, thresholds: Thresholds) -> list[Judgement]:
    """Every gate that applies to this run. A run without answers holds none."""
    share = run.wrong_count / run.requests if run.requests else 1.0
    found = [
        Judgement("complete run", "yes", "yes" if run.end == "complete" else run.end, run.end == "complete"),
        Judgement("answers", "some", f"{run.requests:,}", run.requests > 0),
        Judgement("wrong answers", f"<= {thresholds.wrong_share_at_most:.2%}", f"{share:.2%}", share <= thresholds.wrong_share_at_most),
    ]
    offered = _offered(run)
    if offered:
        answered = run.requests / offered
        limit = thresholds.answered_share_at_least
        found.append(Judgement("answered of offered", f">= {limit:.0%}", f"{answered:.1%}", answered >= limit))
    for name, gate in thresholds.endpoints.items():
        if name in run.endpoints or name == run.plan.endpoint:
            found += _judge_endpoint(run, name, gate)
    return found


def _judge_endpoint(run: Run, name: str, gate: Gate) -> list[Judgement]:
    found = []
    if gate.rate_at_least is not None and name == run.plan.endpoint and run.plan.arrival == "closed":
        rate = run.rate(name) if name in run.endpoints else 0.0
        found.append(Judgement(f"{name}: rate", f">= {gate.rate_at_least:,.0f}/s", f"{rate:,.0f}/s", rate >= gate.rate_at_least))
    if gate.p99_ms_at_most is not None:
        p99 = run.endpoints[name].percentile_ms(0.99) if name in run.endpoints else None
        shown = "no right answer" if p99 is None else f"{p99:.2f} ms"
        found.append(Judgement(f"{name}: p99", f"<= {gate.p99_ms_at_most:g} ms", shown, p99 is not None and p99 <= gate.p99_ms_at_most))
    return found


def _offered(run: Run) -> float:
    counted = [point.offered for point in run.points if point.at_seconds > run.plan.warm_up_seconds]
    known = [each for each in counted if each is not None]
    # A second without a report has no point, and was offered as much as the others.
    return sum(known) * run.seconds / len(known) if known else 0.0
