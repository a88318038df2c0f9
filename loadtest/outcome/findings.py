"""What a report says of a run, worked out once for the page and the summary: verdict, gates, warnings, a row for each endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from outcome.comparison import differences
from outcome.run import Endpoint, Run
from outcome.thresholds import ANSWERED, Judgement, Thresholds, answered_share, judge
from outcome.verdict import bottleneck, efficiency, knee


class Row(NamedTuple):
    """One endpoint, or all of them together."""

    name: str
    rate: float
    requests: int
    wrong: int
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    longest: float | None
    is_sum: bool = False
    rate_ratio: float | None = None
    """Over that of the run before; None where there is none to compare with."""
    p99_ratio: float | None = None


class Wrong(NamedTuple):
    """Wrong answers of one kind."""

    endpoint: str
    kind: str
    number: int
    share: float
    """Of the endpoint's requests."""


@dataclass(frozen=True)
class Findings:
    """Everything that is said and not drawn."""

    verdict: str
    knee: str | None
    """Of a load that rose."""
    scaling: str | None
    gates: list[Judgement]
    warnings: list[str]
    rows: list[Row]
    is_compared: bool
    comparison: str | None
    """With what the run is compared, or why it is not."""
    wrong: list[Wrong]

    @property
    def missed(self) -> list[Judgement]:
        """Gates that the run did not hold."""
        return [gate for gate in self.gates if not gate.held]


def findings(run: Run, thresholds: Thresholds | None = None, before: Run | None = None, single: Run | None = None) -> Findings:
    """Look at a run; `before` is one of the same plan and place, `single` one of fewer instances."""
    differing = _differing(run, before) if before is not None else None
    is_compared = before is not None and differing is None
    comparison = differing
    if before is not None and differing is None:
        when = f"{before.started:%Y-%m-%d %H:%M}"
        comparison = f"Changes are against the run {before.name} of {when}; one pair of runs cannot tell a change from noise."
    return Findings(
        verdict=bottleneck(run).sentence,
        knee=_knee(run),
        scaling=_scaling(run, single) if single is not None else None,
        gates=judge(run, thresholds) if thresholds is not None else [],
        warnings=list(_warnings(run)),
        rows=_compared(run, before) if before is not None and is_compared else _rows(run),
        is_compared=is_compared,
        comparison=comparison,
        wrong=_wrong(run),
    )


def _rows(run: Run) -> list[Row]:
    rows = [_row(name, each, run.rate(name)) for name, each in run.endpoints.items()]
    if len(rows) > 1:
        together = Endpoint(requests=run.requests, wrong={"any": run.wrong_count}, times=dict(run.times.counts))
        rows.append(_row("all", together, run.total_rate)._replace(is_sum=True))
    return rows


def _row(name: str, endpoint: Endpoint, rate: float) -> Row:
    p50, p90, p99, p999, longest = (endpoint.percentile_ms(share) for share in (0.5, 0.9, 0.99, 0.999, 1.0))
    return Row(name, rate, endpoint.requests, endpoint.wrong_count, p50, p90, p99, p999, longest)


def _compared(run: Run, before: Run) -> list[Row]:
    old = {(row.is_sum, row.name): row for row in _rows(before)}
    rows = []
    for row in _rows(run):
        counterpart = old.get((row.is_sum, row.name))
        if counterpart is not None:
            row = row._replace(rate_ratio=_ratio(row.rate, counterpart.rate), p99_ratio=_ratio(row.p99, counterpart.p99))
        rows.append(row)
    return rows


def _ratio(now: float | None, before: float | None) -> float | None:
    return now / before if now is not None and before else None


def _differing(run: Run, before: Run) -> str | None:
    """Why two runs say nothing of each other."""
    for what, ours, theirs in (
        ("environments", run.environment, before.environment),
        ("plans", run.plan.model_dump(), before.plan.model_dump()),
    ):
        if differing := differences(theirs, ours):
            return f"Not compared with the run {before.name}: the {what} differ in {', '.join(differing)}."
    return None


def _knee(run: Run) -> str | None:
    if not run.plan.is_rising:
        return None
    found = knee(run)
    if found is None:
        return "The load never became too much: the knee lies above what was offered."
    return f"The knee is at {found.rate:,.0f} requests/s: up to there the p99 stayed near its floor of {found.floor_ms:.1f} ms."


def _scaling(run: Run, single: Run) -> str:
    share = efficiency(run, single)
    if share is None:
        return f"How the rate scales is not known: the run {single.name} is not one of the same plan with fewer instances."
    return (
        f"Scaling: each of the {run.environment['instances']} instances gave {share:.0%} of what each gave in the run {single.name}, "
        f"which had {single.environment['instances']}."
    )


def _warnings(run: Run) -> Iterator[str]:
    if run.end == "interrupted":
        yield "The run was interrupted: what follows is what was counted up to then."
    if run.end == "running":
        yield "The run had not ended when this was written: what follows is what was counted up to then."
    if not run.requests:
        yield "No answer was counted."
    answered = answered_share(run)
    if answered is not None and answered < ANSWERED:
        yield f"Only {answered:.1%} of what was offered was answered: the times are of those alone."
    generator = run.generator
    for lost in generator.lost:
        yield f"The generator {lost.name} was lost at second {lost.at_seconds:g}; from then on the others made the load alone."
    if generator.most < generator.expected:
        yield f"At most {generator.most} of {generator.expected} generators took part."
    if generator.is_limit:
        name, share = max(generator.cpu_shares.items(), key=lambda each: each[1])
        yield f"The generator {name} used {share:.0%} of its core: rates are floors, and times are partly the generator's own."


def _wrong(run: Run) -> list[Wrong]:
    """The most frequent first."""
    found = [
        Wrong(name, kind, number, number / endpoint.requests if endpoint.requests else 1.0)
        for name, endpoint in run.endpoints.items()
        for kind, number in endpoint.wrong.items()
        if number
    ]
    return sorted(found, key=lambda each: (-each.number, each.endpoint, each.kind))
