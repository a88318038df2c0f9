"""What a record says: rates and efficiency, CPU of a request, what held the rate, and whether `scripts/size` would have said so."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaling.plan import COMPONENTS
from scaling.record import Record, Row
from sizing.costs import COMPONENTS as SIZED
from sizing.costs import ROWS, Cost, cores_in_use

BUSY = 0.9
"""A component that uses this much of its limit is what holds the rate."""
NOTHING = "nothing seen"


class Spread(NamedTuple):
    """The middle of the rounds, and the lowest and highest."""

    middle: float
    low: float
    high: float


class Cell(NamedTuple):
    """One endpoint at one number of pods, over all rounds."""

    rate: Spread
    efficiency: float
    """Rate over as many times the rate of one pod as there are pods."""
    p99_ms: float | None
    cost_us: dict[str, float]
    """CPU microseconds of a request, by component."""
    used: dict[str, float]
    """Of each component's limit."""
    bottleneck: str
    wrong: int


def cells(record: Record) -> dict[str, dict[int, Cell]]:
    """By endpoint and number of pods, in the order of the plan; what has not been measured is left out."""
    found: dict[str, dict[int, Cell]] = {}
    for endpoint in record.plan.endpoints:
        single = _rows(record, endpoint, 1)
        if single:
            one = statistics.median(row.rate for row in single)
            by_pods = {pods: rows for pods in record.plan.pods if (rows := _rows(record, endpoint, pods))}
            found[endpoint] = {pods: _cell(rows, pods, one) for pods, rows in by_pods.items()}
    return found


def _rows(record: Record, endpoint: str, pods: int) -> list[Row]:
    return [row for row in record.rows if (row.endpoint, row.pods) == (endpoint, pods)]


def _cell(rows: Sequence[Row], pods: int, single: float) -> Cell:
    rates = [row.rate for row in rows]
    rate = Spread(statistics.median(rates), min(rates), max(rates))
    used = _middles([{name: row.cores[name] / row.limits[name] for name in row.cores if name in row.limits} for row in rows])
    return Cell(
        rate=rate,
        efficiency=rate.middle / (pods * single) if single else 0.0,
        p99_ms=statistics.median(times) if (times := [row.p99_ms for row in rows if row.p99_ms is not None]) else None,
        cost_us=_middles([{name: cores / row.rate * 1e6 for name, cores in row.cores.items()} for row in rows if row.rate]),
        used=used,
        bottleneck=bottleneck(used),
        wrong=sum(row.wrong_count for row in rows),
    )


def bottleneck(used: Mapping[str, float]) -> str:
    """The component that used most of its limit, where that was nearly all; else none of them, and so the machine or the users."""
    if not used:
        return NOTHING
    name, share = max(used.items(), key=lambda each: each[1])
    return name if share >= BUSY else "none of them"


def _middles(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(known) for name in COMPONENTS if (known := [row[name] for row in each if name in row])}


class Prediction(NamedTuple):
    """Cores of one component under the mix: as `scripts/size` reckons, and as they were."""

    component: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the prediction, as a part of what was measured."""
        return self.predicted / self.measured - 1


def predictions(record: Record, costs: Mapping[str, Cost], pods: int) -> list[Prediction]:
    """Of the mix at this number of pods; empty where it was not measured, or there are no costs."""
    rows = [row for row in _rows(record, "mix", pods) if all(name in row.cores for name in SIZED)]
    if not (rows and costs):
        return []
    rates = _middle_rates(rows)
    predicted = cores_in_use(rates, costs)
    return [Prediction(name, predicted[name], statistics.median(row.cores[name] for row in rows)) for name in SIZED]


def costs_of_rows(record: Record, pods: int) -> dict[str, Cost]:
    """What one request of each endpoint costs in a mix: what it costs alone, and as much more as a mix did with fewer pods.

    Empty where the row of an endpoint is missing. In a mix fewer requests of a kind meet at a time, to share a batch or a sync of the disk.
    """
    more = _dearer_in_a_mix(record, pods)
    return {endpoint: Cost(*map(operator.mul, cost, more)) for endpoint, cost in _costs_alone(record, pods).items()}


def _dearer_in_a_mix(record: Record, pods: int) -> Cost:
    """The mix over the sum of single endpoints, with the most pods below this number of which both were measured; else 1."""
    for fewer in sorted((number for number in record.plan.pods if number < pods), reverse=True):
        found = predictions(record, _costs_alone(record, fewer), fewer)
        if found:
            return Cost(*(each.measured / each.predicted for each in found))
    return Cost(1, 1, 1)


def _costs_alone(record: Record, pods: int) -> dict[str, Cost]:
    """What one request of each endpoint costs where nothing else is asked; empty where one of their rows is missing.

    A plan that has to ask for more than its endpoint (a token before it can be revoked) costs what is left when the rest is taken off.
    A one-time token costs its issue and its use; that it is tried again is a validate, which is taken off.
    """
    found: dict[str, Cost] = {}
    for endpoint in ("health", "token", "validate", "introspect", "ott", "revoke"):  # those that need no others first
        rows = [row for row in _rows(record, endpoint, pods) if row.rate and all(name in row.cores for name in SIZED)]
        if not rows:
            return {}
        rates = _middle_rates(rows)
        others = cores_in_use({name: rate for name, rate in rates.items() if name != endpoint}, found)
        cores = {name: statistics.median(row.cores[name] for row in rows) for name in SIZED}
        found[endpoint] = Cost(*((cores[name] - others[name]) / rates[endpoint] * 1e6 for name in SIZED))
    return found


def _middle_rates(rows: Sequence[Row]) -> dict[str, float]:
    """Right answers a second to each endpoint."""
    return {
        name: statistics.median(
            sum(answers for asked, answers in row.answers.items() if _endpoint(asked) == name) / row.seconds for row in rows
        )
        for name in ROWS
    }


def _endpoint(asked: str) -> str | None:
    """That a request is counted for: `validate refused` is a validate; None: the use of a one-time token, a part of its cost."""
    return None if asked == "validate one-time" else asked.split()[0]
