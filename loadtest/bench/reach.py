"""What is to be reached: a row for each figure that a release is judged by, and what a result of `scripts/bench` has for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.balanced import CONSTANT_RATE, FOUR, ONE_BEHIND_NGINX
from bench.cpu import ENDPOINTS, REACH_PLAIN, REFUSED

Result = dict[str, Any]
Spread = tuple[float, float] | None


class Reached(NamedTuple):
    """One figure: what was measured, and what was aimed at."""

    figure: str
    measured: float
    spread: Spread
    """The rounds' lowest and highest; None where it was measured once."""
    aim: float
    most: bool = False
    """Whether the aim is the most that it may be, not the least."""
    form: str = ".2f"

    @property
    def is_met(self) -> bool:
        """Whether the aim was reached."""
        return self.measured <= self.aim if self.most else self.measured >= self.aim

    def cells(self) -> tuple[str, str, str, str]:
        """The figure, what was measured, the aim, and whether it was met."""
        spread = "" if self.spread is None else f" ({self.spread[0]:{self.form}}-{self.spread[1]:{self.form}})"
        sign = "≤" if self.most else "≥"
        return self.figure, f"{self.measured:{self.form}}{spread}", f"{sign} {self.aim:{self.form}}", "yes" if self.is_met else "no"


def reached(result: Result) -> list[Reached]:
    """A row for each figure that the result has: parts that were not measured are left out."""
    return [*_of_cpu(result), *reached_by_parts(result)]


def reached_by_parts(result: Result) -> list[Reached]:
    """Those of them that are not beside the canned answer."""
    rows: list[Reached] = []
    for name, part in (("balanced", _of_balanced), ("worker", _of_worker), ("memory", _of_memory), ("records", _of_records)):
        if name in result:
            rows += part(result[name])
    return rows


def _of_cpu(result: Result) -> Iterator[Reached]:
    rows = _by_name(result)
    for endpoint in ENDPOINTS:
        row = rows[endpoint.name]
        yield Reached(f"{endpoint.name}, against a canned answer", row["canned_over_this"], tuple(row["canned_spread"]), endpoint.reach)
    if "compiled_aim" in result:
        row = rows["validate"]
        spread = tuple(row["compiled_spread"])
        yield Reached(f"validate, against {result['compiled']}", row["compiled_over_this"], spread, result["compiled_aim"])
    plain = {endpoint.name: rows[endpoint.name]["plain_over_this"] for endpoint in ENDPOINTS}
    least = min(plain, key=lambda name: plain[name])
    yield Reached(f"each against a plain FastAPI route (the least: {least})", plain[least], None, REACH_PLAIN, form=".1f")
    cost = rows[REFUSED]["cpu_microseconds"] / rows["validate"]["cpu_microseconds"]
    yield Reached("a 429, of a validate", cost, None, 0.8, most=True)


def _of_balanced(part: Result) -> Iterator[Reached]:
    rows = _by_name(part)
    for name in ("validate", "token"):
        for where, aim in ((ONE_BEHIND_NGINX, 1.10), (FOUR, 1.05)):
            row = rows[f"{name}, {where}"]
            yield Reached(
                f"{name}, {where}: CPU of service and Redis, of one alone", row["of_one"], tuple(row["of_one_spread"]), aim, most=True
            )
    constant = rows[CONSTANT_RATE]
    yield Reached("p99 at 70 % of the best rate, through nginx: ms", constant["p99_ms"], None, 5, most=True, form=".1f")


def _of_worker(part: Result) -> Iterator[Reached]:
    (row,) = part["rows"]
    yield Reached("start of a worker until ready: s", row["start_seconds"], tuple(row["start_spread"]), 1.0, most=True)
    yield Reached(f"memory of a worker after {row['seconds']} s of load: MiB", row["memory_mib"], None, 90, most=True, form=".1f")
    yield Reached("its growth in the second half of that: MiB", row["second_half_mib"], None, 0.5, most=True, form=".1f")


def _of_memory(part: Result) -> Iterator[Reached]:
    yield Reached(
        f"Redis memory of a live token, over {part['tokens']:,}: bytes", part["bytes_per_token"], None, 160, most=True, form=".1f"
    )


def _of_records(part: Result) -> Iterator[Reached]:
    row = _by_name(part)["SQLite"]
    yield Reached("writer, SQLite store: rows/s", row["rows_per_second"], tuple(row["rows_spread"]), 40_000, form=",.0f")


def _by_name(part: Result) -> dict[str, Any]:
    return {row["what"]: row for row in part["rows"]}
