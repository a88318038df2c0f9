"""Gates: what a run must reach, read from a TOML profile, and which of it the run did."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outcome.plan import asked
from outcome.run import Run, RunError

ANSWERED = 0.95
"""Of what is offered; less is a service, or a generator, that cannot follow."""
PROFILES = Path(__file__).resolve().parents[1] / "profiles"


class Gate(BaseModel):
    """Of one endpoint, for the plans that are named for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_at_least: Annotated[float | None, Field(gt=0)] = None
    """Right answers a second, by a closed arrival: a rate that was offered is no capacity. Of a mix, all of them."""
    p99_ms_at_most: Annotated[float | None, Field(gt=0)] = None


class Thresholds(BaseModel):
    """A profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wrong_share_at_most: Annotated[float, Field(ge=0, le=1)] = 0
    """Of all answers."""
    answered_share_at_least: Annotated[float, Field(ge=0, le=1)] = ANSWERED
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
    answered = answered_share(run)
    if answered is not None:
        limit = thresholds.answered_share_at_least
        found.append(Judgement("answered of offered", f">= {limit:.0%}", f"{answered:.1%}", answered >= limit))
    # Among others, or as a step to another, an endpoint has another rate and other times than by itself.
    gate = thresholds.endpoints.get(run.plan.endpoint)
    return found if gate is None else [*found, *_judge_endpoint(run, run.plan.endpoint, gate)]


def _judge_endpoint(run: Run, name: str, gate: Gate) -> list[Judgement]:
    found = []
    is_whole = name == "mix"
    if gate.rate_at_least is not None and run.plan.arrival == "closed":
        rate = run.total_rate if is_whole else run.rate(name) if name in run.endpoints else 0.0
        found.append(Judgement(f"{name}: rate", f">= {gate.rate_at_least:,.0f}/s", f"{rate:,.0f}/s", rate >= gate.rate_at_least))
    if gate.p99_ms_at_most is not None:
        p99 = run.percentile_ms(0.99) if is_whole else run.endpoints[name].percentile_ms(0.99) if name in run.endpoints else None
        shown = "no right answer" if p99 is None else f"{p99:.2f} ms"
        found.append(Judgement(f"{name}: p99", f"<= {gate.p99_ms_at_most:g} ms", shown, p99 is not None and p99 <= gate.p99_ms_at_most))
    return found


def answered_share(run: Run) -> float | None:
    """Answers, right or wrong, over the requests that were due in the counted time; None for a closed arrival."""
    plan = run.plan
    if plan.arrival == "closed":
        return None
    began, ended = (asked(plan.shape, at / plan.seconds) for at in (plan.warm_up_seconds, plan.warm_up_seconds + run.seconds))
    offered = plan.rate * plan.seconds * (ended - began)
    return run.requests / offered if offered else None
